"""`MapStyle`: any dataset with `__len__` and `__getitem__` as a function of a row.

    read = MapStyle(torch_dataset)
    read(7)                  # torch_dataset[7]
    read.many([7, 3])        # torch_dataset.__getitems__([7, 3]), if it has one

Torch, grain and Hugging Face have datasets of this kind. What can only be iterated over is refused:
there, a row can't be read at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_npbatch.errors import InvalidBatchError, InvalidDataError, describe
from keras_npbatch.tree import Tree

__all__ = ["MapStyle"]


class MapStyle:
    """The samples of a dataset, by row.

    Args:
        dataset: has `__len__` and `__getitem__`, which takes any row from 0 up.

    Raises:
        InvalidDataError: for anything else; the message says what to write.
    """

    def __init__(self, dataset: Any) -> None:
        _refuse(dataset)
        self.dataset = dataset
        self.num_samples = len(dataset)
        self.__qualname__ = type(dataset).__qualname__  # its name, as a function has one

    def __call__(self, row: int) -> Tree:
        """The sample of a row."""
        return self.dataset[row]

    @property
    def many(self) -> Callable[[list[int]], Sequence[Tree]] | None:
        """What reads several samples at once; None if the dataset does not."""
        return self._many if callable(getattr(self.dataset, "__getitems__", None)) else None

    def _many(self, rows: list[int]) -> Sequence[Tree]:
        samples: Sequence[Tree] = self.dataset.__getitems__(rows)
        if not isinstance(samples, Sequence) or len(samples) != len(rows):
            raise InvalidBatchError(
                f"{self.__qualname__}.__getitems__ returned {describe(samples)}; expected a list "
                f"of {len(rows)} samples, one for each row it was given."
            )
        return samples


def _refuse(dataset: Any) -> None:
    came = f"SampleDataset.of was given {describe(dataset)}"
    kind = type(dataset)
    above = {f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in kind.__mro__}
    if isinstance(dataset, type):
        raise InvalidDataError(f"{came}; expected an object: make one, {dataset.__name__}(...).")
    if "torch.DataLoader" in above:
        raise InvalidDataError(
            f"{came}, which makes batches; expected a dataset of samples. Give its own: "
            "SampleDataset.of(loader.dataset, batch_size=...), and what its collate_fn does as "
            "transform=function."
        )
    if "keras.PyDataset" in above or "keras_npbatch.Batches" in above:
        raise InvalidDataError(
            f"{came}, whose items are batches; expected a dataset of samples. fit takes it as it "
            "is; or derive it from keras_npbatch.BatchDataset."
        )
    is_table = hasattr(dataset, "iloc") or {"polars.DataFrame", "pyarrow.Table"} & above
    if isinstance(dataset, Mapping) or is_table:
        raise InvalidDataError(
            f"{came}, whose items are columns; expected samples. Write "
            "ArrayDataset(data, labels), which reads rows of arrays, columns and dicts of them."
        )
    can_be_read = hasattr(kind, "__getitem__") and "torch.IterableDataset" not in above
    if not can_be_read or not hasattr(kind, "__len__"):
        can_iterate = hasattr(kind, "__iter__") or hasattr(kind, "__next__")
        remedy = "Write a class with both, or SampleDataset(load_sample, num_samples=...)."
        if can_iterate:
            remedy = (
                "It can only be iterated over, so no row can be read at any time. If it fits in "
                "memory, write SampleDataset.of(list(dataset)); otherwise write its samples to "
                "files, and SampleDataset(load_sample, num_samples=...), which reads one by its "
                "row."
            )
        raise InvalidDataError(f"{came}; expected __len__ and __getitem__(row). {remedy}")
