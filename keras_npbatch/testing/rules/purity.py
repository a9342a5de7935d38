"""Rules about `dataset[i]` as a function of the index and the epoch, and of nothing else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keras_npbatch.testing.rules.rule import Told, rule
from keras_npbatch.testing.rules.side_effect import global_generators_are_left_as_they_are
from keras_npbatch.testing.rules.structure import batches_have_a_form_that_keras_takes
from keras_npbatch.testing.rules.value import every_row_of_a_batch_is_filled
from keras_npbatch.testing.subject import digests
from keras_npbatch.testing.subject.randomness import SEEDED_BY
from keras_npbatch.testing.subject.subject import NotChecked, Subject, Unreadable

__all__ = [
    "PURE",
    "a_batch_is_the_same_in_any_order",
    "a_batch_is_the_same_when_read_again",
    "a_kept_batch_does_not_change",
    "global_random_state_changes_nothing",
    "iteration_gives_the_batches",
    "threads_read_the_same_batches",
]

_STEPS = 8
_THREADS = 4
_OF_PYTHON = "AST constructor recursion depth mismatch"
_SWITCH_S = 1e-5
"""Interval at which threads switch, short enough to provoke races."""


@rule(
    why="Keras reads batches ahead, to build a model, and again: what a read uses up or counts is "
    "lost to training.",
    mend="Compute the batch from the index alone. Shuffle in on_epoch_end, and draw random numbers "
    "from np.random.default_rng((seed, epoch, index)); or derive from BatchDataset, whose "
    "transform(batch, rng) gets such a generator.",
    after=(batches_have_a_form_that_keras_takes, every_row_of_a_batch_is_filled),
)
def a_batch_is_the_same_when_read_again(subject: Subject) -> Iterator[str]:
    """Reads batches twice in a row."""
    twin = subject.at_epoch(0)
    for step in subject.steps(_STEPS):
        one, other = (digests.whole(subject.read(twin, step)) for _ in range(2))
        if one != other:
            yield f"dataset[{step}] had other contents when it was read a second time"
            return


@rule(
    why="With workers, and with fit(shuffle=True), Keras reads batches in another order.",
    mend="Keep nothing from one read to the next: no cursor, no iterator, no open file that is "
    "read on. Compute the batch from its index.",
    after=(a_batch_is_the_same_when_read_again,),
)
def a_batch_is_the_same_in_any_order(subject: Subject) -> Iterator[str]:
    """Reads the batches backwards."""
    twin, expected = subject.at_epoch(0), subject.epoch(0)
    for step in reversed(range(subject.num_batches)):
        if digests.whole(subject.read(twin, step)) != expected[step].digest:
            yield f"dataset[{step}] has other contents when batches are read from the last on"
            return


@rule(
    why="A queue of batches made ahead would hold the same batch many times over.",
    mend="Return arrays of their own: no buffer that the next batch is written into.",
    after=(batches_have_a_form_that_keras_takes,),
)
def a_kept_batch_does_not_change(subject: Subject) -> Iterator[str]:
    """Keeps a batch while the next one is read."""
    twin = subject.at_epoch(0)
    steps = subject.steps(_STEPS)
    for step, following in zip(steps, [*steps[1:], steps[0]], strict=True):
        if step == following:
            return  # another rule checks reading the same batch again
        batch = subject.read(twin, step)
        before = digests.whole(batch)
        subject.read(twin, following)
        if digests.whole(batch) != before:
            yield f"the arrays of dataset[{step}] changed when dataset[{following}] was read"
            return


@rule(
    why="Every model, library and worker shares these generators: the same seed gives other "
    "batches, and forked workers all draw the same numbers.",
    mend="Draw from a generator of its own: np.random.default_rng((seed, epoch, index)); or derive "
    "from BatchDataset, whose transform(batch, rng) gets one.",
    after=(a_batch_is_the_same_when_read_again,),
)
def global_random_state_changes_nothing(subject: Subject) -> Iterator[str]:
    """It changes no batch and, if the dataset has a `seed`, no order of an epoch."""
    expected = subject.epoch(0)
    twin = subject.at_epoch(0)

    def differs(step: int, only: str | None = None) -> bool:
        batch = subject.read(twin, step, seed=1, only=only)
        return digests.whole(batch) != expected[step].digest

    for step in subject.steps(_STEPS):
        if differs(step):
            used = [name for name in SEEDED_BY if differs(step, name)] or list(SEEDED_BY)
            yield (
                f"dataset[{step}] has other contents after another global seed of "
                f"{' and '.join(used)} ({', '.join(SEEDED_BY[name] for name in used)})"
            )
            return
    if getattr(subject.dataset, "seed", None) is None:
        return
    other = subject.at_epoch(1, seed=1)
    for step, batch in zip(subject.steps(_STEPS), subject.epoch(1), strict=False):
        if digests.whole(subject.read(other, step)) != subject.epoch(1)[step].digest:
            yield (
                f"dataset.seed is {subject.dataset.seed}, but batch {batch.step} of the next epoch "
                "depends on the global seeds"
            )
            return


PURE = (
    a_batch_is_the_same_when_read_again,
    a_batch_is_the_same_in_any_order,
    global_random_state_changes_nothing,
)
"""Rules that hold if a batch has the same contents at each read."""


@rule(
    why="With workers=2 or more, Keras reads from several threads at once.",
    mend="Let dataset[i] write to no attribute of the dataset and share no open file; or hold a "
    "threading.Lock while it does (and leave it out in __getstate__).",
    after=(a_kept_batch_does_not_change, every_row_of_a_batch_is_filled),
    steady=(
        *PURE,
        global_generators_are_left_as_they_are,  # threads that seed one disturb each other
    ),
)
def threads_read_the_same_batches(subject: Subject) -> Iterator[str | Told]:
    """Four threads read the same batches at once, each in a different order."""
    twin = subject.at_epoch(0)
    expected = [subject.mark(seen) for seen in subject.epoch(0)]
    steps = subject.steps(_STEPS)
    seen: list[str | Told] = []

    def read(first: int) -> None:
        for step in [*steps[first:], *steps[:first]]:
            try:
                if subject.mark_of(subject.read(twin, step), step) != expected[step]:
                    seen.append(f"dataset[{step}] has other contents when threads read at once")
            except (Unreadable, NotChecked) as error:
                seen.append(_when_threads_read(error))

    threads = [
        threading.Thread(target=read, args=(number % len(steps),), daemon=True)
        for number in range(_THREADS)
    ]
    with _frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    yield from seen[:1]


def _when_threads_read(error: Exception) -> str | Told:
    text = f"when threads read at once, {error}"
    if not isinstance(error.__cause__, SystemError) or _OF_PYTHON not in str(error.__cause__):
        return text
    return Told(
        text,
        mend="Use Python 3.11.9 or later: this is a fault of earlier ones, not of the dataset, in "
        "ast.literal_eval, which np.load calls, when several threads do "
        "(https://github.com/python/cpython/issues/106905). Until then read with one thread "
        "(workers=1) or with worker processes, or hold a lock around np.load.",
    )


@contextmanager
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@rule(
    why="fit and `for batch in dataset` read through the workers; peeking and debugging through "
    "dataset[i].",
    mend="Write load(rows) alone, or __getitem__ alone, and leave __iter__ to BatchDataset.",
    after=(threads_read_the_same_batches,),
    steady=PURE,
)
def iteration_gives_the_batches(subject: Subject) -> Iterator[str]:
    """With 0 and 2 workers, it gives `dataset[i]` in order, and then the next epoch comes."""
    if not subject.is_ours:
        raise NotChecked("Keras reads a plain PyDataset by index")
    expected = [subject.mark(seen) for seen in subject.epoch(0)]
    for workers in (0, 2):
        twin = subject.to_epoch(subject.copy(workers=workers), 0)
        epoch, step = twin.epoch, -1
        try:
            for step, batch in enumerate(twin):
                subject.check_time(step)
                if subject.mark_of(batch, step) != expected[step]:
                    yield f"iterating with workers={workers}, batch {step} is not dataset[{step}]"
                    return
        except (NotChecked, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  # whatever the dataset raises
            yield str(Unreadable(f"an iteration with workers={workers}", error))
            return
        if step + 1 != len(expected) or twin.epoch != epoch + 1:
            yield (
                f"an iteration with workers={workers} ended after {step + 1} of {len(expected)} "
                f"batches, and the next epoch is {twin.epoch}; expected {epoch + 1}"
            )
            return
