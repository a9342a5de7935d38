"""The facade without training: batches, epochs, settings, lifetime."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading

os.environ.setdefault("KERAS_BACKEND", "numpy")

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, errors, pad
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.samplers import shuffle as order
from keras_npbatch.samplers.own import chosen_sampler
from keras_npbatch.testing import check_dataset
from keras_npbatch.testing.strategies import settings
from tests.conftest import worker_threads
from tests.inside import pool_of, stream_of

N, BATCH = 50, 8


@pytest.fixture
def arrays():
    ids = np.arange(N)
    return np.repeat(ids[:, np.newaxis], 3, axis=1).astype("float32"), ids


class Loader(BatchDataset):
    def load(self, rows):
        return rows[:, np.newaxis] * 2.0, rows


EVERY_SAMPLE: list[Remainder] = ["keep", "spread"]


@given(settings(60, remainders=EVERY_SAMPLE))
def test_each_iteration_is_an_epoch_with_every_sample_once(chosen):
    dataset = Loader(**chosen)
    for epoch in range(3):
        assert dataset.epoch == epoch
        batches = list(dataset)
        assert len(batches) == len(dataset) == dataset.num_batches
        seen = np.concatenate([ids for _, ids in batches])
        assert sorted(seen) == list(range(chosen["num_samples"]))
        for step, (x, ids) in enumerate(batches):
            np.testing.assert_array_equal(ids, dataset.rows(step, epoch))
            np.testing.assert_array_equal(x[:, 0], ids * 2.0)


@given(settings(60, remainders=EVERY_SAMPLE), st.data())
def test_getitem_is_the_batch_of_that_step_and_moves_nothing(chosen, data):
    dataset = Loader(**chosen)
    dataset.set_epoch(data.draw(st.integers(0, 5)))
    steps = data.draw(st.lists(st.integers(0, len(dataset) - 1), max_size=5))
    for step in steps:  # in any order, some twice
        np.testing.assert_array_equal(dataset[step][1], dataset.rows(step))
        np.testing.assert_array_equal(dataset[step - len(dataset)][1], dataset.rows(step))
    epoch = dataset.epoch
    for step, (_, ids) in enumerate(dataset):
        np.testing.assert_array_equal(ids, dataset.rows(step, epoch))


_WIDE = np.arange(40)[:, np.newaxis] * np.ones(2048)  # 16 KiB a row: batches live in slots


@given(
    workers=st.sampled_from([0, 2]),
    max_queue_size=st.sampled_from([1, 3]),
    program=st.lists(
        st.sampled_from(["keep", "keep", "slice", "drop", "write", "forget", "peek"]),
        min_size=30,
        max_size=60,
    ),
)
def test_every_kept_array_still_equals_the_answer_of_numpy(workers, max_queue_size, program):
    """Programs that keep, slice, write and drop batches for longer than any queue is."""
    dataset = ArrayDataset(
        _WIDE, batch_size=7, seed=0, workers=workers, max_queue_size=max_queue_size
    )
    kept = []
    for number, (batch, deed) in enumerate(zip(dataset.repeat(), program, strict=False)):
        epoch, step = divmod(number, len(dataset))
        expected = _WIDE[dataset.rows(step, epoch)]
        if deed == "keep":
            kept.append((batch, expected))
        elif deed == "slice":
            kept.append((batch[1:, ::3].T, expected[1:, ::3].T))
        elif deed == "write":  # a batch is its owner's: nobody else sees it
            batch[:] = -1
            kept.append((batch, np.full_like(expected, -1)))
        elif deed == "forget" and kept:
            kept.pop(len(kept) // 2)
        elif deed == "peek":
            kept.append((dataset[step], _WIDE[dataset.rows(step)]))
        del batch
    for array, expected in kept:
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(_WIDE[:, 0], np.arange(40))


def test_keeping_every_batch_of_many_epochs_ends(arrays):
    """More batches than slots and queue together: memory grows, nothing waits."""
    dataset = ArrayDataset(_WIDE, batch_size=7, workers=2, max_queue_size=1)
    kept = [batch for _ in range(20) for batch in dataset]
    assert len(kept) == 20 * len(dataset)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_arrays_give_the_same_bytes_as_indexing_them(arrays, workers):
    x, y = arrays
    dataset = ArrayDataset(x, y, batch_size=BATCH, seed=0, workers=workers)
    for epoch in range(2):
        for step, (batch_x, batch_y) in enumerate(dataset):
            rows = dataset.rows(step, epoch)
            np.testing.assert_array_equal(batch_x, x[rows])
            np.testing.assert_array_equal(batch_y, y[rows])
            assert batch_x.dtype == x.dtype
            assert batch_y.dtype == y.dtype


def test_iteration_left_early_is_begun_anew(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0)
    next(iter(dataset))
    assert dataset.epoch == 0
    np.testing.assert_array_equal(next(iter(dataset))[1], dataset.rows(0, 0))


def test_an_epoch_counts_with_its_last_batch(arrays):
    """Not with the end of the iteration, which zip never reaches."""
    dataset = ArrayDataset(*arrays, batch_size=BATCH)
    for _ in zip(range(len(dataset)), dataset, strict=False):
        pass
    assert dataset.epoch == 1


def test_two_iterations_at_once_are_the_same_epoch(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, workers=2)
    for (_, first), (_, second) in zip(dataset, dataset, strict=True):
        np.testing.assert_array_equal(first, second)
    assert dataset.epoch == 1


LONG = 40_000
"""Rows whose order takes long enough to draw that a thread does it ahead."""


@pytest.mark.parametrize("columns", [1, 1000])  # made by the consumer, by threads
def test_the_order_of_the_next_epoch_is_drawn_meanwhile(columns, monkeypatch):
    drawn, is_drawn = [], threading.Event()
    shuffled = order.shuffled

    def note(num_rows, *, seed, epoch):
        drawn.append((threading.current_thread().name, epoch))
        if epoch == 1:
            is_drawn.set()
        return shuffled(num_rows, seed=seed, epoch=epoch)

    monkeypatch.setattr(order, "shuffled", note)
    x, ids = np.zeros((LONG, columns), "uint8"), np.arange(LONG)
    dataset = ArrayDataset(x, ids, batch_size=1000, seed=0, workers=1)
    walk = iter(dataset)
    next(walk)
    assert is_drawn.wait(10)
    assert dataset.epoch == 0
    assert drawn.count(("keras_npbatch-worker", 1)) == 1
    for _ in walk:
        pass
    alone = ArrayDataset(x, ids, batch_size=1000, seed=0, workers=0)
    for _ in alone:
        pass
    del drawn[:]
    for (_, seen), (_, expected) in zip(dataset, alone, strict=True):
        np.testing.assert_array_equal(seen, expected)
    by_consumer = [epoch for name, epoch in drawn if name != "keras_npbatch-worker"]
    assert by_consumer == [1]  # by the one without workers


@pytest.mark.parametrize(
    "chosen",
    [
        {"workers": 0},
        {"workers": 1, "shuffle": False},
        {"workers": 1, "num_samples": 1000},
        {"workers": 1, "num_samples": 2**20 + 1},
    ],
)
def test_no_order_is_drawn_ahead_that_costs_nothing_or_without_workers(chosen, monkeypatch):
    drawn = []
    shuffled = order.shuffled

    def note(num_rows, *, seed, epoch):
        drawn.append(epoch)
        return shuffled(num_rows, seed=seed, epoch=epoch)

    monkeypatch.setattr(order, "shuffled", note)
    dataset = Loader(**{"num_samples": LONG, "batch_size": 2**15, "seed": 0} | chosen)
    for _ in dataset:
        pass
    for thread in worker_threads():
        thread.join(10)
    assert 1 not in drawn


def test_no_order_is_drawn_ahead_of_an_epoch_that_does_not_follow(monkeypatch):
    dataset = Loader(num_samples=LONG, batch_size=2**15, seed=0, workers=1)
    for _ in stream_of(dataset, 0, follows=False):
        pass
    for thread in worker_threads():
        thread.join(10)
    drawn = []
    shuffled = order.shuffled

    def note(num_rows, *, seed, epoch):
        drawn.append(epoch)
        return shuffled(num_rows, seed=seed, epoch=epoch)

    monkeypatch.setattr(order, "shuffled", note)
    dataset.plan.order(0)
    dataset.plan.order(1)
    assert drawn == [1]


def test_locate_inverts_rows(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0)
    for row in range(N):
        step, position = dataset.locate(row, epoch=3)
        assert dataset.rows(step, epoch=3)[position] == row
    dataset.set_epoch(3)
    assert dataset.locate(7) == dataset.locate(7, epoch=3) != dataset.locate(7, epoch=4)


def test_seed_decides_the_order(arrays):
    def order(**chosen):
        return np.concatenate([ids for _, ids in ArrayDataset(*arrays, **chosen)]).tolist()

    assert order(seed=1) == order(seed=1) != order(seed=2)


def test_no_seed_is_drawn_from_the_global_state(arrays):
    keras.utils.set_random_seed(0)
    first = ArrayDataset(*arrays)
    keras.utils.set_random_seed(0)
    second, third = ArrayDataset(*arrays), ArrayDataset(*arrays)
    assert first.seed == second.seed != third.seed
    assert ArrayDataset(*arrays, seed=first.seed).rows(0).tolist() == first.rows(0).tolist()


def test_endless_goes_on_from_epoch_to_epoch(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0)
    endless = dataset.repeat()
    assert endless
    assert endless.num_batches is None
    with pytest.raises(TypeError, match="no length"):
        len(endless)
    for number, (_, ids) in zip(range(20), endless, strict=False):
        expected = dataset.rows(number % 7, number // 7)
        np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(
        ArrayDataset(*arrays, batch_size=BATCH, seed=0).repeat()[16][1], dataset.rows(2, 2)
    )
    assert dataset.epoch == endless.epoch == 2


def test_load_is_told_the_epoch_of_an_endless_batch():
    class Loader(BatchDataset):
        def load(self, rows):
            return np.full((len(rows), 1), self.epoch)

    endless = Loader(10, batch_size=5, seed=0).repeat()
    assert [int(endless[index][0, 0]) for index in range(6)] == [0, 0, 1, 1, 2, 2]
    iterated = [int(batch[0, 0]) for batch, _ in zip(endless, range(6), strict=False)]
    assert iterated == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("endless", [False, True])
def test_the_users_word_stands_against_an_iteration_under_way(arrays, endless):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0)
    iterator = iter(dataset.repeat() if endless else dataset)
    next(iterator)
    dataset.set_epoch(10)
    rest = [next(iterator) for _ in range(len(dataset) - 1)]
    np.testing.assert_array_equal(rest[-1][1], dataset.rows(6, 0))
    assert dataset.state_dict()["epoch"] == dataset.epoch == 10
    if endless:
        np.testing.assert_array_equal(next(iterator)[1], dataset.rows(0, 10))
    else:
        assert next(iterator, None) is None
    assert dataset.epoch == 10


def test_an_old_iteration_does_not_turn_the_epochs_back(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0)
    iterator = iter(dataset)
    next(iterator)
    for _ in range(3):
        list(dataset)
    next(iterator)
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["step"]) == (3, 0)
    list(iterator)
    assert dataset.epoch == 3


@pytest.mark.parametrize("copied", [copy.copy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_copy_has_the_same_batches_and_epochs_of_its_own(arrays, copied):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, class_weight={1: 2.0}, transform=_double)
    list(dataset)
    other = copied(dataset)
    assert other.epoch == 1
    for ours, theirs in zip(dataset[3], other[3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    list(other)
    assert (dataset.epoch, other.epoch) == (1, 2)


def _double(batch):
    x, y = batch
    return x * 2, y


def test_transform_and_class_weight_and_pad_finish_a_batch(arrays):
    x, _ = arrays
    dataset = ArrayDataset(
        x,
        np.arange(N) % 2,
        batch_size=BATCH,
        shuffle=False,
        remainder="pad",
        transform=_double,
        class_weight={1: 3.0},
    )
    batch_x, batch_y, weights = dataset[6]
    np.testing.assert_array_equal(batch_x[:2], x[48:] * 2)
    np.testing.assert_array_equal(weights, [1, 3, 0, 0, 0, 0, 0, 0])
    assert batch_x.shape == (BATCH, 3)
    assert batch_y.shape == (BATCH,)


def test_padding_takes_rows_of_pandas_by_position():
    import pandas as pd

    class Frame(BatchDataset):
        table = pd.Series(np.arange(3) * 10)

        def load(self, rows):
            return rows, self.table.iloc[rows]

    x, y, weights = Frame(3, batch_size=4, seed=2, remainder="pad")[0]
    np.testing.assert_array_equal(np.asarray(y), x * 10)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])


def test_load_of_arrays_may_be_extended(arrays):
    class Shifted(ArrayDataset):
        def load(self, rows):
            x, y = super().load(rows)
            return x + 1, y

    x, y = Shifted(*arrays, batch_size=BATCH, seed=0)[0]
    np.testing.assert_array_equal(x[:, 0], y + 1)


def test_load_refuses_rows_that_are_not_there(arrays):
    dataset = ArrayDataset(*arrays)
    with pytest.raises(IndexError, match=r"^rows go from 3 to 50; expected numbers from 0 to 49$"):
        dataset.load(np.array([3, 50]))
    with pytest.raises(IndexError, match="rows go from -1 to 0"):
        dataset.load(np.array([0, -1]))
    with pytest.raises(errors.InvalidArgumentError, match=r"^rows is ndarray of shape \(1, 1\)"):
        dataset.load([[1]])
    np.testing.assert_array_equal(dataset.load([4, 2])[1], [4, 2])


def test_shuffling_that_changes_nothing_is_told():
    class Sequential(BatchDataset):
        def __getitem__(self, index):
            return np.arange(index * BATCH, min(index * BATCH + BATCH, N))

    message = r"^Sequential\.__getitem__\(index\) made a batch without asking self\.rows\(index\)"
    with pytest.warns(UserWarning, match=message):
        list(Sequential(N, batch_size=BATCH, workers=0))
    list(Sequential(N, batch_size=BATCH, shuffle=False))


def test_overriding_getitem_may_call_super(arrays):
    class Shifted(ArrayDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + 1, y

    dataset = Shifted(*arrays, batch_size=BATCH, seed=0)
    for step, (x, y) in enumerate(dataset):
        np.testing.assert_array_equal(y, dataset.rows(step, 0))
        np.testing.assert_array_equal(x[:, 0], y + 1)


def test_it_works_through_the_adapter_of_keras_for_pydatasets(arrays):
    """What an older Keras, or a wrapper, would make of it: still each sample once."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0, workers=0)
    adapter = PyDatasetAdapter(dataset, shuffle=True)
    ids = np.concatenate([y for _, y in adapter.get_numpy_iterator()])
    assert sorted(ids) == list(range(N))


