"""Arrays of Zarr that are not where they were: to zarr, all their chunks have the fill value."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source

X = np.arange(1, 241, dtype="int32").reshape(40, 6)
LAYOUTS: dict[str, dict[str, Any]] = {
    "files": {"chunks": (4, 6)},
    "shards": {"chunks": (4, 6), "shards": (8, 6)},
    "part of a row": {"chunks": (4, 3)},
    "Zarr 2": {"chunks": (4, 3), "zarr_format": 2},
}

any_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def written(path: str, layout: dict[str, Any]) -> Any:
    found = zarr.create_array(path, name="inside", shape=X.shape, dtype=X.dtype, **layout)
    found[:] = X
    return found


@any_layout
def test_a_relative_path_leads_to_the_same_array_from_another_folder(
    layout: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = as_source(written("x.zarr", layout), "x")
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    np.testing.assert_array_equal(source.read(np.array([30, 2]), np.empty), X[[30, 2]])


@pytest.mark.parametrize("executor", ["", "portable"])
@pytest.mark.parametrize("layout", [LAYOUTS["files"], LAYOUTS["shards"]], ids=["files", "shards"])
def test_worker_processes_may_be_in_another_folder(
    layout: dict[str, Any], executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_NPBATCH_EXECUTOR", executor)
    settings: dict[str, Any] = {"workers": 1, "use_multiprocessing": True, "shuffle": False}
    with ArrayDataset(np.zeros((4, 6)), **settings) as another:  # starts the fork server
        list(another)
    monkeypatch.chdir(tmp_path)
    stored = written("x.zarr", layout)
    with ArrayDataset(stored, batch_size=8, **settings) as dataset:
        np.testing.assert_array_equal(np.concatenate(list(dataset)), X)


@any_layout
def test_an_array_that_was_deleted_is_refused(layout: dict[str, Any], tmp_path: Path) -> None:
    stored = written(str(tmp_path), layout)
    source = as_source(stored, "x")
    source.read(np.array([0]), np.empty)
    shutil.rmtree(tmp_path / "inside")
    message = r"x is an array of Zarr whose '.*' is not there any more, and zarr would read fill"
    with pytest.raises(InvalidDataError, match=message):
        source.read(np.array([0, 30]), np.empty)
    with pytest.raises(InvalidDataError, match=message):
        as_source(stored, "x")


def test_an_array_that_a_relative_path_does_not_lead_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = written("x.zarr", LAYOUTS["files"])
    os.mkdir("another")
    monkeypatch.chdir("another")
    with pytest.raises(InvalidDataError, match="by an absolute path if the current folder changes"):
        ArrayDataset(stored)
