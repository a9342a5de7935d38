"""What `workers="auto"` chooses: figures in, settings out, without a clock or a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.workers.tuning import BUDGET, INLINE, MOST_AHEAD, Limits, Setting, Tuner

GB = 10**9


@dataclass
class World:
    """What batches and steps cost, as arithmetic: an ideal machine."""

    cost_s: float
    """Of a batch, made by the consumer."""
    busy: float
    """The share of it that is work."""
    locked: float
    """The share of that work for which one thread at a time holds the interpreter."""
    away_s: float
    """The consumer's own time for a step."""
    cores: int
    can_be_sent: bool = True

    def step_s(self, setting: Setting) -> float:
        """How long a step takes, once the queue is as full as it gets."""
        work_s = self.cost_s * self.busy
        if setting.kind == "inline":
            return self.cost_s + self.away_s
        at_once = min(setting.workers, setting.ahead)
        makes_s = max(self.cost_s / at_once, work_s / min(self.cores, at_once))
        if setting.kind == "threads":
            return max(self.away_s, makes_s + 50e-6, work_s * self.locked)
        return max(self.away_s, makes_s + 200e-6)

    def waited_s(self, setting: Setting) -> float:
        return self.step_s(setting) - self.away_s

    def go(self, tuner: Tuner, most: int = 10 * BUDGET) -> int:
        """Train until the tuner has settled; the number of steps that took."""
        for steps in range(most):
            if tuner.setting.kind == "processes" and not self.can_be_sent:
                tuner.refuse("processes", "UnsendableError: x is a lock")
            if tuner.settled:
                return steps
            setting = tuner.setting
            tuner.batch_bytes = tuner.batch_bytes or 1000
            tuner.note(self.waited_s(setting), self.away_s, self.cost_s * self.busy)
        raise AssertionError(f"not settled after {most} steps: {tuner.setting}")

    def best_s(self, limits: Limits) -> float:
        """The best of all fixed settings: what a search over them would find."""
        kinds = {"threads": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)}
        kinds["processes"] = tuple(n for n in kinds["threads"] if n <= 2 * self.cores)
        if not self.can_be_sent:
            del kinds["processes"]
        found = [INLINE]
        found += [
            Setting(kind, number, 2 * number)  # type: ignore[arg-type]
            for kind, numbers in kinds.items()
            if kind not in limits.without
            for number in numbers
        ]
        return min(map(self.step_s, found))


def limits(**changes: Any) -> Limits:
    return Limits(**{"cores": 4, "memory_bytes": 4 * GB, **changes})


def worlds(least_s: float = 0.01, **shares: Any) -> st.SearchStrategy[World]:
    return st.builds(
        World,
        cost_s=st.floats(least_s, 2.0),
        away_s=st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 0.1]),
        cores=st.sampled_from([1, 2, 4, 16]),
        can_be_sent=st.booleans(),
        **shares,
    )


any_world = worlds(1e-5, busy=st.floats(0.0, 1.0), locked=st.floats(0.0, 1.0))
waiting = worlds(busy=st.floats(0.0, 0.1), locked=st.just(0.0))
working = worlds(busy=st.floats(0.1, 1.0), locked=st.sampled_from([0.0, 1.0]))


@settings(max_examples=200)
@given(waiting | working)
def test_it_settles_in_time_near_the_best_of_all_settings(world: World) -> None:
    """Where batches are dear, in an ideal world; a search over a real one is in benchmarks/."""
    bounds = limits(cores=world.cores)
    tuner = Tuner(bounds)
    assert world.go(tuner) <= BUDGET
    assert world.best_s(bounds) / world.step_s(tuner.setting) >= 0.9


@given(any_world)
def test_it_is_never_slower_than_the_consumer_alone(world: World) -> None:
    tuner = Tuner(limits(cores=world.cores))
    assert world.go(tuner) <= BUDGET
    assert world.step_s(tuner.setting) <= world.step_s(INLINE)


@given(any_world, st.integers(0, 10**9), st.integers(1, 10**8), st.integers(1, MOST_AHEAD))
def test_all_that_it_tries_is_within_its_limits(
    world: World, memory_bytes: int, batch_bytes: int, most_ahead: int
) -> None:
    tuner = Tuner(limits(cores=world.cores, memory_bytes=memory_bytes, most_ahead=most_ahead))
    tuner.batch_bytes = batch_bytes
    tried = {tuner.setting}
    while not tuner.settled:
        setting = tuner.setting
        tuner.note(world.waited_s(setting), world.away_s, world.cost_s * world.busy)
        tried.add(tuner.setting)
    for kind, workers, ahead in tried - {INLINE}:
        assert 1 <= workers <= ahead <= most_ahead
        own = 32 * 2**20 * workers if kind == "processes" else 0
        assert own + (ahead + 2) * batch_bytes <= memory_bytes


PYTHON_HEAVY = World(cost_s=0.03, busy=1.0, locked=1.0, away_s=0.0, cores=2)
SLEEPING = World(cost_s=0.064, busy=0.02, locked=1.0, away_s=0.0, cores=2)
COPYING = World(cost_s=0.0003, busy=1.0, locked=0.0, away_s=0.0, cores=2)
CHEAP = World(cost_s=20e-6, busy=1.0, locked=0.0, away_s=0.0, cores=2)


