"""Orders: permutations with random access, compared with plain NumPy.

Three parts: what holds exactly (hypothesis, and every `n` up to 300), what can't be told from a
permutation that NumPy drew (statistics, always of the same seeds, so that they pass or fail for
good), and literal rows, by which a change of NumPy or of the cipher is noticed.
"""

from __future__ import annotations

import math
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import pairwise, permutations
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_npbatch.samplers import permutation as orders
from keras_npbatch.samplers.order import MAX_ROWS, DataOrder, Order
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS, Cipher, Materialised, shuffled

exact = settings(deadline=None, derandomize=True, max_examples=150)

BLOCK = 8192
"""Positions that a cipher computes together; slices that cross it are put together from parts."""

LEAST_P = 1e-6
"""The seeds are fixed, so a p-value is a constant: one this small means a defect, not bad luck."""


def enciphered(n: int, seed: int = 0, epoch: int = 0) -> Cipher:
    """The order `shuffled` would make if it kept no permutation, at any `n`."""
    with mock.patch.object(orders, "MATERIALISED_ROWS", 0):
        order = shuffled(n, seed=seed, epoch=epoch)
    assert isinstance(order, Cipher)
    return order


def radices(n: int) -> tuple[int, int]:
    """The ranges of the two halves of a position, after the module's docstring."""
    left = math.isqrt(n - 1) + 1
    return left, -(-n // left)


# --- strategies --------------------------------------------------------------------------------

near = st.integers(-2, 2)

sizes = st.one_of(
    # Halves with a radix of one or two: a half without freedom, a modulus of one.
    st.integers(1, 8),
    st.integers(9, 3_000),
    # a * b == n, and one more or less: radices rounded the wrong way, a walk that never ends.
    st.builds(lambda k, d: max(1, k * k + d), st.integers(1, 2**31 - 1), near),
    # `math.sqrt` of such a number is off by one, where `math.isqrt` is not.
    st.builds(lambda d: (2**31 - 1) ** 2 + d, near),
    # A last block that is full, short by one, or of one row.
    st.builds(lambda k, d: k * BLOCK + d, st.integers(1, 40), near),
    # Both sides of the rule that chooses the kind of order.
    st.builds(lambda d: MATERIALISED_ROWS + d, near),
    # Row numbers that no 32-bit or float64 number holds.
    st.integers(2**31, MAX_ROWS),
    # Sums of two halves that wrap round if they are not unsigned, or the range is wider.
    st.builds(lambda d: MAX_ROWS - d, st.integers(0, 2)),
)
seeds = st.one_of(st.integers(0, 5), st.integers(0, 2**130))
epochs = st.one_of(st.integers(0, 5), st.integers(0, 2**70))


@st.composite
def ciphers(draw: st.DrawFn) -> tuple[int, Cipher]:
    n = draw(sizes)
    return n, enciphered(n, draw(seeds), draw(epochs))


def any_positions(n: int) -> st.SearchStrategy[int]:
    """Positions `0..n`, often near an end or a multiple of the block size."""
    return st.one_of(
        st.integers(0, n),
        # Slices that begin or end exactly with a block, or one row beside it.
        st.builds(
            lambda k, d: min(max(0, k * BLOCK + d), n),
            st.integers(0, n // BLOCK),
            st.integers(-1, 1),
        ),
        # The last, short block.
        st.integers(max(0, n - 3), n),
    )


@st.composite
def windows(draw: st.DrawFn, n: int) -> tuple[int, int]:
    """`start, stop` of at most three blocks; empty ones too."""
    start = draw(any_positions(n))
    length = draw(st.one_of(st.integers(0, 40), st.sampled_from([BLOCK, 2 * BLOCK + 1])))
    return start, min(start + length, n)


# --- what holds exactly ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [enciphered, lambda n, s, e: shuffled(n, seed=s, epoch=e)])
def test_every_row_stands_at_exactly_one_position_for_every_small_n(
    make: Callable[[int, int, int], Order],
) -> None:
    for n in range(1, 301):
        for seed in range(4):
            order = make(n, seed, n)
            rows = order.rows(0, n)
            assert rows.dtype == np.int64
            assert np.array_equal(np.sort(rows), np.arange(n)), (n, seed)
            assert np.array_equal(order.positions(rows), np.arange(n)), (n, seed)
            assert np.array_equal(order.positions(np.arange(n)), np.argsort(rows)), (n, seed)


@exact
@given(n=st.integers(301, 60_000) | st.just(2**18), seed=seeds, epoch=epochs)
def test_every_row_stands_at_exactly_one_position(n: int, seed: int, epoch: int) -> None:
    for order in (enciphered(n, seed, epoch), shuffled(n, seed=seed, epoch=epoch)):
        assert np.array_equal(np.sort(order.rows(0, n)), np.arange(n))
        assert np.array_equal(order.positions(order.rows(0, n)), np.arange(n))


@pytest.mark.parametrize("n", [MATERIALISED_ROWS, MATERIALISED_ROWS + 1, 1100**2, 1_300_007])
def test_every_row_stands_at_exactly_one_position_where_the_library_changes_to_the_cipher(
    n: int,
) -> None:
    order = shuffled(n, seed=3, epoch=4)
    rows = order.rows(0, n)
    assert np.array_equal(np.sort(rows), np.arange(n))
    assert np.array_equal(order.positions(rows), np.arange(n))


@exact
@given(data=st.data(), cipher=ciphers())
def test_rows_of_a_window_are_distinct_and_in_range(
    data: st.DataObject, cipher: tuple[int, Cipher]
) -> None:
    n, order = cipher
    start, stop = data.draw(windows(n))
    rows = order.rows(start, stop)
    assert rows.dtype == np.int64
    assert rows.shape == (stop - start,)
    assert len(np.unique(rows)) == len(rows)
    assert ((rows >= 0) & (rows < n)).all()


@exact
@given(data=st.data(), cipher=ciphers())
def test_positions_invert_rows(data: st.DataObject, cipher: tuple[int, Cipher]) -> None:
    n, order = cipher
    start, stop = data.draw(windows(n))
    positions = order.positions(order.rows(start, stop))
    assert positions.dtype == np.int64
    assert np.array_equal(positions, np.arange(start, stop))


@exact
@given(data=st.data(), cipher=ciphers())
def test_rows_invert_positions(data: st.DataObject, cipher: tuple[int, Cipher]) -> None:
    n, order = cipher
    # Unsorted, repeated and no rows at all.
    wanted = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
    positions = order.positions(np.array(wanted, np.int64))
    assert positions.dtype == np.int64
    assert [int(order.rows(p, p + 1)[0]) for p in positions.tolist()] == wanted


@exact
@given(data=st.data(), n=sizes, seed=seeds, epoch=epochs)
def test_the_pieces_of_any_slicing_concatenate_to_the_walk(
    data: st.DataObject, n: int, seed: int, epoch: int
) -> None:
    order = shuffled(n, seed=seed, epoch=epoch) if n <= 60_000 else enciphered(n, seed, epoch)
    start, stop = data.draw(windows(n))
    inside = st.one_of(
        st.integers(start, stop),
        # A cut exactly at a block's end: a row lost or given twice.
        st.just(min(max(-(-start // BLOCK) * BLOCK, start), stop)),
    )
    cuts = [start, *sorted(data.draw(st.lists(inside, max_size=5))), stop]
    # The pieces are asked for from an order of their own, backwards: nothing may be left over
    # from the walk, nor depend on what was asked before.
    other = shuffled(n, seed=seed, epoch=epoch) if n <= 60_000 else enciphered(n, seed, epoch)
    pieces = [other.rows(a, b) for a, b in reversed(list(pairwise(cuts)))][::-1]
    assert np.array_equal(np.concatenate(pieces), order.rows(start, stop))


@pytest.mark.parametrize("n", [2 * BLOCK, 2 * BLOCK - 1, 2 * BLOCK + 1, 3 * BLOCK + 5])
def test_slices_that_touch_a_block_boundary_are_slices_of_the_walk(n: int) -> None:
    order = enciphered(n, seed=1)
    walk = np.concatenate([order.rows(p, p + 1) for p in range(n)])
    edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, n - 1, n]
    edges = sorted({edge for edge in edges if edge <= n})
    for start in edges:
        for stop in edges:
            if start <= stop:
                assert np.array_equal(order.rows(start, stop), walk[start:stop]), (start, stop)


@pytest.mark.parametrize("n", [MAX_ROWS, MAX_ROWS - 1, 2**61 + 1])
def test_both_ends_of_the_largest_orders_can_be_read_and_found(n: int) -> None:
    order = shuffled(n, seed=0, epoch=0)
    for start, stop in ((0, 5), (n - 5, n), (n, n), (n // 2 - 2, n // 2 + 3)):
        rows = order.rows(start, stop)
        assert rows.shape == (stop - start,)
        assert ((rows >= 0) & (rows < n)).all()
        assert order.positions(rows).tolist() == list(range(start, stop))
    ends = np.array([0, n - 1])
    for row, position in zip(ends.tolist(), order.positions(ends).tolist(), strict=True):
        assert order.rows(position, position + 1).tolist() == [row]


@exact
@given(n=sizes, data=st.data())
def test_the_order_of_the_data_is_arange(n: int, data: st.DataObject) -> None:
    start, stop = data.draw(windows(n))
    rows = DataOrder().rows(start, stop)
    assert rows.dtype == np.int64
    assert np.array_equal(rows, np.arange(start, stop))
    assert np.array_equal(DataOrder().positions(rows), rows)


def test_a_materialised_order_gives_the_permutation_it_was_given() -> None:
    order = Materialised(np.array([2, 0, 3, 1]))
    assert order.rows(0, 4).tolist() == [2, 0, 3, 1]
    assert order.rows(1, 3).tolist() == [0, 3]
    assert order.positions(np.array([3, 3, 0])).tolist() == [2, 2, 1]


@pytest.mark.parametrize("seed", [0, 1, 2**100])
@pytest.mark.parametrize("epoch", [0, 1, 2**40])
def test_the_number_of_rows_alone_chooses_the_kind_of_order(seed: int, epoch: int) -> None:
    for n in (1, 2, 10**6, MATERIALISED_ROWS - 1, MATERIALISED_ROWS):
        assert type(shuffled(n, seed=seed, epoch=epoch)) is Materialised
    for n in (MATERIALISED_ROWS + 1, 2**21, 10**12, MAX_ROWS):
        assert type(shuffled(n, seed=seed, epoch=epoch)) is Cipher


SIZES = [1000, MATERIALISED_ROWS + 1, 10**12]


@pytest.mark.parametrize("n", SIZES)
def test_seed_and_epoch_each_make_another_order(n: int) -> None:
    keys = [(seed, epoch) for seed in range(12) for epoch in range(12)]
    # A key of several words, and keys that only differ above the first 32 or 64 bits.
    keys += [(0, 2**32), (2**32, 0), (2**64, 0), (0, 2**64), (2**96, 1)]
    heads = {tuple(shuffled(n, seed=s, epoch=e).rows(0, 20).tolist()) for s, e in keys}
    assert len(heads) == len(keys)


@pytest.mark.parametrize("n", SIZES)
def test_the_same_seed_and_epoch_make_the_same_order(n: int) -> None:
    for seed, epoch in ((0, 0), (7, 3), (2**70, 2**40)):
        first = shuffled(n, seed=seed, epoch=epoch).rows(0, 1000)
        assert np.array_equal(first, shuffled(n, seed=seed, epoch=epoch).rows(0, 1000))


@pytest.mark.parametrize("n", SIZES)
def test_neighbouring_seeds_do_not_share_their_epochs(n: int) -> None:
    """`seed + epoch` as the key would give (4, 1) the order of (3, 2)."""
    for seed in range(20):
        for epoch in range(20):
            ahead = shuffled(n, seed=seed + 1, epoch=epoch).rows(0, 20)
            assert not np.array_equal(ahead, shuffled(n, seed=seed, epoch=epoch + 1).rows(0, 20))
            assert not np.array_equal(
                shuffled(n, seed=seed, epoch=epoch + 21).rows(0, 20),
                shuffled(n, seed=epoch + 21, epoch=seed).rows(0, 20),
            )


# --- what the returned arrays are, and who may call --------------------------------------------


ORDERS = [
    pytest.param(shuffled(3 * BLOCK, seed=0, epoch=0), 3 * BLOCK, id="materialised"),
    pytest.param(enciphered(3 * BLOCK), 3 * BLOCK, id="small cipher"),
    pytest.param(shuffled(10**12, seed=0, epoch=0), 10**12, id="cipher"),
    pytest.param(DataOrder(), 3 * BLOCK, id="data order"),
]


@pytest.mark.parametrize(("order", "n"), ORDERS)
@pytest.mark.parametrize(("start", "stop"), [(3, 9), (BLOCK - 2, BLOCK + 2), (0, BLOCK), (5, 5)])
def test_writing_to_returned_rows_is_refused_or_changes_no_later_answer(
    order: Order, n: int, start: int, stop: int
) -> None:
    expected = order.rows(start, stop).tolist()
    found = order.rows(start, stop)
    try:
        found[...] = -1
    except ValueError:
        assert not found.flags.writeable
    assert order.rows(start, stop).tolist() == expected
    assert order.rows(0, 2 * BLOCK)[start:stop].tolist() == expected


@pytest.mark.parametrize(("order", "n"), ORDERS)
def test_positions_neither_change_their_argument_nor_hand_out_what_is_kept(
    order: Order, n: int
) -> None:
    rows = np.array([0, 5, 5, n - 1, 17])
    before = rows.copy()
    found = order.positions(rows)
    expected = found.copy()
    assert np.array_equal(rows, before)
    if found is not rows:
        found[...] = -1
    assert np.array_equal(order.positions(before), expected)


def test_the_permutation_of_a_materialised_order_can_not_be_written_to() -> None:
    order = shuffled(100, seed=0, epoch=0)
    with pytest.raises(ValueError, match="read-only"):
        order.rows(0, 100)[0] = 5


@pytest.mark.parametrize("n", [20 * BLOCK, MATERIALISED_ROWS + 1, 10**12])
@pytest.mark.parametrize("make", [enciphered, lambda n: shuffled(n, seed=0, epoch=0)])
def test_threads_that_call_at_once_get_what_one_thread_gets(
    make: Callable[[int], Order], n: int
) -> None:
    """More blocks than a cipher keeps, so that threads evict each other's blocks."""
    draw = np.random.default_rng(0)
    starts = draw.integers(0, 20 * BLOCK - 200, 150).tolist()
    walk = make(n).rows(0, 20 * BLOCK)
    order = make(n)
    together = threading.Barrier(8)

    def work(thread: int) -> None:
        own = np.random.default_rng(thread).permutation(starts).tolist()
        together.wait(30)
        for start in own:
            rows = order.rows(start, start + 200)
            assert np.array_equal(rows, walk[start : start + 200])
            assert np.array_equal(order.positions(rows[:3]), np.arange(start, start + 3))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, thread) for thread in range(8)]:
                done.result(60)
    finally:
        sys.setswitchinterval(interval)


class EvictedAfterLook(OrderedDict[int, Any]):
    """As if another thread evicted everything between `in` and `[]`."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.clear()
        return found


class EvictedAfterCount(OrderedDict[int, Any]):
    """As if another thread evicted everything between `len` and `popitem`."""

    def __len__(self) -> int:
        self.clear()
        return 100


@pytest.mark.parametrize("kept", [EvictedAfterLook, EvictedAfterCount])
def test_blocks_that_another_thread_evicts_are_computed_again(kept: Callable[[], Any]) -> None:
    order = enciphered(10 * BLOCK)
    walk = enciphered(10 * BLOCK).rows(0, 10 * BLOCK)
    order._pieces = kept()
    for _ in range(2):
        for start in range(0, 9 * BLOCK, 5000):
            assert np.array_equal(order.rows(start, start + 5000), walk[start : start + 5000])


# --- memory and work ---------------------------------------------------------------------------


def traced_bytes(function: Callable[[], object]) -> tuple[int, int]:
    """`(kept, peak)` bytes of a call, above what there was before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        kept = function()
        after, peak = tracemalloc.get_traced_memory()
        del kept
        return after - before, peak - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [10**12, MAX_ROWS])
def test_the_first_batch_of_a_huge_order_needs_little_memory(n: int) -> None:
    def first_batch() -> object:
        order = shuffled(n, seed=0, epoch=0)
        return order, order.rows(n // 3, n // 3 + 256), order.positions(np.arange(256))

    first_batch()  # what NumPy imports lazily is not the order's memory
    kept, peak = traced_bytes(first_batch)
    assert peak < 2**20
    assert kept < 2**18


def test_the_inverse_of_a_materialised_order_is_made_once() -> None:
    order = shuffled(MATERIALISED_ROWS, seed=0, epoch=0)
    rows = np.arange(5)
    order.positions(rows)
    _, peak = traced_bytes(lambda: order.positions(rows))
    assert peak < MATERIALISED_ROWS


def test_a_walk_through_a_cipher_keeps_few_blocks() -> None:
    def walk() -> object:
        order = shuffled(10**12, seed=0, epoch=0)
        for start in range(0, 100 * BLOCK, 1000):
            order.rows(start, start + 1000)
        return order

    kept, peak = traced_bytes(walk)
    assert kept < 12 * 8 * BLOCK
    assert peak < 20 * 8 * BLOCK


def test_the_last_eight_blocks_are_kept_and_the_oldest_goes_first() -> None:
    order = shuffled(10**12, seed=0, epoch=0)
    first = [order.rows(number * BLOCK, (number + 1) * BLOCK) for number in range(8)]
    for number, rows in enumerate(first):
        assert np.shares_memory(rows, order.rows(number * BLOCK, (number + 1) * BLOCK))
    order.rows(8 * BLOCK, 9 * BLOCK)
    assert np.shares_memory(first[1], order.rows(BLOCK, 2 * BLOCK))
    assert not np.shares_memory(first[0], order.rows(0, BLOCK))


def test_rows_of_one_block_can_not_be_written_to() -> None:
    """A batch of all of it would be changed in the next look."""
    assert not shuffled(10**12, seed=0, epoch=0).rows(BLOCK, 2 * BLOCK).flags.writeable


def test_small_batches_of_a_walk_are_cut_from_blocks_enciphered_once() -> None:
    """And hardly a value falls outside `range(n)`: the radices fit `n` closely."""
    n = MATERIALISED_ROWS + 1
    order = enciphered(n)
    computed = []
    encipher = order._encipher

    def counted(values: Any) -> Any:
        computed.append(len(values))
        return encipher(values)

    with mock.patch.object(order, "_encipher", counted):
        for start in range(0, 20 * BLOCK, 32):
            order.rows(start, start + 32)
    assert sum(computed) < 20 * BLOCK * 1.01


# --- what can't be told from a permutation that NumPy drew -------------------------------------


def chi_square_p(counts: Any, expected: Any, freedom: int) -> float:
    """The smaller tail, twice: counts that are too even are no better than uneven ones."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return 2 * min(stats.chi2.sf(statistic, freedom), stats.chi2.cdf(statistic, freedom))


def permutation_table_p(cells: Any, rows: int, columns: int, n: int) -> float:
    """p of a table of `(class of a position, class of its row)` over many permutations of `n`.

    The margins of every single permutation are fixed, which leaves (rows - 1) * (columns - 1)
    degrees of freedom and a variance that is larger by n / (n - 1).
    """
    counts = np.bincount(cells.ravel(), minlength=rows * columns).reshape(rows, columns)
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    scaled = expected + (counts - expected) * math.sqrt((n - 1) / n)
    return chi_square_p(scaled, expected, (rows - 1) * (columns - 1))


def test_each_of_the_24_orders_of_four_rows_is_equally_likely() -> None:
    index = {order: number for number, order in enumerate(permutations(range(4)))}
    for keys in (
        [(seed, 0) for seed in range(24 * 400)],
        [(0, epoch) for epoch in range(24 * 400)],
        [(seed, epoch) for seed in range(100) for epoch in range(96)],
    ):
        counts = np.zeros(24)
        for seed, epoch in keys:
            counts[index[tuple(shuffled(4, seed=seed, epoch=epoch).rows(0, 4).tolist())]] += 1
        assert chi_square_p(counts, len(keys) / 24, 23) > LEAST_P


@pytest.mark.parametrize("n", [2, 3, 20, 100])
def test_every_row_is_equally_likely_at_every_position_of_a_small_order(n: int) -> None:
    rows = np.array([shuffled(n, seed=5, epoch=e).rows(0, n) for e in range(4000)])
    assert permutation_table_p(np.arange(n) * n + rows, n, n, n) > LEAST_P


# The cipher at sizes where whole permutations of thousands of keys can be looked at. Some are
# awkward: a * b == n, nothing is walked; one more; a prime; a * b as far above n as it gets.
WHOLE = {1000: 3500, 1024: 2000, 1025: 2000, 2048: 1000, 4999: 500}


@cache
def whole_ciphers(n: int) -> Any:
    """Whole permutations, one a key: `(keys, n)`."""
    rows = np.empty((WHOLE[n], n), np.int32)
    for key in range(WHOLE[n]):
        rows[key] = enciphered(n, seed=key % 40, epoch=key // 40).rows(0, n)
    return rows


@lru_cache(maxsize=1)
def whole_drawn(n: int) -> Any:
    """The same number of permutations, drawn by NumPy."""
    rows = np.tile(np.arange(n, dtype=np.int32), (WHOLE[n], 1))
    return np.random.default_rng(n).permuted(rows, axis=1)


HUGE = [MATERIALISED_ROWS + 1, 10**12, MAX_ROWS]
WINDOWS = 300


def window_starts(n: int) -> list[int]:
    """Blocks at the start, at the end and anywhere between."""
    draw = np.random.default_rng(1)
    anywhere = draw.integers(0, n // BLOCK, WINDOWS) * BLOCK
    return [0] * 30 + [(n - BLOCK) // BLOCK * BLOCK] * 30 + anywhere.tolist()[60:]


@cache
def window_ciphers(n: int) -> Any:
    """One block of each of many keys: `(keys, BLOCK)`."""
    return np.array(
        [
            shuffled(n, seed=key % 20, epoch=key // 20).rows(start, start + BLOCK)
            for key, start in enumerate(window_starts(n))
        ]
    )


@lru_cache(maxsize=1)
def window_drawn(n: int) -> Any:
    """As many, drawn by NumPy without replacement."""
    draw = np.random.default_rng(2)
    return np.array([draw.choice(n, BLOCK, replace=False) for _ in range(WINDOWS)])


@pytest.fixture(scope="module", autouse=True)
def free_the_rows() -> Iterator[None]:
    yield
    for rows in (whole_ciphers, whole_drawn, window_ciphers, window_drawn):
        rows.cache_clear()


# Each statistic makes one number of each key's rows; its distribution over the keys must be that
# of permutations drawn by NumPy. So no formula has to be trusted, and dependence between the
# pairs of one permutation does no harm.


def per_key_chi_square(cells: Any, number: int) -> Any:
    keys = len(cells)
    counts = np.bincount(
        (cells + number * np.arange(keys)[:, None]).ravel(), minlength=keys * number
    ).reshape(keys, number)
    expected = cells.shape[1] / number
    return ((counts - expected) ** 2 / expected).sum(1)


def binned(rows: Any, n: int, bins: int) -> Any:
    return np.minimum((rows * (bins / n)).astype(np.int64), bins - 1)


def mean_row(rows: Any, n: int) -> Any:
    """Weighted by position: the plain mean of a whole permutation is a constant."""
    return (rows / n) @ np.linspace(-1, 1, rows.shape[1])


def serial(lag: int) -> Callable[[Any, int], Any]:
    def correlation(rows: Any, n: int) -> Any:
        centred = rows / n - 0.5
        return (centred[:, :-lag] * centred[:, lag:]).mean(1)

    return correlation


def ascents(rows: Any, n: int) -> Any:
    return (rows[:, 1:] > rows[:, :-1]).sum(1)


def longest_increasing_run(rows: Any, n: int) -> Any:
    longest = run = np.zeros(len(rows), np.int64)
    for up in (rows[:, 1:] > rows[:, :-1]).T:
        run = (run + 1) * up
        longest = np.maximum(longest, run)
    return longest


def adjacent_pairs(rows: Any, n: int) -> Any:
    """Unevenness of the joint bins of rows that stand side by side."""
    used = binned(rows[:, : rows.shape[1] // 2 * 2], n, 10)
    return per_key_chi_square(used[:, ::2] * 10 + used[:, 1::2], 100)


def steps_between(rows: Any, n: int) -> Any:
    """Unevenness of (next row - row) modulo n."""
    return per_key_chi_square(binned((rows[:, 1:] - rows[:, :-1]) % n, n, 50), 50)


def patterns_of_four(rows: Any, n: int) -> Any:
    """Unevenness of the 24 orders that four neighbours can have."""
    four = rows[:, : rows.shape[1] // 4 * 4].reshape(len(rows), -1, 4)
    greater = [four[:, :, i] > four[:, :, j] for i in range(4) for j in range(i)]
    codes = sum(bits.astype(np.int64) << place for place, bits in enumerate(greater))
    _, dense = np.unique(codes, return_inverse=True)
    return per_key_chi_square(dense.reshape(codes.shape), 24)


def inversions(rows: Any, n: int) -> Any:
    positions = np.arange(rows.shape[1])
    return np.array([stats.kendalltau(positions, each).statistic for each in rows[:150]])


ANY_ROWS: dict[str, Callable[[Any, int], Any]] = {
    "mean row": mean_row,
    "serial correlation, lag 1": serial(1),
    "serial correlation, lag 2": serial(2),
    "ascents": ascents,
    "longest increasing run": longest_increasing_run,
    "adjacent pairs": adjacent_pairs,
    "steps between": steps_between,
    "patterns of four": patterns_of_four,
    "inversions": inversions,
}


def fixed_points(rows: Any, n: int) -> Any:
    return (rows == np.arange(n)).sum(1)


def cycles(rows: Any, n: int) -> Any:
    positions = np.arange(n)
    ones = np.ones(n)
    return np.array(
        [
            connected_components(coo_array((ones, (positions, each)), (n, n)), directed=False)[0]
            for each in rows[:300]
        ]
    )


def collisions(same: str, equal: str) -> Callable[[Any, int], Any]:
    """Pairs of positions with the `same` half whose rows have an `equal` half.

    These pairs are where a Feistel network with too few rounds is weak: one round moves them
    alike, or not at all.
    """

    def number(rows: Any, n: int) -> Any:
        left, right = radices(n)
        positions = np.arange(n)
        lines = positions // right if same == "left" else positions % right
        halves = rows // right if equal == "left" else rows % right
        cells = left * max(left, right) * 2
        found = []
        for each in halves:
            counts = np.bincount(lines * max(left, right) + each, minlength=cells)
            found.append((counts * (counts - 1) // 2).sum())
        return np.array(found)

    return number


def strided(lag: str) -> Callable[[Any, int], Any]:
    """Unevenness of the joint bins of rows that stand one `lag` apart."""

    def unevenness(rows: Any, n: int) -> Any:
        step = radices(n)[lag == "right"]
        bins = binned(rows, n, 10)
        return per_key_chi_square(bins[:, :-step] * 10 + bins[:, step:], 100)

    return unevenness


WHOLE_ROWS: dict[str, Callable[[Any, int], Any]] = ANY_ROWS | {
    "fixed points": fixed_points,
    "cycles": cycles,
    "same left, equal left": collisions("left", "left"),
    "same left, equal right": collisions("left", "right"),
    "same right, equal left": collisions("right", "left"),
    "same right, equal right": collisions("right", "right"),
    "pairs one left radix apart": strided("left"),
    "pairs one right radix apart": strided("right"),
}


def assert_same_distribution(ours: Any, numpys: Any) -> None:
    assert np.ptp(numpys) > 0  # a statistic that is constant tells nothing
    assert stats.ks_2samp(ours, numpys, method="asymp").pvalue > LEAST_P
    assert stats.ttest_ind(ours, numpys, equal_var=False).pvalue > LEAST_P
    assert stats.levene(ours, numpys).pvalue > LEAST_P


@pytest.mark.parametrize("statistic", WHOLE_ROWS)
@pytest.mark.parametrize("n", WHOLE)
def test_whole_ciphers_can_not_be_told_from_drawn_permutations(n: int, statistic: str) -> None:
    measure = WHOLE_ROWS[statistic]
    assert_same_distribution(measure(whole_ciphers(n), n), measure(whole_drawn(n), n))


@pytest.mark.parametrize("statistic", ANY_ROWS)
@pytest.mark.parametrize("n", HUGE)
def test_windows_of_huge_ciphers_can_not_be_told_from_drawn_rows(n: int, statistic: str) -> None:
    measure = ANY_ROWS[statistic]
    assert_same_distribution(measure(window_ciphers(n), n), measure(window_drawn(n), n))


@pytest.mark.parametrize("n", WHOLE)
def test_every_row_is_equally_likely_at_every_position_of_a_cipher(n: int) -> None:
    rows = whole_ciphers(n)
    columns = min(n, len(rows) // 3)  # about three to a cell, or more
    cells = np.arange(n) * columns + rows * columns // n
    assert permutation_table_p(cells, n, columns, n) > LEAST_P
    # And in large bins, where a small bias adds up.
    cells = np.arange(n) * 16 // n * 16 + rows * 16 // n
    assert permutation_table_p(cells, 16, 16, n) > LEAST_P


@pytest.mark.parametrize("n", WHOLE)
def test_the_rows_at_two_given_positions_are_independent(n: int) -> None:
    left, right = radices(n)
    rows = whole_ciphers(n)
    for one, other in ((0, 1), (0, right), (1, right), (0, left), (n - 2, n - 1), (0, n - 1)):
        first, second = rows[:, one] * 8 // n, rows[:, other] * 8 // n
        counts = np.bincount(first * 8 + second, minlength=64)
        sizes_of_bins = np.bincount(np.arange(n) * 8 // n)
        chance = np.outer(sizes_of_bins, sizes_of_bins) - np.diag(sizes_of_bins)
        expected = chance.ravel() / (n * (n - 1)) * len(rows)
        assert chi_square_p(counts, expected, 63) > LEAST_P, (one, other)


@pytest.mark.parametrize("n", WHOLE)
def test_the_number_of_rows_that_stay_in_place_is_poisson_of_one(n: int) -> None:
    counts = np.bincount(np.minimum(fixed_points(whole_ciphers(n), n), 5), minlength=6)
    chances = stats.poisson.pmf(np.arange(5), 1)
    expected = np.append(chances, 1 - chances.sum()) * WHOLE[n]
    assert chi_square_p(counts, expected, 5) > LEAST_P


@pytest.mark.parametrize("n", WHOLE)
def test_half_of_the_rows_are_less_than_the_next(n: int) -> None:
    """Ascents are Eulerian numbers: their mean is (n - 1) / 2, their variance (n + 1) / 12."""
    z = (ascents(whole_ciphers(n), n) - (n - 1) / 2) / math.sqrt((n + 1) / 12)
    assert abs(z.mean()) * math.sqrt(len(z)) < 5
    assert abs((z**2).mean() - 1) * math.sqrt(len(z) / 2) < 5


@pytest.mark.parametrize("n", HUGE)
def test_a_window_of_a_huge_cipher_covers_the_data_evenly(n: int) -> None:
    rows = window_ciphers(n)
    classes = np.arange(BLOCK) * 32 // BLOCK
    _, right = radices(n)
    for bins in (binned(rows, n, 32), binned(rows % right, right, 32), rows % 32):
        counts = np.bincount(np.ravel(classes * 32 + bins), minlength=1024)
        assert chi_square_p(counts, rows.size / 1024, 1023) > LEAST_P


@pytest.mark.parametrize("n", HUGE)
def test_neighbours_in_a_huge_cipher_are_independent(n: int) -> None:
    """Side by side, and one right radix apart, where only the left half of the position moves."""
    left, right = radices(n)
    for apart in (1, right, left * (right // 2)):
        for low in (False, True):
            counts = np.zeros(1024)
            steps = np.zeros(64)
            for key in range(60):
                order = shuffled(n, seed=100 + key, epoch=key)
                first = order.rows(0, BLOCK)
                second = order.rows(apart, apart + BLOCK)
                if apart == 1:
                    first, second = first[::2], second[::2]
                radix = right if low else left
                first, second = (
                    (part % right if low else part // right) for part in (first, second)
                )
                pairs = binned(first, radix, 32) * 32 + binned(second, radix, 32)
                counts += np.bincount(pairs, minlength=1024)
                steps += np.bincount(binned((second - first) % radix, radix, 64), minlength=64)
            # Halves are not quite uniform where a * b > n; the table's own margins say how much.
            table = counts.reshape(32, 32)
            expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
            assert chi_square_p(table, expected, 31 * 31) > LEAST_P, (apart, low)
            if radix > 10**5:
                assert chi_square_p(steps, steps.sum() / 64, 63) > LEAST_P, (apart, low)


@pytest.mark.parametrize("epochs_seeds", ["epoch", "seed"])
@pytest.mark.parametrize("n", [1000, MATERIALISED_ROWS, MATERIALISED_ROWS + 1, 10**12])
def test_the_next_epoch_and_the_next_seed_move_about_all_rows(n: int, epochs_seeds: str) -> None:
    keys = [{"seed": 7, "epoch": 7} | {epochs_seeds: number} for number in range(5)]
    window = min(n, MATERIALISED_ROWS + 1, 2**17 if n > 2**21 else n)
    rows = [shuffled(n, **key).rows(0, window) for key in keys]
    for before, after in pairwise(rows):
        # One row in n stays by chance: four times a Poisson(1).
        assert (before == after).sum() < 15
        both = binned(before, n, 16) * 16 + binned(after, n, 16)
        if window == n:
            assert permutation_table_p(both, 16, 16, n) > LEAST_P
        else:
            counts = np.bincount(both, minlength=256)
            assert chi_square_p(counts, window / 256, 255) > LEAST_P


def test_every_bit_of_every_round_key_moves_about_all_rows() -> None:
    keys = orders._round_keys(np.uint64(7))
    before = Cipher(10**12, keys).rows(0, BLOCK)
    for number in range(len(keys)):
        for bit in range(64):
            changed = keys.copy()
            changed[number] ^= np.uint64(1) << np.uint64(bit)
            after = Cipher(10**12, changed).rows(0, BLOCK)
            assert (before == after).mean() < 0.01, (number, bit)


# --- literal rows ------------------------------------------------------------------------------

PINNED: dict[tuple[int, int, int], list[int]] = {
    (1, 0, 0): [0],
    (10, 0, 0): [0, 8, 5, 1, 4, 2, 6, 3],
    (10, 0, 1): [6, 4, 7, 5, 0, 8, 2, 1],
    (10, 1, 0): [1, 6, 5, 7, 8, 0, 9, 4],
    (2**20, 0, 0): [13189, 296532, 309078, 216287, 805574, 304028, 896516, 213775],
    (2**20 + 1, 0, 0): [131820, 65280, 454196, 329214, 37875, 135559, 72856, 213863],
    (2**20 + 1, 0, 1): [889531, 1044700, 272997, 71798, 89921, 492160, 721756, 317889],
    (10**12, 0, 0): [
        854289847812,
        63899411110,
        445057477534,
        821234087907,
        675081764101,
        825581879588,
        80028082696,
        184329466521,
    ],
    (10**12, 1, 0): [
        31920299327,
        195395928381,
        308058131579,
        639802783075,
        435787507752,
        659153019553,
        814562524697,
        6744768209,
    ],
    (10**12, 2**70, 2**40): [
        935792022846,
        407876470048,
        831267171068,
        342231098648,
        690563152280,
        87957018400,
        148109329929,
        899651671542,
    ],
    (2**62, 0, 0): [
        4020275990108548346,
        4472405485987828824,
        4261152583306264846,
        4029071770080386225,
        1277955801875624162,
        4310244650765347485,
        4036551426678893897,
        3759667205148711905,
    ],
}


@pytest.mark.parametrize(("n", "seed", "epoch"), PINNED)
def test_the_rows_of_a_seed_stay_the_same_in_every_release(n: int, seed: int, epoch: int) -> None:
    order = shuffled(n, seed=seed, epoch=epoch)
    rows = PINNED[n, seed, epoch]
    assert order.rows(0, len(rows)).tolist() == rows
    assert order.positions(np.array(rows)).tolist() == list(range(len(rows)))


def test_the_constants_of_the_reproducible_result_stay_the_same() -> None:
    assert MATERIALISED_ROWS == 1_048_576
    assert MAX_ROWS == 4_611_686_018_427_387_904
