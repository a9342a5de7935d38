"""Worker processes: the same batches as in this process, whatever becomes of the workers."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import errors
from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.slots import Slot
from keras_npbatch.batches.work import Work
from keras_npbatch.plan.plan import Plan
from keras_npbatch.testing.array_layouts import ALL_DTYPES
from keras_npbatch.testing.strategies import arrays
from keras_npbatch.tree import flatten
from keras_npbatch.workers.linux import fork_server
from keras_npbatch.workers.processes import interrupts
from keras_npbatch.workers.processes.arena import Arena
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.sending import Package
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.systems import VARIABLE, this_system
from tests import loaders
from tests.comparing import assert_same_array
from tests.inside import children, maker_of

N, BATCH, AHEAD = 50, 4, 6
WAIT_S = 20.0
IS_PORTABLE = this_system().start_methods == ("spawn",)
"""Whether all of these tests run on the portable executor: KERAS_NPBATCH_EXECUTOR=portable pytest
tests/workers/processes"""
LINUX = [] if IS_PORTABLE else ["forkserver", "spawn", "fork"]
METHODS = LINUX or ["portable"]
"""The start methods of Linux, or the portable executor, which has one."""


def only_linux(why: str) -> pytest.MarkDecorator:
    """What the portable executor has not, and why."""
    return pytest.mark.skipif(IS_PORTABLE, reason=f"not with the portable executor: {why}")


def dataset(kind: type[Batches] = loaders.Ids, n: int = N, **settings_: Any) -> Any:
    return kind(n, **{"batch_size": BATCH, "seed": 0, **settings_})


def opened(
    batches: Batches, workers: int = 2, start_method: str | None = None, **settings_: Any
) -> Pool:
    if start_method != "portable":
        return Pool(batches, workers=workers, start_method=start_method, **settings_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "portable")
        return Pool(batches, workers=workers, **settings_)


def epoch_of(pool: Pool, batches: Batches, epoch: int = 0, **settings_: Any) -> ProcessStream:
    return ProcessStream(pool, Work(batches.plan), epoch, **{"ahead": AHEAD, **settings_})


def expected(batches: Batches, epoch: int = 0, plan: Plan | None = None) -> Iterator[Any]:
    plan = batches.plan if plan is None else plan
    make = maker_of(batches, plan)
    return (make(epoch, step) for step in range(plan.num_batches))


def assert_same_batch(actual: Any, wanted: Any) -> None:
    actual_leaves, actual_structure = flatten(actual)
    wanted_leaves, wanted_structure = flatten(wanted)
    assert actual_structure == wanted_structure
    for ours, theirs in zip(actual_leaves, wanted_leaves, strict=True):
        if isinstance(theirs, np.ndarray):
            assert_same_array(ours, np.array(theirs, order="K"))
        else:  # a sparse matrix
            assert type(ours) is type(theirs)
            assert (ours != theirs).nnz == 0


def assert_same_epoch(pool: Pool, batches: Batches, epoch: int = 0) -> None:
    found = list(epoch_of(pool, batches, epoch))
    for ours, theirs in zip(found, expected(batches, epoch), strict=True):
        assert_same_batch(ours, theirs)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- the batches -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_are_those_of_this_process(method: str, workers: int) -> None:
    batches = dataset(
        loaders.Wide, transform=lambda batch, rng: (batch[0] + rng.random(), batch[1])
    )
    with opened(batches, workers, start_method=method) as pool:
        for epoch in range(3):
            assert_same_epoch(pool, batches, epoch)


@settings(max_examples=15)
@given(array=arrays(dtypes=ALL_DTYPES), seed=st.integers(0, 5))
def test_arrays_of_any_dtype_and_layout_come_through(array: Any, seed: int) -> None:
    if len(array) == 0:
        return
    batches = ArrayBatches({"a": array, "b": np.arange(len(array))}, batch_size=3, seed=seed)
    with opened(batches, 1, start_method="portable" if IS_PORTABLE else "fork") as pool:
        assert_same_epoch(pool, batches)


@pytest.mark.parametrize("kind", [loaders.Odd, loaders.Sparse, loaders.Whole])
def test_odd_batches_come_through_as_they_are(kind: type[Batches]) -> None:
    batches = dataset(kind, shuffle=False)
    with opened(batches) as pool:
        assert_same_epoch(pool, batches)


def test_large_arrays_are_aligned_writable_and_not_copied() -> None:
    batches = dataset(loaders.Wide, batch_size=16)
    with opened(batches) as pool:
        for x, _ in epoch_of(pool, batches):
            if len(x) == 16:
                assert x.__array_interface__["data"][0] % 64 == 0
                assert x.flags.writeable
                assert x.base is not None  # the slot


def test_every_plan_is_served_whatever_the_dataset_trains_with() -> None:
    batches = dataset(class_weight={3: 2.0}, remainder="pad")
    plan = batches.plan.in_data_order(every_row=True)
    with opened(batches) as pool:
        found = list(ProcessStream(pool, Work(plan, training=False), 0, ahead=3))
        for batch, theirs in zip(found, expected(batches, 0, plan), strict=True):
            assert_same_batch(batch[:2], theirs[:2])
            assert len(batch) == 2  # no class weights where nothing is trained
        assert_same_epoch(pool, batches)


def test_a_kept_batch_never_changes_and_its_slot_comes_back_when_it_is_gone() -> None:
    batches = dataset(loaders.Wide, n=400, batch_size=16)
    with opened(batches, 2) as pool:
        kept = [batch for epoch in range(3) for batch in epoch_of(pool, batches, epoch)]
        wanted = (batch for epoch in range(3) for batch in expected(batches, epoch))
        for ours, theirs in zip(kept, wanted, strict=True):
            assert_same_batch(ours, theirs)
        del kept, ours
        for epoch in range(2):  # what was returned is used again
            for _ in epoch_of(pool, batches, epoch):
                pass
        before = sum(extent.nbytes for member in pool._members for extent in member.extents)
        for epoch in range(6):
            for _ in epoch_of(pool, batches, epoch):
                pass
        after = sum(extent.nbytes for member in pool._members for extent in member.extents)
        assert before == after
        del _
        assert len(pool._leases) == 0


def test_a_batch_outlives_its_pool() -> None:
    batches = dataset(loaders.Wide, batch_size=16)
    with opened(batches) as pool:
        kept = next(epoch_of(pool, batches))
    assert_same_batch(kept, next(expected(batches)))


# --- randomness --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [loaders.Naive, loaders.Drawing])
def test_generators_depend_on_epoch_and_step_alone(kind: type[Batches]) -> None:
    batches = dataset(kind, shuffle=False)
    drawn = {}
    for workers in (1, 2, 4):
        with opened(batches, workers) as pool:
            drawn[workers] = [
                np.concatenate(
                    [np.concatenate(list(x.values())) for x, _ in epoch_of(pool, batches, e)]
                )
                for e in range(2)
            ]
    for epoch in range(2):
        np.testing.assert_array_equal(drawn[1][epoch], drawn[2][epoch])
        np.testing.assert_array_equal(drawn[1][epoch], drawn[4][epoch])
    everything = np.concatenate(drawn[1])
    assert len(np.unique(everything)) == len(everything)


def test_sets_of_strings_have_one_order_in_all_workers() -> None:
    """A number that is looked up in a vocabulary made of a set must not depend on the worker."""
    batches = dataset(transform=lambda batch: (np.full(len(batch[1]), hash("word")), batch[1]))
    with opened(batches, 3, start_method="spawn") as pool:
        hashes = {int(x[0]) for x, _ in epoch_of(pool, batches)}
    with opened(batches) as pool:
        hashes |= {int(x[0]) for x, _ in epoch_of(pool, batches)}
    assert len(hashes) == 1


# --- start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_worker_loads_no_framework_and_sees_no_accelerator(method: str) -> None:
    batches = dataset(loaders.Told)
    with opened(batches, start_method=method) as pool:
        (x, _), *_ = epoch_of(pool, batches)
        assert set(x["loaded"]) == {""}
        assert set(x["cuda"]) == {"-1"}
        assert set(x["blas"]) == {os.environ.get("OPENBLAS_NUM_THREADS", "1")}
        assert x["pid"][0] in pool.pids


MODULE = """
import os, sys, threading
from keras_npbatch.batches.loader import Batches
import numpy as np
imported_by = os.getpid()
os.write(1, b"imported\\n")  # as one: print may write word and line end by themselves
{statement}

