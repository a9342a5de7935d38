"""Writes the images of a batch for TensorBoard.

write_images("logs/images", batch, samples=64, epoch=3)
"""

from __future__ import annotations

import numpy as np

from keras_npbatch.batches.as_array import as_numbers
from keras_npbatch.batches.summary import named
from keras_npbatch.errors import MissingExtraError
from keras_npbatch.tree import Tree

__all__ = ["write_images"]


def write_images(folder: str, batch: Tree, samples: int, epoch: int) -> None:
    """Write the first `samples` rows of each leaf of images.

    Raises:
        MissingExtraError: if TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(
            "BatchStatistics(image_dir=...) needs TensorFlow, which is not installed; install it "
            "with pip install 'keras_npbatch[tensorflow]', or leave image_dir out."
        ) from error
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for name, leaf in named(batch):
            array = as_numbers(leaf)[:samples]
            is_image = array.ndim == 4 and array.shape[-1] in (1, 3, 4)
            if is_image and (array.dtype == np.uint8 or array.dtype.kind == "f"):
                tf.summary.image(f"data/{name}", array, step=epoch, max_outputs=samples)
    writer.close()
