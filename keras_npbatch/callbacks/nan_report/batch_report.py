"""The report of a `NaNReport`: writes the batches of some steps to a folder, and reads them.

    write(folder, dataset, deliveries, number=0, reasons=["the loss is nan"], logs={"loss": nan})
    found, number = read_report(folder, None)       # {"state": ..., "rows": ..., "leaves": ...}, 0
    read_arrays(arrays_path(folder, number), len(found["leaves"]))

`report.json` is written last, so every array it names exists.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.parts import unpack
from keras_npbatch.callbacks.files import opened, remove, replacing
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError, describe
from keras_npbatch.fit.deliveries import Delivery
from keras_npbatch.tree import Tree, leaves, map_leaves

__all__ = [
    "arrays_path",
    "as_text",
    "named_leaves",
    "read_arrays",
    "read_report",
    "storable",
    "write",
]

_REPORT = "report.json"
_VERSION = 2


def write(
    folder: Path,
    dataset: Any,
    deliveries: list[Delivery],
    number: int | None,
    reasons: list[str],
    logs: Mapping[str, Any],
) -> None:
    """Write a report, and replace an existing one.

    Args:
        folder: the folder, created if it does not exist.
        dataset: the dataset of the batches.
        deliveries: the batches.
        number: which of them the report is about; None if that is unknown.
        reasons: texts that say why the report is written.
        logs: the metrics so far.

    Raises:
        OSError: if the folder can't be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove(folder / _REPORT)  # it describes other arrays than those written now
    batches = []
    for each, delivery in enumerate(deliveries):
        named, weights = named_leaves(delivery.batch), delivery.class_weight
        with replacing(arrays_path(folder, each)) as file:
            arrays: dict[str, Any] = {
                f"leaf-{leaf}": storable(value) for leaf, (_, value) in enumerate(named)
            }
            np.savez(file, **arrays)
        batches.append(
            {
                "state": core_of(dataset).state_at(delivery.place),
                "rows": delivery.rows.tolist(),
                "class_weight": None if weights is None else weights.pairs,
                "leaves": [path for path, _ in named],
                "weights": _numbered(delivery.batch),
            }
        )
    report = {
        "version": _VERSION,
        "reasons": reasons,
        "epoch": deliveries[number or 0].epoch,
        "step": None if number is None else deliveries[number].step,
        "number": number,
        "logs": {name: as_text(value) for name, value in logs.items()},
        "batches": batches,
    }
    with replacing(folder / _REPORT) as file:
        file.write(json.dumps(report, indent=1).encode())
    for stale in range(len(deliveries), len(list(folder.iterdir()))):
        remove(arrays_path(folder, stale))


def read_report(folder: Path, number: int | None) -> tuple[dict[str, Any], int]:
    """The entry of a batch in a report, and the number of that batch."""
    try:
        with opened(folder / _REPORT) as file:
            report = json.load(file)
        version = report["version"]
        if version == _VERSION:
            batches, named = report["batches"], report["number"]
            if not isinstance(batches, list):
                raise TypeError(f"batches is {describe(batches)}")
            if named is not None:
                whole_number("number", named, least=0, most=len(batches) - 1)
            if number is None:
                number = named
            if number is not None:
                number = range(len(batches))[number]
                paths = batches[number]["leaves"]
                if not isinstance(paths, list) or not isinstance(batches[number]["state"], dict):
                    raise TypeError(f"batch {number} is {describe(batches[number])}")
                for leaf in leaves(batches[number]["weights"]):
                    range(len(paths))[leaf]
                if batches[number]["class_weight"] is not None:
                    ClassWeight.of_pairs(batches[number]["class_weight"])
                return batches[number], number
    except Exception as error:  # whatever parsing a damaged file may raise
        raise InvalidStateError(
            f"{folder} has no report of a NaNReport with such a batch ({type(error).__name__}: "
            f"{error}); expected the folder that it was given."
        ) from error
    if version != _VERSION:
        raise InvalidStateError(
            f"the report in {folder} has version {describe(version)}; this keras_npbatch reads "
            f"version {_VERSION}. Replay it with the keras_npbatch that wrote it."
        )
    raise InvalidArgumentError(
        f"the report in {folder} is of {len(batches)} steps and can't tell which of them made the "
        f"loss NaN or infinite; expected number, from 0 to {len(batches) - 1}."
    )


def read_arrays(path: Path, number: int) -> list[npt.NDArray[Any]]:
    """The arrays of one batch of a report."""
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as kept:
            return [kept[f"leaf-{leaf}"] for leaf in range(number)]
    except Exception as error:  # whatever parsing a damaged file may raise
        raise InvalidStateError(
            f"{path} is damaged, or not written by a NaNReport ({type(error).__name__}: {error}); "
            "expected the arrays of a batch. The report beside it tells its rows."
        ) from error


def arrays_path(folder: Path, number: int) -> Path:
    """The file with the arrays of a batch."""
    return folder / f"arrays-{number}.npz"


def as_text(value: Any) -> Any:
    """A value of `logs` as text, since JSON has no NaN; several values as a list of texts."""
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(keras.ops.convert_to_numpy(value), np.float64)
        return str(float(array)) if array.ndim == 0 else array.astype(str).tolist()
    return str(value)


def storable(leaf: Any) -> npt.NDArray[Any]:
    """The leaf as an array that can be written without pickling."""
    array = as_array(leaf)
    if array.dtype.kind in "OT":  # strings of frameworks and of NumPy 2
        return array.astype(np.str_)
    if array.dtype.kind == "V":  # bfloat16 and the like, which NumPy reads back as plain bytes
        return array.view(np.dtype((np.void, array.dtype.itemsize)))
    return array


def named_leaves(batch: Tree) -> list[tuple[str, Any]]:
    """The leaves of a batch with their paths, such as `x['image']`."""
    return unpack(batch, "the dataset").leaves_with_paths()


def _numbered(batch: Tree) -> Tree:
    """The tree of sample weights, with each leaf replaced by its number in the batch."""
    *others, weights = unpack(batch, "the dataset")
    numbers = itertools.count(len(leaves(others)))
    return map_leaves(lambda _: next(numbers), weights)
