"""Every example in a docstring runs, and prints what its comments say."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import socket
import sys
import textwrap
import unittest
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_npbatch
from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.callbacks import CoverageAudit
from keras_npbatch.plan.shard import Shard
from keras_npbatch.testing import checks_for

PACKAGE = Path(keras_npbatch.__file__).parent
N = 10


def examples():
    """(where it stands, its code) of each fenced block in a docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                name = getattr(node, "name", "module")
                blocks = (ast.get_docstring(node) or "").split("```python\n")[1:]
                for number, block in enumerate(blocks):
                    yield f"{module}:{name}:{number}", textwrap.dedent(block.split("```")[0])


EXAMPLES = dict(examples())
NEEDS = {
    "callbacks/torch_data_parallel": "torch",
    "testing/checking": "jax",  # it trains a step at most, and takes long
    "tf_data/dataset": "tensorflow",
}


class Slides(BatchDataset):
    """As in the docstring of `BatchDataset`."""

    def __init__(self, paths, labels, **settings):
        super().__init__(num_samples=len(paths), **settings)
        self.paths, self.labels = np.asarray(paths), np.asarray(labels)

    def load(self, rows):
        images = [np.fromfile(path, "float32") for path in self.paths[rows]]
        return np.stack(images), self.labels[rows]


def arrays():
    return np.arange(4.0 * N, dtype="float32").reshape(N, 4) / N, np.arange(N) % 3


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


@pytest.fixture
def names(model, tmp_path, monkeypatch):
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    x, y = arrays()
    paths = [str(tmp_path / f"{number}.raw") for number in range(N)]
    for path, sample in zip(paths, x, strict=True):
        sample.tofile(path)
    train = ArrayDataset(x, y, batch_size=4, seed=0)
    with (tmp_path / "receipts.json").open("w") as file:
        yield {
            "CoverageAudit": CoverageAudit,
            "Path": Path,
            "Shard": Shard,
            "Slides": Slides,
            "checks_for": checks_for,
            "dataset": train,
            "file": file,
            "h5": {"x": np.zeros((2000, 4)), "y": np.zeros(2000)},
            "common": train,
            "first_year": train,
            "is_rare": y == 2,
            "json": json,
            "keras": keras,
            "keras_npbatch": keras_npbatch,
            "labelled": train,
            "labels": y,
            "make_model": lambda: model,
            "model": model,
            "more_x": x,
            "np": np,
            "paths": paths,
            "pictures": list(zip(x, y, strict=True)),
            "pytest": pytest,
            "rank": 3,
            "rare": ArrayDataset(x, y, seed=1),
            "second_year": ArrayDataset(x, y, seed=1),
            "texts": [label * "a" for label in y],
            "test": ArrayDataset(x, y, batch_size=4, shuffle=False),
            "train": train,
            "unlabelled": ArrayDataset(x, batch_size=8, seed=1),
            "x": x,
            "x_test": x,
            "y": y,
            "y_test": y,
        }


def of_shards(names):
    return [
        ArrayDataset(names["x"], names["y"], batch_size=2, seed=0, shard=(index, 2))
        for index in range(2)
    ]


def more_names(where, names):
    """What single examples take for granted."""
    if where == "batches/loader:explain:0":
        return {"train": of_shards(names)[0]}
    if where == "callbacks/coverage/callback:merge:0":
        gathered = []
        for dataset in of_shards(names):
            audit = CoverageAudit(dataset)
            names["model"].fit(dataset, verbose=0, callbacks=[audit])
            gathered.append(audit.receipts[-1].as_dict())
        return {"gathered": gathered}
    if where == "sources/concatenated:Concatenated:0":
        Path("recordings").mkdir()
        for name in ("a", "b", "c"):
            np.save(Path("recordings", f"{name}.npy"), names["x"])
        return {"y": np.arange(3 * N)}
    if where == "sources/categories:categories:0":
        import pandas as pd

        return {"table": {"city": pd.Series(["Ulm", "Bonn"] * 5, dtype="category")}}
    if where == "sources/filled:Filled:0":
        import pyarrow

        return {"pyarrow": pyarrow, "y": np.arange(3)}
    if where == "sources/parquet:Parquet:0":
        import pyarrow.parquet

        Path("measurements").mkdir()
        table = {"age": names["y"], "height": names["y"] + 100, "label": names["y"]}
        pyarrow.parquet.write_table(pyarrow.table(table), "measurements/a.parquet")
    if where == "sources/image_folder:ImageFolder:0":
        for name in ("cat", "dog"):
            Path("photos", name).mkdir(parents=True)
            for number in range(10):
                Image.effect_noise((40, 30), 9).save(Path("photos", name, f"{number}.jpg"))
    if where == "tf_data/dataset:to_tf_dataset:0":
        import tensorflow as tf

        def train_step(x, y):
            tf.debugging.assert_equal(tf.shape(x)[0], tf.shape(y)[0])

        return {"tf": tf, "train_step": train_step}
    if where == "tf_data/dataset:to_tf_dataset:2":
        import tensorflow as tf

        return {"strategy": tf.distribute.OneDeviceStrategy("CPU:0")}
    if where == "callbacks/torch_data_parallel:TorchDataParallel:0":
        import torch.distributed

        return {"torch": torch, "xt": names["x"], "yt": names["y"]}
    return {}


@pytest.fixture
def alone(monkeypatch):
    """What torchrun tells the only process that it starts; its group ends with the test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def run(code, names):
    path = Path("example.py").absolute()
    path.write_text(code)  # TensorFlow reads the source of functions
    exec(compile(code, str(path), "exec"), names)
    for test in [value for name, value in names.items() if name.startswith("test_")]:
        if inspect.isfunction(test):
            (mark,) = test.pytestmark
            for argument in mark.args[1]:
                with contextlib.suppress(unittest.SkipTest):  # it says what it needs to be told
                    test(argument)
    if callable(names.get("epoch")):  # the `tf.function` of an example
        names["epoch"]()


@pytest.mark.parametrize("where", sorted(EXAMPLES))
def test_the_example_runs(where, names, alone, backend, capsys):
    needs = NEEDS.get(where.split(":")[0], backend)
    if needs != backend:
        pytest.skip(f"it is about {needs}")
    code = EXAMPLES[where]
    run(code, names | more_names(where, names))
    printed = capsys.readouterr().out.splitlines()
    if code.startswith("print("):
        assert [f"# {line}" for line in printed] == code.splitlines()[1:]


def test_the_public_names_have_examples():
    """But for what only holds figures, or is told of by a sentence."""
    modules = {where.split(":")[0] for where in EXAMPLES}
    expected = {
        "batches/each",
        "batches/loader",
        "dataset/array_dataset",
        "dataset/batch_dataset",
        "dataset/sample_dataset",
        "plan/shard",
        "testing/checking",
        "tf_data/dataset",
    }
    expected |= {
        f"callbacks/{name}/callback"
        for name in ("backup", "coverage", "input_monitor", "nan_report", "statistics")
    }
    assert modules >= expected
    assert len(EXAMPLES) >= 14