class Loader(Batches):
    def load(self, rows):
        return np.full((len(rows), 2), (os.getpid(), imported_by)), rows
"""


@only_linux("each worker imports it")
@pytest.mark.parametrize(
    ("statement", "by_each"),
    [
        ("", False),
        ("file = open(__file__)", True),  # its position would be shared
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", True),
    ],
)
def test_the_users_module_is_imported_once_for_all_workers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    statement: str,
    by_each: bool,
) -> None:
    """Unless what it does then can't be shared: then each worker does it."""
    (tmp_path / "a_loader.py").write_text(MODULE.format(statement=statement))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("a_loader")
    try:
        batches = dataset(module.Loader, n=200)
        capfd.readouterr()
        with opened(batches) as pool:
            pairs = {tuple(pair) for x, _ in epoch_of(pool, batches) for pair in x.tolist()}
    finally:
        del sys.modules["a_loader"]
        getattr(module, "file", sys.stdin).close()
    assert len(pairs) == 2
    for pid, imported_by in pairs:
        assert (pid == imported_by) is by_each
    times = capfd.readouterr().out.split().count("imported")
    assert times == (3 if by_each else 1)


def test_the_same_processes_serve_all_epochs() -> None:
    batches = dataset(loaders.Told, n=200)
    with opened(batches) as pool:
        pids = set(pool.pids)
        made_by = {
            pid for epoch in range(4) for x, _ in epoch_of(pool, batches, epoch) for pid in x["pid"]
        }
        assert made_by == pids == set(pool.pids)


