"""Names that other libraries have for the arguments of our sources, with the advice.

Windows(series, sequence_length=48)
# UnknownSettingError: Windows has no argument sequence_length. Write length=48.
"""

from __future__ import annotations

__all__ = ["IMAGE_FOLDER", "RAGGED", "WINDOWS"]

_OF_THE_DATASET = "Give it to the dataset: ArrayDataset(x, y, {name}=...)."
_BATCH_SIZE = _OF_THE_DATASET.format(name="batch_size")
_SHUFFLE = _OF_THE_DATASET.format(name="shuffle")
_SEED = _OF_THE_DATASET.format(name="seed")
_SPLIT = "Split the dataset: train, validation = dataset.split(0.8)."

IMAGE_FOLDER = {
    # keras.utils.image_dataset_from_directory
    "image_size": "Write size={value}.",
    "directory": "Write path=, the first argument.",
    "batch_size": _BATCH_SIZE,
    "shuffle": _SHUFFLE,
    "seed": _SEED,
    "validation_split": _SPLIT,
    "subset": _SPLIT,
    "pad_to_aspect_ratio": "Leave it out: crop_to_aspect_ratio=True keeps proportions, and cuts.",
    "data_format": "Leave it out: images are (height, width, channels).",
    "verbose": "Leave it out: nothing is printed.",
    # ImageDataGenerator.flow_from_directory, torchvision
    "target_size": "Write size={value}.",
    "class_mode": "Write label_mode='int', 'categorical', 'binary' or None.",
    "classes": "Write class_names=.",
    "rescale": "Put keras.layers.Rescaling(1 / 255) into the model.",
    "root": "Write path=, the first argument.",
    "transform": "Give it to the dataset, as transform= or augment=.",
    "loader": "Write keras_npbatch.sources.Files(paths, read).",
}
"""Those of `ImageFolder`."""

RAGGED = {
    # keras.utils.pad_sequences
    "maxlen": "Write pad_to={value}, and truncate='right' if longer rows are to be cut.",
    "padding": "Write side='right' or side='left'.",
    "truncating": "Write truncate='right' or truncate='left'.",
    "value": "Write pad_value={value}.",
    "dtype": "Convert the rows: [np.asarray(row, dtype) for row in data].",
    # torch, tf.data, Hugging Face
    "padding_value": "Write pad_value={value}.",
    "padding_values": "Write pad_value={value}.",
    "padded_shapes": "Write pad_to=N, or several widths: pad_to=(64, 128, 256).",
    "padding_side": "Write side='right' or side='left'.",
    "batch_first": "Leave it out: the first axis counts samples.",
    "max_length": "Write pad_to={value}, and truncate='right' if longer rows are to be cut.",
    "truncation": "Write truncate='right' or truncate='left'.",
    "return_attention_mask": "Write lengths='mask'.",
    "boundaries": "Write pad_to=(64, 128, 256), and give the dataset the sampler LengthBuckets.",
}
"""Those of `Ragged`."""

_TARGETS = (
    "Give the dataset other Windows as y: Windows(targets, length=1, offset=N), with N time steps "
    "from the beginning of a window to its target."
)

WINDOWS = {
    # keras.utils.timeseries_dataset_from_array
    "data": "Write series=, the first argument.",
    "targets": _TARGETS,
    "sequence_length": "Write length={value}.",
    "sequence_stride": "Write stride={value}.",
    "batch_size": _BATCH_SIZE,
    "shuffle": _SHUFFLE,
    "seed": _SEED,
    "start_index": "Cut the series: Windows(series[start:end], ...).",
    "end_index": "Cut the series: Windows(series[start:end], ...).",
    # tf.data, sliding_window_view and others
    "size": "Write length={value}.",
    "window": "Write length={value}.",
    "window_size": "Write length={value}.",
    "window_shape": "Write length=N.",
    "shift": "Write stride={value}.",
    "step": "Write stride={value}.",
    "drop_remainder": "Leave it out: there are whole windows only.",
    "horizon": _TARGETS,
}
"""Those of `Windows`."""
