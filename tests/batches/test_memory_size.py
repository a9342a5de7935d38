"""Sizes of memory as users write them."""

from __future__ import annotations

import pytest

from keras_npbatch.batches.machine import total_bytes
from keras_npbatch.batches.memory_size import in_bytes, in_words
from keras_npbatch.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("8 MB", 8_000_000),
        ("8mb", 8_000_000),
        (" 1.5 KiB ", 1536),
        ("100 B", 100),
        (12345, 12345),
        (1.0, total_bytes()),
        (0.5, total_bytes() // 2),
    ],
)
def test_a_size_is_a_number_of_bytes(size, expected):
    assert in_bytes(size, "cache") == expected


@pytest.mark.parametrize("size", ["8", "8 GBit", "much", "-1 GB", 0, -5, 0.0, 1.5, True, None, [1]])
def test_anything_else_is_refused(size):
    with pytest.raises(InvalidArgumentError) as caught:
        in_bytes(size, "cache")
    assert str(caught.value) == (
        f"cache is {size!r} ({type(size).__name__}); expected a size such as '8 GB', a number of "
        "bytes, or a share of the memory from 0.0 to 1.0."
    )


def test_more_than_there_is_is_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        in_bytes("9999 TB", "cache")
    assert str(caught.value) == (
        f"cache is '9999 TB' (str), and there are {in_words(total_bytes())} of memory; expected "
        "less. A share such as 0.5 fits any machine."
    )


@pytest.mark.parametrize(
    ("num_bytes", "told"),
    [(8_000_000_000, "8 GB"), (1536, "1.54 KB"), (7, "7 B"), (0, "0 B"), (2 * 10**12, "2 TB")],
)
def test_a_size_is_told_in_the_largest_unit(num_bytes, told):
    assert in_words(num_bytes) == told