TRUE_OR_FALSE = "expected True (a new permutation each epoch) or False (the order of the data)."


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"start_method": "thread"},
            "start_method is 'thread' (str); expected one of 'forkserver', 'spawn', 'fork', or "
            "None for 'forkserver'.",
        ),
        (
            {"timeout": 0},
            "timeout is 0 (int); expected seconds, a number above 0, or None for no limit.",
        ),
        ({"workers": -1}, "workers is -1 (int); expected a whole number from 0 to 1024."),
        ({"workers": 1.5}, "workers is 1.5 (float); expected a whole number from 0 to 1024."),
        ({"max_queue_size": 0}, "max_queue_size is 0 (int); expected a whole number from 1 up."),
        ({"batch_size": 0}, None),
        ({"shuffle": "yes"}, f"shuffle is 'yes' (str); {TRUE_OR_FALSE}"),
        ({"shuffle": 1}, f"shuffle is 1 (int); {TRUE_OR_FALSE}"),
        ({"shuffle": 0}, f"shuffle is 0 (int); {TRUE_OR_FALSE}"),
        ({"seed": -1}, None),
        ({"remainder": "truncate"}, None),
        ({"transform": 3}, None),
        ({"class_weight": [1, 2]}, None),
        (
            {"num_samples": 3},
            "ArrayDataset has no setting num_samples. It counts the rows of its arrays: select the "
            "rows, or leave num_samples out.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(arrays, chosen, message):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        ArrayDataset(*arrays, **chosen)
    if message is not None:
        assert str(caught.value) == message
    (name,) = chosen
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("shuffle", "expected"),
    [(None, True), (True, True), (False, False), (np.bool_(True), True), (np.bool_(False), False)],
)
def test_shuffle_is_a_plain_boolean_and_true_unless_it_is_said_otherwise(arrays, shuffle, expected):
    for dataset in (ArrayDataset(*arrays, shuffle=shuffle), Loader(N, shuffle=shuffle)):
        assert dataset.shuffle is dataset.plan.shuffle is expected
    assert ArrayDataset(*arrays).shuffle is Loader(N).shuffle is True


