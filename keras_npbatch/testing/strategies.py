"""Hypothesis strategies for tests of loaders, transforms and whatever reads batches.

    from hypothesis import given
    from keras_npbatch.testing import strategies as npst

    @given(npst.datasets())
    def test_every_batch_is_normalised(dataset):
        for x, *_ in dataset:
            ...

Each branch is there for a mistake that it catches, and says so; what a strategy shrinks to is in
its docstring. Needs hypothesis: `pip install 'keras_npbatch[testing]'`.
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
    "settings",
    "shards",
]

_MODEL_DTYPES = tuple(map(np.dtype, ["float32", "float64", "int32", "uint8", "bool"]))
"""What models take."""
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
        draw: hypothesis passes it.
        dtypes: which there may be; by default one of each kind that NumPy has.
        num_rows: how many rows; by default 1 to 9.
    """
    dtype = draw(st.sampled_from(list(dtypes)))
    # A dimension of 0: samples without features, whose strides and pointers mean nothing.
    features = draw(st.lists(st.integers(0, 4), max_size=3))
    rows = draw(st.integers(1, 9)) if num_rows is None else num_rows
    array = filled((rows, *features), dtype, draw(st.integers(0, 2**16)))
    return laid_out(array, draw(st.sampled_from(LAYOUTS)))


def row_numbers(num_rows: int) -> st.SearchStrategy[npt.NDArray[np.int64]]:
    """What a `load(rows)` may be asked for: any rows that are there, in any order.

    Shrinks to no row at all.

    Args:
        num_rows: how many there are.
    """
    any_row = st.integers(0, num_rows - 1)
    return st.one_of(
        st.lists(any_row, max_size=2 * num_rows + 3),  # some twice, more than there are, none
        st.permutations(range(num_rows)),
        st.sets(any_row).map(sorted),  # increasing: what needs no putting back
        st.sets(any_row).map(lambda rows: sorted(rows, reverse=True)),
        # A run: a source might answer with a view of its own memory.
        st.tuples(any_row, any_row).map(lambda ends: list(range(min(ends), max(ends) + 1))),
    ).map(lambda rows: np.array(rows, np.int64))


class Pair(NamedTuple):
    """A nest of the user's own."""

    left: Any
    right: Any


def nests(leaf: st.SearchStrategy[Any], *, with_none: bool = True) -> st.SearchStrategy[Any]:
    """Nestings of dict, list, tuple and namedtuple around at least one leaf.

    Shrinks to a leaf.

    Args:
        leaf: what draws one.
        with_none: whether there may be None in between.
    """
    # None is structure: a nest rebuilt from its leaves alone would lose it.
    others = st.none() if with_none else st.nothing()
    keys = st.sampled_from(["image", "age", 0, 1])

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        filler = inner | others
        return st.one_of(
            st.tuples(inner),  # of one: easily taken for the leaf itself
            st.tuples(filler, inner),  # as long as (x, y)
            st.tuples(inner, filler, filler),
            st.lists(inner, min_size=1, max_size=3),  # a list is nesting, not a batch of rows
            # Keys out of order, and of types that can't be compared.
            st.dictionaries(keys, inner, min_size=1, max_size=3),
            st.builds(Pair, inner, filler),  # rebuilt as `Pair(list)` it would fail
        )

    return st.recursive(leaf, nest, max_leaves=5)


@st.composite
def batches(draw: st.DrawFn, num_samples: int, leaf: st.SearchStrategy[Any] | None = None) -> Tree:
    """Batches, or whole data sets, in every form that Keras takes: `x`, `(x, y)`, nested, weighted.

    Shrinks to one array of shape `(num_samples,)`.

    Args:
        draw: hypothesis passes it.
        num_samples: samples in each leaf.
        leaf: what draws an array of so many; by default numbers as models take them.
    """
    if leaf is None:
        leaf = arrays(_MODEL_DTYPES, num_rows=num_samples)
    x = draw(nests(leaf, with_none=False))
    # Weights without a target are a batch too: (x, None, w).
    y = draw(st.none() | nests(leaf, with_none=False))
    weights = draw(st.none() | arrays([np.dtype("float32")], num_rows=num_samples))
    if weights is not None:
        # Keras aligns weights with the last axes of a loss, so they need as many as its values.
        # Of targets that are whole numbers these may have all axes, of others all but the last.
        axes = [leaf.ndim - (leaf.dtype.kind not in "iu") for leaf in leaves(y)]
        missing = max(axes, default=0) - weights.ndim
        weights = weights.reshape(weights.shape + (1,) * max(0, missing))
    return pack(Parts(x, y, weights))


