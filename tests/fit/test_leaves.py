"""Leaves that the framework has no tensor for are named before the first step."""

from __future__ import annotations

import re
from datetime import date

import keras
import numpy as np
import pytest
import scipy.sparse

from keras_npbatch import BatchDataset
from keras_npbatch.errors import InvalidBatchError

N = 8
SEQUENCES = np.empty(N, object)
SEQUENCES[:] = [np.arange(number + 1) for number in range(N)]
UNTAKEN = {
    "sequences": (SEQUENCES, "keras.utils.pad_sequences"),
    "objects": (np.array([None] * N), ".astype('float32')"),
    "dates": (np.arange(N).astype("M8[D]"), ".astype('int64')"),
    "long doubles": (np.arange(N, dtype=np.longdouble)[:, None], ".astype('float64')"),
    "uint64": (np.arange(N, dtype="uint64")[:, None], ".astype('int64')"),
    "texts": (np.array(list("abcdefgh")), "StringLookup"),
    "texts in a table": (
        np.array([[1.5, each] for each in "abcdefgh"], object),
        "Texts are in column 1 (the first is 0). Encode texts as numbers, with keras.layers.",
    ),
    "texts in later rows": (
        np.array([[1.5, 2, None], *[["a", 2, each] for each in "abcdefg"]], object),
        "Texts are in column 0, 2 (the first is 0). Encode texts",
    ),
    "a table of texts": (np.array([[each, each] for each in "abcdefgh"], object), " Encode texts"),
    "texts as objects": (np.array(list("abcdefgh"), object), "StringLookup"),
    "dates as objects": (np.array([date(2020, 1, 1)] * N), ".astype('datetime64[s]')"),
    "sparse matrices": (scipy.sparse.eye_array(N, format="csr", dtype="float32"), ".toarray()"),
}


class Loads(BatchDataset):
    def __init__(self, leaf):
        super().__init__(N, batch_size=4, shuffle=False)
        self.leaf = leaf

    def load(self, rows):
        return {"a": self.leaf[rows]}, np.zeros((len(rows), 1))


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(keras.ops.cast(x["a"], "float32"))


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("name", UNTAKEN)
def test_a_leaf_without_a_tensor_is_named_with_the_remedy(backend, name, call):
    leaf, remedy = UNTAKEN[name]
    if (name, backend) in {
        *(("uint64", "jax"), ("uint64", "tensorflow"), ("texts", "tensorflow")),
        *(("texts as objects", "tensorflow"), ("a table of texts", "tensorflow")),
        *(("sparse matrices", "jax"), ("sparse matrices", "tensorflow")),
    }:
        pytest.skip("there is a tensor for it")
    if leaf.dtype == np.float64:
        pytest.skip("the machine has no longer floats")
    model = Model()
    model.compile("sgd", "mse")
    framework = {"jax": "JAX", "torch": "Torch", "tensorflow": "TensorFlow"}[backend]
    with pytest.raises(InvalidBatchError) as caught:
        getattr(model, call)(Loads(leaf), verbose=0)
    text = str(caught.value)
    assert re.match(r"x\['a'\] is \w+ of shape \(4", text)
    assert f", which {framework} has no tensor for; expected numbers" in text
    assert remedy in text
    note = "keras_npbatch: in the batch of epoch 0, step 0, rows [0, 1, 2, 3]"
    assert caught.value.__notes__ == [note]


def test_numbers_in_the_other_byte_order_are_taken(backend):
    model = Model()
    model.compile("sgd", "mse")
    other = np.arange(N, dtype=np.dtype("float32").newbyteorder("S"))[:, None]
    told = model.predict(Loads(other), verbose=0)
    np.testing.assert_array_equal(told, model.predict(Loads(other.astype("float32")), verbose=0))


@pytest.mark.parametrize("kind", ["ragged", "sparse", "StringDType"])
def test_other_tensors_of_tensorflow_pass(backend, kind):
    if backend != "tensorflow":
        pytest.skip("they are TensorFlow's")
    if kind == "StringDType" and not hasattr(np.dtypes, kind):
        pytest.skip("NumPy 1 has no StringDType")
    import tensorflow as tf

    leaves = {
        "ragged": lambda rows: tf.ragged.constant([[1.0] * (row + 1) for row in rows]),
        "sparse": lambda rows: tf.sparse.from_dense(np.eye(N, 3, dtype="float32")[rows]),
        "StringDType": lambda rows: np.array([f"{row} é" for row in rows], np.dtypes.StringDType()),
    }
    seen = []

    class Sees(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(shape=(1, 1))

        def call(self, x):
            seen.append(x)
            return tf.zeros((4, 1)) + self.scale

    class Loads(BatchDataset):
        def load(self, rows):
            return leaves[kind](rows), np.zeros((len(rows), 1), "float32")

    model = Sees()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(Loads(N, batch_size=4, shuffle=False), verbose=0)
    assert len(seen) == 2
    if kind == "StringDType":
        assert seen[0].numpy().tolist() == [f"{row} é".encode() for row in range(4)]
    else:
        assert type(seen[0]) is {"ragged": tf.RaggedTensor, "sparse": tf.SparseTensor}[kind]
