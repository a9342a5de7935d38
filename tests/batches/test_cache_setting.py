"""`cache=`: a size is never a folder, and a folder never a size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keras_npbatch.batches.cache_setting import new_cache
from keras_npbatch.batches.folder_cache import FolderCache
from keras_npbatch.batches.row_cache import RowCache
from keras_npbatch.errors import InvalidArgumentError


def made(setting):
    return new_cache(setting, 10, lambda: {"dataset": "test"})


@pytest.mark.parametrize("setting", ["8 MB", 8_000_000, "8mb"])
def test_a_size_is_memory(setting):
    assert type(made(setting)) is RowCache
    assert made(setting).most_bytes == 8_000_000


@pytest.mark.parametrize(
    ("setting", "folder", "most_bytes"),
    [
        (Path("decoded"), "decoded", None),
        (Path("8 MB"), "8 MB", None),
        ("./decoded", "decoded", None),
        ("a/8 MB", "a/8 MB", None),
        (("decoded", "8 MB"), "decoded", 8_000_000),
        ([Path("decoded"), 1000], "decoded", 1000),
        (("decoded", "9999 TB"), "decoded", 9999 * 10**12),
    ],
)
def test_a_path_is_a_folder(setting, folder, most_bytes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = made(setting)
    assert type(cache) is FolderCache
    assert (cache.path, cache.most_bytes) == (tmp_path / folder, most_bytes)
    assert cache.path.is_dir()


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert made("~/decoded").path == made(Path("~") / "decoded").path == tmp_path / "decoded"


SIZE = "expected one such as '50 GB', or a number of bytes."


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "8 gigs",
            "cache is '8 gigs' (str); expected a size such as '8 GB', or a folder: "
            "pathlib.Path('8 gigs'), or './8 gigs'.",
        ),
        (
            ("decoded", "much"),
            f"cache is ('decoded', 'much'), in which the size is 'much' (str); {SIZE}",
        ),
        (("decoded", 0.5), f"cache is ('decoded', 0.5), in which the size is 0.5 (float); {SIZE}"),
        (("decoded", 0), f"cache is ('decoded', 0), in which the size is 0 (int); {SIZE}"),
        (
            ("decoded",),
            "cache is ('decoded',); expected a folder and a size: ('decoded', '50 GB').",
        ),
        (
            (8, "8 GB"),
            "cache is (8, '8 GB'); expected a folder and a size: ('decoded', '50 GB').",
        ),
        (
            True,
            "cache is True (bool); expected a size such as '8 GB', a number of bytes, or a share "
            "of the memory from 0.0 to 1.0.",
        ),
    ],
)
def test_anything_else_is_refused(setting, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError) as caught:
        made(setting)
    assert str(caught.value) == told
    assert not os.listdir()
