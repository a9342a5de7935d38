"""Who asks for batches: told by Keras's own frames for any owner, and else not guessed."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras.src.trainers.epoch_iterator import EpochIterator

from keras_npbatch import ArrayDataset, BatchDataset, errors

N, BATCH = 50, 8
Trainer = next(kind for kind in keras.Model.__mro__ if kind.__name__.endswith("Trainer"))


class Mixed(Trainer, keras.layers.Dense):
    """A layer that can be trained, and is no `keras.Model`."""

    def __init__(self):
        keras.layers.Dense.__init__(self, 1, kernel_initializer="ones", use_bias=False)
        Trainer.__init__(self)


class Loader(BatchDataset):
    """Notes the rows it was asked for."""

    def __init__(self, **settings):
        super().__init__(N, batch_size=BATCH, seed=0, workers=0, **settings)
        self.asked = []

    def load(self, rows):
        self.asked.append(rows.tolist())
        return rows.astype("float32")[:, np.newaxis], (rows % 2).astype("int32")


def mixed():
    assert not isinstance(Mixed(), keras.Model)
    model = Mixed()
    model.compile("sgd", "mse")
    return model


def batches_of(dataset):
    return [dataset.rows(step, 0).tolist() for step in range(dataset.plan.num_batches)]


def test_a_trainer_that_is_no_model_is_served_as_one():
    dataset = Loader()
    model = mixed()
    model(np.zeros((1, 1), "float32"))
    model.fit(dataset, verbose=0)
    assert dataset.asked[-7:] == batches_of(dataset)
    assert dataset.epoch == 1


@pytest.mark.parametrize("remainder", ["keep", "pad", "drop", "spread"])
def test_its_predict_gives_every_row_once_in_order(remainder):
    model = mixed()
    predicted = model.predict(Loader(remainder=remainder), verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))


def test_its_evaluate_is_not_weighed():
    model, plain = mixed(), Loader(shuffle=False)
    weighed = Loader(shuffle=False, class_weight={1: 10.0})
    assert model.evaluate(weighed, verbose=0) == model.evaluate(plain, verbose=0)


def test_its_arguments_are_read():
    with pytest.raises(errors.UnsupportedArgumentError, match=r"^fit\(y=\.\.\.\) was given"):
        mixed().fit(Loader(), np.zeros(N), verbose=0)


class Own(keras.Sequential):
    """Overrides `fit` with the parameters that it likes."""

    def fit(self, data, *, order=True, **arguments):
        return super().fit(data, shuffle=order, **arguments)


class Same(keras.Sequential):
    """Overrides all three with Keras's parameters, and says something else to Keras."""

    def fit(self, x=None, *args, shuffle=False, **arguments):
        return super().fit(x, *args, shuffle=True, **arguments)

    def evaluate(self, x=None, **arguments):
        return super().evaluate(x, **arguments)

    def predict(self, x=None, **arguments):
        return super().predict(x, **arguments)


def wrapped(method):
    """As `mlflow.autolog` and others put themselves around a method."""

    @functools.wraps(method)
    def fit(self, *args, **arguments):
        return method(self, *args, **arguments)

    return fit


@pytest.mark.parametrize("kind", [Own, Same])
def test_overrides_and_wrappers_go_on_working(kind):
    layers = [keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)]

    class Wrapped(kind):
        fit = wrapped(kind.fit)

    model = Wrapped(layers)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    dataset = Loader(remainder="pad")
    shuffled = batches_of(dataset)
    model.fit(dataset, verbose=0)
    assert dataset.asked[-7:] == shuffled
    if kind is Own:
        model.fit(dataset, order=False, verbose=0)
        assert dataset.asked[-1] == [48, 49]
    predicted = model.predict(dataset, verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))
    model.evaluate(dataset, verbose=0)
    assert dataset.asked[-1] == [48, 49]


# -------------------------------------------------------------------- what can't be told

MESSAGE = (
    "Keras asks for batches, but it can't be told whether for fit, evaluate or predict, and the "
    "Loader has others for each of them, because of {}. Expected a call of model.fit, "
    "model.evaluate or model.predict. Call one of them, iterate over the dataset yourself, or make "
    "one without these settings."
)


