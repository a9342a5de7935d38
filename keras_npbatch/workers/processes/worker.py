"""What a worker process does: receive the dataset, then make batches, one after another.

Parent and worker share one socket that keeps messages apart (SOCK_SEQPACKET), each at most
`MESSAGE_BYTES` long:

    parent  ->  worker    Hello, with the segments of the dataset and of the board; then Tasks
    worker  ->  parent    Extent, with its segment: shared memory that will hold batches
                          Made, or Failed: the answer to a task, in the order of the tasks

The worker writes into slots of its own extents and lends them to the parent. A slot is free again
when the parent has given it back (in a later task) and nothing in the worker refers to it either.

On the board, which all workers of a pool share, each worker writes the number of its current task.
So if a worker dies, the parent knows which batch it was making.

A worker ends when the socket is closed, or when the training process is gone, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from keras_npbatch.batches.core import Maker, core_of
from keras_npbatch.batches.slots import Slot, Slots
from keras_npbatch.workers.processes import (
    failures,
    lifeline,
    packing,
    sending,
    stand_ins,
    work_sent,
)
from keras_npbatch.workers.processes import seeding as randomness
from keras_npbatch.workers.processes.memory import Arena, map_segment

__all__ = [
    "BOARD_BYTES",
    "IDLE",
    "MESSAGE_BYTES",
    "STARTING",
    "Extent",
    "Failed",
    "Hello",
    "Made",
    "Place",
    "Task",
    "main",
    "main_of_fork",
    "survive_interrupts",
    "wait_for",
]

MESSAGE_BYTES = 64 * 1024
_LONGEST_INSIDE = 32 * 1024
"""Anything longer goes through shared memory."""

STARTING = -1
"""On the board: the worker has not unpacked the dataset yet."""
IDLE = -2
"""On the board: the worker has no task."""

BOARD_BYTES = 16
"""Bytes per worker on the board: its current task, and when it began its last (int64 each)."""


@dataclass(slots=True)
class Hello:
    """The first message to a worker."""

    index: int
    """Its row of the board."""
    dataset_bytes: int
    """Size of the first segment."""
    board_bytes: int
    """Size of the second."""


@dataclass(slots=True)
class Task:
    """To a worker: make a batch."""

    number: int
    """The number of the task, unique within a pool."""
    work: bytes
    """How the batch is made; see `work_sent`."""
    epoch: int
    step: int
    returned: list[int] = field(default_factory=list)
    """Slots that the parent gives back, by the numbers that the worker gave them."""


@dataclass(slots=True)
class Extent:
    """From a worker: memory that will hold batches."""

    num_bytes: int


@dataclass(slots=True)
class Place:
    """Where lent memory is."""

    lent: int
    """The number under which it is given back."""
    extent: int
    """The number of the extent, in the order in which they were announced."""
    start: int
    stop: int


@dataclass(slots=True)
class Made:
    """From a worker: a batch."""

    number: int
    """The number of the task."""
    message: bytes | None
    """The input of `packing.unpack`; None if it is in the last of the places."""
    places: list[Place]


@dataclass(slots=True)
class Failed:
    """From a worker: an exception."""

    number: int
    """The number of the task; `STARTING` if the dataset could not be unpacked."""
    message: bytes | None
    """The input of `failures.restore`; None if it is in the only one of the places."""
    places: list[Place]


def main(descriptor: int, reader: int, parent: int) -> NoReturn:
    """Run a worker in a new interpreter, to its end; see `main_of_fork`."""
    main_of_fork(socket.socket(fileno=descriptor), reader, os.pidfd_open(parent))


def main_of_fork(end: socket.socket, reader: int, trainer: int) -> NoReturn:
    """Run a worker in a forked process, to its end; no exit handler of the parent runs.

    Args:
        end: the worker's end of the socket.
        reader: the worker's end of the lifeline.
        trainer: a pidfd of the process that it works for.
    """
    code = 1
    try:
        survive_interrupts()
        lifeline.hold(reader)
        # For where the lifeline fails: in a sandbox, or kept open by a fork that C code made.
        with contextlib.suppress(RuntimeError):  # the user may have no more threads
            threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()
        _Worker(end).run()
        code = 0
    except (BrokenPipeError, ConnectionResetError):  # the parent is gone
        code = 0
    except BaseException:  # noqa: BLE001  # printed to standard error, as Python does
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # even if that fails: the frames above belong to the process this is a fork of
            os._exit(code)


def survive_interrupts() -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal: the parent ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, waiting for a child fails
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see process.interrupts_blocked


def wait_for(end: socket.socket, trainer: int) -> bool:
    """Wait for a message; False if the process behind the pidfd has ended."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(trainer, select.POLLIN)
    return trainer not in {number for number, _ in poll.poll()}


