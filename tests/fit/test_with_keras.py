"""What else Keras offers works on a dataset as it does on arrays."""

from __future__ import annotations

import threading

import keras
import numpy as np
import psutil
import pytest
from keras import ops

from keras_npbatch import ArrayDataset, BatchDataset

N, BATCH = 50, 8


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3)).astype("float32")
    return x, x.sum(axis=1, keepdims=True) + rng.normal(size=(N, 1)).astype("float32")


def make_dense(**compile_arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.05), "mse", **compile_arguments)
    return model


def make_callbacks(kind, folder):
    if kind == "stops early":
        return [keras.callbacks.EarlyStopping("loss", min_delta=0.5, restore_best_weights=True)]
    if kind == "lowers the learning rate":
        return [keras.callbacks.ReduceLROnPlateau("val_loss", min_delta=0.5, patience=1)]
    if kind == "sets the learning rate":
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1))]
    path = str(folder / "best.weights.h5")
    settings = {"save_best_only": True, "save_weights_only": True, "save_freq": "epoch"}
    return [keras.callbacks.ModelCheckpoint(path, "val_loss", **settings)]


@pytest.mark.parametrize(
    "kind",
    ["stops early", "lowers the learning rate", "sets the learning rate", "keeps the best weights"],
)
def test_a_callback_does_what_it_does_with_arrays(arrays, tmp_path, kind):
    histories, models = [], []
    for name in ("arrays", "ours"):
        folder = tmp_path / name
        folder.mkdir()
        x, y = arrays
        settings = {"epochs": 4, "verbose": 0, "callbacks": make_callbacks(kind, folder)}
        model = make_dense()
        if name == "arrays":
            data = {"x": x, "y": y, "batch_size": BATCH, "shuffle": False}
            found = model.fit(**data, validation_data=(x[:20], y[:20]), **settings)
        else:
            validation = ArrayDataset(x[:20], y[:20], batch_size=BATCH)
            dataset = ArrayDataset(x, y, batch_size=BATCH, shuffle=False)
            found = model.fit(dataset, validation_data=validation, **settings)
        if kind == "keeps the best weights":
            model.load_weights(folder / "best.weights.h5")
        histories.append(found)
        models.append(model)
    theirs, ours = histories
    assert ours.epoch == theirs.epoch
    for key, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[key], values, rtol=1e-5)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_early_stopping_restores_the_best_epoch_with_workers(make_model, fit, data):
    stop = keras.callbacks.EarlyStopping("loss", patience=1, mode="max", restore_best_weights=True)
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=0, workers=2, transform=lambda b: b)
    seen = fit(make_model(), dataset, epochs=9, callbacks=[stop])
    assert len(seen.epochs) == stop.stopped_epoch + 1 < 9
    assert all(sorted(ids) == list(range(N)) for ids in seen.epochs)


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_each_sample_comes_once_however_the_step_runs(make_model, fit, data, how, backend):
    if how.get("jit_compile") and backend == "torch":
        pytest.skip("torch.compile takes long, and warns of itself")
    dataset = ArrayDataset(*data(20), batch_size=BATCH, seed=1, workers=2, transform=lambda b: b)
    seen = fit(make_model(**how), dataset, epochs=2)
    for epoch, ids in enumerate(seen.epochs):
        rows = [dataset.rows(step, epoch) for step in range(len(dataset))]
        assert ids == np.concatenate(rows).tolist()


def test_mixed_precision_trains_as_with_arrays(arrays):
    x, y = arrays
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        ours, theirs = make_dense(), make_dense()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    ours.fit(ArrayDataset(x, y, batch_size=BATCH, shuffle=False), epochs=2, verbose=0)
    theirs.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("kind", ["dataset", "part of a split"])