@pytest.mark.parametrize(
    ("world", "kind", "workers"),
    [
        (PYTHON_HEAVY, "processes", 2),
        (SLEEPING, "threads", 64),
        (COPYING, "threads", 2),
        (CHEAP, "inline", 0),
    ],
)
def test_what_it_chooses(world: World, kind: str, workers: int) -> None:
    tuner = Tuner(limits(cores=2))
    world.go(tuner)
    assert tuner.setting[:2] == (kind, workers)


def test_what_is_out_of_the_question_is_not_tried_and_says_why() -> None:
    without = {"processes": "use_multiprocessing=False"}
    tuner = Tuner(limits(cores=2, without=without))
    assert PYTHON_HEAVY.go(tuner) < 100
    assert (tuner.setting, tuner.without) == (INLINE, without)
    tuner = Tuner(limits(cores=2))
    PYTHON_HEAVY.can_be_sent = False
    try:
        PYTHON_HEAVY.go(tuner)
    finally:
        PYTHON_HEAVY.can_be_sent = True
    assert (tuner.setting, tuner.without) == (INLINE, {"processes": "UnsendableError: x is a lock"})


def test_no_room_for_processes_is_told() -> None:
    tuner = Tuner(limits(cores=2, memory_bytes=10**7))
    tuner.batch_bytes = 10**6
    PYTHON_HEAVY.go(tuner)
    assert tuner.setting == INLINE
    assert tuner.without == {"processes": "memory_limit leaves 10 MB, and a batch takes 1.0 MB"}


def test_a_kind_that_fails_once_it_was_chosen_is_replaced() -> None:
    world = World(cost_s=0.003, busy=1.0, locked=0.0, away_s=0.0, cores=2)
    tuner = Tuner(limits(cores=2))
    world.go(tuner)
    assert tuner.setting.kind == "threads"
    tuner.refuse("threads", "ProgrammingError: used in another thread")
    assert not tuner.settled
    assert tuner.setting == INLINE
    world.go(tuner)
    assert tuner.setting.kind == "processes"
    tuner.refuse("threads", "again")
    assert tuner.settled
    assert tuner.without == {"threads": "ProgrammingError: used in another thread"}


@given(st.lists(st.floats(0.51, 1.99), max_size=200))
def test_it_stays_while_steps_change_by_less_than_a_factor(windows: list[float]) -> None:
    tuner = Tuner(limits(cores=2))
    COPYING.go(tuner)
    usual_s = COPYING.step_s(tuner.setting)
    tuner.watch(usual_s)
    for factor in windows:
        tuner.watch(factor * usual_s)
        assert tuner.settled


@pytest.mark.parametrize("factor", [0.45, 2.2])
def test_it_begins_again_when_steps_change_by_a_factor_for_long(factor: float) -> None:
    tuner = Tuner(limits(cores=2))
    strikes = 2
    for _ in range(3):
        COPYING.go(tuner)
        usual_s = COPYING.step_s(tuner.setting)
        tuner.watch(usual_s)
        for _ in range(strikes - 1):
            tuner.watch(factor * usual_s)
        tuner.watch(usual_s)  # once as before, and it has to be so from the beginning
        for _ in range(strikes - 1):
            tuner.watch(factor * usual_s)
        assert tuner.settled
        tuner.watch(factor * usual_s)
        assert not tuner.settled
        strikes *= 2


def test_it_begins_again_when_the_steps_of_its_trial_were_lucky_ones() -> None:
    tuner = Tuner(limits(cores=2))
    for _ in range(8):  # of batches of which most take 50 ms
        tuner.note(waited_s=0.001, away_s=0.0)
    while not tuner.settled:
        tuner.note(waited_s=0.01, away_s=0.0)
    assert tuner.setting == INLINE
    for _ in range(2):
        assert tuner.settled
        tuner.watch(SLEEPING.step_s(INLINE))
    assert not tuner.settled
    SLEEPING.go(tuner)
    assert tuner.setting.workers == 64


def test_it_finds_what_is_best_when_batches_become_dear() -> None:
    tuner = Tuner(limits(cores=2))
    CHEAP.go(tuner)
    tuner.watch(CHEAP.step_s(tuner.setting))
    for _ in range(2):
        tuner.watch(SLEEPING.step_s(tuner.setting))
    assert not tuner.settled
    assert SLEEPING.go(tuner) <= BUDGET
    assert tuner.setting.workers == 64


def test_steps_are_watched_in_windows_that_are_neither_short_nor_endless() -> None:
    tuner = Tuner(limits(cores=2))
    CHEAP.go(tuner)
    assert tuner.window == 2500
    slow = World(cost_s=1.0, busy=1.0, locked=1.0, away_s=1.0, cores=1)
    slow.go(tuner := Tuner(limits(cores=1)))
    assert tuner.window == 32


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (INLINE, "inline"),
        (Setting("threads", 1, 1), "1 thread, 1 batch ahead"),
        (Setting("processes", 1, 2), "1 process, 2 batches ahead"),
        (Setting("processes", 2, 4), "2 processes, 4 batches ahead"),
    ],
)
def test_a_setting_in_words(setting: Setting, words: str) -> None:
    assert str(setting) == words


def test_processes_that_do_not_start_are_not_waited_for_long() -> None:
    tuner = Tuner(limits(cores=2))
    while tuner.setting.kind != "processes":
        tuner.note(PYTHON_HEAVY.waited_s(tuner.setting), 0.0, PYTHON_HEAVY.cost_s)
    waits = 0
    while tuner.note_starting():
        waits += 1
    assert waits == 40
