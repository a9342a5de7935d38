"""Worker processes listen to nobody: no other user of the machine can reach one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from keras_npbatch.batches.work import Work
from keras_npbatch.workers.processes.stream import ProcessStream
from tests import loaders
from tests.workers.processes.test_pool import LINUX, opened


@pytest.mark.parametrize("method", [*LINUX[:2], "portable"])
def test_no_socket_can_be_reached_from_outside(method: str) -> None:
    batches = loaders.Ids(num_samples=64, batch_size=16, seed=0)
    with opened(batches, start_method=method) as pool:
        stream = ProcessStream(pool, Work(batches.plan), 0, ahead=4)
        next(stream)
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert len(processes) >= 3
        for process in processes:
            assert process.net_connections("inet") == []
            for connection in process.net_connections("unix"):
                # A pair of sockets has no name; one with a name is in a folder of this user's own.
                if connection.laddr:
                    folder = Path(os.fsdecode(connection.laddr)).parent
                    assert folder.is_dir(), "a name without a folder, which anybody can reach"
                    assert not stat.S_IMODE(folder.stat().st_mode) & 0o077
        assert sum(1 for _ in stream) == 3