def test_first_batches_of_the_next_epoch_are_made_before_it_is_asked_for(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()

    class Noted(Batches):
        def load(self, rows: Any) -> Any:
            (noted / f"{self.epoch}-{rows[0]}").touch()
            return rows

    batches = dataset(Noted)
    with opened(batches) as pool:
        list(epoch_of(pool, batches, 0, follows=True))
        wait_until(lambda: len(list(noted.glob("1-*"))) >= AHEAD - 1)
        assert_same_epoch(pool, batches, 1)
        assert len(list(noted.glob("1-*"))) == batches.plan.num_batches  # each made once
        list(epoch_of(pool, batches, 5, follows=False))
        list(epoch_of(pool, batches, 7, follows=False))
        assert not list(noted.glob("6-*"))


def test_a_stream_begun_again_finds_what_was_made(tmp_path: Path) -> None:
    parent = os.getpid()

    class Noted(Batches):
        def load(self, rows: Any) -> Any:
            if os.getpid() == parent:
                return rows
            with (tmp_path / f"{rows[0]}").open("a") as file:
                file.write("x")
            return rows

    batches = dataset(Noted)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        first = next(stream)
        stream.close()
        assert_same_epoch(pool, batches)
        times = sorted(len(path.read_text()) for path in tmp_path.iterdir())
        assert times == [1] * (batches.plan.num_batches - 1) + [2]
        assert_same_batch(first, next(expected(batches)))


def test_two_streams_of_one_pool_do_not_mix() -> None:
    batches = dataset()
    with opened(batches) as pool:
        streams = [epoch_of(pool, batches, epoch) for epoch in (0, 0, 3)]
        for one, again, later in zip(*streams, strict=True):
            assert_same_batch(one, again)
            assert not np.array_equal(one[1], later[1])


def test_threads_may_share_a_pool() -> None:
    batches = dataset(loaders.Slow, n=80, seconds=0.001)
    failures: list[BaseException] = []

    def walk(epoch: int) -> None:
        try:
            assert_same_epoch(pool, batches, epoch)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with opened(batches) as pool:
        threads = [threading.Thread(target=walk, args=(epoch,)) for epoch in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
    assert not failures


# --- sending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [range(70, 2500, 8), range(2500, 70, -8)])
def test_batches_of_many_sizes_share_slots(sizes: range) -> None:
    """As texts or sounds sorted by their length are."""
    segments: list[int] = []

    def new_extent(num_bytes: int) -> Slot:
        segments.append(num_bytes)
        return np.empty(num_bytes, np.uint8)

    arena = Arena(new_extent)
    held: deque[Any] = deque()
    for kilobytes in sizes:
        slot = arena.take(kilobytes * 1000)
        assert slot.nbytes >= kilobytes * 1000
        held.append(slot)
        if len(held) > 4:
            arena.give(held.popleft())
    assert sum(segments) < 100e6  # of 390 MB of batches


def test_arrays_are_shared_not_copied_by_each_worker() -> None:
    size = 64 * 2**20
    batches = dataset(loaders.Holds, n=1024, batch_size=64, held=np.ones((1024, size // 1024 // 8)))
    with opened(batches, 4) as pool:
        for epoch in range(4):
            list(epoch_of(pool, batches, epoch))
        shares = [psutil.Process(pid).memory_full_info().pss for pid in pool.pids]
    queue = 10 * 64 * size // 1024
    assert sum(shares) < size + 4 * queue + 4 * 16 * 2**20


def test_memory_maps_and_hdf5_are_reopened_by_path(tmp_path: Path) -> None:
    import h5py

    values = np.arange(N * 5000, dtype="float32").reshape(N, 5000)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = values
    with h5py.File(tmp_path / "x.h5", "r") as file:
        for held in (mapped, mapped[:, 3:4000:2], mapped[::-1], file["images"]):
            batches = dataset(loaders.Holds, held=held)
            assert opened_size(batches) < 20_000  # the file is not in the package
            with opened(batches, 1) as pool:
                assert_same_epoch(pool, batches)
        with opened(ArrayBatches(file["images"], mapped, batch_size=7, seed=1)) as pool:
            assert_same_epoch(pool, ArrayBatches(file["images"], mapped, batch_size=7, seed=1))


def opened_size(batches: Batches) -> int:
    with contextlib.ExitStack() as opened:
        return Package.of(batches, opened, this_system().new_segment).segment.num_bytes


def test_a_map_that_was_written_to_in_memory_is_sent_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((N, 2000)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    mapped[:] = np.arange(N)[:, np.newaxis]
    gone = np.load(tmp_path / "x.npy", mmap_mode="r")
    (tmp_path / "x.npy").unlink()
    for held in (mapped, gone):
        batches = dataset(loaders.Holds, held=held)
        with opened(batches, 1) as pool:
            assert_same_epoch(pool, batches)


def test_broadcast_and_read_only_arrays_are_sent_small() -> None:
    wide = np.broadcast_to(np.arange(N, dtype="float64")[:, np.newaxis], (N, 100_000))
    batches = dataset(loaders.Holds, held=wide)
    assert opened_size(batches) < 10_000
    fixed = np.arange(N * 1000.0).reshape(N, 1000)
    fixed.flags.writeable = False

    class Writes(loaders.Holds):
        def load(self, rows: Any) -> Any:
            assert not self.held.flags.writeable
            return super().load(rows)

    for each in (batches, dataset(Writes, held=fixed)):
        with opened(each, 1) as pool:
            assert_same_epoch(pool, each)


def test_what_a_worker_writes_no_other_sees() -> None:
    class Writes(loaders.Holds):
        def load(self, rows: Any) -> Any:
            seen = self.held[rows].copy()
            self.held[:] = -1
            return seen, np.full(len(rows), os.getpid())

    held = np.arange(N * 1000.0).reshape(N, 1000)
    batches = dataset(Writes, held=held, batch_size=25, shuffle=False)
    first: dict[int, Any] = {}
    with opened(batches, 2) as pool:
        while len(first) < 2:  # one that starts late gets its jobs late
            for step, (seen, (pid, *_)) in enumerate(epoch_of(pool, batches)):
                if int(pid) not in first:
                    first[int(pid)] = step, seen.copy()
    for step, seen in first.values():
        np.testing.assert_array_equal(seen, held[step * 25 : step * 25 + 25])
    assert (held >= 0).all()


class HoldsALock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_what_can_not_be_sent_is_named_before_any_worker_starts() -> None:
    lock = threading.Lock()
    for batches, path in (
        (dataset(loaders.Holds, held={"a": [1, HoldsALock()]}), r"Holds\.held\['a'\]\[1\]\.lock"),
        (dataset(transform=lambda batch: (lock, batch)[1]), r"Ids\.transform\.function\.lock"),
    ):
        with pytest.raises(errors.UnsendableError, match=f"^{path} is <unlocked") as caught:
            opened(batches)
        assert "can't be sent to worker processes (TypeError: " in str(caught.value)
        assert str(caught.value).endswith(
            "Make it in load(rows) when it is first used, in each process its own, and leave it "
            "out in __getstate__; or use threads: use_multiprocessing=False."
        )
        assert not children()


def test_an_open_text_file_is_named_and_not_sent_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n")
    with open(tmp_path / "names.txt") as file:
        expected = (
            r"^Holds\.held\[0\] is <_io\.TextIOWrapper .*the open file .* belongs to its process"
        )
        with pytest.raises(errors.UnsendableError, match=expected):
            opened(dataset(loaders.Holds, held=[file]))


def test_what_is_copied_into_each_worker_is_warned_of_with_its_name() -> None:
    small = [np.zeros(500) for _ in range(2200)]  # 4 kB each, 8.8 MB
    expected = (
        r"^9 MB of the dataset are copied into each worker process, most of them of Holds\.held: "
        r"lists, strings, objects and arrays below 4096 bytes are not shared\. Make one array of "
        r"them \(np\.stack\), or use threads: use_multiprocessing=False\.$"
    )
    with pytest.warns(UserWarning, match=expected):
        opened_size(dataset(loaders.Holds, held=small))
    opened_size(dataset(loaders.Holds, held=np.stack(small)))  # shared: no warning


def test_a_file_that_is_open_for_writing_is_named(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros((N, 3))
        with pytest.raises(errors.UnsendableError, match="open with mode 'r\\+' and driver"):
            opened(dataset(loaders.Holds, held=file["images"]))


def test_a_file_that_has_been_closed_is_named(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros((N, 3))
    with h5py.File(tmp_path / "x.h5") as file:
        held = dataset(loaders.Holds, held=file["images"])
    with pytest.raises(errors.UnsendableError, match="its HDF5 file has been closed"):
        opened(held)


def test_a_file_that_its_path_does_not_lead_to_is_named(tmp_path: Path) -> None:
    import h5py

    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / "x.h5", "w") as file:
            file["images"] = np.full((N, 3), len(folder))
    with contextlib.chdir(tmp_path / "here"):
        file = h5py.File("x.h5")
    held = dataset(loaders.Holds, held=file["images"])
    for current in (tmp_path, tmp_path / "there"):
        message = "opened as 'x.h5', which leads to another file now, or to none"
        with contextlib.chdir(current), pytest.raises(errors.UnsendableError, match=message):
            opened(held)
    with contextlib.chdir(tmp_path / "here"):
        opened(held).close()


def test_an_hdf5_file_that_was_replaced_is_not_opened_in_its_place(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((N, 3))
    with h5py.File(path) as file, opened(dataset(loaders.Holds, held=file["images"])) as pool:
        batches = dataset(loaders.Holds, held=file["images"])
        list(epoch_of(pool, batches))
        path.rename(tmp_path / "before.h5")
        with h5py.File(path, "w") as another:
            another["images"] = np.ones((N, 3))
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(FileNotFoundError, match=r"x\.h5 is another file than the one that was"):
            list(epoch_of(pool, batches, 1))


def test_a_dataset_that_can_not_be_unpacked_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((N, 3)))
    batches = dataset(loaders.Holds, held=np.load(tmp_path / "x.npy", mmap_mode="r"))
    with opened(batches) as pool:
        list(epoch_of(pool, batches))
        (tmp_path / "x.npy").unlink()
        np.save(tmp_path / "x.npy", np.zeros((N, 3)))
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(FileNotFoundError, match=r"x\.npy is another file") as caught:
            list(epoch_of(pool, batches, 1))
        unpacked, remote = caught.value.__notes__
        assert unpacked == "keras_npbatch: raised while a worker process unpacked the dataset"
        assert "_map_of" in remote


# --- exceptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("value", ValueError, "a bad sample"),
        ("local", KeyError, "'of a function'"),
        ("exit", SystemExit, "out"),
        ("own", loaders.OwnError, "this and that"),
        ("locked", errors.WorkerError, "LockedError: holds a lock (it can't be sent between"),
        ("locked", ValueError, "LockedError: holds a lock (it can't be sent between"),
        ("unsendable", OSError, "holds a file"),
    ],  # and one whose text can't be told, below
)
def test_an_exception_comes_in_its_turn_with_type_text_note_and_traceback(
    how: str, kind: type[BaseException], text: str
) -> None:
    batches = dataset(loaders.Fails, how=how, shuffle=False, failing=9)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        assert [next(stream)[1][0] for _ in range(2)] == [0, 4]
        with pytest.raises(kind) as caught:
            next(stream)
        assert text in str(caught.value)
        if how == "own":
            assert caught.value.first == "this"
        *notes, remote = caught.value.__notes__
        assert remote.startswith("keras_npbatch: its traceback in the worker process was\n\nTrace")
        assert "tests/loaders.py" in remote
        if how != "exit":  # no Exception, so no note
            assert notes == [
                "keras_npbatch: raised by load(rows) at epoch 0, step 2, rows [8, 9, 10, 11]"
            ]
        assert list(stream) == []
        assert not pool.is_open


def test_an_exception_ends_no_other_stream_and_the_pool_with_the_last() -> None:
    batches = dataset(loaders.Fails, how="own", shuffle=False, failing=9)
    with opened(batches) as pool:
        first, second = epoch_of(pool, batches), epoch_of(pool, batches)
        assert next(second)[1][0] == 0
        for stream, seen in ((first, [0, 4]), (second, [4])):
            assert pool.is_open
            assert [next(stream)[1][0] for _ in seen] == seen
            with pytest.raises(loaders.OwnError):
                next(stream)
            assert list(stream) == []
        assert not pool.is_open


def test_an_exception_whose_text_can_not_be_told_comes_too() -> None:
    batches = dataset(loaders.Fails, how="mute", shuffle=False, failing=9)
    with opened(batches) as pool, pytest.raises(loaders.MuteError):
        list(epoch_of(pool, batches))


def test_an_exception_of_a_batch_nobody_asked_for_is_nobodys() -> None:
    batches = dataset(loaders.Fails, shuffle=False, failing=9)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches, ahead=10)
        next(stream)
        stream.close()
        again = epoch_of(pool, batches, 0, ahead=1)
        assert next(again)[1][0] == 0


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_worker_is_replaced_and_its_batches_are_made_again(method: str) -> None:
    batches = dataset(loaders.Slow, n=200, seconds=0.001)
    with opened(batches, start_method=method) as pool:
        found = []
        for step, batch in enumerate(epoch_of(pool, batches)):
            found.append(batch)
            if step in (3, 20):
                os.kill(pool.pids[0], signal.SIGKILL)
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
        assert len(pool.pids) == 2


def test_workers_killed_at_random_lose_and_repeat_nothing() -> None:
    batches = dataset(loaders.Slow, n=900, seconds=0.002)
    rng = np.random.default_rng(0)
    kills = delivered = 0
    # Never twice within the batches that are made at once: three deaths at one would be an error.
    next_kill = AHEAD
    with opened(batches, 2) as pool:
        for epoch in range(3):
            stream = epoch_of(pool, batches, epoch)
            for actual, wanted in zip(stream, expected(batches, epoch), strict=True):
                assert_same_batch(actual, wanted)
                delivered += 1
                if delivered == next_kill:
                    time.sleep(rng.random() * 0.01)
                    os.kill(int(rng.choice(pool.pids)), signal.SIGKILL)
                    kills += 1
                    next_kill += 3 * AHEAD + int(rng.integers(AHEAD))
    assert kills >= 20


@pytest.mark.parametrize(
    ("how", "told"),
    [("kill", r"by signal 9 \(Killed\)"), ("exit", "with exit code 3"), ("hang", "timeout=0.3")],
)
def test_a_batch_that_ends_three_workers_is_an_error_that_names_it(how: str, told: str) -> None:
    batches = dataset(loaders.Dies, how=how, shuffle=False, failing=9)
    with opened(batches, timeout_s=0.3 if how == "hang" else None) as pool:
        stream = epoch_of(pool, batches, 2)
        assert [next(stream)[1][0] for _ in range(2)] == [0, 4]
        with pytest.raises(errors.WorkerDiedError, match=told) as caught:
            next(stream)
        assert str(caught.value).startswith(
            "3 worker processes ended while they made the batch of epoch 2, step 2, rows "
            "[8, 9, 10, 11], the last one "
        )
        advice = (  # to make it in this process, where it would hang, is none
            "See what load does with these rows, or give it more time."
            if how == "hang"
            else "SIGKILL often means that the machine had no memory left: use a smaller "
            "batch_size or fewer workers. Make the batch in this process to see more: "
            "dataset.set_epoch(2); dataset[2]."
        )
        assert str(caught.value).endswith(f". {advice}")


@pytest.mark.parametrize("how", ["kill", "exit", "hang"])
def test_a_batch_that_ends_two_workers_is_made_by_the_third(how: str, tmp_path: Path) -> None:
    batches = dataset(loaders.Dies, how=how, failing=9, times=2, folder=str(tmp_path))
    with opened(batches, timeout_s=0.3 if how == "hang" else None) as pool:
        ids = np.concatenate([y for _, y in epoch_of(pool, batches)])
        np.testing.assert_array_equal(ids, batches.plan.order(0).rows(0, N))
        assert len(list(tmp_path.iterdir())) == 3


def test_slow_is_not_hung() -> None:
    batches = dataset(loaders.Slow, n=40, seconds=0.15)
    with opened(batches, timeout_s=0.6) as pool:
        pids = pool.pids
        assert_same_epoch(pool, batches)
        assert pool.pids == pids


def test_workers_that_die_at_their_start_are_an_error_not_a_wait(tmp_path: Path) -> None:
    class DiesUnpacked:
        def __reduce__(self) -> Any:
            return os._exit, (4,)

    batches = dataset(loaders.Holds, held=DiesUnpacked())
    with opened(batches) as pool, pytest.raises(errors.WorkerDiedError) as caught:
        list(epoch_of(pool, batches))
    assert str(caught.value).startswith(
        "3 worker processes ended at their start, the last one with exit code 4; "
    )


@only_linux("there is no template")
def test_the_template_may_die_too() -> None:
    batches = dataset(loaders.Slow, n=100, seconds=0.001)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        found = [next(stream)]
        (template,) = children()
        template.kill()
        for pid in pool.pids:
            psutil.Process(pid).kill()
        found += stream
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)


@only_linux("there is no template")
def test_a_template_that_does_not_answer_is_an_error_not_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fork_server, "_TEMPLATE_ANSWERS_S", 0.0001)
    with pytest.raises(errors.WorkerDiedError) as caught:
        opened(dataset())
    assert str(caught.value) == (
        "the process that starts workers did not answer within 0 s; what it wrote is on standard "
        "error. Try start_method='spawn', or threads: use_multiprocessing=False."
    )
    assert not children()


@pytest.mark.parametrize("method", METHODS)
def test_who_ignores_the_end_of_children_may_have_workers(method: str) -> None:
    script = """
        import signal, sys
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        from keras_npbatch.batches.work import Work
        from keras_npbatch.workers.processes.stream import ProcessStream
        from keras_npbatch.workers.processes.pool import Pool
        from tests import loaders
        batches = loaders.Ids(50, batch_size=4, seed=0)
        with Pool(batches, workers=2, start_method=sys.argv[1]) as pool:
            print(len(list(ProcessStream(pool, Work(batches.plan), 0, ahead=2))))
    """
    told, errors_told = run_script(script, method).communicate(timeout=WAIT_S)
    assert (told.split(), errors_told) == (["13"], "")


def test_memory_that_can_not_be_had_is_an_error_before_anything_crashes() -> None:
    class Huge:
        shape, dtype = (N, 10**13), np.dtype("float32")

        def __getitem__(self, rows: Any) -> Any:
            return np.broadcast_to(np.float32(0), (len(rows), 10**13))

    with opened(ArrayBatches(Huge(), batch_size=4, seed=0)) as pool:
        stream = epoch_of(pool, ArrayBatches(Huge(), batch_size=4, seed=0))
        with pytest.raises(errors.SharedMemoryError) as caught:
            next(stream)
    assert "asked for 160,000,000 MB of shared memory, and " in str(caught.value)
    assert "MB are available. Use a smaller batch_size" in str(caught.value)


# --- nothing left behind -----------------------------------------------------------------------


def test_close_ends_all_processes_and_may_be_called_twice() -> None:
    batches = dataset()
    pool = opened(batches)
    stream = epoch_of(pool, batches)
    next(stream)
    pids = [*pool.pids, *(child.pid for child in children())]
    assert len(set(pids)) == (2 if IS_PORTABLE else 3)
    pool.close()
    pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not pool.is_open
    assert list(stream) == []


def test_a_pool_that_is_dropped_ends_its_processes() -> None:
    batches = dataset()
    pool = opened(batches)
    kept = next(epoch_of(pool, batches))
    pids = pool.pids
    del pool
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert_same_batch(kept, next(expected(batches)))


def test_close_does_not_wait_for_a_batch_that_takes_long() -> None:
    batches = dataset(loaders.Slow, seconds=600)
    pool = opened(batches)
    stream = epoch_of(pool, batches)
    threading.Timer(0.5, pool.close).start()
    assert list(stream) == []  # the consumer's wait ends too
    wait_until(lambda: not children())


def test_close_of_a_stream_by_another_thread_ends_the_wait_of_its_consumer() -> None:
    batches = dataset(loaders.Slow, seconds=600)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        threading.Timer(0.3, stream.close).start()
        assert list(stream) == []
        assert pool.is_open


def test_to_ask_what_is_ready_does_not_wait() -> None:
    batches = dataset(loaders.Slow, seconds=600)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        threading.Timer(0.3, stream.close).start()
        assert list(stream) == []
        assert epoch_of(pool, batches, 1).ready == 0
    quick = dataset()
    with opened(quick) as pool:
        stream = epoch_of(pool, quick)
        found = [next(stream)]
        wait_until(lambda: stream.ready == AHEAD - 1)
        assert_same_batch([*found, *stream], list(expected(quick)))


def test_a_stream_of_a_closed_pool_is_at_its_end() -> None:
    batches = dataset()
    pool = opened(batches)
    stream = epoch_of(pool, batches)
    next(stream)
    pool.close()
    assert list(stream) == []
    assert list(epoch_of(pool, batches)) == []


def test_nothing_is_written_into_a_file_that_was_opened_since(tmp_path: Path) -> None:
    batches = dataset()
    pool = opened(batches)
    stream = epoch_of(pool, batches)
    next(stream)
    pool.close()
    files = [(tmp_path / str(number)).open("wb") for number in range(20)]
    stream.close()
    for file in files:
        file.close()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0] * 20


def test_to_wait_for_a_parent_that_is_elsewhere_is_not_to_hang() -> None:
    """More answers wait than a socket holds, while the parent validates or saves."""
    batches = dataset(loaders.Columns, n=2000, batch_size=100)
    with opened(batches, 1, timeout_s=0.5) as pool:
        pids = pool.pids
        stream = epoch_of(pool, batches, ahead=16)
        next(stream)
        time.sleep(1.2)
        assert len(list(stream)) == 19
        assert pool.pids == pids


def test_slow_to_start_is_not_hung() -> None:
    batches = dataset(loaders.Holds, held=np.arange(N), transform=lambda batch: batch)
    batches.slow = loaders.SlowToUnpack()
    with opened(batches, timeout_s=0.3) as pool:
        pids = pool.pids
        assert len(list(epoch_of(pool, batches))) == len(list(expected(batches)))
        assert pool.pids == pids


def test_a_batch_that_hangs_is_noticed_by_whoever_waits() -> None:
    batches = dataset(loaders.Dies, how="hang", shuffle=False, failing=9)
    with opened(batches, 1, timeout_s=0.3) as pool:
        stream = epoch_of(pool, batches, ahead=30)
        next(stream)
        stream.close()
        plan = dataset(n=8).plan
        assert len(list(ProcessStream(pool, Work(plan), 0, ahead=2))) == 2


def test_more_large_arrays_than_a_message_can_tell_of_come_through() -> None:
    batches = dataset(loaders.Many, n=1500, batch_size=1500)
    with opened(batches, 1) as pool:
        ((images, _),) = epoch_of(pool, batches)
    assert [int(image[0]) for image in images] == [number % 100 for number in range(1500)]
    assert all(image.shape == (70_000,) for image in images)


@only_linux("it forks no worker")
def test_a_forked_worker_does_not_repeat_what_waits_to_be_written() -> None:
    script = """
        from keras_npbatch.batches.work import Work
        from keras_npbatch.workers.processes.stream import ProcessStream
        from keras_npbatch.workers.processes.pool import Pool
        from tests import loaders
        batches = loaders.Ids(50, batch_size=4, seed=0)
        print("once")
        with Pool(batches, workers=2, start_method="fork") as pool:
            print(len(list(ProcessStream(pool, Work(batches.plan), 0, ahead=2))))
    """
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    told, errors_told = run_script(script, env=buffered).communicate(timeout=WAIT_S)
    assert told.split() == ["once", "13"], errors_told


def test_a_path_that_python_ignores_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [Path("somewhere"), *sys.path])
    batches = dataset()
    with opened(batches, 1) as pool:
        assert_same_epoch(pool, batches)


