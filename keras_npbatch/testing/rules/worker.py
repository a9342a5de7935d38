"""Rules about worker processes: a dataset can be sent to them and makes the same batches there."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from keras_npbatch.batches.core import Core, Maker
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import UnsendableError
from keras_npbatch.testing.rules.purity import PURE
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.rules.structure import batches_have_a_form_that_keras_takes
from keras_npbatch.testing.rules.value import every_row_of_a_batch_is_filled
from keras_npbatch.testing.subject import digests
from keras_npbatch.testing.subject.subject import NotChecked, Subject, Unreadable
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.sending import Package
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.systems import this_system

__all__ = ["it_can_be_sent_to_processes", "processes_read_the_same_batches"]

_AHEAD = 4
_MOST_S_A_BATCH = 20.0
"""A worker that needs longer for one batch is ended; after three it is an error."""


@rule(
    why="Worker processes that are spawned (the default of Windows, macOS, and of Python 3.14 on "
    "Linux) get the dataset in a pickle.",
    mend="Keep no lambda, lock, open file or connection in an attribute: open files in __getitem__ "
    "or load, or leave them out in __getstate__ and open them in __setstate__.",
    after=(batches_have_a_form_that_keras_takes,),
    steady=(every_row_of_a_batch_is_filled, *PURE),
)
def it_can_be_sent_to_processes(subject: Subject) -> Iterator[str]:
    """Pickles the dataset, or a `BatchDataset` as its workers do, and compares a batch."""
    twin = subject.at_epoch(0)
    if subject.is_ours:
        try:
            with ExitStack() as opened:
                Package.of(twin, opened, this_system().new_segment)
        except UnsendableError as error:
            yield str(error)
        return
    try:
        rebuilt = pickle.loads(pickle.dumps(twin))
    except Exception as error:  # noqa: BLE001  # whatever a user's class raises when it is pickled
        yield str(Unreadable("pickle.loads(pickle.dumps(dataset))", error))
        return
    if subject.noise:
        return  # it can be pickled; its contents differ anyway
    try:
        same = digests.whole(subject.read(rebuilt, 0)) == subject.epoch(0)[0].digest
    except Unreadable as error:
        yield f"after pickle.loads(pickle.dumps(dataset)), {error}"
        return
    if not same:
        yield "after pickle.loads(pickle.dumps(dataset)), dataset[0] has other contents"


class _Wrapped(Batches):
    """A plain `PyDataset` for our worker processes, which end in time whatever it does."""

    def __init__(self, dataset: Any, num_batches: int) -> None:
        begin(self, _WrappedCore, num_batches, batch_size=1, shuffle=False, seed=0)
        self.dataset = dataset


class _WrappedCore(Core):
    """Makes batches as the dataset does, without checking them."""

    def maker(self, work: Work) -> Maker:
        return lambda epoch, step: self.owner.dataset[step]

    def calls_user_code(self, work: Work) -> bool:
        return True


@rule(
    why="With worker processes the model would be trained on other data than without.",
    mend="Let a batch depend on the dataset and the index alone: not on globals that the main "
    "program sets, environment variables, the process, or what was read before.",
    after=(it_can_be_sent_to_processes, every_row_of_a_batch_is_filled),
    steady=PURE,
)
def processes_read_the_same_batches(subject: Subject) -> Iterator[str]:
    """Reads one epoch in one worker process."""
    twin = subject.at_epoch(0)
    wrapped = twin if subject.is_ours else _Wrapped(twin, subject.num_batches)
    expected = [subject.mark(seen) for seen in subject.epoch(0)]
    limit = max(1.0, min(_MOST_S_A_BATCH, (subject.deadline - time.monotonic()) / 4))
    try:
        with Pool(wrapped, workers=1, timeout_s=limit) as pool:
            stream = ProcessStream(pool, Work(wrapped.plan), wrapped.epoch, ahead=_AHEAD)
            with closing(stream):
                for step, (mark, batch) in enumerate(zip(expected, stream, strict=True)):
                    subject.check_time(step)
                    if subject.mark_of(batch, step) != mark:
                        yield f"dataset[{step}] has other contents in a worker process"
                        return
    except NotChecked:
        raise
    except Exception as error:  # noqa: BLE001  # whatever the dataset raises
        yield str(Unreadable("reading in worker processes", error))
