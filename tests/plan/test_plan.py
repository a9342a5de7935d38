"""Plans: which rows are in which batch, compared with plain NumPy on one walk of the order."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers import shuffle as shuffle_sampler
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import MAX_ROWS, Rows
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS, Cipher, shuffled
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.samplers.shuffle import Shuffle
from keras_npbatch.samplers.weighted import Weighted

exact = settings(deadline=None, derandomize=True, max_examples=120)

REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)
plain_samplers = st.sampled_from([InOrder(), Shuffle()])
any_remainder = pytest.mark.parametrize("remainder", REMAINDERS)


# --- strategies --------------------------------------------------------------------------------


def batch_sizes(num_samples: int, most: int) -> st.SearchStrategy[int]:
    n = num_samples
    sizes = [
        st.integers(1, most),
        # One sample a batch: a step is a position, `spread` has nothing to spread.
        st.just(1),
        # The least size at which `keep` can leave a batch of one sample, and `spread` must not.
        st.sampled_from([2, 3]),
    ]
    if n <= most:
        sizes += [
            # One batch, exactly full: an empty second batch.
            st.just(n),
            # Fewer samples than a batch: one short batch, and no batch with `drop`.
            st.just(n + 1),
            st.integers(n, 2 * n + 5),
        ]
    # n % batch_size == 1, a last batch of one sample; and == 0, where no batch is short.
    sizes += [st.sampled_from(b) for b in divisors_up_to(n - 1, most)]
    sizes += [st.sampled_from(b) for b in divisors_up_to(n, most)]
    return st.one_of(sizes).map(lambda size: min(size, MAX_ROWS))


def divisors_up_to(n: int, most: int) -> list[list[int]]:
    found = [b for b in range(1, min(n, most, 1000) + 1) if n % b == 0]
    return [found] if found else []


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of which every batch can be looked at."""
    num_samples = draw(
        st.one_of(
            # One sample, the only case in which every remainder makes a batch of one.
            st.just(1),
            st.integers(1, 30),
            st.integers(31, 2000),
        )
    )
    batch_size = draw(batch_sizes(num_samples, 2000))
    remainder = draw(st.sampled_from(REMAINDERS))
    if remainder == "drop":
        batch_size = min(batch_size, num_samples)
    return Plan(
        num_samples, batch_size, draw(st.integers(0, 2**70)), draw(plain_samplers), remainder
    )


@st.composite
def huge_plans(draw: st.DrawFn, largest_batch: int = 5000) -> Plan:
    """Plans whose order is a cipher, or whose spans no 32-bit and no float64 number holds."""
    num_samples = draw(
        st.one_of(
            # Both sides of the rule that chooses the kind of order.
            st.builds(lambda d: MATERIALISED_ROWS + d, st.integers(-2, 2)),
            st.integers(MATERIALISED_ROWS, MAX_ROWS),
            # float64 rounds such a number: `math.ceil(n / batch_size)` is wrong by far.
            st.builds(lambda d: MAX_ROWS - d, st.integers(0, 3)),
        )
    )
    batch_size = draw(batch_sizes(num_samples, largest_batch))
    remainder = draw(st.sampled_from(REMAINDERS))
    if remainder == "drop":
        batch_size = min(batch_size, num_samples)
    return Plan(num_samples, batch_size, draw(st.integers(0, 9)), draw(plain_samplers), remainder)


def steps_of(plan: Plan) -> st.SearchStrategy[int]:
    """Steps, often the last, or the first that `spread` makes smaller."""
    last = plan.num_batches - 1
    larger = plan.num_samples % plan.num_batches
    return st.one_of(
        st.integers(0, last),
        st.builds(lambda d: max(0, last - d), st.integers(0, 2)),
        st.builds(lambda d: min(max(0, larger + d), last), st.integers(-1, 1)),
    )


def walk(plan: Plan, epoch: int) -> Rows:
    """All rows of an epoch, from the order alone."""
    if not plan.shuffle:
        return np.arange(plan.num_samples)
    return shuffled(plan.num_samples, seed=plan.seed, epoch=epoch).rows(0, plan.num_samples)


def batches(plan: Plan, epoch: int = 0) -> list[Rows]:
    return [plan.rows(epoch, step) for step in range(plan.num_batches)]


# --- every batch of an epoch -------------------------------------------------------------------


