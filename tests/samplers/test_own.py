"""A user's own sampler: a function, an object, a subclass of `Sampler`; checked, and kept."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, Shard, rng
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError
from keras_npbatch.samplers import (
    Balanced,
    BlockShuffle,
    InOrder,
    LengthBuckets,
    Sampler,
    Shuffle,
    every_row,
)
from keras_npbatch.samplers.given import digest
from keras_npbatch.samplers.order import DataOrder, Listed, Order, WholeData, translated
from keras_npbatch.samplers.own import (
    Own,
    as_sampler,
    chosen_sampler,
    is_plain,
    order_setting,
)

N = 20


class Reversed(Sampler):
    """A subclass that says how it is."""

    def order(self, rows, global_batch_size, seed, epoch):
        return every_row(rows)[::-1]


class Evens:
    """An object of no particular class, which leaves rows out."""

    def order(self, rows, global_batch_size, seed, epoch):
        even = every_row(rows)
        return np.random.default_rng((seed, epoch)).permutation(even[even % 2 == 0])


class Lazy(Sampler):
    """Gives an `Order`."""

    identity = "Lazy(1)"

    def order(self, rows, global_batch_size, seed, epoch):
        return translated(DataOrder(), rows)


class BySize(Sampler):
    """Whole batches from the last to the first."""

    uses_batch_size = True

    def order(self, rows, global_batch_size, seed, epoch):
        edges = range(global_batch_size, rows.num_samples, global_batch_size)
        batches = np.split(every_row(rows), edges)
        return np.concatenate([*batches[-2::-1], batches[-1]])


def drawn(rng, epoch):
    return rng.permutation(N)


def twice(rng, epoch):
    return np.repeat(rng.permutation(N)[:5], 2)


def dataset(sampler: Any, batch_size: int = 6, **settings: Any) -> Any:
    return ArrayDataset(np.arange(N), batch_size=batch_size, seed=3, sampler=sampler, **settings)


def epoch_of(ds: Any) -> list[int]:
    return np.concatenate(list(ds)).tolist()  # type: ignore[no-any-return]


# --- what is taken -----------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [Reversed(), Evens(), Lazy(), BySize(), drawn, twice])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_dataset_with_it_is_as_any_other(sampler: Any, count: int) -> None:
    """Batches, rows, locate, shards, resuming, predict."""
    ds = dataset(sampler)
    shards = [dataset(sampler, 6 // count, shard=Shard(index, count)) for index in range(count)]
    for epoch in range(2):
        seen: list[int] = []
        for step, (batch, *parts) in enumerate(zip(ds, *shards, strict=True)):
            assert np.array_equal(batch, ds.rows(step, epoch))
            of_parts = [x if w is None else x[w > 0] for x, _, w in map(weighted, parts)]
            assert np.array_equal(np.concatenate(of_parts), batch)
            for position, row in enumerate(batch.tolist()):
                places = ds.locate(row, epoch)
                assert (step, position) in (places if ds.sampler.repeats else [places])
            seen += batch.tolist()
        if not ds.sampler.repeats:
            assert sorted(seen) == list(range(N))
    resumed = dataset(sampler)
    resumed.load_state_dict(ds.state_dict(epoch=1, step=1))
    assert epoch_of(resumed) == seen[6:]
    assert epoch_of(ds.batches_for("predict")) == list(range(N))


def weighted(batch: Any) -> Any:
    return batch if isinstance(batch, tuple) else (batch, None, None)


def test_a_function_draws_from_a_generator_of_seed_and_epoch() -> None:
    one, other = dataset(drawn), dataset(drawn)
    epochs = [epoch_of(one) for _ in range(3)]
    assert epochs == [epoch_of(other) for _ in range(3)]
    assert len({tuple(each) for each in epochs}) == 3
    again = ArrayDataset(np.arange(N), seed=4, sampler=drawn)
    assert epoch_of(again) != epochs[0]
    told: list[int] = []
    tells = dataset(lambda rng, epoch: told.append(epoch) or rng.permutation(N))
    tells.set_epoch(7)
    list(tells)
    assert told[-1] == 7


def test_an_object_gets_rows_batch_size_seed_and_epoch() -> None:
    got = []

    class Noting:
        def order(self, rows, global_batch_size, seed, epoch):
            got.append((rows.num_samples, global_batch_size, seed, epoch))
            return every_row(rows)

    ds = dataset(Noting(), 3, shard=(0, 2))
    ds.set_epoch(5)
    list(ds)
    assert got[0] == (N, 1, 0, 0)  # looked at
    assert got[-1] == (N, 6, 3, 5)
    part, _ = dataset(Noting()).split(0.6)
    assert epoch_of(part) == part.rows_in_order().tolist()
    assert got[-1] == (part.num_samples, 6, 3, 0)


@pytest.mark.parametrize("sampler", [Reversed(), Evens(), Lazy()])
def test_on_a_part_it_chooses_from_the_rows_of_the_part(sampler: Any) -> None:
    for part in dataset(sampler).split(0.6):
        assert set(epoch_of(part)) <= set(part.rows_in_order().tolist())


def test_repeats_and_uses_batch_size_are_what_it_says_or_the_safe_guess() -> None:
    assert [Own(each).repeats for each in (drawn, Evens(), Reversed())] == [True, True, False]
    assert not any(Own(each).cuts_batches for each in (drawn, Evens(), Reversed()))
    assert [Own(each).uses_batch_size for each in (drawn, Evens(), Reversed(), BySize())] == [
        *(False, True),
        *(False, True),
    ]


def test_one_that_uses_the_batch_size_goes_on_as_it_began() -> None:
    expected = epoch_of(dataset(BySize()))
    ds = dataset(BySize(), 4)
    ds.load_state_dict(dataset(BySize()).state_dict(epoch=0, step=2))
    assert epoch_of(ds) == expected[12:]
    assert epoch_of(ds) == epoch_of(dataset(BySize(), 4))


def test_what_it_returns_is_copied() -> None:
    rows = np.arange(N)[::-1].copy()
    ds = dataset(lambda rng, epoch: rows)
    first = epoch_of(ds)
    rows[:] = 0
    ds.set_epoch(0)
    assert epoch_of(ds) == first
    assert rows.flags.writeable


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_rows_are_integers_of_any_type(dtype: str) -> None:
    assert epoch_of(dataset(lambda rng, epoch: np.arange(N, dtype=dtype))) == list(range(N))
    assert dataset(lambda rng, epoch: np.arange(N, dtype=dtype)).rows(0).dtype == np.int64
    assert epoch_of(dataset(lambda rng, epoch: list(range(5)))) == list(range(5))


def test_samplers_of_this_library_are_taken_as_they_are() -> None:
    for sampler in (Shuffle(), Balanced([0, 1])):
        assert as_sampler(sampler) is sampler
    assert isinstance(as_sampler(Reversed()), Own)
    assert isinstance(chosen_sampler(None, None), Shuffle)
    assert isinstance(chosen_sampler(True, None), Shuffle)
    assert isinstance(chosen_sampler(np.bool_(False), None), InOrder)
    assert isinstance(chosen_sampler(None, drawn), Own)


def test_the_setting_is_told_in_words() -> None:
    samplers = [Shuffle(), InOrder(), Balanced([0, 1]), Own(drawn), Own(Evens())]
    assert [order_setting(each) for each in samplers] == [
        "shuffle=True",
        "shuffle=False",
        "sampler=Balanced",
        "sampler=drawn",
        "sampler=Evens",
    ]
    assert Own(partial(drawn)).name == "partial"
    assert Own(drawn).identity == "drawn"
    assert [is_plain(each) for each in samplers] == [True, True, False, False, False]


class Longer(LengthBuckets):
    """A sampler of this library, changed."""

    def order(self, rows, global_batch_size, seed, epoch):
        order = super().order(rows, global_batch_size, seed, epoch)
        return Listed(order.rows(0, rows.num_samples)[::-1].copy())


def test_what_it_says_beside_the_order_is_heard() -> None:
    lengths = np.arange(N)
    ds = dataset(Longer(lengths, 2))
    assert ds.sampler.identity == f"Longer: {LengthBuckets(lengths, 2).identity}"
    assert ds.sampler.uses_batch_size
    assert ds.sampler.cuts_batches
    assert ds.explain(epoch=0, step=0).padding_waste == LengthBuckets(lengths).padding_waste(
        ds.rows(0)
    )
    assert refused(lambda: dataset(Longer(lengths[1:]))).startswith(
        "lengths of LengthBuckets are 19"
    )

    class Held(Reversed):
        blocks_held = (3, 5)

        def draws_long(self, rows):
            return rows.num_samples > 10

    assert Own(Held()).describe(100).rows_held == 2 * 15
    assert [Own(Held()).draws_long(WholeData(n)) for n in (10, 11)] == [False, True]
    for silent in (Own(Evens()), Own(drawn)):
        assert not silent.draws_long(WholeData(N))
        assert silent.blocks_held is silent.padding_waste(np.arange(2)) is None


def test_a_sampler_that_derives_from_one_of_ours_is_laid_along_chunks() -> None:
    class Mine(BlockShuffle):
        pass

    assert Own(Mine(blocks=2)).checked(N, 7).identity == (
        "Mine: BlockShuffle(block_rows=7, blocks=2)"
    )
    starts = np.array([0, 3, N])
    rows = Own(Mine(blocks=1)).along(starts).order(WholeData(N), 6, 0, 0).rows(0, N)
    assert set(rows[:3].tolist()) == {0, 1, 2} or set(rows[-3:].tolist()) == {0, 1, 2}
    function = Own(drawn)
    assert function.along(starts) is function


def test_what_a_class_changes_in_one_of_ours_is_kept() -> None:
    """Also where the data decide the size of a block."""

    class Backwards(BlockShuffle):
        def order(self, rows, global_batch_size, seed, epoch):
            return Listed(every_row(rows)[::-1].copy())

    assert epoch_of(dataset(Backwards())) == list(range(N))[::-1]


# --- identity ----------------------------------------------------------------------------------


def test_it_is_told_by_its_own_words_or_by_its_first_epoch() -> None:
    assert Own(Lazy()).checked(N, None).identity == "Lazy(1)"
    found = Own(Reversed()).checked(N, None)
    assert found.identity.startswith("Reversed(20 samples, ")
    assert found == Own(Reversed()).checked(N, None)
    assert found != Own(Reversed()).checked(N - 1, None)
    assert found.checked(N, None) == found
    first = drawn(rng.generator(0, rng.Purpose.SAMPLER, 0), 0)
    assert Own(drawn).checked(N, None).identity == f"drawn(20 samples, {digest(first)})"

    class OnDemand:
        def order(self, rows, global_batch_size, seed, epoch):
            return DataOrder()

    sampler = Own(OnDemand())
    for n, looked_at in ((N, N), (10**12, 2**16)):
        told = sampler.checked(n, None).identity
        assert told.endswith(f"OnDemand({n} samples, {digest(np.arange(looked_at))})")


def test_the_state_of_another_one_is_refused() -> None:
    state = dataset(drawn).state_dict()
    dataset(drawn).load_state_dict(state)
    with pytest.raises(InvalidStateError, match=r"sampler was 'drawn\(20 samples, \w+\)' and is"):
        dataset(lambda rng, epoch: rng.permutation(N)[::-1]).load_state_dict(state)


def test_it_is_sent_without_tables() -> None:
    sampler = Own(drawn).checked(N, None)
    unused = pickle.dumps(sampler)
    sampler.order(WholeData(N), 6, 0, 0)
    assert sampler.num_samples(WholeData(N)) == N
    assert pickle.dumps(sampler) == unused
    sent = pickle.loads(unused)
    assert sent == sampler
    rows = [each.order(WholeData(N), 6, 1, 2).rows(0, N) for each in (sampler, sent)]
    assert np.array_equal(*rows)


# --- what is refused ---------------------------------------------------------------------------


def refused(ask: Callable[[], Any]) -> str:
    with pytest.raises(InvalidArgumentError) as error:
        ask()
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("shuffle", "'shuffle' (str)"),
        (3, "3 (int)"),
        (np.arange(3), "ndarray of shape (3,) and dtype int64"),
    ],
)
def test_what_is_no_sampler(given: Any, told: str) -> None:
    assert refused(lambda: dataset(given)) == (
        f"sampler is {told}; expected one of keras_npbatch.samplers, an object with order(rows, "
        "global_batch_size, seed, epoch), or a function f(rng, epoch) that returns the rows of an "
        "epoch."
    )


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (lambda: [0], "()"),
        (lambda epoch: [0], "(epoch)"),
        (lambda rng, epoch, rows: [0], "(rng, epoch, rows)"),
        (lambda rng, *, epoch: [0], "(rng, *, epoch)"),
    ],
)
def test_a_function_of_something_else(function: Any, parameters: str) -> None:
    assert refused(lambda: dataset(function)) == (
        f"sampler is a function with the parameters {parameters}; expected f(rng, epoch), which "
        "returns the rows of an epoch."
    )


def test_a_function_may_take_more_and_need_no_signature() -> None:
    for function in (lambda *both: [3, 4], lambda rng, epoch, first=3: [first, 4]):
        assert epoch_of(dataset(function)) == [3, 4]
    assert isinstance(as_sampler(max), Own)
    assert isinstance(
        as_sampler(type("Without", (), {"__call__": drawn, "__signature__": 1})()), Own
    )


@pytest.mark.parametrize("kind", [Reversed, Evens, Balanced])
def test_a_class_in_place_of_an_object(kind: Any) -> None:
    name = kind.__name__
    assert refused(lambda: dataset(kind)) == (
        f"sampler is the class {name}; expected an object: {name}(...)."
    )


def test_a_shuffle_that_is_no_bool() -> None:
    for given in (1, "yes"):
        assert refused(lambda given=given: chosen_sampler(given, None)) == (
            f"shuffle is {given!r} ({type(given).__name__}); expected True (a new permutation each "
            "epoch) or False (the order of the data)."
        )
    assert refused(lambda: chosen_sampler(False, drawn)) == (
        "sampler and shuffle=False were both given; expected one of them. The sampler decides the "
        "order: shuffle=True is Shuffle(), shuffle=False is InOrder()."
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        *(
            (
                rows,
                f"the sampler f returned {told}; expected row numbers: integers of shape (samples "
                "in an epoch,).",
            )
            for rows, told in (
                (np.arange(3.0), "ndarray of shape (3,) and dtype float64"),
                (np.zeros((2, 2), int), "ndarray of shape (2, 2) and dtype int64"),
                (np.ones(N, bool), "ndarray of shape (20,) and dtype bool"),
                (np.empty(0, int), "ndarray of shape (0,) and dtype int64"),
                (None, "None (NoneType)"),
            )
        ),
        ([0, N, 3], "the sampler f gave row 20; expected rows from 0 to 19."),
        ([0, -1, N], "the sampler f gave row -1; expected rows from 0 to 19."),
    ],
)
def test_rows_that_are_none(rows: Any, message: str) -> None:
    def f(rng, epoch):
        return rows

    f.__qualname__ = "f"
    assert refused(lambda: dataset(f)) == message


def test_rows_that_are_not_in_the_part() -> None:
    def in_order(rng, epoch):
        return np.arange(N)

    in_order.__qualname__ = "f"
    message = refused(lambda: dataset(in_order).subset(np.arange(5)))
    assert message == (
        "subset of 5 rows: the sampler f gave row 5, which is not in this part of the data; "
        "expected rows that are. Write an object with order(rows, global_batch_size, seed, epoch), "
        "and choose from every_row(rows)."
    )


class Changing:
    """Gives more rows in later epochs."""

    def order(self, rows, global_batch_size, seed, epoch):
        return every_row(rows)[: 5 + epoch]


def test_epochs_of_different_lengths() -> None:
    ds = dataset(Changing())
    assert len(ds) == 1
    assert epoch_of(ds) == list(range(5))
    assert refused(lambda: list(ds)) == (
        "the sampler Changing gave 6 rows for epoch 1, seed 3 and batch size 6, and 5 for epoch 0, "
        "seed 0 and batch size 1; expected the same number always: Keras counts steps. Train on "
        "another number with a dataset of its own: fit(dataset.subset(rows))."
    )


@pytest.mark.parametrize("rows", [[0] * N, np.arange(N - 1), [*range(N), 0]])
def test_repeats_that_are_denied(rows: Any) -> None:
    class Once(Sampler):
        def order(self, *_):
            return np.array(rows)

    message = refused(lambda: dataset(Once()))
    assert message == (
        f"the sampler {Once.__qualname__} gave {len(rows)} rows, not each of the 20 rows once; "
        "expected a permutation, since its repeats is False. Say repeats = True in its class, if "
        "this is meant."
    )
    Once.repeats = True
    assert epoch_of(dataset(Once())) == np.array(rows).tolist()


def test_an_order_says_itself_how_long_it_is() -> None:
    class Half(Lazy):
        repeats = True

        def num_samples(self, rows):
            return rows.num_samples // 2

    class Plain:
        def order(self, rows, global_batch_size, seed, epoch) -> Order:
            return DataOrder()

    assert epoch_of(dataset(Half())) == list(range(N // 2))
    assert epoch_of(dataset(Plain())) == list(range(N))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 99], "the sampler {} gave row 99; expected rows from 0 to 19."),
        ([-1, 0], "the sampler {} gave row -1; expected rows from 0 to 19."),
        (
            [0, 1, 2],
            "the order of the sampler {} returned ndarray of shape (3,) and dtype int64 for "
            "positions 18 to 19; expected 2 row numbers: integers.",
        ),
        (
            [0.0, 1.5],
            "the order of the sampler {} returned ndarray of shape (2,) and dtype float64 for "
            "positions 18 to 19; expected 2 row numbers: integers.",
        ),
    ],
)
def test_what_an_order_gives_is_checked_batch_by_batch(rows: Any, message: str) -> None:
    """Not only what the first batches have."""

    class Wrong(DataOrder):
        def rows(self, start, stop):
            return np.array(rows) if start == 18 else np.arange(start, stop)

    class Gives:
        def order(self, *_):
            return Wrong()

    ds = dataset(Gives())
    assert ds[2].tolist() == list(range(12, 18))
    assert refused(lambda: ds[3]) == message.format(Gives.__qualname__)


def test_places_positions_and_times_are_those_of_its_order() -> None:
    class Gives:
        def order(self, *_):
            return Listed(np.array([3, 5, 3, 4]))

    order = Own(Gives()).order(WholeData(N), 6, 0, 0)
    assert order.places(3).tolist() == [0, 2]
    assert order.positions(np.array([4, 3, 7])).tolist() == [3, 0, -1]
    assert order.times(1, 3).tolist() == [0, 1]
    assert order.times(0, 2).tolist() == [0, 0]


def test_an_order_may_give_lists() -> None:
    class Lists(DataOrder):
        def rows(self, start, stop):
            return list(range(start, stop))

    class Gives:
        def order(self, *_):
            return Lists()

    ds = dataset(Gives())
    assert epoch_of(ds) == list(range(N))
    assert ds.locate(7) == [(1, 1)]
