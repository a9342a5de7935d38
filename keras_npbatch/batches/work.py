"""`Work`: how batches of any epoch and step are to be made, wherever that is.

work = Work(plan)                        # batches of training
make = core.maker(work)
make(epoch=2, step=7)
"""

from __future__ import annotations

from typing import NamedTuple

from keras_npbatch.batches.class_weight import Training
from keras_npbatch.batches.summary import Summarise
from keras_npbatch.plan.plan import Plan

__all__ = ["Work"]


class Work(NamedTuple):
    """How batches are made. Hashable, and small enough to be sent with each task."""

    plan: Plan
    """Which rows are in which batch."""
    training: Training = True
    """Whether batches are augmented and classes weighed, as in `fit`, and by which weights."""
    summarise: Summarise | None = None
    """What is computed from each batch where it is made; the batches are then `Summed`."""
