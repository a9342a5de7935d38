"""`Files`: one sample per file; what `read` may give, and what is told when it can't."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError
from keras_npbatch.sources.paths import Paths

VALUES = np.arange(36, dtype="float32").reshape(9, 2, 2)


def read(path):
    return np.fromfile(path, "float32").reshape(2, 2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    found = [folder / f"{number}.raw" for number in range(len(VALUES))]
    for path, value in zip(found, VALUES, strict=True):
        value.tofile(path)
    return found


def refused(make, kind=InvalidDataError):
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


# --- reading -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(rows=st.lists(st.integers(0, 8), max_size=12))
def test_a_batch_reads_each_of_its_files_once(paths, rows):
    times = Counter()

    def counted(path):
        times[path] += 1
        return read(path)

    files = sources.Files(paths, counted, shape=(2, 2), dtype="float32")
    assert not times  # nothing is read before it is needed
    asked = np.array(rows, np.int64)
    np.testing.assert_array_equal(files.read(asked, np.empty), VALUES[asked])
    assert times == Counter(paths[row] for row in set(rows))


def test_shape_and_dtype_are_learned_from_the_first_file_alone(paths):
    times = Counter()

    def counted(path):
        times[path] += 1
        return read(path)

    files = sources.Files(paths, counted)
    assert (files.shape, files.dtype) == ((9, 2, 2), np.dtype("float32"))
    assert times == {paths[0]: 1}
    assert len(files) == 9
    assert repr(files) == "Files(9 files, read=counted, shape=(2, 2), dtype=float32)"


@pytest.mark.parametrize("kind", [str, Path])
def test_read_gets_paths_as_they_were_given_and_absolute(paths, kind, monkeypatch):
    monkeypatch.chdir(paths[0].parent)
    seen = []

    def noted(path):
        seen.append(path)
        return read(path)

    files = sources.Files([kind(path.name) for path in paths], noted)
    monkeypatch.chdir("/")
    files.read(np.array([8]), np.empty)
    assert seen == [kind(paths[0]), kind(paths[8])]
    assert list(files.paths) == [str(path) for path in paths]


def test_addresses_stay_as_they_are():
    files = sources.Files(["s3://a//b.npy"], len, shape=(), dtype=int)
    assert list(files.paths) == ["s3://a//b.npy"]
    assert files.read(np.array([0, 0]), np.empty).tolist() == [13, 13]


@settings(max_examples=30)
@given(names=st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=6))
def test_paths_are_a_sequence_of_strings(names):
    names = [name.encode("utf-8", "ignore").decode() for name in names]
    paths = Paths(names)
    assert list(paths) == names == [paths[number] for number in range(len(paths))]
    assert paths[-1] == names[-1]
    assert paths[1:] == names[1:]
    assert list(pickle.loads(pickle.dumps(paths))) == names
    with pytest.raises(IndexError):
        paths[len(names)]


def test_names_that_are_no_utf8_name_their_files(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.raw"
    Path(os.fsdecode(path)).write_bytes(VALUES[3].tobytes())
    files = sources.Files([os.fsdecode(path)], read)
    np.testing.assert_array_equal(files.read(np.array([0]), np.empty), VALUES[3:4])


def test_many_paths_take_their_own_length_and_no_more():
    paths = Paths(f"{number:050}" for number in range(1000))
    assert len(pickle.dumps(paths)) < 1000 * (50 + 8) + 1000


@pytest.mark.parametrize(
    ("given_dtype", "gives", "expected"),
    [
        ("float32", np.float64(1.5), 1.5),  # rounded
        ("float32", 3, None),  # int64 may have more digits
        ("float64", np.int32(7), 7.0),
        ("int8", np.int64(300), None),  # it would be 44
        ("uint8", True, 1),
        ("U5", "text", "text"),
        ("U3", "text", None),  # it would be cut off
        (object, "text", "text"),
        (object, {"a": 1}, {"a": 1}),
    ],
)
def test_values_are_converted_only_where_none_can_change(given_dtype, gives, expected):
    files = sources.Files(["a", "b"], lambda path: gives, shape=(), dtype=given_dtype)
    if expected is None:
        message = refused(lambda: files.read(np.array([1]), np.empty))
        assert f"expected shape () and dtype {np.dtype(given_dtype)}, as was given." in message
    else:
        found = files.read(np.array([1]), np.empty)
        assert found.dtype == given_dtype
        assert found.tolist() == [expected]


@pytest.mark.parametrize("workers", [0, 2, "processes"])
def test_a_dataset_of_files_has_the_same_batches_with_any_workers(paths, workers):
    settings = {"workers": workers}
    if workers == "processes":
        settings = {"workers": 2, "use_multiprocessing": True}
    files, labels = sources.Files(paths, read), np.arange(9)
    expected = ArrayDataset(VALUES, labels, batch_size=4, seed=0, workers=0)
    with ArrayDataset(files, labels, batch_size=4, seed=0, **settings) as dataset:
        for (x, y), (other_x, other_y) in zip(dataset, expected, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)


# --- refusals ----------------------------------------------------------------------------------


def test_a_file_that_can_t_be_read_is_named_with_its_row(paths):
    missing = [*paths, paths[0].with_name("gone.raw")]
    dataset = ArrayDataset(sources.Files(missing, read), batch_size=10, workers=0, shuffle=False)
    with pytest.raises(FileNotFoundError) as caught:
        dataset[0]
    assert caught.value.__notes__ == [
        f"keras_npbatch: raised by read({str(missing[-1])!r}) (row 9)",
        "keras_npbatch: raised by load(rows) at epoch 0, step 0, rows "
        "[0, 1, 2, 3, 4, 5, 6, 7, ...] (10 rows)",
    ]


def test_a_sample_of_another_shape_or_dtype_is_refused_by_its_name(paths):
    shapes = {0: (2, 2), 1: (4,)}
    files = sources.Files(paths, lambda path: read(path).reshape(shapes[int(path.stem)]))
    assert refused(lambda: files.read(np.array([0, 1]), np.empty)) == (
        f"read({str(paths[1])!r}) (row 1) gave ndarray of shape (4,) and dtype float32; expected "
        "shape (2, 2) and dtype float32, as the first file has. Make all samples alike in `read`: "
        "crop, pad or resize them, and convert them with `.astype`."
    )
    files = sources.Files(paths, lambda path: read(path).astype(f"f{4 + 4 * int(path.stem)}"))
    assert "shape (2, 2) and dtype float64; expected shape (2, 2) and dtype float32" in refused(
        lambda: files.read(np.array([1]), np.empty)
    )


@pytest.mark.parametrize("content", [b"\x01\x00", b"", b"abc\0\0", "a\0", "text"])
def test_texts_and_bytes_come_whole_and_of_any_length(tmp_path, content):
    """NumPy's strings would lose the zeros at the end of a file."""
    more = content + content + (b"d\0" if isinstance(content, bytes) else "d\0")
    paths = [tmp_path / "0.bin", tmp_path / "1.bin"]
    for path, each in zip(paths, (content, more), strict=True):
        path.write_bytes(each if isinstance(each, bytes) else each.encode())
    method = Path.read_bytes if isinstance(content, bytes) else Path.read_text
    for chosen in ({}, {"dtype": object}):
        files = sources.Files(paths, method, **chosen)
        batch = ArrayDataset(files, batch_size=2, shuffle=False)[0]
        assert batch.dtype == object
        assert batch.tolist() == [content, more]
        assert set(map(type, batch)) == {type(content)}


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has none")
@pytest.mark.parametrize("content", ["text", "a\0", ""])
def test_texts_come_as_strings_of_any_length_if_that_dtype_is_given(paths, content):
    dtype = np.dtypes.StringDType()
    for chosen in ({}, {"shape": ()}):
        files = sources.Files(paths, lambda path: content, dtype=dtype, **chosen)
        found = files.read(np.arange(2), np.empty)
        assert found.dtype == dtype
        assert found.tolist() == [content] * 2


