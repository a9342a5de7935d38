"""The launcher itself: what it promises the tests of engines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.distributed import launching
from tests.distributed.launching import finish, free_port, launch

_SAYS = """
import os, sys
sys.path.insert(0, {folder!r})
from launching import say
print("noise")
say(rank=os.environ["RANK"], of=os.environ["WORLD_SIZE"], port=os.environ["PORT"])
say(arguments=sys.argv[1:])
"""
_FOLDER = str(Path(__file__).parent)


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "script.py"
    path.write_text(text)
    return path


def test_each_process_says_what_it_has_to_say(tmp_path: Path) -> None:
    path = script(tmp_path, _SAYS.format(folder=_FOLDER))
    results = launch(path, 3, "pad", 7, environment=lambda rank: {"PORT": str(rank + 100)})
    assert results == [
        [{"rank": f"{rank}", "of": "3", "port": f"{rank + 100}"}, {"arguments": ["pad", "7"]}]
        for rank in range(3)
    ]


def test_the_message_of_a_failure_shows_what_all_of_them_wrote(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import os, sys, time\n"
        "print('here is', os.environ['RANK'], flush=True)\n"
        "if os.environ['RANK'] == '1':\n    raise OSError('broken')\n",
    )
    with pytest.raises(AssertionError) as caught:
        launch(path, 2)
    message = str(caught.value)
    assert "process 0 of 2 ended with 0" in message
    assert "process 1 of 2 ended with 1" in message
    assert "here is 0" in message
    assert "OSError: broken" in message


def test_a_warning_to_users_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="UserWarning: careful"):
        launch(script(tmp_path, "import warnings; warnings.warn('careful')"), 1)


def test_what_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import subprocess, sys, time\n"
        "for new_session in (False, True):\n"
        "    child = subprocess.Popen(['sleep', '100'], start_new_session=new_session)\n"
        "    print(child.pid, flush=True)\n"
        "time.sleep(100)\n",
    )
    begin = time.monotonic()
    (ended,) = finish([[sys.executable, str(path)]], [{}], limit_s=2, must_succeed=False)
    assert time.monotonic() - begin < 50
    assert ended.returncode is None
    children = [int(line) for line in ended.stdout.split()]
    assert len(children) == 2
    for child in children:
        for _ in range(500):
            if not is_running(child):
                break
            time.sleep(0.01)
        assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_when_one_fails_the_others_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_OTHERS_END_WITHIN_S", 0.5)
    path = script(
        tmp_path,
        "import os, time\nif os.environ['RANK'] == '1':\n    raise OSError\ntime.sleep(1000)\n",
    )
    with pytest.raises(AssertionError, match="process 0 of 2 was killed"):
        launch(path, 2, limit_s=100)


def test_a_free_port_is_free() -> None:
    assert 1024 <= free_port() < 65536
