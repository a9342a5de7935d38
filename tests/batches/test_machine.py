"""What this process may use of the machine, as kernels and systems tell it."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from keras_npbatch.batches import machine

GB = 10**9
ON_LINUX = sys.platform == "linux"
only_linux = pytest.mark.skipif(not ON_LINUX, reason="control groups are Linux's")


def test_it_is_no_more_than_the_machine_has() -> None:
    there = psutil.virtual_memory().total
    assert 0 < machine.available_bytes() <= machine.total_bytes() <= there
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def grouped(monkeypatch: pytest.MonkeyPatch, folder: Path, groups: str, **files: str) -> None:
    """Put files in the place of those of control groups."""
    from keras_npbatch.batches import linux

    own, top = folder / "cgroup", folder / "groups"
    own.write_text(groups)
    for path, text in files.items():
        file = top / path.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(linux, "_OWN_GROUPS", own)
    monkeypatch.setattr(linux, "_GROUPS", top)
    monkeypatch.setattr(linux, "_MEMORY", folder / "meminfo")
    (folder / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 4000000 kB\n")


@only_linux
def test_without_control_groups_the_machine_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    total = machine.total_bytes()
    grouped(monkeypatch, tmp_path, "0::/\n")
    assert machine.available_bytes() == 4_000_000 * 1024
    assert machine.total_bytes() >= total


@only_linux
def test_a_control_group_of_version_2_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grouped(
        monkeypatch,
        tmp_path,
        "0::/job/step\n",
        job__memory_dot_max=f"{3 * GB}\n",
        job__memory_dot_current=f"{2 * GB}\n",
        job__memory_dot_stat=f"anon 5\ninactive_file {GB // 2}\n",
        job__step__memory_dot_max="max\n",
        job__step__cpu_dot_max="max 100000\n",
        job__cpu_dot_max="50000 100000\n",
    )
    assert machine.available_bytes() == 3 * GB - 2 * GB + GB // 2
    assert machine.total_bytes() == 3 * GB
    assert machine.cores() == 1


@only_linux
def test_a_control_group_of_version_1_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grouped(
        monkeypatch,
        tmp_path,
        "3:cpu:/\n2:memory:/job\n1:name=systemd:/\n",
        memory__memory_dot_limit_in_bytes=f"{2**63 - 4096}\n",
        memory__job__memory_dot_limit_in_bytes=f"{2 * GB}\n",
        memory__job__memory_dot_usage_in_bytes=f"{GB}\n",
        memory__job__memory_dot_stat="inactive_file 7\ntotal_inactive_file 1000\n",
    )
    assert machine.available_bytes() == GB + 1000
    assert machine.total_bytes() == 2 * GB


@only_linux
@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("1000", 1), ("-1", 64)])
def test_control_groups_of_version_1_limit_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    grouped(
        monkeypatch,
        tmp_path,
        "3:cpu:/job\n",
        cpu__cpu_dot_cfs_quota_us="-1\n",
        cpu__cpu_dot_cfs_period_us="100000\n",
        cpu__job__cpu_dot_cfs_quota_us=f"{quota}\n",
        cpu__job__cpu_dot_cfs_period_us="100000\n",
    )
    assert machine.cores() == cores


@only_linux
def test_a_control_group_whose_name_is_no_text_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grouped(monkeypatch, tmp_path, "")
    (tmp_path / "cgroup").write_bytes(b"0::/\xff\n")
    assert machine.available_bytes() == 4_000_000 * 1024


@only_linux
def test_where_proc_is_hidden_half_of_the_memory_counts_as_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grouped(monkeypatch, tmp_path, "0::/\n")
    (tmp_path / "meminfo").unlink()
    assert machine.available_bytes() == machine.total_bytes() // 2


@only_linux
def test_to_wait_for_a_core_is_told_and_to_sleep_is_not() -> None:
    before = machine.delayed_s()
    time.sleep(0.01)
    slept = machine.delayed_s() - before
    assert slept >= 0
    own = [threading.Thread(target=sum, args=(range(10**6),)) for _ in range(2)]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    assert machine.delayed_s() >= before + slept


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              100000.
Pages active:                            300000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages throttled:                              0.
Pages wired down:                         90000.
"Translation faults":                 123456789.
"""


def test_what_macos_tells() -> None:
    assert machine.of_vm_stat(VM_STAT) == 123_000 * 16384
    assert machine.of_vm_stat("vm_stat: nothing") is None


def test_what_windows_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call fills in a structure; where there is none, memory is no limit."""
    assert machine._of_windows() == (2**63, 2**63)

    class Windows:
        class kernel32:  # noqa: N801
            @staticmethod
            def GlobalMemoryStatusEx(given: object) -> int:  # noqa: N802
                status = given._obj  # type: ignore[attr-defined]
                assert status.length == 64  # sizeof(MEMORYSTATUSEX)
                status.total, status.available = 16 * GB, 5 * GB
                return 1

    monkeypatch.setattr(machine.ctypes, "windll", Windows, raising=False)
    assert machine._of_windows() == (16 * GB, 5 * GB)


def test_elsewhere_half_of_the_memory_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "platform", "freebsd14")
    assert machine.available_bytes() == machine.total_bytes() // 2
    assert machine.cores() == os.cpu_count()
