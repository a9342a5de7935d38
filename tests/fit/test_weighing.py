"""Sample weights for padded batches leave their rows out of every loss and metric of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import metrics

from keras_npbatch.batches.parts import Parts, pack, pad, unpack
from keras_npbatch.fit.weighing import Weighing
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.in_order import InOrder
from tests import keras_tasks
from tests.keras_tasks import CLASSES, LABELS, LOSSES, REGRESSION, metrics_of


def model_of(shape, tasks, losses, weighted_metrics=None, nest=list):
    """A compiled model with an output for each task."""
    inputs = keras.Input((*shape, 2))
    outputs = [keras.layers.Dense(task.units, task.activation)(inputs) for task in tasks]
    if len(outputs) == 1:
        nested, losses = outputs[0], losses[0]
        weighted_metrics = weighted_metrics and weighted_metrics[0]
    elif nest is dict:
        names = [f"output_{number}" for number in range(len(outputs))]
        nested, losses = (
            dict(zip(names, outputs, strict=True)),
            dict(zip(names, losses, strict=True)),
        )
    else:
        nested = nest(outputs)
    model = keras.Model(inputs, nested)
    model.compile("sgd", losses, weighted_metrics=weighted_metrics)
    return model


def weighed(model, parts, batch_size, kind="fit", shard=(0, 1)):
    """The only batch of a padded epoch, as the model is given it."""
    rows = len(parts.x)
    plan = Plan(num_samples=rows, batch_size=batch_size, remainder="pad", sampler=InOrder())
    batch = pack(pad(parts, rows, batch_size))
    return unpack(Weighing(kind, model)(plan, batch, 0), "a test")


def value_of(metric, *given):
    metric.reset_state()
    metric.update_state(*given)
    return np.asarray(metric.result())


SHAPES = [(), (1,), (3,), (4,), (4, 1), (1, 4), (3, 4), (4, 4), (2, 3, 4)]
DRAWN = st.tuples(
    st.sampled_from(LOSSES),
    st.sampled_from(SHAPES),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([None, "sample", "first axis", "position"]),
    st.integers(0, 2**32 - 1),
)


def check_a_padded_batch(task_and_loss, shape, rows, added, weights, seed):
    task, loss = task_and_loss
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(rows, *shape, 2)).astype("float32")
    y = task.targets(rng, (rows, *shape))
    axes = {"sample": (), "first axis": shape[:1], "position": shape}.get(weights, ())
    given_weights = None if weights is None else rng.uniform(0.5, 2, (rows, *axes))
    loss, weighted = loss(), metrics_of(task, shape)
    if weights in ("first axis", "position") and shape:
        # Keras's other metrics take weights of samples alone.
        weighted = [m for m in weighted if isinstance(m, metrics.MeanMetricWrapper)]
    if rows == 1:  # which has no variance, so no R2: rounding alone would be compared
        weighted = [m for m in weighted if not isinstance(m, metrics.R2Score)]
    model = model_of(shape, [task], [loss], [weighted])
    padded = weighed(model, Parts(x, y, given_weights), rows + added)
    predicted = task.targets(rng, (rows, *shape))
    if task in (LABELS, keras_tasks.LABELS_WITH_AXIS):
        predicted = rng.uniform(0.1, 1, (rows, *shape, CLASSES))
    predicted = (0.2 + 0.6 * predicted / max(1, np.abs(predicted).max())).astype("float32")
    again = np.concatenate([predicted] * (1 + added))[: rows + added]
    real = None
    if given_weights is not None:  # of all axes, so that Keras can't misunderstand them
        values = loss.call(*map(keras.ops.convert_to_tensor, (y.astype("float32"), predicted)))
        axes = axes + (1,) * (len(values.shape) - 1 - len(axes))
        real = np.broadcast_to(given_weights.reshape(rows, *axes), values.shape)
        if task is REGRESSION and len(values.shape) == 1:
            real = given_weights.reshape(rows)
    expected = loss(y, predicted, real)
    np.testing.assert_allclose(
        loss(padded.y, again, padded.sample_weight), expected, rtol=1e-4, atol=1e-6
    )
    for metric in weighted:
        told = value_of(metric, padded.y, again, padded.sample_weight)
        if isinstance(metric, keras_tasks.COUNTS):
            told = told * rows / (rows + added)
        np.testing.assert_allclose(
            told, value_of(metric, y, predicted, real), rtol=1e-4, atol=1e-5, err_msg=metric.name
        )


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # OneHotIoU on JAX
@settings(max_examples=15)
@given(DRAWN)
def test_a_padded_batch_has_the_loss_and_metrics_of_its_rows(drawn):
    check_a_padded_batch(*drawn)


@pytest.mark.more
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
@settings(max_examples=30 if keras.backend.backend() == "jax" else 100)  # it compiles each
@given(DRAWN)
def test_a_padded_batch_has_the_loss_and_metrics_of_its_rows_at_length(drawn):
    check_a_padded_batch(*drawn)


def test_a_model_that_cannot_be_traced_is_told_where_rows_are_padded():
    def broken(target, prediction):
        raise ValueError("not today")

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", broken)
    parts = Parts(np.ones((3, 2), "f4"), np.ones((3, 1), "f4"), np.ones(3, "f4"))
    with pytest.warns(UserWarning, match=r"(?s)could not be traced \(ValueError: .*not today"):
        assert weighed(model, parts, 4).sample_weight.shape == (4,)
    weighed(model, parts, 3)  # no row is padded: no warning, which would be an error here
