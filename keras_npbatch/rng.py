"""Randomness as a function of (seed, purpose, epoch, step): no stream, no state, no order of calls.

Each use draws from its own `SeedSequence(seed, spawn_key=(purpose, ...))`. Adding numbers
(`seed + epoch`) would make the epochs of neighbouring seeds equal, and entropy lists hide zeros
(`SeedSequence([5])` equals `SeedSequence([5, 0])`); spawn keys do neither (NumPy reference,
"Parallel random number generation").

Samples have generators too, a thousand in a batch, and a `SeedSequence` for each would take longer
than what many functions do with a sample. So one is made for an epoch, and hashed with each row.
"""

from __future__ import annotations

import operator
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISpawnableSeedSequence

from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = [
    "MAX_SEED",
    "Purpose",
    "check_seed",
    "component_seed",
    "draw_seed",
    "generator",
    "mixed",
    "sample_generators",
    "seed_sequence",
    "untouched",
]


_WORD_BITS = 32
_WORD = 2**_WORD_BITS - 1

MAX_SEED = 2**128 - 1
"""The largest seed that fits the pool of a SeedSequence, so that keys stay apart from it."""


class Purpose(IntEnum):
    """What a random stream is for; the numbers are part of the reproducible result."""

    ORDER = 0
    TRANSFORM = 1
    GLOBAL = 2
    SPLIT = 3
    AUGMENT = 4
    LOAD = 5
    SAMPLER = 6
    TRANSFORM_OF_SAMPLE = 7
    AUGMENT_OF_SAMPLE = 8
    LOAD_OF_SAMPLE = 9
    COMPONENT = 10
    PACKING = 11


def seed_sequence(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    """The seed sequence of one purpose and one key, for example (epoch, step).

    NumPy concatenates the 32-bit words of a spawn key, so (2**32 + 5,) would equal (5, 1). Here
    each number (below 2**64) takes two words, whatever its size.
    """
    words = [word for number in key for word in (number & _WORD, number >> _WORD_BITS)]
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *words))


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A fresh PCG64 generator for one purpose and one key."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose, *key)))


def component_seed(seed: int, index: int) -> int:
    """The seed of one of the datasets that make up a dataset, if it was given none."""
    low, high = seed_sequence(seed, Purpose.COMPONENT, index).generate_state(2, np.uint64).tolist()
    return int(low | high << 64)


def mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads all bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def sample_generators(
    sequence: np.random.SeedSequence, rows: npt.NDArray[np.int64], times: npt.NDArray[np.int64]
) -> list[np.random.Generator]:
    """A fresh PCG64 generator for each row, a function of the sequence, the row and its time.

    Args:
        sequence: the seed sequence of an epoch.
        rows: row numbers, shape `(n,)`.
        times: how often each row came before in the epoch, shape `(n,)`.
    """
    keys = sequence.generate_state(2 + _STATE_WORDS, np.uint64)
    mixed_rows = mixed(rows.astype(np.uint64) + keys[0])
    # Different rows stay different: each step is a bijection of 64 bits.
    of_samples = mixed(mixed_rows ^ mixed(times.astype(np.uint64) + keys[1]))
    words = mixed(of_samples[:, np.newaxis] + keys[2:])
    return [np.random.Generator(_pcg64(_Hashed(each))) for each in words]


_pcg64: Any = np.random.PCG64  # its type hints lack the interface that it documents


_STATE_WORDS = 4
"""Words of 64 bits that PCG64 asks for: its state, and which of its streams it is."""


class _Hashed(ISpawnableSeedSequence):
    """Words that are hashes already, where NumPy would hash for 30 microseconds."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self._words = words
        self._of_others: np.random.SeedSequence | None = None

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        if n_words == _STATE_WORDS and dtype == np.uint64:
            return self._words
        return self._others.generate_state(n_words, dtype)

    def spawn(self, n_children: int) -> Sequence[np.random.SeedSequence]:  # type: ignore[override]
        return self._others.spawn(n_children)

    @property
    def _others(self) -> np.random.SeedSequence:
        """For whatever else users do with a generator, such as `rng.spawn(2)`."""
        if self._of_others is None:
            self._of_others = np.random.SeedSequence(self._words.tolist())
        return self._of_others


def draw_seed() -> int:
    """A seed from NumPy's global state, so that `keras.utils.set_random_seed` determines it."""
    # The legacy global state is what keras.utils.set_random_seed sets.
    return int(np.random.randint(0, 2**63 - 1, dtype=np.int64))  # noqa: NPY002


def check_seed(seed: Any) -> int:
    """`seed` as an int; refuses anything but a whole number from 0 to 2**128 - 1."""
    try:
        if isinstance(seed, bool | np.bool_):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise InvalidArgumentError(
            f"seed is {describe(seed)}; expected a whole number from 0 to 2**128 - 1. A dataset "
            "with seed=None draws one from NumPy's global state."
        )
    return number


@contextmanager
def untouched() -> Iterator[None]:
    """Restore the global generators after the block, which may use them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # it is what is saved
    torch = sys.modules.get("torch")
    of_torch = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(of_torch)
