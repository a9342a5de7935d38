"""A worker process on any system: its socket, its memory, and what ends it with its parent.

Standard input is the worker's lifeline: the parent writes nothing to it any more, so it is at its
end when the parent is. A thread waits for that, so it needs the GIL: a worker that is stopped, or
in C code that never lets go, goes on until that is over.

The names of the memory that this worker makes are removed, whoever ends first: by the parent, each
as soon as it has mapped the memory, and all when the worker has ended; by the worker, when the
parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import threading
from collections.abc import Iterator
from typing import NoReturn

from keras_npbatch.batches.slots import Slot
from keras_npbatch.workers.portable.frames import Inbox, framed
from keras_npbatch.workers.portable.memory import check_room, map_inherited, new_named, unlink
from keras_npbatch.workers.processes import worker
from keras_npbatch.workers.processes.messages import Extent, Hello

__all__ = ["main"]

_LOOK_MS = 1000
"""How often to look whether the parent is gone although the lifeline holds: a fork of the parent
holds it too."""


def main(end: socket.socket, parent: int) -> NoReturn:
    """Run a worker in this process, to its end.

    Args:
        end: the worker's end of the pair of sockets.
        parent: the process number of the parent.
    """
    line = _StreamLine(end)

    def begin() -> _StreamLine:
        lifeline = _take_standard_input()
        with contextlib.suppress(RuntimeError):  # the user may have no more threads
            threading.Thread(target=_end_with, args=(lifeline, parent, line), daemon=True).start()
        return line

    worker.run(begin, line.end_process)


def _take_standard_input() -> int:
    """Its descriptor under another number; what reads it now finds it empty."""
    os.set_inheritable(0, False)
    lifeline, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lifeline


def _end_with(lifeline: int, parent: int, line: _StreamLine) -> NoReturn:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(lifeline, select.POLLIN)
        while not poll.poll(_LOOK_MS) and os.getppid() == parent:
            pass
    else:  # Windows has no forks, and waits for pipes in no other way
        os.read(lifeline, 1)
    line.end_without_parent()


class _StreamLine:
    """See `system.Line`."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.set_inheritable(False)
        self._inbox = Inbox(end)
        self.check_available = check_room
        self._making = threading.Lock()
        self._made = 0
        self._is_over = False
        """Whether the parent has hung up, or is gone."""

    def hello(self) -> Hello | None:
        """The first message; None if the parent is gone."""
        message = self.receive()
        if not message:
            return None
        hello: Hello
        hello, (self._dataset, self._board), self._prefix = pickle.loads(message)
        self._hello = hello
        return hello

    def map_board(self) -> Slot:
        """The board, which all share."""
        return self._map(self._board, self._hello.board_bytes, is_copied=False)

    def map_dataset(self) -> Slot:
        """The package of the dataset, copied on write."""
        return self._map(self._dataset, self._hello.dataset_bytes, is_copied=True)

    def _map(self, where: int | str, num_bytes: int, *, is_copied: bool) -> Slot:
        memory = map_inherited(where, num_bytes, copied_on_write=is_copied)
        if isinstance(where, int):
            os.close(where)
        return memory

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""
        self._socket.setblocking(False)
        try:
            while not self._inbox.has_next and self._inbox.fill():
                pass
        except BlockingIOError:
            return False
        finally:
            self._socket.setblocking(True)
        return True

    def receive(self) -> bytes:
        """Wait for a message; empty if the parent is gone."""
        while (message := self._inbox.next()) is None:
            with self._noting_its_end():
                self._is_over = not self._inbox.fill()
            if self._is_over:
                return b""
        return message

    def send(self, message: bytes) -> None:
        """Send a message. Waits while the parent does not read."""
        with self._noting_its_end():
            self._socket.sendall(framed(message))

    @contextlib.contextmanager
    def _noting_its_end(self) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            self._is_over = True
            raise

    def new_extent(self, num_bytes: int) -> Slot:
        """Memory for batches, which the parent maps too."""
        with self._making:
            extent = new_named(f"{self._prefix}{self._made}", num_bytes)
            self._made += 1
        self.send(pickle.dumps(Extent(num_bytes)))
        return extent

    def end_process(self, code: int) -> NoReturn:
        """End this process, and the names of its memory if no parent is there to do that."""
        self._making.acquire()  # for good: none is made after this
        for number in range(self._made if self._is_over else 0):
            unlink(f"{self._prefix}{number}")
        os._exit(code)

    def end_without_parent(self) -> NoReturn:
        """End this process: the parent is gone."""
        self._is_over = True
        self.end_process(1)
