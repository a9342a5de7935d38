"""`to_tf_dataset`: each iteration is an epoch, whatever is done to the `tf.data.Dataset`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, each
from keras_npbatch.batches.core import core_of
from keras_npbatch.errors import InvalidArgumentError, MissingExtraError, UnsupportedArgumentError
from keras_npbatch.workers.choice import batches_at_once
from tests.inside import slots_of
from tests.samplers.test_contract import every_sampler, make

pytestmark = pytest.mark.skipif(
    os.environ["KERAS_NPBATCH_BACKEND"] != "tensorflow", reason="once is enough"
)

N, BATCH = 50, 8


class Loader(BatchDataset):
    """Its batches are made by workers, where those of small arrays are not."""

    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


def arrays(n=N, **settings):
    ids = np.arange(n)
    settings = {"batch_size": BATCH, "seed": 0, **settings}
    return ArrayDataset(ids.astype("float32")[:, np.newaxis], ids.astype("int32"), **settings)


def loader(n=N, **settings):
    return Loader(n, **{"batch_size": BATCH, "seed": 0, **settings})


def ids_of(batches):
    """The samples of each batch, once it is seen that x belongs to y."""
    found = []
    for x, y, *_ in batches:
        np.testing.assert_array_equal(np.asarray(x)[:, 0], np.asarray(y))
        found.append(np.asarray(y).tolist())
    return found


def epoch_of(dataset, epoch):
    return [dataset.rows(step, epoch).tolist() for step in range(dataset.plan.num_batches)]


@every_sampler
def test_it_has_the_batches_of_the_sampler(kind):
    dataset = loader(sampler=make(kind, N))
    read = dataset.to_tf_dataset()
    for epoch in range(2):
        assert ids_of(read) == epoch_of(dataset, epoch)


made = pytest.mark.parametrize("make", [arrays, loader], ids=["in chunks", "by workers"])


# -------------------------------------------------------------------- epochs


def _example(remainder, make, n=50, batch_size=8):
    return example(
        n=n,
        batch_size=batch_size,
        remainder=remainder,
        shuffle=True,
        workers=1,
        make=make,
        first=0,
    )


@settings(max_examples=15)
@_example("keep", arrays)
@_example("drop", arrays)
@_example("spread", arrays)
@_example("spread", arrays, n=45, batch_size=10)  # five batches of nine
@_example("pad", loader)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 24),
    remainder=st.sampled_from(["keep", "drop", "pad", "spread"]),
    shuffle=st.booleans(),
    workers=st.sampled_from([0, 1, 3]),
    make=st.sampled_from([arrays, loader]),
    first=st.integers(0, 5),
)
def test_each_iteration_is_the_epoch_that_comes_next(
    n, batch_size, remainder, shuffle, workers, make, first
):
    if remainder == "drop":
        n = max(n, batch_size)
    dataset = make(n, batch_size=batch_size, remainder=remainder, shuffle=shuffle, workers=workers)
    dataset.set_epoch(first)
    batches = dataset.to_tf_dataset(call=None if shuffle else "fit")
    assert dataset.epoch == first  # making it has read a batch, and moved nothing
    sizes = set()
    for epoch in (first, first + 1):
        seen = [tuple(map(np.asarray, batch)) for batch in batches]
        assert len(seen) == int(batches.cardinality()) == dataset.num_batches
        for step, (x, y, *weights) in enumerate(seen):
            rows = dataset.rows(step, epoch)
            np.testing.assert_array_equal(y[: len(rows)], rows)
            np.testing.assert_array_equal(x[:, 0], y)
            assert [w[len(rows) :].any() for w in weights] == [False] * (remainder == "pad")
            sizes.add(len(y))
        assert dataset.epoch == epoch + 1
    static = sizes.pop() if len(sizes) == 1 else None
    assert [spec.shape[0] for spec in batches.element_spec] == [static] * len(seen[0])


@made
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_for_another_call_it_reads_what_that_reads(make, remainder, call):
    dataset = make(remainder=remainder, class_weight={3: 9.0}, augment=lambda batch: 1 / 0)
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=2))
    batches = dataset.to_tf_dataset(call=call)
    expected = list(dataset.batches_for(call))
    for _ in range(2):
        assert int(batches.cardinality()) == len(expected)
        for batch, other in zip(batches, expected, strict=True):
            for part, same in zip(batch, other, strict=True):
                np.testing.assert_array_equal(part, same)
    assert (dataset.epoch, dataset.state_dict()["step"]) == (1, 2)
    if call == "predict":
        assert sum(ids_of(batches), []) == list(range(N))  # noqa: RUF017


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
def test_evaluate_and_predict_of_it_are_those_of_the_dataset(make_model, remainder):
    dataset = arrays(remainder=remainder, class_weight={3: 9.0})
    model = make_model()
    ours = model.evaluate(dataset, verbose=0)[0]
    theirs = model.evaluate(dataset.to_tf_dataset(call="evaluate"), verbose=0)[0]
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    predicted = model.predict(dataset.to_tf_dataset(call="predict"), verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))


def test_for_evaluation_an_endless_dataset_stays_in_order():
    batches = arrays(20).repeat().to_tf_dataset(call="evaluate")
    first, second, third = list(range(8)), list(range(8, 16)), [16, 17, 18, 19]
    assert ids_of(batches.take(4)) == [first, second, third, first]


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"remainder": "pad"}, "remainder='pad'"),
        ({"remainder": "drop", "class_weight": {}}, "remainder='drop', class_weight"),
        ({"augment": lambda batch: batch}, "augment"),
    ],
    ids=str,
)
def test_a_dataset_for_evaluation_warns_of_batches_of_training(settings, reasons):
    dataset = arrays(shuffle=False, **settings)
    with pytest.warns(UserWarning, match="^to_tf_dataset") as caught:
        dataset.to_tf_dataset()
    assert str(caught[0].message) == (
        "to_tf_dataset() makes batches of training, and the ArrayDataset with shuffle=False has "
        f"others for evaluate and predict, because of {reasons}. Say what they are for: "
        "call='fit', 'evaluate' or 'predict'."
    )
    for call in ("fit", "evaluate", "predict"):
        dataset.to_tf_dataset(call=call)
        npb.to_tf_dataset(dataset, call=call)


def test_another_call_is_refused_and_so_is_predict_of_a_shard():
    with pytest.raises(InvalidArgumentError) as caught:
        arrays().to_tf_dataset(call="train")
    assert str(caught.value) == (
        "call is 'train' (str); expected 'fit', 'evaluate' or 'predict'. Validation reads what "
        "'evaluate' reads."
    )
    with pytest.raises(
        UnsupportedArgumentError, match=r"^predict was given the dataset \(ArrayDataset\)"
    ):
        arrays(shard=(0, 2)).to_tf_dataset(call="predict")


@made
def test_repeat_walks_different_epochs(make):
    dataset = make()
    batches = dataset.to_tf_dataset().repeat(3)
    assert int(batches.cardinality()) == 21
    assert ids_of(batches) == [ids for epoch in range(3) for ids in epoch_of(dataset, epoch)]
    assert dataset.epoch == 3


@made
def test_an_endless_dataset_is_infinite_and_walks_on(make):
    dataset = make().repeat()
    batches = dataset.to_tf_dataset()
    assert int(batches.cardinality()) == tf.data.INFINITE_CARDINALITY
    walked = [ids for epoch in range(3) for ids in epoch_of(dataset, epoch)][:17]
    assert ids_of(batches.take(17)) == walked
    # As for any iteration of it: the epoch that was not delivered whole is started again.
    assert ids_of(batches.take(1)) == epoch_of(dataset, 2)[:1]


@made
def test_an_iteration_that_is_left_early_is_begun_anew(make):
    dataset = make()
    batches = dataset.to_tf_dataset()
    for steps in (1, 2, 6):
        assert ids_of(batches.take(steps)) == epoch_of(dataset, 0)[:steps]
    for _ in batches:
        break
    assert dataset.epoch == 0
    assert ids_of(batches) == epoch_of(dataset, 0)
    assert ids_of(batches.take(7)) == epoch_of(dataset, 1)
    assert dataset.epoch == 2


@pytest.mark.parametrize("n", [64, 112, 117, 139])
@pytest.mark.parametrize("remainder", ["keep", "drop"])
def test_an_epoch_counts_with_its_last_batch_also_where_several_are_made_at_once(n, remainder):
    ids = np.arange(n)
    x = np.repeat(ids[:, np.newaxis], 1024, axis=1).astype("float32")
    dataset = ArrayDataset(x, ids, batch_size=8, seed=0, remainder=remainder)
    assert batches_at_once(core_of(dataset).facts(dataset.plan)) == 7
    batches, last = dataset.to_tf_dataset(), dataset.num_batches - 1
    for steps in (1, 6, 7, last):
        assert ids_of(batches.take(steps)) == epoch_of(dataset, 0)[:steps]
        assert dataset.epoch == 0
    iterator = iter(batches)
    assert ids_of(next(iterator) for _ in range(last)) == epoch_of(dataset, 0)[:last]
    assert dataset.epoch == 0
    next(iterator)
    assert dataset.epoch == 1
    assert ids_of(batches) == epoch_of(dataset, 1)


@made
def test_skip_leaves_out_the_beginning_of_an_epoch(make):
    dataset = make()
    batches = dataset.to_tf_dataset().skip(3)
    assert int(batches.cardinality()) == 4
    for epoch in range(2):
        assert ids_of(batches) == epoch_of(dataset, epoch)[3:]


@made
def test_a_resumed_epoch_is_refused_with_what_reads_it(make):
    dataset, again = make(), make()
    batches = again.to_tf_dataset()
    again.load_state_dict(dataset.state_dict(epoch=2, step=3))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="goes on at step 3 of epoch 2"
    ) as told:
        list(batches)
    assert "call set_epoch(2) and begin with batches.skip(3)." in str(told.value)
    again.set_epoch(2)
    assert ids_of(batches.skip(3)) == epoch_of(dataset, 2)[3:]
    assert ids_of(batches) == epoch_of(dataset, 3)


@made
def test_prefetch_and_enumerate_change_no_batch(make):
    dataset = make()
    batches = dataset.to_tf_dataset().prefetch(4).enumerate()
    for epoch in range(2):
        numbers, found = zip(*batches, strict=True)
        assert [int(number) for number in numbers] == list(range(7))
        assert ids_of(found) == epoch_of(dataset, epoch)


@made
def test_batches_can_be_cut_anew(make):
    dataset = make()
    batches = dataset.to_tf_dataset().unbatch().batch(12)
    for epoch in range(2):
        order = [*chain(*epoch_of(dataset, epoch))]
        assert ids_of(batches) == [order[start : start + 12] for start in range(0, N, 12)]


@made
def test_a_cache_keeps_the_epoch_it_saw_first(make):
    dataset = make()
    dataset.set_epoch(4)
    batches = dataset.to_tf_dataset().cache()
    for _ in range(3):
        assert ids_of(batches) == epoch_of(dataset, 4)
    assert dataset.epoch == 5


@made
def test_zip_with_itself_pairs_an_epoch_with_itself(make):
    dataset = make()
    batches = dataset.to_tf_dataset()
    pairs = tf.data.Dataset.zip((batches, batches))
    for epoch in range(2):
        left, right = zip(*pairs, strict=True)
        assert ids_of(left) == ids_of(right) == epoch_of(dataset, epoch)


@made
def test_two_iterators_at_once_do_not_disturb_each_other(make):
    dataset = make()
    batches = dataset.to_tf_dataset()
    slow = iter(batches)
    begun = ids_of([next(slow)])
    assert ids_of(batches) == epoch_of(dataset, 0)
    fast = iter(batches)
    assert ids_of(fast) == epoch_of(dataset, 1)
    assert begun + ids_of(slow) == epoch_of(dataset, 0)
    assert dataset.epoch == 2  # the end of an earlier epoch takes nothing back


def test_an_iterator_takes_its_epoch_with_its_first_batch():
    dataset = loader()
    made_before = iter(dataset.to_tf_dataset())
    dataset.set_epoch(9)
    assert ids_of(made_before) == epoch_of(dataset, 9)


def test_the_user_says_which_epoch_comes_next_also_while_one_is_under_way():
    dataset = loader()
    batches = dataset.to_tf_dataset()
    dataset.set_epoch(5)
    for step, _ in enumerate(batches):
        if step == 3:
            dataset.set_epoch(2)
    assert dataset.epoch == 2
    assert ids_of(batches) == epoch_of(dataset, 2)


def test_an_iteration_of_the_dataset_itself_and_of_its_tf_dataset_share_the_epochs():
    dataset = loader()
    batches = dataset.to_tf_dataset()
    assert ids_of(batches) == epoch_of(dataset, 0)
    assert ids_of(dataset) == epoch_of(dataset, 1)
    assert ids_of(batches) == epoch_of(dataset, 2)


def test_the_public_function_is_the_method():
    dataset = loader()
    batches = npb.to_tf_dataset(dataset)
    assert batches.element_spec == dataset.to_tf_dataset().element_spec
    assert ids_of(batches) == epoch_of(dataset, 0)


def test_class_weights_weigh_as_in_training():
    dataset = arrays(class_weight={3: 5.0})
    assert {
        (int(y), float(w))
        for _, ys, ws in dataset.to_tf_dataset()
        for y, w in zip(ys, ws, strict=True)
    } == {(y, 5.0 if y == 3 else 1.0) for y in range(N)}


def test_padded_batches_weigh_as_in_fit():
    *_, (_, _, weights) = arrays(remainder="pad").to_tf_dataset()
    assert weights.numpy().tolist() == [4.0, 4.0, 0, 0, 0, 0, 0, 0]


def test_random_transforms_are_those_of_the_epoch_and_step():
    def noisy(batch, rng):
        x, y = batch
        return x + rng.random(x.shape, dtype="float32"), y

    dataset = arrays(transform=noisy, workers=3)
    batches = list(dataset.to_tf_dataset())
    for step, (x, _) in enumerate(batches):
        dataset.set_epoch(0)
        np.testing.assert_array_equal(x, dataset[step][0])


@made
@pytest.mark.parametrize("remainder", ["keep", "spread", "drop"])
def test_the_parts_of_a_split_are_epochs_of_their_rows(make, remainder):
    parts = make(200, remainder=remainder).split(0.7)
    for epoch in range(2):
        seen = [ids_of(part.to_tf_dataset()) for part in parts]
        assert seen == [epoch_of(part, epoch) for part in parts]
        if remainder != "drop":
            assert sorted(chain(*chain(*seen))) == list(range(200))


def test_the_options_leave_sharding_and_prefetching_to_the_user():
    options = loader().to_tf_dataset().options()
    policy = options.experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF
    assert options.experimental_optimization.inject_prefetch is False


def test_small_batches_of_arrays_are_made_several_at_once():
    dataset = ArrayDataset(np.arange(800, dtype="float32")[:, np.newaxis], batch_size=8, seed=0)
    batches = dataset.to_tf_dataset()
    core, calls = core_of(dataset), []
    core.gather = lambda rows: calls.append(len(rows)) or type(core).gather(core, rows)
    assert len(list(batches)) == 100
    assert calls == [800]


# -------------------------------------------------------------------- in functions, on disk


def test_inside_a_function_each_loop_is_an_epoch():
    dataset = loader()
    batches = dataset.to_tf_dataset()

    @tf.function
    def order():
        ids = tf.TensorArray(tf.int32, 0, dynamic_size=True, infer_shape=False)
        for _, y in batches:
            ids = ids.write(ids.size(), y)
        return ids.concat()

    for epoch in range(3):
        assert order().numpy().tolist() == [*chain(*epoch_of(dataset, epoch))]


def test_what_is_saved_is_an_epoch(tmp_path):
    dataset = loader()
    batches = dataset.to_tf_dataset()
    batches.save(str(tmp_path / "saved"))
    for _ in range(2):
        assert ids_of(tf.data.Dataset.load(str(tmp_path / "saved"))) == epoch_of(dataset, 0)
    kept = batches.snapshot(str(tmp_path / "snapshot"))
    for _ in range(2):
        assert ids_of(kept) == epoch_of(dataset, 1)
    assert dataset.epoch == 2


def test_an_iterator_can_not_be_saved(tmp_path):
    iterator = iter(loader().to_tf_dataset())
    next(iterator)
    with pytest.raises(tf.errors.FailedPreconditionError, match="stateful"):
        tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "checkpoint"))


# -------------------------------------------------------------------- lifetime


@pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eagerly", "in a function"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_dropped_early_holds_no_batch(workers, run):
    """The fixtures look for threads that are left; here for batches."""
    dataset = ArrayDataset(np.zeros((640, 2048), "float32"), batch_size=64, workers=workers)
    batches = dataset.to_tf_dataset()
    assert run(lambda: tf.reduce_sum(next(iter(batches))))().numpy() == 0
    assert _leases_left(dataset) == 0
    assert len(list(batches)) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iterator_that_has_given_its_last_batch_holds_none(workers):
    dataset = ArrayDataset(np.zeros((640, 2048), "float32"), batch_size=64, workers=workers)
    iterator = iter(dataset.to_tf_dataset())
    for _ in range(10):  # and not on to its end
        next(iterator)
    assert _leases_left(dataset) == 0
    del iterator


def _leases_left(dataset):
    deadline = time.monotonic() + 5
    while slots_of(dataset).num_leased and time.monotonic() < deadline:
        tf.constant(1.0) + 1.0  # TensorFlow drops references to Python's memory as it comes by
        gc.collect()
        time.sleep(0.01)
    return slots_of(dataset).num_leased


@pytest.mark.more
@pytest.mark.parametrize(
    ("how", "settings_"),
    [
        ("class_weight", "workers=1"),
        ("prefetch", "workers=0"),
        ("prefetch", "workers=0, take=9"),
    ],
)
def test_the_interpreter_ends_with_an_iterator_that_reads_ahead(how, settings_):
    """TensorFlow would wait for its thread, and that for Python."""
    script = f"""