def test_a_fork_of_the_parent_can_not_use_its_pool() -> None:
    batches = dataset()
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        found = [next(stream)]
        pid = os.fork()
        if pid == 0:
            pool.close()
            os._exit(10 + pool.is_open + len(list(epoch_of(pool, batches))))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
        found += stream
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)


def run_script(script: str, *arguments: str, **settings_: Any) -> subprocess.Popen[str]:
    if "portable" in arguments:
        settings_["env"] = {**settings_.get("env", os.environ), VARIABLE: "portable"}
        arguments = tuple("spawn" if each == "portable" else each for each in arguments)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        **settings_,
    )


TRAINS = """
    import sys, time
    from keras_npbatch.batches.work import Work
    from keras_npbatch.workers.processes.stream import ProcessStream
    from keras_npbatch.workers.processes.pool import Pool
    from tests import loaders
    batches = loaders.Slow(10**6, batch_size=4, seed=0, seconds=float(sys.argv[2]))
    pool = Pool(batches, workers=2, start_method=sys.argv[1])
    stream = ProcessStream(pool, Work(batches.plan), 0, ahead=6)
    if float(sys.argv[2]) < 1:
        next(stream)
    print(*pool.pids, flush=True)
    if len(sys.argv) > 3:
        sys.stdin.readline()
        sys.exit(0)
    for batch in stream:
        pass
"""


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    return [
        *(psutil.Process(pid) for pid in pids),
        *psutil.Process(process.pid).children(recursive=True),
    ]


