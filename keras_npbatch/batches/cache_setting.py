"""`cache=`, as users write it: memory, or a folder.

new_cache("8 GB", num_rows, data)                    # of memory
new_cache(Path("decoded"), num_rows, data)           # in a folder; or "./decoded"
new_cache(("decoded", "50 GB"), num_rows, data)      # ... that takes at most 50 GB
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from keras_npbatch.batches.folder_cache import FolderCache
from keras_npbatch.batches.memory_size import in_bytes, size_of
from keras_npbatch.batches.pad import Collation
from keras_npbatch.batches.row_cache import IS_SHARED, RowCache
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["Cache", "new_cache", "refuse_cache", "refuse_cache_of_one_process"]

Cache: TypeAlias = str | float | os.PathLike[str] | tuple[str | os.PathLike[str], str | int]
"""What users may give as `cache=`."""


def new_cache(
    setting: Any,
    num_rows: int,
    data: Callable[[], Mapping[str, Any]],
    settings: WorkerSettings | None = None,
) -> RowCache:
    """The cache that a setting asks for.

    Args:
        setting: a size, a folder, or a folder and its size.
        num_rows: of the data.
        data: gives what identifies the data; called for a folder only.
        settings: who makes the batches; None: not known.

    Raises:
        InvalidArgumentError: for anything else.
    """
    folder, most_bytes = setting, None
    if isinstance(setting, tuple | list):
        if len(setting) != 2 or not isinstance(setting[0], str | os.PathLike):
            raise InvalidArgumentError(
                f"cache is {setting!r}; expected a folder and a size: ('decoded', '50 GB')."
            )
        folder, most_bytes = Path(setting[0]), size_of(setting[1])
        if most_bytes is None or most_bytes < 1:
            raise InvalidArgumentError(
                f"cache is {setting!r}, in which the size is {describe(setting[1])}; expected one "
                "such as '50 GB', or a number of bytes."
            )
    if isinstance(folder, str) and size_of(folder) is None:
        if not any(mark in folder for mark in (os.sep, "/", "~")):  # it may be a size misspelt
            raise InvalidArgumentError(
                f"cache is {describe(folder)}; expected a size such as '8 GB', or a folder: "
                f"pathlib.Path({folder!r}), or './{folder}'."
            )
        folder = Path(folder)
    if isinstance(folder, os.PathLike):
        return FolderCache(num_rows, Path(folder).expanduser(), most_bytes, data())
    for_processes = (
        settings is None or settings.workers == "auto" or settings.use_multiprocessing is True
    )
    return RowCache(num_rows, in_bytes(setting, "cache"), for_processes)


def refuse_cache(owner: str, load_draws: bool, collate: Collation | None) -> None:
    """Refuse to keep samples that are not the same each time.

    Args:
        owner: the class of the dataset.
        load_draws: whether its `load` draws random numbers.
        collate: how its sequences are padded.

    Raises:
        InvalidArgumentError: if they are not.
    """
    if load_draws:
        raise InvalidArgumentError(
            f"cache was given to {owner}, which has load(rows, rng); expected load(rows), "
            "whose samples depend on their rows alone. Draw random numbers in "
            "augment(batch, rng)."
        )
    if collate is not None and collate.varies:
        raise InvalidArgumentError(
            f"cache was given to {owner} with collate={collate.name}; expected samples of "
            "one width, which the cache keeps. Give pad_to a number: pad(pad_to=256)."
        )


def refuse_cache_of_one_process(cache: RowCache, settings: WorkerSettings | None) -> None:
    """Refuse a cache that worker processes could not share.

    Raises:
        InvalidArgumentError: if they are to make the batches, and could not.
    """
    in_processes = settings is not None and settings.use_multiprocessing
    if in_processes and not IS_SHARED and not isinstance(cache, FolderCache):
        raise InvalidArgumentError(
            "cache was given with use_multiprocessing=True, and on this system each process "
            "would have one of its own; expected threads, or a folder. Say "
            "use_multiprocessing=False, or cache=pathlib.Path('decoded')."
        )