def test_data_that_make_no_sense_are_refused_at_once(arrays):
    x, y = arrays
    with pytest.raises(errors.InvalidDataError, match=r"^y\['a'\] has 49 rows, but x has 50;"):
        ArrayDataset(x, {"a": y[:-1]})
    with pytest.raises(errors.InvalidDataError, match=r"^x has 0 rows"):
        ArrayDataset(x[:0], y[:0])
    with pytest.raises(errors.InvalidDataError, match=r"^x has no leaf"):
        ArrayDataset({}, y)
    with pytest.raises(errors.InvalidArgumentError, match=r"^sample_weight and class_weight"):
        ArrayDataset(x, y, np.ones(N), class_weight={0: 1.0})
    with pytest.raises(errors.InvalidDataError) as caught:
        ArrayDataset(x, {"a": y, "b": y}, {"a": y})
    assert str(caught.value) == (
        "the weights are sample_weight['a'], but the targets y['a'], y['b']; expected weights "
        "nested as y is, None for an output that has none, or one array for all outputs."
    )
    with pytest.raises(errors.InvalidDataError, match=r"^the weights are sample_weight\[0\], but "):
        ArrayDataset(x, y, (y,))
    with pytest.raises(errors.InvalidArgumentError) as caught:
        ArrayDataset(x, (y, y), class_weight={0: 1.0})
    assert str(caught.value) == (
        "class_weight needs one array of class labels in y, which is a tuple. With several "
        "outputs, give the weights of each, nested as y is: {'a': {0: 1.0, 1: 5.0}, 'b': None}."
    )