@exact
@given(plan=plans(), epoch=st.integers(0, 3) | st.integers(0, 2**40))
def test_every_sample_is_in_exactly_one_batch(plan: Plan, epoch: int) -> None:
    rows = np.concatenate(batches(plan, epoch))
    assert rows.dtype == np.int64
    if plan.remainder == "drop":
        assert len(rows) == plan.num_samples // plan.batch_size * plan.batch_size
        assert len(np.unique(rows)) == len(rows)
        assert rows.min() >= 0
        assert rows.max() < plan.num_samples
    else:
        assert np.array_equal(np.sort(rows), np.arange(plan.num_samples))


@exact
@given(plan=plans(), epoch=st.integers(0, 3))
def test_the_batches_are_those_numpy_splits_the_order_into(plan: Plan, epoch: int) -> None:
    n, size, order = plan.num_samples, plan.batch_size, walk(plan, epoch)
    if plan.remainder == "drop":
        expected = list(order[: n // size * size].reshape(-1, size))
    elif plan.remainder == "spread":
        expected = np.array_split(order, math.ceil(n / size))
    else:
        expected = np.split(order, range(size, n, size))
    found = batches(plan, epoch)
    assert len(found) == len(expected)
    for mine, numpys in zip(found, expected, strict=True):
        assert np.array_equal(mine, numpys)


@any_remainder
def test_every_small_epoch_is_covered(remainder: Remainder) -> None:
    for n in range(1, 41):
        for size in range(1, n + 1 if remainder == "drop" else n + 4):
            plan = Plan(n, size, seed=n, remainder=remainder)
            rows = np.sort(np.concatenate(batches(plan)))
            if remainder == "drop":
                assert len(np.unique(rows)) == len(rows) == n // size * size, (n, size)
            else:
                assert np.array_equal(rows, np.arange(n)), (n, size)


@any_remainder
def test_every_sample_is_in_exactly_one_batch_of_a_ciphered_order(remainder: Remainder) -> None:
    plan = Plan(MATERIALISED_ROWS + 7, 5000, seed=1, remainder=remainder)
    rows = np.concatenate(batches(plan, 2))
    assert type(plan.order(2)) is Cipher
    expected = walk(plan, 2)
    if remainder == "drop":
        expected = expected[: plan.num_samples // 5000 * 5000]
    assert np.array_equal(rows, expected)
    assert len(np.unique(rows)) == len(rows)


@exact
@given(
    n=st.integers(1, 3000),
    size=st.integers(1, 60) | st.integers(1, 4000),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_the_order_depends_neither_on_batch_size_nor_on_remainder(
    n: int, size: int, seed: int, epoch: int
) -> None:
    expected = shuffled(n, seed=seed, epoch=epoch).rows(0, n)
    for remainder in REMAINDERS:
        if remainder != "drop" or size <= n:
            found = np.concatenate(batches(Plan(n, size, seed, Shuffle(), remainder), epoch))
            assert np.array_equal(found, expected[: len(found)])


@exact
@given(plan=plans() | huge_plans(), data=st.data(), epoch=st.integers(0, 9))
def test_without_shuffling_the_rows_are_the_positions_in_every_epoch(
    plan: Plan, data: st.DataObject, epoch: int
) -> None:
    plan = dataclasses.replace(plan, sampler=InOrder())
    step = data.draw(steps_of(plan))
    rows = plan.rows(epoch, step)
    assert rows.dtype == np.int64
    assert np.array_equal(rows, np.arange(*plan.span(step)))


@pytest.mark.parametrize("n", [1000, MATERIALISED_ROWS + 1])
def test_epoch_seed_and_shuffle_each_change_the_rows(n: int) -> None:
    plan = Plan(n, 100, seed=3)
    rows = plan.rows(0, 0)
    for other in (
        plan.rows(1, 0),
        plan.rows(0, 1),
        dataclasses.replace(plan, seed=4).rows(0, 0),
        dataclasses.replace(plan, sampler=InOrder()).rows(0, 0),
    ):
        assert (rows == other).mean() < 0.05


# --- sizes and spans ---------------------------------------------------------------------------


@exact
@given(plan=plans() | huge_plans(MAX_ROWS))
def test_the_number_of_batches_is_that_of_the_formula(plan: Plan) -> None:
    n, size = plan.num_samples, plan.batch_size
    expected = n // size if plan.remainder == "drop" else -(-n // size)
    assert plan.num_batches == expected >= 1


@exact
@given(plan=plans() | huge_plans(MAX_ROWS), data=st.data())
def test_spans_lie_one_after_the_other(plan: Plan, data: st.DataObject) -> None:
    step = data.draw(steps_of(plan))
    start, stop = plan.span(step)
    assert start < stop
    assert (start == 0) == (step == 0)
    if step + 1 < plan.num_batches:
        assert plan.span(step + 1)[0] == stop
    elif plan.remainder == "drop":
        assert stop == plan.num_batches * plan.batch_size
        assert plan.num_samples - stop < plan.batch_size
    else:
        assert stop == plan.num_samples
    assert type(start) is type(stop) is int


@exact
@given(plan=plans() | huge_plans(MAX_ROWS), data=st.data())
def test_sizes_are_those_the_remainder_promises(plan: Plan, data: st.DataObject) -> None:
    n, full, number = plan.num_samples, plan.batch_size, plan.num_batches
    step = data.draw(steps_of(plan))
    start, stop = plan.span(step)
    if plan.remainder == "drop" or (plan.remainder != "spread" and step < number - 1):
        assert stop - start == full
    elif plan.remainder != "spread":
        assert stop - start == (n % full or full)
    else:
        # The larger ones first, none larger than asked for.
        larger = n - number * (n // number)
        assert stop - start == n // number + (step < larger)
        assert stop - start <= full


@exact
@given(plan=plans())
def test_spread_sizes_differ_by_at_most_one(plan: Plan) -> None:
    plan = dataclasses.replace(plan, remainder="spread")
    sizes = [len(rows) for rows in batches(plan)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= plan.batch_size
    assert len(sizes) == math.ceil(plan.num_samples / plan.batch_size)


def test_spread_makes_no_batch_of_one_sample_unless_it_must() -> None:
    """It must for one sample, for batches of one, and for an odd number in batches of two."""
    for n in range(1, 200):
        for size in range(1, n + 3):
            plan = Plan(n, size, sampler=InOrder(), remainder="spread")
            sizes = {stop - start for start, stop in map(plan.span, range(plan.num_batches))}
            must = n == 1 or size == 1 or (size == 2 and n % 2)
            assert (1 in sizes) == bool(must), (n, size)


@pytest.mark.parametrize(
    ("remainder", "sizes"),
    [("keep", [4, 4, 1]), ("pad", [4, 4, 1]), ("drop", [4, 4]), ("spread", [3, 3, 3])],
)
def test_nine_samples_in_batches_of_four(remainder: Remainder, sizes: list[int]) -> None:
    plan = Plan(9, 4, remainder=remainder)
    assert [len(rows) for rows in batches(plan)] == sizes


def test_ten_samples_spread_over_batches_of_four() -> None:
    plan = Plan(10, 4, remainder="spread")
    assert [plan.span(step) for step in range(3)] == [(0, 4), (4, 7), (7, 10)]


@any_remainder
def test_epoch_and_step_may_be_numpy_integers(remainder: Remainder) -> None:
    plan = Plan(2**40, 32768, remainder=remainder)
    assert plan.span(np.int64(100_000)) == plan.span(100_000)  # type: ignore[arg-type]
    found = plan.rows(np.int64(3), np.int64(100_000))  # type: ignore[arg-type]
    assert np.array_equal(found, plan.rows(3, 100_000))


# --- locate ------------------------------------------------------------------------------------


@exact
@given(plan=plans(), epoch=st.integers(0, 3))
@example(plan=Plan(10, 4, remainder="drop"), epoch=0)
@example(plan=Plan(10, 4, remainder="spread"), epoch=0)
def test_locate_inverts_rows_and_is_empty_exactly_for_dropped_rows(plan: Plan, epoch: int) -> None:
    if plan.num_samples > 200:
        plan = dataclasses.replace(
            plan, num_samples=200, batch_size=min(plan.batch_size, 200), seed=plan.seed
        )
    expected = {
        row: [(step, within)]
        for step, rows in enumerate(batches(plan, epoch))
        for within, row in enumerate(rows.tolist())
    }
    for row in range(plan.num_samples):
        assert plan.locate(row, epoch) == expected.get(row, [])
    dropped = plan.num_samples - len(expected)
    assert dropped == (plan.num_samples % plan.batch_size if plan.remainder == "drop" else 0)


@exact
@given(plan=huge_plans(), data=st.data(), epoch=st.integers(0, 3))
def test_locate_inverts_rows_of_huge_plans(plan: Plan, data: st.DataObject, epoch: int) -> None:
    step = data.draw(steps_of(plan))
    rows = plan.rows(epoch, step)
    for within in {0, len(rows) // 2, len(rows) - 1}:
        found = plan.locate(int(rows[within]), epoch)
        assert found == [(step, within)]
        assert all(type(number) is int for number in found[0])


@exact
@given(plan=huge_plans(), data=st.data(), epoch=st.integers(0, 3))
def test_rows_invert_locate_of_huge_plans(plan: Plan, data: st.DataObject, epoch: int) -> None:
    row = data.draw(st.integers(0, plan.num_samples - 1))
    found = plan.locate(row, epoch)
    if not found:
        position = int(plan.order(epoch).positions(np.array([row]))[0])
        assert plan.remainder == "drop"
        assert position >= plan.num_batches * plan.batch_size
    else:
        ((step, within),) = found
        assert 0 <= step < plan.num_batches
        assert plan.rows(epoch, step)[within] == row


@pytest.mark.parametrize("n", [10, MATERIALISED_ROWS + 12])
def test_the_rows_behind_the_last_full_batch_are_dropped(n: int) -> None:
    plan = Plan(n, 7, seed=2, remainder="drop")
    tail = plan.order(5).rows(n // 7 * 7, n)
    assert len(tail) == n % 7 > 0
    assert [plan.locate(row, 5) for row in tail.tolist()] == [[]] * len(tail)
    assert plan.locate(int(plan.order(5).rows(0, 1)[0]), 5) == [(0, 0)]


def test_locate_follows_the_epoch() -> None:
    plan = Plan(1000, 10)
    places = {place for epoch in range(50) for place in plan.locate(17, epoch)}
    assert len(places) > 40


def test_locate_takes_numpy_integers() -> None:
    plan = Plan(100, 8)
    assert plan.locate(np.int32(17), 1) == plan.locate(17, 1)


@pytest.mark.parametrize(
    ("row", "came"),
    [
        (-1, "-1 (int)"),
        (100, "100 (int)"),
        (True, "True (bool)"),
        (1.5, "1.5 (float)"),
        (None, "None (NoneType)"),
    ],
)
def test_locate_refuses_what_is_no_row(row: Any, came: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Plan(100, 8).locate(row, 0)
    assert str(error.value) == f"row is {came}; expected a whole number from 0 to 99."


# --- a value -----------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert Plan(100) == Plan(
        num_samples=100, batch_size=32, seed=0, sampler=Shuffle(), remainder="keep"
    )


FIELDS: list[dict[str, Any]] = [
    {"num_samples": 11},
    {"batch_size": 5},
    {"seed": 2},
    {"sampler": InOrder()},
    {"remainder": "spread"},
]


def test_plans_are_equal_when_their_settings_are_whatever_was_asked_of_them() -> None:
    plan, other = Plan(10, 4, 1), Plan(10, 4, 1)
    plan.rows(0, 0)
    plan.locate(3, 7)
    assert plan == other
    assert hash(plan) == hash(other)
    assert repr(plan) == repr(other)
    assert len({plan, other}) == 1


@pytest.mark.parametrize("change", FIELDS, ids=str)
def test_plans_with_another_setting_are_not_equal(change: dict[str, Any]) -> None:
    assert Plan(10, 4, 1) != dataclasses.replace(Plan(10, 4, 1), **change)


@pytest.mark.parametrize("change", FIELDS, ids=str)
def test_a_plan_can_not_be_changed(change: dict[str, Any]) -> None:
    plan = Plan(10, 4, 1)
    for name, value in change.items():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(plan, name, value)


@pytest.mark.parametrize("change", FIELDS, ids=str)
def test_a_replaced_setting_gets_its_own_orders(change: dict[str, Any]) -> None:
    plan = Plan(10, 4, 1)
    plan.rows(0, 0)
    changed = dataclasses.replace(plan, **change)
    fresh = Plan(**{name: getattr(changed, name) for name in settings_of(changed)})
    assert changed.rows(0, 0).tolist() == fresh.rows(0, 0).tolist()


def settings_of(plan: Plan) -> list[str]:
    return [each.name for each in dataclasses.fields(plan) if each.init]


def test_numpy_settings_become_plain_ones() -> None:
    sampler = InOrder()
    plan = Plan(np.int64(100), np.uint8(7), np.uint64(2**64 - 1), sampler, "drop", skip=np.int16(3))
    assert plan == Plan(100, 7, 2**64 - 1, sampler, "drop", skip=3)
    types = [type(getattr(plan, name)) for name in settings_of(plan)]
    assert types == [int, int, int, InOrder, str, Shard, int, type(None), int]


@exact
@given(plan=plans() | huge_plans(), data=st.data())
def test_a_pickled_plan_is_equal_and_makes_the_same_batches(
    plan: Plan, data: st.DataObject
) -> None:
    protocol = data.draw(st.integers(0, pickle.HIGHEST_PROTOCOL))
    step = data.draw(steps_of(plan))
    rows = plan.rows(3, step)
    for again in (pickle.loads(pickle.dumps(plan, protocol)), copy.copy(plan), copy.deepcopy(plan)):
        assert again == plan
        assert np.array_equal(again.rows(3, step), rows)


@dataclasses.dataclass(frozen=True)
class Longer(Plan):
    """A plan with a field that nobody has thought of."""

    extra: str = ""


def test_a_field_that_is_added_goes_along_to_a_worker() -> None:
    plan = Longer(10, 4, seed=3, extra="more")
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert again.extra == "more"
    assert dataclasses.asdict(again) == dataclasses.asdict(plan)


@pytest.mark.parametrize("n", [10**6, 10**12])
def test_kept_orders_are_not_in_the_pickle(n: int) -> None:
    plan = Plan(n, 32)
    before = pickle.dumps(plan)
    for epoch in range(3):
        plan.rows(epoch, 0)
        plan.locate(5, epoch)
    assert pickle.dumps(plan) == before
    assert len(before) < 500


@any_remainder
@pytest.mark.parametrize("shuffle", [True, False])
def test_in_data_order_changes_the_order_alone(remainder: Remainder, shuffle: bool) -> None:
    plan = Plan(10, 4, 7, Shuffle() if shuffle else InOrder(), remainder)
    assert plan.in_data_order() == Plan(10, 4, 7, InOrder(), remainder)
    assert plan.in_data_order(every_row=False) == plan.in_data_order()
    assert plan.shuffle is shuffle


@pytest.mark.parametrize(
    ("remainder", "expected"),
    [("keep", "keep"), ("drop", "keep"), ("pad", "keep"), ("spread", "spread")],
)
def test_in_data_order_with_every_row_neither_drops_nor_pads(
    remainder: Remainder, expected: Remainder
) -> None:
    plan = Plan(10, 4, 7, Shuffle(), remainder).in_data_order(every_row=True)
    assert plan == Plan(10, 4, 7, InOrder(), expected)
    assert np.concatenate(batches(plan)).tolist() == list(range(10))


# --- a pure function ---------------------------------------------------------------------------


@exact
@given(
    asked=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=40),
    remainder=st.sampled_from(REMAINDERS),
)
def test_a_batch_does_not_depend_on_what_was_asked_before(
    asked: list[tuple[int, int, bool]], remainder: Remainder
) -> None:
    """More epochs than are kept, back and forth: a kept order under the wrong epoch."""
    plan = Plan(130, 10, remainder=remainder)
    for epoch, step, located in asked:
        expected = Plan(130, 10, remainder=remainder).rows(epoch, step)
        assert np.array_equal(plan.rows(epoch, step), expected)
        if located:
            assert plan.locate(int(expected[4]), epoch) == [(step, 4)]


@pytest.mark.parametrize("n", [20_000, MATERIALISED_ROWS + 1])
def test_threads_that_ask_at_once_get_what_one_thread_gets(n: int) -> None:
    """More epochs than are kept, so that threads evict each other's orders."""
    plan = Plan(n, 50)
    expected = {(e, s): Plan(n, 50).rows(e, s).tolist() for e in range(6) for s in range(5)}
    together = threading.Barrier(8)

    def work(thread: int) -> None:
        asked = np.random.default_rng(thread).permutation(list(expected)).tolist()
        together.wait(30)
        for epoch, step in asked:
            assert plan.rows(epoch, step).tolist() == expected[epoch, step]
            assert plan.locate(expected[epoch, step][7], epoch) == [(step, 7)]

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
def test_orders_that_another_thread_evicts_are_made_again(kept: Callable[[], Any]) -> None:
    plan = Plan(100, 8)
    object.__setattr__(plan, "_orders", kept())
    for epoch in (0, 0, 1, 0, 2, 3, 4, 0):
        rows = plan.rows(epoch, 2)
        assert np.array_equal(rows, Plan(100, 8).rows(epoch, 2))
        assert plan.locate(int(rows[5]), epoch) == [(2, 5)]


def test_writing_to_a_batch_is_refused_or_changes_no_later_batch() -> None:
    for plan in (
        Plan(100, 8),
        Plan(100, 8, sampler=InOrder()),
        Plan(MAX_ROWS, 8),
        Plan(MAX_ROWS, 9000),
    ):
        expected = plan.rows(0, 1).tolist()
        rows = plan.rows(0, 1)
        try:
            rows[...] = 0
        except ValueError:
            assert not rows.flags.writeable
        assert plan.rows(0, 1).tolist() == expected


def test_the_epochs_in_use_are_drawn_once() -> None:
    """The current epoch, the next that workers prepare, and one that is looked up."""
    made = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(kwargs["epoch"])
        return shuffled(*args, **kwargs)

    plan = Plan(1000, 10)
    with mock.patch.object(shuffle_sampler, "shuffled", counted):
        for epoch in range(10):
            for step in range(50):
                plan.rows(epoch, step)
                plan.rows(epoch + 1, step)
                plan.locate(step, max(epoch - 1, 0))
    assert made == list(range(11))


def test_many_epochs_keep_few_orders() -> None:
    n = 100_000
    plan = Plan(n, 100)
    plan.rows(0, 0)
    tracemalloc.start()
    try:
        for epoch in range(40):
            plan.rows(epoch, 0)
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 4 * 8 * n
        for epoch in range(40):
            plan.locate(5, epoch)
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 4 * 2 * 8 * n  # and the inverse
    finally:
        tracemalloc.stop()


def test_a_huge_plan_needs_little_memory() -> None:
    def first_batch() -> None:
        plan = Plan(10**12, 256)
        plan.rows(0, plan.num_batches // 2)
        plan.locate(10**11, 0)

    first_batch()
    tracemalloc.start()
    try:
        first_batch()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# --- what is refused ---------------------------------------------------------------------------


def refusal(**settings: Any) -> str:
    with pytest.raises(InvalidArgumentError) as error:
        Plan(**({"num_samples": 10, "batch_size": 4} | settings))
    assert isinstance(error.value, ValueError)
    return str(error.value)


NO_SAMPLES = (
    "num_samples is 0: there is nothing to make a batch of. Check how the data was selected."
)


def test_no_samples_are_refused() -> None:
    assert refusal(num_samples=0) == NO_SAMPLES
    assert refusal(num_samples=np.int64(0)) == NO_SAMPLES


WRONG_NUMBERS = [
    (-1, "-1 (int)"),
    (2**62 + 1, "4611686018427387905 (int)"),
    (2**70, "1180591620717411303424 (int)"),
    (True, "True (bool)"),
    (-4.0, "-4.0 (float)"),
    (4.5, "4.5 (float)"),
    (math.nan, "nan (float)"),
    ("4", "'4' (str)"),
    (None, "None (NoneType)"),
    (4j, "4j (complex)"),
]


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
@pytest.mark.parametrize(("value", "came"), WRONG_NUMBERS, ids=[came for _, came in WRONG_NUMBERS])
def test_what_is_no_whole_number_is_refused(name: str, value: Any, came: str) -> None:
    expected = f"{name} is {came}; expected a whole number from 1 to 4611686018427387904."
    assert refusal(**{name: value}) == expected


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
def test_the_result_of_a_division_is_told_as_a_whole_number(name: str) -> None:
    assert refusal(**{name: 100 / 25}) == (
        f"{name} is 4.0 (float); expected a whole number from 1 to 4611686018427387904. Write 4; "
        "to divide whole numbers, a // b."
    )


@pytest.mark.parametrize(
    ("value", "came"),
    [([4], "[4] (list)"), (np.ones((3, 2)), "ndarray of shape (3, 2) and dtype float64")],
)
def test_data_for_a_number_are_refused(value: Any, came: str) -> None:
    assert refusal(num_samples=value) == (
        f"num_samples is {came}; expected how many samples there are. Write its length: "
        "num_samples=len(...)."
    )
    assert refusal(batch_size=value) == (
        f"batch_size is {came}; expected a whole number from 1 to 4611686018427387904."
    )


def test_a_batch_size_of_zero_is_refused() -> None:
    assert refusal(batch_size=0) == (
        "batch_size is 0 (int); expected a whole number from 1 to 4611686018427387904."
    )


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
@pytest.mark.parametrize("value", [np.float64(4), np.bool_(True), np.int64(-3), np.array([4])])
def test_a_numpy_value_that_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    assert refusal(**{name: value}).startswith(f"{name} is ")


def test_a_refused_numpy_number_is_told() -> None:
    """Its shape and dtype are not what is wrong with it."""
    assert "-3" in refusal(batch_size=np.int64(-3))
    assert "2.5" in refusal(batch_size=np.float64(2.5))


def test_the_extremes_are_accepted() -> None:
    assert Plan(MAX_ROWS, MAX_ROWS).num_batches == 1
    assert Plan(MAX_ROWS, 1).num_batches == MAX_ROWS
    assert Plan(1, 1).rows(0, 0).tolist() == [0]


@pytest.mark.parametrize(
    ("seed", "came"),
    [
        (-1, "-1 (int)"),
        (True, "True (bool)"),
        (0.0, "0.0 (float)"),
        ("0", "'0' (str)"),
    ],
)
def test_what_is_no_seed_is_refused(seed: Any, came: str) -> None:
    assert refusal(seed=seed) == (
        f"seed is {came}; expected a whole number from 0 to 2**128 - 1. A dataset with seed=None "
        "draws one from NumPy's global state."
    )


def test_a_seed_that_was_not_drawn_yet_is_refused() -> None:
    assert refusal(seed=None).startswith("seed is None (NoneType); expected a whole number")


@pytest.mark.parametrize(
    ("remainder", "came"),
    [
        ("KEEP", "'KEEP' (str)"),
        ("", "'' (str)"),
        (None, "None (NoneType)"),
        (True, "True (bool)"),
        (["keep"], "['keep'] (list)"),
        ({}, "{} (dict)"),
        (np.array(["keep", "drop"]), "ndarray of shape (2,) and dtype <U4"),
        (np.array(["keep"]), "ndarray of shape (1,) and dtype <U4"),
    ],
    ids=str,
)
def test_an_unknown_remainder_is_refused(remainder: Any, came: str) -> None:
    assert refusal(remainder=remainder) == (
        f"remainder is {came}; expected one of 'keep', 'drop', 'pad', 'spread'."
    )


def test_a_plan_that_drops_everything_is_refused() -> None:
    assert refusal(num_samples=3, batch_size=4, remainder="drop") == (
        "remainder='drop' leaves no batch: num_samples=3 is less than batch_size=4. Use a "
        "smaller batch_size, or remainder='keep'."
    )
    assert Plan(4, 4, remainder="drop").num_batches == 1
    for remainder in ("keep", "pad", "spread"):
        assert Plan(3, 4, remainder=remainder).num_batches == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (7, 7), (np.int8(5), 5), (np.uint64(5), 5), (np.array(5), 5)],
)
def test_whole_numbers_between_the_bounds_are_returned_as_int(value: Any, number: int) -> None:
    found = whole_number("steps", value, least=3, most=7)
    assert found == number
    assert type(found) is int


def test_a_number_outside_the_bounds_is_refused_with_the_bounds_it_broke() -> None:
    for value in (2, 8):
        with pytest.raises(InvalidArgumentError) as error:
            whole_number("steps", value, least=3, most=7)
        expected = f"steps is {value} (int); expected a whole number from 3 to 7."
        assert str(error.value) == expected
    with pytest.raises(InvalidArgumentError) as error:
        whole_number("epochs", -1, least=0)
    assert str(error.value) == "epochs is -1 (int); expected a whole number from 0 up."
    assert whole_number("epochs", 2**100, least=0) == 2**100
    assert whole_number("epochs", 0, least=0) == 0


# --- the rest of an epoch, parts, shards, calls --------------------------------------------------


def test_what_is_skipped_leaves_a_sample() -> None:
    assert Plan(10, 4, skip=9).num_batches == 1
    expected = "skip is 10 (int); expected a whole number from 0 to 9."
    assert refusal(num_samples=10, skip=10) == expected
    assert refusal(num_samples=10, skip=-1).startswith("skip is -1 (int); ")


def test_what_is_left_after_the_skipped_must_fill_a_batch_of_drop() -> None:
    shards = Shard(0, 2)
    assert Plan(10, 4, remainder="drop", skip=2, shard=shards).num_batches == 1
    assert refusal(num_samples=10, batch_size=4, remainder="drop", skip=3, shard=shards) == (
        "remainder='drop' leaves no batch: num_samples=7 is less than batch_size=4 for each of 2 "
        "shards. Use a smaller batch_size, or remainder='keep'."
    )


def test_more_samples_in_a_global_batch_than_can_be_counted_are_refused() -> None:
    assert Plan(10, 2**61, shard=Shard(0, 2)).global_batch_size == MAX_ROWS
    assert refusal(num_samples=10, batch_size=2**61, shard=Shard(0, 3)) == (
        "batch_size is 2305843009213693952 for each of 3 shards; expected at most 2**62 samples in "
        "all of them."
    )


@any_remainder
def test_every_row_of_the_rest_of_an_epoch_has_its_place_on_its_shard(
    remainder: Remainder,
) -> None:
    plan = Plan(50, 4, 3, remainder=remainder, shard=Shard(1, 3), skip=13)
    places: dict[int, list[tuple[int, int, int]]] = {row: [] for row in range(50)}
    for shard in range(3):
        of_shard = plan.of_shard(shard)
        for step in range(plan.num_batches):
            for position, row in enumerate(of_shard.rows(0, step).tolist()):
                places[row].append((step, shard, position))
    for row, expected in places.items():
        assert plan.locate_shards(row, 0) == expected
        own = [(step, position) for step, shard, position in expected if shard == 1]
        assert plan.locate(row, 0) == own
    assert sum(map(len, places.values())) == (36 if remainder == "drop" else 37)


@any_remainder
def test_the_rows_and_the_sizes_of_a_step_are_those_of_its_shards(remainder: Remainder) -> None:
    plan = Plan(50, 4, 3, remainder=remainder, shard=Shard(0, 3))
    for step in range(plan.num_batches):
        shards = [plan.of_shard(shard).rows(2, step) for shard in range(3)]
        assert np.array_equal(plan.global_rows(2, step), np.concatenate(shards))
        sizes = [len(rows) for rows in shards]
        assert plan.sizes(step) == (min(sizes), max(sizes))


def test_a_shard_of_another_count_reads_its_part_of_the_same_batches() -> None:
    plan = Plan(50, 6, 3, shard=Shard(0, 2))
    other = plan.of_shard((2, 3))
    assert (other.shard, other.batch_size) == (Shard(2, 3), 4)
    assert plan.of_shard(np.int64(1)).shard == Shard(1, 2)
    with pytest.raises(InvalidArgumentError) as error:
        plan.of_shard((0, 5))
    assert str(error.value) == (
        "shard is Shard(index=0, count=5); expected a count that divides the global batch of 12 "
        "samples (6 for each of 2)."
    )
    with pytest.raises(InvalidArgumentError) as error:
        plan.of_shard(2)
    assert str(error.value) == "shard is 2 (int); expected a whole number from 0 to 1."
    with pytest.raises(InvalidArgumentError, match="shard is True"):
        plan.of_shard(True)


def test_the_plan_of_a_part_has_its_rows_and_begins_at_its_beginning() -> None:
    part = Chosen(50, ("rest",), np.arange(5, 50, 5))
    plan = Plan(50, 4, 3, skip=13).of_part(part)
    assert (plan.num_samples, plan.num_rows, plan.skip, plan.batch_size) == (9, 50, 0, 4)
    assert sorted(int(row) for step in range(3) for row in plan.rows(1, step)) == list(
        range(5, 50, 5)
    )
    assert plan.numbers(np.array([5, 6, 45])).tolist() == [0, -1, 8]
    assert plan.locate(6, 1) == []
    with pytest.raises(InvalidArgumentError) as error:
        Plan(50, 10, remainder="drop").of_part(part)
    assert str(error.value).startswith("rest: remainder='drop' leaves no batch: num_samples=9 ")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("call", ["evaluate", "predict"])
@any_remainder
def test_a_call_reads_in_the_order_of_the_data(
    remainder: Remainder, call: Literal["evaluate", "predict"], count: int
) -> None:
    """`predict` pads and drops nothing, nor does `evaluate` if it is alone where it would pad."""
    plan = Plan(50, 4, 3, remainder=remainder, shard=Shard(0, count))
    is_kept = call == "predict" or (remainder == "pad" and count == 1)
    expected = "keep" if is_kept and remainder in ("drop", "pad") else remainder
    found = plan.for_call(call)
    assert found == dataclasses.replace(plan, sampler=InOrder(), remainder=expected)


class Backwards(Sampler):
    """Gives its rows in an array, and depends on the size of batches."""

    def order(self, rows: Any, global_batch_size: int, seed: int, epoch: int) -> Rows:
        return np.roll(np.arange(rows.num_samples)[::-1], global_batch_size)


def test_the_order_is_made_for_its_own_size_of_batches_if_it_has_one() -> None:
    for plan, size in (
        (Plan(10, 3, sampler=Backwards()), 3),
        (Plan(10, 3, sampler=Backwards(), shard=Shard(0, 2)), 6),
        (Plan(10, 3, sampler=Backwards(), order_size=4), 4),
    ):
        expected = np.roll(np.arange(10)[::-1], size)
        assert plan.order(0).rows(0, 10).tolist() == expected.tolist()


def test_without_repeats_no_row_came_before() -> None:
    times = Plan(10, 4).times(0, 3, 7)
    assert times.dtype == np.int64
    assert times.tolist() == [0] * 4


def test_with_repeats_it_is_told_how_often_a_row_came_before() -> None:
    plan = Plan(4, 4, sampler=Weighted(np.array([3.0, 1.0, 0.0, 0.0])))
    rows = plan.order(2).rows(0, 4).tolist()
    expected = [rows[:at].count(row) for at, row in enumerate(rows)]
    assert plan.times(2, 0, 4).tolist() == expected
    assert plan.times(2, 1, 3).tolist() == expected[1:3]
    assert max(expected) == 2
