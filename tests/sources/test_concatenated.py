"""`Concatenated`: many arrays and `.npy` files as one, compared with `np.concatenate`."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError

LENGTHS = [5, 0, 300, 1, 40, 7]
VALUES = np.arange(sum(LENGTHS) * 3, dtype="int32").reshape(-1, 3)
PIECES = np.split(VALUES, np.cumsum(LENGTHS)[:-1])


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    found = [folder / f"{number}.npy" for number in range(len(PIECES))]
    for number, (path, piece) in enumerate(zip(found, PIECES, strict=True)):
        np.save(path, np.asfortranarray(piece) if number % 2 else piece)
    return found


def refused(make, kind=InvalidDataError):
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


def mapped_files(folder):
    """Which files of a folder this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in maps if str(folder) in line}


# --- reading -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_rows_are_those_of_numpys_concatenate(data):
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    values = np.arange(2.0 * sum(lengths)).reshape(-1, 2)
    parts = np.split(values, np.cumsum(lengths)[:-1])
    source = sources.Concatenated(parts)
    assert source.shape == values.shape
    assert len(source) == len(values)
    if len(values):
        rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8)), np.int64)
        np.testing.assert_array_equal(source.read(rows, np.empty), values[rows])
        numbers = np.repeat(np.arange(len(lengths)), lengths)
        np.testing.assert_array_equal(source.part_of(rows), numbers[rows])
        np.testing.assert_array_equal(source.part_of(range(len(values))), numbers)


@settings(max_examples=30)
@given(
    rows=st.lists(st.integers(0, len(VALUES) - 1), max_size=30), most_open=st.sampled_from([1, 2])
)
def test_no_more_files_are_mapped_than_was_said(paths, rows, most_open):
    source = sources.Concatenated(paths, most_open=most_open)
    assert mapped_files(paths[0].parent) == set()  # headers are read without mapping
    for row in rows:
        found = source.read(np.array([row]), np.empty)
        np.testing.assert_array_equal(found, VALUES[[row]])
        assert len(mapped_files(paths[0].parent)) <= most_open
    source.close()
    assert mapped_files(paths[0].parent) == set()


def test_the_file_that_was_not_read_for_longest_is_closed_first(paths):
    source = sources.Concatenated(paths, most_open=2)
    starts = np.cumsum([0, *LENGTHS])
    for number in (0, 2, 0, 4):
        source.read(starts[[number]], np.empty)
    assert mapped_files(paths[0].parent) == {str(paths[0]), str(paths[4])}
    source.close()


def test_threads_share_the_files(paths):
    source = sources.Concatenated(paths, most_open=1)
    together = threading.Barrier(4)

    def ask(seed):
        together.wait(10)
        for _ in range(20):
            rows = np.random.default_rng(seed).integers(0, len(VALUES), 16)
            np.testing.assert_array_equal(source.read(rows, np.empty), VALUES[rows])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(mapped_files(paths[0].parent)) == 1
    source.close()


def test_a_copy_opens_its_own_files(paths):
    source = sources.Concatenated([*paths, PIECES[0]])
    source.read(np.array([0, 100]), np.empty)
    sent = pickle.dumps(source)
    source.close()
    copy = pickle.loads(sent)
    rows = np.array([len(VALUES) + 4, 100])
    np.testing.assert_array_equal(copy.read(rows, np.empty), VALUES[[4, 100]])
    assert mapped_files(paths[0].parent) == {str(paths[2])}
    copy.close()


