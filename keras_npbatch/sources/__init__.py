"""What rows are read from, for data that need a word around them.

data = keras_npbatch.sources.Parquet("measurements/")
train = keras_npbatch.ArrayDataset(data[["age", "height"]], data["label"])
"""

from __future__ import annotations

from keras_npbatch.sources.categories import categories
from keras_npbatch.sources.filled import Filled
from keras_npbatch.sources.parquet import Parquet

__all__ = ["Filled", "Parquet", "categories"]
