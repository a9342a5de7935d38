"""`ArrayBatches`: what an `ArrayDataset` is without Keras: arrays that are read by rows.

`load(rows)` gathers the rows of each leaf into reused buffers.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from numbers import Number
from typing import Any

import numpy as np

from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.parts import Parts, pack, unpack
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidDataError,
    UnsupportedArgumentError,
    told,
)
from keras_npbatch.plan.permutation import Rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.position import Fingerprint
from keras_npbatch.sources.sources import as_sources, num_rows
from keras_npbatch.tree import Tree, flatten, leaves, leaves_with_paths, map_with_none

__all__ = ["ArrayBatches"]

_LEAVES_TOLD = 8
"""So many leaves are in a `repr` at most."""
_ROWS_LOOKED_AT = 16
"""By which processes that train together tell whether they have the same data."""


class ArrayBatches(Batches):
    """Batches gathered from arrays; see `ArrayDataset` for the arguments."""

    def __init__(
        self, x: Tree, y: Tree = None, sample_weight: Tree = None, **settings: Any
    ) -> None:
        if isinstance(sample_weight, Number):
            raise InvalidArgumentError(
                f"sample_weight, the third argument, is {told(sample_weight)}; expected an array "
                "of weights. Settings are given by name: batch_size=32."
            )
        if sample_weight is not None and settings.get("class_weight") is not None:
            raise InvalidArgumentError(
                "sample_weight and class_weight were both given; expected one of them. Multiply "
                "the class weights into sample_weight."
            )
        parts = Parts(
            as_sources(x, "x"), as_sources(y, "y"), as_sources(sample_weight, "sample_weight")
        )
        changes = settings.get("transform"), settings.get("augment")
        if changes == (None, None):  # else they may make others of them
            _check_weights(parts, settings.get("class_weight"))
        rows = num_rows(**parts._asdict())
        if rows == 0:
            raise InvalidDataError(
                "x has 0 rows: there is nothing to make a batch of. Check how the data was "
                "selected."
            )
        data = pack(parts)
        self._sources, self._structure = flatten(data)
        self._is_flat = isinstance(data, tuple) and list(data) == self._sources
        super().__init__(rows, **settings)

    def load(self, rows: Rows) -> Tree:
        """Read rows of the arrays.

        Args:
            rows: whole numbers of shape `(n,)`, each a row of the data, in any order.

        Returns:
            The batch of these rows: `x`, `(x, y)` or `(x, y, sample_weight)`.

        Raises:
            IndexError: for a row that is not there.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"rows is {told(rows)}; expected whole numbers of shape (n,)."
            )
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.plan.num_rows:
            raise IndexError(
                f"rows go from {rows.min()} to {rows.max()}; expected numbers from 0 to "
                f"{self.plan.num_rows - 1}"
            )
        return self._gather(rows.astype(np.int64, copy=False))

    def _gather(self, rows: Rows) -> Tree:
        lease = self._slots.lease
        found = [source.read(rows, lease) for source in self._sources]
        # Without optree where it can be done without; see `tree`.
        return tuple(found) if self._is_flat else self._structure.unflatten(found)

    def _loading(self, plan: Plan, training: bool = True) -> Recipe:
        recipe = super()._loading(plan, training)
        if type(self).load is not ArrayBatches.load:
            return recipe
        changes = recipe.transform, recipe.augment, recipe.class_weight
        nothing_to_do = changes == (None, None, None) and plan.remainder != "pad"
        # The rows of a plan are in range, so they need no check.
        return replace(recipe, load=self._gather, finished=nothing_to_do)

    def _check_class_weight(self) -> None:
        super()._check_class_weight()
        changes = self._transform, self._augment
        if type(self).load is not ArrayBatches.load or changes != (None, None):
            return  # which may make others of them; each batch is looked at
        parts = unpack(self._structure.unflatten(self._sources), "the data")
        if parts.sample_weight is not None:
            raise UnsupportedArgumentError(
                f"fit(class_weight=...) was given with the dataset ({type(self).__name__}), which "
                "has a sample_weight; expected one of them. Multiply the class weights into "
                "sample_weight."
            )
        _check_weights(parts, class_weight=True)

    @property
    def _named_sources(self) -> list[tuple[str, Any]]:
        """Each leaf, by a path such as `x['image']`."""
        parts = unpack(self._structure.unflatten(self._sources), "the data")
        return [
            found
            for name, part in zip(Parts._fields, parts, strict=True)
            for found in leaves_with_paths(part, name)
        ]

    @property
    def _told_data(self) -> str:
        named = self._named_sources
        told_of = [
            f"{path} {source.dtype} {tuple(source.shape)}" for path, source in named[:_LEAVES_TOLD]
        ]
        if len(named) > _LEAVES_TOLD:
            told_of.append(f"... ({len(named)} arrays)")
        return "".join(f", {text}" for text in told_of)

    def _fingerprint(self) -> Fingerprint:
        return super()._fingerprint() | {
            path: [list(source.shape), str(source.dtype)] for path, source in self._named_sources
        }

    def _description(self) -> dict[str, Any]:
        # The same rows in another order would give other batches.
        last = self.plan.num_rows - 1
        rows = np.array([last * i // (_ROWS_LOOKED_AT - 1) for i in range(_ROWS_LOOKED_AT)])
        digest = hashlib.blake2b(digest_size=8)
        for leaf in leaves(self._gather(rows)):
            array = np.asarray(leaf)
            if not array.dtype.hasobject:
                digest.update(array.tobytes())
        return super()._description() | {"data": digest.hexdigest()}


def _check_weights(parts: Parts, class_weight: Any) -> None:
    """Refuses what a model with several outputs would fail on, or not take as it is meant.

    Raises:
        InvalidDataError: for weights that are not nested as the targets are.
        InvalidArgumentError: for class weights where there is no one array of labels.
    """
    outputs, weights = _paths(parts.y), _paths(parts.sample_weight)
    if weights not in ([""], outputs):  # one array, or None, goes with any targets
        raise InvalidDataError(
            f"the weights are {_listed('sample_weight', weights)}, but the targets "
            f"{_listed('y', outputs)}; expected weights nested as y is, None for an output that "
            "has none, or one array for all outputs."
        )
    if class_weight is not None and outputs != [""]:
        raise InvalidArgumentError(
            f"class_weight was given, and the targets are {_listed('y', outputs)}; expected one "
            "array of class labels. With several outputs, give a sample_weight for each instead."
        )


def _paths(tree: Tree) -> list[str]:
    return [path for path, _ in leaves_with_paths(map_with_none(lambda leaf: True, tree))]


def _listed(root: str, paths: list[str]) -> str:
    return ", ".join(root + path for path in paths)
