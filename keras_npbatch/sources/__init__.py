"""What rows are read from: each leaf of the data, as it is or wrapped in one of these.

folder = keras_npbatch.sources.ImageFolder("photos", size=(128, 128))
train = keras_npbatch.ArrayDataset(folder.images, folder.labels)
"""

from __future__ import annotations

from keras_npbatch.sources.categories import categories
from keras_npbatch.sources.concatenated import Concatenated
from keras_npbatch.sources.files import Files
from keras_npbatch.sources.filled import Filled
from keras_npbatch.sources.image_folder import ImageFolder
from keras_npbatch.sources.parquet import Parquet
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.sources.windows import Windows, aligned

__all__ = [
    "Concatenated",
    "Files",
    "Filled",
    "ImageFolder",
    "Parquet",
    "Ragged",
    "Windows",
    "aligned",
    "categories",
]
