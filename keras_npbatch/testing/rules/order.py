"""Rules about epochs: which samples an epoch has, and in which order."""

from __future__ import annotations

import itertools
import operator
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from keras_npbatch.batches.core import core_of
from keras_npbatch.testing.rules.purity import PURE
from keras_npbatch.testing.rules.rule import Told, rule
from keras_npbatch.testing.rules.structure import lengths_agree, samples_beyond
from keras_npbatch.testing.rules.value import every_row_of_a_batch_is_filled
from keras_npbatch.testing.subject import digests
from keras_npbatch.testing.subject.randomness import seed_all
from keras_npbatch.testing.subject.seen import Seen, contents
from keras_npbatch.testing.subject.subject import NotChecked, Subject, Unreadable
from keras_npbatch.tree import leaves

__all__ = [
    "batches_differ",
    "every_sample_comes_once",
    "load_returns_the_rows_it_is_asked_for",
    "moved",
    "need_to_be_the_same_samples",
    "samples_keep_their_targets",
    "shuffling_changes_the_order",
]

_FEWEST_SHUFFLED = 8
"""With fewer samples, two epochs have the same order by chance now and then."""
_EPOCHS = 6
_FEWEST_BATCHES = 3
"""With fewer batches in an epoch, changing contents and lost samples look alike."""
_ROWS = 16


@rule(
    why="An epoch would train on a few samples, again and again, and never on the others.",
    mend="Select the samples of a batch by its index, rows[index * batch_size:(index + 1) * "
    "batch_size], or by the rows that load(rows) is given. If the data are so, tell which sample "
    "is which: sample_id=...",
    after=(lengths_agree, every_row_of_a_batch_is_filled),
    steady=PURE,
)
def batches_differ(subject: Subject) -> Iterator[str]:
    """Not all batches are the same, and most differ from the one before."""
    if subject.reads_arrays:
        return
    batches = [_samples_of(subject, seen) for seen in subject.known_again(0)]
    # The few samples of a shorter batch may be the first of the one before by chance.
    pairs = [
        (one, next_one)
        for one, next_one in itertools.pairwise(batches)
        if len(one) == len(next_one)
    ]
    alike = sum(all(map(operator.eq, one, next_one)) for one, next_one in pairs)
    if not pairs or 2 * alike < len(pairs):
        return
    count, kinds = sum(map(len, batches)), len(set(itertools.chain(*batches)))
    if kinds == 1 and count >= _FEWEST_SHUFFLED:
        yield f"all {count} samples of an epoch are one and the same"
    elif len(set(batches[0])) > 1 and alike == len(pairs):
        yield f"all {len(batches)} batches hold the same samples: {kinds} different ones"
    elif len(set(batches[0])) > 1:
        yield f"{alike} of {len(batches)} batches hold the same samples as the batch before"


def _samples_of(subject: Subject, seen: Seen) -> list[Hashable]:
    return list(contents(seen)) if subject.sample_id is None else subject.keys([seen])


@rule(
    why="What is left out is never learned; what is repeated weighs double.",
    mend="Let the batches of an epoch be slices of one permutation of all samples: "
    "order[i * batch_size:(i + 1) * batch_size], without wrapping round at its end.",
    after=(lengths_agree, every_row_of_a_batch_is_filled, batches_differ),
    steady=PURE,
)
def every_sample_comes_once(subject: Subject) -> Iterator[str]:
    """By the user's ids, which must all differ; otherwise by comparing the inputs of two epochs."""
    count = sum(len(seen.inputs) for seen in subject.epoch(0))
    beyond = samples_beyond(subject)  # another rule reports them
    if subject.num_samples not in (None, count, count + beyond):
        yield f"{count} samples came in an epoch; expected {subject.num_samples}"
        return
    if subject.sample_id is not None and not subject.repeats_rows:
        for number in (0, 1):
            key, times = Counter(subject.keys(subject.known_again(number))).most_common(1)[0]
            if times > 1:
                yield f"sample {key} came {times} times in epoch {number}"
                return
    if subject.repeats_rows:
        yield from _wrong_rows(subject)
        return
    here, there = (Counter(subject.keys(subject.known_again(number))) for number in (0, 1))
    if (here - there).total() > subject.left_out + beyond:
        need_to_be_the_same_samples(subject, count + beyond)
        yield f"of {count} samples, {moved(here, there)} in the next epoch"
        return
    if subject.num_samples is None and subject.sample_id is None:
        raise NotChecked(
            f"whether the {count} samples of an epoch are all there are, and no two the same one: "
            "give num_samples= or sample_id="
        )


