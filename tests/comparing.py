"""Arrays are compared to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["assert_same_array"]


def assert_same_array(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Same type, dtype, shape and values: to the bit, wherever bits have a meaning."""
    assert type(actual) is np.ndarray
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.names is not None:
        for name in expected.dtype.names:
            assert_same_array(np.asarray(actual[name]), np.asarray(expected[name]))
    elif expected.dtype.kind in "OTV":
        assert actual.tolist() == expected.tolist()
    elif expected.dtype.char in "gG":  # of 16 bytes 10 are used
        np.testing.assert_array_equal(actual, expected, strict=True)
        np.testing.assert_array_equal(np.signbit(actual.real), np.signbit(expected.real))
    else:
        assert actual.tobytes() == expected.tobytes()
