"""Files that become shorter while they are memory maps: an error, not the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import cut_off


@pytest.mark.skipif(os.name != "posix", reason="a file that is mapped can't be cut off")
@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("one piece", "x is in {path!r}, which has 4096 bytes; expected "),
        ("chunks", "x is in {path!r}, which has 4096 bytes; expected "),
        ("npy", "{path!r} has changed since the source was made; expected "),
    ],
)
def test_rows_of_a_file_that_is_cut_off_are_refused(layout: str, told: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", cut_off.__name__, str(tmp_path), layout]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(told.format(path=str(tmp_path.resolve() / "x")))
