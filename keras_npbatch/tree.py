"""Nested batches: any nesting of dict, tuple, list (and namedtuple) around leaves.

`None` is structure, not a leaf: `(x, None, w)` has the leaves of `x` and `w`, and keeps its `None`.
This is a thin layer over optree (Keras depends on it too), so that paths read the same in every
message: `x['image'][0]`. Most batches are a flat tuple of arrays and do without optree: a training
loop fills the processor's caches with its own code and data, and there each call of optree costs
ten times what it costs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import optree

__all__ = [
    "Tree",
    "flatten",
    "is_flat",
    "leaves",
    "leaves_with_paths",
    "map_leaves",
    "map_with_none",
    "map_with_paths",
]

Tree: TypeAlias = Any
"""A leaf, or a dict, tuple, list or None of trees."""


def is_flat(tree: Tree) -> bool:
    """Whether `tree` is a tuple of arrays, which are then its leaves."""
    if type(tree) is not tuple:
        return False
    for leaf in tree:  # noqa: SIM110  # a generator would take longer than the look
        if type(leaf) is not np.ndarray:
            return False
    return True


def leaves(tree: Tree) -> list[Any]:
    """The leaves of `tree` in a fixed order."""
    if is_flat(tree):
        return list(tree)
    found: list[Any] = optree.tree_leaves(tree)
    return found


def flatten(tree: Tree, none_is_leaf: bool = False) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of `tree`, and its structure: `structure.unflatten(leaves)` is `tree`."""
    return optree.tree_flatten(tree, none_is_leaf=none_is_leaf)


def leaves_with_paths(tree: Tree, root: str = "") -> list[tuple[str, Any]]:
    """`(path, leaf)` for each leaf; a path is `root` followed by `['key']` and `[index]`."""
    paths, found, _ = optree.tree_flatten_with_path(tree)
    return [
        (root + "".join(f"[{key!r}]" for key in path), leaf)
        for path, leaf in zip(paths, found, strict=True)
    ]


def map_leaves(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """A tree like `tree` whose leaves are `function(leaf, *leaves of the others)`."""
    if not others and is_flat(tree):
        return tuple([function(leaf) for leaf in tree])
    return optree.tree_map(function, tree, *others)


def map_with_none(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """A tree like `tree` whose leaves are `function(leaf)`, where None counts as a leaf."""
    return optree.tree_map(function, tree, none_is_leaf=True)


def map_with_paths(function: Callable[[str, Any], Any], tree: Tree, root: str = "") -> Tree:
    """A tree like `tree` whose leaves are `function(path, leaf)`."""
    _, structure = flatten(tree)
    return structure.unflatten([function(*found) for found in leaves_with_paths(tree, root)])
