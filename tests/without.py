"""Windows or macOS, as far as Linux can show them: what those lack is taken away.

go("win32")

Other packages are imported before, as they are; then the names go, and with them `sys.platform`.
Worker processes do the same as they start, by `WORKER` in a file `sitecustomize.py` on their path.
"""

from __future__ import annotations

import asyncio  # noqa: F401  # these are imported while the names are there
import builtins
import concurrent.futures  # noqa: F401
import mmap
import multiprocessing.pool
import multiprocessing.shared_memory
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile

import cloudpickle  # noqa: F401
import ml_dtypes  # noqa: F401
import numpy as np  # noqa: F401
import psutil  # noqa: F401

sysconfig.get_config_vars()  # it reads a file whose name has the platform in it

NAMED_MEMORY = "NAMED_MEMORY"
"""Names the folder that stands for the names of Windows's shared memory."""
WORKER = "from tests.without import go; go({platform!r})"

NOT_ON_MACOS = {
    os: "EFD_CLOEXEC EFD_NONBLOCK MFD_CLOEXEC eventfd eventfd_read eventfd_write memfd_create "
    "pidfd_open posix_fadvise sched_getaffinity sched_setaffinity",
    signal: "pidfd_send_signal",
    mmap: "MAP_POPULATE",
    select: "epoll",
}
NOT_ON_WINDOWS = {
    os: "O_DIRECTORY fchmod fork forkpty geteuid getuid killpg mkfifo posix_fallocate pread preadv "
    "pwrite pwritev register_at_fork setsid statvfs sysconf",
    signal: "SIGCHLD SIGHUP SIGKILL SIGUSR1 SIG_BLOCK SIG_SETMASK SIG_UNBLOCK pthread_sigmask "
    "setitimer siginterrupt",
    socket: "AF_UNIX CMSG_SPACE SCM_RIGHTS SOCK_SEQPACKET recv_fds send_fds",
    select: "poll",
    mmap: "MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE",
}


def go(platform):
    """Be on that platform."""
    tables = [NOT_ON_MACOS] + [NOT_ON_WINDOWS] * (platform == "win32")
    for table in tables:
        for module, names in table.items():
            for name in names.split():
                if hasattr(module, name):
                    delattr(module, name)
    if hasattr(os, "pidfd_open"):
        raise AssertionError("the names are still there")
    os.process_cpu_count = os.cpu_count  # of Python 3.13, which asks for the affinity on Linux
    if platform == "win32":
        for name in ("fcntl", "grp", "pwd", "resource", "termios"):
            sys.modules[name] = None
        del selectors.PollSelector, selectors.EpollSelector
        selectors.DefaultSelector = selectors.SelectSelector
        socket.socketpair = pair_over_tcp
        sys.modules["_posixshmem"] = None
        os.environ.setdefault(NAMED_MEMORY, tempfile.mkdtemp())
        mmap.mmap = MapWithName
        multiprocessing.shared_memory.SharedMemory = OpenedByName
        subprocess.Popen.kill = lambda self: self.send_signal(9)
        os.open = refusing(os.open, os.path.isdir, PermissionError(13, "Permission denied"))
    is_linux = ("/proc", "/dev/shm", "/sys")
    for module, name in ((builtins, "open"), (os, "listdir"), (os, "open")):
        here = getattr(module, name)
        missing = refusing(
            here, lambda path: str(path).startswith(is_linux), FileNotFoundError(2, "No such file")
        )
        setattr(module, name, missing)
    sys.platform = platform


class MapWithName(mmap.mmap):
    """As `mmap` of Windows, which makes what has the name, or maps what there is already."""

    def __new__(cls, fileno, length, tagname=None, **options):
        if tagname is None:
            return super().__new__(cls, fileno, length, **options)
        assert fileno == -1
        with open(place_of(tagname), "ab+") as file:
            if os.fstat(file.fileno()).st_size == 0:
                os.ftruncate(file.fileno(), length)
            return super().__new__(cls, file.fileno(), length, **options)


class OpenedByName:
    """As `SharedMemory` of Windows: what has the name must be there."""

    def __init__(self, name):
        if not os.path.exists(place_of(name)):
            raise FileNotFoundError(2, "No such file", name)

    def close(self):
        pass


def place_of(name):
    return os.path.join(os.environ[NAMED_MEMORY], name.replace("/", "_"))


def pair_over_tcp():
    """As `socket.socketpair` of Windows makes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


def refusing(function, is_refused, error):
    def refuses(path=".", *args, **options):
        if not isinstance(path, int) and is_refused(path):
            raise error
        return function(path, *args, **options)

    return refuses
