"""`each(f)`: a function of one sample as a `transform` or an `augment`.

    def crop(sample, rng):
        image, label = sample
        top, left = rng.integers(0, 5, 2)
        return image[top : top + 60, left : left + 60], label

    ArrayDataset(images, labels, augment=each(crop))

A function of the batch is called once for all samples, and is faster if NumPy does the work. `each`
is for what is written for one sample. Its generator depends on (seed, epoch, row) alone, where that
of a function of the batch depends on (seed, epoch, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keras_npbatch.batches.collate import Collating, note_row
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.transforms import is_layer, name_of, wants_rng
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.rng import Purpose
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree, flatten, is_flat

__all__ = ["Each", "EachTransform", "each"]


def each(function: Callable[..., Tree]) -> Each:
    """A function of one sample, for `transform=` or `augment=` of a dataset.

    A sample has the nesting of the batch: `(x, y)` of a batch `(x, y)`, where each leaf has lost
    its first axis: arrays of shape `feature_shape`, which the function may write to, and NumPy
    scalars. The function returns the sample for the model, in any nesting: `x`, `(x, y)` or
    `(x, y, sample_weight)` of arrays, numbers and strings. The results are put together into
    arrays of shape `(batch_size, *feature_shape)`; numbers of Python become int64, float64 and
    bool, strings become objects.

    `rng` is a `np.random.Generator` of (seed, epoch, row). What a row gets is the same with any
    batch size, any shard and any workers. If a sampler repeats rows, it is the k-th draw of the row
    for the k-th time that it comes in an epoch. `evaluate` and `predict` draw as in epoch 0.

    Example:

    ```python
    def flip(sample, rng):
        image, label = sample
        return (image[:, ::-1] if rng.random() < 0.5 else image), label

    train = keras_npbatch.ArrayDataset(x, y, augment=keras_npbatch.each(flip))
    ```

    Args:
        function: `f(sample)` or `f(sample, rng)`. It may be called from several threads at once.

    Returns:
        What a dataset takes as `transform`, `augment`, or as one of a list of them.

    Raises:
        InvalidArgumentError: if it can't be called that way. While a batch is made,
            `InvalidBatchError` for a sample that differs from the others in nesting, shape or
            dtype; the message gives its row.
    """
    return Each(function)


class Each:
    """A checked function of one sample; see `each`."""

    __slots__ = ("draws", "function")

    def __init__(self, function: Callable[..., Tree]) -> None:
        if not callable(function):
            raise InvalidArgumentError(
                f"each was given {describe(function)}; expected a function of one sample: "
                "each(f), with f(sample) or f(sample, rng)."
            )
        if is_layer(function):
            raise InvalidArgumentError(
                f"each was given a Keras layer ({type(function).__name__}), which takes whole "
                "batches; expected a function of one sample. Put the layer into the model, or give "
                "it as transform=layer."
            )
        self.function = function
        self.draws = wants_rng(function, name_of(function), "sample")

    def __repr__(self) -> str:
        return f"each({name_of(self.function)})"


class EachTransform:
    """A function of one sample as a change of a batch.

    Args:
        given: the function.
        setting: the setting that it was given as, for messages.
        purpose: which stream its generators draw from.
        link: its number in a chain of functions.
    """

    def __init__(self, given: Each, setting: str, purpose: Purpose, link: int = 0) -> None:
        self.function, self.draws = given.function, given.draws
        self.setting, self.name = setting, repr(given)
        self._purpose, self._link = purpose, link

    @property
    def links(self) -> Sequence[EachTransform]:
        """The functions of a chain: this one."""
        return (self,)

    @property
    def called(self) -> str:
        """How the user's function was called, for notes."""
        return f"{self.setting}={self.name}"

    def __call__(self, batch: Tree, numbers: Generators, empty: Empty = np.empty) -> Tree:
        """The batch of what the function returns for each sample.

        Args:
            batch: in the form that Keras takes.
            numbers: the generators of the batch.
            empty: allocates arrays: `empty(shape, dtype)`.
        """
        rows = numbers.rows.tolist()
        drawn = numbers.of_samples(self._purpose, self._link) if self.draws else None
        sample_at = _taken_apart(batch)
        collating = Collating(rows, empty, f"{self.name} of {self.setting}")
        for number, row in enumerate(rows):
            try:
                sample = sample_at(number)
                if drawn is not None:
                    collating.add(self.function(sample, drawn[number]))
                else:
                    collating.add(self.function(sample))
            except Exception as error:
                note_row(error, row)
                raise
        return collating.batch()


def _taken_apart(batch: Tree) -> Callable[[int], Tree]:
    """A function that gives the sample at any position of a batch."""
    if is_flat(batch):  # without optree; see `tree`
        return lambda number: tuple([leaf[number] for leaf in batch])
    found, structure = flatten(batch)
    # pandas would take positions for labels.
    found = [getattr(leaf, "iloc", leaf) for leaf in found]
    return lambda number: structure.unflatten([leaf[number] for leaf in found])