def test_what_is_no_text_beside_texts_is_refused(paths):
    files = sources.Files(paths, lambda path: int(path.stem) or "text")
    assert refused(lambda: files.read(np.array([0, 2]), np.empty)) == (
        f"read({str(paths[2])!r}) (row 2) gave 2 (int); expected a text or bytes, as the first "
        "file has. Return one for each file, or say `dtype=object` for any objects."
    )


@pytest.mark.parametrize(("dtype", "content"), [("S4", b"\x01\0"), ("U4", "a\0")])
def test_zeros_that_a_dtype_would_drop_are_refused(paths, dtype, content):
    files = sources.Files(paths, lambda path: content, shape=(), dtype=dtype)
    name = type(content).__name__
    assert refused(lambda: files.read(np.array([2]), np.empty)) == (
        f"read({str(paths[2])!r}) (row 2) gave {name} with zeros at its end, which dtype "
        f"{np.dtype(dtype)} would drop; expected none. Say `dtype=object`, or make numbers of "
        "bytes in `read`: `np.frombuffer(content, np.uint8)`."
    )


def test_texts_of_other_lengths_are_refused_with_what_to_write(paths):
    files = sources.Files(paths, lambda path: np.array("x" * (1 + int(path.stem))))
    assert refused(lambda: files.read(np.array([2]), np.empty)) == (
        f"read({str(paths[2])!r}) (row 2) gave ndarray of shape () and dtype <U3; expected shape "
        "() and dtype <U1, as the first file has. Say `dtype='U100'` for text of up to 100 "
        "characters, or `dtype=object` for any."
    )


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (None, "None (NoneType); expected an array, or a single value."),
        (
            np.ma.masked_array([1.0, 2.0], [True, False]),
            "MaskedArray of shape (2,) and dtype float64; expected an array, or a single value. "
            "Fill it: `.filled(value)`.",
        ),
        (
            {"a": 1},
            "{'a': 1} (dict); expected an array of numbers or text, or a single value. For "
            "several arrays in one file, write a BatchDataset whose load(rows) reads the files.",
        ),
        (
            [1, [2, 3]],
            "[1, [2, 3]] (list); expected an array, or a single value. Make all samples alike in "
            "`read`: crop, pad or resize them, and convert them with `.astype`.",
        ),
    ],
    ids=["None", "masked", "dict", "lists"],
)
def test_what_is_no_array_is_refused(paths, gives, told):
    message = refused(lambda: sources.Files(paths, lambda path: gives))
    assert message == f"read({str(paths[0])!r}) (row 0) gave {told}"


