"""Keys of samples: the same for the same values, whatever lies between them in memory."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch.testing.subject import digests

PADDED = np.dtype(
    [("small", "u1"), ("wide", "f8", (2,)), ("within", [("a", "u1"), ("b", "i4")])], True
)


@pytest.mark.parametrize("dtype", [PADDED, np.dtype(np.longdouble)], ids=["record", "longdouble"])
def test_bytes_between_numbers_have_no_part_in_it(dtype):
    keys = []
    for filling in (0, 255):
        memory = np.full(3 * dtype.itemsize, filling, np.uint8)
        array = memory.view(dtype)
        array[...] = np.zeros(3, dtype) if dtype.names else np.arange(3)
        if dtype.names:
            for name in ("small", "wide"):
                array[name] = 1
        keys.append((digests.whole(array), digests.samples(array, 3)))
    assert keys[0] == keys[1]


@pytest.mark.parametrize("dtype", [PADDED, np.dtype(np.longdouble)], ids=["record", "longdouble"])
def test_each_number_has_a_part_in_it(dtype):
    array = np.zeros(3, dtype)
    keys = set(digests.samples(array, 3))
    if dtype.names:
        array["small"][0], array["wide"][1, 1], array["within"]["b"][2] = 1, 1, 1
    else:
        array[:] = 1, 2, np.nextafter(np.longdouble(2), 3)
    assert len(keys | set(digests.samples(array, 3))) == 4
