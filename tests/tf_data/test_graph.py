"""What batches are to TensorFlow: their spec, their memory, their errors; and other PyDatasets."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.batches.slots import aligned_copy
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, InvalidDataError
from tests.inside import slots_of
from tests.keras_loaders import Looking

pytestmark = pytest.mark.skipif(
    os.environ["KERAS_NPBATCH_BACKEND"] != "tensorflow", reason="once is enough"
)

N, BATCH = 20, 8


class Pair(NamedTuple):
    left: Any
    right: Any


class Loader(BatchDataset):
    """`load` is a function that it is given."""

    def __init__(self, function, n=N, **settings):
        super().__init__(n, **{"batch_size": BATCH, "seed": 0, **settings})
        self.function = function

    def load(self, rows):
        return self.function(rows)


def leaves_of(batches):
    return [tf.nest.map_structure(lambda leaf: leaf.numpy(), batch) for batch in batches]


# -------------------------------------------------------------------- spec


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128", ">f4", ">i8"),
    ],
)
@pytest.mark.parametrize("through_load", [False, True], ids=["gathered", "loaded"])
def test_dtypes_survive(dtype, through_load):
    x = (np.arange(N * 3).reshape(N, 3) % 7).astype(dtype)
    dataset = Loader(x.__getitem__) if through_load else ArrayDataset(x, batch_size=BATCH, seed=0)
    batches = dataset.to_tf_dataset()
    assert batches.element_spec == tf.TensorSpec((None, 3), np.dtype(dtype).newbyteorder("="))
    for step, batch in enumerate(batches):
        assert batch.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(batch, x[dataset.rows(step, 0)])


TEXTS = [f"é{number}" * (number % 4) for number in range(N)]


@pytest.mark.parametrize(
    "texts",
    [
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array([text.encode() for text in TEXTS], object),
        np.array([text.encode() for text in TEXTS]),
    ],
    ids=["U", "str objects", "bytes objects", "S"],
)
def test_strings_survive(texts):
    dataset = ArrayDataset(texts, np.arange(N), batch_size=BATCH, seed=0)
    batches = dataset.to_tf_dataset()
    assert batches.element_spec[0] == tf.TensorSpec((None,), tf.string)
    for x, y in batches:
        assert [text.decode() for text in x.numpy()] == [TEXTS[row] for row in y.numpy()]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no StringDType")
def test_strings_of_any_length_survive():
    dataset = ArrayDataset(np.array(TEXTS, np.dtypes.StringDType()), batch_size=BATCH, seed=0)
    found = [text.decode() for batch in dataset.to_tf_dataset() for text in batch.numpy()]
    assert found == [TEXTS[row] for step in range(3) for row in dataset.rows(step, 0)]


def test_names_and_nesting_survive():
    ids = np.arange(N)
    batch = {"b": ids, "a": (ids * 2, {"z": ids * 3, "c": ids * 4})}
    dataset = ArrayDataset(batch, Pair(ids * 5, ids * 6), batch_size=BATCH, seed=0)
    batches = dataset.to_tf_dataset()
    one = tf.TensorSpec((None,), tf.int64)
    assert batches.element_spec == (
        {"a": (one, {"c": one, "z": one}), "b": one},
        Pair(one, one),
    )
    for step, (x, y) in enumerate(leaves_of(batches)):
        rows = dataset.rows(step, 0)
        for factor, leaf in enumerate([x["b"], x["a"][0], x["a"][1]["z"], x["a"][1]["c"], *y], 1):
            np.testing.assert_array_equal(leaf, rows * factor)
        assert isinstance(y, Pair)


def test_ordered_names_are_not_mixed_up():
    def load(rows):
        return collections.OrderedDict([("b", rows), ("a", rows * 2)])

    for step, batch in enumerate(dataset := Loader(load).to_tf_dataset()):
        np.testing.assert_array_equal(batch["a"], batch["b"] * 2)
        assert step < dataset.cardinality()


def test_lists_of_inputs_become_tuples():
    ids = np.arange(N)
    dataset = ArrayDataset([ids, ids * 2], ids, batch_size=BATCH, seed=0)
    one = tf.TensorSpec((None,), tf.int64)
    assert dataset.to_tf_dataset().element_spec == ((one, one), one)
    for (first, second), y in dataset.to_tf_dataset():
        assert (first.numpy() * 2 == second.numpy()).all()
        assert (first.numpy() == y.numpy()).all()


@pytest.mark.parametrize("n", [16, 20], ids=["equal sizes", "a short last batch"])
def test_none_stays_none(n):
    ids = np.arange(n)
    weighted = ArrayDataset(ids, None, ids / 2, batch_size=BATCH, seed=0).to_tf_dataset()
    assert len(weighted.element_spec) == 3
    for x, y, weights in weighted:
        assert y is None
        assert (x.numpy() == weights.numpy() * 2).all()
    partial = ArrayDataset(ids, {"a": ids, "b": None}, batch_size=BATCH).to_tf_dataset()
    assert all(y["b"] is None and (y["a"] == x).numpy().all() for x, y in partial)


def test_inputs_alone_are_no_tuple():
    (batch, *_) = ArrayDataset(np.arange(N), batch_size=BATCH).to_tf_dataset()
    assert batch.shape == (BATCH,)
    (batch, *_) = ArrayDataset((np.arange(N), np.arange(N)), batch_size=BATCH).to_tf_dataset()
    assert [len(part) for part in batch] == [2]


def test_a_spec_that_is_given_spares_the_example_and_frees_an_axis():
    asked = []

    def load(rows):
        asked.append(len(rows))
        return np.zeros((len(rows), 1 + rows[0] % 5), "float32")

    dataset = Loader(load)
    spec = tf.TensorSpec((None, None), tf.float32)
    batches = dataset.to_tf_dataset(element_spec=spec)
    assert asked == []
    assert batches.element_spec == spec
    widths = [batch.shape[1] for batch in batches]
    assert widths == [1 + dataset.rows(step, 0)[0] % 5 for step in range(3)]
    assert len(set(widths)) > 1


@pytest.mark.parametrize("through_load", [False, True], ids=["gathered", "loaded"])
def test_a_spec_that_is_given_is_held_to(through_load):
    ids = np.arange(N)
    dataset = Loader(ids.__getitem__) if through_load else ArrayDataset(ids, batch_size=BATCH)
    batches = dataset.to_tf_dataset(tf.TensorSpec((BATCH,), tf.int64))
    assert len(list(batches.take(2))) == 2
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(batches)
    assert (
        f"gave ndarray of shape (4,) and dtype int64 for x; expected shape ({BATCH},) and dtype "
        "int64, as in every batch."
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("leaf", "dtype", "remedy"),
    [
        (
            np.arange(N).astype("datetime64[s]"),
            "datetime64[s]",
            "Convert dates to whole numbers: .astype('int64').",
        ),
        (
            np.array([{}] * N),
            "object",
            "Convert it: .astype('float32'), or leave it out in a transform.",
        ),
        (
            np.array([[0] * (1 + k) for k in range(N)], dtype=object),
            "object",
            "Pad sequences of different lengths to one: "
            "keras.utils.pad_sequences(sequences, padding='post').",
        ),
        (
            np.zeros(N, [("a", "i4")]),
            "[('a', '<i4')]",
            "Convert it, or leave it out in a transform.",
        ),
    ],
    ids=["dates", "objects", "sequences", "records"],
)
def test_what_tensorflow_has_no_dtype_for_is_refused_by_name(leaf, dtype, remedy):
    dataset = ArrayDataset({"ok": np.arange(N), "when": leaf}, batch_size=BATCH)
    with pytest.raises(InvalidDataError) as caught:
        dataset.to_tf_dataset()
    assert str(caught.value) == (
        f"x['when'] is ndarray of shape (8,) and dtype {dtype}; expected numbers, booleans or "
        f"strings, since TensorFlow has no dtype for others. {remedy}"
    )


@pytest.mark.parametrize("spec", [tf.float32, tf.TensorSpec((), tf.float32), np.zeros(3)])
def test_a_spec_that_is_none_is_refused(spec):
    with pytest.raises(InvalidArgumentError, match="element_spec has") as caught:
        Loader(lambda rows: rows).to_tf_dataset(element_spec=(spec, spec))
    assert str(caught.value).endswith(
        "; expected a tf.TensorSpec whose first axis counts samples, nested as a batch is: "
        "(tf.TensorSpec((None, 32), tf.float32), ...)."
    )


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            lambda rows: rows.astype("int64" if len(rows) == BATCH else "float32"),
            "Loader gave ndarray of shape (4,) and dtype float32 for x; expected shape (None,) "
            "and dtype int64, as in every batch. Return the same each time, or give "
            "to_tf_dataset an element_spec, with None for an axis that varies.",
        ),
        (
            lambda rows: {"a": np.zeros((len(rows), len(rows)))},
            "Loader gave ndarray of shape (4, 4) and dtype float64 for x['a']; expected shape "
            "(None, 8) and dtype float64, as in every batch.",
        ),
        (
            lambda rows: {"a" if len(rows) == BATCH else "b": rows},
            "Loader gave a batch of the structure {'b': *}; expected {'a': *}, as the first had. "
            "Every batch needs the same parts and names.",
        ),
        (
            lambda rows: (rows,) * (2 if len(rows) == BATCH else 3),
            "Loader gave a batch of the structure (*, *, *); expected (*, *), as the first had.",
        ),
        (
            lambda rows: ({"a": rows}, rows) if len(rows) == BATCH else (rows, rows),
            "Loader gave a batch of the structure (*, *); expected ({'a': *}, *), as the first "
            "had.",
        ),
    ],
    ids=["dtype", "shape", "names", "parts", "structure"],
)
def test_a_batch_of_another_form_is_refused_and_never_cast(function, told):
    dataset = Loader(function)
    batches = iter(dataset.to_tf_dataset())
    next(batches), next(batches)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(batches)
    text = str(caught.value)
    assert f"InvalidBatchError: {told}" in text
    assert f"keras_npbatch: at epoch 0, step 2, rows {dataset.rows(2, 0).tolist()}" in text
    assert InvalidBatchError.__name__ in text


def test_a_tuple_is_no_named_tuple():
    spec = tf.TensorSpec((None,), tf.int64)
    batches = Loader(lambda rows: (rows, rows)).to_tf_dataset(Pair(spec, spec))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"the structure \(\*, \*\); expected"):
        next(iter(batches))


# -------------------------------------------------------------------- memory


def graph_bytes(batches):
    variant = tf.data.experimental.to_variant(batches)
    return len(tf.raw_ops.DatasetToGraphV2(input_dataset=variant).numpy())


def own_bytes():
    """Memory that is not a file's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def test_four_gigabytes_cost_no_more_than_a_batch(tmp_path):
    path = tmp_path / "data"
    x = np.memmap(path, "float32", "w+", shape=(1_000_000, 1024))  # of holes: no disk is used
    dataset = ArrayDataset(x, np.arange(len(x)), batch_size=64, seed=0)
    small = ArrayDataset(np.array(x[:640]), np.arange(640), batch_size=64, seed=0)
    next(iter(small.to_tf_dataset()))
    before = own_bytes()
    batches = dataset.to_tf_dataset()
    assert graph_bytes(batches) < 1.05 * graph_bytes(small.to_tf_dataset()) < 200_000
    for step, (_, y) in enumerate(batches.take(10)):
        np.testing.assert_array_equal(y, dataset.rows(step, 0))
    assert own_bytes() - before < 100_000_000


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_enter_tensorflow_without_a_copy(monkeypatch, workers):
    ids = np.arange(640, dtype="float32")
    wide = np.repeat(ids[:, np.newaxis], 2048, axis=1)
    dataset = ArrayDataset(wide, ids.astype("int32"), batch_size=64, workers=workers)
    addresses = set()
    lease = slots_of(dataset).lease

    def noting(shape, dtype):
        array = lease(shape, dtype)
        addresses.add(array.__array_interface__["data"][0])
        return array

    monkeypatch.setattr(slots_of(dataset), "lease", noting)
    kept = list(dataset.to_tf_dataset().repeat(3))
    for number, (x, y) in enumerate(kept):  # and what is kept never changes
        assert np.asarray(memoryview(x)).__array_interface__["data"][0] in addresses
        np.testing.assert_array_equal(y, dataset.rows(number % 10, number // 10))
        np.testing.assert_array_equal(x[:, -1], y)


def test_a_batch_that_has_left_is_gone_when_the_next_is_made():
    dataset = Looking(40, batch_size=8, workers=0)
    for batch in dataset.to_tf_dataset():
        del batch
    assert dataset.saw == [False] * 6  # the example and five batches


def test_tensorflow_never_writes_to_memory_that_it_was_lent():
    own = np.ones((N, 4096), "float32")  # a loader may return views of what it keeps
    dataset = Loader(lambda rows: own[: len(rows)])
    for _ in dataset.to_tf_dataset().map(lambda x: tf.exp(x + 1)):
        pass
    assert (own == 1).all()


# -------------------------------------------------------------------- workers, errors


class BrokenSampleError(Exception):
    """What no framework knows."""


@pytest.mark.more
@pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux")
def test_worker_processes_make_the_batches_below_it():
    class Numbers(BatchDataset):  # in here, so that workers need not import this module
        def load(self, rows):
            if self.epoch == 2 and 7 in rows:
                raise ValueError("sample is broken")
            return rows * 2, rows * 0 + os.getpid(), rows

    with Numbers(N, batch_size=BATCH, seed=0, workers=2, use_multiprocessing=True) as dataset:
        batches = dataset.to_tf_dataset()
        for epoch in range(2):
            for step, (x, pids, ids) in enumerate(batches):
                np.testing.assert_array_equal(ids, dataset.rows(step, epoch))
                np.testing.assert_array_equal(x, ids * 2)
                assert os.getpid() not in pids
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            list(batches)
        step, _ = dataset.locate(7, epoch=2)
        assert "ValueError: sample is broken" in str(caught.value)
        assert (
            f"keras_npbatch: raised by load(rows) at epoch 2, step {step}, rows "
            f"{dataset.rows(step, 2).tolist()}"
        ) in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BrokenSampleError("no. 7"), tf.errors.UnknownError),
        (ValueError("no. 7"), tf.errors.InvalidArgumentError),
        (IndexError("no. 7"), tf.errors.UnknownError),
        (KeyError("no. 7"), tf.errors.UnknownError),
        (MemoryError("no. 7"), tf.errors.ResourceExhaustedError),
        (StopIteration("no. 7"), tf.errors.UnknownError),  # a RuntimeError, as in a generator
        (tf.errors.OutOfRangeError(None, None, "no. 7"), tf.errors.UnknownError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_arrive_with_their_type_text_and_note(workers, error, kind):
    """None of them is taken for the end of the data."""

    def load(rows):
        if 7 in rows:
            raise error
        return rows

    dataset = Loader(load, workers=workers)
    batches = dataset.to_tf_dataset(tf.TensorSpec((None,), tf.int64))
    with pytest.raises(kind) as caught:
        list(batches)
    text = str(caught.value)
    assert type(error).__name__ in text
    if not isinstance(error, StopIteration):
        assert f"{type(error).__name__}: " in text
    assert "no. 7" in text
    step, _ = dataset.locate(7, epoch=0)
    rows = dataset.rows(step, 0).tolist()
    assert f"keras_npbatch: raised by load(rows) at epoch 0, step {step}, rows {rows}" in text
    assert dataset.epoch == 0


def test_after_an_error_the_epoch_is_begun_anew():
    broken = [True]

    def load(rows):
        if 7 in rows and broken:
            raise BrokenSampleError(broken.pop())
        return rows

    dataset = Loader(load)
    batches = dataset.to_tf_dataset(tf.TensorSpec((None,), tf.int64))
    with pytest.raises(tf.errors.UnknownError, match="BrokenSampleError"):
        list(batches)
    for step, rows in enumerate(batches):
        np.testing.assert_array_equal(rows, dataset.rows(step, 0))


@pytest.mark.parametrize("broken", [0, 9, 17])
@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_follows_an_error_for_who_goes_on_after_it(workers, broken):
    """Not the batches after it, and no second beginning of the epoch."""

    def load(rows):
        if broken in rows:
            raise BrokenSampleError(broken)
        return rows

    dataset = Loader(load, shuffle=False, workers=workers)
    batches = dataset.to_tf_dataset(tf.TensorSpec((None,), tf.int64))
    seen, failed = [], []
    iterator = iter(batches)
    for _ in range(dataset.plan.num_batches):
        try:
            seen += next(iterator).numpy().tolist()
        except tf.errors.UnknownError as error:
            failed.append(str(error))
    at = dataset.plan.num_batches - len(failed)
    assert seen == list(range(dataset.plan.span(at)[0]))
    assert "BrokenSampleError" in failed[0]
    assert all(
        f"asked for batch {step} of an iteration in which an earlier one failed" in text
        for step, text in enumerate(failed[1:], at + 1)
    )
    with pytest.raises(StopIteration):
        next(iterator)
    assert [row for batch in batches.ignore_errors() for row in batch.numpy().tolist()] == seen
    assert dataset.epoch == 0


def test_closing_the_dataset_under_an_iteration_is_told():
    dataset = Loader(lambda rows: rows, n=200)
    batches = iter(dataset.to_tf_dataset())
    next(batches)
    dataset.close()
    with pytest.raises(tf.errors.UnknownError, match="ClosedError: the dataset was closed after"):
        list(batches)


# -------------------------------------------------------------------- other PyDatasets


class Theirs(keras.utils.PyDataset):
    """A user's own, which reshuffles at the end of an epoch, and notes what it is asked."""

    def __init__(self, n=N, batch_size=BATCH, **settings):
        super().__init__(**settings)
        self.ids, self.batch_size = np.arange(n), batch_size
        self.calls = []

    def __len__(self):
        return math.ceil(len(self.ids) / self.batch_size)

    def __getitem__(self, index):
        self.calls.append(index)
        ids = self.ids[index * self.batch_size : (index + 1) * self.batch_size]
        return [ids.astype("float32"), {"y": ids}]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")
        self.ids = np.random.default_rng(len(self.calls)).permutation(self.ids)


class InPlace(keras.utils.PyDataset):
    """Its batches are views of its data, which the end of an epoch shuffles."""

    def __init__(self, data, **settings):
        super().__init__(**settings)
        self.data, self.rng = data, np.random.default_rng(0)
        self.ended = threading.Event()

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.data[index * 8 : (index + 1) * 8]

    def on_epoch_begin(self):
        self.ended.clear()

    def on_epoch_end(self):
        self.rng.shuffle(self.data)
        self.ended.set()


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", ["int64", "object"])
def test_data_that_are_shuffled_in_place_come_once_an_epoch(dtype, offset, workers, ahead):
    data = aligned_copy(np.zeros(41, "int64"))[offset : 40 + offset]
    data[:] = np.arange(40)
    if dtype == "object":
        data = np.array([b"%d" % row for row in data], object)
    dataset = InPlace(data, workers=workers)
    batches = npb.to_tf_dataset(dataset)
    if ahead:
        batches = batches.prefetch(ahead)
    for _ in range(3):
        seen = []
        for batch in batches:
            seen += [int(row) for row in batch.numpy()]
            if ahead:  # all others are held ahead, and the end comes before they are looked at
                assert dataset.ended.wait(20)
        assert sorted(seen) == list(range(40))


@pytest.mark.parametrize("dtype", ["int64", "object"])
def test_the_parts_of_data_that_are_shuffled_in_place_stay_together(dtype):
    class Pairs(InPlace):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.data[:], self.texts[:]

        def on_epoch_end(self):
            for array in (self.data, self.texts):
                array[:] = array[::-1].copy()

    dataset = Pairs(np.arange(40))
    dataset.texts = np.array([b"%d" % row for row in range(40)], object)
    if dtype == "int64":
        dataset.texts = np.arange(40)
    for _ in range(3):
        for numbers, texts in npb.to_tf_dataset(dataset):
            assert numbers.numpy().tolist() == [int(text) for text in texts.numpy()]


@pytest.mark.more
@pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux")
def test_a_call_of_keras_leaves_an_iteration_its_worker_processes():
    class Numbers(BatchDataset):  # in here, so that workers need not import this module
        def load(self, rows):
            return rows.astype("float32")[:, np.newaxis], rows.astype("float32")[:, np.newaxis]

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with contextlib.closing(
        Numbers(400, batch_size=BATCH, workers=1, use_multiprocessing=True)
    ) as dataset:
        iterator = iter(dataset.to_tf_dataset())
        next(iterator)
        model.evaluate(dataset, verbose=0)
        assert len(list(iterator)) == 49


@pytest.mark.parametrize("workers", [1, 3])
def test_another_dataset_is_walked_over_with_its_hooks(workers):
    dataset = Theirs(workers=workers)
    batches = npb.to_tf_dataset(dataset)
    assert dataset.calls == [0]  # the example
    assert int(batches.cardinality()) == 3
    assert batches.element_spec == (
        tf.TensorSpec((None,), tf.float32),
        {"y": tf.TensorSpec((None,), tf.int64)},
    )
    for _ in range(3):
        dataset.calls.clear()
        expected = dataset.ids.tolist()
        assert [int(i) for x, y in batches for i in y["y"]] == expected
        begin, *asked, end = dataset.calls
        assert (begin, sorted(asked), end) == ("begin", [0, 1, 2], "end")
    dataset.calls.clear()
    for _ in batches:
        break
    assert dataset.calls[0] == "begin"
    assert "end" not in dataset.calls


def test_a_batch_of_another_dataset_that_has_left_is_gone_when_the_next_is_made():
    made, saw = [], []

    class Noting(Theirs):
        def __getitem__(self, index):
            saw.append(sum(ref() is not None for ref in made))
            batch = aligned_copy(np.zeros((BATCH, 3), "float32"))
            made.append(weakref.ref(batch))
            return batch

    for batch in npb.to_tf_dataset(Noting(5 * BATCH)):
        del batch
    assert saw == [0] * 6  # the example and five batches


def test_workers_of_another_dataset_are_threads():
    import threading

    names = set()

    class Named(Theirs):
        def __getitem__(self, index):
            names.add(threading.current_thread().name)
            return super().__getitem__(index)

    list(npb.to_tf_dataset(Named(workers=2)))
    assert "keras_npbatch-worker" in names


def test_an_error_of_another_dataset_names_the_index():
    class Broken(Theirs):
        def __getitem__(self, index):
            if index == 1:
                raise BrokenSampleError("no. 1")
            return super().__getitem__(index)

    with pytest.raises(tf.errors.UnknownError) as caught:
        list(npb.to_tf_dataset(Broken()))
    assert "BrokenSampleError: no. 1" in str(caught.value)
    assert "keras_npbatch: raised by Broken[1]" in str(caught.value)


def test_another_dataset_that_changes_its_length_is_told():
    dataset = Theirs()
    batches = npb.to_tf_dataset(dataset)
    dataset.ids = np.arange(40)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(batches)
    assert (
        "Theirs has 5 batches, and had 3 when it became a tf.data.Dataset; expected the same "
        "number in every epoch. Call to_tf_dataset again."
    ) in str(caught.value)


def test_an_endless_dataset_of_another_kind_is_refused():
    class Endless(Theirs):
        num_batches = None

    with pytest.raises(InvalidArgumentError) as caught:
        npb.to_tf_dataset(Endless())
    assert str(caught.value) == (
        "Endless is endless (num_batches is None); expected a PyDataset with a length. Give it a "
        "__len__, and repeat the tf.data.Dataset: to_tf_dataset(dataset).repeat()."
    )


def test_another_dataset_that_can_not_tell_its_length_is_refused():
    class Odd(Theirs):
        def __len__(self):
            raise OSError("no disk")

    with pytest.raises(InvalidArgumentError) as caught:
        npb.to_tf_dataset(Odd())
    assert str(caught.value) == (
        "Odd can't tell how many batches it has (OSError: no disk); expected a number. Write "
        "__len__."
    )


def test_processes_of_another_dataset_are_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        npb.to_tf_dataset(Theirs(use_multiprocessing=True, workers=2))
    assert str(caught.value) == (
        "Theirs has use_multiprocessing=True; expected False, since only a BatchDataset has "
        "worker processes here. Derive it from keras_npbatch.BatchDataset, or use threads."
    )