def _end_with(trainer: int) -> None:
    poll = select.poll()
    poll.register(trainer, select.POLLIN)
    poll.poll()
    os._exit(1)


class _Worker:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._inbox: deque[Task] = deque()
        self._arena = Arena(self._announce)
        self._slots = Slots(self._arena)
        self._lent: dict[int, Slot] = {}
        self._times_lent = 0
        self._makers: dict[bytes, tuple[Maker, int | None]] = {}

    def run(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._end, MESSAGE_BYTES, 2)
        if not message:
            return
        hello: Hello = pickle.loads(message)
        dataset, board = descriptors
        try:
            everyone = map_segment(board, hello.board_bytes).view(np.int64).reshape(-1, 2)
            self._board = everyone[hello.index]
            stand_ins.install()
            self._dataset = sending.unpack(dataset, hello.dataset_bytes)
            self._core = core_of(self._dataset)
            self._core.use_slots(self._slots)
        except BaseException as error:  # noqa: BLE001  # the parent gets it, whatever it is
            error.add_note("keras_npbatch: raised while a worker process unpacked the dataset")
            self._end.send(self._failed(STARTING, error))
            return
        self._board[1] = time.monotonic_ns()
        self._board[0] = IDLE
        for descriptor in descriptors:
            os.close(descriptor)
        while (task := self._next_task()) is not None:
            self._do(task)
            del task

    def _next_task(self) -> Task | None:
        # Reads all waiting messages at once, since they say which slots have become free.
        while not self._inbox or self._poll.poll(0):
            message = self._end.recv(MESSAGE_BYTES)
            if not message:
                return None
            task = pickle.loads(message)
            for number in task.returned:
                del self._lent[number]
            self._inbox.append(task)
        return self._inbox.popleft()

    def _do(self, task: Task) -> None:
        self._board[1] = time.monotonic_ns()  # the same clock in all processes of the machine
        self._board[0] = task.number
        try:
            maker, seed = self._maker(task.work)
            if seed is not None:
                randomness.seed_all(seed, task.epoch, task.step)
            batch = maker(task.epoch, task.step)
            answer = self._made(task.number, batch)
        except BaseException as error:  # noqa: BLE001  # the parent gets it, whatever it is
            answer = self._failed(task.number, error)
        self._end.send(answer)
        self._board[0] = IDLE

    def _maker(self, data: bytes) -> tuple[Maker, int | None]:
        """What makes batches, and the seed for the user's code, if it calls any."""
        if data not in self._makers:
            work = work_sent.load(data, self._core.plan)
            seed = work.plan.seed if self._core.calls_user_code(work) else None
            self._makers[data] = self._core.maker(work), seed
        return self._makers[data]

    def _made(self, number: int, batch: Any) -> bytes:
        answer = self._answer(Made, number, *packing.pack(batch, self._lend))
        if len(answer) <= MESSAGE_BYTES:
            return answer
        # A thousand large arrays: the list of their places is too long, so all go as one.
        return self._answer(Made, number, packing.pack_as_one(batch), [])

    def _failed(self, number: int, error: BaseException) -> bytes:
        return self._answer(Failed, number, failures.dump(error), [])

    def _answer(
        self, kind: type[Made | Failed], number: int, message: bytes, memories: list[Slot]
    ) -> bytes:
        inside: bytes | None = message
        if len(message) > _LONGEST_INSIDE:
            memories = [*memories, self._lend(np.frombuffer(message, np.uint8))]
            inside = None
        places = [self._place(memory) for memory in memories]
        answer = pickle.dumps(kind(number, inside, places))
        if len(answer) > MESSAGE_BYTES:  # it won't be sent, so nothing is lent
            for place in places:
                del self._lent[place.lent]
        return answer

    def _lend(self, memory: Slot) -> Slot:
        if self._find(memory) is not None:
            return memory
        size = memory.nbytes
        copy: Slot = self._slots.lease_bytes(size)[:size]
        copy[...] = memory
        return copy

    def _place(self, memory: Slot) -> Place:
        found = self._find(memory)
        assert found is not None
        extent, start = found
        number = self._times_lent
        self._times_lent += 1
        self._lent[number] = memory
        return Place(number, extent, start, start + memory.nbytes)

    def _find(self, memory: Slot) -> tuple[int, int] | None:
        return self._arena.find(memory.__array_interface__["data"][0])

    def _announce(self, descriptor: int, num_bytes: int) -> None:
        socket.send_fds(self._end, [pickle.dumps(Extent(num_bytes))], [descriptor])
        os.close(descriptor)
