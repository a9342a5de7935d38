"""Shared memory by name and by inheritance; the other process is one that imports nothing more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_npbatch import errors
from keras_npbatch.workers.portable import memory
from keras_npbatch.workers.portable.memory import (
    InheritedSegment,
    check_room,
    map_inherited,
    new_named,
    new_prefix,
    open_named,
    unlink,
)


def elsewhere(program: str, *arguments: object, descriptors: list[int] | None = None) -> str:
    """What a program prints in another process."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        pass_fds=descriptors or [],
        cwd=Path(__file__).parents[3],
    ).stdout


WRITES = """
import sys
from keras_npbatch.workers.portable.memory import map_inherited
where, copied = int(sys.argv[1]), sys.argv[2] == "True"
memory = map_inherited(where, 100_000, copied_on_write=copied)
print(memory[:3].tolist(), memory[-1])
memory[:] = 7
"""


@pytest.mark.parametrize("is_copied", [False, True])
def test_what_is_copied_on_write_is_seen_by_all_and_changed_by_none(is_copied: bool) -> None:
    segment = InheritedSegment(100_000, copied_on_write=is_copied)
    if is_copied:
        segment.write(memoryview(np.arange(100_000, dtype=np.uint8)), 0)
        segment.write(memoryview(b"\x09"), 99_999)
    else:
        segment.map()[:] = 9
    expected = f"{[0, 1, 2] if is_copied else [9] * 3} 9\n"
    for _ in range(2):
        told = elsewhere(WRITES, segment.where, is_copied, descriptors=segment.descriptors)
        assert told == expected
        expected = expected if is_copied else "[7, 7, 7] 7\n"
    kept = segment.map()
    segment.close()
    assert kept[1] == (1 if is_copied else 7)


MAKES = """
import sys
from keras_npbatch.workers.portable.memory import new_named
memory = new_named(sys.argv[1], 70_000)
memory[:] = 5
"""


def test_memory_with_a_name_outlives_its_process_and_its_name() -> None:
    name = new_prefix() + "0"
    elsewhere(MAKES, name)
    found = open_named(name, 70_000)
    assert unlink(name)
    assert not unlink(name)
    assert found.shape == (70_000,)
    assert set(found.tolist()) == {5}
    with pytest.raises(FileNotFoundError):
        open_named(name, 70_000)


def test_a_name_is_made_once() -> None:
    name = new_prefix()
    kept = new_named(name, 10)
    with pytest.raises(errors.SharedMemoryError, match="File exists"):
        new_named(name, 10)
    unlink(name)
    assert kept.nbytes == 10


def test_names_are_short_enough_for_macos_and_tell_who_made_them() -> None:
    assert new_prefix().startswith(f"/npb_{os.getpid():x}_")
    assert len(new_prefix()) + len("999") <= 31
    assert new_prefix() != new_prefix()


def test_more_than_there_is_is_refused_with_both_figures() -> None:
    with pytest.raises(errors.SharedMemoryError) as caught:
        check_room(10**18)
    assert str(caught.value).startswith(
        "worker processes asked for 1,000,000,000,000 MB of shared memory, and "
    )
    assert " MB are available. Use a smaller batch_size" in str(caught.value)


def test_a_disk_that_is_full_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    monkeypatch.setattr(
        memory.tempfile, "TemporaryFile", lambda buffering: full.open("r+b", buffering=buffering)
    )
    segment = InheritedSegment(10_000_000, copied_on_write=True)
    try:
        with pytest.raises(errors.SharedMemoryError) as caught:
            segment.write(memoryview(bytes(10)), 0)
    finally:
        segment.close()
    assert str(caught.value).startswith(
        "worker processes asked for 10 MB of shared memory, and the system said: No space left on "
        "device. Use a smaller batch_size"
    )


def test_what_is_copied_on_write_is_a_file_since_macos_maps_nothing_else_so() -> None:
    for is_copied in (False, True):
        segment = InheritedSegment(8_000, copied_on_write=is_copied)
        (descriptor,) = segment.descriptors
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        segment.close()
        assert place.startswith("/dev/shm/") is not is_copied
        assert place.endswith(" (deleted)")


def test_an_array_keeps_the_memory_that_it_views() -> None:
    segment = InheritedSegment(8_000)
    numbers = map_inherited(segment.where, 8_000).view(np.int64)
    segment.close()
    numbers[:] = np.arange(1_000)
    assert numbers.sum() == 499_500
