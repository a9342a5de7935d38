"""Where rows that could not be read can't be left out."""

from __future__ import annotations

from keras_npbatch.batches.core import Core
from keras_npbatch.errors import SetAsideError, UnsupportedArgumentError, describe_rows
from keras_npbatch.samplers.order import Rows

__all__ = ["refuse_in_strategy", "refuse_lacking"]


def refuse_in_strategy(core: Core) -> None:
    """Refuse to train in several processes of a strategy of TensorFlow.

    They would have to communicate at each step, and TensorFlow can't do that during training
    without tracing a function each time.

    Raises:
        UnsupportedArgumentError: always.
    """
    raise UnsupportedArgumentError(
        f"the {core.name} has on_error='set_aside' and trains in several processes of a "
        "TensorFlow strategy, where none knows how many rows the others could not read; expected "
        "one process, or several on JAX or Torch. Find these rows before "
        "(train in one process, and read dataset.set_aside), and leave them out: "
        "dataset.subset(rows)."
    )


def refuse_lacking(core: Core, lacking: Rows) -> None:
    """Refuse a batch of `predict` that lacks rows: each prediction belongs to a row.

    Args:
        core: of the dataset.
        lacking: the rows that could not be read.

    Raises:
        SetAsideError: if there are any.
    """
    if not len(lacking):
        return
    assert core.aside is not None
    reason = core.aside.told[int(lacking[0])]
    raise SetAsideError(
        f"rows {describe_rows(lacking)} of the {core.name} could not be read ({reason}), and "
        "predict gives a result for each row; expected rows that can be read. Predict the others: "
        "dataset.subset(rows), without those that dataset.set_aside names."
    )