def test_weights_of_several_outputs_may_be_one_array_or_missing(arrays):
    x, y = arrays
    for weights in (y, (y, None), [y, y]):
        ArrayDataset(x, (y, y), weights)
    first_output = ArrayDataset(
        x, (y, y), class_weight={1: 2.0}, transform=lambda batch: (batch[0], batch[1][0])
    )
    assert len(first_output[0]) == 3


@pytest.mark.parametrize("columns", [1, 20_000])
def test_workers_read_storage_that_may_be_slow(columns):
    """However little a batch is, reading it may take long."""
    readers = set()

    class Storage:
        shape, dtype = (N, columns), np.dtype("float32")

        def __getitem__(self, rows):
            readers.add(threading.current_thread())
            return np.zeros((len(rows), columns), "float32")

    list(ArrayDataset(Storage(), batch_size=BATCH, workers=2))
    assert threading.main_thread() not in readers


def test_no_more_is_made_ahead_than_pays(tmp_path):
    """Gathers from memory are all alike; what may wait for a disk or for Python is not."""
    x = np.zeros((N, 40_000), "float32")
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for data, chosen, most in (
        (x, {}, 2),
        (x, {"workers": 3}, 4),
        (x, {"max_queue_size": 1}, 1),
        (x, {"transform": lambda batch: batch}, 10),
        (mapped, {}, 10),
        ({"a": x, "b": mapped[:, 3:]}, {}, 10),
    ):
        dataset = ArrayDataset(data, batch_size=BATCH, **chosen)
        with contextlib.closing(stream_of(dataset, 0)) as stream:
            next(stream)
            assert len(stream._pending) == min(most, len(dataset)) - 1


