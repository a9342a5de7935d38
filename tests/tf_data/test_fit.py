"""`model.fit(dataset.to_tf_dataset())` is `model.fit(dataset)`, on every backend."""

from __future__ import annotations

from itertools import chain

import keras
import numpy as np
import pytest
from keras import ops

from keras_npbatch import ArrayDataset, BatchDataset

pytest.importorskip("tensorflow")

N, BATCH, EPOCHS = 50, 8, 3


class Loader(BatchDataset):
    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


def weights_of(model):
    return [ops.convert_to_numpy(variable).tobytes() for variable in model.trainable_variables]


def noisy(batch, rng):
    x, y = batch
    return x + rng.random(x.shape, dtype="float32"), y


@pytest.mark.parametrize(
    ("built", "through_load", "n", "settings"),
    [
        (False, False, N, {}),
        (True, False, N, {}),
        (True, True, N, {"workers": 2}),
        (False, True, N, {"remainder": "drop", "workers": 0}),
        (True, True, N, {"remainder": "spread", "shuffle": False}),
        (True, False, 48, {"transform": noisy}),
    ],
    ids=["arrays", "arrays, built", "workers", "drop", "spread", "random transform"],
)
def test_rows_and_weights_are_those_of_the_dataset(
    make_model, fit, data, built, n, settings, through_load
):
    runs = []
    for as_tf in (False, True):
        keras.utils.set_random_seed(0)
        settings = {"batch_size": BATCH, "seed": 3, **settings}
        dataset = Loader(n, **settings) if through_load else ArrayDataset(*data(n), **settings)
        model = make_model(built=built)
        seen = fit(
            model,
            dataset.to_tf_dataset() if as_tf else dataset,
            epochs=EPOCHS,
            # With a tf.data.Dataset Keras would ignore True, and warn of it.
            **({"shuffle": False} if as_tf else {}),
        )
        runs.append((seen.epochs, weights_of(model), dataset.epoch))
        assert seen.epochs == [
            np.concatenate(
                [dataset.rows(step, epoch) for step in range(dataset.num_batches)]
            ).tolist()
            for epoch in range(EPOCHS)
        ]
    assert runs[0] == runs[1]
    assert runs[0][2] == EPOCHS


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_padded_weights_and_class_weights_too(make_model, fit, data, built):
    for settings in ({"remainder": "pad"}, {"class_weight": {1: 3.0, 7: 0.5}}):
        runs = []
        for as_tf in (False, True):
            dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3, **settings)
            model = make_model(built=built, weighted=True)
            given = dataset.to_tf_dataset() if as_tf else dataset
            in_its_own_order = {} if given is dataset else {"shuffle": False}
            seen = fit(model, given, epochs=2, **in_its_own_order)
            runs.append((seen.epochs, seen.weights, weights_of(model)))
        assert runs[0] == runs[1]


def test_short_epochs_walk_one_order(make_model, fit, data):
    dataset = ArrayDataset(*data(48), batch_size=BATCH, seed=3)
    seen = fit(
        make_model(built=True),
        dataset.repeat().to_tf_dataset(),
        epochs=4,
        steps_per_epoch=4,
        shuffle=False,
    )
    walked = [dataset.rows(step % 6, step // 6).tolist() for step in range(16)]
    assert seen.epochs == [[*chain(*walked[start : start + 4])] for start in range(0, 16, 4)]


def test_evaluate_and_predict_read_what_is_not_shuffled(make_model, data):
    x, y = data(N)
    model = make_model(built=True)
    batches = ArrayDataset(x, y, batch_size=BATCH, shuffle=False).to_tf_dataset()
    np.testing.assert_allclose(
        model.predict(batches, verbose=0), model.predict(x, verbose=0), rtol=1e-6
    )
    np.testing.assert_allclose(
        model.evaluate(batches, verbose=0)[0], model.evaluate(x, y, verbose=0)[0], rtol=1e-5
    )


@pytest.mark.skipif(
    keras.version().startswith("3.7."),
    reason="Keras 3.7: JAX can't take None from tf.data; see docs/limits.md",
)
def test_no_targets_are_no_trouble(data):
    class Reconstruction(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            out = self.dense(x)
            self.add_loss(ops.mean(ops.square(out - x)))
            return out

    x, _ = data(N)
    weights = np.ones(N, "float32")
    losses = []
    for batches in (
        ArrayDataset(x, batch_size=BATCH, seed=3).to_tf_dataset(),
        ArrayDataset(x, None, weights, batch_size=BATCH, seed=3).to_tf_dataset(),
    ):
        keras.utils.set_random_seed(1)
        model = Reconstruction()
        model.compile("sgd")
        losses.append(model.fit(batches, verbose=0, shuffle=False).history["loss"])
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0]).all()


def test_an_error_in_fit_tells_what_and_where(make_model):
    class Broken(Loader):
        def load(self, rows):
            if 13 in rows:
                raise ValueError("sample-13.png is broken")
            return super().load(rows)

    import tensorflow as tf

    dataset = Broken(N, batch_size=BATCH, seed=1, workers=2)
    batches = dataset.to_tf_dataset(
        (tf.TensorSpec((None, 1), tf.float32), tf.TensorSpec((None,), tf.int32))
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        make_model(built=True).fit(batches, verbose=0, shuffle=False)
    step, _ = dataset.locate(13, epoch=0)
    assert "ValueError: sample-13.png is broken" in str(caught.value)
    assert f"keras_npbatch: raised by load(rows) at epoch 0, step {step}, rows [" in str(
        caught.value
    )


def test_a_loop_of_ones_own_trains_alike(backend):
    if backend != "tensorflow":
        pytest.skip("tf.GradientTape")
    import tensorflow as tf

    def train(batches):
        kernel = tf.Variable([[0.5]])

        @tf.function
        def epoch():
            for x, y in batches:
                with tf.GradientTape() as tape:
                    predicted = (x / 50.0) @ kernel
                    loss = tf.reduce_mean(tf.square(predicted[:, 0] - tf.cast(y % 7, tf.float32)))
                kernel.assign_sub(0.1 * tape.gradient(loss, kernel))

        for _ in range(EPOCHS):
            epoch()
        return kernel.numpy().tobytes()

    def dataset(seed):
        return Loader(N, batch_size=BATCH, seed=seed, workers=2)

    batches = dataset(seed=3).to_tf_dataset()
    by_hand = dataset(seed=3)
    the_same = tf.data.Dataset.from_generator(
        lambda: iter(by_hand), output_signature=batches.element_spec
    )
    trained = train(batches)
    assert trained == train(the_same)
    assert trained != train(dataset(seed=4).to_tf_dataset())
