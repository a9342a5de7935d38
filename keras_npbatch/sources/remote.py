"""Files that are elsewhere: addresses that fsspec opens.

    filesystem, paths = opened("memory://measurements", {})

pyarrow opens those of some systems itself (`s3://`, `gs://`). For all others, and if there are
`storage_options`, it reads through fsspec. A connection is not sent to worker processes: fsspec
connects again where a filesystem arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, MissingExtraError, describe

__all__ = ["opened", "paths_here"]

_OF_PYARROW = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
"""What pyarrow opens itself."""

_PACKAGES = {
    **dict.fromkeys(("http", "https"), "fsspec[http]"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "github": "requests",
    "hf": "huggingface_hub",
    "smb": "smbprotocol",
}
"""What fsspec needs to open addresses."""


def paths_here(paths: list[str]) -> list[str]:
    """The same paths, and for addresses of files on this machine (`file:///a%20b`) their paths.

    pyarrow takes such an address alone only, and percent-encoded.
    """
    from urllib.request import url2pathname  # with what each worker would import for nothing

    found = []
    for path in paths:
        rest = path.removeprefix("file://").removeprefix("localhost")
        is_here = path.startswith("file://") and rest.startswith("/")  # and of no other machine
        found.append(url2pathname(rest) if is_here else path)
    return found


def opened(
    paths: str | Sequence[str], storage_options: Mapping[str, Any] | None
) -> tuple[Any, Any] | None:
    """The filesystem of addresses, and the paths there; None if pyarrow opens them itself.

    Args:
        paths: a path or an address, or several.
        storage_options: of the filesystem; None: nothing is to be said.

    Raises:
        MissingExtraError: if fsspec, or what it needs for these addresses, is not installed.
        InvalidDataError: for addresses of several systems, or of one that fsspec does not know.
        InvalidArgumentError: for `storage_options` that are not a dict, or are for this machine.
    """
    given = [paths] if isinstance(paths, str) else list(paths)
    schemes = sorted({path.partition("://")[0] if "://" in path else "" for path in given})
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise InvalidArgumentError(
            f"storage_options is {describe(storage_options)}; expected a dict of what fsspec's "
            "filesystem takes, such as {'anon': True}."
        )
    if len(schemes) > 1:
        raise InvalidDataError(
            f"the paths are of several systems: {', '.join(map(repr, schemes))}; expected one. "
            "Join datasets instead: keras_npbatch.concat([...])."
        )
    scheme = schemes[0] if schemes else ""
    if not scheme:
        if storage_options is not None:
            raise InvalidArgumentError(
                "storage_options were given for paths on this machine; expected addresses, such as "
                "'s3://bucket/folder'."
            )
        return None
    if scheme in _OF_PYARROW and storage_options is None:
        return None
    try:
        import fsspec.core
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs fsspec, which is not installed. Install it: "
            "pip install 'keras_npbatch[remote]'."
        ) from error
    try:
        filesystem, first = fsspec.core.url_to_fs(given[0], **(storage_options or {}))
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        remedy = "what it names" if package is None else f"it: pip install '{package}'"
        raise MissingExtraError(
            f"{scheme}:// can't be opened by fsspec: {str(error).rstrip('.')}. Install {remedy}."
        ) from error
    except ValueError as error:
        raise InvalidDataError(
            f"{scheme}:// can't be opened by fsspec: {error}. Expected an address of a system that "
            "it knows: fsspec.available_protocols()."
        ) from error
    if isinstance(paths, str):
        return _exact(filesystem), first
    return _exact(filesystem), [filesystem._strip_protocol(path) for path in given]


def _exact(filesystem: Any) -> Any:
    """The filesystem for pyarrow, which asks for the very bytes that it needs.

    A file is opened for each row group. By default fsspec then asks whether it is there, and how
    long it is, and reads 5 MB ahead of each request: three answers to wait for instead of one, and
    most bytes belong to other row groups.
    """
    import pyarrow as pa
    from pyarrow import fs

    class Exact(fs.FSSpecHandler):  # type: ignore[misc]  # untyped
        def __init__(self, filesystem: Any) -> None:
            super().__init__(filesystem)
            self._sizes: dict[str, int] = {}

        def open_input_file(self, path: str) -> Any:
            known = {"size": self._sizes[path]} if path in self._sizes else {}
            file = self.fs.open(path, mode="rb", cache_type="none", **known)
            if getattr(file, "size", None):
                self._sizes[path] = file.size
            return pa.PythonFile(file, mode="r")

        def __reduce__(self) -> Any:
            return _handler, (self.fs,)

    return fs.PyFileSystem(Exact(filesystem))


def _handler(filesystem: Any) -> Any:
    return _exact(filesystem).handler
