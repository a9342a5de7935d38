"""The clock: where the next pass begins, and whether the user has set it."""

from __future__ import annotations

from keras_npbatch.clock import Clock


def test_it_begins_at_the_beginning() -> None:
    clock = Clock()
    assert (clock.epoch, clock.step, clock.times_set, clock.reached) == (0, 0, 0, None)


def test_each_word_of_the_user_is_counted() -> None:
    """A session compares the number with the one it knows."""
    clock = Clock()
    counted = []
    for epoch, step in ((3, 1), (3, 1), (0, 0)):
        clock.set(epoch, step)
        counted.append((clock.times_set, clock.epoch, clock.step))
    assert counted == [(1, 3, 1), (2, 3, 1), (3, 0, 0)]


def test_moving_on_is_no_word_of_the_user_and_forgets_what_was_reached() -> None:
    clock = Clock(epoch=2, step=3, reached=(2, 5))
    clock.move_to(3)
    assert (clock.epoch, clock.step, clock.times_set, clock.reached) == (3, 0, 0, None)
    clock.reached = 3, 1
    clock.set(4)
    assert (clock.epoch, clock.step, clock.reached) == (4, 0, None)
