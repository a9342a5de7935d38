"""What a worker process does: receive the dataset, then make batches, one after another.

    worker.run(begin)      # begin() returns the `Line` to the parent; see `system` and `messages`

The worker writes into slots of its own extents and lends them to the parent. A slot is free again
when the parent has given it back (in a later task) and nothing in the worker refers to it either.

A worker ends when its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from keras_npbatch.batches.core import Maker, core_of
from keras_npbatch.batches.slots import Slot, Slots
from keras_npbatch.workers.processes import (
    failures,
    interrupts,
    packing,
    sending,
    stand_ins,
    work_sent,
)
from keras_npbatch.workers.processes import seeding as randomness
from keras_npbatch.workers.processes.arena import Arena
from keras_npbatch.workers.processes.messages import (
    IDLE,
    MESSAGE_BYTES,
    STARTING,
    Failed,
    Made,
    Place,
    Task,
)
from keras_npbatch.workers.processes.system import Line

__all__ = ["run"]

_LONGEST_INSIDE = 32 * 1024
"""Anything longer goes through shared memory."""


def run(begin: Callable[[], Line], end: Callable[[int], NoReturn] = os._exit) -> NoReturn:
    """Run a worker in this process, to its end; no exit handler runs.

    Args:
        begin: returns the line to the parent; called when Ctrl-C is ignored.
        end: ends the process, with this exit code.
    """
    code = 1
    try:
        interrupts.survive()
        _Worker(begin()).run()
        code = 0
    except ConnectionError:  # the parent is gone
        code = 0
    except BaseException:  # noqa: BLE001  # printed to standard error, as Python does
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:  # even if that fails: the frames above may belong to what this is a fork of
            end(code)


class _Worker:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._inbox: deque[Task] = deque()
        self._arena = Arena(line.new_extent, line.check_available)
        self._slots = Slots(self._arena)
        self._lent: dict[int, Slot] = {}
        self._times_lent = 0
        self._pass_number = 0
        self._makers: dict[bytes, tuple[Maker, int | None]] = {}

    def run(self) -> None:
        hello = self._line.hello()
        if hello is None:
            return
        try:
            everyone = self._line.map_board().view(np.int64).reshape(-1, 2)
            self._board = everyone[hello.index]
            stand_ins.install()
            self._dataset = sending.unpack(self._line.map_dataset())
            self._core = core_of(self._dataset)
            self._core.use_slots(self._slots)
        except BaseException as error:  # noqa: BLE001  # the parent gets it, whatever it is
            error.add_note("keras_npbatch: raised while a worker process unpacked the dataset")
            self._line.send(self._failed(STARTING, error))
            return
        self._board[1] = time.monotonic_ns()
        self._board[0] = IDLE
        while (task := self._next_task()) is not None:
            self._do(task)
            del task

    def _next_task(self) -> Task | None:
        # Reads all waiting messages at once, since they say which slots have become free.
        while not self._inbox or self._line.has_message():
            message = self._line.receive()
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
            if task.pass_number != self._pass_number:
                self._pass_number = task.pass_number
                self._core.begin_pass(task.pass_number)
            if seed is not None:
                randomness.seed_all(seed, task.epoch, task.step)
            batch = maker(task.epoch, task.step)
            answer = self._made(task.number, batch)
        except BaseException as error:  # noqa: BLE001  # the parent gets it, whatever it is
            answer = self._failed(task.number, error)
        self._line.send(answer)
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
