"""The clock: where the next pass begins, and whether the user has set it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.plan.clock import Clock, Place
from keras_npbatch.plan.plan import Plan


def test_it_begins_at_the_beginning() -> None:
    clock = Clock()
    assert (clock.epoch, clock.step, clock.times_set, clock.reached) == (0, 0, 0, None)


def test_each_word_of_the_user_is_counted() -> None:
    """A session compares the number with the one it knows."""
    clock = Clock()
    counted = []
    for epoch, step in ((3, 1), (3, 1), (0, 0)):
        clock.set(Place(epoch, step))
        counted.append((clock.times_set, clock.epoch, clock.step))
    assert counted == [(1, 3, 1), (2, 3, 1), (3, 0, 0)]


def test_moving_on_is_no_word_of_the_user_and_forgets_what_was_reached() -> None:
    clock = Clock(epoch=2, step=3, reached=Place(2, 5))
    clock.move_to(Place(3))
    assert (clock.epoch, clock.step, clock.times_set, clock.reached) == (3, 0, 0, None)
    clock.reached = Place(3, 1)
    clock.set(Place(4))
    assert (clock.epoch, clock.step, clock.reached) == (4, 0, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans())))
def test_the_order_of_an_epoch_is_that_it_was_last_read_in(
    reads: list[tuple[int, bool]],
) -> None:
    """And those after it have the dataset's own, until they are read."""
    clock, expected = Clock(), [False] * 12
    for epoch, in_order in reads:
        clock.begin_pass(epoch, in_order)
        expected[epoch:] = [in_order] + [False] * (11 - epoch)
        assert [clock.copy().is_in_order(epoch) for epoch in range(12)] == expected
    assert [clock.is_in_order(epoch) for epoch in range(12)] == expected


def test_what_comes_after_a_fit_in_order_is_not() -> None:
    clock = Clock()
    for epoch in range(2):
        clock.begin_pass(epoch, in_order=True)
        clock.move_to(Place(epoch + 1))
    assert [clock.is_in_order(epoch) for epoch in range(4)] == [True, True, False, False]
    assert clock.place == Place(2)


def test_the_rest_of_an_epoch_keeps_the_order_that_it_was_begun_in() -> None:
    clock, plan = Clock(), Plan(50, batch_size=8)
    clock.set(Place(1, 3, in_order=True))
    assert clock.place == Place(1, 3, in_order=True)
    assert not clock.place.plan(plan).shuffle
    clock.set(Place(1, 3))
    assert clock.place == Place(1, 3)
    assert clock.place.plan(plan) == plan


def test_the_rest_of_an_epoch_keeps_the_batch_size_that_its_order_was_made_for() -> None:
    """The next epoch does not."""
    clock, plan = Clock(), Plan(50, batch_size=8)
    clock.set(Place(1, 2, skip=12, order_size=6))
    assert clock.place == clock.copy().place == Place(1, 2, skip=12, order_size=6)
    rest = clock.place.plan(plan)
    assert (rest.skip, rest.order_size, rest.batch_size) == (12, 6, 8)
    clock.move_to(Place(2))
    assert clock.place == Place(2)
    assert clock.place.plan(plan) == plan


def test_what_an_iteration_reached_is_forgotten_when_a_pass_begins() -> None:
    clock = Clock(reached=Place(0, 5))
    clock.begin_pass(0, in_order=False)
    assert clock.reached is None


def test_an_iteration_tells_how_far_it_has_come_in_this_epoch_or_a_later_one() -> None:
    clock = Clock(epoch=2)
    for place in (Place(2, 4), Place(3, 1)):
        clock.reach(place, clock.times_set)
        assert clock.reached == place
    clock.reach(Place(1, 9), clock.times_set)
    assert clock.reached == Place(3, 1)
    assert clock.place == Place(2)


def test_an_epoch_that_was_delivered_is_over_unless_another_iteration_is_ahead() -> None:
    clock = Clock(epoch=2, step=3, reached=Place(2, 5))
    clock.deliver(2, clock.times_set)
    assert (clock.place, clock.reached, clock.times_set) == (Place(3), None, 0)
    clock.deliver(2, clock.times_set)
    assert clock.place == Place(3)
    clock.deliver(0, clock.times_set)
    assert clock.place == Place(3)
    clock.deliver(3, clock.times_set)
    assert clock.place == Place(4)


def test_an_iteration_from_before_the_user_set_the_clock_moves_nothing() -> None:
    clock = Clock()
    began = clock.times_set
    clock.set(Place(1, 2))
    clock.reach(Place(1, 4), began)
    clock.deliver(5, began)
    assert (clock.place, clock.reached) == (Place(1, 2), None)
