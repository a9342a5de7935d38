"""Datasets that make whole batches, in `__getitem__`: what they can't be combined with.

Such a batch is finished. The rows in it are unknown, so nothing can be done to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.own import order_setting

__all__ = ["is_told_of_rows", "refuse_beside_whole_batches"]


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


def is_told_of_rows(owner: str, plan: Plan) -> bool:
    """Tell the user what goes wrong with batches made without asking which rows are in them.

    Args:
        owner: the class of the dataset.
        plan: what such a batch followed.

    Returns:
        Whether there was something to tell: a warning that need not come again.

    Raises:
        InvalidArgumentError: if it was to be a part of the data.
    """
    if plan.selection is not None:
        raise InvalidArgumentError(
            f"{owner}.__getitem__(index) made a batch without asking "
            "self.rows(index) which rows are in it, so the parts of a split would have the "
            "same samples. Read these rows, or override load(rows) instead."
        )
    settings = {order_setting(plan.sampler): plan.shuffle, "the shard": plan.shard.count > 1}
    ignored = [name for name, matters in settings.items() if matters]
    if ignored:
        warnings.warn(
            f"{owner}.__getitem__(index) made a batch without asking "
            f"self.rows(index) which rows are in it, so {' and '.join(ignored)} "
            "would change nothing. Read these rows, or say shuffle=False and no shard.",
            stacklevel=3,
        )
    return bool(ignored)
