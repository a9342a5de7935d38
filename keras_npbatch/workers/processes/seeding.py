"""Random numbers in a worker process: its generators are reseeded for each batch.

Code that draws from `np.random`, from `random`, or from a generator that the dataset or its module
holds would draw the same numbers in every worker, and the numbers would depend on how many workers
there are. With generators seeded by (seed, epoch, step), they are a function of the batch, like the
`rng` of a transform.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_npbatch import rng

__all__ = ["KINDS", "owned", "owned_by_modules", "seed_all"]

KINDS = (np.random.Generator, np.random.RandomState, random.Random)
"""The types of random generators."""

_owned: list[Any] = []
"""The generators of the dataset that this process makes batches of, in the order it got them."""


def owned(make: Callable[..., Any], *arguments: Any) -> Any:
    """Rebuild a generator of the dataset in this process, and register it."""
    generator = make(*arguments)
    _owned.append(generator)
    return generator


def owned_by_modules(names: Iterable[str]) -> None:
    """Register the generators among the variables of these modules as the dataset's, too."""
    ours = np.random.mtrand._rand  # the global one
    for name in names:
        for value in vars(sys.modules[name]).values() if name in sys.modules else ():
            if isinstance(value, KINDS) and value is not ours and value not in _owned:
                _owned.append(value)


def seed_all(seed: int, epoch: int, step: int) -> None:
    """Seed the global generators and those of the dataset for a batch."""
    sequence = rng.seed_sequence(seed, rng.Purpose.GLOBAL, epoch, step)
    words = sequence.generate_state(8)
    np.random.seed(words[:4])  # noqa: NPY002  # the legacy global state is what naive code draws from
    random.seed(words[4:].tobytes())
    for own, generator in zip(sequence.spawn(len(_owned)), _owned, strict=True):
        if isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            bits.state = type(bits)(own).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed(own.generate_state(4))
        else:
            generator.seed(own.generate_state(4).tobytes())
