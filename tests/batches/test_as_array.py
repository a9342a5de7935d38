"""Any leaf as a NumPy array: what `np.asarray` refuses, or makes an array of one object of."""

from __future__ import annotations

import importlib.util

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse

from keras_npbatch.batches.as_array import as_array, as_numbers

VALUES = np.array([[1.5, 0.0], [-2.0, np.nan]], "float32")
HAS_TORCH = importlib.util.find_spec("torch") is not None


def with_a_gradient(tensor):
    return tensor.requires_grad_()


def of_bfloat16(tensor):
    import torch

    return tensor.to(torch.bfloat16)


def sparse(tensor):
    return tensor.to_sparse()


def real_part(tensor):
    import torch

    return torch.complex(tensor, tensor).conj().real


def negative(tensor):
    import torch

    return torch.complex(tensor, -tensor).conj().imag


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("change", [with_a_gradient, of_bfloat16, sparse, real_part, negative])
def test_tensors_of_torch_of_any_kind(change):
    import torch

    found = as_array(change(torch.from_numpy(VALUES.copy())))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)


def test_sparse_matrices_are_made_dense():
    np.testing.assert_array_equal(as_array(scipy.sparse.csr_matrix(VALUES)), VALUES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_small_dtypes_are_numbers(dtype):
    values = np.array([[1.5, 0], [-2, 3]])
    small = values.astype(np.dtype(dtype))
    assert as_array(small) is small
    np.testing.assert_array_equal(as_numbers(small), small.astype("float32"))
    assert as_numbers(small).dtype == np.float32


def test_other_dtypes_stay_as_they_are():
    for dtype in ("float64", "int8", "complex64", "V3", "U2", [("a", "i4")]):
        array = np.zeros(2, dtype)
        assert as_numbers(array) is array


def test_ml_dtypes_are_known_by_their_module():
    assert np.dtype("bfloat16").type.__module__ == ml_dtypes.__name__
