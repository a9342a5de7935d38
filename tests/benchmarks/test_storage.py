"""The question of storage: what it measures comes whole, and its targets are for what there is."""

from __future__ import annotations

import gc

import pytest

from benchmarks import storage
from benchmarks.cases import Options
from benchmarks.timing import Rounds

ONE = {"enough": 1, "budget_s": 0.0}


def cases(**settings):
    chosen = {"smoke": False, "workloads": (), "backends": (), "rounds": Rounds(1, 0)} | settings
    return [case.arguments for case in storage.cases(Options(**chosen))]


@pytest.mark.parametrize(
    ("data", "way"),
    [
        ("HDF5, chunks of 64, gzip", "BlockShuffle, no thread"),
        ("HDF5, chunks of 64, gzip", "fancy indexing, shuffled"),
        ("Parquet, 16 columns, 64 row groups", "Parquet, no thread"),
        ("JPEGs of 320 x 240, to 128 x 128", "the second epoch from the cache"),
    ],
)
def test_an_epoch_is_whole_and_is_measured_beside_another(data, way, monkeypatch, tmp_path):
    monkeypatch.setenv(storage.FOLDER, str(tmp_path))
    (row,) = storage.measure(data, way, smoke=True, rounds=ONE)
    gc.collect()
    assert row["x"] == pytest.approx(row["us/sample"] / row["beside us"], rel=0.01)
    assert set(storage.KEY) <= set(row)
    assert set(storage.COLUMNS) <= set(row)
    assert list(tmp_path.iterdir()) == []


def test_every_chunk_size_and_codec_is_measured_and_others_once_for_each_library():
    found = cases()
    of_ours = [each for each in found if each["way"].startswith("BlockShuffle")]
    assert len(of_ours) == 2 * 2 * 2 * 2
    of_others = [each for each in found if each["way"] in storage._BY_OTHERS]
    assert len(of_others) == 2 * 3 + 1  # annbatch reads Zarr alone
    assert not [each for each in cases(with_peers=False) if each["way"] in storage._BY_OTHERS]
    of_smoke = cases(smoke=True)
    assert {each["way"] for each in of_smoke} == {
        each["way"] for each in found if "no thread" not in each["way"]
    }
    assert len(of_smoke) == len(found) - 2 * 2 * 3 - 2 - 3


def test_a_target_is_met_or_missed():
    row = {"data": "HDF5", "read by": "BlockShuffle, no thread", "x": 1.1}
    assert storage.verdicts([row]) == [
        "HDF5, BlockShuffle, no thread: x: 1.10, target at most 1.15: met"
    ]
    in_two = row | {"read by": "BlockShuffle, two threads"}
    assert storage.verdicts([in_two | {"data": "HDF5, gzip"}])[0].endswith("0.7: MISSED")
    assert storage.verdicts([in_two | {"data": "HDF5, uncompressed"}]) == []
    assert storage.verdicts([row | {"read by": "fancy indexing, shuffled"}]) == []
    ways = {way for _, ways, _ in storage._STORAGES.values() for way in ways}
    assert set(storage._TARGETS) == ways - set(storage._BY_OTHERS)
