"""Messages in a stream of bytes: each is preceded by its length.

    end.sendall(framed(b"a message"))
    inbox = Inbox(end)
    inbox.fill()        # what is there; waits if the socket does
    inbox.next()        # b"a message"; None while it is not there as a whole

A Unix system other than Linux has no local socket that keeps messages apart, and Windows no local
socket but TCP.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["Inbox", "framed", "prepare"]

_LENGTH_BYTES = 4
_READ_BYTES = 64 * 1024
_BUFFER_BYTES = 256 * 1024
"""For several messages of any length: macOS has 8 KB, unless asked for more."""


def prepare(end: socket.socket) -> None:
    """Set up one end of a pair of sockets."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):  # a system may allow less
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    if end.family == socket.AF_INET:  # Windows
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def framed(message: bytes) -> bytes:
    """The message as it is sent."""
    return len(message).to_bytes(_LENGTH_BYTES, "little") + message


class Inbox:
    """The messages that come through a socket.

    Args:
        end: the socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._bytes = bytearray()

    @property
    def has_next(self) -> bool:
        """Whether a whole message is there."""
        return len(self._bytes) >= self._next_ends_at()

    def next(self) -> bytes | None:
        """The next message; None if it is not there as a whole."""
        end = self._next_ends_at()
        if len(self._bytes) < end:
            return None
        message = bytes(self._bytes[_LENGTH_BYTES:end])
        del self._bytes[:end]
        return message

    def _next_ends_at(self) -> int:
        """Where the next message ends, at least: before its length is there, no more is known."""
        if len(self._bytes) < _LENGTH_BYTES:
            return _LENGTH_BYTES
        return _LENGTH_BYTES + int.from_bytes(self._bytes[:_LENGTH_BYTES], "little")

    def fill(self) -> bool:
        """Receive once; False if the other end is closed.

        Raises:
            BlockingIOError: if nothing is there, and the socket does not wait.
            ConnectionError: if the process at the other end has died.
        """
        received = self._end.recv(_READ_BYTES)
        self._bytes += received
        return bool(received)

    def clear(self) -> None:
        """Drop what is there."""
        self._bytes.clear()
