"""`each(f)`: what a row becomes, and what it draws, is the same wherever the row is."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.each import each
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError
from keras_npbatch.testing.strategies import samplers
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.stream import ProcessStream

N = 14
X = np.repeat(np.arange(N, dtype=np.float32)[:, np.newaxis], 3, axis=1)


def shake(sample: Any, rng: np.random.Generator) -> Any:
    """Writes to its sample, as augmentation often does."""
    x, row = sample
    x += rng.random(3, np.float32)
    return {"shaken": x, "text": "a" * int(row)}, row


def dataset(**settings_: Any) -> ArrayBatches:
    return ArrayBatches(X.copy(), np.arange(N), **{"seed": 2, **settings_})


def epoch_of(data: ArrayBatches, epoch: int = 0, *, training: bool = True) -> list[Any]:
    """The samples of an epoch, without padding, by their rows."""
    core = core_of(data)
    plan = core.plan if training else core.plan.for_call("evaluate")
    make, found = core.maker(Work(plan, training)), []
    for step in range(plan.num_batches):
        x, rows = make(epoch, step)[:2]
        for at in range(len(plan.rows(epoch, step))):
            sample = x["shaken"][at].tolist() if isinstance(x, dict) else x[at].tolist()
            found.append((int(rows[at]), sample))
    return sorted(found)


@settings(max_examples=20)
@given(data=st.data(), epoch=st.integers(0, 2))
def test_a_row_becomes_the_same_in_any_batches_of_any_shards(data, epoch):
    sampler = data.draw(samplers(N))
    shared = {"sampler": sampler, "augment": each(shake), "remainder": "pad"}
    whole = dataset(batch_size=data.draw(st.integers(1, N + 1)), **shared)
    count, size = data.draw(st.sampled_from([(2, 3), (3, 1), (4, 2)]))
    parts = [dataset(batch_size=size, shard=(index, count), **shared) for index in range(count)]
    for of_shards in (parts, [pickle.loads(pickle.dumps(whole))]):
        found = [sample for part in of_shards for sample in epoch_of(part, epoch)]
        assert sorted(found) == epoch_of(whole, epoch)
    noise = {tuple(np.subtract(sample, row)) for row, sample in epoch_of(whole, epoch)}
    assert len(noise) == whole.plan.epoch_size  # repeated rows are augmented in several ways
    assert epoch_of(whole, epoch) != epoch_of(whole, epoch + 1)
    assert np.array_equal(whole.load(np.arange(N))[0], X)


def test_processes_give_the_same_bytes():
    data = dataset(batch_size=5, augment=each(shake), transform=each(lambda sample: sample))
    work = Work(core_of(data).plan)
    with Pool(data, workers=2) as pool:
        there = list(ProcessStream(pool, work, 1, ahead=3))
    for step, (x, rows) in enumerate(there):
        here, expected = core_of(data).maker(work)(1, step)
        assert x["shaken"].tobytes() == here["shaken"].tobytes()
        assert x["text"].tolist() == here["text"].tolist() == ["a" * row for row in expected]
        assert rows.tolist() == expected.tolist()


def test_evaluate_transforms_and_does_not_augment():
    augmented, transformed = dataset(augment=each(shake)), dataset(transform=each(shake))
    assert epoch_of(augmented, training=False) == [(row, X[row].tolist()) for row in range(N)]
    assert epoch_of(transformed, training=False) == epoch_of(transformed, 0)
    assert epoch_of(augmented) != epoch_of(transformed)  # streams of their own


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (X, np.ndarray),
        ((X, X[:, 0]), tuple),
        (((X, {"a": X}),), tuple),
        (({"a": X, "b": (X[:, 0], None)}, X), tuple),
    ],
    ids=["x", "(x, y)", "((x1, x2),)", "nested"],
)
def test_a_sample_has_the_nesting_of_the_batch(batch, expected):
    seen = []

    def look(sample: Any) -> Any:
        seen.append(sample)
        return sample

    class Loader(ArrayBatches):
        def load(self, rows: Any) -> Any:
            return batch

    data = Loader(X, batch_size=N, shuffle=False, transform=each(look))
    found = data[0]
    assert len(seen) == N
    assert type(found) is type(seen[3]) is expected
    np.testing.assert_equal(found, batch)
    assert pickle.dumps(seen[3]) != pickle.dumps(seen[4])


def test_rows_of_tables_are_taken_by_position():
    import pandas as pd

    table = pd.Series(np.arange(N) * 2.0, index=np.arange(N)[::-1])

    class Loader(ArrayBatches):
        def load(self, rows: Any) -> Any:
            return table.iloc[rows], table.to_frame().iloc[rows]

    data = Loader(X, batch_size=N, shuffle=False, transform=each(lambda sample: sample))
    one, other = data[0]
    assert one.tolist() == other[:, 0].tolist() == (np.arange(N) * 2.0).tolist()


# --- failures ----------------------------------------------------------------------------------


def fail_at_7(sample: Any) -> Any:
    if sample[1] == 7:
        raise KeyError("label")
    return sample


def test_an_exception_is_told_with_the_row_and_the_batch():
    data = dataset(batch_size=4, shuffle=False, transform=each(fail_at_7))
    with pytest.raises(KeyError) as caught:
        data[1]
    assert caught.value.__notes__ == [
        "keras_npbatch: raised for row 7",
        "keras_npbatch: raised by transform=each(fail_at_7) at epoch 0, step 1, rows [4, 5, 6, 7]",
    ]


def test_a_stop_iteration_does_not_end_the_batch():
    def stop(sample: Any) -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match=r"^transform raised StopIteration"):
        dataset(transform=each(stop))[0]


def test_samples_that_differ_are_refused_by_row():
    def cut(sample: Any) -> Any:
        x, row = sample
        return x[: 3 - row % 2], row

    data = dataset(batch_size=4, shuffle=False, augment=each(cut))
    with pytest.raises(InvalidBatchError) as caught:
        data[0]
    assert str(caught.value) == (
        "each(test_samples_that_differ_are_refused_by_row.<locals>.cut) of augment returned "
        "ndarray of shape (2,) and dtype float32 for x of row 1, but for row 0 one of shape (3,); "
        "expected one shape for all samples of a batch. Pad, crop or resize them to one."
    )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            3,
            "each was given 3 (int); expected a function of one sample: each(f), with f(sample) or "
            "f(sample, rng).",
        ),
        (
            each(fail_at_7),
            "each was given each(fail_at_7) (Each); expected a function of one sample: each(f), "
            "with f(sample) or f(sample, rng).",
        ),
        (
            functools.wraps(fail_at_7)(lambda: None),
            None,
        ),
        (
            lambda a, b, c: a,
            "<lambda> takes the parameters (a, b, c); expected <lambda>(sample) or "
            "<lambda>(sample, rng). Bind further arguments with functools.partial.",
        ),
        (
            lambda x, y, weight, times=1: x,
            "<lambda> takes the parameters (x, y, weight, times=1); expected <lambda>(sample) or "
            "<lambda>(sample, rng): the second argument is a random generator. Take the sample "
            "apart in it: x, y, weight = sample.",
        ),
    ],
)
def test_what_is_no_function_of_a_sample_is_refused(function, message):
    if message is None:
        assert each(function).draws is False
        return
    with pytest.raises(InvalidArgumentError) as caught:
        each(function)
    assert str(caught.value) == message


def test_a_layer_is_refused():
    import keras

    with pytest.raises(InvalidArgumentError) as caught:
        each(keras.layers.RandomFlip())
    assert str(caught.value) == (
        "each was given a Keras layer (RandomFlip), which takes whole batches; expected a function "
        "of one sample. Put the layer into the model, or give it as transform=layer."
    )


def test_its_name_is_part_of_a_saved_state():
    state = dataset(augment=each(shake)).state_dict()
    dataset(augment=each(shake)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"each\(shake\)"):
        dataset(augment=shake).load_state_dict(state)
