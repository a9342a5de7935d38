"""Samples put together are the rows of arrays; and what is no sample is refused by its row."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.batches.collate import Collating
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.errors import InvalidBatchError
from keras_npbatch.testing.array_layouts import ALL_DTYPES
from keras_npbatch.testing.strategies import arrays, batches
from keras_npbatch.tree import flatten, map_leaves
from tests.comparing import assert_same_array
from tests.installed import needs


def collated(*samples: Any, empty: Any = np.empty) -> Any:
    collating = Collating([10 * number for number in range(len(samples))], empty, "load_sample")
    for sample in samples:
        collating.add(sample)
    return collating.batch()


def as_leaf(array: Any) -> Any:
    """Texts are objects; a scalar, as it is in an array of one axis, has native bytes."""
    if array.dtype.kind in "UST":
        return array.astype(object)
    return array if array.ndim > 1 else array.astype(array.dtype.newbyteorder("="))


# The elements of others are Python's objects, or records: not what they are in the array.
_DTYPES = [dtype for dtype in ALL_DTYPES if dtype.kind not in "OTV"]


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 6))
def test_rows_of_arrays_become_these_arrays(data, n):
    batch = data.draw(batches(n, arrays(_DTYPES, num_rows=n)))
    found, structure = flatten(batch)
    slots = Slots(PrivateMemory(kept=2))
    samples = [structure.unflatten([leaf[number] for leaf in found]) for number in range(n)]
    again, same = flatten(collated(*samples, empty=slots.lease))
    assert same == structure
    for one, other in zip(again, found, strict=True):
        assert_same_array(one, as_leaf(other))
        assert one.flags.c_contiguous
        assert one.flags.writeable


def test_a_buffer_that_is_filled_again_is_copied_in_time():
    buffer = np.zeros(3)
    collating = Collating([0, 1], np.empty, "load_sample")
    for value in (1, 2):
        buffer[:] = value
        collating.add(buffer)
    buffer[:] = 3
    assert collating.batch().tolist() == [[1] * 3, [2] * 3]


def test_large_leaves_are_in_memory_that_is_reused():
    slots = Slots(PrivateMemory(kept=2))
    batch = collated(np.ones((64, 2048)), np.ones((64, 2048)), empty=slots.lease)
    assert slots.num_leased == 1
    del batch
    assert slots.num_leased == 0


class Point(NamedTuple):
    x: Any
    y: Any


@pytest.mark.parametrize(
    ("samples", "dtype", "shape"),
    [
        ([True, False], "bool", (2,)),
        ([1, -(2**63)], "int64", (2,)),
        ([0.5, 2.0], "float64", (2,)),
        ([1j, 2j], "complex128", (2,)),
        ([np.float32(1), np.float32(2)], "float32", (2,)),
        ([np.datetime64("2020-01-01"), np.datetime64("2021-01-01")], "datetime64[D]", (2,)),
        ([[1, 2, 3], [4, 5, 6]], "int64", (2, 3)),
        ([[[0.5], [1.0]], [[2.0], [3.0]]], "float64", (2, 2, 1)),
        (["a", "longer"], "object", (2,)),
        ([b"a\0", b"longer\0"], "object", (2,)),
        ([np.str_("a"), "longer"], "object", (2,)),
        ([np.array(["a", "b"]), np.array(["longer", "c"])], "object", (2, 2)),
        ([["a", "b"], ["longer", "c"]], "object", (2, 2)),
    ],
    ids=str,
)
def test_numbers_strings_and_lists_of_them_are_leaves(samples, dtype, shape):
    batch = collated(*samples)
    assert (batch.dtype, batch.shape) == (np.dtype(dtype), shape)
    expected = [sample.tolist() if hasattr(sample, "tolist") else sample for sample in samples]
    if dtype != "datetime64[D]":
        assert batch.tolist() == expected
        types = {type(value) for value in batch.reshape(-1).tolist()}
        assert types <= {bool, int, float, complex, str, bytes}


def test_dicts_tuples_and_lists_of_arrays_are_nestings():
    samples = [
        (Point(number, {"b": np.ones(2), "a": None}), [np.zeros(1), number], 1.0)
        for number in range(3)
    ]
    x, y, weight = collated(*samples)
    assert type(x) is Point
    assert x.x.tolist() == [0, 1, 2]
    assert list(x.y) == ["b", "a"]
    assert collated([np.int16(1)], [np.int16(2)])[0].dtype == "int16"
    assert x.y["a"] is None
    assert type(y) is list
    assert [leaf.shape for leaf in y] == [(3, 1), (3,)]
    assert weight.tolist() == [1.0] * 3
    assert collated({"b": 1, "a": 2}, {"a": 3, "b": 4})["a"].tolist() == [2, 3]
    ordered = collated(OrderedDict(b=1, a=2), OrderedDict(b=3, a=4))
    assert type(ordered) is OrderedDict


@needs("torch")
def test_tensors_and_pictures_are_taken_as_arrays():
    import PIL.Image
    import torch

    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    samples = [
        (PIL.Image.fromarray(pixels + number), torch.full((2,), float(number)))
        for number in range(3)
    ]
    x, y = collated(*samples)
    assert_same_array(x, np.stack([pixels + number for number in range(3)]))
    assert_same_array(y, np.array([[0, 0], [1, 1], [2, 2]], np.float32))


NO_LEAF = "expected an array, a number or a string, or a nesting of dicts and tuples of them."


class Words(dict):
    """A mapping that is no dict to optree."""


REFUSED = {
    "shape": (
        [(np.zeros((4, 3)), 0), (np.zeros((4, 3)), 0), (np.zeros((5, 3)), 0)],
        "load_sample returned ndarray of shape (5, 3) and dtype float64 for x of row 20, but for "
        "row 0 one of shape (4, 3); expected one shape for all samples of a batch. Pad, crop or "
        "resize them to one.",
    ),
    "list": (
        [{"ids": [1, 2]}, {"ids": [1, 2, 3]}],
        "load_sample returned [1, 2, 3] (list) for x['ids'] of row 10, but for row 0 one of shape "
        "(2,); expected one shape for all samples of a batch. Pad, crop or resize them to one.",
    ),
    "dtype": (
        [(1.0, 2), (1.0, 2.5)],
        "load_sample returned 2.5 (float) for y of row 10, but for row 0 one of dtype int64; "
        "expected one dtype for all samples. Convert them to one, such as np.asarray(value, "
        "'float32').",
    ),
    "missing": (
        [({"a": 1, "b": 2}, 3), ({"a": 1, "b": None}, 3)],
        "load_sample returned ({'a': *, 'b': None}, *) for row 10, and ({'a': *, 'b': *}, *) for "
        "row 0; expected the same parts and names for each sample. If a value is missing, return "
        "one that stands for it, such as 0, and a mask or a weight.",
    ),
    "a part more": (
        [(1, 2), (1, 2, 3)],
        "load_sample returned (*, *, *) for row 10, and (*, *) for row 0; expected the same parts "
        "and names for each sample. If a value is missing, return one that stands for it, such as "
        "0, and a mask or a weight.",
    ),
    "nothing": (
        [np.zeros(3), None],
        "load_sample returned None; expected x, (x,), (x, y) or (x, y, sample_weight), each an "
        "array or a nesting of arrays. Is there a `return` at its end?",
    ),
    "four": (
        [(1, 2, 3, 4)],
        "load_sample returned a tuple of 4; expected x, (x,), (x, y) or (x, y, sample_weight), "
        "each an array or a nesting of arrays. Wrap several inputs into one: ((x1, x2), y).",
    ),
    "date": (
        [(1, datetime.date(2020, 1, 1))],
        "load_sample returned datetime.date(2020, 1, 1) (date) for y of row 0; "
        f"{NO_LEAF} Convert it, or leave it out.",
    ),
    "sparse": (
        [scipy.sparse.eye_array(2, format="csr")],
        "load_sample returned csr_array of shape (2, 2) and dtype float64 for x of row 0; "
        f"{NO_LEAF} Make it dense: .toarray().",
    ),
    "large": (
        [1, 2**63],
        f"load_sample returned {2**63} (int) for x of row 10; {NO_LEAF} Whole numbers have at most "
        "64 bits.",
    ),
    "lists": (
        [[[1, 2], [3]]],
        f"load_sample returned [[1, 2], [3]] (list) for x of row 0; {NO_LEAF} Lists in a list need "
        "one length: pad them.",
    ),
    "mixed": (
        [{"a": [1, "b"]}],
        f"load_sample returned [1, 'b'] (list) for x['a'] of row 0; {NO_LEAF} Lists in a list need "
        "one length: pad them.",
    ),
    "mask": (
        [np.ma.masked_equal([1, 2], 2)],
        "load_sample returned MaskedArray of shape (2,) and dtype int64 for x of row 0; "
        f"{NO_LEAF} Fill what is masked, .filled(value), and return the mask as another leaf.",
    ),
    "mapping": (
        [Words(a=1)],
        f"load_sample returned {{'a': 1}} (Words) for x of row 0; {NO_LEAF} Return a plain dict: "
        "dict(sample).",
    ),
}


class Kind(IntEnum):
    CAT = 0
    DOG = 3


def test_members_of_an_enum_of_integers_are_integers():
    for dog in (Kind.DOG, 3, np.int64(3)):
        batch = collated((np.zeros(2), Kind.CAT), (np.ones(2), dog))
        assert batch[1].dtype == np.int64
        assert batch[1].tolist() == [0, 3]
    assert collated({"kind": 3}, {"kind": Kind.DOG})["kind"].tolist() == [3, 3]
    assert collated([Kind.CAT, Kind.DOG], [1, 2]).tolist() == [[0, 3], [1, 2]]


@pytest.mark.parametrize(("samples", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_put_together_is_refused_by_its_row(samples, message):
    with pytest.raises(InvalidBatchError) as caught:
        collated(*samples)
    assert str(caught.value) == message


@needs("torch")
def test_a_tensor_that_numpy_can_not_take_is_refused_with_what_to_write():
    import torch

    for tensor in (torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.bfloat16)):
        with pytest.raises(InvalidBatchError) as caught:
            collated((0, tensor))
        assert str(caught.value) == (
            f"load_sample returned Tensor of shape (2,) and dtype {tensor.dtype} for y of row 0; "
            f"{NO_LEAF} Make an array of it: tensor.detach().cpu().numpy(), of a dtype that NumPy "
            "has."
        )


def test_each_kind_of_flat_sample_may_follow_a_tuple():
    """A sample is taken apart without optree only if it is as flat as the first."""
    for other in ((np.ones(2), [1]), (np.ones(2), (1,)), [np.ones(2), 1], (np.ones(2), {"a": 1})):
        try:
            batch = collated((np.zeros(2), 0), other)
        except InvalidBatchError as error:
            assert "row 10" in str(error)  # noqa: PT017
        else:
            raise AssertionError(batch)
    assert map_leaves(np.shape, collated((np.zeros(2), 0), (np.ones(2), np.int64(1)))) == (
        (2, 2),
        (2,),
    )
