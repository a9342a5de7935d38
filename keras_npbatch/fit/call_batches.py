"""`CallBatches`: the batches that `evaluate` or `predict` reads, without a model.

    for x, y in dataset.batches_for("evaluate"): ...

`fit` shuffles, augments and applies class weights; the other calls do none of this. `CallBatches`
shows what they are given.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any, Literal

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.set_aside import refuse_lacking
from keras_npbatch.fit.weighing import weighed_for_evaluate
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.executor import Executor

__all__ = ["CallBatches"]


class CallBatches:
    """The batches that a call of `evaluate` or `predict` reads; see `BatchDataset.batches_for`.

    Args:
        dataset: the `BatchDataset`.
        call: `"evaluate"` or `"predict"`.

    Raises:
        InvalidArgumentError: for another `call`.
    """

    def __init__(self, dataset: Any, call: Literal["evaluate", "predict"]) -> None:
        if call not in ("evaluate", "predict"):
            raise InvalidArgumentError(
                f"call is {describe(call)}; expected 'evaluate' or 'predict'. Validation reads "
                "what 'evaluate' reads; fit, what `for batch in dataset` gives."
            )
        self._dataset, self._call = dataset, call
        self._plan = core_of(dataset).plan.for_call(call)
        self._work = Work(self._plan, training=False)

    def __len__(self) -> int:
        """The number of batches in one pass over the data."""
        return self._plan.num_batches

    def __getitem__(self, index: int) -> Tree:
        """The batch of step `index`; a negative one counts from the end."""
        make = core_of(self._dataset).maker(self._work)
        return self._weighed(make(0, self._step(index)))

    def __iter__(self) -> Iterator[Tree]:
        """One pass, through the dataset's workers."""
        stream = core_of(self._dataset).part(Executor).stream(self._work, 0, follows=False)
        with contextlib.closing(walk(stream, 0, len(self) - 1)) as steps:
            for _, batch in steps:
                yield self._weighed(batch)
                del batch  # the caller has the only reference while the next one is made

    def rows(self, step: int) -> Rows:
        """The rows of a batch, without padding: int64 of shape `(samples in the batch,)`."""
        return self._plan.rows(0, self._step(step))

    def __repr__(self) -> str:
        """The number of batches, the call, and the dataset."""
        return f"<{len(self)} batches for {self._call} of {self._dataset!r}>"

    def _step(self, index: Any) -> int:
        try:
            step: int = operator.index(index)
        except TypeError:
            raise TypeError(f"index is {describe(index)}; expected the number of a batch") from None
        step += len(self) * (step < 0)
        if not 0 <= step < len(self):
            raise IndexError(f"there is no batch {index}: there are {len(self)}, from 0 up")
        return step

    def _weighed(self, made: Tree) -> Tree:
        batch, lacking, _ = core_of(self._dataset).taken(made)
        if self._call == "predict":
            refuse_lacking(core_of(self._dataset), lacking)
        return weighed_for_evaluate(self._plan, batch, len(self))
