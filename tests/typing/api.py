"""How the library is used, for the type checker alone: mypy reads this file, nobody runs it.

An `ignore` that is not needed is an error: so each of them says that a mistake is noticed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, Shard, each, sources

x: npt.NDArray[np.float32] = np.zeros((10, 3), np.float32)


class Slides(BatchDataset):
    def __init__(self, paths: list[str], **settings: Any) -> None:
        super().__init__(len(paths), **settings)
        self.paths = np.asarray(paths)

    def load(self, rows: npt.NDArray[np.int64]) -> Any:
        return self.paths[rows]


ArrayDataset(x, x[:, 0], None, batch_size=4, seed=None, remainder="pad", workers=2)
ArrayDataset({"a": x}, shard=Shard(0, 2), class_weight={0: 1.0}, start_method="spawn")
ArrayDataset(x, transform=lambda batch, rng: batch, timeout=1.5, shuffle=False, max_queue_size=2)
hits: int = BatchDataset(10, cache="8 GB").cache_info().hits
BatchDataset(10, cache=0.5)
BatchDataset(10, cache=[])  # type: ignore[arg-type]
BatchDataset(10, batch_size=4, use_multiprocessing=True, shard="auto")
Slides(["a"], batch_size=1)
ArrayDataset(x, transform=[np.negative, each(lambda sample: sample)], augment=each(np.negative))
SampleDataset(lambda row, rng: x[row], num_samples=10, transform=each(np.negative))
SampleDataset.of([1, 2, 3], batch_size=2).subset([1])

folder = sources.ImageFolder("photos", (32, 32), label_mode="binary", decoder="pillow")
ArrayDataset(folder.images, folder.labels, workers=2)
ArrayDataset(sources.Files(["a"], read=np.load, shape=(3,), dtype="float32"))
ArrayDataset(sources.Concatenated(["a.npy", x], most_open=4))
sources.ImageFolder("photos", 32)  # type: ignore[arg-type]
sources.ImageFolder("photos", (32, 32), label_mode="one-hot")  # type: ignore[arg-type]
sources.Files("a")  # type: ignore[call-arg]

data = sources.Parquet(["a.parquet"], columns=["age", "label"])
ArrayDataset(data[["age"]], sources.Filled(data["label"], 0))
names: list[Any] = sources.categories(data["label"])

sources.Parquet()  # type: ignore[call-arg]
sources.Filled(data)  # type: ignore[call-arg]
ArrayDataset(x, batchsize=4)  # type: ignore[call-arg]
ArrayDataset(x, num_workers=2)  # type: ignore[call-arg]
ArrayDataset(x, num_samples=10)  # type: ignore[call-arg]
ArrayDataset(x, batch_size="4")  # type: ignore[arg-type]
ArrayDataset(x, remainder="last")  # type: ignore[arg-type]
ArrayDataset(x, x, x, 4)  # type: ignore[call-arg]
ArrayDataset(x, transform=[1])  # type: ignore[list-item]
SampleDataset(x, num_samples=3)  # type: ignore[arg-type]
SampleDataset(np.negative, 3)  # type: ignore[call-arg]
BatchDataset(10, 4)  # type: ignore[call-arg]
BatchDataset()  # type: ignore[call-arg]
BatchDataset(10, drop_last=True)  # type: ignore[call-arg]
