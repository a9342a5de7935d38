"""Whatever nesting of inputs, targets and weights Keras takes arrives as the arrays did."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, errors, sources

N, BATCH = 50, 8


def functional(outputs=("a", "b")):
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    joined = keras.layers.Concatenate()([first, second])
    heads = {
        name: keras.layers.Dense(1, kernel_initializer="ones", name=name)(joined)
        for name in outputs
    }
    return keras.Model({"first": first, "second": second}, heads)


@pytest.fixture
def nested():
    rng = np.random.default_rng(0)
    x = {
        "first": rng.normal(size=(N, 2)).astype("float32"),
        "second": rng.normal(size=(N, 3)).astype("float32"),
    }
    y = {name: rng.normal(size=(N, 1)).astype("float32") for name in ("a", "b")}
    w = {name: rng.random(N).astype("float32") for name in ("a", "b")}
    return x, y, w


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_dicts_of_inputs_outputs_and_weights_train_as_arrays_do(nested, weights, workers):
    x, y, w = nested
    sample_weight = w if weights else None
    models = [functional(), functional()]
    for model in models:
        model.compile("sgd", {"a": "mse", "b": "mae"})
    ours, theirs = models
    dataset = ArrayDataset(x, y, sample_weight, batch_size=BATCH, shuffle=False, workers=workers)
    ours.fit(dataset, epochs=2, verbose=0)
    settings = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0}
    theirs.fit(x, y, sample_weight=sample_weight, **settings)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    predicted = ours.predict(dataset, verbose=0)
    assert predicted.keys() == {"a", "b"}
    assert predicted["a"].shape == (N, 1)


@pytest.mark.parametrize("form", [tuple, list])
def test_tuples_and_lists_of_inputs(nested, form):
    x, y, _ = nested
    first, second = keras.Input((2,)), keras.Input((3,))
    joined = keras.layers.Concatenate()([first, second])
    model = keras.Model([first, second], keras.layers.Dense(1)(joined))
    model.compile("sgd", "mse")
    dataset = ArrayDataset(form((x["first"], x["second"])), y["a"], batch_size=BATCH)
    model.fit(dataset, verbose=0)
    assert model.predict(dataset, verbose=0).shape == (N, 1)


@pytest.mark.parametrize("nesting", ["array", "tuple", "dict"])
def test_missing_targets(nesting):
    """An autoencoder by add_loss: the batches have inputs alone."""

    class Loss(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    x = np.random.default_rng(0).normal(size=(N, 2)).astype("float32")
    inputs = {"array": x, "tuple": (x,), "dict": {"x": x}}[nesting]
    given = keras.Input((2,), name="x")
    output = Loss()(keras.layers.Dense(2)(given))
    model = keras.Model({"array": given, "tuple": (given,), "dict": {"x": given}}[nesting], output)
    model.compile("sgd")
    model.fit(ArrayDataset(inputs, batch_size=BATCH), verbose=0)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_loader_may_return_nothing_but_inputs_and_weights(sparse):
    class Weighted(BatchDataset):
        def load(self, rows):
            x = rows.astype("float32")[:, np.newaxis]
            return [x, x * 2, np.ones(len(rows), "float32")]  # a list is read as (x, y, w)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-5), "mse", weighted_metrics=["mae"])
    model.fit(Weighted(N, batch_size=BATCH), verbose=0)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int32", "bool", "float16", "float64", "int64", "uint32"]
)
def test_dtypes_of_inputs(dtype):
    x = np.random.default_rng(0).integers(0, 2, (N, 2)).astype(dtype)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    predicted = model.predict(ArrayDataset(x, batch_size=BATCH), verbose=0)
    np.testing.assert_allclose(predicted[:, 0], x.astype("float32").sum(1))


def test_transform_with_rng_gives_the_same_bytes_under_any_workers(make_model, fit, data):
    def augment(batch, rng):
        x, y = batch
        return x + rng.normal(size=x.shape).astype("float32"), y

    trained = []
    for workers in (0, 1, 4):
        model = make_model(built=True)
        dataset = ArrayDataset(
            *data(N), batch_size=BATCH, seed=0, transform=augment, workers=workers
        )
        fit(model, dataset, epochs=2)
        trained.append(model.get_weights())
    for weights in trained[1:]:
        for one, other in zip(trained[0], weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scipy_sparse_and_pandas_train(data):
    import pandas as pd
    import scipy.sparse

    x = np.eye(N, 5, dtype="float32")
    frame = pd.DataFrame({"u": np.arange(N, dtype="float32"), "v": np.arange(N) % 2})
    first, second = keras.Input((5,)), keras.Input((2,))
    model = keras.Model(
        [first, second], keras.layers.Dense(1)(keras.layers.Concatenate()([first, second]))
    )
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    dataset = ArrayDataset((scipy.sparse.csr_matrix(x), frame), frame["u"], batch_size=BATCH)
    model.fit(dataset, verbose=0)


def test_a_model_sees_the_columns_of_a_table_by_their_names():
    pa = pytest.importorskip("pyarrow")
    number = np.arange(N, dtype="float32")
    lists = np.random.default_rng(0).random((N, 3), "float32")
    columns = {
        "lists": pa.FixedSizeListArray.from_arrays(lists.ravel(), 3),
        "code": pa.array([f"text {row % 4}" for row in range(N)]).dictionary_encode(),
        "number": pa.array([None, *number[1:]], pa.float32()),
    }
    inputs = {
        "lists": keras.Input((3,), name="lists"),
        "code": keras.Input((1,), name="code"),
        "number": keras.Input((1,), name="number"),
    }
    outputs = keras.layers.Dense(1, kernel_initializer="ones")(
        keras.layers.Concatenate()(list(inputs.values()))
    )
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    table = sources.Filled(pa.table(columns), {"number": 0.0})
    dataset = ArrayDataset(table, pa.array(number), batch_size=BATCH)
    model.fit(dataset, verbose=0)
    expected = lists.sum(1) + np.arange(N) % 4 + number
    np.testing.assert_allclose(model.predict(dataset, verbose=0)[:, 0], expected, rtol=1e-5)


class Semi(BatchDataset):
    """Each labelled sample with three that have no label."""

    def __getitem__(self, index):
        rows = self.rows(index)
        more = (3 * rows[:, None] + np.arange(3)).reshape(-1)
        x = {"labelled": rows[:, None], "unlabelled": more[:, None]}
        return {name: value.astype("float32") for name, value in x.items()}, np.float32(rows)


class TwoKinds(keras.Model):
    """Its weights are the sums of what it saw of each kind."""

    def __init__(self):
        super().__init__()
        self.sums = self.add_weight(shape=(2,), initializer="zeros", trainable=False)
        self.head = keras.layers.Dense(1)

    def call(self, x, training=False):
        if training:
            seen = [keras.ops.sum(x[name]) for name in ("labelled", "unlabelled")]
            self.sums.assign_add(keras.ops.stack(seen))
        return self.head(x["labelled"])


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_unequal_length_are_taken_from_getitem_as_they_are(workers):
    dataset = Semi(40, batch_size=16, seed=0, workers=workers)
    assert [len(dataset[i][0]["unlabelled"]) for i in range(3)] == [48, 48, 24]
    model = TwoKinds()
    model.compile("sgd", "mse")
    model.fit(dataset, validation_data=dataset, verbose=0)
    sums = keras.ops.convert_to_numpy(model.sums)
    np.testing.assert_array_equal(sums, [np.arange(40).sum(), np.arange(120).sum()])
    assert model.predict(dataset, verbose=0).shape == (40, 1)


def test_what_getitem_returns_must_still_be_arrays():
    class Scalar(BatchDataset):
        def __getitem__(self, index):
            return np.zeros((4, 1)), 1.0

    with pytest.raises(errors.InvalidBatchError) as caught:
        next(iter(Scalar(8, batch_size=4, shuffle=False)))
    assert str(caught.value) == (
        "__getitem__(index) returned 1.0 (float) for y; expected an array whose first dimension "
        "counts the samples of the batch. Stack single samples (`np.stack`), turn lists into "
        "arrays (`np.asarray`), pad lists of different lengths (`keras.utils.pad_sequences`)."
    )
