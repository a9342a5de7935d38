"""Datasets that make whole batches, in `__getitem__`: what they can't be combined with.

Such a batch is finished. Nothing is known of the rows in it, so nothing can be done to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_npbatch.errors import InvalidArgumentError

__all__ = ["refuse_beside_whole_batches"]


def refuse_beside_whole_batches(owner: str, given: Mapping[str, Any]) -> None:
    """Refuse settings that work on the rows of a batch.

    Args:
        owner: the class of the dataset.
        given: these settings; None where one is not given.

    Raises:
        InvalidArgumentError: naming those that are.
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InvalidArgumentError(
            f"{', '.join(names)} was given to {owner}, which overrides __getitem__ and so returns "
            "finished batches; expected load(rows), whose samples can be changed, weighed, padded "
            "and kept. Override that instead."
        )
