"""Transforms: how a function's signature decides what it is given, and what its numbers are."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.transforms import Transform
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import Purpose, generator

BATCH = object()


def at(seed: int, epoch: int, step: int) -> Generators:
    return Generators(Plan(1, 1, seed=seed), epoch, step, np.zeros(1, np.int64))


AT = at(seed=1, epoch=2, step=3)


class Method:
    """Callables that are no functions."""

    def one(self, batch: Any) -> Any:
        return (batch,)

    def two(self, batch: Any, rng: Any) -> Any:
        return (batch, rng)

    @staticmethod
    def static(batch: Any, rng: Any) -> Any:
        return (batch, rng)

    @classmethod
    def of_class(cls, batch: Any) -> Any:
        return (batch,)


class OfBatch:
    def __call__(self, batch: Any) -> Any:
        return (batch,)


class OfBatchAndNumbers:
    def __call__(self, batch: Any, rng: Any) -> Any:
        return (batch, rng)


def plain(batch: Any) -> Any:
    return (batch,)


def with_rng(batch: Any, rng: Any) -> Any:
    return (batch, rng)


def any_second(batch: Any, numbers: Any) -> Any:
    return (batch, numbers)


def rng_by_default(batch: Any, rng: Any = None) -> Any:
    return (batch, rng)


def default_that_is_no_rng(batch: Any, strength: Any = 0.5) -> Any:
    return (batch,) if strength == 0.5 else (batch, strength)


def many_defaults(batch: Any, strength: Any = 0.5, rng: Any = None) -> Any:
    return (batch,) if (strength, rng) == (0.5, None) else (batch, strength, rng)


def rng_and_defaults(batch: Any, rng: Any, strength: Any = 0.5) -> Any:
    return (batch, rng) if strength == 0.5 else ()


def positional_only(batch: Any, rng: Any, /) -> Any:
    return (batch, rng)


def star(*args: Any) -> Any:
    return args


def star_after_batch(batch: Any, *args: Any) -> Any:
    return (batch, *args)


def star_star(batch: Any, **kwargs: Any) -> Any:
    return (batch, *kwargs)


def keyword_default(batch: Any, *, strength: Any = 0.5) -> Any:
    return (batch,) if strength == 0.5 else ()


def three(batch: Any, rng: Any, strength: Any) -> Any:
    return (batch, rng) if strength == 0.7 else ()


@functools.wraps(with_rng)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return with_rng(*args, **kwargs)


@functools.lru_cache
def cached(batch: Any) -> Any:
    return (batch,)


WITHOUT_NUMBERS = {
    "a function of the batch": plain,
    "a lambda": lambda batch: (batch,),
    "a default that is no rng": default_that_is_no_rng,
    # The second parameter decides: an rng further back is the function's own business.
    "an rng as the third": many_defaults,
    "*args": star,
    "batch, *args": star_after_batch,
    "batch, **kwargs": star_star,
    "keyword-only default": keyword_default,
    "a method": Method().one,
    "a class method": Method.of_class,
    "a callable object": OfBatch(),
    "partial that binds the rng": functools.partial(with_rng, rng=None),
    "lru_cache": cached,
}

WITH_NUMBERS = {
    "batch, rng": with_rng,
    "a lambda": lambda batch, rng: (batch, rng),
    "a second parameter of any name": any_second,
    "rng=None": rng_by_default,
    "rng and defaults": rng_and_defaults,
    "positional-only": positional_only,
    "a method": Method().two,
    "a static method": Method.static,
    "a callable object": OfBatchAndNumbers(),
    "partial by keyword": functools.partial(three, strength=0.7),
    "functools.wraps": wrapped,
}


@pytest.mark.parametrize("function", WITHOUT_NUMBERS.values(), ids=WITHOUT_NUMBERS)
def test_a_function_of_the_batch_is_given_the_batch_alone(function: Any) -> None:
    found = Transform(function)(BATCH, AT)
    if isinstance(function, functools.partial):
        assert found == (BATCH, None)
    else:
        assert found == (BATCH,)


@pytest.mark.parametrize("function", WITH_NUMBERS.values(), ids=WITH_NUMBERS)
def test_a_function_of_batch_and_rng_is_given_a_generator(function: Any) -> None:
    batch, rng = Transform(function)(BATCH, AT)
    assert batch is BATCH
    assert isinstance(rng, np.random.Generator)


@pytest.mark.parametrize("function", [len, sorted, tuple, np.negative, np.ascontiguousarray])
def test_builtins_are_functions_of_the_batch(function: Any) -> None:
    batch = [3.0, 1.0]
    assert np.array_equal(Transform(function)(batch, AT), function(batch))


def test_what_the_function_returns_is_returned_as_it_is() -> None:
    for result in (None, (), [1], {"a": 2}, BATCH):
        assert Transform(lambda _, result=result: result)(BATCH, AT) is result


def test_an_exception_of_the_function_passes_as_itself() -> None:
    error = TypeError("takes no images")

    def fail(batch: Any, rng: Any) -> Any:
        raise error

    with pytest.raises(TypeError) as caught:
        Transform(fail)(BATCH, AT)
    assert caught.value is error


def test_a_function_is_not_called_before_there_is_a_batch() -> None:
    Transform(lambda batch: 1 / 0)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "3 (int)"),
        ("flip", "'flip' (str)"),
        ([plain], None),
        (np.zeros(2), "ndarray of shape (2,) and dtype float64"),
    ],
    ids=["int", "str", "list", "array"],
)
def test_what_can_not_be_called_is_refused(value: Any, told: str | None) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Transform(value)
    text = str(caught.value)
    tail = "; expected a function of the batch: transform(batch) or transform(batch, rng)."
    assert text.startswith("transform is ")
    assert text.endswith(tail)
    if told is not None:
        assert text == f"transform is {told}{tail}"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: None, "()"),
        (lambda batch, rng, weight: None, "(batch, rng, weight)"),
        (lambda batch, *, strength: None, "(batch, *, strength)"),
        (lambda *, batch: None, "(*, batch)"),
        (lambda **parts: None, "(**parts)"),
        (lambda batch, rng, strength, *more: None, "(batch, rng, strength, *more)"),
        # What was bound by name is a keyword now, and so is all behind it.
        (functools.partial(lambda batch, rng, p: None, rng=None), "(batch, *, rng=None, p)"),
        (functools.partial(lambda batch: None, 3), "()"),
    ],
    ids=[
        "none",
        "three",
        "required keyword",
        "keyword alone",
        "**kwargs",
        "three and *args",
        "partial",
        "partial of all",
    ],
)
def test_a_function_of_other_parameters_is_refused(function: Any, told: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Transform(function)
    assert str(caught.value) == (
        f"transform takes the parameters {told}; expected transform(batch) or transform(batch, "
        "rng). Bind further arguments with functools.partial."
    )
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("second", ["y", "label", "labels", "target", "targets"])
def test_a_function_of_the_parts_of_a_batch_is_refused(second: str) -> None:
    names = {"function": None}
    exec(f"function = lambda x, {second}: None", names)
    with pytest.raises(InvalidArgumentError) as caught:
        Transform(names["function"], "augment")
    assert str(caught.value) == (
        f"augment takes the parameters (x, {second}); expected augment(batch) or augment(batch, "
        "rng): the second argument is a random generator. Take the batch apart in it: x, "
        f"{second} = batch."
    )
    exec(f"function = lambda x, {second}=0: x", names)  # its default says that it is not asked for
    assert not Transform(names["function"]).draws


# --- numbers -----------------------------------------------------------------------------------

draw_some = Transform(lambda batch, rng: rng.integers(0, 2**62, 4).tolist())
places = st.tuples(st.integers(0, 2**70), st.integers(0, 2**40), st.integers(0, 2**40))


def numbers_at(place: tuple[int, int, int]) -> list[int]:
    seed, epoch, step = place
    found: list[int] = draw_some(BATCH, at(seed, epoch, step))
    return found


@given(place=places)
def test_numbers_depend_on_seed_epoch_and_step_alone(place: tuple[int, int, int]) -> None:
    found = numbers_at(place)
    np.random.default_rng().random(10)
    numbers_at((place[0] + 1, place[1], place[2]))
    assert numbers_at(place) == found
    seed, epoch, step = place
    rng = generator(seed, Purpose.TRANSFORM, epoch, step)
    assert rng.integers(0, 2**62, 4).tolist() == found


@given(place=places, other=places, which=st.sampled_from([0, 1, 2]))
def test_numbers_differ_wherever_one_of_the_three_differs(
    place: tuple[int, int, int], other: tuple[int, int, int], which: int
) -> None:
    moved = list(place)
    moved[which] = other[which] if other[which] != place[which] else place[which] + 1
    assert numbers_at(tuple(moved)) != numbers_at(place)  # type: ignore[arg-type]


def test_numbers_of_neighbours_differ_also_where_sums_and_pairs_are_equal() -> None:
    """`seed + epoch` gives epoch 1 of seed 0 the numbers of epoch 0 of seed 1."""
    found = [
        tuple(numbers_at((seed, epoch, step)))
        for seed in range(3)
        for epoch in range(3)
        for step in range(3)
    ]
    assert len(set(found)) == 27


def test_numbers_are_those_of_this_version() -> None:
    """Part of the reproducible result: a change belongs into the changelog."""
    assert numbers_at((0, 0, 0)) == EXPECTED_NUMBERS[0]
    assert numbers_at((7, 1, 2)) == EXPECTED_NUMBERS[1]


EXPECTED_NUMBERS = [
    [1055928383869667980, 2017822086683615644, 4121581202207273988, 188621845266288676],
    [1373078144980138965, 2481293956071666656, 641312497915667842, 564892249567834612],
]


def test_each_call_gets_a_generator_of_its_own() -> None:
    seen: list[np.random.Generator] = []
    transform = Transform(lambda batch, rng: seen.append(rng))
    transform(BATCH, AT)
    transform(BATCH, AT)
    assert seen[0] is not seen[1]
    assert seen[0].bit_generator.state == seen[1].bit_generator.state


def test_a_generator_is_made_only_for_a_function_that_wants_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It costs more than a small batch does."""
    made: list[Any] = []
    monkeypatch.setattr("keras_npbatch.rng.generator", lambda *key: made.append(key))
    Transform(plain)(BATCH, AT)
    assert made == []
    Transform(with_rng)(BATCH, AT)
    assert made == [(1, Purpose.TRANSFORM, 2, 3)]


def test_a_builtin_that_tells_no_signature_gets_the_batch_alone() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(dict)
    assert Transform(dict)([("x", 1)], at(0, 0, 0)) == {"x": 1}