def _wrong_rows(subject: Subject) -> Iterator[str]:
    """Of a sampler that repeats rows: a row has one and the same sample wherever it comes."""
    known: dict[int, Hashable] = {}
    subject.need_equal_widths(*(subject.known_again(number) for number in (0, 1)))
    for number in (0, 1):
        keys = subject.keys(subject.known_again(number))
        rows = subject.rows_of(number)
        if len(keys) != len(rows):
            yield f"{len(keys)} samples came in epoch {number}; expected {len(rows)}"
            return
        for row, key in zip(rows, keys, strict=True):
            if known.setdefault(row, key) != key:
                yield f"row {row} came with two different samples"
                return


def need_to_be_the_same_samples(subject: Subject, count: int) -> None:
    """Check that contents missing in the next epoch are lost samples, not changed ones.

    If a loader flips or crops some samples, others in each epoch, the number of different contents
    grows with every epoch, beyond that of a loader that leaves out a part of a batch. In an epoch
    of few batches that part is so large that chance alone makes the two look alike.

    Raises:
        NotChecked: if samples are identified by contents and these seem to change.
    """
    if subject.sample_id is not None:
        return
    epochs = [subject.known_again(number) for number in range(_EPOCHS)]
    subject.need_equal_widths(*epochs)
    keys = [subject.keys(epoch) for epoch in epochs]
    size = max(seen.size for seen in epochs[0])
    most = subject.num_samples or (count + size - 1 if count >= _FEWEST_BATCHES * size else count)
    if len(set().union(*keys)) > max(most, len(set(keys[0])) + subject.left_out):
        raise NotChecked(
            "the contents of some samples differ from epoch to epoch, so not all are known again; "
            "tell which sample is which: sample_id=..."
        )


def moved(here: Counter[Any], there: Counter[Any]) -> str:
    """How many samples came less often and more often, as text."""
    return f"{(here - there).total()} came less often and {(there - here).total()} more often"


@rule(
    why="A model can't learn what has nothing to do with its input; the loss stays at chance.",
    mend="Select x, y and sample_weight of a batch with one and the same index array, and shuffle "
    "that alone.",
    after=(lengths_agree, every_row_of_a_batch_is_filled),
    steady=PURE,
)
def samples_keep_their_targets(subject: Subject) -> Iterator[str]:
    """An input has the same target in the next epoch, and ids from several parts agree."""
    for seen in subject.epoch(0):
        for position, key in enumerate(seen.ids):
            if isinstance(key, tuple) and len(set(key)) > 1:
                yield (
                    f"sample_id(batch) tells {key} for sample {position} of batch {seen.step}: "
                    "parts of one sample come from different ones"
                )
                return
    of_epoch: list[dict[bytes, Counter[bytes]]] = []
    for number in (0, 1):
        targets: dict[bytes, Counter[bytes]] = defaultdict(Counter)
        for seen in subject.contents(number):
            for x, y in zip(seen.inputs, seen.targets, strict=True):
                targets[x][y] += 1
        of_epoch.append(targets)
    here, there = of_epoch
    gone = Counter({x: _moved_of(here[x], there[x]) for x in here.keys() & there.keys()})
    # Of samples with equal inputs, each epoch may leave out a different one.
    if gone.total() > subject.left_out + samples_beyond(subject):
        subject.need_equal_widths(subject.contents(0), subject.contents(1))
        yield f"{len(+gone)} of {len(here)} inputs have other targets in the next epoch"


def _moved_of(here: Counter[bytes], there: Counter[bytes]) -> int:
    """Targets of an input that the next epoch lacks, except because the input is rarer there."""
    return (here - there).total() - max(0, here.total() - there.total())