def shared_names(pid: int) -> list[str]:
    """What a process, or a worker of its, has left in /dev/shm."""
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"npb_{pid:x}_")]


def assert_all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=8)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        *(pytest.param(method, "600", id=f"{method}, stuck") for method in METHODS),
        *(
            pytest.param(method, "0.01", id=f"{method}, busy")
            for method in (*LINUX[:1], "portable")
        ),
    ],
)
@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        *(pytest.param(how, marks=pytest.mark.more) for how in (signal.SIGTERM, signal.SIGINT)),
    ],
    ids=str,
)
def test_the_end_of_the_parent_is_the_end_of_its_workers(
    method: str, seconds: str, how: signal.Signals
) -> None:
    process = run_script(TRAINS, method, seconds)
    workers = family(process)
    process.send_signal(how)
    _, told = process.communicate(timeout=WAIT_S)
    assert_all_end(workers)
    assert shared_names(process.pid) == []
    if how == signal.SIGINT:
        assert told.rstrip().endswith("KeyboardInterrupt")
        assert told.count("Traceback") == 1
    else:
        assert told == ""


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_in_a_terminal_ends_all_at_once(method: str) -> None:
    process = run_script(TRAINS, method, "0.01", start_new_session=True)
    workers = family(process)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=WAIT_S)
    assert_all_end(workers)
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert told.count("Traceback") == 1
    assert time.monotonic() - began < WAIT_S


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_does_not_meet_a_worker_that_is_starting(
    method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    batches = dataset()
    with opened(batches, start_method=method) as pool:
        pids = pool.pids
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        for actual, wanted in zip(epoch_of(pool, batches), expected(batches), strict=True):
            assert_same_batch(actual, wanted)
        assert pool.pids == pids
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_an_interpreter_that_exits_with_a_stream_under_way_leaves_nothing(method: str) -> None:
    process = run_script(TRAINS, method, "0.01", "exit", stdin=subprocess.PIPE)
    workers = family(process)
    _, told = process.communicate("exit\n", timeout=WAIT_S)
    assert process.returncode == 0
    assert told == ""
    assert_all_end(workers)
    assert shared_names(process.pid) == []


def test_an_interrupted_wait_closes_the_pool() -> None:
    batches = dataset(loaders.Slow, seconds=600)
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert not pool.is_open
    assert not children()


@only_linux("there is no template")
def test_ctrl_c_while_a_pool_closes_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the template does not answer; nothing waits for the collector."""
    monkeypatch.setattr(fork_server, "_TELLS_OF_AN_END_WITHIN_S", 0.3)

    def interrupted() -> None:
        batches = dataset()
        with pytest.raises(KeyboardInterrupt), opened(batches, workers=3) as pool:  # noqa: PT012
            list(epoch_of(pool, batches))
            (template,) = children()
            template.suspend()
            with interrupts.deferred():
                signal.raise_signal(signal.SIGINT)
                pool.close()

    descriptors = psutil.Process().num_fds()
    gc.disable()
    try:
        interrupted()
        assert psutil.Process().num_fds() == descriptors
    finally:
        gc.enable()
    assert not children(recursive=True)


@only_linux("the memory of batches is in /dev/shm")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_small_dev_shm_is_no_limit() -> None:
    script = """
        mount -t tmpfs -o size=64m tmpfs /dev/shm || exit 77
        exec "$0" -c '
        import numpy as np
        from keras_npbatch.batches.array_loader import ArrayBatches
        from keras_npbatch.batches.work import Work
        from keras_npbatch.workers.processes.stream import ProcessStream
        from keras_npbatch.workers.processes.pool import Pool
        x = np.ones((64, 4 * 2**20), "uint8")  # 256 MiB, batches of 32 MiB
        batches = ArrayBatches(x, batch_size=8, seed=0)
        with Pool(batches, workers=2) as pool:
            kept = list(ProcessStream(pool, Work(batches.plan), 0, ahead=10))
        print(sum(batch.nbytes for batch in kept))
        '
    """
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", textwrap.dedent(script), sys.executable],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting is not permitted here")
    assert done.stdout.strip() == str(256 * 2**20), done.stderr


def test_a_fork_of_the_parent_leaves_the_workers_alone() -> None:
    batches = dataset()
    with opened(batches) as pool:
        stream = epoch_of(pool, batches)
        found = [next(stream)]
        pid = os.fork()
        if pid == 0:
            pool._end()
            os._exit(0)
        os.waitpid(pid, 0)
        found += stream
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
