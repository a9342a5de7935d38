"""A worker process on Linux: its socket, and what ends it with the process that trains.

Parent and worker share one socket that keeps messages apart (SOCK_SEQPACKET). Memory travels as the
descriptor of its memfd: with the first message, and with each `Extent`.

A worker ends when the socket is closed, or when the training process is gone, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import socket
import threading
from typing import NoReturn

from keras_npbatch.batches.slots import Slot
from keras_npbatch.workers.linux import lifeline, memory
from keras_npbatch.workers.linux.memory import map_descriptor, new_descriptor
from keras_npbatch.workers.processes import worker
from keras_npbatch.workers.processes.messages import MESSAGE_BYTES, Extent, Hello

__all__ = ["main", "main_of_fork", "wait_for"]

_OF_HELLO = 2
"""Descriptors that come with the first message: of the dataset, and of the board."""


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

    def begin() -> _SocketLine:
        lifeline.hold(reader)
        # For where the lifeline fails: in a sandbox, or kept open by a fork that C code made.
        with contextlib.suppress(RuntimeError):  # the user may have no more threads
            threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()
        return _SocketLine(end)

    worker.run(begin)


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


class _SocketLine:
    """See `system.Line`."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self.check_available = memory.check_available

    def hello(self) -> Hello | None:
        """The first message; None if the parent is gone."""
        message, descriptors, _, _ = socket.recv_fds(self._end, MESSAGE_BYTES, _OF_HELLO)
        if not message:
            return None
        self._descriptors = descriptors
        hello: Hello = pickle.loads(message)
        self._hello = hello
        return hello

    def map_board(self) -> Slot:
        """The board, which all share."""
        if len(self._descriptors) < _OF_HELLO:  # the system drops those beyond its limit
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        board = map_descriptor(self._descriptors[1], self._hello.board_bytes)
        os.close(self._descriptors[1])
        return board

    def map_dataset(self) -> Slot:
        """The package of the dataset, copied on write."""
        size = self._hello.dataset_bytes
        dataset = map_descriptor(self._descriptors[0], size, copied_on_write=True)
        os.close(self._descriptors[0])
        return dataset

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""
        return bool(self._poll.poll(0))

    def receive(self) -> bytes:
        """Wait for a message; empty if the parent is gone."""
        return self._end.recv(MESSAGE_BYTES)

    def send(self, message: bytes) -> None:
        """Send a message. Waits while the parent does not read."""
        self._end.send(message)

    def new_extent(self, num_bytes: int) -> Slot:
        """Memory for batches, which the parent maps too."""
        descriptor = new_descriptor(num_bytes)
        try:
            extent = map_descriptor(descriptor, num_bytes)
            socket.send_fds(self._end, [pickle.dumps(Extent(num_bytes))], [descriptor])
        finally:
            os.close(descriptor)
        return extent
