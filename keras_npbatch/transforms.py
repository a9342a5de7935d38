"""The user's function on a batch: `transform(batch)` or `transform(batch, rng)`.

    def flip(batch, rng):
        x, y = batch
        flipped = rng.random(len(x)) < 0.5
        x[flipped] = x[flipped, :, ::-1]      # the batch is this call's own: writing is fine
        return x, y

`rng` is a NumPy generator that depends on (seed, epoch, step) alone, so that augmentation differs
from batch to batch and from epoch to epoch, and is the same in any worker and after any restart.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from keras_npbatch import rng
from keras_npbatch.errors import InvalidArgumentError, told
from keras_npbatch.tree import Tree

__all__ = ["Transform"]


class Transform:
    """A checked transform that is called the way its signature asks for.

    Args:
        function: takes the batch, and a generator if its second parameter is required or is
            named `rng`.

    Raises:
        InvalidArgumentError: if it can't be called so.
    """

    def __init__(self, function: Callable[..., Tree]) -> None:
        if not callable(function):
            raise InvalidArgumentError(
                f"transform is {told(function)}; expected a function of the batch: "
                "transform(batch) or transform(batch, rng)."
            )
        self._function = function
        self._wants_rng = _wants_rng(function)

    @property
    def name(self) -> str:
        """What the function is called, or its class where it has no name."""
        inner = getattr(self._function, "func", self._function)  # of a functools.partial
        return str(getattr(inner, "__qualname__", type(inner).__qualname__))

    def __call__(self, batch: Tree, *, seed: int, epoch: int, step: int, shard: int = 0) -> Tree:
        """The transformed batch; of the first shard as if there were no others."""
        if not self._wants_rng:
            return self._function(batch)
        place = (epoch, step, shard) if shard else (epoch, step)
        return self._function(batch, rng.generator(seed, rng.Purpose.TRANSFORM, *place))


def _wants_rng(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not tell: the common form
        return False
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_rng = len(positional) > 1 and (
        positional[1].name == "rng" or positional[1].default is inspect.Parameter.empty
    )
    try:
        signature.bind(*[None] * (1 + takes_rng))
    except TypeError:
        raise InvalidArgumentError(
            f"transform takes the parameters {signature}; expected transform(batch) or "
            "transform(batch, rng). Bind further arguments with functools.partial."
        ) from None
    return takes_rng
