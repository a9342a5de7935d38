"""Messages in a stream of bytes, however the stream is cut."""

from __future__ import annotations

import contextlib
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.workers.portable.frames import Inbox, framed, prepare


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    prepare(ours)
    prepare(theirs)
    theirs.setblocking(False)
    return ours, theirs


@settings(max_examples=15)
@given(
    messages=st.lists(st.one_of(st.binary(max_size=6), st.integers(1, 70_000).map(bytes))),
    cuts=st.lists(st.integers(1, 40_000), min_size=1),
)
def test_messages_come_whole_and_in_order_wherever_the_stream_is_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    sent = b"".join(map(framed, messages))
    ours, theirs = pair()
    inbox, found, place = Inbox(theirs), [], 0
    with ours, theirs:
        while sent:
            cut = cuts[place % len(cuts)]
            place += 1
            ours.sendall(sent[:cut])
            sent = sent[cut:]
            with contextlib.suppress(BlockingIOError):
                while inbox.fill():
                    pass
            while inbox.has_next:
                message = inbox.next()
                assert message is not None
                found.append(message)
            assert inbox.next() is None
        ours.close()
        assert not inbox.fill()
    assert found == messages


def test_what_is_dropped_is_gone_and_a_part_is_no_message() -> None:
    ours, theirs = pair()
    with ours, theirs:
        inbox = Inbox(theirs)
        ours.sendall(framed(b"one") + framed(b"two")[:-1])
        assert inbox.fill()
        assert inbox.next() == b"one"
        assert not inbox.has_next
        inbox.clear()
        ours.sendall(framed(b"three"))
        assert inbox.fill()
        assert inbox.next() == b"three"
