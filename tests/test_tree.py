"""Trees: paths, order, `None` and the maps over nested batches."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import tree as trees

exact = settings(deadline=None, derandomize=True, max_examples=200)


class Pair(NamedTuple):
    image: Any
    label: Any


class Leaf:
    """A leaf that equals itself alone, so that a test sees which one it got."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Leaf({self.number})"


def nest(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        # A namedtuple rebuilt as a tuple, or called with one argument.
        st.builds(Pair, children, children),
        # Keys with quotes and brackets in them: paths that can't be read back.
        st.dictionaries(st.text("ab'\"[]\\", max_size=3), children, max_size=3),
        # Keys that are no text, and keys that can't be sorted among each other.
        st.dictionaries(st.integers(-2, 2) | st.text("ab", max_size=1), children, max_size=3),
        st.dictionaries(st.text("ab", max_size=2), children, max_size=3).map(OrderedDict),
    )


nested = st.recursive(
    st.one_of(
        st.builds(Leaf, st.integers(0, 9)),
        # Structure, not a leaf; also as the whole tree.
        st.none(),
        # Texts and arrays look like sequences.
        st.sampled_from(["text", b"bytes", np.arange(3)]),
    ),
    nest,
    max_leaves=12,
)
# Most batches are no more than this, and go without optree.
flat = st.lists(st.integers(0, 9).map(np.arange), max_size=4).map(tuple)
any_tree = nested | flat


@exact
@given(tree=any_tree)
def test_a_path_is_the_expression_that_reads_the_leaf(tree: Any) -> None:
    for path, leaf in trees.leaves_with_paths(tree, "batch"):
        assert eval(path, {"batch": tree}) is leaf


@exact
@given(tree=any_tree)
def test_paths_differ_and_stand_beside_the_leaves_in_their_order(tree: Any) -> None:
    pairs = trees.leaves_with_paths(tree)
    assert len({path for path, _ in pairs}) == len(pairs)
    plain = trees.leaves(tree)
    assert len(plain) == len(pairs)
    assert all(leaf is other for leaf, (_, other) in zip(plain, pairs, strict=True))
    rooted = trees.leaves_with_paths(tree, "x")
    assert [path for path, _ in rooted] == ["x" + path for path, _ in pairs]


