"""How fast is data that is not in memory, beside the storage itself?

HDF5, Zarr and Parquet in blocks are compared with a bare sequential read of all chunks by the same
library, which shuffles nothing and makes no batch. A folder of JPEGs is compared with the loaders
of torch and of Keras, and a second epoch from `cache=` with one from arrays. Storage far away, each
answer of which takes 20 ms, is compared with the same without that wait.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import FOLDER

NAME = "storage"
TITLE = "An epoch from storage, beside the storage itself or another loader (rows of 12 kB)"
COLUMNS = {
    "data": "s",
    "read by": "s",
    "beside": "s",
    "x": ".2f",
    "spread": "s",
    "us/sample": ",.1f",
    "beside us": ",.1f",
    "rounds": "d",
    "others": ".2f",
}

KEY, RATIO = ("data", "read by", "beside"), "x"

_BATCH = 64
_SHAPE = (32, 32, 3)
_FEW_BATCHES = 2
"""Batches that fancy indexing reads of an epoch, since it may take minutes."""
_LATENCY_S = 0.02
"""From a request to its answer."""
_STEP_S = 0.01
"""What a model far from the storage takes for a batch."""
_SMALL, _LARGE = (240, 320), (600, 800)
"""Photos: a JPEG of four times the size asked for, or more, is decoded at a half of its own."""
_SIZE = (128, 128)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two ways to read an epoch."""

    mine: Callable[[], float]
    """Reads it, and returns the seconds that an epoch takes."""
    beside: Callable[[], float]
    """The same for what it is compared with."""
    num_samples: int
    """Of an epoch."""


def cases(options: Options) -> list[Case]:
    """One for each storage, and each way to read it."""
    found = []
    for data, (packages, ways, _) in _STORAGES.items():
        if options.smoke and data in _LIKE_OTHERS:
            continue
        for way, (needed, _) in ways.items():
            if way in _BY_OTHERS and (data in _LIKE_OTHERS or not options.with_peers):
                continue
            if options.smoke and "no thread" in way:  # with threads it does the same, and more
                continue
            lacking = [missing(package) for package in (*packages, *needed)]
            found.append(
                Case(
                    options.arguments(data=data, way=way),
                    {"KERAS_BACKEND": "tensorflow" if "tensorflow" in needed else "numpy"},
                    left_out=next((why for why in lacking if why is not None), None),
                )
            )
    return found


def measure(data: str, way: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one way to read one storage."""
    _, ways, beside = _STORAGES[data]
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get(FOLDER)) as folder,
        ways[way][1](Path(folder), smoke) as compared,
    ):
        runs = {"beside": compared.beside, "mine": compared.mine}
        times = interleave(runs, Rounds(**rounds))
    return [
        {
            "data": data,
            "read by": way,
            "beside": beside.get(way, beside[""]),
            **times.told("x", "mine", "beside"),
            "us/sample": times.seconds("mine") / compared.num_samples * 1e6,
            "beside us": times.seconds("beside") / compared.num_samples * 1e6,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Whether each way of this library met its target."""
    lines = []
    for row in rows:
        most = _TARGETS.get(row["read by"])
        # A second thread decodes meanwhile, if there is anything to decode.
        has_none = row["read by"] == _IN_TWO and "uncompressed" in row["data"]
        if most is not None and not has_none:
            lines.append(target(f"{row['data']}, {row['read by']}: x", row["x"], most))
    return lines


def _epoch(dataset: Any, num_samples: int) -> None:
    seen = 0
    for batch in dataset:
        seen += len(batch[1])
    if seen != num_samples:
        raise AssertionError(f"an epoch has {seen} samples, not {num_samples}")


def _check(dataset: Any, num_samples: int) -> None:
    """Each sample comes once, with its own features."""
    numbers = []
    for x, y in dataset:
        np.testing.assert_array_equal(np.asarray(x).reshape(len(y), -1)[:, 0], y % 256)
        numbers.append(np.array(y))
    np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(num_samples))


# -------------------------------------------------------------------- chunks of arrays


def _rows(start: int, stop: int) -> np.ndarray:
    """Features that a codec can halve, the first of which tells the row."""
    rng = np.random.default_rng(start)
    x = rng.integers(0, 16, (stop - start, *_SHAPE)).astype(np.float32)
    x.reshape(len(x), -1)[:, 0] = np.arange(start, stop) % 256
    return x