def jitter(batch, rng):
    x, y = batch
    return x + rng.random(x.shape, "float32"), y


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({}, "shuffle=True"),
        ({"shuffle": False, "remainder": "pad"}, "remainder='pad'"),
        ({"shuffle": False, "remainder": "drop"}, "remainder='drop'"),
        ({"shuffle": False, "class_weight": {0: 2.0}}, "class_weight"),
        ({"shuffle": False, "augment": lambda batch: batch}, "augment"),
        ({"shuffle": False, "transform": jitter}, "random numbers in load or transform"),
        ({"shuffle": False, "shard": (0, 2), "remainder": "keep"}, "the shard"),
        ({"remainder": "pad", "class_weight": {}}, "shuffle=True, remainder='pad', class_weight"),
    ],
    ids=str,
)
def test_whatever_would_differ_between_the_calls_is_refused(settings, reasons):
    with pytest.raises(errors.AmbiguousCallError) as caught:
        EpochIterator(Loader(**settings))
    assert str(caught.value) == MESSAGE.format(reasons)


@pytest.fixture
def later_keras(backend):
    """A loop of Keras's that has no iterator over epochs which could be found."""
    name = {"jax": "get_jax_iterator", "torch": "get_torch_dataloader"}.get(backend)
    code = f"def loop(adapter): yield from adapter.{name or 'get_tf_dataset'}()"
    module = {"__name__": "keras.src.trainers.later"}
    exec(code, module)
    return module["loop"]


def test_a_later_keras_that_hides_who_asks_is_refused_too(later_keras):
    with pytest.raises(errors.AmbiguousCallError, match=r"because of shuffle=True\."):
        next(later_keras(Loader()))
    assert len(list(later_keras(Loader(shuffle=False)))) == 7


def test_a_position_within_an_epoch_is_refused_too():
    dataset = Loader(shuffle=False)
    dataset.load_state_dict(dataset.state_dict(epoch=0, step=2))
    with pytest.raises(errors.AmbiguousCallError) as caught:
        EpochIterator(dataset)
    assert str(caught.value) == MESSAGE.format("the position within an epoch (load_state_dict)")


@pytest.mark.parametrize("remainder", ["keep", "spread"])
def test_what_is_the_same_for_all_is_given(remainder):
    dataset = Loader(shuffle=False, remainder=remainder)
    seen = [batch[1].tolist() for *_, (batch,) in EpochIterator(dataset)]
    assert seen == [[row % 2 for row in rows] for rows in batches_of(dataset)]


@pytest.mark.parametrize("name", ["y", "sample_weight", "class_weight"])
def test_what_an_iterator_of_ones_own_would_ignore_is_refused(name):
    value = {0: 2.0} if name == "class_weight" else np.zeros(N)
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        EpochIterator(Loader(shuffle=False), **{name: value})
    assert str(caught.value).startswith(
        f"EpochIterator({name}=...) was given with the dataset (Loader), and Keras would ignore "
        "it; expected None. "
    )


def test_a_fit_under_way_says_nothing_of_what_a_callback_iterates_over(make_model, data):
    """The fit is among the callers, but it is not what asks."""
    dataset = ArrayDataset(*data(N), batch_size=BATCH)
    refused = []

    class Iterate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for each in (dataset, Loader(shuffle=False, remainder="pad")):
                with pytest.raises(errors.AmbiguousCallError):
                    EpochIterator(each)
                refused.append(each)

    make_model().fit(dataset, callbacks=[Iterate()], verbose=0)
    assert len(refused) == 2
    assert dataset.epoch == 1


def test_a_method_of_the_model_may_make_the_iterator():
    """A training loop of the user's own, which has Keras's name."""

    class Loop(keras.Sequential):
        def fit(self, x, class_weight=None):
            return self.loop(x)

        def loop(self, x):
            return [batch for *_, (batch,) in EpochIterator(x)]

    dataset = Loader()
    assert len(Loop().fit(dataset)) == 7
    assert dataset.asked == [dataset.rows(step, 0).tolist() for step in range(7)]