def test_a_layer_adapts_to_all_samples(arrays, kind, backend):
    if backend != "tensorflow":
        pytest.skip("Keras imports TensorFlow for it, which takes long")
    if "PyDataset" not in keras.layers.Normalization.adapt.__doc__:
        pytest.skip("this Keras adapts to arrays and tf.data alone")
    x, _ = arrays
    x = x * 3 + 7
    dataset = ArrayDataset(x, batch_size=BATCH, seed=1)
    rows = np.arange(N)
    if kind == "part of a split":
        dataset, _ = dataset.split(0.5)
        rows = dataset.rows_in_order()
    layer = keras.layers.Normalization()
    layer.adapt(dataset)
    normal = ops.convert_to_numpy(layer(x[rows]))
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normal.std(axis=0), 1, atol=1e-3)


class OwnLoss(keras.Model):
    """Its loss is of its inputs alone; counts what it is given."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen = keras.metrics.Sum("seen")

    def call(self, x):
        return self.dense(x["only"] if isinstance(x, dict) else x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        assert y is None
        self.seen.update_state(x["only"] if isinstance(x, dict) else x)
        return ops.mean(ops.square(y_pred))


@pytest.mark.parametrize("batch", [lambda x: x, lambda x: (x,), lambda x: {"only": x}])
def test_data_without_targets_train_a_model_with_a_loss_of_its_own(batch):
    class Inputs(BatchDataset):
        def load(self, rows):
            return batch(rows[:, np.newaxis].astype("float32"))

    model = OwnLoss()
    model.compile("sgd")
    dataset = Inputs(N, batch_size=BATCH, workers=2)
    found = model.fit(dataset, epochs=2, verbose=0)
    assert found.history["seen"] == [sum(range(N))] * 2
    assert model.predict(dataset, verbose=0).shape == (N, 1)


@pytest.mark.parametrize("form", ["object", "str", "bytes"])
def test_texts_train_a_model_that_reads_texts(backend, form):
    if backend != "tensorflow":
        pytest.skip("no other backend has tensors of texts")
    texts = [f"word{i % 5} thé {i}" for i in range(24)]
    encoded = [text.encode() for text in texts]
    array = {"object": np.array(texts, object), "str": np.array(texts), "bytes": np.array(encoded)}
    lookup = keras.layers.StringLookup(vocabulary=texts, num_oov_indices=1)
    inputs = keras.Input((), dtype="string")
    embedded = keras.layers.Embedding(25, 1)(lookup(inputs))
    model = keras.Model(inputs, embedded)
    model.compile("sgd", "mse")
    dataset = ArrayDataset(array[form], np.zeros((24, 1), "float32"), batch_size=7, seed=0)
    model.fit(dataset, verbose=0)
    found = keras.Model(inputs, lookup(inputs)).predict(dataset, verbose=0)
    assert found.tolist() == list(range(1, 25))


def test_sparse_batches_of_jax_train_on_tensorflow(backend):
    if backend != "tensorflow":
        pytest.skip("Keras takes them there alone, beside JAX itself")
    jax_sparse = pytest.importorskip("jax.experimental.sparse")
    dense = np.eye(3, dtype="float32")[np.arange(N) % 3]

    class Sparse(BatchDataset):
        def load(self, rows):
            x = jax_sparse.BCOO.fromdense(dense[rows])
            return x, np.zeros((len(rows), 1), "float32")

    model, dataset = make_dense(), Sparse(N, batch_size=BATCH, seed=0)
    model.fit(dataset, verbose=0)
    found = model.predict(dataset, verbose=0)
    expected = ops.convert_to_numpy(model(dense))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_many_epochs_leave_no_thread_and_no_file(make_model, data):
    process, figures = psutil.Process(), []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            figures.append((process.num_fds(), threading.active_count()))

    dataset = ArrayDataset(*data(N), batch_size=10, workers=2, transform=lambda batch: batch)
    make_model().fit(dataset, validation_data=dataset, epochs=40, verbose=0, callbacks=[Count()])
    for counted in zip(*figures, strict=True):
        assert max(counted) - min(counted) < 20, "one more an epoch would be 39"
