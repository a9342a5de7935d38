"""Every Python block of every page runs, in the order of the page, on real data."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import runpy
import sys
import types
from importlib.util import find_spec

import h5py
import keras
import numpy as np
import pandas as pd
import pytest

import keras_npbatch as npb
from keras_npbatch import testing
from tests.installed import needs
from tests.pages import DOCS, PAGES, ROOT, blocks, name_of, version

NEEDS = {
    "docs/coming_from.md": ["tensorflow", "torch", "grain"],
    "docs/text.md": ["tensorflow"],
    "docs/tf_data.md": ["tensorflow"],
}


def _pages():
    for page in PAGES:
        if any(not block.excerpt_of for block in blocks(page)):
            marks = [needs(package) for package in NEEDS.get(name_of(page), ())]
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.more
@pytest.mark.parametrize("page", list(_pages()))
def test_the_blocks_run_in_order_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page_as_script = types.ModuleType("__main__")  # what is defined there can be pickled
    monkeypatch.setitem(sys.modules, "__main__", page_as_script)
    keras_version = version(".".join(keras.version().split(".")[:2]))
    for block in blocks(page):
        if block.excerpt_of or block.is_mistake or keras_version < block.needs_keras:
            continue
        path = tmp_path / f"line_{block.line}.py"
        path.write_text(block.code)  # TensorFlow and worker processes read the source of functions
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, str(path), "exec"), vars(page_as_script))
        if block.output is not None:
            same = doctest.OutputChecker().check_output(
                block.output, printed.getvalue(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert same, f"{block.page}:{block.line} printed:\n{printed.getvalue()}"


@pytest.mark.more
def test_the_figures_are_those_that_the_script_draws():
    """They have times in them, so they are drawn, but not compared."""
    figures = runpy.run_path(str(DOCS / "figures.py"))["FIGURES"]
    assert set(figures) == {path.name for path in (DOCS / "figures").iterdir()}
    for draw in figures.values():
        stream = io.BytesIO()
        draw().savefig(stream, format="svg")
        assert stream.tell() > 10_000


def folder_of_images(folder):
    from PIL import Image

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
            if "tf" not in line or find_spec("tensorflow"):
                eval(line, {"npb": npb, "np": np, "testing": testing, "Slides": Slides, **data})
    assert len(lines) == 14
