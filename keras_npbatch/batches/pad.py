"""`collate=pad(...)`: sequences of any length, as `load` or `load_sample` returned them, padded.

    class Texts(BatchDataset):
        def load(self, rows):
            return [self.texts[row] for row in rows], self.labels[rows]

    Texts(num_samples=1000, collate=pad(pad_to=(64, 128)))     # x: (n, 64) or (n, 128)

They are padded as the rows of `sources.Ragged` are, by the same code. What differs: the lengths are
known only once they are loaded, so processes that train together need one width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import optree

from keras_npbatch.batches.parts import Parts
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidBatchError,
    InvalidDataError,
    describe,
)
from keras_npbatch.plan.shard import Shard
from keras_npbatch.sources.padding import Beside, Padding, Side
from keras_npbatch.sources.sequences import sequences_of_list
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["Collate", "Collation", "Pad", "collation_of", "pad"]


def pad(
    pad_to: int | Sequence[int] | None = None,
    *,
    pad_value: Any = 0,
    side: Side = "right",
    truncate: Side | Literal[False] = False,
    lengths: Beside = False,
) -> Pad:
    """How a dataset with `collate=` pads sequences of any length.

    In what `load(rows)` returns, a list with one array for each row is then a leaf, not a nesting
    (write nestings as dicts and tuples), and so is an object array of arrays. Of what
    `load_sample(row)` returns, each leaf with an axis is a sequence. Leaves of one length keep it
    if `collate` says so: `collate=(pad(), None)` pads `x` and not `y`, and
    `collate={"text": pad(), "image": None}` one input of two.

    Example:

    ```python
    class Texts(keras_npbatch.BatchDataset):
        def load(self, rows):
            return [read_tokens(row) for row in rows], labels[rows]

    train = Texts(num_samples=len(labels), collate=keras_npbatch.pad(pad_to=(64, 128, 256)))
    ```

    Args:
        pad_to: the width: None for the longest row of the batch; a number; or several, in rising
            order: the smallest that fits is taken. With a `shard` it must be a number, since no
            process knows how long the sequences are that others load.
        pad_value: what is added.
        side: where it is added.
        truncate: the side at which time steps beyond the last `pad_to` are left out. False: a
            longer sequence is refused.
        lengths: True: `{"values": ..., "lengths": ...}` in place of the leaf, with the length of
            each row, int64 `(batch_size,)`. `"mask"`: `{"values": ..., "mask": ...}`, with True
            where there is no padding, bool `(batch_size, width)`.

    Returns:
        What `BatchDataset` and `SampleDataset` take as `collate`: an array of shape
        `(batch_size, width, *inner_shape)` for each leaf.

    Raises:
        InvalidArgumentError: for an invalid argument, and for a `pad_value` that the dtype of the
            sequences can't hold. While a batch is made, `InvalidBatchError` for sequences without a
            time step, of unequal inner shapes or dtypes, or longer than the last `pad_to`.
    """
    return Pad(Padding(pad_to, pad_value, side, truncate, lengths))


class Pad:
    """How the sequences of a leaf are padded; see `pad`."""

    __slots__ = ("padding",)

    def __init__(self, padding: Padding) -> None:
        self.padding = padding

    def __repr__(self) -> str:
        of, more = self.padding, ""
        if of.truncate:
            more += f", truncate={of.truncate!r}"
        if of.beside:
            more += f", lengths={of.beside!r}"
        return f"pad({of.told}{more})"

    def __call__(self, sequences: Any, name: str, empty: Empty, more: int = 0) -> Tree:
        """The sequences of a batch as one array, with the lengths or the mask if asked for.

        Args:
            sequences: a list or an object array, with an array for each row.
            name: what they are called, for messages.
            empty: allocates the array.
            more: by how much it is wider than need be.

        Raises:
            InvalidBatchError: if they can't be padded.
        """
        padding = self.padding
        try:
            rows = padding.fitting(sequences_of_list(sequences, name), name)
        except InvalidDataError as error:
            raise InvalidBatchError(str(error)) from None
        values = padding.padded(rows, empty, more)
        if padding.beside is True:
            return {"values": values, "lengths": np.array(rows.lengths)}
        if padding.beside == "mask":
            mask = empty(values.shape[:2], np.dtype(bool))
            mask[...] = padding.is_real(rows.lengths, values.shape[1])
            return {"values": values, "mask": mask}
        return values


Collate: TypeAlias = Pad | dict[Any, Any] | tuple[Any, ...]
"""What a user gives as `collate`: a `Pad`, or a nesting of them as that of the batch."""


class Collation:
    """Which leaves of a batch are padded, and how.

    Args:
        given: what the user gave as `collate`.
    """

    def __init__(self, given: Collate) -> None:
        self._given, self._more = given, 0
        self.name = repr(given)
        """What decides its batches, in words."""
        pads = _pads(given, "collate")
        if not pads:
            raise InvalidArgumentError(f"collate is {describe(given)}; {_EXPECTED}")
        self.varies = any(each.padding.width is None for each in pads)
        """Whether the width of a batch depends on the sequences in it."""

    def wider(self) -> Collation:
        """The same, but for leaves whose width varies, which are wider by a time step."""
        twin = copy.copy(self)
        twin._more = 1
        return twin

    def refuse_shard(self, shard: Shard) -> None:
        """Refuse one of several processes, if these can't know one another's widths.

        Raises:
            InvalidArgumentError: saying what to write.
        """
        if self.varies and shard.count > 1:
            raise InvalidArgumentError(
                f"collate={self.name} was given with {shard}; expected one width, since no process "
                "knows how long the sequences are that others load, and all must have the same "
                "shapes. Give pad_to a number: pad(pad_to=256). (sources.Ragged knows all lengths, "
                "and needs none.)"
            )

    def batch(self, loaded: Tree, empty: Empty) -> Tree:
        """What `load` returned, with its lists of arrays padded.

        Raises:
            InvalidBatchError: if they can't be; the message names the leaf.
        """
        paths, found, structure = optree.tree_flatten_with_path(loaded, is_leaf=_is_sequences)
        kind, is_padded = type(loaded), False
        for number, path in enumerate(paths):
            if _is_sequences(found[number]):
                how = self.of(path, kind)
                if how is not None:
                    found[number] = self.leaf(how, found[number], path, kind, empty)
                    is_padded = True
        if not is_padded:
            self.refuse(loaded, "load(rows)", "a list with an array for each row")
        return structure.unflatten(found)

    def refuse(self, came: Any, returned_by: str, expected: str) -> NoReturn:
        """Refuse a batch, or a sample, in which there is nothing to pad."""
        raise InvalidBatchError(
            f"{returned_by} returned {describe(came)}, and collate is {self.name}; expected "
            f"{expected} where it pads. Leave collate out if there is nothing to pad."
        )

    def leaf(
        self, how: Pad, sequences: list[Any], path: tuple[Any, ...], kind: type | None, empty: Empty
    ) -> Tree:
        """The sequences of the leaf at a path, padded; see `of`."""
        return how(sequences, f"{_named(path, kind)} in the batch", empty, self._more)

    def of(self, path: tuple[Any, ...], kind: type | None) -> Pad | None:
        """How the leaf at a path is padded, if it is.

        Args:
            path: the keys and indices that lead to it from the batch or sample.
            kind: the type of the batch or sample.

        Raises:
            InvalidBatchError: if `collate` has no place for it.
        """
        how: Any = self._given
        is_x_alone = isinstance(how, tuple) and not _has_parts(kind)
        for key in (0, *path) if is_x_alone else path:
            if how is None or isinstance(how, Pad):
                break
            try:
                how = how[key]
            except (KeyError, IndexError, TypeError):
                raise InvalidBatchError(
                    f"collate is {self.name}, which has nothing for {_named(path, kind)}; expected "
                    "a pad or None for it, nested as the batch is, or a single pad for all."
                ) from None
        return how if isinstance(how, Pad) else None


_EXPECTED = (
    "expected keras_npbatch.pad(...), or a nesting of it and None like that of a batch: "
    "(pad(), None), {'text': pad(), 'image': None}. What else is to be done to batches is "
    "transform=function."
)


def collation_of(given: Any) -> Collation | None:
    """What `collate=` says; None if it is not given.

    Raises:
        InvalidArgumentError: if it is neither `pad(...)` nor a nesting of it.
    """
    return None if given is None else Collation(given)


def _pads(given: Any, path: str) -> list[Pad]:
    if isinstance(given, Pad):
        return [given]
    if given is None:
        return []
    if isinstance(given, dict):
        pairs = [(f"{path}[{key!r}]", each) for key, each in given.items()]
    elif isinstance(given, tuple):
        pairs = [(f"{path}[{number}]", each) for number, each in enumerate(given)]
    else:
        raise InvalidArgumentError(f"{path} is {describe(given)}; {_EXPECTED}")
    return [found for name, each in pairs for found in _pads(each, name)]


def _is_sequences(value: Any) -> bool:
    """Whether it is a list, or an object array of arrays or lists."""
    if type(value) is list:
        return True
    if not isinstance(value, np.ndarray) or value.dtype != object or value.ndim != 1:
        return False
    return any(isinstance(each, np.ndarray | list) for each in value)


def _has_parts(kind: type | None) -> bool:
    """Whether a batch of this type is `(x, y)` or the like, not `x` alone."""
    return kind is not None and issubclass(kind, tuple)


def _named(path: tuple[Any, ...], kind: type | None) -> str:
    first = "x"
    if _has_parts(kind) and path and path[0] in range(len(Parts._fields)):
        first, path = Parts._fields[path[0]], path[1:]
    return first + "".join(f"[{key!r}]" for key in path)
