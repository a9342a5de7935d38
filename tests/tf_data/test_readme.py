"""What the README's table says to write runs; here, since one of its lines needs TensorFlow."""

from __future__ import annotations

import os
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import keras_npbatch as npb
from keras_npbatch import testing
from tests.pages import ROOT

pytestmark = pytest.mark.skipif(
    os.environ["KERAS_NPBATCH_BACKEND"] != "tensorflow", reason="once is enough"
)


def folder_of_images(folder):
    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(50):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(
                folder / "photos" / name / f"{number}.png"
            )
    return folder / "photos"


def test_what_the_readme_says_to_write_runs(tmp_path, monkeypatch):
    """Each line of its table, on data that its first column speaks of."""
    monkeypatch.chdir(tmp_path)
    table = (ROOT / "README.md").read_text().split("| you have | write |")[1].split("\n\n")[0]
    lines = re.findall(r"\[`([^`]*)`[^]]*\]\(", table)
    x, y = np.arange(200.0).reshape(100, 2), np.arange(100) % 3
    np.save("x.npy", x)

    class Slides(npb.BatchDataset):
        def __init__(self, paths, labels, **settings):
            super().__init__(len(paths), **settings)
            self.labels = labels

        def load(self, rows):
            return x[rows], self.labels[rows]

    with h5py.File("data.h5", "w") as h5:
        h5["x"], h5["y"] = x, y
        data = {"images": x, "ages": y, "x": x, "y": y, "h5": h5, "paths": list(range(100))}
        data |= {
            "table": pd.DataFrame({"age": y, "height": x[:, 0], "label": y}),
            "folder": npb.sources.ImageFolder(folder_of_images(tmp_path), size=(4, 4)),
            "texts": [x[n, : 1 + n % 2] for n in range(100)],
            "torch_dataset": [*zip(x, y, strict=True)],
            "a": npb.ArrayDataset(x, y),
            "b": npb.ArrayDataset(x, y),
        }
        for line in lines:
            eval(line, {"npb": npb, "np": np, "testing": testing, "Slides": Slides, **data})
    assert len(lines) == 14
