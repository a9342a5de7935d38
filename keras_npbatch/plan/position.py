"""A position in a dataset as a small dict that JSON can hold, and back.

    state = write(fingerprint, Place(epoch=3, step=17), plan)   # {"epoch": 3, "step": 17, ...}
    read(state, fingerprint, plan)                              # Place(epoch=3, step=17, skip=0)

Since a batch is a function of (seed, epoch, step), these numbers are all there is to save. The
fingerprint is saved with them, so that a dataset with different epochs is refused. The size of the
batches may change, as when another number of processes resumes: the order of an epoch does not
depend on it, and the samples that were read are the first ones of that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidStateError, describe
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard

__all__ = ["Fingerprint", "is_of", "read", "write"]

Fingerprint: TypeAlias = dict[str, Any]
"""What decides which batches there are, by name; JSON must give the values back unchanged."""

_VERSION = 1
"""Counts the changes after which an old state would lead to different batches."""
_MOST_TOLD = 5
_SIZE = "global_batch_size"


def write(fingerprint: Fingerprint, place: Place, plan: Plan) -> dict[str, Any]:
    """The state in which the batch at `place` comes next.

    Args:
        fingerprint: of the dataset.
        place: its step may be one past the last, which means the first of the next epoch.
        plan: the plan of whole epochs.
    """
    num_batches = place.plan(plan).num_batches
    epoch = whole_number("epoch", place.epoch, least=0)
    step = whole_number("step", place.step, least=0, most=num_batches)
    if step == num_batches:
        place = Place(epoch + 1)
    numbers = place._asdict()
    for name in ("in_order", "order_size"):
        if not numbers[name]:  # the dataset's own order, which the fingerprint describes
            del numbers[name]
    return {"version": _VERSION, **numbers, "dataset": fingerprint}


def read(state: Any, fingerprint: Fingerprint, plan: Plan) -> Place:
    """The place that a state names.

    Args:
        state: what `write` returned; it is checked, since users may pass anything.
        fingerprint: of the dataset that resumes.
        plan: the plan of its whole epochs.

    Raises:
        InvalidStateError: if it is not a state of this dataset; the message says what differs.
    """
    if not isinstance(state, Mapping) or "version" not in state:
        raise InvalidStateError(
            f"the state is {describe(state)}; expected the dict that a dataset's state_dict() "
            "returned."
        )
    if state["version"] != _VERSION:
        raise InvalidStateError(
            f"the state has version {describe(state['version'])}; this keras_npbatch reads version "
            f"{_VERSION}. Load it with the keras_npbatch that wrote it, or start again."
        )
    theirs = state.get("dataset")
    if not isinstance(theirs, Mapping):
        raise InvalidStateError(
            "the state has no description of its dataset; expected the dict that a dataset's "
            "state_dict() returned, unchanged."
        )
    _compare(theirs, fingerprint)
    in_order = state.get("in_order", False)
    if not isinstance(in_order, bool):
        raise InvalidStateError(
            f"in the state, in_order is {describe(in_order)}; expected True or False."
        )
    ours = plan.in_data_order() if in_order else plan
    try:
        size = whole_number(_SIZE, theirs.get(_SIZE), least=1)
        skip = whole_number("skip", state.get("skip", 0), least=0, most=ours.epoch_size - 1)
        order_size = whole_number("order_size", state.get("order_size", 0), least=0)
        epoch = whole_number("epoch", state.get("epoch"), least=0)
        was = Place(epoch, 0, skip).plan(replace(ours, batch_size=size, shard=Shard()))
        step = whole_number("step", state.get("step"), least=0, most=was.num_batches - 1)
    except ValueError as error:
        raise InvalidStateError(f"in the state, {error}") from None
    if size == plan.global_batch_size:
        return Place(epoch, step, skip, in_order, order_size)
    samples = was.global_span(step)[0]
    if plan.sampler.uses_batch_size and not in_order:
        order_size = order_size or size
    return _place_at(Place(epoch, 0, samples, in_order, order_size if samples else 0), ours)


def is_of(state: Any, fingerprint: Fingerprint) -> bool:
    """Whether a state describes this dataset; `read` checks whether it is valid."""
    theirs = state["dataset"] if isinstance(state, Mapping) and "dataset" in state else None
    return isinstance(theirs, Mapping) and not _differences(theirs, fingerprint)


def _place_at(place: Place, plan: Plan) -> Place:
    """This place, or the next epoch if there is no batch left in this one."""
    if plan.remainder == "drop" and plan.epoch_size - place.skip < plan.global_batch_size:
        return Place(place.epoch + 1)
    return place


def _differences(theirs: Mapping[str, Any], ours: Fingerprint) -> list[str]:
    missing = object()
    return [
        f"{name} was {_described(theirs.get(name, missing), missing)} and is "
        f"{_described(ours.get(name, missing), missing)}"
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if name != _SIZE and theirs.get(name, missing) != ours.get(name, missing)
    ]


def _compare(theirs: Mapping[str, Any], ours: Fingerprint) -> None:
    differences = _differences(theirs, ours)
    if not differences:
        return
    more = len(differences) - _MOST_TOLD
    if more > 0:
        differences = [*differences[:_MOST_TOLD], f"and {more} more"]
    raise InvalidStateError(
        f"the state is of another dataset: {'; '.join(differences)}. Expected a dataset with the "
        "same data and settings as the one that wrote it: with others its batches would not go "
        "on where they ended. Make it so, the seed too, or start again."
    )


def _described(value: Any, missing: object) -> str:
    return "not there" if value is missing else repr(value)