@contextlib.contextmanager
def _hdf5(folder: Path, num_rows: int, chunk_rows: int, compressed: bool) -> Iterator[Any]:
    import h5py

    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset(
            "x",
            (num_rows, *_SHAPE),
            np.float32,
            chunks=(chunk_rows, *_SHAPE),
            compression="gzip" if compressed else None,
            compression_opts=1 if compressed else None,
        )
        for start in range(0, num_rows, chunk_rows):
            stored[start : start + chunk_rows] = _rows(start, min(start + chunk_rows, num_rows))
    with h5py.File(path) as file:
        yield file["x"]


@contextlib.contextmanager
def _zarr(folder: Path, num_rows: int, chunk_rows: int, compressed: bool) -> Iterator[Any]:
    import zarr

    settings: dict[str, Any] = {} if compressed else {"compressors": None}
    if compressed:
        settings["compressors"] = zarr.codecs.BloscCodec(cname="zstd", clevel=3)
    stored = zarr.create_array(
        str(folder / "data.zarr"),
        shape=(num_rows, *_SHAPE),
        chunks=(chunk_rows, *_SHAPE),
        dtype="float32",
        **settings,
    )
    for start in range(0, num_rows, chunk_rows):
        stored[start : start + chunk_rows] = _rows(start, min(start + chunk_rows, num_rows))
    yield zarr.open_array(stored.store.root, mode="r")


def _chunks(
    store: Any, chunk_rows: int, compressed: bool, way: Any
) -> Callable[[Path, bool], contextlib.AbstractContextManager[_Compared]]:
    """What compares one way to read an array in chunks with the chunks in their order."""

    @contextlib.contextmanager
    def compare(folder: Path, smoke: bool) -> Iterator[_Compared]:
        num_rows = 2 * chunk_rows + 100 if smoke else 16 * 1024
        with store(folder, num_rows, chunk_rows, compressed) as stored:

            def in_order() -> None:
                for start in range(0, num_rows, chunk_rows):
                    stored[start : start + chunk_rows]

            limit = partial(seconds_of, in_order)
            with way(stored, num_rows, chunk_rows) as mine:
                yield _Compared(mine, limit, num_rows)

    return compare


@contextlib.contextmanager
def _blocks(workers: int, stored: Any, num_rows: int, chunk_rows: int) -> Iterator[Any]:
    import keras_npbatch as npb

    dataset = npb.ArrayDataset(
        stored,
        np.arange(num_rows),
        batch_size=_BATCH,
        seed=0,
        workers=workers,
        sampler=npb.samplers.BlockShuffle(),
    )
    with dataset:
        _check(dataset, num_rows)
        yield partial(seconds_of, partial(_epoch, dataset, num_rows))


@contextlib.contextmanager
def _fancy(stored: Any, num_rows: int, chunk_rows: int) -> Iterator[Any]:
    rng = np.random.default_rng(0)

    def few() -> float:
        batches = [np.sort(rng.choice(num_rows, _BATCH, False)) for _ in range(_FEW_BATCHES)]

        def read() -> None:
            for rows in batches:
                stored.oindex[rows] if hasattr(stored, "oindex") else stored[rows]

        return seconds_of(read) * num_rows / (_BATCH * _FEW_BATCHES)

    yield few


