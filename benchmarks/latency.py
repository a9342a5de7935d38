"""A filesystem of fsspec that answers late, as one far away does: local files, read after a wait.

filesystem = LateFiles(0.02, asynchronous=True)
stored = zarr.open_array(FsspecStore(filesystem, path=folder, read_only=True), mode="r")
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractBufferedFile

__all__ = ["LateFiles"]


class LateFiles(AsyncFileSystem):  # type: ignore[misc]  # untyped
    """Files of this machine; any number of requests can be under way.

    Args:
        latency_s: from a request to its answer, beside the time to read.
        settings: of fsspec.
    """

    protocol = "late"
    cachable = False

    def __init__(self, latency_s: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._latency_s = latency_s

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        with open(path, "rb") as file:
            file.seek(start or 0)
            return file.read(-1 if end is None else end - file.tell())

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        kind = "directory" if os.path.isdir(path) else "file"
        return {"name": path, "size": os.path.getsize(path), "type": kind}

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        paths = [os.path.join(path, name) for name in sorted(os.listdir(path))]
        return [await self._info(each) for each in paths] if detail else paths

    def _open(self, path: str, mode: str = "rb", **settings: Any) -> Any:
        return _LateFile(self, path, mode, **settings)


class _LateFile(AbstractBufferedFile):  # type: ignore[misc]  # untyped
    """A file of which each read is a request."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = self.fs.cat_file(self.path, start, end)
        return found
