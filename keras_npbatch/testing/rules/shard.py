"""The rule about processes that train together: each reads its part of every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.making import Making, making
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard
from keras_npbatch.testing.rules.order import (
    every_sample_comes_once,
    load_returns_the_rows_it_is_asked_for,
)
from keras_npbatch.testing.rules.purity import PURE
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.subject.seen import Seen, see
from keras_npbatch.testing.subject.subject import NotChecked, Subject

__all__ = ["shards_make_up_the_epoch"]

_MOST_SHARDS = 8


@rule(
    why="Of processes that train together each would train on samples that others have too, and "
    "on others none would.",
    mend="Read the rows that load(rows) is given, or self.rows(index) in __getitem__: they are "
    "those of the shard. Don't compute rows from the index or batch_size.",
    after=(every_sample_comes_once, load_returns_the_rows_it_is_asked_for),
    steady=PURE,
)
def shards_make_up_the_epoch(subject: Subject) -> Iterator[str]:
    """All shards together read the samples that one process reads, each once."""
    if not subject.is_ours:
        raise NotChecked("a plain PyDataset has no shards")
    plan: Plan = subject.dataset.plan
    whole = plan.of_shard(Shard())
    shards = [plan.shard.count, *range(2, _MOST_SHARDS + 1)]
    count = next((n for n in shards if n > 1 and whole.batch_size % n == 0), None)
    if count is None:
        raise NotChecked(f"its batches of {whole.batch_size} can't be divided among processes")
    twin = subject.copy()
    core = core_of(twin)
    with making(Making(core, core.plan, core.epoch, 0)):  # as in a worker: it may ask for rows
        subject.read(twin, 0)
    if core.makes_whole_batches and not core.asked_for_rows and plan.shard.count == 1:
        raise NotChecked("it does without rows, so it can't be divided among processes")
    subject.known_again(0)  # raises NotChecked if samples can't be recognised
    batches = [_seen(subject, whole)]
    batches += [_seen(subject, whole.of_shard(Shard(index, count))) for index in range(count)]
    expected, *parts = (Counter(subject.keys(seen)) for seen in batches)
    found: Counter[Hashable] = sum(parts, Counter())
    if expected == found:
        return
    subject.need_equal_widths(*batches)
    if 2 * (expected & found).total() < expected.total():
        raise NotChecked(
            "the contents of the samples differ from batch to batch, so none is known again; tell "
            "which sample is which: sample_id=..."
        )
    yield (
        f"of {expected.total()} samples in batches of {whole.batch_size}, {count} shards in "
        f"batches of {whole.batch_size // count} together had {(expected - found).total()} less "
        f"often and {(found - expected).total()} more often"
    )


def _seen(subject: Subject, plan: Plan) -> list[Seen]:
    """The batches of an epoch of a plan, untransformed unless the user gave `sample_id`."""
    twin = subject.copy(finished=subject.sample_id is not None)
    core = core_of(twin)
    core.plan, core.is_part = plan, True
    seen: list[Seen] = []
    for step in range(plan.num_batches):
        start, stop = plan.span(step)
        if start < stop:
            batch = subject.read(twin, step)
            seen.append(see(batch, step, stop - start, subject.sample_id))
    return seen
