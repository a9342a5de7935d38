"""Hypothesis strategies for tests of loaders, transforms and anything else that reads batches.

    from hypothesis import given
    from keras_npbatch.testing import strategies as npst

    @given(npst.datasets())
    def test_every_batch_is_normalised(dataset):
        for x, *_ in dataset:
            ...

Each branch names the mistake that it catches; each docstring says what the strategy shrinks to.
Needs hypothesis: `pip install 'keras_npbatch[testing]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.parts import Parts, pack
from keras_npbatch.errors import MissingExtraError
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.balanced import Balanced
from keras_npbatch.samplers.block_shuffle import BlockShuffle
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.own import chosen_sampler
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.samplers.shuffle import Shuffle
from keras_npbatch.samplers.stratified import Stratified
from keras_npbatch.samplers.weighted import Weighted
from keras_npbatch.testing.array_layouts import ALL_DTYPES, LAYOUTS, filled, laid_out
from keras_npbatch.tree import Tree, leaves

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtraError(
        "keras_npbatch.testing.strategies needs hypothesis, which is not installed; "
        "pip install 'keras_npbatch[testing]'"
    ) from error

if TYPE_CHECKING:
    from keras_npbatch.dataset.array_dataset import ArrayDataset

__all__ = [
    "Pair",
    "arrays",
    "batches",
    "datasets",
    "nests",
    "plans",
    "resume_points",
    "row_numbers",
    "samplers",
    "settings",
    "shards",
]

_MODEL_DTYPES = tuple(map(np.dtype, ["float32", "float64", "int32", "uint8", "bool"]))
"""The dtypes that models take."""
_REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)


@st.composite
def arrays(
    draw: st.DrawFn,
    dtypes: Iterable[np.dtype[Any]] = tuple(ALL_DTYPES),
    *,
    num_rows: int | None = None,
) -> npt.NDArray[Any]:
    """Arrays of 1 to 4 dimensions and at least one row, in any memory layout.

    Shrinks to a contiguous array of the first dtype and shape `(1,)`.

    Args:
        draw: passed by hypothesis.
        dtypes: the possible dtypes; by default one of each kind that NumPy has.
        num_rows: number of rows; by default 1 to 9.
    """
    dtype = draw(st.sampled_from(list(dtypes)))
    # A dimension of 0: samples without features, with meaningless strides and pointers.
    features = draw(st.lists(st.integers(0, 4), max_size=3))
    rows = draw(st.integers(1, 9)) if num_rows is None else num_rows
    array = filled((rows, *features), dtype, draw(st.integers(0, 2**16)))
    return laid_out(array, draw(st.sampled_from(LAYOUTS)))


def row_numbers(num_rows: int) -> st.SearchStrategy[npt.NDArray[np.int64]]:
    """Arguments of `load(rows)`: any existing rows, in any order.

    Shrinks to no row at all.

    Args:
        num_rows: number of rows in the data.
    """
    any_row = st.integers(0, num_rows - 1)
    return st.one_of(
        st.lists(any_row, max_size=2 * num_rows + 3),  # some twice, more than the data have, none
        st.permutations(range(num_rows)),
        st.sets(any_row).map(sorted),  # increasing: nothing to put back in order
        st.sets(any_row).map(lambda rows: sorted(rows, reverse=True)),
        # A run: a source might answer with a view of its own memory.
        st.tuples(any_row, any_row).map(lambda ends: list(range(min(ends), max(ends) + 1))),
    ).map(lambda rows: np.array(rows, np.int64))


class Pair(NamedTuple):
    """A namedtuple, such as a user might nest leaves in."""

    left: Any
    right: Any


def nests(leaf: st.SearchStrategy[Any], *, with_none: bool = True) -> st.SearchStrategy[Any]:
    """Nestings of dicts, lists, tuples and namedtuples around at least one leaf.

    Shrinks to a leaf.

    Args:
        leaf: the strategy that draws a leaf.
        with_none: whether there may be None among the leaves.
    """
    # None is structure: a nest rebuilt from its leaves alone would lose it.
    others = st.none() if with_none else st.nothing()
    keys = st.sampled_from(["image", "age", 0, 1])

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        filler = inner | others
        return st.one_of(
            st.tuples(inner),  # of one: easily mistaken for the leaf itself
            st.tuples(filler, inner),  # the length of (x, y)
            st.tuples(inner, filler, filler),
            st.lists(inner, min_size=1, max_size=3),  # a list is a nesting, not a batch of rows
            # Unsorted keys, of types that can't be compared.
            st.dictionaries(keys, inner, min_size=1, max_size=3),
            st.builds(Pair, inner, filler),  # rebuilding it as `Pair(list)` would fail
        )

    return st.recursive(leaf, nest, max_leaves=5)


@st.composite
def batches(draw: st.DrawFn, num_samples: int, leaf: st.SearchStrategy[Any] | None = None) -> Tree:
    """Batches, or whole data sets, in every form that Keras takes: `x`, `(x, y)`, nested, weighted.

    Shrinks to one array of shape `(num_samples,)`.

    Args:
        draw: passed by hypothesis.
        num_samples: samples in each leaf.
        leaf: the strategy that draws an array of `num_samples` rows; by default, arrays of numbers
            that models take.
    """
    if leaf is None:
        leaf = arrays(_MODEL_DTYPES, num_rows=num_samples)
    x = draw(nests(leaf, with_none=False))
    # Weights without a target are valid too: (x, None, w).
    y = draw(st.none() | nests(leaf, with_none=False))
    weights = draw(st.none() | arrays([np.dtype("float32")], num_rows=num_samples))
    if weights is not None:
        # Keras aligns weights with the last axes of a loss, so they need as many axes as its
        # values: as many as integer targets, and as many as other targets without their last axis.
        axes = [leaf.ndim - (leaf.dtype.kind not in "iu") for leaf in leaves(y)]
        missing = max(axes, default=0) - weights.ndim
        weights = weights.reshape(weights.shape + (1,) * max(0, missing))
    return pack(Parts(x, y, weights))


@st.composite
def plans(draw: st.DrawFn, max_samples: int = 40) -> Plan:
    """Small plans of every kind, which say which rows are in which batch.

    Shrinks to one sample in a batch of one, in the order of the data.

    Args:
        draw: passed by hypothesis.
        max_samples: maximum number of samples.
    """
    chosen = draw(settings(max_samples))
    sampler = chosen_sampler(chosen["shuffle"], None)
    return Plan(**{name: chosen[name] for name in _OF_PLANS}, sampler=sampler)


_OF_PLANS = ("num_samples", "batch_size", "seed", "remainder")


@st.composite
def settings(
    draw: st.DrawFn,
    max_samples: int = 40,
    *,
    remainders: Iterable[Remainder] = _REMAINDERS,
    transforms: Iterable[Callable[..., Tree] | None] = (None,),
) -> dict[str, Any]:
    """Compatible keyword arguments of a `BatchDataset`, including `num_samples`.

    Shrinks to one sample in a batch of one, in the order of the data, without workers.

    Args:
        draw: passed by hypothesis.
        max_samples: maximum number of samples.
        remainders: the possible values of `remainder`.
        transforms: the possible values of `transform`; None means no transform.
    """
    remainder = draw(st.sampled_from(list(remainders)))
    batch_size = draw(st.integers(1, min(12, max_samples)))
    # Around one batch and its multiples: catches mistakes at the last batch and at a single one.
    ends = [1, batch_size - 1, batch_size, batch_size + 1, 3 * batch_size, 3 * batch_size + 1]
    # Fewer samples than a batch: one short batch, which `drop` refuses.
    fewest = batch_size if remainder == "drop" else 1
    fitting = [end for end in ends if fewest <= end <= max_samples]
    return {
        "num_samples": draw(st.sampled_from(fitting) | st.integers(fewest, max_samples)),
        "batch_size": batch_size,
        "shuffle": draw(st.booleans()),
        # Larger than any integer of JavaScript, which often reads JSON.
        "seed": draw(st.integers(0, 3) | st.integers(0, 2**128 - 1)),
        "remainder": remainder,
        "transform": draw(st.sampled_from(list(transforms))),
        "workers": draw(st.sampled_from([0, 1, 3])),
        "max_queue_size": draw(st.sampled_from([10, 1, 2])),  # 1: a queue that is always full
    }


@st.composite
def samplers(draw: st.DrawFn, num_rows: int) -> Sampler:
    """Any sampler of this library, for data of `num_rows` rows.

    Shrinks to the order of the data.

    Args:
        draw: passed by hypothesis.
        num_rows: rows in the data, from 1 up.
    """
    kinds: list[type[Sampler]] = [InOrder, Shuffle, BlockShuffle, LengthBuckets, Weighted]
    if num_rows > 1:  # otherwise there is one class
        kinds += [Stratified, Balanced]
    kind = draw(st.sampled_from(kinds))
    of_rows = st.lists(st.integers(0, 3), min_size=num_rows, max_size=num_rows)
    if kind is BlockShuffle:
        return BlockShuffle(draw(st.integers(1, num_rows)), draw(st.integers(1, 3)))
    if kind is LengthBuckets:
        return LengthBuckets(draw(of_rows), draw(st.integers(1, 3)))
    if kind is Weighted:
        weights = draw(of_rows)
        return Weighted([*weights[:-1], weights[-1] + 1], draw(st.none() | st.integers(1, 40)))
    if kind is Stratified or kind is Balanced:
        labels = draw(of_rows)
        labels[0] = 4  # another class than that of the others
        if kind is Stratified:
            return Stratified(labels)
        return Balanced(labels, num_samples=draw(st.none() | st.integers(1, 40)))
    return kind()


@st.composite
def datasets(draw: st.DrawFn, max_samples: int = 40) -> ArrayDataset:
    """An `ArrayDataset` of nested arrays with any settings, at one of its first epochs.

    Shrinks to one sample of one array in a batch of one, at epoch 0.

    Args:
        draw: passed by hypothesis.
        max_samples: maximum number of samples.
    """
    from keras_npbatch.batches.parts import unpack
    from keras_npbatch.dataset.array_dataset import ArrayDataset

    chosen = draw(settings(max_samples))
    data = unpack(draw(batches(chosen.pop("num_samples"))), "batches()")
    dataset = ArrayDataset(*data, **chosen)
    dataset.set_epoch(draw(st.integers(0, 5)))
    return dataset


@st.composite
def shards(draw: st.DrawFn, plan: Plan, max_count: int = 6) -> list[Plan]:
    """The plans of several processes that share the batches of a plan, by process index.

    Shrinks to the plan of one process, which is the plan itself.

    Args:
        draw: passed by hypothesis.
        plan: the plan of one process; its batches are the global batches.
        max_count: maximum number of processes.
    """
    whole = plan.of_shard(Shard())
    fitting = [count for count in range(1, max_count + 1) if whole.batch_size % count == 0]
    count = draw(st.sampled_from(fitting))
    return [whole.of_shard(Shard(index, count)) for index in range(count)]


def resume_points(dataset: Any, max_epochs: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """States from which a dataset can resume: `dataset.load_state_dict(state)`.

    Shrinks to the beginning of epoch 0.

    Args:
        dataset: a `BatchDataset`.
        max_epochs: number of epochs from which states are drawn.
    """
    return st.builds(
        lambda epoch, step: dataset.state_dict(epoch=epoch, step=step),
        st.integers(0, max_epochs - 1),
        # The step after the last is the first of the next epoch.
        st.integers(0, dataset.plan.num_batches),
    )
