"""What the command can't check."""

from __future__ import annotations

import keras
import numpy as np


def make_exit():
    raise SystemExit(0)


class Liar:
    def __getattr__(self, name):
        raise ValueError("a lie")


Lie = Liar()


class Exits(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            raise SystemExit(0)
        return np.zeros((4, 1))
