"""Rules about single batches: they can be read, and have the right form and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.subject.memory import filled
from keras_npbatch.testing.subject.seen import Seen, contents
from keras_npbatch.testing.subject.subject import Subject, Unreadable

__all__ = [
    "all_batches_have_one_structure",
    "batches_have_a_form_that_keras_takes",
    "every_batch_can_be_read",
    "len_is_the_number_of_batches",
    "lengths_agree",
    "only_the_last_batch_is_short",
    "samples_beyond",
]

_FAR = 1009
"""This many epochs beyond the end, a loader that still returns a batch does so for any index."""


@rule(
    why="fit stops with this exception, perhaps after hours.",
    mend="Let dataset[i] return a batch for every i from 0 to len(dataset) - 1, and a second time "
    "in the next epoch too.",
)
def every_batch_can_be_read(subject: Subject) -> Iterator[str]:
    """Reads each batch of two epochs, in order."""
    if subject.num_batches < 1:
        yield f"len(dataset) is {subject.num_batches}: there is no batch"
        return
    try:
        for epoch in (0, 1):
            subject.epoch(epoch)
    except Unreadable as error:
        yield str(error)


@rule(
    why="Keras takes nothing else from a PyDataset; a list of samples would be many inputs.",
    mend="Return x, (x,), (x, y) or (x, y, sample_weight), each an array or a nesting of arrays "
    "(dict, tuple, list); stack single samples with np.stack.",
    after=(every_batch_can_be_read,),
)
def batches_have_a_form_that_keras_takes(subject: Subject) -> Iterator[str]:
    """Each batch has parts, and arrays in them."""
    for batch in subject.epoch(0):
        if batch.fault is not None:
            yield batch.fault
            return


@rule(
    why="A model is built for the first batch: others fail in it, are compiled for again, or are "
    "cast without a word.",
    mend="Return the same nesting, dtypes and numbers of dimensions for every batch "
    "(np.asarray(..., dtype), np.expand_dims).",
    after=(batches_have_a_form_that_keras_takes,),
)
def all_batches_have_one_structure(subject: Subject) -> Iterator[str]:
    """Nesting, dtypes and numbers of dimensions equal those of the first batch."""
    first, *others = subject.epoch(0)
    for batch in others:
        if batch.structure != first.structure:
            yield (
                f"the structure of dataset[{batch.step}] is {batch.structure}, that of dataset[0] "
                f"is {first.structure}"
            )
            return
        for one, other in zip(first.leaves, batch.leaves, strict=True):
            if one.dtype != other.dtype or len(one.shape or ()) != len(other.shape or ()):
                yield f"{one.path} is {other.told} in batch {batch.step}, {one.told} in batch 0"
                return


@rule(
    why="Keras refuses such a batch, or broadcasts it: samples meet the targets of others.",
    mend="Select x, y and sample_weight of a batch with the same indices.",
    after=(batches_have_a_form_that_keras_takes,),
)
def lengths_agree(subject: Subject) -> Iterator[str]:
    """All leaves of a batch have the same number of samples."""
    for batch in subject.epoch(0):
        first, *others = batch.leaves
        for leaf in others:
            if leaf.shape and first.shape and leaf.shape[0] != first.shape[0]:
                yield (
                    f"batch {batch.step} has {leaf.shape[0]} samples in {leaf.path}, but "
                    f"{first.shape[0]} in {first.path}"
                )
                return


@rule(
    why="Keras asks for len(dataset) batches an epoch: what lies beyond is never trained on, and "
    "an empty batch has a loss of NaN.",
    mend="Return math.ceil(num_samples / batch_size) from __len__. To leave a short batch out on "
    "purpose, let dataset[len(dataset)] raise IndexError.",
    after=(lengths_agree,),
)
def len_is_the_number_of_batches(subject: Subject) -> Iterator[str]:
    """No batch is empty, and there is none after the last."""
    for batch in subject.epoch(0):
        if batch.size == 0:
            yield f"len(dataset) is {subject.num_batches}, but batch {batch.step} has no sample"
            return
    beyond = samples_beyond(subject)
    if beyond:
        last = subject.num_batches
        yield f"len(dataset) is {last}, but dataset[{last}] is a batch too, of {beyond} samples"


def samples_beyond(subject: Subject) -> int:
    """Number of samples in `dataset[len(dataset)]` that no batch of the epoch has.

    It is 0 if the dataset returns batches for any index. A dataset that fills an array of
    `batch_size` rows does that too, but far beyond its end all its batches are equal and have no
    sample.
    """
    last = subject.num_batches
    beyond, far, farther = (
        _seen_at(subject, step) for step in (last, last * _FAR, last * _FAR + 1)
    )
    if beyond is None or far is None:
        return 0 if beyond is None else beyond.size
    if farther is None or far.digest != farther.digest or beyond.digest == far.digest:
        return 0
    known = {key for seen in subject.epoch(0) for key in contents(seen)}
    filling = set(contents(far))
    # Indices clipped to the last sample fill the batch with it: that is a sample too.
    is_sample = len(filling) == 1 and not far.blank.x.any() and filling.isdisjoint(known)
    return sum(key not in known | filling for key in contents(beyond)) + is_sample


def _seen_at(subject: Subject, step: int) -> Seen | None:
    """What was seen of a batch that may not exist; None if it does not, or is empty."""
    try:
        with filled(0, type(subject.dataset)):
            batch = subject.read(subject.at_epoch(0), step)
    except Unreadable:
        return None
    seen = subject.look_at(batch, step)
    return seen if seen.size else None


@rule(
    why="Batches of other sizes weigh their samples differently, and each new size may be compiled "
    "for again.",
    mend="Give every batch batch_size samples; the last may have the rest, or all sizes may differ "
    "by one at most.",
    after=(len_is_the_number_of_batches,),
)
def only_the_last_batch_is_short(subject: Subject) -> Iterator[str]:
    """Sizes are those of the plan; for a plain `PyDataset`, one of the usual patterns."""
    sizes = [batch.size for batch in subject.epoch(0)]
    ways = _expected_sizes(subject, sizes)
    if sizes in ways:
        return
    step = next(step for step, size in enumerate(sizes) if size != ways[0][step])
    yield f"batch {step} of {len(sizes)} has {sizes[step]} samples; expected {ways[0][step]}"


def _expected_sizes(subject: Subject, sizes: Sequence[int]) -> list[list[int]]:
    """The valid lists of batch sizes, one or several."""
    if subject.is_ours:
        plan = subject.dataset.plan
        if plan.remainder == "pad":
            return [[plan.batch_size] * plan.num_batches]
        spans = [plan.span(step) for step in range(plan.num_batches)]
        return [[stop - start for start, stop in spans]]
    first = sizes[0]
    ways = [[first] * (len(sizes) - 1) + [min(sizes[-1], first)]]
    size, larger = divmod(sum(sizes), len(sizes))
    ways.append([size + (step < larger) for step in range(len(sizes))])
    return ways
