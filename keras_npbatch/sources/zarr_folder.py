"""Where an array of Zarr lies on this machine, so that another place is never read by mistake.

    storage = at_absolute_path(zarr.open_array("data.zarr"))
    refuse_missing(storage, "x")         # before zarr reads it

To zarr, a chunk that is not there was never written, and has the fill value: no error tells that
the folder has been deleted, or that a relative path leads elsewhere, since the program or a worker
process is in another folder. A model would be trained with zeros.
"""

from __future__ import annotations

import os
from typing import Any

from keras_npbatch.errors import InvalidDataError

__all__ = ["at_absolute_path", "refuse_missing"]


def at_absolute_path(storage: Any) -> Any:
    """The same array, whose path does not depend on the current folder; other storage as it is."""
    root = _root(storage)
    if root is None or os.path.isabs(root):
        return storage
    import zarr
    from zarr.storage import LocalStore

    return zarr.open_array(
        LocalStore(os.path.abspath(root), read_only=True),
        path=storage.path,
        mode="r",
        zarr_format=storage.metadata.zarr_format,
    )


def refuse_missing(storage: Any, path: str) -> None:
    """Refuse to read an array of Zarr that is not there any more.

    Args:
        storage: the array, or other storage, which is not looked at.
        path: of the leaf, for messages.

    Raises:
        InvalidDataError: naming the file that is missing.
    """
    root = _root(storage)
    if root is None:
        return
    name = ".zarray" if storage.metadata.zarr_format == 2 else "zarr.json"
    described = os.path.join(root, storage.path, name)
    if not os.path.exists(described):
        raise InvalidDataError(
            f"{path} is an array of Zarr whose {os.path.abspath(described)!r} is not there any "
            "more, and zarr would read fill values; expected the array where it was opened. Leave "
            "it there while the dataset is used, and open it by an absolute path if the current "
            "folder changes."
        )


def _root(storage: Any) -> str | None:
    """The folder of the store, if it is one on this machine."""
    if type(storage).__module__.partition(".")[0] != "zarr":
        return None
    store: Any = getattr(storage, "store", None)
    if type(store).__name__ != "LocalStore" or not hasattr(storage, "metadata"):
        return None
    return str(store.root)