def shape_of(tree: Any) -> Any:
    """The structure alone: types, keys in their order, `None`, and L for a leaf."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return type(tree), [(key, shape_of(value)) for key, value in tree.items()]
    if isinstance(tree, list | tuple):
        return type(tree), [shape_of(value) for value in tree]
    return "L"


@exact
@given(tree=any_tree)
def test_maps_keep_the_structure_the_keys_in_their_order_and_every_none(tree: Any) -> None:
    assert shape_of(trees.map_leaves(lambda leaf: 0, tree)) == shape_of(tree)
    assert shape_of(trees.map_with_paths(lambda path, leaf: 0, tree)) == shape_of(tree)


@exact
@given(tree=any_tree)
def test_map_leaves_gives_each_leaf_to_the_function_once(tree: Any) -> None:
    seen: list[Any] = []
    mapped = trees.map_leaves(lambda leaf: seen.append(leaf) or (leaf,), tree)
    plain = trees.leaves(tree)
    assert [id(leaf) for leaf in seen] == [id(leaf) for leaf in plain]
    for path, leaf in trees.leaves_with_paths(tree, "batch"):
        assert eval(path, {"batch": mapped})[0] is leaf


@exact
@given(tree=any_tree)
def test_map_with_paths_gives_each_leaf_its_path(tree: Any) -> None:
    seen: list[tuple[str, Any]] = []

    def function(path: str, leaf: Any) -> Any:
        seen.append((path, leaf))
        return path

    mapped = trees.map_with_paths(function, tree, "batch")
    expected = trees.leaves_with_paths(tree, "batch")
    assert [path for path, _ in seen] == [path for path, _ in expected]
    assert all(mine is leaf for (_, mine), (_, leaf) in zip(seen, expected, strict=True))
    for path, _ in expected:
        assert eval(path, {"batch": mapped}) == path


@exact
@given(tree=any_tree)
def test_map_leaves_of_several_trees_pairs_the_leaves_of_one_path(tree: Any) -> None:
    paths = trees.map_with_paths(lambda path, leaf: path, tree)
    mapped = trees.map_leaves(lambda leaf, path, again: (leaf, path, again), tree, paths, paths)
    for path, leaf in trees.leaves_with_paths(tree):
        found = eval("batch" + path, {"batch": mapped})
        assert found[0] is leaf
        assert found[1:] == (path, path)


def test_the_paths_of_a_batch_with_everything_in_it() -> None:
    batch = ({"image": [1, (2, None)], "age": 3}, Pair(4, None), None, 5)
    assert trees.leaves_with_paths(batch, "batch") == [
        ("batch[0]['age']", 3),
        ("batch[0]['image'][0]", 1),
        ("batch[0]['image'][1][0]", 2),
        ("batch[1][0]", 4),
        ("batch[3]", 5),
    ]


def test_none_is_structure() -> None:
    assert trees.leaves(None) == []
    assert trees.leaves_with_paths((1, None, 2), "b") == [("b[0]", 1), ("b[2]", 2)]
    assert trees.map_leaves(lambda leaf: leaf + 1, (1, None, {"w": None})) == (2, None, {"w": None})
    assert trees.map_with_paths(lambda path, leaf: path, [None, 7]) == [None, "[1]"]
    assert trees.map_leaves(lambda leaf: 1 / 0, None) is None


def test_map_with_none_gives_each_none_to_the_function_too() -> None:
    mapped = trees.map_with_none(lambda leaf: (leaf,), {"y": [1, None], "w": None})
    assert mapped == {"y": [(1,), (None,)], "w": (None,)}
    assert trees.map_with_none(lambda leaf: (leaf,), None) == (None,)


def test_a_leaf_alone_is_a_tree() -> None:
    array = np.arange(3)
    assert trees.leaves(array)[0] is array
    assert [path for path, _ in trees.leaves_with_paths(array, "x")] == ["x"]
    assert [path for path, _ in trees.leaves_with_paths(array)] == [""]
    assert trees.map_leaves(len, array) == 3
    assert trees.map_with_paths(lambda path, leaf: path, array, "x") == "x"


def test_trees_without_leaves_stay_as_they_are() -> None:
    for tree in ((), [], {}, [(), {}], OrderedDict()):
        assert trees.leaves(tree) == []
        mapped = trees.map_leaves(lambda leaf: 1 / 0, tree)
        assert mapped == tree
        assert type(mapped) is type(tree)


def test_leaves_come_in_an_order_that_does_not_depend_on_how_a_dict_was_filled() -> None:
    one, other = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert trees.leaves(one) == trees.leaves(other) == [2, 1]
    assert trees.map_leaves(lambda mine, others: (mine, others), one, other) == {
        "b": (1, 1),
        "a": (2, 2),
    }


def test_a_mapped_dict_keeps_the_order_of_its_keys() -> None:
    for mapped in (
        trees.map_leaves(lambda leaf: leaf, {"b": 1, "c": 2, "a": 3}),
        trees.map_with_paths(lambda path, leaf: leaf, {"b": 1, "c": 2, "a": 3}),
    ):
        assert list(mapped.items()) == [("b", 1), ("c", 2), ("a", 3)]


def test_a_mapped_namedtuple_is_one() -> None:
    mapped = trees.map_leaves(lambda leaf: -leaf, Pair(1, 2))
    assert type(mapped) is Pair
    assert (mapped.image, mapped.label) == (-1, -2)


@pytest.mark.parametrize(
    ("tree", "other"),
    [
        ((1, 2), (1, 2, 3)),
        ({"a": 1}, {"b": 1}),
        ((1, 2), [1, 2]),
        ((1, None), (1, 2)),
        (Pair(1, 2), (1, 2)),
    ],
)
def test_trees_of_another_structure_are_refused(tree: Any, other: Any) -> None:
    with pytest.raises(ValueError, match=r"[Ee]xpected"):
        trees.map_leaves(lambda *found: found, tree, other)


def test_an_error_in_the_function_reaches_the_caller_as_itself() -> None:
    error = KeyError("mine")

    def fail(*_: Any) -> Any:
        raise error

    for call in (trees.map_leaves, trees.map_with_paths):
        with pytest.raises(KeyError) as caught:
            call(fail, {"a": 1})
        assert caught.value is error


def test_a_tuple_of_arrays_is_flat() -> None:
    array = np.zeros(2)
    assert trees.is_flat((array, array))
    assert not any(map(trees.is_flat, [[array], (array, 1), ((array,),), array, None]))


def test_none_is_a_leaf_where_that_is_asked_for() -> None:
    found, structure = trees.flatten({"a": 1, "b": None}, none_is_leaf=True)
    assert found == [1, None]
    assert structure.unflatten([2, 3]) == {"a": 2, "b": 3}
    assert trees.flatten({"a": 1, "b": None})[0] == [1]
