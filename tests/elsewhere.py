"""The library on Windows or macOS, as far as Linux can show it: what those lack is taken away.

python -m tests.elsewhere win32

Other packages are imported before, as they are; then the names go, and with them `sys.platform`.
"""

from __future__ import annotations

import asyncio  # noqa: F401  # these are imported while the names are there
import builtins
import concurrent.futures  # noqa: F401
import mmap
import multiprocessing  # noqa: F401
import os
import select
import signal
import socket
import subprocess  # noqa: F401
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import psutil  # noqa: F401

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
    os.process_cpu_count = os.cpu_count  # of Python 3.13, which asks for the affinity on Linux
    if platform == "win32":
        for name in ("fcntl", "grp", "pwd", "resource", "termios"):
            sys.modules[name] = None
        os.open = refusing(os.open, os.path.isdir, PermissionError(13, "Permission denied"))
    is_linux = ("/proc", "/dev/shm", "/sys")
    for module, name in ((builtins, "open"), (os, "listdir"), (os, "open")):
        here = getattr(module, name)
        missing = refusing(
            here, lambda path: str(path).startswith(is_linux), FileNotFoundError(2, "No such file")
        )
        setattr(module, name, missing)
    sys.platform = platform


def refusing(function, is_refused, error):
    def refuses(path=".", *args, **options):
        if not isinstance(path, int) and is_refused(path):
            raise error
        return function(path, *args, **options)

    return refuses


def main(platform):
    import keras_npbatch as npb

    go(platform)
    from tests.test_public_api import check, importable_with

    for name in importable_with("jax"):
        check(name)

    from keras_npbatch.errors import InvalidArgumentError
    from keras_npbatch.testing import check_dataset

    x = np.random.default_rng(0).random((100, 8)).astype("float32")
    y = np.arange(100) % 3

    def model():
        made = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        made.compile("sgd", "sparse_categorical_crossentropy")
        return made

    def halve(batch, rng):
        return batch[0] / 2, batch[1]

    for workers in (0, 1, 2):
        batches = list(npb.ArrayDataset(x, y, transform=halve, workers=workers, seed=0))
        assert sum(len(batch[0]) for batch in batches) == 100

    # Callbacks, threads, validation, and what they write.
    train = npb.ArrayDataset(x, y, seed=0, workers=2, transform=halve)
    test = npb.ArrayDataset(x, y, shuffle=False)
    folder = Path(tempfile.mkdtemp())
    callbacks = npb.callbacks
    watching = [
        callbacks.BackupAndRestore(train, folder / "backup", save_freq=2, delete_checkpoint=False),
        callbacks.BatchStatistics(train),
        callbacks.CoverageAudit(train),
        callbacks.InputMonitor(train, warn_above=1.0),
        callbacks.NaNReport(train, folder / "nan"),
    ]
    trained = model()
    trained.fit(train, validation_data=test, epochs=2, callbacks=watching, verbose=0)
    assert trained.predict(test, verbose=0).shape == (100, 3)
    assert len(list((folder / "backup").iterdir())) == 1
    resumed = npb.ArrayDataset(x, y, seed=0, workers=2, transform=halve)
    again = callbacks.BackupAndRestore(resumed, folder / "backup")
    model().fit(resumed, epochs=3, callbacks=[again], verbose=0)
    assert not (folder / "backup").exists()

    broken = x.copy()
    broken[7] = np.nan
    bad = npb.ArrayDataset(broken, y, seed=0)
    try:
        model().fit(bad, callbacks=[callbacks.NaNReport(bad, folder / "nan")], verbose=0)
    except npb.errors.NonFiniteError:
        callbacks.replay(folder / "nan", bad)
    else:
        raise AssertionError("the NaN was not reported")

    # A memory map, parts, and one of several processes.
    np.save(folder / "x.npy", x)
    mapped = npb.ArrayDataset(np.load(folder / "x.npy", mmap_mode="r"), y, batch_size=10)
    assert sum(len(list(part)) for part in mapped.split(0.8)) == 10
    assert npb.ArrayDataset(x, y, seed=0, shard=(1, 2))[0][0].shape == (32, 8)

    # Processes say what to do, as soon as they are asked for; the check tells why it is not made.
    set_later = npb.ArrayDataset(x, y)
    set_later.use_multiprocessing = True
    for ask in (
        lambda: npb.ArrayDataset(x, y, workers=2, use_multiprocessing=True),
        lambda: npb.ArrayDataset(x, y, start_method="spawn"),
        lambda: next(iter(set_later)),
    ):
        try:
            ask()
        except InvalidArgumentError as error:
            print(error)  # noqa: T201
    for dataset in (npb.ArrayDataset(x, y, batch_size=16), Plain(workers=1)):
        report = check_dataset(dataset)
        assert report.ok, report
        for name, reason in report.skipped.items():
            if "process" in name:
                print(f"{type(dataset).__name__} {name}: {reason}")  # noqa: T201


class Plain(keras.utils.PyDataset):
    """One that Keras's users write, here and there."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        at = np.arange(4 * index, 4 * index + 4)
        return np.stack([at, at**2], 1).astype("float32"), at.astype("float32")


if __name__ == "__main__":
    main(sys.argv[1])