class OpensAFile(BatchDataset):
    file = None

    def load(self, rows):
        if self.file is None:
            self.file = open(__file__, "rb")  # noqa: SIM115
        return rows[:, np.newaxis]


def test_what_is_not_sent_is_not_blamed(arrays):
    """The workers of an epoch before are no part of what goes to new ones."""
    dataset = OpensAFile(N, batch_size=BATCH, workers=1, use_multiprocessing=True)
    with dataset:
        list(dataset)
        dataset[0]
        with pytest.raises(errors.UnsendableError, match=r"^OpensAFile\.file is <_io\.Buffered"):
            list(dataset)
    dataset.file.close()


class Own(BatchDataset):
    """What is a setting of an ArrayDataset is an attribute like any other here."""

    def load(self, rows):
        return self.transform(rows)


def test_what_a_dataset_is_made_with_can_not_be_set(arrays):
    dataset = ArrayDataset(*arrays)
    names = "batch_size", "seed", "shuffle", "sampler", "remainder", "num_samples", "epoch", "plan"
    for name in names:
        with pytest.raises(AttributeError) as caught:
            setattr(dataset, name, 3)
        assert str(caught.value) == (
            f"ArrayDataset.{name} can't be set. For another setting make a new dataset, for "
            "another epoch call set_epoch(); an attribute of your own needs another name."
        )
    for name in ("shard", "rows", "locate", "to_tf_dataset"):  # methods: it would hide them
        with pytest.raises(AttributeError, match=rf"^ArrayDataset\.{name} can't be set"):
            setattr(dataset, name, (0, 2))
    for name in ("transform", "class_weight"):
        with pytest.raises(
            AttributeError, match=rf"^ArrayDataset\.{name} can't be set after construction"
        ):
            setattr(dataset, name, None)
    dataset.difficulty = dataset.max_queue_size = 2
    own = Own(N)
    own.transform = np.negative
    np.testing.assert_array_equal(own[0], -own.rows(0))


