"""A batch is its own: whatever loaders and transforms keep, refill, slice and cache."""

from __future__ import annotations

import copy
import sys
import tempfile
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.batches.owned import owned
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.tree import leaves
from tests.comparing import assert_same_array
from tests.inside import slots_of

N, BATCH = 24, 4
DATA = np.arange(N * 3, dtype=np.float32).reshape(N, 3) + 1


class Pair(NamedTuple):
    first: Any
    second: Any


def lists_of(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An object array of arrays, one for each row."""
    found = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        found[number] = row
    return found


class Keeping:
    """How a loader may come by an array of rows while it keeps the memory in its hands."""

    def __init__(self) -> None:
        self.data = DATA.copy()
        self.objects = lists_of(self.data.copy())
        self.buffer = np.zeros((N, 3), np.float32)
        self.raw = bytearray(self.buffer.nbytes)
        self.last: Any = None
        self.cache: dict[Any, Any] = {}
        self.weak: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self.sparse = scipy.sparse.csr_matrix(DATA)
        self.views: list[Any] = []

    def fresh(self, rows: Any) -> Any:
        return self.data[rows]

    def fresh_view(self, rows: Any) -> Any:
        return self.data[rows].reshape(-1)[: len(rows) * 3].reshape(-1, 3)

    def slice(self, rows: Any) -> Any:
        return self.data[rows[0] : rows[0] + len(rows)]

    def strided(self, rows: Any) -> Any:
        return np.asfortranarray(self.data)[rows[0] : rows[0] + len(rows)]

    def read_only(self, rows: Any) -> Any:
        found = self.data[rows[0] : rows[0] + len(rows)]
        found.flags.writeable = False
        return found

    def refilled(self, rows: Any) -> Any:
        self.buffer[: len(rows)] = self.data[rows]
        return self.buffer[: len(rows)]

    def refilled_whole(self, rows: Any) -> Any:
        if self.last is None or len(self.last) != len(rows):
            self.last = np.empty((len(rows), 3), np.float32)
        self.last[...] = self.data[rows]
        return self.last

    def refilled_bytes(self, rows: Any) -> Any:
        array = np.frombuffer(self.raw, np.float32)[: len(rows) * 3].reshape(-1, 3)
        array[...] = self.data[rows]
        return array

    def cached(self, rows: Any) -> Any:
        return self.cache.setdefault(rows.tobytes(), self.data[rows])

    def weakly_cached(self, rows: Any) -> Any:
        for array in list(self.weak.values()):  # what is still there is written over
            array[...] = -1
        found = self.data[rows]
        self.weak[rows.tobytes()] = found
        return found

    def weakly_cached_owner(self, rows: Any) -> Any:
        return self.weakly_cached(rows)[:]

    def kept_view(self, rows: Any) -> Any:
        for view in self.views:
            view[...] = -1
        found = self.data[rows]
        self.views = [found[:1]]
        return found

    def exported(self, rows: Any) -> Any:
        for view in self.views:
            np.asarray(view)[...] = -1
        found = self.data[rows]
        self.views = [memoryview(found)]
        return found

    def memory_map(self, rows: Any) -> Any:
        if "map" not in self.cache:
            with tempfile.TemporaryFile() as file:
                self.cache["map"] = np.memmap(file, np.float32, "w+", shape=DATA.shape)
            self.cache["map"][...] = self.data
        return self.cache["map"][rows[0] : rows[0] + len(rows)]

    def masked(self, rows: Any) -> Any:
        return np.ma.masked_array(self.slice(rows), mask=False)

    def of_objects(self, rows: Any) -> Any:
        return self.objects[rows]

    def sparse_matrix(self, rows: Any) -> Any:
        key = "sparse", len(rows)
        matrix = self.cache.setdefault(key, scipy.sparse.csr_matrix(np.ones((len(rows), 3))))
        matrix.data[:] = self.data[rows].ravel()
        return matrix

    def frame(self, rows: Any) -> Any:
        pandas = pytest.importorskip("pandas")
        return pandas.DataFrame(self.slice(rows), copy=False)


WAYS = sorted(name for name in vars(Keeping) if not name.startswith("_"))
IN_ONE_PIECE = {"slice", "strided", "read_only", "memory_map", "masked", "frame"}

NESTINGS = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: ({"x": x}, y),
    "deep": lambda x, y: ({"b": (x, [x]), "a": None}, y),
    "named": lambda x, y: (Pair(x, x), y),
    "ordered": lambda x, y: (OrderedDict(z=x), y),
    "alone": lambda x, y: x,
}


class Loader(BatchDataset):
    """Comes by `x` in one way, nests it in another, and may keep the batch itself."""

    def __init__(
        self, way: str, *, nesting: str = "tuple", keeps: bool = False, **settings: Any
    ) -> None:
        # Slices of the data are rows that follow each other.
        super().__init__(N, batch_size=BATCH, shuffle=way not in IN_ONE_PIECE, seed=3, **settings)
        self.way, self.nesting, self.keeps = way, nesting, keeps
        self.keeping = Keeping()
        self.kept: dict[Any, Any] = {}
        self.refilled: dict[str, Any] = {}

    def load(self, rows: Any) -> Any:
        key = rows.tobytes()
        if self.keeps and key in self.kept:
            return self.kept[key]
        x = getattr(self.keeping, self.way)(rows)
        batch = NESTINGS[self.nesting](x, rows)
        if self.keeps:
            self.kept[key] = batch
        return batch

    def __getstate__(self) -> dict[str, Any]:
        """What it keeps is made anew: weak references can't be sent."""
        state = super().__getstate__()
        del state["keeping"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.keeping = Keeping()


def doubled_in_place(batch: Any) -> Any:
    for leaf in leaves(batch[0] if isinstance(batch, tuple | list) else batch):
        if isinstance(leaf, np.ndarray) and leaf.dtype.hasobject:
            for element in leaf:
                element *= 2
        elif scipy.sparse.issparse(leaf):
            leaf.data *= 2
        elif isinstance(leaf, np.ndarray):
            leaf *= 2
        else:
            leaf.iloc[:] = leaf.to_numpy() * 2
    return batch


class Scratch:
    """A transform that writes into an array of its own and returns that."""

    def __init__(self, view: bool = False) -> None:
        self.view, self.arrays = view, np.zeros((N, 3), np.float32)

    def __call__(self, batch: Any) -> Any:
        x, y = batch
        np.multiply(np.array(x.tolist()), 2, out=self.arrays[: len(x)])
        if not self.view and len(x) == BATCH:
            self.whole = getattr(self, "whole", np.zeros((BATCH, 3), np.float32))
            self.whole[...] = self.arrays[:BATCH]
            return self.whole, y
        return self.arrays[: len(x)], y


class Remembering:
    """A transform that writes into the batches it has had before."""

    def __init__(self) -> None:
        self.before: list[Any] = []

    def __call__(self, batch: Any) -> Any:
        for array in self.before:
            array[...] = -1
        x, _ = batch
        x *= 2
        self.before = [x]
        return batch


def numbers(leaf: Any) -> npt.NDArray[Any]:
    if scipy.sparse.issparse(leaf):
        return np.asarray(leaf.todense())
    if isinstance(leaf, np.ndarray) and leaf.dtype.hasobject:
        return np.stack(list(leaf))
    return np.asarray(leaf)


def check(dataset: Any, factor: int, passes: int = 2) -> None:
    """All batches of some epochs are held; then each is right, and so is the loader's data."""
    epoch = dataset.epoch
    held = [list(dataset) for _ in range(passes)]
    for number, batches in enumerate(held):
        assert len(batches) == N // BATCH
        for step, batch in enumerate(batches):
            rows = dataset.rows(step, epoch + number)
            x = batch
            if isinstance(batch, tuple):
                x, y = batch
                assert_same_array(np.asarray(y), rows)
            for leaf in leaves(x):
                np.testing.assert_array_equal(numbers(leaf), DATA[rows] * factor)
    np.testing.assert_array_equal(dataset.keeping.data, DATA)
    np.testing.assert_array_equal(np.stack(list(dataset.keeping.objects)), DATA)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changed", [False, True], ids=["as loaded", "changed in place"])
@given(
    nesting=st.sampled_from(sorted(NESTINGS)),
    keeps=st.booleans(),
    workers=st.sampled_from([0, 1]),  # one that refills its buffer can't do so in two threads
    remainder=st.sampled_from(["keep", "drop"]),
)
@settings(max_examples=6)
def test_what_is_held_is_never_changed(
    way: str, changed: bool, nesting: str, keeps: bool, workers: int, remainder: Any
) -> None:
    if keeps and way.startswith(("refilled", "weakly", "kept", "exported", "sparse")):
        keeps = False  # it writes over what it keeps itself
    dataset = Loader(
        way,
        nesting=nesting,
        keeps=keeps,
        transform=doubled_in_place if changed else None,
        workers=workers,
        remainder=remainder,
    )
    check(dataset, 2 if changed else 1)


@pytest.mark.parametrize("way", ["fresh", "slice", "cached", "strided"])
def test_what_is_held_is_never_changed_by_threads(way: str) -> None:
    check(Loader(way, transform=doubled_in_place, workers=3), 2, passes=3)


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes")
@pytest.mark.parametrize("way", ["slice", "refilled_whole", "cached"])
def test_what_is_held_is_never_changed_by_processes(way: str) -> None:
    dataset = Loader(way, transform=doubled_in_place, workers=2, use_multiprocessing=True)
    with dataset:
        check(dataset, 2, passes=3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("way", ["fresh", "slice", "refilled"])
@pytest.mark.parametrize(
    "transform", [Scratch(), Scratch(view=True), Remembering()], ids=["whole", "view", "before"]
)
def test_what_a_transform_keeps_is_not_the_batch(transform: Any, way: str, workers: int) -> None:
    check(Loader(way, transform=copy.deepcopy(transform), workers=workers), 2)


@pytest.mark.parametrize("way", WAYS)
def test_a_single_batch_is_the_caller_s(way: str) -> None:
    dataset = Loader(way)
    first, second = dataset[0], dataset[1]
    doubled_in_place(second)
    np.testing.assert_array_equal(numbers(first[0]), DATA[dataset.rows(0)])
    np.testing.assert_array_equal(numbers(dataset[1][0]), DATA[dataset.rows(1)])
    np.testing.assert_array_equal(dataset.keeping.data, DATA)


def test_a_class_with_batches_of_its_own_may_refill_them() -> None:
    class Whole(BatchDataset):
        buffer = np.zeros((BATCH, 3), np.float32)

        def __getitem__(self, index: int) -> Any:
            self.buffer[...] = DATA[self.rows(index)]
            return self.buffer, self.rows(index)

    dataset = Whole(N, batch_size=BATCH, seed=0)
    for x, rows in list(dataset):
        np.testing.assert_array_equal(x, DATA[rows])


def test_objects_in_the_data_of_an_array_dataset_stay_as_they_are() -> None:
    data = lists_of(DATA.copy())
    dataset = ArrayDataset(data, batch_size=BATCH, transform=doubled_in_place, shuffle=False)
    for epoch in range(2):
        for step, x in enumerate(dataset):
            expected = DATA[dataset.rows(step, epoch)] * 2
            np.testing.assert_array_equal(np.stack(list(x)), expected)
    np.testing.assert_array_equal(np.stack(list(data)), DATA)


# --- what is copied, and what is not --------------------------------------------------------------


def is_copied(make: Any) -> bool:
    """Whether `owned` copies the array that `make()` returns, alone in a tuple."""
    where: list[int] = []

    def load() -> Any:
        array = make()
        where.append(array.__array_interface__["data"][0])
        return (array,)

    (found,) = owned([load()], np.empty)
    return bool(found.__array_interface__["data"][0] != where[0])


class Sub(np.ndarray[Any, Any]):
    """An array of a class of its own."""


KEPT = np.zeros((5, 3))

NOT_COPIED = {
    "new": lambda: np.zeros((5, 3)),
    "selected": lambda: KEPT[[0, 2]],
    "a view of a new one": lambda: np.arange(15).reshape(5, 3),
    "a view of a new one of a subclass": lambda: np.asarray(np.zeros((5, 3)).view(Sub))[:, 1:],
    "views of views of a new one": lambda: np.zeros((5, 9))[:, ::3].T[1:],
    "computed": lambda: KEPT * 2,
    "stacked": lambda: np.stack([KEPT, KEPT])[..., np.newaxis],
    "texts": lambda: np.array(["a", "b"]),
    "selected of a memory map": lambda: MAP[[0, 2]],
    "leased": lambda: SLOTS.lease((5, 1 << 15), np.dtype("float32")),
    "a view of a leased one": lambda: SLOTS.lease((5, 1 << 15), np.dtype("float32"))[1:],
}
SLOTS = Slots(PrivateMemory(kept=1))
COPIED = {
    "kept": lambda: KEPT,
    "a view": lambda: KEPT[:2],
    "a view of a view": lambda: KEPT[:2].reshape(-1)[1:],
    "read-only": lambda: np.broadcast_to(np.zeros(3), (5, 3)),
    "bytes": lambda: np.frombuffer(bytes(16), np.uint8),
    "a view of a map": lambda: MAP[:2],
    "a view of a map as an array": lambda: np.asarray(MAP[:2]),
    "a view of one of a subclass": lambda: np.asarray(KEPT.view(Sub))[:, 1:],
    "through a memoryview": lambda: np.asarray(memoryview(KEPT)),
    "objects": lambda: np.array([[1], [2, 3]], dtype=object),
}


@pytest.fixture(autouse=True, scope="module")
def _a_map(tmp_path_factory: pytest.TempPathFactory) -> Any:
    global MAP
    path = tmp_path_factory.mktemp("owned") / "map.npy"
    np.save(path, KEPT)
    MAP = np.load(path, mmap_mode="r+")
    yield
    MAP = None


MAP: Any = None


@pytest.mark.parametrize("name", NOT_COPIED)
def test_what_nobody_else_can_reach_is_handed_on_as_it_is(name: str) -> None:
    assert not is_copied(NOT_COPIED[name])


@pytest.mark.parametrize("name", COPIED)
def test_what_somebody_else_may_reach_is_copied(name: str) -> None:
    assert is_copied(COPIED[name])


def test_a_container_that_somebody_else_has_is_not_handed_on() -> None:
    x = {"a": np.zeros(3), "b": [np.zeros(3)]}
    found = owned([(x, None)], np.empty)
    assert found[0] is not x
    assert found[0]["b"] is not x["b"]
    assert list(found[0]) == ["a", "b"]
    assert found[1] is None
    x["a"][:] = 1
    x["b"][0][:] = 1
    assert not any(leaf.any() for leaf in leaves(found))


def test_a_container_that_the_loader_has_just_made_is_handed_on() -> None:
    ids = []

    def load() -> Any:
        batch = ({"a": np.zeros(3)}, [np.zeros(3)])
        ids.append([id(batch), id(batch[0]), id(batch[1])])
        return batch

    found = owned([load()], np.empty)
    assert [id(found), id(found[0]), id(found[1])] == ids[0]


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "bc"], np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else 0,
        np.zeros(2, "U0"),
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros((3, 0)),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.zeros((2, 3)).view(Sub),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
    ],
    ids=str,
)
def test_copies_are_of_the_same_kind(array: Any) -> None:
    array = np.asanyarray(array)
    (found,) = owned([(array,)], np.empty)
    assert found is not array
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_copies_are_made_where_they_are_told_to_be() -> None:
    made = []

    def empty(shape: Any, dtype: Any) -> Any:
        made.append(shape)
        return np.empty(shape, dtype)

    owned([(KEPT, KEPT[:2])], empty)
    assert made == [(5, 3), (2, 3)]


def test_the_copies_of_a_loader_are_in_slots_that_are_used_again() -> None:
    class Large(BatchDataset):
        kept = np.zeros((BATCH, 1 << 15), np.float32)

        def load(self, rows: Any) -> Any:
            return self.kept

    dataset = Large(N, batch_size=BATCH, workers=0)
    for _ in dataset:
        assert slots_of(dataset).num_leased <= 2
    del _
    assert slots_of(dataset).num_leased == 0


def test_what_can_be_copied_in_no_way_is_read() -> None:
    class Open:
        """Part of a file."""

        shape, dtype = (5, 3), KEPT.dtype

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("open files stay where they are")

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return KEPT

    (found,) = owned([(Open(),)], np.empty)
    assert type(found) is np.ndarray
    assert not np.shares_memory(found, KEPT)
