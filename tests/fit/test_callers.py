"""Who asks for batches: told by Keras's own frames for any owner, and else not guessed."""

from __future__ import annotations

import functools
import sys

import keras
import numpy as np
import pytest
from keras.src.trainers.epoch_iterator import EpochIterator

from keras_npbatch import ArrayDataset, BatchDataset, errors
from keras_npbatch.fit import call
from keras_npbatch.fit.session import Session

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


# -------------------------------------------------------------------- how often it is looked for


@pytest.fixture
def searches(monkeypatch):
    """The searches of the stack, by the name of what searches."""
    found = []
    frames = call._frames

    def noted(most):
        found.append(sys._getframe(1).f_code.co_name)
        return frames(most)

    monkeypatch.setattr(call, "_frames", noted)
    return found


def model_of(*, built):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "jax")
    if built:
        model.fit(np.zeros((2, 1), "float32"), np.zeros((2, 1), "float32"), verbose=0)
    return model


BUILDS_FIRST = keras.backend.backend() != "tensorflow"
"""Whether Keras takes a batch to build a model, before it trains."""


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("validates", [False, True])
def test_a_fit_searches_the_stack_at_most_five_times(searches, epochs, built, validates):
    """Who makes the iterator, who asks; once more to build, and as often for validation."""
    model = model_of(built=built)
    arguments = {"validation_data": Loader()} if validates else {}
    model.fit(Loader(), epochs=epochs, verbose=0, **arguments)
    builds = BUILDS_FIRST and not built
    asking = ["find_maker", "find_asking"]
    assert searches == asking + ["find_asking"] * builds + asking * validates
    assert len(searches) <= 5


@pytest.mark.parametrize("steps", [None, 5])
def test_a_resumed_fit_searches_no_more(searches, steps):
    dataset = Loader()
    dataset.load_state_dict(dataset.state_dict() | {"step": 2})
    model_of(built=True).fit(dataset, epochs=2, steps_per_epoch=steps, verbose=0)
    assert searches == ["find_maker", "find_asking"]


@pytest.mark.parametrize("built", [True, False])
def test_a_dataset_to_train_on_and_to_validate_with_is_told_apart(searches, built):
    dataset = Loader()
    rows = [dataset.rows(step, epoch).tolist() for epoch in range(3) for step in range(7)]
    model = model_of(built=built)
    model.fit(dataset, validation_data=dataset, epochs=3, verbose=0)
    in_order = dataset.asked[-7:]
    assert np.concatenate(in_order).tolist() == [*range(N)]
    builds = dataset.asked[: len(dataset.asked) - 42]
    assert builds == rows[: len(builds)]
    trained = [rows[7 * epoch : 7 * epoch + 7] for epoch in range(3)]
    expected = [each for epoch in trained for each in (*epoch, *in_order)]
    assert dataset.asked[len(builds) :] == expected
    assert len(searches) == 4 + 2 * (BUILDS_FIRST and not built)


@pytest.mark.parametrize("steps", [None, 7])  # then it builds with the iterator it has
def test_a_model_that_keras_builds_in_each_validation_is_seen_to_be_built(monkeypatch, steps):
    """It has a layer that is never used: Keras takes a batch to build it again and again."""

    class Spare(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.spare = keras.layers.Dense(1), keras.layers.Dense(2)

        def build(self, shape):
            self.used.build(shape)

        def call(self, x):
            return self.used(x)

    building = []
    tell = Session._one_epoch

    def told(session, number, builds):
        for batch in tell(session, number, builds):
            building.append((session.is_fit, session.is_building))
            yield batch

    monkeypatch.setattr(Session, "_one_epoch", told)
    model = Spare()
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "jax")
    train, validation = Loader(), Loader()
    model.fit(train, validation_data=validation, validation_steps=steps, epochs=2, verbose=0)
    assert building.count((True, False)) == 14
    assert building.count((False, False)) == 14
    if BUILDS_FIRST:
        assert building.count((True, True)) == 1
        assert building.count((False, True)) == 2
    in_order = [[*range(first, min(first + BATCH, N))] for first in range(0, N, BATCH)]
    assert validation.asked[-7:] == in_order


def test_a_fit_in_a_callback_is_another_call(searches):
    """It shuffles on where that of the callback ended, and neither takes the other for itself."""
    dataset = Loader()

    class Fit(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                model_of(built=True).fit(other, epochs=2, verbose=0)

    other = Loader()
    model_of(built=True).fit(dataset, epochs=3, verbose=0, callbacks=[Fit()])
    for each, epochs in ((dataset, 3), (other, 2)):
        rows = [each.rows(step, epoch).tolist() for epoch in range(epochs) for step in range(7)]
        assert each.asked == rows
    assert searches == ["find_maker", "find_asking"] * 2
