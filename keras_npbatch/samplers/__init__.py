"""Which rows an epoch has, and in which order: what a dataset takes as `sampler=`.

    sampler = keras_npbatch.samplers.Balanced(y)
    train = keras_npbatch.ArrayDataset(x, y, sampler=sampler)

`SAMPLERS` lists them all: whatever holds for any sampler is tested for each in this list.
"""

from __future__ import annotations

from keras_npbatch.samplers.balanced import Balanced
from keras_npbatch.samplers.block_shuffle import BlockShuffle
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.mixing import Mixing
from keras_npbatch.samplers.order import Order, every_row
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.samplers.shuffle import Shuffle
from keras_npbatch.samplers.stratified import Stratified
from keras_npbatch.samplers.weighted import Weighted

__all__ = [
    "SAMPLERS",
    "Balanced",
    "BlockShuffle",
    "InOrder",
    "LengthBuckets",
    "Mixing",
    "Order",
    "Sampler",
    "Shuffle",
    "Stratified",
    "Weighted",
    "every_row",
]

SAMPLERS = (Shuffle, InOrder, BlockShuffle, LengthBuckets, Stratified, Balanced, Weighted)
"""Every sampler of this library."""