@st.composite
def plans(draw: st.DrawFn, max_samples: int = 40) -> Plan:
    """Small plans of every kind: which rows are in which batch.

    Shrinks to one sample in a batch of one, in the order of the data.

    Args:
        draw: hypothesis passes it.
        max_samples: samples at most.
    """
    chosen = draw(settings(max_samples))
    return Plan(**{name: chosen[name] for name in _OF_PLANS})


_OF_PLANS = ("num_samples", "batch_size", "seed", "shuffle", "remainder")


@st.composite
def settings(
    draw: st.DrawFn,
    max_samples: int = 40,
    *,
    remainders: Iterable[Remainder] = _REMAINDERS,
    transforms: Iterable[Callable[..., Tree] | None] = (None,),
) -> dict[str, Any]:
    """Keyword arguments of a `BatchDataset`, `num_samples` among them, that go together.

    Shrinks to one sample in a batch of one, in the order of the data, made by no worker.

    Args:
        draw: hypothesis passes it.
        max_samples: samples at most.
        remainders: which there may be.
        transforms: which there may be; a None is none.
    """
    remainder = draw(st.sampled_from(list(remainders)))
    batch_size = draw(st.integers(1, min(12, max_samples)))
    # Around one batch and its multiples: mistakes at the last batch and at a single one.
    ends = [1, batch_size - 1, batch_size, batch_size + 1, 3 * batch_size, 3 * batch_size + 1]
    # Fewer than a batch: one short batch, which `drop` refuses.
    fewest = batch_size if remainder == "drop" else 1
    fitting = [end for end in ends if fewest <= end <= max_samples]
    return {
        "num_samples": draw(st.sampled_from(fitting) | st.integers(fewest, max_samples)),
        "batch_size": batch_size,
        "shuffle": draw(st.booleans()),
        # Longer than any number of JavaScript's, which is what JSON is often read with.
        "seed": draw(st.integers(0, 3) | st.integers(0, 2**128 - 1)),
        "remainder": remainder,
        "transform": draw(st.sampled_from(list(transforms))),
        "workers": draw(st.sampled_from([0, 1, 3])),
        "max_queue_size": draw(st.sampled_from([10, 1, 2])),  # 1: a queue that is always full
    }


@st.composite
def datasets(draw: st.DrawFn, max_samples: int = 40) -> ArrayDataset:
    """An `ArrayDataset` of nested arrays with any settings, at any of its first epochs.

    Shrinks to one sample of one array in a batch of one, at epoch 0.

    Args:
        draw: hypothesis passes it.
        max_samples: samples at most.
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
    """The plans of all processes that could share the batches of a plan, in their order.

    Shrinks to that of one process, which is the plan itself.

    Args:
        draw: hypothesis passes it.
        plan: of one process; its batches are the global ones.
        max_count: processes at most.
    """
    whole = plan.of_shard(Shard())
    fitting = [count for count in range(1, max_count + 1) if whole.batch_size % count == 0]
    count = draw(st.sampled_from(fitting))
    return [whole.of_shard(Shard(index, count)) for index in range(count)]


def resume_points(dataset: Any, max_epochs: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """States from which a dataset can go on: `dataset.load_state_dict(state)`.

    Shrinks to the beginning of epoch 0.

    Args:
        dataset: a `BatchDataset`.
        max_epochs: epochs that there are states in.
    """
    return st.builds(
        lambda epoch, step: dataset.state_dict(epoch=epoch, step=step),
        st.integers(0, max_epochs - 1),
        # The step behind the last is the first of the next epoch.
        st.integers(0, dataset.plan.num_batches),
    )