def test_an_equal_number_is_no_change(arrays):
    """A schedule may set what it set before: nothing need be sent anew."""
    with ArrayDataset(*arrays, batch_size=BATCH, workers=1, use_multiprocessing=True) as dataset:
        pids = []
        for rate in (0.5, float("0.5"), "high", "hi" + "gh"[:2], 1, True):
            dataset.rate = rate
            list(dataset)
            pids.append(pool_of(dataset).pids)
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] != pids[5]


@pytest.mark.parametrize(
    ("settings_", "is_closed"),
    [
        ("use_multiprocessing=True", False),
        pytest.param("workers=0", False, marks=pytest.mark.more),
        pytest.param("workers=2", False, marks=pytest.mark.more),
        pytest.param("use_multiprocessing=True", True, marks=pytest.mark.more),
        pytest.param("workers=0", True, marks=pytest.mark.more),
        pytest.param("workers=2", True, marks=pytest.mark.more),
    ],
)
def test_a_script_may_end_with_an_iteration_under_way(settings_, is_closed):
    """Its variables, generators too, go when the modules have gone."""
    script = f"""
import numpy as np, keras_npbatch as npb
data = npb.ArrayDataset(np.zeros((1000, 30)), batch_size=8, transform=lambda x: x, {settings_})
iterator = iter(data)
next(iterator)
if {is_closed}:
    data.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_finishing_needs_load_not_getitem():
    class Whole(BatchDataset):
        def __getitem__(self, index):
            return self.rows(index)

    for chosen in (
        {"collate": pad()},
        {"transform": _double},
        {"augment": _double},
        {"class_weight": {0: 1.0}},
        {"remainder": "pad"},
        {"cache": "1 MB"},
        {"on_error": "set_aside"},
    ):
        (name,) = chosen
        refusal = f"{name}.* was given to Whole, which overrides __getitem__"
        with pytest.raises(errors.InvalidArgumentError, match=refusal):
            Whole(N, **chosen)


def test_what_is_changed_later_takes_effect_or_is_refused(arrays):
    dataset = ArrayDataset(*arrays)
    with pytest.raises(AttributeError):
        dataset.batch_size = 3
    for name in ("workers", "max_queue_size"):
        with pytest.raises(errors.InvalidArgumentError, match=f"^{name} is -1"):
            setattr(dataset, name, -1)
    dataset.workers = 1
    dataset.use_multiprocessing = True
    with dataset:
        assert len(list(dataset)) == len(dataset)
        assert pool_of(dataset).pids

    class Longer(Loader):
        def __len__(self):
            return 9

    with pytest.raises(errors.InvalidArgumentError, match=r"^len\(Longer\) is 9, but 50 samples"):
        list(Longer(N))


def test_a_subclass_that_forgets_super_is_told():
    class Forgetful(BatchDataset):
        def __init__(self):
            pass

    for ask in (
        len,
        lambda dataset: dataset[0],
        lambda dataset: dataset.num_batches,
        check_dataset,
    ):
        with pytest.raises(
            errors.InvalidArgumentError, match=r"^Forgetful was not initialised; call"
        ):
            ask(Forgetful())


def test_a_list_of_samples_is_not_taken_for_inputs(arrays):
    x, _ = arrays
    with pytest.raises(errors.InvalidDataError, match=r"^x is a list of 50 items, .*np\.stack"):
        ArrayDataset(list(x[:, np.newaxis]))
    assert ArrayDataset(tuple(x for _ in range(20))).num_samples == N


def test_an_index_is_a_number(arrays):
    with pytest.raises(TypeError, match=r"^index is slice\(0, 3, None\) \(slice\); expected"):
        ArrayDataset(*arrays)[0:3]


def test_a_subclass_without_load_is_told():
    with pytest.raises(NotImplementedError, match=r"^BatchDataset has no load\(rows\)"):
        BatchDataset(3)[0]


@pytest.mark.parametrize("index", [7, -8, 100])
def test_a_batch_that_is_not_there(arrays, index):
    with pytest.raises(IndexError, match=f"^there is no batch {index}: an epoch has 7"):
        ArrayDataset(*arrays, batch_size=BATCH)[index]


def test_close_ends_a_pass_and_the_dataset_goes_on(arrays):
    with Loader(N, batch_size=BATCH, workers=2) as dataset:
        iterator = iter(dataset)
        next(iterator)
        dataset.close()
        with pytest.raises(
            errors.ClosedError, match=r"^the dataset was closed after 1 of 7 batches"
        ):
            next(iterator)
        assert len(list(dataset)) == 7
    dataset.close()
    assert len(list(dataset)) == 7


def test_virtual_data_of_a_trillion_samples_start_at_once():
    import tracemalloc

    class Virtual:
        shape, dtype = (10**12, 4), np.dtype("float32")

        def __getitem__(self, rows):
            return np.repeat(rows[:, np.newaxis], 4, axis=1).astype("float32")

    tracemalloc.start()
    x = ArrayDataset(Virtual(), batch_size=256, seed=0)[10**9]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.shape == (256, 4)
    assert peak < 2**21


def test_repr_tells_the_settings(arrays):
    dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=4, workers=2)
    assert repr(dataset) == (
        "<ArrayDataset: 50 samples in 7 batches of 8 (remainder='keep'), x float32 (50, 3), "
        "y int64 (50,), shuffle=True, seed=4, workers=2, next epoch 0>"
    )
    assert repr(dataset.repeat()).endswith("next epoch 0, endless>")


def test_repr_tells_the_data_and_the_functions_and_no_seed_that_was_drawn(arrays):
    x, y = arrays
    dataset = ArrayDataset({"a": x, "b": (x, y)}, y, transform=np.copy, augment=same, shuffle=False)
    assert repr(dataset) == (
        "<ArrayDataset: 50 samples in 2 batches of 32 (remainder='keep'), x['a'] float32 (50, 3), "
        "x['b'][0] float32 (50, 3), x['b'][1] int64 (50,), y int64 (50,), transform=copy, "
        "augment=same, shuffle=False, seed=None, workers=1, next epoch 0>"
    )
    assert "seed=None" in repr(dataset.split(0.5)[0])
    many = ArrayDataset(tuple(x[:, :1] for _ in range(12)))
    assert "x[7] float32 (50, 1), ... (12 arrays), shuffle" in repr(many)


def same(batch):
    return batch


def test_an_explanation_is_told_in_a_notebook_as_it_is_printed(arrays):
    explanation = ArrayDataset(*arrays, seed=0).explain(epoch=0, step=0)
    assert repr(explanation) == str(explanation)


@pytest.mark.parametrize(
    ("chosen", "partial"),
    [({}, 2), ({"remainder": "drop"}, None), ({"batch_size": 10}, None)],
)
def test_partial_batch_is_told_to_keras(arrays, chosen, partial):
    dataset = ArrayDataset(*arrays, **{"batch_size": BATCH, **chosen})
    assert dataset.partial_batch_size == partial
    assert dataset.has_partial_batch == (partial is not None)


@given(settings(60, remainders=EVERY_SAMPLE))
def test_the_plan_is_that_of_the_settings(chosen):
    dataset = Loader(**chosen)
    plan = Plan(
        **{name: chosen[name] for name in ("num_samples", "batch_size", "seed", "remainder")},
        sampler=chosen_sampler(chosen["shuffle"], None),
    )
    assert dataset.plan == plan
    for name in ("num_samples", "batch_size", "seed", "shuffle", "remainder"):
        assert getattr(dataset, name) == chosen[name]