import time
import keras, numpy as np
import keras_npbatch as npb

class Slow(npb.BatchDataset):
    def load(self, rows):
        time.sleep(0.02)
        return rows.astype("float32")[:, None], (rows % 2).astype("float32")[:, None]

class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            raise ZeroDivisionError

def make(take=None, **settings):
    return Slow(4000, batch_size=8, **settings).to_tf_dataset().take(take or -1)

model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile(loss="mse")
batches, arguments = make({settings_}), dict()
if "{how}" == "prefetch":
    batches = batches.prefetch(4)
else:
    arguments["class_weight"] = {{0: 1.0, 1: 2.0}}  # Keras adds a prefetch
model.fit(batches, verbose=0, callbacks=[Fail()], **arguments)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError"


@pytest.mark.more
@pytest.mark.parametrize("kind", ["npb.BatchDataset", "keras.utils.PyDataset"])
def test_the_interpreter_ends_though_a_batch_does_not(kind):
    script = f"""
import threading, time
import keras, numpy as np
import keras_npbatch as npb

hangs = threading.Event()

class Hanging({kind}):
    def __len__(self):
        return 500

    def __getitem__(self, index):
        if index == 9:
            hangs.set()
            time.sleep(600)
        return np.zeros((8, 1), "float32")

settings = dict(num_samples=4000, batch_size=8) if {kind} is npb.BatchDataset else dict()
iterator = iter(npb.to_tf_dataset(Hanging(workers=2, **settings)).prefetch(20))
next(iterator)
assert hangs.wait(30)
time.sleep(0.5)  # TensorFlow's thread comes to wait for that batch
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_debug_mode_of_tf_data_is_named():
    from tensorflow.python.data.ops import debug_mode

    debug_mode.toggle_debug_mode(True)
    try:
        with pytest.raises(tf.errors.UnknownError, match="enable_debug_mode"):
            list(loader().to_tf_dataset())
    finally:
        debug_mode.toggle_debug_mode(False)


def test_a_dataset_that_nothing_refers_to_is_let_go():
    dataset = loader()
    batches = dataset.to_tf_dataset()
    list(batches)
    alive = weakref.ref(dataset)
    del dataset, batches
    gc.collect()
    assert alive() is None


def test_an_iterator_keeps_what_it_needs():
    dataset = loader()
    expected = epoch_of(dataset, 0)
    iterator = iter(dataset.to_tf_dataset().map(lambda x, y: (x, y)))
    del dataset
    gc.collect()
    assert ids_of(iterator) == expected


def test_tensorflow_is_asked_for_by_name_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError) as caught:
        loader().to_tf_dataset()
    assert str(caught.value) == (
        "to_tf_dataset needs TensorFlow, which is not installed; "
        "pip install 'keras_npbatch[tensorflow]'"
    )


def test_something_else_is_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        npb.to_tf_dataset(np.zeros((3, 2)))
    assert str(caught.value) == (
        "dataset is ndarray of shape (3, 2) and dtype float64; expected a keras.utils.PyDataset. "
        "Make one of arrays: keras_npbatch.ArrayDataset(x, y)."
    )


def test_samples_and_functions_of_samples_are_batches_of_tensors_too():
    samples = [({"ids": [row, row + 1], "text": f"{row}"}, row) for row in range(N)]

    def shift(sample, rng):
        x, y = sample
        return {**x, "noise": rng.random()}, y

    dataset = SampleDataset.of(samples, batch_size=BATCH, seed=3, augment=[each(shift)])
    batches = dataset.to_tf_dataset()
    expected = list(SampleDataset.of(samples, batch_size=BATCH, seed=3, augment=each(shift)))
    for (x, y), (there, rows) in zip(batches.as_numpy_iterator(), expected, strict=True):
        assert y.tolist() == rows.tolist()
        assert x["ids"].tolist() == there["ids"].tolist()
        assert [text.decode() for text in x["text"]] == there["text"].tolist()
        assert x["noise"].tobytes() == there["noise"].tobytes()
    x, y = next(dataset.to_tf_dataset(call="predict").as_numpy_iterator())
    assert "noise" not in x
    assert y.tolist() == list(range(BATCH))
