"""What `transform=` and `augment=` take: a function, `each(function)`, or a list of them.

    change_of([decode, each(crop)], "transform")     # decode, then crop
    change_of(decode, "transform")                   # a chain of one

Each function of a list gets what the one before returned, checked and as its own, and a generator
of its own. A list of one function is that function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from keras_npbatch.batches.each import Each, EachTransform
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.transforms import Transform
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.rng import Purpose
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["Chain", "Change", "Functions", "change_of"]

_Function: TypeAlias = Callable[..., Tree] | Each
Functions: TypeAlias = _Function | Sequence[_Function]
"""What a user gives as `transform` or `augment`."""

_PURPOSES = {
    "transform": (Purpose.TRANSFORM, Purpose.TRANSFORM_OF_SAMPLE),
    "augment": (Purpose.AUGMENT, Purpose.AUGMENT_OF_SAMPLE),
}


class Change(Protocol):
    """What is done to a batch after it is loaded: one function or several."""

    @property
    def setting(self) -> str:
        """The setting that it was given as, such as `transform[1]`."""

    @property
    def name(self) -> str:
        """The name of the function."""

    @property
    def called(self) -> str:
        """How the function is called, for notes."""

    @property
    def draws(self) -> bool:
        """Whether it takes a random generator."""

    @property
    def links(self) -> Sequence[Change]:
        """Its functions, in their order."""

    def __call__(self, batch: Tree, numbers: Generators, empty: Empty = np.empty) -> Tree:
        """The changed batch."""


class Chain:
    """Several functions, one after the other; the recipe calls its `links`."""

    def __init__(self, setting: str, links: Sequence[Change]) -> None:
        self.setting, self.links = setting, links
        self.name = f"[{', '.join(link.name for link in links)}]"
        self.called = setting
        self.draws = any(link.draws for link in links)

    def __call__(self, batch: Tree, numbers: Generators, empty: Empty = np.empty) -> Tree:
        """The batch after the last function, without the checks in between."""
        for link in self.links:
            batch = link(batch, numbers, empty)
        return batch


class _Named(Transform):
    """A function of a batch in a chain, whose notes give its name too."""

    @property
    def called(self) -> str:
        """How the user's function was called, for notes."""
        return f"{self.setting}={self.name}{'(batch, rng)' if self.draws else ''}"


def change_of(given: Any, setting: Literal["transform", "augment"]) -> Change | None:
    """What is done to a batch; None if nothing is given.

    Raises:
        InvalidArgumentError: for anything but a function, or for one whose signature does not fit.
    """
    if given is None:
        return None
    if not isinstance(given, list | tuple):
        return _link(given, setting, setting)
    if not given:
        raise InvalidArgumentError(
            f"{setting} is {describe(given)}; expected a function of the batch, or several in a "
            "list. Leave it out to change nothing."
        )
    if len(given) == 1:
        return _link(given[0], setting, setting)
    return Chain(
        setting,
        [
            _link(function, setting, f"{setting}[{number}]", number)
            for number, function in enumerate(given)
        ],
    )


def _link(function: Any, setting: str, path: str, number: int = 0) -> Change:
    of_batch, of_sample = _PURPOSES[setting]
    if isinstance(function, Each):
        return EachTransform(function, path, of_sample, number)
    kind = Transform if path == setting else _Named
    return kind(function, path, of_batch, number)
