"""Random-access storage: what rows are read from, one source for each leaf of the data.

    source = as_source(np.load("images.npy", mmap_mode="r"), path="x")
    source.read(rows, empty=np.empty)      # the rows, in the order asked for

A source reads the rows it is asked for and nothing else: the data are never copied as a whole,
whether they are an array, a memory map, a view with strides, a table or a dataset in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.plan.permutation import Rows
from keras_npbatch.sources.tables import CONVERTED, how_to_convert, refuse_nulls
from keras_npbatch.tree import Tree, leaves, leaves_with_paths, map_with_paths

__all__ = ["Empty", "Source", "TakenArray", "as_source", "as_sources", "num_rows"]

_MOST_INPUTS_IN_A_LIST = 16

_TENSOR_PACKAGES = ("jax", "jaxlib", "tensorflow", "torch")


Empty: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""`empty(shape, dtype)`: an uninitialised C-contiguous array that only the caller may write to."""


class Source(Protocol):
    """The rows of one leaf.

    `read` may be called from several threads at once. It must not write to anything shared, and
    never keeps the array it returns: the caller owns it.
    """

    shape: tuple[int, ...]
    """`(rows, *feature_shape)`."""
    dtype: np.dtype[Any]
    """The dtype of what `read` returns."""
    is_in_memory: bool
    """Whether reading never waits for a disk, a network or user code."""

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """The given rows, in the given order, as a new array.

        Args:
            rows: int64 array of shape `(n,)`, each in `range(shape[0])`; not checked here.
            empty: what allocates the result, if the source can fill a buffer.

        Returns:
            Array of shape `(n, *feature_shape)`.
        """


class TakenArray:
    """A C-contiguous array or memory map: one `np.take` into a buffer, outside the GIL."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not _is_mapped(array)
        self._array = array
        self._feature_shape = array.shape[1:]

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Gather the rows into a buffer."""
        out = empty((len(rows), *self._feature_shape), self.dtype)
        # mode="raise" would gather into a temporary and copy; the rows are known to be in range.
        # The method, since np.take takes as long to find it as a small gather takes.
        return self._array.take(rows, 0, out, "clip")


class IndexedArray:
    """Any other array (strided, Fortran-ordered, unaligned, objects, variable-length strings).

    `np.take` would first make a contiguous copy of the whole array; indexing does not. Raw buffers
    can't hold references to objects, so batches of objects get new arrays.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not _is_mapped(array)
        self._array = array

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Index the array."""
        return np.ascontiguousarray(self._array[rows])


class IndexedStorage:
    """Anything else with `shape`, `dtype` and row indexing: HDF5, Zarr, a user's class.

    Rows are read in increasing order, then put in the order asked for: HDF5 requires increasing
    rows, and every chunked storage reads faster that way.
    """

    is_in_memory = False

    def __init__(self, storage: Any, path: str) -> None:
        self.shape, self.dtype = tuple(storage.shape), np.dtype(storage.dtype)
        self._storage, self._path = storage, path

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read each row once, and copy the rows into the order asked for."""
        increasing, back = np.unique(rows, return_inverse=True)
        try:
            found = np.asarray(self._storage[increasing])
        except Exception as error:
            if _is_closed(self._storage):
                raise InvalidDataError(
                    f"{self._path} is in an HDF5 file that has been closed; expected an open one. "
                    "Close it when the dataset is not used any more."
                ) from error
            error.add_note(
                f"keras_npbatch: raised by {self._path}[rows], a {type(self._storage).__name__}"
            )
            raise
        expected = (len(increasing), *self.shape[1:])
        if found.shape != expected or found.dtype != self.dtype:
            raise InvalidDataError(
                f"{self._path}: {type(self._storage).__name__}[rows] with {len(increasing)} rows "
                f"gave {describe(found)}; expected shape {expected} and dtype {self.dtype}, as it "
                "tells. Indexing with an int64 array must return these rows."
            )
        # Always into our own memory: the storage may have returned a view of what it keeps.
        if not _is_raw(self.dtype):
            return found[back]
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        return found.take(back, 0, out, "clip")


class SparseRows:
    """A scipy sparse matrix; the rows of a batch are delivered dense."""

    is_in_memory = True

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr()  # no copy if it is CSR already
        self.shape, self.dtype = tuple(matrix.shape), np.dtype(matrix.dtype)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Fill a dense buffer with the rows."""
        out = empty((len(rows), self.shape[1]), self.dtype)
        filled: npt.NDArray[Any] = self._matrix[rows].toarray(out=out)
        return filled