@contextlib.contextmanager
def _tf_data(stored: Any, num_rows: int, chunk_rows: int) -> Iterator[Any]:
    import tensorflow as tf

    spec = tf.TensorSpec((None, *_SHAPE), tf.float32), tf.TensorSpec((None,), tf.int64)

    def blocks() -> Iterator[Any]:
        for block in np.random.default_rng(0).permutation(-(-num_rows // chunk_rows)):
            start = int(block) * chunk_rows
            x = stored[start : start + chunk_rows]
            yield x, np.arange(start, start + len(x))

    mixed = tf.data.Dataset.from_generator(blocks, output_signature=spec).unbatch()
    dataset = mixed.shuffle(16 * chunk_rows).batch(_BATCH).prefetch(2)
    _check(dataset, num_rows)
    yield partial(seconds_of, partial(_epoch, dataset, num_rows))


@contextlib.contextmanager
def _xbatcher(stored: Any, num_rows: int, chunk_rows: int) -> Iterator[Any]:
    """Batches of adjacent rows in a random order, since xbatcher mixes no rows."""
    import dask.array
    import xarray
    import xbatcher  # type: ignore[import-not-found, unused-ignore]  # a peer: it may be missing

    lazy = dask.array.from_array(stored, chunks=(chunk_rows, *_SHAPE))
    lengths = {"row": _BATCH, **dict(zip("hwc", _SHAPE, strict=True))}
    batches = xbatcher.BatchGenerator(xarray.DataArray(lazy, dims=tuple(lengths)), lengths)

    def epoch() -> None:
        seen = 0
        for number in np.random.default_rng(0).permutation(len(batches)).tolist():
            seen += len(batches[number].to_numpy())
        assert seen == num_rows // _BATCH * _BATCH

    yield partial(seconds_of, epoch)


@contextlib.contextmanager
def _annbatch(stored: Any, num_rows: int, chunk_rows: int) -> Iterator[Any]:
    """As many blocks are mixed at a time as by ours. Rows must be flat: the same chunks again."""
    import annbatch  # type: ignore[import-not-found, unused-ignore]  # a peer: it may be missing
    import zarr

    flat = zarr.create_array(
        f"{stored.store.root}.flat",
        shape=(num_rows, math.prod(_SHAPE)),
        chunks=(chunk_rows, math.prod(_SHAPE)),
        dtype="float32",
        compressors=stored.compressors or None,
    )
    for start in range(0, num_rows, chunk_rows):
        flat[start : start + chunk_rows] = stored[start : start + chunk_rows].reshape(
            -1, math.prod(_SHAPE)
        )
    loader = annbatch.Loader(
        chunk_size=chunk_rows, preload_nchunks=16, shuffle=True, batch_size=_BATCH
    ).add_dataset(flat)

    def epoch() -> None:
        assert sum(len(batch["X"]) for batch in loader) == num_rows

    yield partial(seconds_of, epoch)


# -------------------------------------------------------------------- Parquet


def _written_parquet(folder: Path, num_rows: int, group_rows: int) -> tuple[Path, list[str]]:
    """A file of 15 columns of numbers, and of the numbers of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    columns = {f"c{number}": rng.normal(size=num_rows).astype("float32") for number in range(15)}
    path = folder / "data.parquet"
    table = pa.table({**columns, "row": np.arange(num_rows)})
    pq.write_table(table, path, row_group_size=group_rows)
    return path, list(columns)


@contextlib.contextmanager
def _parquet(workers: int, folder: Path, smoke: bool) -> Iterator[_Compared]:
    import pyarrow.parquet as pq

    import keras_npbatch as npb

    num_rows, batch_size = (5000, 256) if smoke else (2_000_000, 1024)
    path, names = _written_parquet(folder, num_rows, max(num_rows // 64, 1000))
    data = npb.sources.Parquet(path)
    dataset = npb.ArrayDataset(
        {name: data[name] for name in names},
        data["row"],
        batch_size=batch_size,
        seed=0,
        workers=workers,
        sampler=npb.samplers.BlockShuffle(),
    )

    def scan() -> None:
        seen = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size, use_threads=workers > 0):
            seen += len(batch)
        assert seen == num_rows

    with dataset:
        numbers = [np.array(y) for _, y in dataset]
        np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(num_rows))
        yield _Compared(
            partial(seconds_of, partial(_epoch, dataset, num_rows)),
            partial(seconds_of, scan),
            num_rows,
        )


# -------------------------------------------------------------------- far away


def _trained_on(dataset: Any, num_samples: int) -> None:
    """An epoch in which each batch takes the model some time."""
    seen = 0
    for batch in dataset:
        time.sleep(_STEP_S)
        seen += len(batch[1])
    assert seen == num_samples


@contextlib.contextmanager
def _late_zarr(folder: Path, smoke: bool) -> Iterator[_Compared]:
    import zarr
    from zarr.storage import FsspecStore

    from benchmarks.latency import LateFiles

    num_rows = 4 * _BATCH if smoke else 16 * 1024

    def opened(latency_s: float) -> Any:
        files = LateFiles(latency_s, asynchronous=True)
        store = FsspecStore(files, path=str(folder / "data.zarr"), read_only=True)
        return zarr.open_array(store, mode="r"), np.arange(num_rows)

    with _zarr(folder, num_rows, _BATCH, compressed=True):
        yield from _late(opened, num_rows, batch_size=_BATCH)


@contextlib.contextmanager
def _late_parquet(folder: Path, smoke: bool) -> Iterator[_Compared]:
    import keras_npbatch as npb
    from benchmarks.latency import LateFiles

    num_rows, batch_size = (4000, 256) if smoke else (2**18, 1024)
    path, names = _written_parquet(folder, num_rows, num_rows // 256)

    def opened(latency_s: float) -> Any:
        data = npb.sources.Parquet(str(path), filesystem=LateFiles(latency_s))
        return data[names], data["row"]

    yield from _late(opened, num_rows, batch_size=batch_size)


def _late(opened: Callable[[float], Any], num_rows: int, batch_size: int) -> Iterator[_Compared]:
    """Eight threads that wait for each answer, beside eight that don't."""
    import keras_npbatch as npb

    sampler = npb.samplers.BlockShuffle()
    settings: dict[str, Any] = {"batch_size": batch_size, "seed": 0, "workers": 8}
    with contextlib.ExitStack() as entered:
        late, at_once = (
            entered.enter_context(npb.ArrayDataset(*opened(wait), sampler=sampler, **settings))
            for wait in (_LATENCY_S, 0.0)
        )
        numbers = [np.array(y) for _, y in late]
        np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(num_rows))
        yield _Compared(
            partial(seconds_of, partial(_trained_on, late, num_rows)),
            partial(seconds_of, partial(_trained_on, at_once, num_rows)),
            num_rows,
        )


# -------------------------------------------------------------------- images


def _photos(folder: Path, num_images: int, size: tuple[int, int] = _SMALL) -> list[Path]:
    """JPEGs of two classes, of gradients with some noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    height, width = size
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] % 256
    paths = []
    for number in range(num_images):
        noisy = (ramp + rng.integers(0, 40, (height, width, 3)) + number) % 256
        path = folder / "photos" / ("cats", "dogs")[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def _of_folder(folder: Path, **settings: Any) -> Any:
    import keras_npbatch as npb

    images = npb.sources.ImageFolder(folder / "photos", size=_SIZE, decoder="pillow")
    return npb.ArrayDataset(images.images, images.labels, batch_size=32, seed=0, **settings)


class _TorchPhotos:
    """What a user of torch writes; its samples are decoded as `ImageFolder` decodes them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        with Image.open(self.paths[row]) as image:
            small = image.convert("RGB").resize(_SIZE[::-1], Image.Resampling.BILINEAR)
            return np.asarray(small), row % 2


@contextlib.contextmanager
def _beside_torch(size: tuple[int, int], folder: Path, smoke: bool) -> Iterator[_Compared]:
    from torch.utils.data import DataLoader

    paths = _photos(folder, 40 if smoke else 500, size)
    loader: Any = DataLoader(
        _TorchPhotos(paths),
        batch_size=32,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        collate_fn=_stacked,
    )
    yield from _both(folder, loader, len(paths))


def _stacked(samples: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([image for image, _ in samples]), np.array([label for _, label in samples])


@contextlib.contextmanager
def _beside_keras(size: tuple[int, int], folder: Path, smoke: bool) -> Iterator[_Compared]:
    import keras

    paths = _photos(folder, 40 if smoke else 500, size)
    loader = keras.utils.image_dataset_from_directory(
        str(folder / "photos"), image_size=_SIZE, batch_size=32, seed=0, verbose=False
    )
    yield from _both(folder, loader, len(paths))


def _both(folder: Path, loader: Any, num_samples: int) -> Iterator[_Compared]:
    with _of_folder(folder, workers=2) as dataset:
        for each in (dataset, loader):  # a first epoch starts what stays
            _epoch(each, num_samples)
        yield _Compared(
            partial(seconds_of, partial(_epoch, dataset, num_samples)),
            partial(seconds_of, partial(_epoch, loader, num_samples)),
            num_samples,
        )


@contextlib.contextmanager
def _cached(folder: Path, smoke: bool) -> Iterator[_Compared]:
    import keras_npbatch as npb

    num_images = len(_photos(folder, 40 if smoke else 2000))
    with _of_folder(folder, workers=1, cache="256 MB") as dataset:
        _epoch(dataset, num_images)
        x, y = dataset.load(np.arange(num_images))
        with npb.ArrayDataset(x, y, batch_size=32, seed=0, workers=1) as of_arrays:
            yield _Compared(
                partial(seconds_of, partial(_epoch, dataset, num_images)),
                partial(seconds_of, partial(_epoch, of_arrays, num_images)),
                num_images,
            )
        if dataset.cache_info().rows != num_images:
            warnings.warn("the cache has no room for all images", stacklevel=1)


_IN_TWO = "BlockShuffle, two threads"
_ANNBATCH = "annbatch, blocks mixed"
_SECOND = "the second epoch from the cache"
_Ways = dict[str, tuple[tuple[str, ...], Callable[..., Any]]]

_IN_CHUNKS: dict[str, tuple[tuple[str, ...], Any]] = {
    "BlockShuffle, no thread": ((), partial(_blocks, 0)),
    _IN_TWO: ((), partial(_blocks, 2)),
    "fancy indexing, shuffled": ((), _fancy),
    "tf.data, blocks and a buffer": (("tensorflow",), _tf_data),
    "xbatcher, adjacent rows": (("xbatcher", "xarray", "dask"), _xbatcher),
    _ANNBATCH: (("annbatch",), _annbatch),
}


def _ways(store: Any, chunk_rows: int, compressed: bool) -> _Ways:
    return {
        name: (needed, _chunks(store, chunk_rows, compressed, way))
        for name, (needed, way) in _IN_CHUNKS.items()
        if store is _zarr or name != _ANNBATCH
    }


_STORAGES: dict[str, tuple[tuple[str, ...], _Ways, dict[str, str]]] = {
    **{
        f"{library}, chunks of {chunk_rows:,}, {codec if compressed else 'uncompressed'}": (
            (package,),
            _ways(store, chunk_rows, compressed),
            {"": "all chunks in order"},
        )
        for library, package, codec, store in (
            ("HDF5", "h5py", "gzip", _hdf5),
            ("Zarr", "zarr", "zstd", _zarr),
        )
        for chunk_rows in (64, 1024)
        for compressed in (False, True)
    },
    "Parquet, 16 columns, 64 row groups": (
        ("pyarrow",),
        {
            "Parquet, no thread": ((), partial(_parquet, 0)),
            "Parquet, two threads": ((), partial(_parquet, 2)),
        },
        {"": "pyarrow's iter_batches"},
    ),
    "far away, 20 ms a request": (
        ("fsspec",),
        {
            "Zarr, eight threads, steps of 10 ms": (("zarr",), _late_zarr),
            "Parquet, eight threads, steps of 10 ms": (("pyarrow",), _late_parquet),
        },
        {"": "the same without a wait"},
    ),
    **{
        f"JPEGs of {size[1]} x {size[0]}, to 128 x 128": (
            ("PIL",),
            {
                "ImageFolder, two threads": (("torch",), partial(_beside_torch, size)),
                "ImageFolder, two threads, for Keras": (
                    ("tensorflow",),
                    partial(_beside_keras, size),
                ),
                **({_SECOND: ((), _cached)} if size == _SMALL else {}),
            },
            {
                "": "torch's DataLoader(2)",
                "ImageFolder, two threads, for Keras": "image_dataset_from_directory",
                _SECOND: "ArrayDataset of arrays",
            },
        )
        for size in (_SMALL, _LARGE)
    },
}
"""The packages that a storage needs, the ways to read it, and what each is compared with."""

_LIKE_OTHERS = [
    data for data in _STORAGES if "uncompressed" in data or "1,024" in data or "800" in data
]
"""Storages that differ from others in the size of a chunk or an image, or in the codec alone."""
_BY_OTHERS = (
    "fancy indexing, shuffled",
    "tf.data, blocks and a buffer",
    "xbatcher, adjacent rows",
    _ANNBATCH,
)
_TARGETS = {
    "BlockShuffle, no thread": 1.15,
    _IN_TWO: 0.7,
    "Parquet, no thread": 1.2,
    "Parquet, two threads": 1.2,
    "Zarr, eight threads, steps of 10 ms": 1 / 0.9,
    "Parquet, eight threads, steps of 10 ms": 1 / 0.9,
    "ImageFolder, two threads": 0.67,
    "ImageFolder, two threads, for Keras": 0.67,
    _SECOND: 1.2,
}
