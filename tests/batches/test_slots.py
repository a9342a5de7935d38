"""Slots: whatever is kept, dropped, viewed or written, arrays behave as plain NumPy's do."""

from __future__ import annotations

import gc
import queue
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keras_npbatch.batches.slots import (
    ALIGNMENT_BYTES,
    SMALLEST_SLOT_BYTES,
    PrivateMemory,
    Slots,
    aligned_copy,
)
from keras_npbatch.testing.array_layouts import ALL_DTYPES
from keras_npbatch.testing.strategies import arrays
from tests.comparing import assert_same_array

BYTE = np.dtype("uint8")
MIB = 2**20


def address(array: npt.NDArray[Any]) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


@pytest.fixture
def grabbed() -> Iterator[list[npt.NDArray[Any]]]:
    """Arrays made here take the memory that was given back, so that only a slot can have it."""
    arrays: list[npt.NDArray[Any]] = []
    yield arrays
    arrays.clear()


# --- the property ------------------------------------------------------------------------------

SHAPES = [
    ((SMALLEST_SLOT_BYTES,), BYTE),
    # The same bytes in another form: a slot must not remember what it was.
    ((64, 256), np.dtype("float32")),
    ((SMALLEST_SLOT_BYTES // 16, 2), np.dtype("complex64")),
    # Another size: slots must not be mixed up.
    ((SMALLEST_SLOT_BYTES + 1,), BYTE),
    # Below the smallest slot: never reused.
    ((7, 5), np.dtype("int16")),
    # No bytes at all.
    ((3, 0), np.dtype("float64")),
]


def _has_dlpack(array: npt.NDArray[Any]) -> bool:
    # Before NumPy 2.1 what it makes is read-only, and what is read-only has none.
    return array.dtype.kind != "c" and array.flags.writeable


DERIVED: list[Callable[[npt.NDArray[Any]], Any]] = [
    lambda array: array[: max(1, len(array) // 2)],
    # Does not begin where the slot begins, and runs backwards through it.
    lambda array: array[::-1],
    lambda array: array[1:],
    lambda array: array.reshape(-1),
    lambda array: array.T,
    lambda array: array.view(BYTE),
    lambda array: array[..., np.newaxis],
    # Copies: must not change with the slot.
    lambda array: array.copy(),
    lambda array: array + 1,
    # Held by no NumPy object, but by the interfaces that frameworks use.
    lambda array: memoryview(array.reshape(-1).view(BYTE)),
    lambda array: np.frombuffer(memoryview(array.reshape(-1).view(BYTE)), BYTE),
    lambda array: np.from_dlpack(array) if _has_dlpack(array) else array.view(BYTE),
    lambda array: np.asarray(memoryview(array.reshape(-1).view(BYTE))[:100]),
]


class BatchesAreKeptAndDropped(RuleBasedStateMachine):
    """A random program runs twice: on leased arrays, and on arrays of `np.empty`."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(PrivateMemory(kept=2))
        self.kept: list[tuple[Any, Any]] = []
        self.stamp = 0

    @rule(which=st.sampled_from(SHAPES))
    def make_a_batch(self, which: tuple[tuple[int, ...], np.dtype[Any]]) -> None:
        leased, plain = self.slots.lease(*which), np.empty(*which)
        assert leased.shape == plain.shape
        assert leased.dtype == plain.dtype
        assert address(leased) % ALIGNMENT_BYTES == 0 or leased.nbytes < SMALLEST_SLOT_BYTES
        self.kept.append((leased, plain))
        self.write(len(self.kept) - 1)

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 10**6))
    def drop(self, number: int) -> None:
        self.kept.pop(number % len(self.kept))

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 10**6), derive=st.sampled_from(DERIVED))
    def derive(self, number: int, derive: Callable[[npt.NDArray[Any]], Any]) -> None:
        pair = [np.asarray(held) for held in self.kept[number % len(self.kept)]]
        if all(array.flags.c_contiguous and array.size for array in pair):
            self.kept.append((derive(pair[0]), derive(pair[1])))

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 10**6))
    def write(self, number: int) -> None:
        self.stamp += 1
        pair = [np.asarray(held) for held in self.kept[number % len(self.kept)]]
        if all(array.flags.writeable for array in pair):
            for array in pair:
                array[...] = self.stamp % 251

    @precondition(lambda self: self.kept)
    @rule()
    def drop_within_a_cycle(self) -> None:
        cycle: list[Any] = [self.kept.pop()]
        cycle.append(cycle)
        del cycle

    @rule()
    def collect(self) -> None:
        gc.collect(0)

    @rule()
    def clear(self) -> None:
        self.slots.clear()

    @invariant()
    def every_kept_batch_is_numpys(self) -> None:
        for leased, plain in self.kept:
            assert np.array_equal(np.asarray(leased), np.asarray(plain))

    def teardown(self) -> None:
        self.kept.clear()
        gc.collect()
        assert self.slots.num_leased == 0


TestRandomProgramsOnBatches = BatchesAreKeptAndDropped.TestCase
TestRandomProgramsOnBatches.settings = settings(
    settings.get_profile(settings._current_profile), max_examples=30, stateful_step_count=40
)


# --- alignment ---------------------------------------------------------------------------------


RAW_DTYPES = [dtype for dtype in ALL_DTYPES if not dtype.hasobject]


@given(shape=st.lists(st.integers(0, 20), max_size=4).map(tuple), dtype=st.sampled_from(RAW_DTYPES))
def test_every_array_is_as_empty_gives_it_and_large_ones_are_aligned(
    shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    slots = Slots(PrivateMemory(kept=1))
    array = slots.lease(shape, dtype)
    assert type(array) is np.ndarray
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    if array.nbytes >= SMALLEST_SLOT_BYTES:
        assert address(array) % ALIGNMENT_BYTES == 0
    array[...] = np.zeros((), dtype)
    assert_same_array(array, np.zeros(shape, dtype))


@given(array=arrays(RAW_DTYPES))
def test_an_aligned_copy_is_the_array_in_memory_of_its_own(array: npt.NDArray[Any]) -> None:
    copies = [aligned_copy(array) for _ in range(5)]
    for copy in copies:
        assert_same_array(copy, np.array(array))
        assert copy.flags.c_contiguous
        assert copy.flags.writeable
        assert not np.shares_memory(copy, array)
        # An array of no bytes is nowhere.
        assert address(copy) % ALIGNMENT_BYTES == 0 or not copy.nbytes


@pytest.mark.parametrize("extra", [0, 1, 63, 64, 65, 4095, 4096])
def test_slots_of_any_size_are_aligned(extra: int) -> None:
    slots = Slots(PrivateMemory(kept=4))
    held = [slots.lease((SMALLEST_SLOT_BYTES + extra,), BYTE) for _ in range(5)]
    assert {address(array) % ALIGNMENT_BYTES for array in held} == {0}
    for number, array in enumerate(held):
        array[...] = number
    assert [array.min() for array in held] == [array.max() for array in held] == list(range(5))


# --- reuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bytes", [SMALLEST_SLOT_BYTES, SMALLEST_SLOT_BYTES + 8, MIB])
def test_a_dropped_batch_is_the_memory_of_the_next(
    num_bytes: int, grabbed: list[npt.NDArray[Any]]
) -> None:
    slots = Slots(PrivateMemory(kept=2))
    first = slots.lease((num_bytes,), BYTE)
    here = address(first)
    del first
    grabbed.extend(np.empty(num_bytes + more, BYTE) for more in (0, ALIGNMENT_BYTES) * 2)
    for shape, dtype in (((num_bytes,), BYTE), ((num_bytes // 8, 1), np.dtype("float64"))):
        again = slots.lease(shape, dtype)
        assert address(again) == here
        del again


def test_a_batch_of_another_size_gets_memory_of_its_own() -> None:
    slots = Slots(PrivateMemory(kept=2))
    first = slots.lease((MIB,), BYTE)
    here = address(first)
    del first
    other = slots.lease((MIB - 1,), BYTE)
    assert address(other) != here
    assert address(slots.lease((MIB,), BYTE)) == here


def test_the_slot_that_was_returned_last_is_used_first() -> None:
    """It is the likeliest to be in a cache."""
    slots = Slots(PrivateMemory(kept=3))
    held = [slots.lease((MIB,), BYTE) for _ in range(3)]
    places = [address(array) for array in held]
    for number in (1, 0, 2):
        held[number] = np.empty(0)  # drops it
    again = [slots.lease((MIB,), BYTE) for _ in range(3)]
    assert [address(array) for array in again] == [places[2], places[0], places[1]]


def test_small_arrays_are_no_leases() -> None:
    slots = Slots(PrivateMemory(kept=2))
    small = slots.lease((SMALLEST_SLOT_BYTES - 1,), BYTE)
    assert slots.num_leased == 0
    del small
    smallest = slots.lease((SMALLEST_SLOT_BYTES,), BYTE)
    assert slots.num_leased == 1
    del smallest


HOLDERS: dict[str, Callable[[npt.NDArray[Any]], Any]] = {
    "the array": lambda array: array,
    "a view": lambda array: array.view(np.int8),
    "a view of a view of a view": lambda array: array[10:][:1000][::-2],
    "one element's memory": lambda array: array[5:6],
    "an empty slice": lambda array: array[:0],
    "a reshape": lambda array: array.reshape(2, -1),
    "a transpose": lambda array: array.reshape(2, -1).T,
    "a broadcast": lambda array: np.broadcast_to(array, (3, len(array))),
    "a memoryview": memoryview,
    "a slice of a memoryview": lambda array: memoryview(array)[7:9],
    "an array from a buffer": lambda array: np.frombuffer(array, np.int16),
    "a dlpack capsule": lambda array: array.__dlpack__(),
    "an array from dlpack": lambda array: np.from_dlpack(array[4:]),
    "an array over __array_interface__": lambda array: np.asarray(Holder(array)),
    "an iterator": lambda array: array.flat,
    "a record view": lambda array: array.view(np.recarray),
    "the owner": lambda array: array.base,
    "a view of the owner": lambda array: array.base[5:],
    "the root of all bases": lambda array: root(array[3:][:9].view(np.int8)),
    "a ctypes pointer": lambda array: np.ctypeslib.as_ctypes(array),
}


def root(array: Any) -> Any:
    """What is found by who looks for the owner of memory."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


class Holder:
    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_is_not_reused_while_anything_refers_to_it(
    hold: Callable[[npt.NDArray[Any]], Any],
) -> None:
    slots = Slots(PrivateMemory(kept=2))
    array = slots.lease((MIB,), BYTE)
    here = address(array)
    holder = hold(array)
    del array
    assert slots.num_leased == 1
    other = slots.lease((MIB,), BYTE)
    assert address(other) != here
    del holder, other
    gc.collect()
    assert slots.num_leased == 0
    places = [address(held) for held in [slots.lease((MIB,), BYTE) for _ in range(2)]]
    assert here in places


def test_a_batch_within_a_cycle_is_returned_by_the_garbage_collector(
    grabbed: list[npt.NDArray[Any]],
) -> None:
    slots = Slots(PrivateMemory(kept=1))
    cycle: list[Any] = [slots.lease((MIB,), BYTE)]
    here = address(cycle[0])
    cycle.append(cycle)
    del cycle
    assert slots.num_leased == 1
    gc.collect()
    assert slots.num_leased == 0
    grabbed.append(np.empty(MIB + ALIGNMENT_BYTES, BYTE))
    assert address(slots.lease((MIB,), BYTE)) == here


def test_a_batch_that_another_thread_drops_is_returned(grabbed: list[npt.NDArray[Any]]) -> None:
    slots = Slots(PrivateMemory(kept=1))
    handed = [slots.lease((MIB,), BYTE)]
    here = address(handed[0])
    thread = threading.Thread(target=handed.clear)
    thread.start()
    thread.join()
    assert slots.num_leased == 0
    grabbed.append(np.empty(MIB + ALIGNMENT_BYTES, BYTE))
    assert address(slots.lease((MIB,), BYTE)) == here


def test_leases_are_counted_until_the_last_view_is_gone() -> None:
    slots = Slots(PrivateMemory(kept=1))
    assert slots.num_leased == 0
    held = [slots.lease((MIB,), BYTE) for _ in range(3)]
    assert slots.num_leased == 3
    view = held[0][5:]
    held.pop(0)
    assert slots.num_leased == 3
    held.pop()
    assert slots.num_leased == 2
    del view
    assert slots.num_leased == 1
    held.clear()
    assert slots.num_leased == 0


# --- how much is kept --------------------------------------------------------------------------


@pytest.fixture
def traced() -> Iterator[Callable[[], float]]:
    """The memory that Python and NumPy hold more than at the beginning, in MiB."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: round((tracemalloc.get_traced_memory()[0] - before) / MIB, 1)
    tracemalloc.stop()


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_kept_bounds_the_free_slots_of_each_size(kept: int, traced: Callable[[], float]) -> None:
    slots = Slots(PrivateMemory(kept=kept))
    held = [slots.lease((MIB,), BYTE) for _ in range(5)]
    assert traced() == 5
    held.clear()
    assert traced() == kept
    held = [slots.lease((MIB // 2,), BYTE) for _ in range(5)]
    held.clear()
    assert traced() == kept * 1.5
    held = [slots.lease((MIB,), BYTE) for _ in range(kept)]
    assert traced() == kept * 1.5
    del held


def test_every_batch_can_be_kept(traced: Callable[[], float]) -> None:
    """When no slot is free a new one is made: nothing waits, nothing is taken away."""
    slots = Slots(PrivateMemory(kept=1))
    held = [slots.lease((SMALLEST_SLOT_BYTES,), BYTE) for _ in range(64)]
    for number, array in enumerate(held):
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(held))
    assert slots.num_leased == 64
    assert int(traced()) == 64 * SMALLEST_SLOT_BYTES // MIB


def test_clear_lets_the_free_slots_go(traced: Callable[[], float]) -> None:
    slots = Slots(PrivateMemory(kept=3))
    held = [slots.lease((MIB,), BYTE) for _ in range(3)]
    held.clear()
    assert traced() == 3
    slots.clear()
    assert traced() == 0
    slots.clear()


def test_clear_leaves_leased_memory_alone_and_keeps_none_of_it(traced: Callable[[], float]) -> None:
    slots = Slots(PrivateMemory(kept=3))
    held = [slots.lease((MIB,), BYTE) for _ in range(3)]
    for number in range(3):
        held[number][...] = number
    slots.clear()
    assert slots.num_leased == 3
    new = slots.lease((MIB,), BYTE)
    new[...] = 77
    assert [int(array.min()) for array in held] == [0, 1, 2]
    assert [int(array.max()) for array in held] == [0, 1, 2]
    for left in (2, 1, 0):
        held.pop()
        assert traced() == left + 1  # and the new one
    del new
    assert traced() == 1  # kept: it was made after the clearing


def test_clear_lets_slots_go_that_were_free_beside_leased_ones(traced: Callable[[], float]) -> None:
    slots = Slots(PrivateMemory(kept=3))
    held = [slots.lease((MIB,), BYTE) for _ in range(3)]
    held.pop()
    assert traced() == 3
    slots.clear()
    assert traced() == 2
    held.clear()
    assert traced() == 0


def test_a_batch_outlives_its_slots(traced: Callable[[], float]) -> None:
    """The last reference to a dataset is dropped; the batches that the user keeps must live."""
    slots = Slots(PrivateMemory(kept=3))
    array = slots.lease((MIB,), BYTE)
    array[...] = 7
    view = array[100:]
    del slots, array
    gc.collect()
    assert traced() == 1, "the memory of a kept batch was freed"
    others = [np.full(MIB + ALIGNMENT_BYTES, 9, np.uint8) for _ in range(8)]
    assert (view == 7).all()
    del view, others
    gc.collect()
    assert traced() == 0


def test_no_memory_is_left_when_slots_are_dropped(traced: Callable[[], float]) -> None:
    slots = Slots(PrivateMemory(kept=3))
    slots.lease((MIB,), BYTE)
    assert traced() == 1
    del slots
    gc.collect()
    assert traced() == 0


# --- threads -----------------------------------------------------------------------------------


def test_threads_never_share_a_slot() -> None:
    """Each stamps what it leases and hands it to another, who checks the stamp and drops it."""
    slots = Slots(PrivateMemory(kept=4))
    handed: queue.SimpleQueue[tuple[int, npt.NDArray[Any]]] = queue.SimpleQueue()
    together = threading.Barrier(4)
    elements = SMALLEST_SLOT_BYTES // 8

    def work(worker: int) -> int:
        rng = np.random.default_rng(worker)
        together.wait(10)
        wrong = 0
        for turn in range(150):
            stamp = worker * 1000 + turn
            array = slots.lease((elements,), np.dtype("int64"))
            array[...] = stamp
            handed.put((stamp, array[rng.integers(0, 9) :]))
            del array
            for _ in range(int(rng.integers(0, 3))):
                try:
                    expected, found = handed.get_nowait()
                except queue.Empty:
                    break
                wrong += bool((found != expected).any())
                del found
        return wrong

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            wrong = sum(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)
    while not handed.empty():
        expected, found = handed.get()
        wrong += bool((found != expected).any())
        del found
    assert wrong == 0
    assert slots.num_leased == 0
