"""Does memory grow by the queue, or by the data?

Memory is what no file is behind, of this process and of all that it has started; shared memory is
counted once (PSS). With processes the data are among it too, since they are put into shared memory.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.peers import Epoch
from benchmarks.process_peers import PEERS
from benchmarks.workloads import WORKLOADS, Arrays, Workload

NAME = "memory"
TITLE = "Growth of memory in an epoch of C"
COLUMNS = {
    "data": "s",
    "peer": "s",
    "x data": ".3f",
    "x queue": ".2f",
    "grown MB": ".1f",
    "queue MB": ".1f",
    "data MB": ".0f",
}
KEY, RATIO = ("data", "peer"), "grown MB"

_WORKLOAD = "C"
_STEP_S = 0.004
"""The consumer takes this long for a batch, longer than making one, so that the queue fills."""
_LOOK_EVERY = 8
_QUEUE = 10
"""Batches made ahead at most, by default."""
_ARRAY, _MAP = "array", "memory map"
_OURS = {f"keras_npbatch workers={workers}": workers for workers in (0, 1, 2)}


def cases(options: Options) -> list[Case]:
    """One for each kind of data and way to read them, each with memory of its own."""
    found = [(kind, peer) for kind in (_MAP, _ARRAY) for peer in _OURS]
    found.append((_ARRAY, "keras_npbatch"))  # in two processes, as its peers
    if options.with_peers:
        found += [(_ARRAY, peer) for peer in PEERS if peer != "keras_npbatch"]
    if options.smoke:
        found = [(_MAP, "keras_npbatch workers=1"), (_ARRAY, "keras_npbatch")]
    return [
        Case(
            options.arguments(kind=kind, peer=peer),
            {"KERAS_BACKEND": PEERS[peer].backend if peer in PEERS else "numpy"},
            left_out=missing(PEERS[peer].package) if peer in PEERS else None,
        )
        for kind, peer in found
    ]


def measure(kind: str, peer: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one peer."""
    workload = WORKLOADS[_WORKLOAD].tiny() if smoke else WORKLOADS[_WORKLOAD]
    with tempfile.TemporaryDirectory() as folder:
        x, y = workload.data()
        if kind == _MAP:
            file = Path(folder) / "x.npy"
            np.save(file, x)
            x = np.load(file, mmap_mode="r")
        grown = _grown_bytes(workload, (x, y), peer)
    queue_bytes = _QUEUE * workload.batch_bytes
    data_bytes = workload.num_samples * workload.sample_bytes
    return [
        {
            "data": kind,
            "peer": f"{peer}, 2 processes" if peer in PEERS else peer,
            "x data": grown / data_bytes,
            "x queue": grown / queue_bytes,
            "grown MB": grown / 1e6,
            "queue MB": queue_bytes / 1e6,
            "data MB": data_bytes / 1e6,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """In threads the queue and a constant, however much data there is."""
    return [
        target(f"{row['data']}, {row['peer']}: x queue", row["x queue"], 1.5)
        for row in rows
        if "workers" in row["peer"]
    ]


def _grown_bytes(workload: Workload, data: Arrays, peer: str) -> int:
    """The most that memory grew in an epoch."""
    with _begun(workload.at_most(batches=2, num_bytes=2**31), data, peer) as epoch:
        for _batch in epoch():  # imports and starts whatever comes once
            pass
    before = most = _bytes_of_all()
    with _begun(workload, data, peer) as epoch:
        for step, _batch in enumerate(epoch()):
            time.sleep(_STEP_S)
            if step % _LOOK_EVERY == 0:
                most = max(most, _bytes_of_all())
    return most - before


def _begun(workload: Workload, data: Arrays, peer: str) -> AbstractContextManager[Epoch]:
    if peer in PEERS:
        return PEERS[peer].begin(workload, _first(data, workload), None)
    return _in_threads(workload, _first(data, workload), _OURS[peer])


def _first(data: Arrays, workload: Workload) -> Arrays:
    return data[0][: workload.num_samples], data[1][: workload.num_samples]


@contextlib.contextmanager
def _in_threads(workload: Workload, data: Arrays, workers: int) -> Iterator[Epoch]:
    import keras_npbatch as npb

    with npb.ArrayDataset(
        *data, batch_size=workload.batch_size, seed=0, workers=workers, max_queue_size=_QUEUE
    ) as dataset:
        yield lambda: iter(dataset)


def _bytes_of_all() -> int:
    """Memory of this process and its descendants that no file is behind."""
    own = psutil.Process()
    processes = [own.pid, *(child.pid for child in own.children(recursive=True))]
    return sum(_bytes_of(process) for process in processes)


def _bytes_of(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    fields = (line.split() for line in lines)
    counted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(field[1]) * 1024 for field in fields if field[0] in counted)
