"""Rules about making an epoch again: from a seed, after extra hooks, and from any step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

from keras_npbatch.testing.rules.order import (
    every_sample_comes_once,
    moved,
    need_to_be_the_same_samples,
)
from keras_npbatch.testing.rules.purity import PURE, iteration_gives_the_batches
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.rules.structure import lengths_agree, samples_beyond
from keras_npbatch.testing.rules.value import every_row_of_a_batch_is_filled
from keras_npbatch.testing.subject.subject import NotChecked, Subject

__all__ = [
    "extra_hooks_change_nothing",
    "resuming_goes_on_at_every_step",
    "the_seed_decides_the_order",
]

_FEWEST_SHUFFLED = 8
_STEPS = 50


@rule(
    why="Runs with different seeds would be one run, and a run can't be repeated from its seed.",
    mend="Hand the seed on (super().__init__(..., seed=seed)), and draw from "
    "np.random.default_rng((seed, epoch)) only.",
    after=(lengths_agree, every_row_of_a_batch_is_filled),
    steady=PURE,
)
def the_seed_decides_the_order(subject: Subject) -> Iterator[str]:
    """Equal seeds give equal batches; different seeds give different orders."""
    if subject.with_seed is None:
        raise NotChecked("it takes a function that makes the dataset: with_seed=...")
    if subject.shuffles is False:
        raise NotChecked("it does not shuffle")
    if sum(len(seen.inputs) for seen in subject.epoch(0)) < _FEWEST_SHUFFLED:
        raise NotChecked(f"there are fewer than {_FEWEST_SHUFFLED} samples")
    subject.mark(subject.epoch(0)[0])  # raises NotChecked if batches and ids change between reads
    runs = [_run_with(subject, *seeds) for seeds in ((0, 0), (0, 1), (1, 0))]
    # With noise, another rule reports this.
    if runs[0] != runs[1] and not subject.noise:
        yield "two datasets made with the same seed have different batches after other global seeds"
    elif runs[0] == runs[2]:
        yield "datasets made with the seeds 0 and 1 have the same batches in the same order"


def _run_with(subject: Subject, seed: int, global_seed: int) -> list[Hashable]:
    dataset = subject.to_epoch(subject.made_with(seed, global_seed), 1, seed=global_seed)
    return [
        subject.mark_of(subject.read(dataset, step, seed=global_seed), step)
        for step in range(min(int(dataset.num_batches), _STEPS))
    ]


@rule(
    why="Keras calls on_epoch_end before the first epoch, and twice around validation: what counts "
    "on one call an epoch miscounts.",
    mend="Let the hooks prepare the next epoch from what the dataset is, so that one call more "
    "does no harm; count nothing in them. A BatchDataset needs no hook: use self.epoch.",
    after=(lengths_agree, every_sample_comes_once),
    steady=PURE,
)
def extra_hooks_change_nothing(subject: Subject) -> Iterator[str]:
    """After hook calls like Keras's, a `BatchDataset` has equal batches, others equal samples."""
    twin = subject.copy()
    for name in ("on_epoch_end", "on_epoch_begin", "on_epoch_end", "on_epoch_end"):
        subject.call_hook(twin, name)
    subject.call_hook(twin, "on_epoch_begin")
    if int(twin.num_batches) != subject.num_batches:
        yield (
            f"after calls of on_epoch_begin and on_epoch_end there are {twin.num_batches} batches, "
            f"before there were {subject.num_batches}"
        )
        return
    now = [subject.look_at(subject.read(twin, step), step) for step in range(subject.num_batches)]
    if subject.is_ours:
        pairs = zip(now, subject.epoch(0), strict=True)
        changed = [seen.step for seen, was in pairs if subject.mark(seen) != subject.mark(was)]
        if changed:
            yield (
                f"dataset[{changed[0]}] has other contents after calls of on_epoch_begin and "
                "on_epoch_end"
            )
        return
    before, after = Counter(subject.keys(subject.known_again(0))), Counter(subject.keys(now))
    if (before - after).total() > samples_beyond(subject) or after.total() != before.total():
        need_to_be_the_same_samples(subject, before.total() + samples_beyond(subject))
        yield (
            f"of {before.total()} samples, {moved(before, after)} after calls of on_epoch_begin "
            "and on_epoch_end"
        )


@rule(
    why="A training that was interrupted repeats samples or skips them.",
    mend="Let batches depend on rows, self.epoch and rng alone, not on what was read before; leave "
    "state_dict and load_state_dict to BatchDataset.",
    after=(lengths_agree, iteration_gives_the_batches),
    steady=PURE,
)
def resuming_goes_on_at_every_step(subject: Subject) -> Iterator[str]:
    """Resumes at several steps and compares the next batch, or at a middle step all that follow."""
    if not subject.is_ours:
        raise NotChecked("a plain PyDataset can't be resumed")
    steps = subject.steps(_STEPS)
    for step in steps:
        wanted = len(steps) if step == steps[len(steps) // 2] else 1
        twin = subject.resumed(step)
        rest = zip(subject.epoch(0)[step:], twin, strict=False)
        for number, (seen, batch) in enumerate(rest):
            subject.check_time(seen.step)
            if subject.mark_of(batch, seen.step) != subject.mark(seen):
                yield (
                    f"resumed at step {step}, batch {seen.step} is not that of an epoch in one "
                    "piece"
                )
                return
            if number + 1 >= wanted:
                break
