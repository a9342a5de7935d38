"""`Files`: one sample per file, read by a function.

    scans = Files(sorted(folder.glob("*.dcm")), read=read_scan)
    train = keras_npbatch.ArrayDataset(scans, labels, workers=4)

Only the files of the batches that are being made are opened, by whoever makes them: here four
threads read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.paths import absolute_paths, refuse_no_list
from keras_npbatch.sources.source import Empty, is_raw

__all__ = ["Files"]


class Files:
    """One sample per file.

    Row i is what `read` returns for `paths[i]`. All samples have one shape and one dtype: those of
    the first file, which is read when the source is made, or those that are given.

    Example:

    ```python
    def read(path):
        return np.fromfile(path, "float32")

    samples = keras_npbatch.sources.Files(paths, read)
    train = keras_npbatch.ArrayDataset(samples, labels, batch_size=32, workers=4)
    ```

    Args:
        paths: a list of paths. Relative ones are made absolute, so that they name the same files
            in worker processes. Addresses such as `"s3://bucket/a.npy"` stay as they are.
        read: `read(path)` returns one sample: an array of shape `feature_shape`, or a single
            value. Texts and bytes of Python come as objects, of any length. It gets a
            `pathlib.Path` if the first path is one, otherwise a `str`. Several threads may call it
            at once, and it must return the same each time.
        shape: the `feature_shape` of every sample, such as `(64, 64, 3)`. If `shape` and `dtype`
            are given, no file is read before its batch is made.
        dtype: the dtype of every sample. What `read` returns is converted to it where no value
            can change, except that real numbers may be rounded.

    Raises:
        InvalidDataError: if `paths` is not a list of paths; and when a sample is read that has
            another shape or dtype, naming its file and row.
        InvalidArgumentError: if `read`, `shape` or `dtype` is invalid.
    """

    is_in_memory = False
    chunk_rows: int | None = None

    def __init__(
        self,
        paths: Iterable[str | PathLike[str]],
        read: Callable[[Any], Any],
        *,
        shape: Sequence[int] | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        refuse_no_list(paths, "paths", "paths")
        given = list(paths)
        self.paths = absolute_paths(given, "paths")
        """The path of each row, as a `str`."""
        if not callable(read):
            raise InvalidArgumentError(
                f"read is {describe(read)}; expected a function: `read(path)` returns one sample."
            )
        self._function = read
        self._gives_path = not isinstance(given[0], str)
        self._converts = dtype is not None
        self._whose = "as was given"
        if shape is not None:
            if not isinstance(shape, tuple | list):
                raise InvalidArgumentError(
                    f"shape is {describe(shape)}; expected that of one sample, such as (64, 64, 3)."
                )
            feature_shape = tuple(whole_number("shape", length, least=0) for length in shape)
        if dtype is not None:
            dtype = _checked_dtype(dtype)
        if shape is None or dtype is None:
            first = self._first(dtype)
            if shape is None:
                feature_shape = first.shape
            if dtype is None:
                dtype = first.dtype
            self._whose = "as the first file has"
        self.shape: tuple[int, ...] = (len(given), *feature_shape)
        """`(num_files, *feature_shape)`."""
        self.dtype: np.dtype[Any] = dtype
        """The dtype of every sample."""

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the files of these rows, each once."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        places: dict[int, int] = {}
        for place, row in enumerate(rows.tolist()):
            first = places.setdefault(row, place)
            if first == place:
                self._fill(row, out[place, ...])
            else:
                out[place] = out[first]
        return out

    @property
    def stamp(self) -> str:
        """What changes if the files do; see `stamp_of`."""
        return self.paths.stamp

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        name = getattr(self._function, "__name__", type(self._function).__name__)
        return f"Files({len(self)} files, read={name}, shape={self.shape[1:]}, dtype={self.dtype})"

    def _fill(self, row: int, out: npt.NDArray[Any]) -> None:
        """Write the sample of a row into `out`, an array of `feature_shape`."""
        sample = self._sample(row, out)
        if sample is out:
            return
        found = self._array(row, sample, self.dtype)
        fits = np.can_cast(found.dtype, self.dtype, "equiv") or (
            self._converts and _is_converted(found.dtype, self.dtype)
        )
        is_text = isinstance(sample, str | bytes)
        if self.dtype.hasobject and not self._converts and not is_text:
            raise InvalidDataError(
                f"{self._called(row)} gave {describe(sample)}; expected a text or bytes, "
                f"{self._whose}. Return one for each file, or say `dtype=object` for any objects."
            )
        if fits and is_text and found.item() != sample:
            raise InvalidDataError(
                f"{self._called(row)} gave {type(sample).__name__} with zeros at its end, which "
                f"dtype {self.dtype} would drop; expected none. Say `dtype=object`, or make "
                "numbers of bytes in `read`: `np.frombuffer(content, np.uint8)`."
            )
        if found.shape != out.shape or not fits:
            raise InvalidDataError(
                f"{self._called(row)} gave {describe(found)}; expected shape {out.shape} and "
                f"dtype {self.dtype}, {self._whose}. {self._how_to_agree(found.dtype)}"
            )
        out[...] = found

    def _first(self, dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
        """The first sample, which decides what the others are."""
        found = self._sample(0)
        array = self._array(0, found, dtype)
        if dtype is None and array.dtype.hasobject and not isinstance(found, str | bytes):
            raise InvalidDataError(
                f"{self._called(0)} gave {describe(found)}; expected an array of numbers or text, "
                "or a single value. For several arrays in one file, write a BatchDataset whose "
                "load(rows) reads the files."
            )
        return array

    def _array(self, row: int, sample: Any, dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
        """A sample as an array: of objects if the dtype is that of objects.

        So are texts and bytes of Python if none is given, as in a `SampleDataset`: strings of NumPy
        have one length, and lose zeros at the end.
        """
        if isinstance(sample, str | bytes) and (dtype is None or dtype.kind == "O"):
            text = np.empty((), object)
            text[()] = str(sample) if isinstance(sample, str) else bytes(sample)
            return text
        try:
            return np.asarray(sample, dtype if dtype is not None and dtype.hasobject else None)
        except ValueError as error:  # lists of different lengths
            raise InvalidDataError(
                f"{self._called(row)} gave {describe(sample)}; expected an array, or a single "
                f"value. {self._how_to_agree(np.dtype(object))}"
            ) from error

    def _sample(self, row: int, out: npt.NDArray[Any] | None = None) -> Any:
        """What the function returns for a row; `out` if it wrote it there."""
        try:
            found = self._read_file(self.paths[row], out)
        except Exception as error:
            error.add_note(f"keras_npbatch: raised by {self._called(row)}")
            raise
        if found is None or isinstance(found, np.ma.MaskedArray):
            mask = "" if found is None else " Fill it: `.filled(value)`."
            raise InvalidDataError(
                f"{self._called(row)} gave {describe(found)}; expected an array, or a single "
                f"value.{mask}"
            )
        return found

    def _read_file(self, path: str, out: npt.NDArray[Any] | None) -> Any:
        """The sample in a file; `out` if it was written there."""
        return self._function(Path(path) if self._gives_path else path)

    def _called(self, row: int) -> str:
        return f"read({self.paths[row]!r}) (row {row})"

    def _how_to_agree(self, found: np.dtype[Any]) -> str:
        if found.kind in "US":
            return "Say `dtype='U100'` for text of up to 100 characters, or `dtype=object` for any."
        return (
            "Make all samples alike in `read`: crop, pad or resize them, and convert them with "
            "`.astype`."
        )


def _checked_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        return np.dtype(dtype)
    except TypeError as error:
        raise InvalidArgumentError(
            f"dtype is {describe(dtype)}; expected one of NumPy, such as 'float32'."
        ) from error


def _is_converted(found: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether values are converted: exactly, or rounded if they are real or complex."""
    are_rounded = found.kind == wanted.kind and found.kind in "fc"
    return np.can_cast(found, wanted, "safe") or are_rounded
