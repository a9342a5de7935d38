"""`augment` is for training alone; `load(rows, rng)` draws the same numbers in any worker."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, errors
from tests.keras_loaders import MARKED, Drawing, Ids, mark

N, BATCH = 50, 8

WORKERS = {
    "no worker": {"workers": 0},
    "a thread": {"workers": 1},
    "threads": {"workers": 3},
    "processes": {"workers": 2, "use_multiprocessing": True},
}


def make(kind, data, **settings):
    if kind == "arrays":
        return ArrayDataset(*data(N), batch_size=BATCH, seed=3, **settings)
    return Ids(N, batch_size=BATCH, seed=3, **settings)


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        ("arrays", "no worker"),
        ("arrays", "a thread"),
        ("loader", "threads"),
        ("loader", "processes"),
    ],
)
def test_training_alone_is_augmented(make_model, fit, data, kind, workers):
    """Also where the dataset that is trained on is validated with."""
    dataset = make(kind, data, augment=mark, **WORKERS[workers])
    model = make_model(built=True)
    seen = fit(model, dataset, validation_data=dataset, epochs=2)
    assert [sorted(ids) for ids in seen.epochs] == [[MARKED + i for i in range(N)]] * 2
    assert seen.validations == [list(range(N))] * 2
    np.testing.assert_array_equal(
        model.predict(dataset, verbose=0), model.predict(data(N)[0], verbose=0)
    )


@pytest.mark.parametrize("kind", ["arrays", "loader"])
def test_the_parts_of_a_split_are_augmented_in_training_alone(make_model, fit, data, kind):
    train, validation = make(kind, data, augment=mark).split(0.8)
    seen = fit(make_model(), train, validation_data=validation)
    assert sorted(seen.epochs[0]) == (MARKED + train.rows_in_order()).tolist()
    assert seen.validations == [validation.rows_in_order().tolist()]


def test_augment_comes_after_the_transform_and_before_weights_and_padding(make_model, fit, data):
    dataset = make(
        "arrays",
        data,
        transform=lambda batch: (batch[0], batch[1] * 2),
        augment=lambda batch: (batch[0], batch[1] + 1),
        class_weight={label: float(label) for label in range(2 * N + 1)},
        remainder="pad",
    )
    seen = fit(make_model(weighted=True), dataset, validation_data=dataset)
    full = len(dataset) * BATCH - BATCH  # the weights of the padded batch are scaled
    ids, weights = np.array(seen.epochs[0]), np.array(seen.weights[0])
    expected = np.concatenate([dataset.rows(step, 0) for step in range(len(dataset))]) * 2 + 1
    np.testing.assert_array_equal(ids[:N], expected)
    np.testing.assert_array_equal(weights[:full], expected[:full])
    assert sorted(set(seen.validations[0])) == [2 * i for i in range(N)]


@pytest.mark.parametrize(
    ("workers", "remainder"),
    [
        ("a thread", "keep"),
        ("a thread", "drop"),
        ("no worker", "pad"),
        ("threads", "pad"),
        ("processes", "pad"),
        ("a thread", "spread"),
    ],
)
def test_batches_for_evaluate_are_those_that_evaluate_reads(make_model, data, workers, remainder):
    settings = {"augment": mark, "class_weight": {1: 3.0}, "remainder": remainder}
    dataset = make("arrays", data, **settings, **WORKERS[workers])
    model = make_model(weighted=True)
    (log,) = model_logs(model, dataset)
    read_by_evaluate = [
        keras.ops.convert_to_numpy(values)[: int(log.written)] for values in (log.ids, log.weights)
    ]
    batches = dataset.batches_for("evaluate")
    with dataset:
        for _ in range(2):  # as often as asked for
            ids, weights = [], []
            for step, batch in enumerate(batches):
                _, y = batch  # without a shard, evaluate reads a short last batch: none is padded
                ids.append(y)
                weights.append(np.ones(len(y)))
                again = batches[step]
                np.testing.assert_array_equal(again[1], y)
                np.testing.assert_array_equal(batches.rows(step), y, strict=False)
            np.testing.assert_array_equal(np.concatenate(ids), read_by_evaluate[0])
            np.testing.assert_array_equal(
                np.concatenate(weights).astype("float32"), read_by_evaluate[1]
            )
    assert len(batches) == len(ids)
    assert dataset.epoch == 0


def model_logs(model, dataset):
    model.evaluate(dataset, verbose=0)
    return [metric for metric in model.metrics_flat if metric.name == "log"]


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_batches_for_predict_hold_each_row_once(data, remainder):
    train, rest = make("arrays", data, augment=mark, remainder=remainder).split(0.7)
    for part in (train, rest):
        read = [y for _, y, *_ in part.batches_for("predict")]
        np.testing.assert_array_equal(np.concatenate(read), part.rows_in_order())


def test_batches_for_refuses_what_is_no_such_call(data):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make("arrays", data).batches_for("fit")
    assert str(caught.value) == (
        "call is 'fit' (str); expected 'evaluate' or 'predict'. Validation reads what "
        "'evaluate' reads; fit, what `for batch in dataset` gives."
    )
    batches = make("arrays", data).batches_for("evaluate")
    for wrong in (len(batches), -len(batches) - 1):
        with pytest.raises(IndexError, match=rf"there is no batch {wrong}: there are 7, from 0 up"):
            batches[wrong]
    with pytest.raises(TypeError, match="index is 'a'"):
        batches["a"]
    np.testing.assert_array_equal(batches[-1][1], batches[6][1])


def test_a_random_transform_that_a_split_shares_is_warned_of(data):
    dataset = make("arrays", data, transform=mark)
    with pytest.warns(UserWarning, match="draws random numbers") as caught:
        dataset.split(0.8)
    assert [str(warning.message) for warning in caught] == [
        "the transform of the ArrayDataset draws random numbers, and every part of a split applies "
        "it, validation too. If it is augmentation, give it as augment=, which training alone "
        "applies."
    ]
    make("arrays", data, transform=lambda batch: batch).split(0.8)  # no warning


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_load_draws_by_seed_epoch_and_step(make_model, fit, workers):
    """So the same in any worker and run, and others in each epoch and batch."""
    dataset = Drawing(N, batch_size=BATCH, seed=1, **workers)
    seen = fit(make_model(), dataset, epochs=2)
    expected = Drawing(N, batch_size=BATCH, seed=1, workers=0)
    for epoch in range(2):
        expected.set_epoch(epoch)
        drawn = np.concatenate([expected[step][1] for step in range(len(expected))])
        assert seen.epochs[epoch] == drawn.tolist()
    assert len({*seen.epochs[0], *seen.epochs[1]}) > 2 * N - 3
    other = Drawing(N, batch_size=BATCH, seed=2)
    assert not np.array_equal(other[0][1], expected[0][1])


def test_load_in_evaluate_draws_the_same_each_time(make_model):
    dataset = Drawing(N, batch_size=BATCH, seed=1, remainder="pad")
    first, second = ([y for _, y in dataset.batches_for("evaluate")] for _ in range(2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_the_three_streams_differ(data):
    """Else a loader and an augmentation would make the same decisions."""
    drawn = {}

    def note(name):
        def function(batch, rng):
            drawn[name] = rng.integers(0, 2**62, 4).tolist()
            return batch

        return function

    class Noting(BatchDataset):
        def load(self, rows, rng):
            return note("load")((rows, rows), rng)

    dataset = Noting(N, seed=0, transform=note("transform"), augment=note("augment"), workers=0)
    dataset[0]
    assert len({tuple(numbers) for numbers in drawn.values()}) == len(drawn) == 3


def test_what_draws_needs_the_seed_of_the_state(data):
    """A state of another seed would go on with other numbers."""
    for dataset in (
        make("arrays", data, augment=mark, shuffle=False),
        Drawing(N, seed=3, shuffle=False),
    ):
        assert dataset.state_dict()["dataset"]["seed"] == 3
    assert make("arrays", data, shuffle=False).state_dict()["dataset"]["seed"] is None
    state = make("arrays", data, augment=mark).state_dict()
    with pytest.raises(errors.InvalidStateError, match="augment was 'mark' and is None"):
        make("arrays", data).load_state_dict(state)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            3,
            "augment is 3 (int); expected a function of the batch: augment(batch) or "
            "augment(batch, rng).",
        ),
        (
            lambda batch, rng, more: batch,
            "augment takes the parameters (batch, rng, more); expected augment(batch) or "
            "augment(batch, rng). Bind further arguments with functools.partial.",
        ),
    ],
)
def test_what_is_no_augmentation_is_refused(data, augment, message):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make("arrays", data, augment=augment)
    assert str(caught.value) == message


def test_load_of_other_parameters_is_refused():
    class Loading(BatchDataset):
        def load(self, rows, rng, more):
            return rows

    with pytest.raises(errors.InvalidArgumentError) as caught:
        Loading(N)
    assert str(caught.value) == (
        "Loading.load takes the parameters (rows, rng, more); expected Loading.load(rows) or "
        "Loading.load(rows, rng). Keep what else it needs in attributes of the dataset."
    )


def test_an_exception_in_augment_names_it(make_model, fit, data):
    def fail(batch):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as caught:
        fit(make_model(), make("arrays", data, augment=fail))
    assert "raised by augment at epoch 0, step 0, rows" in caught.value.__notes__[0]


def test_an_exception_of_what_draws_tells_how_it_was_called(data):
    def parts(x, weights):  # takes the batch for x, and the generator for weights
        return x + 1, weights

    class Swapped(BatchDataset):
        def load(self, rng, rows):
            return np.zeros(3)[rows]

    for dataset, called in (
        (make("arrays", data, augment=parts), "augment(batch, rng)"),
        (make("arrays", data, transform=parts), "transform(batch, rng)"),
        (Swapped(N), "load(rows, rng)"),
    ):
        with pytest.raises((TypeError, IndexError)) as caught:
            dataset[0]
        assert f"raised by {called} at epoch 0, step 0, rows" in caught.value.__notes__[0]


def test_a_function_of_x_and_y_is_refused_before_it_is_called(data):
    def parts(x, y):
        return x + 1, y

    with pytest.raises(errors.InvalidArgumentError) as caught:
        make("arrays", data, augment=parts)
    assert str(caught.value) == (
        "augment takes the parameters (x, y); expected augment(batch) or augment(batch, rng): the "
        "second argument is a random generator. Take the batch apart in it: x, y = batch."
    )


def test_a_layer_of_keras_is_no_augmentation(data):
    layer = keras.layers.RandomFlip()
    for augment in (layer, keras.Sequential([layer])):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            make("arrays", data, augment=augment)
        assert str(caught.value) == (
            f"augment is a Keras layer ({type(augment).__name__}), which would be given the whole "
            "batch and draws random numbers of its own; expected augment(batch) or "
            "augment(batch, rng). Put the layer into the model, or write the augmentation with rng."
        )
