"""Assembling: the forms of a batch, checks, class weights and padding, against plain NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.parts import (
    Parts,
    check_lengths,
    pack,
    pad,
    scale_weights,
    unpack,
)
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError
from keras_npbatch.testing.array_layouts import filled
from keras_npbatch.testing.strategies import Pair, nests
from keras_npbatch.tree import leaves, leaves_with_paths, map_leaves
from tests.comparing import assert_same_array

X, Y = filled((4, 2), np.dtype("float32")), filled((4,), np.dtype("int64"))
W = np.array([0.5, 2.0, 0.0, 1.0], np.float32)

# --- the forms of a batch ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "parts", "packed"),
    [
        (X, (X, None, None), X),
        ((X,), (X, None, None), X),
        ([X], (X, None, None), X),
        ({"image": X}, (({"image": X}), None, None), {"image": X}),
        ((X, Y), (X, Y, None), (X, Y)),
        ([X, Y], (X, Y, None), (X, Y)),
        ((X, None), (X, None, None), X),
        ((X, Y, W), (X, Y, W), (X, Y, W)),
        ((X, Y, None), (X, Y, None), (X, Y)),
        # Weights without targets: the place of y must be kept.
        ((X, None, W), (X, None, W), (X, None, W)),
        # Several inputs alone: packed bare they would be read as (x, y).
        (((X, W),), ((X, W), None, None), ((X, W),)),
        ([[X, W]], ([X, W], None, None), ([X, W],)),
        ((Pair(X, W),), (Pair(X, W), None, None), (Pair(X, W),)),
        (((X, W), Y), ((X, W), Y, None), ((X, W), Y)),
        ((X, (Y, Y), (W, None)), (X, (Y, Y), (W, None)), (X, (Y, Y), (W, None))),
    ],
)
def test_every_form_that_keras_takes_is_unpacked_and_packed(
    batch: Any, parts: tuple[Any, ...], packed: Any
) -> None:
    found = unpack(batch, "load")
    assert_same_tree(found, Parts(*parts))
    assert_same_tree(pack(found), packed)


def assert_same_tree(found: Any, expected: Any) -> None:
    """The same nesting around the very same arrays."""
    assert type(found) is type(expected)
    told = [(path, id(leaf)) for path, leaf in leaves_with_paths(found)]
    assert told == [(path, id(leaf)) for path, leaf in leaves_with_paths(expected)]
    assert shape_of(found) == shape_of(expected)


def shape_of(tree: Any) -> Any:
    """The nesting alone, with its types, lengths and every None."""
    if isinstance(tree, dict):
        return dict, [(key, shape_of(value)) for key, value in tree.items()]
    if isinstance(tree, tuple | list):
        return type(tree), [shape_of(value) for value in tree]
    return tree is None


an_array = st.integers(0, 3).map(lambda width: np.zeros((4, width)))
any_parts = st.builds(
    Parts,
    x=nests(an_array),
    y=st.none() | nests(an_array),
    sample_weight=st.none() | nests(an_array),
)


@given(parts=any_parts)
def test_unpack_undoes_pack(parts: Parts) -> None:
    assert_same_tree(unpack(pack(parts), "load"), parts)


@given(parts=any_parts)
def test_a_packed_batch_is_what_keras_unpacks(parts: Parts) -> None:
    """The rule of keras.utils.unpack_x_y_sample_weight, written down once more."""
    batch = pack(parts)
    if isinstance(batch, list):
        batch = tuple(batch)
    if not isinstance(batch, tuple):
        read = (batch, None, None)
    else:
        assert 1 <= len(batch) <= 3
        read = (*batch, None, None)[:3]
    assert_same_tree(Parts(*read), parts)


INPUTS = "Wrap several inputs into one: ((x1, x2), y)."
RETURN = "Is there a `return` at its end?"
STACK = (
    "Samples are put together with np.stack, each part by itself; a SampleDataset does that, of "
    "samples that its load_sample(row) returns. Several inputs are one part: ((x1, x2), y)."
)


@pytest.mark.parametrize(
    ("batch", "came", "remedy"),
    [
        (None, "None", RETURN),
        ((), "a tuple of 0", INPUTS),
        ([], "a list of 0", INPUTS),
        ((X, Y, W, X), "a tuple of 4", INPUTS),
        ([X] * 32, "a list of 32", STACK),
    ],
)
@pytest.mark.parametrize("told_by", ["load(rows)", "transform"])
def test_what_is_no_batch_is_refused(batch: Any, came: str, remedy: str, told_by: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        unpack(batch, told_by)
    assert str(caught.value) == (
        f"{told_by} returned {came}; expected x, (x,), (x, y) or (x, y, sample_weight), each an "
        f"array or a nesting of arrays. {remedy}"
    )


# --- lengths -----------------------------------------------------------------------------------


@given(parts=any_parts)
def test_a_batch_whose_leaves_have_one_row_for_each_is_accepted(parts: Parts) -> None:
    check_lengths(parts, 4, "load")
    with pytest.raises(InvalidBatchError):
        check_lengths(parts, 5, "load")


class Tensor:
    """As much of an array as a framework's tensor has in common with NumPy's."""

    shape = (4, 2)
    dtype = "float32"


def test_leaves_need_not_be_numpy_arrays() -> None:
    check_lengths(Parts(Tensor(), np.float32([1, 2, 3, 4])), 4, "load")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (Parts(np.zeros((3, 2))), "ndarray of shape (3, 2) and dtype float64 for x"),
        (
            Parts({"a": X, "b": [X, X[:0]]}),
            "ndarray of shape (0, 2) and dtype float32 for x['b'][1]",
        ),
        (Parts(X, np.zeros(5, "int8")), "ndarray of shape (5,) and dtype int8 for y"),
        (Parts(X, (Y, None, Y[1:])), "ndarray of shape (3,) and dtype int64 for y[2]"),
        # One sample, not stacked: its first dimension counts features.
        (Parts(X, Y, W[:2]), "ndarray of shape (2,) and dtype float32 for sample_weight"),
    ],
)
def test_a_leaf_of_another_length_is_refused_by_its_path(parts: Parts, message: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(parts, 4, "transform")
    assert str(caught.value) == (
        f"transform returned {message}; expected 4 samples, one for each row of the batch."
    )


def test_a_list_of_samples_and_a_generator_in_place_of_targets_are_recognised() -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(Parts(list(X[:, :1])), 4, "load(rows)")
    assert str(caught.value) == (
        "load(rows) returned ndarray of shape (1,) and dtype float32 for x[0]; expected 4 samples, "
        "one for each row of the batch. Stack the samples of a list (`np.stack`)."
    )
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(Parts(X, np.random.default_rng(0)), 4, "transform")
    assert str(caught.value) == (
        "transform returned a random generator for y: it is called with (batch, rng), not with the "
        "parts of a batch. Take them apart in it: x, y = batch."
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (Parts([1.5, 2.5]), "1.5 (float) for x[0]"),
        (Parts(X, [0, 1, 1, 0]), "0 (int) for y[0]"),
        (Parts(X, np.float32(3)), "{} for y"),
        (Parts(X, np.array(3)), "ndarray of shape () and dtype int64 for y"),
        (Parts(X, Y, "balanced"), "'balanced' (str) for sample_weight"),
        (Parts({"image": X, "name": b"7.png"}), "b'7.png' (bytes) for x['name']"),
    ],
    ids=repr,
)
def test_a_leaf_that_is_no_array_is_refused_by_its_path(parts: Parts, message: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(parts, 4, "load(rows)")
    text = str(caught.value)
    head, tail = (
        "load(rows) returned ",
        (
            "; expected an array whose first dimension counts the 4 samples of the batch. Stack "
            "single samples (`np.stack`), turn lists into arrays (`np.asarray`), pad lists "
            "of different lengths (`keras.utils.pad_sequences`)."
        ),
    )
    assert text.startswith(head)
    assert text.endswith(tail)
    told = text.removeprefix(head).removesuffix(tail)
    assert told == message if "{}" not in message else told.endswith(" for y")


MISSING = (
    "has no value in row 1, which would become NaN or an object; expected a value in every row."
)
MASKED = "is a masked array with values masked, and its mask would be lost; expected an array."


def test_values_that_are_missing_in_a_batch_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    numbers = [1, None, 2, 3]
    for leaf, message in (
        (pd.Series(numbers, dtype="Int64"), f"x['a'][0] {MISSING}"),
        (pd.array(numbers, dtype="Float64"), f"x['a'][0] {MISSING}"),
        (pd.Series(numbers, dtype="category"), f"x['a'][0] {MISSING}"),
        (pd.DataFrame({"b": pd.array(numbers, "Int8")}), f"column 'b' of x['a'][0] {MISSING}"),
        (np.ma.masked_equal([1.0, 2.0, 3.0, 4.0], 2), f"x['a'][0] {MASKED}"),
    ):
        with pytest.raises(InvalidBatchError) as caught:
            check_lengths(Parts({"a": (leaf,)}, Y), 4, "load")
        assert str(caught.value).startswith(message)


def test_tables_and_masked_arrays_that_have_all_values_are_taken() -> None:
    whole = pytest.importorskip("pandas").Series([1, 4, 2, 3], dtype="Int64")
    check_lengths(Parts((whole, np.ma.array([1.0, np.nan, 2.0, 3.0])), Y), 4, "load")


@pytest.mark.parametrize("x", [None, (), {}, [None], {"a": ()}], ids=repr)
def test_a_batch_without_input_is_refused(x: Any) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(Parts(x, Y), 4, "transform")
    assert str(caught.value) == ("transform returned no input; expected at least one array in x.")


# --- class weights -----------------------------------------------------------------------------


def keras_class_weights(y: npt.NDArray[Any], weights: dict[int, float]) -> list[float]:
    """The rule of Keras (class_weight_to_sample_weights), label by label."""
    found = []
    for label in y:
        one_hot = np.ndim(label) and np.shape(label)[-1] != 1
        number = np.argmax(label) if one_hot else np.squeeze(label)
        found.append(weights.get(round(float(number)), 1.0))
    return found


some_weights = st.dictionaries(
    st.integers(-3, 12), st.floats(0, 1000, width=32) | st.integers(0, 9), max_size=5
)


@given(
    labels=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    weights=some_weights,
    form=st.sampled_from(["int8", "int64", "uint8", "uint64", "float16", "float32", "float64"]),
    column=st.booleans(),
)
def test_labels_weigh_what_keras_makes_of_them(
    labels: list[int], weights: dict[int, float], form: str, column: bool
) -> None:
    y = np.array(labels, form)
    y = y[:, np.newaxis] if column else y
    found = ClassWeight(weights)(Parts(np.zeros(len(y)), y)).sample_weight
    assert_same_array(found, np.array(keras_class_weights(y, weights), np.float32))


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=20), weights=some_weights)
def test_one_hot_labels_weigh_as_their_classes(
    labels: list[int], weights: dict[int, float]
) -> None:
    class_weight = ClassWeight(weights)
    for hot in (np.eye(6), np.eye(6, dtype=bool), np.eye(6, dtype="float32") * 0.8 + 0.1):
        y = hot[labels]
        found = class_weight(Parts(np.zeros(len(y)), y)).sample_weight
        assert_same_array(found, np.array(keras_class_weights(y, weights), np.float32))
        same = class_weight(Parts(np.zeros(len(y)), np.array(labels))).sample_weight
        assert found.tolist() == same.tolist()


@pytest.mark.parametrize(
    ("y", "weights", "expected"),
    [
        (np.array([0, 1, 2, 1]), {0: 0.5, 1: 2.0}, [0.5, 2.0, 1.0, 2.0]),
        (np.array([[1], [0]]), {1: 3}, [3.0, 1.0]),
        (np.array([[0, 0, 1], [1, 0, 0]]), {2: 7, 0: 0}, [7.0, 0.0]),
        (np.array([True, False]), {True + 0: 4.0}, [4.0, 1.0]),
        # Rounded to the nearest, halves to even, as np.round does.
        (np.array([0.4, 0.6, 1.5, 2.5]), {0: 10, 1: 11, 2: 12}, [10.0, 11.0, 12.0, 12.0]),
        (np.array([-1, -2]), {-1: 5.0}, [5.0, 1.0]),
        # Two classes in one column are not one-hot.
        (np.array([[0.0], [1.0]]), {0: 2.0, 1: 3.0}, [2.0, 3.0]),
        (np.array([3]), {}, [1.0]),
        (np.array([], int), {0: 3.0}, []),
        (np.array([np.int64(10) ** 12, 7]), {10**12: 2.0}, [2.0, 1.0]),
    ],
)
def test_class_weights_of_literal_labels(
    y: npt.NDArray[Any], weights: dict[int, float], expected: list[float]
) -> None:
    parts = ClassWeight(weights)(Parts(X, y))
    assert_same_array(parts.sample_weight, np.array(expected, np.float32))
    assert parts.x is X
    assert parts.y is y


@pytest.mark.parametrize(
    ("y", "row", "labels"),
    [
        (np.array([[1, 0, 0], [3, 4, 5]]), 1, [3, 4, 5]),  # labels of the steps of a sequence
        (np.array([[1.0, 0, 1]], "float32"), 0, [1.0, 0.0, 1.0]),  # two classes at once
        (np.array([[True, True]]), 0, [True, True]),
        (np.array([[0, 0], [0, -1]]), 1, [0, -1]),
    ],
)
def test_rows_that_are_no_class_are_refused(
    y: npt.NDArray[Any], row: int, labels: list[Any]
) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        ClassWeight({1: 2.0})(Parts(X, y))
    assert str(caught.value) == (
        f"class_weight needs one class for each sample; row {row} of y, ndarray of shape {y.shape} "
        f"and dtype {y.dtype}, is {labels} (list), which is not one-hot. For sequences of labels, "
        "or several classes a sample, return a sample_weight instead."
    )


def test_weights_of_numpys_own_types_are_taken() -> None:
    weights = {np.int32(0): np.float32(0.25), np.uint8(1): np.int64(3)}
    found = ClassWeight(weights)(Parts(X, np.array([0, 1, 2])))
    assert found.sample_weight.tolist() == [0.25, 3.0, 1.0]


def test_what_becomes_of_the_dict_later_does_not_matter() -> None:
    weights = {0: 2.0}
    class_weight = ClassWeight(weights)
    weights[0] = 100.0
    assert class_weight(Parts(X, np.array([0]))).sample_weight.tolist() == [2.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, 5.0],
            "class_weight is [1.0, 5.0] (list); expected a dict from class number to weight, such "
            "as {0: 1.0, 1: 5.0}, or for several outputs a dict from the name of an output to such "
            "a dict.",
        ),
        (
            "balanced",
            "class_weight is 'balanced' (str); expected a dict from class number to weight, such "
            "as {0: 1.0, 1: 5.0}, or for several outputs a dict from the name of an output to such "
            "a dict.",
        ),
        (
            {"cat": 1.0},
            "class_weight has the key 'cat' (str); expected class numbers as they are in y, whole "
            "numbers. Number the classes: names, y = np.unique(labels, return_inverse=True).",
        ),
        *(
            (
                {"a": {0: 1.0}, "b": each},
                f"class_weight['b'] is {each!r} ({type(each).__name__}); expected a dict from "
                "class number to weight, or None for an output that is not weighed.",
            )
            for each in (3, "balanced")
        ),
        (
            {0: 1.0, 1.0: 2.0},
            "class_weight has the key 1.0 (float); expected class numbers as they are in y, whole "
            "numbers.",
        ),
        (
            {True: 1.0},
            "class_weight has the key True (bool); expected class numbers as they are in y, whole "
            "numbers.",
        ),
        ({0: -1.0}, "class_weight[0] is -1.0 (float); expected a finite number from 0 up."),
        ({3: math.inf}, "class_weight[3] is inf (float); expected a finite number from 0 up."),
        ({3: math.nan}, "class_weight[3] is nan (float); expected a finite number from 0 up."),
        ({3: "2"}, "class_weight[3] is '2' (str); expected a finite number from 0 up."),
        ({3: None}, "class_weight[3] is None (NoneType); expected a finite number from 0 up."),
        ({3: 1j}, "class_weight[3] is 1j (complex); expected a finite number from 0 up."),
    ],
    ids=repr,
)
def test_what_are_no_class_weights_is_refused(weights: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ClassWeight(weights)
    assert str(caught.value) == message


SHAPES_OF_LABELS = (
    "class_weight needs finite numbers of shape (n,), (n, 1) or one-hot (n, classes); y is "
)
ONE_ARRAY = "class_weight needs one array of class labels in y, which is "
SEVERAL = (
    ". With several outputs, give the weights of each, nested as y is: "
    "{'a': {0: 1.0, 1: 5.0}, 'b': None}."
)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            Parts(X, Y, W),
            "class_weight was given, and the batches have a sample_weight; expected one of them. "
            "Multiply the class weights into sample_weight.",
        ),
        (Parts(X), f"{ONE_ARRAY}None{SEVERAL}"),
        (Parts(X, {}), f"{ONE_ARRAY}a dict{SEVERAL}"),
        (
            Parts(X, np.zeros((4, 3, 5))),
            f"{SHAPES_OF_LABELS}ndarray of shape (4, 3, 5) and dtype float64.",
        ),
        (
            Parts(X, np.zeros((4, 3, 1), "int8")),
            f"{SHAPES_OF_LABELS}ndarray of shape (4, 3, 1) and dtype int8.",
        ),
        (Parts(X, np.array(3)), f"{SHAPES_OF_LABELS}ndarray of shape () and dtype int64."),
    ],
)
def test_labels_that_are_not_one_a_sample_are_refused(parts: Parts, message: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        ClassWeight({0: 2.0})(parts)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "y",
    [(Y, Y), [Y], {"a": Y}, {"a": [Y]}, ((Y, Y),)],
    ids=["tuple", "list", "dict", "list in dict", "deep"],
)
def test_several_outputs_are_refused_without_their_contents(y: Any) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        ClassWeight({0: 2.0})(Parts(X, y))
    text = str(caught.value)
    assert text.startswith(ONE_ARRAY)
    assert text.endswith(SEVERAL)
    assert str(int(Y[0])) not in text


@pytest.mark.parametrize(
    "y",
    [
        np.zeros((4, 0)),  # one-hot of no classes
        np.array(["cat", "dog", "cat", "cat"]),
        np.array(["cat", "dog", "cat", "cat"], object),
    ],
    ids=["no classes", "text", "objects"],
)
def test_labels_that_name_no_class_are_refused_with_our_error(y: npt.NDArray[Any]) -> None:
    with pytest.raises(InvalidBatchError, match=r"^class_weight "):
        ClassWeight({0: 2.0})(Parts(X, y))


# --- padding -----------------------------------------------------------------------------------


@st.composite
def short_batches(draw: st.DrawFn) -> tuple[Parts, int, int]:
    num_rows = draw(st.integers(1, 6))
    batch_size = draw(st.integers(num_rows, 15))  # more than twice the rows: repeated again
    number = iter(range(1000))

    def array(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        first = next(number)
        whole = np.arange(first, first + num_rows * int(np.prod(shape))) % 127
        return whole.reshape(num_rows, *shape).astype(dtype)

    features = st.lists(st.integers(0, 3), max_size=2).map(tuple)
    dtypes = st.sampled_from(["float32", "int8", "bool", "S3", "U2", "datetime64[s]", "object"])
    data = nests(st.builds(array, features, dtypes))
    weight_dtypes = st.sampled_from(["float32", "float64", "float16", "int32", "bool"])
    # (n, 1) and (n, steps): weights of samples, and of each of their steps.
    weights = nests(st.builds(array, st.sampled_from([(), (1,), (3,)]), weight_dtypes))
    parts = Parts(draw(data), draw(st.none() | data), draw(st.none() | weights))
    return parts, num_rows, batch_size


@given(batch=short_batches())
def test_padded_rows_weigh_nothing_and_the_others_stay_as_they_are(
    batch: tuple[Parts, int, int],
) -> None:
    parts, num_rows, batch_size = batch
    padded = pad(parts, num_rows, batch_size)
    check_lengths(padded, batch_size, "pad")
    for old, new in zip(leaves(parts[:2]), leaves(padded[:2]), strict=True):
        assert_same_array(new[:num_rows], old)
    targets, weights = leaves(parts.y), leaves(padded.sample_weight)
    given = optree.tree_leaves(parts.sample_weight, none_is_leaf=True)
    if len(given) < len(weights):  # one for all, whose axes differ from output to output
        given = given * len(weights)
    for number, (old, new) in enumerate(zip(given, weights, strict=True)):
        assert not new[num_rows:].any()
        old = np.ones(num_rows, np.float32) if old is None else old
        old = old if old.dtype.kind == "f" else old.astype(np.float32)
        assert set(new.shape[old.ndim :]) <= {1}
        assert_same_array(new[:num_rows].reshape(old.shape), old)
        if len(weights) == len(targets):
            assert new.ndim >= least_axes(targets[number])


def least_axes(target: Any) -> int:
    """As many as its loss has values for, or one more, which Keras squeezes."""
    if target.ndim > 2:
        return target.ndim
    return 2 if target.ndim == 2 and target.shape[1] > 1 and target.dtype.kind in "iu" else 1


@given(batch=short_batches())
def test_padded_rows_repeat_the_rows_of_the_batch(batch: tuple[Parts, int, int]) -> None:
    """Zeros would be numbers that no layer was meant to see: a length of 0, a log of 0."""
    parts, num_rows, batch_size = batch
    padded = pad(parts, num_rows, batch_size)
    for old, new in zip(leaves(parts[:2]), leaves(padded[:2]), strict=True):
        assert_same_array(new, old[[position % num_rows for position in range(batch_size)]])


@given(batch=short_batches())
def test_full_and_short_batches_have_one_structure(batch: tuple[Parts, int, int]) -> None:
    """A model is traced for a structure: the last batch must not bring another."""
    parts, num_rows, batch_size = batch
    full_parts = Parts(*map_leaves(lambda leaf: leaf[np.zeros(batch_size, int)], tuple(parts)))
    short, full = pad(parts, num_rows, batch_size), pad(full_parts, batch_size, batch_size)
    assert shape_of(pack(short)) == shape_of(pack(full))
    for old, new in zip(leaves(short), leaves(full), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)


def test_a_full_batch_is_not_copied() -> None:
    padded = pad(Parts(X, Y, W), 4, 4)
    assert padded.x is X
    assert padded.y is Y
    assert padded.sample_weight is W
    assert_same_array(pad(Parts(X, Y), 4, 4).sample_weight, np.ones(4, np.float32))


def test_padding_leaves_the_batch_it_was_given_alone() -> None:
    x, weight = np.arange(2.0), np.array([2.0, 3.0])
    padded = pad(Parts(x, None, weight), 2, 5)
    assert padded.x.tolist() == [0, 1, 0, 1, 0]
    assert padded.sample_weight.tolist() == [2, 3, 0, 0, 0]
    assert padded.y is None
    padded.x[...] = 9
    padded.sample_weight[...] = 9
    assert x.tolist() == [0, 1]
    assert weight.tolist() == [2, 3]


@pytest.mark.parametrize("weight", [(W[:2], None), [None, W[:2]]], ids=["tuple", "list"])
def test_an_output_without_weights_gets_its_own_so_that_padding_weighs_nothing(
    weight: Any,
) -> None:
    """`None` stands for weights of 1, and a padded row must weigh 0 for every output."""
    padded = pad(Parts(X[:2], (Y[:2], Y[:2]), weight), 2, 5)
    for output in (0, 1):
        assert padded.sample_weight[output] is not None
        assert not padded.sample_weight[output][2:].any()
        expected = W[:2] if weight[output] is not None else [1, 1]
        assert padded.sample_weight[output][:2].tolist() == list(expected)


# --- scaled weights ----------------------------------------------------------------------------


@given(
    weight=nests(
        st.sampled_from(["float16", "float32", "float64", "int8", "int64", "uint8", "bool"]).map(
            lambda dtype: np.array([0, 1, 1, 1]).astype(dtype)
        )
    ),
    factor=st.floats(0.5, 64, width=16),
)
def test_scaled_weights_are_numpys_product(weight: Any, factor: float) -> None:
    scaled = scale_weights((X, Y, weight), factor)
    assert shape_of(scaled[2]) == shape_of(weight)
    assert scaled[0] is X
    assert scaled[1] is Y
    for old, new in zip(leaves(weight), leaves(scaled[2]), strict=True):
        dtype = old.dtype if old.dtype.kind == "f" else np.float32
        assert_same_array(new, old.astype(dtype) * np.array(factor, dtype))


def test_whole_weights_become_fractions() -> None:
    scaled = scale_weights((X, None, np.array([1, 2, 0, 1])), 1.25)
    assert scaled[1] is None
    assert_same_array(scaled[2], np.array([1.25, 2.5, 0, 1.25], np.float32))


def test_scaling_leaves_the_weights_it_was_given_alone() -> None:
    weight = np.ones(4, np.float32)
    scaled = scale_weights((X, Y, weight), 2)
    assert weight.tolist() == [1, 1, 1, 1]
    assert scaled[2].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("batch", [X, (X, Y), ((X, X),)])
def test_a_batch_without_weights_stays_as_it_is(batch: Any) -> None:
    assert_same_tree(scale_weights(batch, 3.0), batch)


def test_what_is_no_batch_is_told_to_be_the_datasets() -> None:
    with pytest.raises(InvalidBatchError) as caught:
        scale_weights(None, 2.0)
    assert str(caught.value).startswith("the dataset returned None; expected x")


def test_padding_takes_the_rows_of_a_table_by_position_not_by_label() -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series([10.0, 20.0, 30.0], index=[2, 1, 0])
    padded = pad(Parts(column), 3, 5)
    assert np.asarray(padded.x).tolist() == [10.0, 20.0, 30.0, 10.0, 20.0]


def test_a_leaf_without_samples_is_told_also_where_any_number_will_do() -> None:
    with pytest.raises(InvalidBatchError, match="first dimension counts the samples of the batch"):
        check_lengths(Parts(np.zeros(3), 4), None, "load")


@pytest.mark.parametrize(
    ("lengths", "remedy"),
    [
        ([3, 3], " Stack the samples of a list (`np.stack`)."),
        (
            [3, 4],
            " Pad the samples of a list to one length, and stack them "
            "(`keras.utils.pad_sequences`).",
        ),
    ],
)
def test_a_list_of_samples_is_told_what_becomes_of_it(lengths: list[int], remedy: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(Parts([np.zeros(length) for length in lengths]), 2, "load")
    assert str(caught.value) == (
        "load returned ndarray of shape (3,) and dtype float64 for x[0]; expected 2 samples, one "
        f"for each row of the batch.{remedy}"
    )


def test_a_masked_array_is_told_what_to_do_with_its_mask() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(InvalidBatchError) as caught:
        check_lengths(Parts({"a": masked}), 2, "load")
    assert str(caught.value) == (
        "x['a'] is a masked array with values masked, and its mask would be lost; expected an "
        "array. Fill it (`.filled(value)`) and return the mask as sample_weight or as an input of "
        "its own."
    )


@pytest.mark.parametrize(
    ("targets", "axes"),
    [
        (np.zeros(2), 0),
        (np.zeros((2, 3)), 0),
        (np.zeros((2, 1), "int64"), 0),
        (np.zeros((2, 2), "int64"), 1),
        (np.zeros((2, 3), "int64"), 1),
        (np.zeros((2, 3, 4)), 2),
    ],
)
@pytest.mark.parametrize("weight", [None, np.array([5, 3]), np.array([[5], [3]], "float64")])
def test_weights_get_an_axis_for_each_that_values_of_a_loss_may_have(
    targets: Any, axes: int, weight: Any
) -> None:
    found = pad(Parts(np.zeros(2), targets, weight), 2, 3).sample_weight
    axes = max(axes, 0 if weight is None else weight.ndim - 1)
    assert found.shape == (3,) + (1,) * axes
    assert found.dtype == (np.float64 if weight is not None and weight.ndim > 1 else np.float32)
    assert found.reshape(-1).tolist() == ([1, 1, 0] if weight is None else [5, 3, 0])


def test_weights_of_outputs_get_the_axes_of_their_own_targets() -> None:
    targets = {"a": np.zeros(2), "b": np.zeros((2, 3, 4))}
    for weights in (None, np.array([5.0, 3.0]), {"a": np.array([5.0, 3.0]), "b": None}):
        found = pad(Parts(np.zeros(2), targets, weights), 2, 3).sample_weight
        assert {name: each.shape for name, each in found.items()} == {"a": (3,), "b": (3, 1, 1)}
        own = [1, 1, 0] if weights is None else [5, 3, 0]
        assert found["a"].tolist() == own
        assert found["b"].reshape(-1).tolist() == ([1, 1, 0] if type(weights) is dict else own)
    alike = {"a": np.zeros(2), "b": np.zeros(2)}
    assert pad(Parts(np.zeros(2), alike), 2, 3).sample_weight.tolist() == [1, 1, 0]
    two = pad(Parts(np.zeros(2), None, [np.array([5.0, 3.0]), None]), 2, 3).sample_weight
    assert [each.shape for each in two] == [(3,), (3,)]


def test_padding_takes_a_tensor_of_tensorflow_as_an_array() -> None:
    """It can't be indexed by one; this one can't be indexed at all."""

    class Tensor:
        __module__ = "tensorflow.python.framework.ops"
        shape, dtype = (2,), np.dtype("float32")

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([3, 4], "float32")

    assert pad(Parts(Tensor(), Tensor()), 2, 3)[:2][0].tolist() == [3, 4, 3]


def test_a_sample_in_a_list_of_too_many_parts_is_told_to_wrap_them() -> None:
    with pytest.raises(InvalidBatchError, match=r"list of 4; .* Wrap several inputs into one: "):
        unpack([1, 2, 3, 4], "load_sample(row)")
    with pytest.raises(InvalidBatchError, match="Samples are put together"):
        unpack([1, 2, 3, 4], "load(rows)")