@pytest.mark.parametrize(
    ("given_paths", "told"),
    [
        (
            "a.npy",
            "paths is 'a.npy' (str), a single path; expected a list of paths. Those of a folder: "
            "`sorted(pathlib.Path(folder).glob('*.npy'))`.",
        ),
        (
            {"a.npy"},
            "paths is {'a.npy'} (set); expected a list of paths: row numbers follow its order. "
            "Sort them: `sorted(...)`.",
        ),
        (7, "paths is 7 (int); expected a list of paths: row numbers follow its order."),
        ([], "paths has no items; expected at least one. Check how they were listed."),
        (["a", 3], "paths[1] is 3 (int); expected a path: a str or a pathlib.Path."),
    ],
    ids=str,
)
def test_what_is_no_list_of_paths_is_refused(given_paths, told):
    assert refused(lambda: sources.Files(given_paths, read)) == told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"read": 3}, "read is 3 (int); expected a function: `read(path)` returns one sample."),
        (
            {"read": read, "dtype": "float99"},
            "dtype is 'float99' (str); expected one of NumPy, such as 'float32'.",
        ),
        (
            {"read": read, "shape": (-1, 2)},
            "shape is -1 (int); expected a whole number from 0 up.",
        ),
        (
            {"read": read, "shape": 3},
            "shape is 3 (int); expected that of one sample, such as (64, 64, 3).",
        ),
    ],
    ids=["read", "dtype", "shape", "no tuple"],
)
def test_invalid_settings_are_refused(settings, told):
    message = refused(lambda: sources.Files(["a"], **settings), InvalidArgumentError)
    assert message == told
