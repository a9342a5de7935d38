"""Arrays of Zarr and TensorStore that are not there any more are never read as fill values.

    found = storage[0:64]
    refuse_gone(found, storage, "x")     # if all of it is one value

To both libraries, a chunk that is not there was never written, and has the fill value. So they
raise nothing if the array has been deleted, or lies in the memory of another process, and a model
would be trained with zeros. Only rows of one value throughout can be fill values. If they are, the
array is opened once more: that fails if it is gone. (`zarr_folder.py` looks at folders of this
machine before they are read.)
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError

__all__ = ["refuse_gone"]

_OF_TENSORSTORE = ("NOT_FOUND", "FAILED_PRECONDITION")
"""How it says that an array is not there: the first time, and when it knows that already."""


def refuse_gone(found: npt.NDArray[Any], storage: Any, path: str) -> None:
    """Refuse what was read if it has one value throughout, and the array is not there.

    Args:
        found: what was read.
        storage: what it was read from; only that of Zarr and TensorStore is checked.
        path: of the leaf, for messages.

    Raises:
        InvalidDataError: naming the storage.
    """
    package = type(storage).__module__.partition(".")[0]
    if package not in _OPENED or not found.size or not _is_one_value(found):
        return
    try:
        _OPENED[package](storage)
    except (FileNotFoundError, ValueError) as error:
        if type(error) is ValueError and not any(each in str(error) for each in _OF_TENSORSTORE):
            raise
        raise InvalidDataError(
            f"{path} is an array that {package} can't find any more, and would read as fill "
            f"values: {error}. Expected the array where it was opened. Leave it there while the "
            "dataset is used. What is in the memory of one process is not seen by others: read it "
            "with threads, use_multiprocessing=False."
        ) from error


def _is_one_value(found: npt.NDArray[Any]) -> bool:
    first = found.reshape(-1)[:1]  # a NaN differs from itself
    return all(bool(((each == first) | (each != each)).all()) for each in (found[:1], found))


def _open_zarr(storage: Any) -> None:
    """Raises a FileNotFoundError, or a ValueError of zarr's, if it is not there."""
    import zarr

    form = storage.metadata.zarr_format
    zarr.open_array(storage.store, path=storage.path, mode="r", zarr_format=form)


def _open_tensorstore(storage: Any) -> None:
    """Raises a ValueError with one of `_OF_TENSORSTORE`, if it is not there."""
    import tensorstore

    spec = storage.spec(open=True, create=False, retain_context=True)
    tensorstore.open(spec).result()


_OPENED = {"zarr": _open_zarr, "tensorstore": _open_tensorstore}
