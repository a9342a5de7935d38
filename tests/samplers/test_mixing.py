"""The mixing figures, on orders whose figures are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from keras_npbatch.samplers.mixing import Mixing, mixing_of
from keras_npbatch.samplers.order import Rows


def figures(rows: Rows, num_rows: int | None = None) -> Mixing:
    n = len(rows) if num_rows is None else num_rows
    return mixing_of(
        lambda start, stop: rows[start:stop], n, len(rows), held_rows=None, sample_bytes=None
    )


def test_a_random_order_is_mixed_and_that_of_the_data_is_not() -> None:
    for n in (1000, 10_000):
        assert figures(np.random.default_rng(0).permutation(n)).score > 0.9
        for rows in (np.arange(n), np.arange(n)[::-1]):
            found = figures(rows)
            assert found.score == found.correlation < 0.01
            assert found.runs == pytest.approx(9 / ((n - 1) * 0.9))


def test_the_worse_of_two_figures_counts() -> None:
    # Rows of opposite ends in turn: each a run of its own, and as correlated as can be.
    ends = np.stack([np.arange(500), np.arange(999, 499, -1)], axis=1).reshape(-1)
    found = figures(ends)
    assert found.runs == 1
    assert found.score == found.correlation < 0.01
    # Runs of ten random rows of a class: 1 - 0.9 in runs.
    draw = np.random.default_rng(0)
    runs = draw.permuted(np.arange(10_000).reshape(10, 100, 10), axis=1)
    runs = draw.permuted(runs.reshape(1000, 10), axis=0)
    found = figures(draw.permutation(np.arange(10_000).reshape(1000, 10)).reshape(-1))
    assert found.runs == pytest.approx(0.1, abs=0.01)
    assert found.score == min(found.runs, found.correlation)


def test_the_figures_of_a_few_rows_by_hand() -> None:
    # Classes 0 0 1 1 2 ... of twenty rows: ten classes of two rows.
    rows = np.array([0, 2, 3, 19])
    found = figures(rows, 20)
    assert found.runs == pytest.approx(2 / (3 * 0.9))
    centred = rows - 9.5
    products = (centred[:-1] * centred[1:]).mean() / ((20**2 - 1) / 12)
    assert found.correlation == pytest.approx(1 - min(1, abs(products)))
    assert figures(np.array([5]), 20).score == figures(np.array([5]), 20).runs == 1
    assert figures(np.array([0, 0, 0])).runs == 0
    assert figures(np.array([0]), 1).score == 1
    assert figures(np.arange(2)).runs == 1
    assert figures(np.arange(2)).correlation == 0
    assert figures(np.array([0, 19, 0, 19]), 20).correlation == 0  # it is -2.7: never below 0


def test_of_a_long_epoch_sixteen_stretches_are_read() -> None:
    n, read = 10**12, []

    def stretches(mixed: bool) -> Callable[[int, int], Rows]:
        def rows(start: int, stop: int) -> Rows:
            read.append((start, stop))
            draw = np.random.default_rng(start)
            return draw.integers(0, n, stop - start) if mixed else np.arange(start, stop)

        return rows

    mixed = mixing_of(stretches(True), n, n, held_rows=None, sample_bytes=None)
    assert mixed.score > 0.97
    assert [stop - start for start, stop in read] == [2**14] * 16
    assert (read[0][0], read[-1][1]) == (0, n)
    assert len({stop - other for (_, stop), (_, other) in itertools.pairwise(read)}) <= 2
    assert mixing_of(stretches(False), n, n, held_rows=None, sample_bytes=None).score < 1e-3
    read.clear()
    mixing_of(stretches(True), n, 2**18, held_rows=None, sample_bytes=None)
    assert read == [(0, 2**18)]
    read.clear()
    mixing_of(stretches(True), n, 2**18 + 1, held_rows=None, sample_bytes=None)
    assert len(read) == 16
    tens = mixing_of(
        lambda start, stop: np.repeat(stretches(True)(start, stop), 10)[: stop - start],
        n,
        n,
        held_rows=None,
        sample_bytes=None,
    )
    assert tens.runs == pytest.approx(0.1, abs=0.01)


def test_its_text() -> None:
    found = mixing_of(
        lambda start, stop: np.arange(start, stop), 2000, 2000, held_rows=64, sample_bytes=1000
    )
    assert str(found) == (
        "mixing 0.001 of 1 (class runs 0.005, serial correlation 0.001)\n"
        "reads 2,000 samples an epoch, 2,000,000 bytes\n"
        "holds 64 rows at once, 64,000 bytes"
    )
    found = mixing_of(
        lambda start, stop: np.arange(start, stop), 2000, 2000, held_rows=None, sample_bytes=None
    )
    assert str(found).splitlines()[1:] == ["reads 2,000 samples an epoch"]
    assert (found.bytes_read, found.bytes_held, found.rows_held) == (None, None, None)
    found = mixing_of(
        lambda start, stop: np.arange(start, stop), 20, 20, held_rows=64, sample_bytes=None
    )
    assert (found.bytes_read, found.bytes_held, found.rows_held) == (None, None, 64)
    assert str(found).endswith("holds 64 rows at once")