class FrameRows:
    """A pandas DataFrame; pandas selects the rows and converts the columns to one dtype."""

    is_in_memory = True

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.shape = tuple(frame.shape)
        dtypes = {
            # The NumPy dtype of a pandas extension column depends on whether values are missing.
            dtype if isinstance(dtype, np.dtype) else frame.iloc[:, number].to_numpy().dtype
            for number, dtype in enumerate(frame.dtypes)
        }
        are_numbers = all(dtype.kind in "biufc" for dtype in dtypes)
        self.dtype = np.dtype(object)  # the only dtype for dates and numbers together
        if len(dtypes) == 1 or (dtypes and are_numbers):
            self.dtype = np.result_type(*dtypes)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Select the rows by position."""
        found = self._frame.iloc[rows].to_numpy(dtype=self.dtype)
        if not _is_raw(self.dtype):
            return np.array(found, order="C")
        out = empty(found.shape, self.dtype)
        out[...] = found
        return out


def as_source(leaf: Any, path: str) -> Source:
    """The source that reads `leaf`.

    Args:
        leaf: a NumPy array or memory map; a pandas Series (read as one column, as Keras does) or
            DataFrame; a scipy sparse matrix; a TensorFlow, JAX or Torch tensor (viewed as a NumPy
            array once); or anything with `shape`, `dtype` and row indexing.
        path: the leaf's path for messages, such as `x['image']`.

    Raises:
        InvalidDataError: if it can't be read by rows, or is a table or column of pandas, polars or
            Arrow in which values are missing.
    """
    package = type(leaf).__module__.partition(".")[0]
    refuse_nulls(leaf, path)
    if package == "pandas" and hasattr(leaf, "to_numpy"):
        if leaf.ndim == 2:
            return FrameRows(leaf)
        leaf = leaf.to_numpy()[:, np.newaxis]
    elif package == "scipy" and hasattr(leaf, "tocsr"):
        if len(leaf.shape) != 2:
            raise InvalidDataError(
                f"{path} is a sparse array of shape {tuple(leaf.shape)}; expected two dimensions, "
                "samples and features."
            )
        return SparseRows(leaf)
    elif package in _TENSOR_PACKAGES and hasattr(leaf, "__array__"):
        leaf = np.asarray(leaf)
    if isinstance(leaf, np.ma.MaskedArray):
        raise InvalidDataError(
            f"{path} is a masked array, and its mask would be lost; expected an array. Fill it "
            "(`.filled(value)`) and pass the mask as sample_weight or as an input of its own."
        )
    if isinstance(leaf, np.ndarray):
        return _array_source(leaf, path)
    if not all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")):
        raise InvalidDataError(
            f"{path} is {describe(leaf)}; expected an array: anything with `shape`, `dtype` and "
            f"row indexing. {how_to_convert(leaf, path)}"
        )
    try:
        storage = IndexedStorage(leaf, path)
    except (TypeError, ValueError) as error:
        line = f" {how_to_convert(leaf, path)}" if package in CONVERTED else ""
        raise InvalidDataError(
            f"{path} is a {type(leaf).__name__} of shape {leaf.shape!r} and dtype {leaf.dtype!r}; "
            f"expected a tuple of numbers, and a dtype that NumPy knows.{line}"
        ) from error
    if len(storage.shape) == 0:
        raise InvalidDataError(_scalar(path))
    return storage


def as_sources(tree: Tree, root: str) -> Tree:
    """The same nesting with a source for each leaf.

    Raises:
        InvalidDataError: for a leaf that can't be read by rows, or a list that looks like a list
            of samples: each would be read as an input of the model, by the rows within it.
    """
    if isinstance(tree, list) and len(tree) > _MOST_INPUTS_IN_A_LIST:
        raise InvalidDataError(
            f"{root} is a list of {len(tree)} items, which would be as many inputs of the model; "
            "expected arrays whose first dimension counts samples. Make one array of samples "
            "(`np.stack`, or for different lengths `keras.utils.pad_sequences`); if they are "
            "inputs, pass a tuple."
        )
    return map_with_paths(lambda path, leaf: as_source(leaf, path), tree, root)


def num_rows(**trees: Tree) -> int:
    """How many rows the sources of all `trees` have.

    Raises:
        InvalidDataError: if there is no leaf, or two leaves differ in their number of rows.
    """
    counted = [
        (path, source.shape[0])
        for root, tree in trees.items()
        for path, source in leaves_with_paths(tree, root)
    ]
    if not leaves(trees.get("x")):
        raise InvalidDataError("x has no leaf; expected at least one array to read samples from.")
    first_path, first = counted[0]
    for path, rows in counted:
        if rows != first:
            raise InvalidDataError(
                f"{path} has {rows} rows, but {first_path} has {first}; expected the same number "
                f"in every leaf. {_how_to_agree(trees)}"
            )
    return int(first)


def _how_to_agree(trees: Mapping[str, Tree]) -> str:
    for root, tree in trees.items():
        if isinstance(tree, list):
            return (
                f"{root} is a list, so each of its items is read as an input of the model; if they "
                "are samples, make one array of them: `np.stack`, or for different lengths "
                "`keras.utils.pad_sequences`."
            )
    return "Check how they were selected."


def _array_source(array: npt.NDArray[Any], path: str) -> Source:
    if array.ndim == 0:
        raise InvalidDataError(_scalar(path))
    array = array.view(np.ndarray)  # a memory map, a matrix, a record array as a plain array
    if _is_raw(array.dtype) and array.flags.c_contiguous and array.flags.aligned:
        return TakenArray(array)
    return IndexedArray(array)


def _is_raw(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of it are plain memory: no objects, no variable-length strings (kind T)."""
    return not dtype.hasobject and dtype.kind != "T"


def _is_closed(storage: Any) -> bool:
    return type(storage).__module__.partition(".")[0] == "h5py" and not storage


def _is_mapped(array: Any) -> bool:
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def _scalar(path: str) -> str:
    return f"{path} has no dimension; expected the first dimension to count samples."
