"""Which batch is being made here and now: for its owner, in this thread, until it is made."""

from __future__ import annotations

import threading

import pytest

from keras_npbatch.batches.making import Making, making, now_making
from keras_npbatch.plan.plan import Plan

PLAN = Plan(10, 4)


def test_a_batch_is_being_made_for_its_owner_alone() -> None:
    owner, other = object(), object()
    assert now_making(owner) is None
    batch = Making(owner, PLAN, 2, 1)
    with making(batch):
        assert now_making(owner) is batch
        assert now_making(other) is None
    assert now_making(owner) is None


def test_one_within_the_other_hides_it_and_gives_it_back() -> None:
    owner, inner = object(), object()
    outer_batch, inner_batch = Making(owner, PLAN, 0, 0), Making(inner, PLAN, 1, 1)
    with making(outer_batch):
        with making(inner_batch):
            assert now_making(inner) is inner_batch
            assert now_making(owner) is None
        assert now_making(owner) is outer_batch


def test_it_ends_with_an_exception_too() -> None:
    owner = object()
    with pytest.raises(ZeroDivisionError), making(Making(owner, PLAN, 0, 0)):
        raise ZeroDivisionError
    assert now_making(owner) is None


def test_other_threads_make_other_batches() -> None:
    owner = object()
    seen: list[Making | None] = []
    with making(Making(owner, PLAN, 0, 0)):
        thread = threading.Thread(target=lambda: seen.append(now_making(owner)))
        thread.start()
        thread.join()
    assert seen == [None]