@rule(
    why="The rows of a batch are what the order, the resume and every look-up by row rely on.",
    mend="Return one sample for each of `rows`, in their order: self.x[rows]. Where storage wants "
    "increasing indices, put the samples back: order = np.argsort(rows); "
    "out[order] = read(rows[order]).",
    after=(
        lengths_agree,
        every_row_of_a_batch_is_filled,
        batches_differ,
        samples_keep_their_targets,
    ),
    steady=PURE,
)
def load_returns_the_rows_it_is_asked_for(subject: Subject) -> Iterator[str]:
    """Asked for rows in another order, or for fewer rows, `load` returns the same samples."""
    if not subject.is_ours or core_of(subject.dataset).makes_whole_batches:
        raise NotChecked("the dataset has no load(rows)")
    twin = subject.at_epoch(0)
    if subject.reads_arrays:
        return
    if core_of(twin).load_draws:
        raise NotChecked("load(rows, rng) draws other numbers for rows in another order")
    subject.need_steady_contents()
    positions = np.unique(np.linspace(0, twin.num_samples - 1, _ROWS).astype(np.int64))
    order = twin.plan.in_data_order().order(0)
    some = np.concatenate([order.rows(position, position + 1) for position in positions])
    asked = [some, some[::-1].copy(), np.roll(some, 3), some[: len(some) // 2 + 1]]
    known: dict[Hashable, bytes] = {}
    for rows in asked:
        seed_all(0)
        try:
            batch = core_of(twin).collated(twin.load)(rows)
        except Exception as error:  # noqa: BLE001  # whatever the dataset raises
            yield str(Unreadable(f"load({rows.tolist()})", error))
            return
        # A sample padded to the longest of other rows is a different array.
        widths = tuple(np.shape(leaf)[1:] for leaf in leaves(batch))
        for row, key in zip(rows.tolist(), digests.samples(batch, len(rows)), strict=True):
            if known.setdefault((row, widths), key) != key:
                yield f"load({rows.tolist()}) returned another sample for row {row} than before"
                return


@rule(
    why="The same batches in every epoch: gradients repeat their bias, and BatchNormalization "
    "learns the batches.",
    mend="Shuffle the indices in on_epoch_end; or derive from BatchDataset and read "
    "self.rows(index), or write load(rows).",
    after=(lengths_agree, batches_differ, load_returns_the_rows_it_is_asked_for),
    steady=PURE,
)
def shuffling_changes_the_order(subject: Subject) -> Iterator[str | Told]:
    """The order of samples differs between epochs exactly if the dataset says that it shuffles."""
    here, there = (subject.keys(subject.known_again(number)) for number in (0, 1))
    if len(set(here)) < _FEWEST_SHUFFLED:
        raise NotChecked(f"there are fewer than {_FEWEST_SHUFFLED} different samples")
    if subject.shuffles and here == there:
        yield "it shuffles, but two epochs had all samples in the same order"
    elif subject.shuffles is False and here != there:
        yield "it does not shuffle, but two epochs had samples in different orders"
    elif _is_in_data_order(subject, here, there):
        yield Told(
            "the first epoch of a new dataset is in the order of the data; later ones are shuffled",
            why="Where data are sorted, say by class, the first epoch trains on one class after "
            "another. Some versions of fit call on_epoch_end before it, others don't.",
            mend="Shuffle in __init__ too: call self.on_epoch_end() as its last line.",
            is_fault=False,
        )
    if subject.shuffles is None:
        raise NotChecked("whether it shuffles is not known; tell: shuffles=True or False")


def _is_in_data_order(subject: Subject, here: list[Any], there: list[Any]) -> bool:
    """Whether ids, or the values of an attribute, are increasing now and not in the next epoch."""
    if subject.is_ours:
        return False
    if subject.sample_id is not None:
        return here == sorted(here) and there != sorted(there)
    now, later = (vars(subject.at_epoch(number)) for number in (0, 1))
    return any(
        _counts_up(value) and np.size(later.get(name)) == len(value) and not _counts_up(later[name])
        for name, value in now.items()
    )


def _counts_up(value: Any) -> bool:
    """Whether it is an array or list of consecutive increasing integers."""
    if not isinstance(value, np.ndarray | list) or len(value) < _FEWEST_SHUFFLED:
        return False
    array = np.asarray(value)
    return array.dtype.kind in "iu" and array.ndim == 1 and bool((np.diff(array) == 1).all())
