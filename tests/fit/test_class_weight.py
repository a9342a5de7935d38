"""`fit(class_weight=...)` weighs training as it does with a `keras.utils.PyDataset`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, callbacks, errors
from tests.keras_loaders import Numbers, WholeNumbers

N, BATCH = 50, 8
WEIGHTS = {0: 2.0, 3: 0.0, 40: 5.5}


class Plain(keras.utils.PyDataset):
    """The batches that a dataset has in its first epoch, for Keras to weigh."""

    def __init__(self, dataset):
        super().__init__()
        self.batches = [tuple(dataset[step][:2]) for step in range(len(dataset))]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def expected(ids, weights=WEIGHTS):
    return [weights.get(number, 1.0) for number in ids]


def classifier(one_hot=False):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(3, kernel_initializer="ones", activation="softmax")]
    )
    model.compile(
        "sgd", "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    )
    return model


@pytest.mark.parametrize("form", ["labels", "column", "floats", "one-hot"])
def test_it_trains_as_a_pydataset_does(form):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 1)).astype("float32")
    y = rng.integers(0, 3, N)
    y = {
        "labels": y,
        "column": y[:, np.newaxis],
        "floats": y.astype("float32"),
        "one-hot": np.eye(3, dtype="float32")[y],
    }[form]
    dataset = ArrayDataset(x, y, batch_size=BATCH, seed=0)
    ours, theirs = (classifier(form == "one-hot") for _ in range(2))
    arguments = {"class_weight": {0: 1.0, 1: 5.0}, "verbose": 0}
    if keras.version().startswith("3.7."):  # which loses a batch of a PyDataset in the first fit
        rows = np.concatenate([dataset.rows(step, 0) for step in range(len(dataset))])
        theirs.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, **arguments)
    else:
        theirs.fit(Plain(dataset), shuffle=False, **arguments)
    ours.fit(dataset, **arguments)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    "workers",
    [{"workers": 0}, {"workers": 3}, {"workers": 2, "use_multiprocessing": True}],
    ids=["inline", "threads", "processes"],
)
@pytest.mark.parametrize("make", [Numbers, WholeNumbers], ids=["load", "__getitem__"])
def test_the_model_sees_the_weights_of_training_alone(make_model, fit, make, workers):
    with make(**workers) as dataset:
        model = make_model(weighted=True)
        seen = fit(model, dataset, epochs=2, class_weight=WEIGHTS, validation_data=dataset)
        for ids, weights in zip(seen.epochs, seen.weights, strict=True):
            assert sorted(ids) == list(range(N))
            assert weights == expected(ids)
        assert seen.validations == [list(range(N))] * 2
        log = model.metrics_flat[-1]
        weights = keras.ops.convert_to_numpy(log.weights)[N : 2 * N]
        np.testing.assert_array_equal(weights, np.ones(N))  # those of the first validation
        # Nothing of it stays: neither in iterations, nor in another fit, nor in its workers.
        assert [len(batch) for batch in dataset] == [2] * len(dataset)
        seen = fit(make_model(weighted=True), dataset, class_weight={7: 3.0})
        assert seen.weights[0] == expected(seen.epochs[0], {7: 3.0})
        seen = fit(make_model(weighted=True), dataset)
        assert seen.weights[0] == [1.0] * N


def test_more_classes_than_a_message_to_a_worker_could_hold(make_model, fit):
    many = {number: float(number % 3) for number in range(20_000)}
    dataset = Numbers(workers=2, use_multiprocessing=True)
    seen = fit(make_model(weighted=True), dataset, class_weight=many)
    assert seen.weights[0] == expected(seen.epochs[0], many)


def test_padded_rows_weigh_nothing_and_the_loss_is_that_of_the_real_ones(make_model, fit):
    kept, padded = (Numbers(remainder=remainder) for remainder in ("keep", "pad"))
    losses = []
    for dataset in (kept, padded):
        model = make_model(weighted=True, learning_rate=0.0)
        seen = fit(model, dataset, class_weight=WEIGHTS)
        losses.append(seen)
    ids, weights = losses[1].epochs[0], losses[1].weights[0]
    assert len(ids) == 56
    assert weights[:48] == expected(ids[:48])
    # Keras divides by the size of the batch, so the two real rows of the last weigh 8 / 2 times.
    assert weights[48:] == [4 * weight for weight in expected(ids[48:50])] + [0.0] * 6


def test_a_resumed_epoch_is_weighed_too(make_model, fit):
    dataset = Numbers()
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=4))
    seen = fit(make_model(weighted=True), dataset, epochs=2, class_weight=WEIGHTS)
    assert [len(ids) for ids in seen.epochs] == [N - 4 * BATCH, N]
    assert seen.weights == [expected(ids) for ids in seen.epochs]


def test_a_report_of_a_nan_makes_the_weighed_batch_again(make_model, fit, tmp_path):
    class Bad(Numbers):
        def load(self, rows):
            x, y = super().load(rows)
            x[rows == 40] = np.nan
            return x, y

    report = callbacks.NaNReport(Bad(), tmp_path)
    with pytest.raises(errors.NonFiniteError):
        fit(make_model(), report.dataset, class_weight=WEIGHTS, callbacks=[report])
    x, y, weights = callbacks.replay(tmp_path, Bad())
    assert np.isnan(x[y == 40]).all()
    assert weights.tolist() == expected(y.tolist())


REFUSED = [
    (
        {"a": 1.0},
        errors.InvalidArgumentError,
        "class_weight has the key 'a' (str); expected class numbers as they are in y, whole "
        "numbers. Number the classes: names, y = np.unique(labels, return_inverse=True).",
    ),
    (
        [1.0, 2.0],
        errors.InvalidArgumentError,
        "class_weight is [1.0, 2.0] (list); expected a dict from class number to weight, such as "
        "{0: 1.0, 1: 5.0}, or for several outputs a dict from the name of an output to such a "
        "dict.",
    ),
    (
        {0: -1.0},
        errors.InvalidArgumentError,
        "class_weight[0] is -1.0 (float); expected a finite number from 0 up.",
    ),
]


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED, ids=["key", "list", "negative"])
def test_what_is_no_class_weight_is_refused(make_model, given, kind, message):
    with pytest.raises(kind) as caught:
        make_model().fit(Numbers(), class_weight=given, verbose=0)
    assert str(caught.value) == message


def test_weights_that_are_there_already_are_refused_before_the_first_batch(make_model, data):
    x, y = data(N)
    for dataset, message in (
        (
            ArrayDataset(x, y, class_weight={0: 2.0}),
            "fit(class_weight=...) was given with the dataset (ArrayDataset), which has "
            "class_weight itself; expected one of them. Leave the one of fit out, or make the "
            "dataset without.",
        ),
        (
            ArrayDataset(x, y, np.ones(N)),
            "fit(class_weight=...) was given with the dataset (ArrayDataset), which has a "
            "sample_weight; expected one of them. Multiply the class weights into sample_weight.",
        ),
    ):
        with pytest.raises(errors.UnsupportedArgumentError) as caught:
            make_model().fit(dataset, class_weight=WEIGHTS, verbose=0)
        assert str(caught.value) == message
        assert dataset.epoch == 0


@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_weights_of_a_loader_are_refused_at_its_first_batch(make_model, remainder):
    message = (
        "class_weight was given, and the batches have a sample_weight; expected one of them. "
        "Multiply the class weights into sample_weight."
    )
    with pytest.raises(errors.InvalidBatchError) as caught:
        make_model().fit(
            Numbers(weighted=True, remainder=remainder), class_weight=WEIGHTS, verbose=0
        )
    assert str(caught.value) == message
    assert "raised by class_weight at epoch 0, step 0" in caught.value.__notes__[0]


def test_targets_that_are_no_one_array_of_classes_are_refused(make_model, data):
    x, y = data(N)
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make_model().fit(ArrayDataset(x, {"a": y, "b": y}), class_weight=WEIGHTS, verbose=0)
    assert str(caught.value) == (
        "class_weight needs one array of class labels in y, which is a dict. With several outputs, "
        "give the weights of each, nested as y is: {'a': {0: 1.0, 1: 5.0}, 'b': None}."
    )
    with pytest.raises(errors.InvalidArgumentError, match="class labels in y, which is None"):
        make_model().fit(ArrayDataset(x), class_weight=WEIGHTS, verbose=0)
