"""Who makes the batches: what `workers=1` means, in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.batches.facts import Facts
from keras_npbatch.batches.machine import available_bytes, cores
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.workers.choice import batches_at_once, choose, is_cheap, limits_of, most_ahead
from keras_npbatch.workers.tuning import INLINE, MOST_AHEAD, MOST_THREADS
from tests.inside import core_of

SMALL = Facts(are_gathered=True, are_arrays=True, is_in_memory=True, batch_bytes=1000)
LARGE = Facts(are_gathered=True, are_arrays=True, is_in_memory=True, batch_bytes=10**6)
ON_DISK = Facts(are_gathered=True, are_arrays=True, is_in_memory=False, batch_bytes=1000)
LOADED = Facts()

any_facts = st.builds(Facts, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 10**9))
any_settings = st.builds(
    WorkerSettings,
    workers=st.integers(0, 9),
    use_multiprocessing=st.booleans(),
    max_queue_size=st.integers(1, 50),
)


@pytest.mark.parametrize(
    ("facts", "workers", "processes", "has_time", "summarises", "expected"),
    [
        (LOADED, 0, False, False, False, "inline"),
        (LOADED, 0, True, False, True, "inline"),
        (LOADED, 1, False, False, False, "threads"),
        (LOADED, 2, True, False, False, "processes"),
        (SMALL, 1, False, False, False, "inline"),
        (SMALL, 4, False, False, False, "inline"),
        (SMALL, 4, False, False, True, "threads"),
        (SMALL, 2, True, False, False, "processes"),
        (LARGE, 1, False, False, False, "threads"),
        (LARGE, 1, False, True, False, "inline"),
        (LARGE, 1, False, True, True, "threads"),
        (LARGE, 2, False, True, False, "threads"),
        (ON_DISK, 1, False, False, False, "threads"),
    ],
)
def test_who_makes_them(
    facts: Facts, workers: int, processes: bool, has_time: bool, summarises: bool, expected: str
) -> None:
    settings = WorkerSettings(workers, processes, 10)
    chosen = choose(settings, facts, caller_has_time=has_time, summarises=summarises)
    assert chosen.kind == expected
    assert chosen.workers == (0 if expected == "inline" else workers)


@given(any_settings, any_facts, st.booleans(), st.booleans())
def test_what_holds_for_all(
    settings: WorkerSettings, facts: Facts, has_time: bool, summarises: bool
) -> None:
    chosen = choose(settings, facts, caller_has_time=has_time, summarises=summarises)
    is_sent = settings.use_multiprocessing and settings.workers > 0
    assert (chosen.kind == "processes") == is_sent
    if settings.workers == 0:
        assert chosen == INLINE
    elif summarises:
        assert chosen != INLINE
    if chosen != INLINE:
        assert 1 <= chosen.ahead <= settings.max_queue_size
    assert 1 <= most_ahead(settings, facts) <= settings.max_queue_size
    together = batches_at_once(facts)
    assert together >= 1
    if together > 1:
        assert facts.are_gathered
        assert together * facts.batch_bytes <= 256 * 1024


@pytest.mark.parametrize(
    ("facts", "processes", "without"),
    [
        (LOADED, None, {}),
        (LOADED, False, {"processes": "use_multiprocessing=False"}),
        (LOADED, True, {"threads": "use_multiprocessing=True"}),
        (
            LARGE,
            None,
            {"processes": "batches are rows of arrays, which threads copy at the same time"},
        ),
        (LARGE, True, {"threads": "use_multiprocessing=True"}),
    ],
)
def test_which_kinds_auto_may_choose(
    facts: Facts, processes: bool | None, without: dict[str, str]
) -> None:
    found = limits_of(WorkerSettings("auto", processes), facts)
    assert found.without == without
    assert found.cores == cores()
    assert found.are_gathered == (facts is LARGE)


def test_how_much_auto_may_take() -> None:
    free = limits_of(WorkerSettings("auto", has_own_queue=False), LOADED)
    assert free.most_ahead == MOST_AHEAD
    assert 0.5 < free.memory_bytes / (available_bytes() / 4) < 2  # others take some meanwhile
    own = WorkerSettings("auto", max_queue_size=40, memory_bytes=10**6)
    assert limits_of(own, LOADED).most_ahead == 40
    assert limits_of(own, LOADED).memory_bytes == 10**6
    assert limits_of(own, LOADED, in_blocks=True).most_ahead == 16  # for which chunks are kept
    assert own.most_under_way(in_blocks=True) == 16
    assert own.most_under_way() == MOST_AHEAD + MOST_THREADS
    assert WorkerSettings(3, max_queue_size=4).most_under_way() == 7


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (True, True, True, 8 * 5 * 4)),
        ({"transform": lambda batch: batch}, (False, True, True, 8 * 5 * 4)),
        ({"remainder": "pad"}, (False, True, True, 8 * 5 * 4)),
    ],
)
def test_the_facts_of_arrays(settings: dict[str, Any], expected: tuple[Any, ...]) -> None:
    from keras_npbatch.batches.array_loader import ArrayBatches

    data = ArrayBatches(np.zeros((20, 5), "float32"), batch_size=8, **settings)
    assert core_of(data).facts(data.plan) == Facts(*expected)
    assert is_cheap(core_of(data).facts(data.plan)) == expected[0]
