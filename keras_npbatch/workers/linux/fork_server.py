"""A fork server: a small process, the template, that forks a worker in milliseconds.

    server = ForkServer(modules=["slides"])
    process = server.launch()      # asks the template, which answers with a pidfd
    server.close()

The template has no threads and has imported everything that a worker needs, so its forks share the
memory of those imports. A thread or a file that the user's modules start or open on import can't be
shared that way: then a template without these modules takes over, and each worker imports them.

A template that was killed, or that does not answer, is replaced. Its workers continue without it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from keras_npbatch.errors import WorkerStartError
from keras_npbatch.workers.linux import lifeline, refusals, worker
from keras_npbatch.workers.linux.lifeline import Lifeline
from keras_npbatch.workers.linux.process import (
    Ends,
    LinuxProcess,
    ended,
    flush,
    start_interpreter,
)
from keras_npbatch.workers.processes import interrupts, stand_ins

__all__ = ["ForkServer", "template"]

_MESSAGE_BYTES = 64 * 1024
_TEMPLATE_ANSWERS_S = 60.0
_TELLS_OF_AN_END_WITHIN_S = 5.0
_ENDS_WITHIN_S = 1.0
_MOST_FAILURES, _MOST_KILLED = 3, 10
"""How many templates may fail, or be killed, during one launch before it is an error."""
_SIGNALS_WAIT_S = 0.05


class _LostError(Exception):
    """The template is gone; the message says why."""

    def __init__(self, why: str, was_killed: bool = False) -> None:
        super().__init__(why)
        self.was_killed = was_killed


class ForkServer:
    """The parent's side; `template` is the other side.

    Args:
        modules: the modules that the workers are going to import.
        patience_s: how long the template may take to answer, in seconds; None for a minute.
    """

    def __init__(self, modules: Sequence[str], patience_s: float | None = None) -> None:
        self._modules = list(modules)
        self._patience_s = patience_s
        self._answers_s = _TEMPLATE_ANSWERS_S if patience_s is None else patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket
        self._line: Lifeline
        with contextlib.suppress(_LostError):  # if the imports end it, the workers do them instead
            self._start()
            if self._ask(self._modules)[0]:
                return
        self.close()
        self._modules = []

    def launch(self) -> LinuxProcess:
        """Start a new worker.

        Raises:
            WorkerStartError: if one template after another fails, or the system refuses.
        """
        lost: Counter[bool] = Counter()
        while True:
            try:
                if self._process is None:
                    self._start()
                    self._ask(self._modules)
                return self._launch()
            except _LostError as error:
                lost[error.was_killed] += 1
                if self._patience_s is not None and not error.was_killed:
                    self._answers_s = 2 * self._patience_s  # the machine may be busy
                if lost[True] >= _MOST_KILLED or lost[False] >= _MOST_FAILURES:
                    raise WorkerStartError(
                        f"the process that starts workers {error}; what it wrote is on standard "
                        "error. Try start_method='spawn', or threads: use_multiprocessing=False."
                    ) from error

    def close(self) -> None:
        """End the template. Safe to call twice."""
        if self._process is not None:
            process, self._process = self._process, None
            self._socket.close()
            self._line.cut()
            process.kill()
            process.wait()

    def _start(self) -> None:
        with Ends() as ends:
            with refusals.translated():
                process = start_interpreter(__name__, "template", ends)
            self._socket, self._line = ends.take()
            self._process = process
        self._socket.settimeout(self._answers_s)

    def _launch(self) -> LinuxProcess:
        with Ends() as ends:
            pid, received = self._ask("launch", [ends.theirs.fileno(), ends.line.reader])
            with refusals.translated():
                if not received:  # the system drops descriptors beyond this process's limit
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            (pidfd,) = received
            return ends.process(pid, pidfd, partial(self._reap, pid, pidfd, self._process))

    def _reap(self, pid: int, pidfd: int, parent: subprocess.Popen[bytes] | None) -> int:
        if parent is self._process:
            with contextlib.suppress(_LostError):
                return int(self._ask(pid, within_s=_TELLS_OF_AN_END_WITHIN_S)[0])
        return ended(pidfd)  # its parent is now init, which may be this process

    def _ask(
        self, request: Any, descriptors: Sequence[int] = (), within_s: float | None = None
    ) -> tuple[Any, list[int]]:
        """The template's answer, and the descriptors that come with it."""
        try:
            # The wait for how a worker ended is short, and whoever ends all must not be stopped.
            limit_s, may_be_interrupted = within_s or self._answers_s, within_s is None
            answer, received = self._answer(request, descriptors, limit_s, may_be_interrupted)
        except BaseException:  # a late answer would be taken for the answer to the next request
            self.close()
            raise
        with refusals.translated():
            if isinstance(answer, OSError):
                raise answer
        return answer, received

    def _answer(
        self, request: Any, descriptors: Sequence[int], within_s: float, may_be_interrupted: bool
    ) -> tuple[Any, list[int]]:
        try:
            socket.send_fds(self._socket, [pickle.dumps(request)], descriptors)
            _wait_for_answer(self._socket, within_s, may_be_interrupted)
            message, received, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, 1)
            if message:
                return pickle.loads(message), received
        except ConnectionError:
            pass
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_ENDS_WITHIN_S)
            raise _LostError(f"ended, with exit code {code}", was_killed=code < 0)
        raise _LostError("closed its socket")


def _wait_for_answer(end: socket.socket, seconds: float, may_be_interrupted: bool) -> None:
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(end, select.POLLIN)
    while not poll.poll(1000 * min(seconds, _SIGNALS_WAIT_S)):
        if may_be_interrupted:
            interrupts.deliver()
        if time.monotonic() >= until:
            raise _LostError(f"did not answer within {seconds:.0f} s")


# -------------------------------------------------------------------- the template


def template(descriptor: int, reader: int, parent: int) -> NoReturn:
    """The template's main loop until its parent is gone: fork workers, report how they ended.

    A request is a list of modules to import, "launch" with the socket and the lifeline of a worker
    to fork, or the process number of a worker that has ended.
    """
    interrupts.survive()
    trainer = os.pidfd_open(parent)
    lifeline.hold(reader)
    stand_ins.install()
    requests = socket.socket(fileno=descriptor)
    with contextlib.suppress(ConnectionError):  # the parent is gone
        while worker.wait_for(requests, trainer):
            message, received, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 2)
            if not message:
                break
            request = pickle.loads(message)
            answer: Any
            descriptors: list[int] = []
            try:
                if isinstance(request, list):
                    answer = _import(request)
                elif isinstance(request, int):
                    answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
                else:
                    answer = os.fork()
                    if answer == 0:
                        requests.close()
                        os.close(reader)
                        end, line = received
                        worker.main_of_fork(socket.socket(fileno=end), line, trainer)
                    descriptors.append(_pidfd(answer))
            except OSError as error:
                answer = error
            socket.send_fds(requests, [pickle.dumps(answer)], descriptors)
            for number in [*received, *descriptors]:
                os.close(number)
    os._exit(0)  # exit handlers of the user's modules don't run here


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _import(modules: list[str]) -> bool:
    """Import the modules; False if they started or opened what forks can't share."""
    try:
        before = os.listdir("/proc/self/fd")
        for module in modules:
            with contextlib.suppress(Exception):  # the worker that needs it will report the error
                importlib.import_module(module)
        flush()
        return len(os.listdir("/proc/self/task")) == 1 and os.listdir("/proc/self/fd") == before
    except OSError:  # /proc is hidden, so it can't be known
        return not modules
