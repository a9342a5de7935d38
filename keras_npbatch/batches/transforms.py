"""The user's functions that may draw random numbers: `transform`, `augment`, `load`.

    def flip(batch, rng):
        x, y = batch
        flipped = rng.random(len(x)) < 0.5
        x[flipped] = x[flipped, :, ::-1]      # the batch is this call's own: writing is fine
        return x, y

A function gets `rng`, a NumPy generator, if its second parameter asks for it. The generator depends
only on (seed, epoch, step) and the shard: numbers differ between batches and epochs, and are the
same in any worker and after any restart. Each function has its own stream.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.batches.generators import Generators
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["Transform", "is_layer", "name_of", "wants_rng"]


_TARGETS = ("y", "label", "labels", "target", "targets")
"""Names of a second parameter that is meant to be a part of the batch."""


class Transform:
    """A checked function of a batch, called the way its signature asks for.

    Args:
        function: takes the batch, and a generator if its second parameter is required or is
            named `rng`.
        setting: the setting that it was given as, for messages.
        purpose: which stream its generator draws from.
        link: its number in a chain of functions.

    Raises:
        InvalidArgumentError: if it can't be called that way.
    """

    def __init__(
        self,
        function: Callable[..., Tree],
        setting: str = "transform",
        purpose: rng.Purpose = rng.Purpose.TRANSFORM,
        link: int = 0,
    ) -> None:
        if not callable(function):
            raise InvalidArgumentError(
                f"{setting} is {describe(function)}; expected a function of the batch: "
                f"{setting}(batch) or {setting}(batch, rng)."
            )
        # A transform may be a layer, such as a Normalization.
        if setting.startswith("augment") and is_layer(function):
            raise InvalidArgumentError(
                f"{setting} is a Keras layer ({type(function).__name__}), which would be given the "
                f"whole batch and draws random numbers of its own; expected {setting}(batch) or "
                f"{setting}(batch, rng). Put the layer into the model, or write the augmentation "
                "with rng."
            )
        self.setting = setting
        self.function, self._purpose, self._link = function, purpose, link
        self.draws = wants_rng(function, setting, "batch")

    @property
    def links(self) -> Sequence[Transform]:
        """The functions of a chain: this one."""
        return (self,)

    @property
    def called(self) -> str:
        """How the user's function was called, for notes."""
        return f"{self.setting}(batch, rng)" if self.draws else self.setting

    @property
    def name(self) -> str:
        """The name of the function, or of its class if it has none."""
        return name_of(self.function)

    def __call__(self, batch: Tree, numbers: Generators, empty: Empty = np.empty) -> Tree:
        """The transformed batch.

        Args:
            batch: in the form that Keras takes.
            numbers: the generators of the batch.
            empty: allocates arrays: `empty(shape, dtype)`.
        """
        if not self.draws:
            return self.function(batch)
        return self.function(batch, numbers.of_batch(self._purpose, self._link))


def name_of(function: Any) -> str:
    """The name of a function, or of its class if it has none."""
    inner = getattr(function, "func", function)  # the one in a functools.partial
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def is_layer(function: Any) -> bool:
    """Whether it is a layer of Keras."""
    # A layer exists only once Keras is imported, and a worker need not import it.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(function, keras.layers.Layer)


def wants_rng(function: Callable[..., Any], name: str, argument: str) -> bool:
    """Whether `function(argument)` is to be called as `function(argument, rng)`.

    Args:
        function: the user's function.
        name: what it is called in messages.
        argument: what its first argument is called there.

    Raises:
        InvalidArgumentError: if its signature allows neither.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature: assume the common form
        return False
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_rng = len(positional) > 1 and (
        positional[1].name == "rng" or positional[1].default is inspect.Parameter.empty
    )
    if takes_rng and positional[1].name in _TARGETS:
        needed = [each.name for each in positional if each.default is each.empty]
        parts = ", ".join(name for name in needed if name != "rng")
        raise InvalidArgumentError(
            f"{name} takes the parameters {signature}; expected {name}({argument}) or "
            f"{name}({argument}, rng): the second argument is a random generator. Take the "
            f"{argument} apart in it: {parts} = {argument}."
        )
    try:
        signature.bind(*[None] * (1 + takes_rng))
    except TypeError:
        more = "Bind further arguments with functools.partial."
        if "." in name:  # a method
            more = "Keep what else it needs in attributes of the dataset."
            if not signature.parameters:  # its first one is the dataset
                method = name.rpartition(".")[2]
                more = f"Write self before {argument}: def {method}(self, {argument})."
        raise InvalidArgumentError(
            f"{name} takes the parameters {signature}; expected {name}({argument}) or "
            f"{name}({argument}, rng). {more}"
        ) from None
    return takes_rng