@pytest.mark.parametrize("workers", [2, "processes"])
def test_a_dataset_of_parts_has_the_batches_of_one_array(paths, workers, tmp_path, monkeypatch):
    """Paths are relative here, and processes have another folder of their own."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=PIECES[4], chunks=(8, 3))
    monkeypatch.chdir(paths[0].parent)
    settings = {"workers": 2, "use_multiprocessing": workers == "processes"}
    with h5py.File(tmp_path / "x.h5") as file:
        parts = [PIECES[0], *(path.name for path in paths[1:4]), file["x"], str(paths[5])]
        source = sources.Concatenated(parts, most_open=1)
        expected = ArrayDataset(VALUES, batch_size=50, seed=0, workers=0)
        with ArrayDataset(source, batch_size=50, seed=0, **settings) as dataset:
            monkeypatch.chdir("/")
            for here, there in zip(dataset, expected, strict=True):
                np.testing.assert_array_equal(here, there)
        source.close()


def test_parts_are_kept_together_by_a_split(paths):
    source = sources.Concatenated(paths)
    groups = source.part_of(range(len(source)))
    train, test = ArrayDataset(source, batch_size=32, workers=0, seed=0).split(0.6, groups=groups)
    parts = [
        {int(number) for step in range(len(part)) for number in source.part_of(part.rows(step))}
        for part in (train, test)
    ]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {0, 2, 3, 4, 5}


def test_what_is_in_memory_and_what_waits_for_a_disk_is_told(paths):
    assert sources.Concatenated(PIECES).is_in_memory
    assert not sources.Concatenated(paths).is_in_memory
    assert not sources.Concatenated([*PIECES, paths[0]]).is_in_memory
    told = repr(sources.Concatenated(paths))
    assert told == "Concatenated(6 parts, shape=(353, 3), dtype=int32)"


# --- refusals ----------------------------------------------------------------------------------


def test_a_part_that_differs_is_refused_by_its_name(paths, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros((4, 2), "int32"))
    assert refused(lambda: sources.Concatenated([paths[0], tmp_path / "other.npy"])) == (
        f"parts[1], {str(tmp_path / 'other.npy')!r}, has samples of shape (2,) and dtype int32; "
        f"expected shape (3,) and dtype int32, as parts[0], {str(paths[0])!r}, has. Convert it, "
        "or leave it out."
    )
    assert refused(lambda: sources.Concatenated([PIECES[0], PIECES[2].astype("float32")])) == (
        "parts[1], ndarray of shape (300, 3) and dtype float32, has samples of shape (3,) and "
        "dtype float32; expected shape (3,) and dtype int32, as parts[0], ndarray of shape (5, 3) "
        "and dtype int32, has. Convert it, or leave it out."
    )


def no_npy(folder, name):
    """Files that are no array of rows, by what is wrong."""
    path = folder / f"{name}.npy"
    if name == "archive":
        np.savez(path.with_suffix(".npz"), a=VALUES)
        path.with_suffix(".npz").rename(path)
    elif name == "text":
        path.write_text("0, 1, 2")
    elif name == "empty":
        path.touch()
    elif name == "objects":
        np.save(path, np.array([{}, []], object))
    elif name == "scalar":
        np.save(path, np.float32(3))
    elif name == "cut off":
        np.save(path, VALUES)
        path.write_bytes(path.read_bytes()[:-100])
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "archive",
            "which does not begin as one; expected a .npy file, as `np.save` writes. "
            "Of an .npz, save each array in a file of its own.",
        ),
        ("text", "which does not begin as one; expected a .npy file, as `np.save` writes."),
        ("empty", "which does not begin as one; expected a .npy file, as `np.save` writes."),
        (
            "objects",
            "of dtype object; expected numbers or text. Python objects in it are pickled, and "
            "can't be read by rows: convert them (`.astype`) and save them again.",
        ),
        (
            "scalar",
            "which has no dimension; expected the first dimension to count samples.",
        ),
        (
            "cut off",
            "which has 4264 bytes; expected 4364 for shape (353, 3) and dtype int32. It is cut "
            "off: write it again.",
        ),
        (
            "folder",
            "which can't be opened (Is a directory); expected a .npy file, as `np.save` writes.",
        ),
        (
            "gone",
            "which can't be opened (No such file or directory); expected a .npy file, as "
            "`np.save` writes.",
        ),
    ],
)
def test_what_is_no_array_of_rows_is_refused_at_once(paths, tmp_path, name, told):
    path = no_npy(tmp_path, name)
    message = refused(lambda: sources.Concatenated([paths[0], path]))
    assert message.startswith(f"parts[1] is {str(path)!r}, ")
    assert message.endswith(told)


def test_a_file_that_changed_is_refused_when_it_is_opened(paths, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    source = sources.Concatenated([path])
    np.save(path, VALUES.astype("int64"))
    assert refused(lambda: source.read(np.array([0]), np.empty)) == (
        f"{str(path)!r} has changed since the source was made; expected shape (353, 3) and dtype "
        "int32. Make the source again."
    )
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source.read(np.array([0]), np.empty)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([], "parts has no items; expected at least one. Check how they were listed."),
        (
            "x.npy",
            "parts is 'x.npy' (str), a single path; expected a list of paths, arrays or sources. "
            "Those of a folder: `sorted(pathlib.Path(folder).glob('*.npy'))`.",
        ),
        (
            VALUES,
            "parts is ndarray of shape (353, 3) and dtype int32; expected a list of paths, arrays "
            "or sources.",
        ),
        (
            {"a": VALUES},
            "parts is a dict of 1 items; expected a list of paths, arrays or sources: row numbers "
            "follow its order.",
        ),
    ],
    ids=["none", "path", "array", "dict"],
)
def test_what_is_no_list_of_parts_is_refused(parts, told):
    assert refused(lambda: sources.Concatenated(parts)) == told


def test_a_part_that_has_no_rows_is_refused_as_a_leaf_would_be():
    assert refused(lambda: sources.Concatenated([VALUES, 3])).startswith(
        "parts[1] is 3 (int); expected an array"
    )


@pytest.mark.parametrize("most_open", [0, 1.5, True])
def test_invalid_numbers_of_files_are_refused(most_open):
    message = refused(
        lambda: sources.Concatenated(PIECES, most_open=most_open), InvalidArgumentError
    )
    assert message.endswith("expected a whole number from 1 up.")


@pytest.mark.parametrize("rows", [[-1], [353], [0, 400]])
def test_parts_of_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(IndexError, match="expected numbers from 0 to 352"):
        sources.Concatenated(PIECES).part_of(rows)


def test_names_of_fields_beyond_latin_1_are_read(tmp_path):
    """They make a header of version 3."""
    records = np.zeros(4, [("高さ", "f4"), ("b", "i2")])
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save(tmp_path / "x.npy", records)
    source = sources.Concatenated([tmp_path / "x.npy", records])
    assert source.read(np.array([7, 0]), np.empty).dtype == records.dtype
    source.close()
