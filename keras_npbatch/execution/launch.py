"""How worker processes are started, ended and waited for: forkserver, spawn, fork.

    launcher = launcher_for("forkserver", modules=[])
    process = launcher.launch(socket_of_the_worker)
    process.kill()
    process.exit_code()      # -9
    launcher.close()

Not `multiprocessing`: its spawn and forkserver import the user's main script anew in each worker,
which runs a script that has no `if __name__ == "__main__"`, and a worker's exit is known to its
fork server alone. Here a worker imports the layers of this package below Keras and what the
user's own classes need, nothing else.

- `"forkserver"`: a small process without threads, the template, has imported all that a worker
  needs and forks one in milliseconds. It shares the memory of what it imported with all of them.
  What the user's own modules start or open as they are imported can't be shared so: if that is a
  thread or a file, a template without them takes its place, and each worker imports them.
- `"spawn"`: a new interpreter for each worker.
- `"fork"`: a copy of this process, as it is. On request only: a fork of a process with threads,
  which every framework starts, may find locks held that nobody will release.

Each process is held by a pidfd, so that a signal never meets another process of the same number.
Linux only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args

from keras_npbatch.errors import InvalidArgumentError, WorkerDiedError, told
from keras_npbatch.execution import stand_ins, worker

__all__ = [
    "Launcher",
    "Process",
    "StartMethod",
    "can_launch",
    "check_start_method",
    "launcher_for",
]

StartMethod: TypeAlias = Literal["forkserver", "spawn", "fork"]

_MESSAGE_BYTES = 64 * 1024
_TEMPLATE_ANSWERS_S = 60.0

_ENVIRONMENT = {
    # A worker makes batches: the accelerators belong to the process of the model.
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}
_ENVIRONMENT_UNLESS_SET = {
    # The workers are what runs at once; threads of BLAS within each would compete with them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The order of a set of strings is the same in all of them.
    "PYTHONHASHSEED": "0",
}


@dataclass(slots=True)
class Process:
    """A worker process."""

    pid: int
    """Its number, for messages."""
    pidfd: int
    """Readable when it has ended."""
    _reap: Callable[[], int]
    _code: int | None = None

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        if self._code is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, waiting for that so long at most."""
        if self._code is not None:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exit_code(self) -> int:
        """The exit code of a process that has ended; -N if signal N ended it. Asks once."""
        if self._code is None:
            self._code = self._reap()
            os.close(self.pidfd)
        return self._code


class Launcher(Protocol):
    """Starts worker processes of one pool."""

    def launch(self, end: socket.socket) -> Process:
        """A new worker that listens at `end`, of which the caller lets go."""

    def close(self) -> None:
        """Ends what was started beside the workers."""


def can_launch() -> bool:
    """Whether this system has what worker processes need: Linux does, macOS and Windows don't."""
    return hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")


def check_start_method(value: object) -> StartMethod:
    """`value`, or the default for None.

    Raises:
        InvalidArgumentError: for any other, and on systems without what processes need.
    """
    if not can_launch():
        raise InvalidArgumentError(
            f"worker processes were asked for (use_multiprocessing=True or start_method=...) on "
            f"{sys.platform}; they need Linux. Use threads: workers=N, use_multiprocessing=False."
        )
    if value is None:
        return "forkserver"
    for known in get_args(StartMethod):
        if value == known:
            method: StartMethod = known
            return method
    raise InvalidArgumentError(
        f"start_method is {told(value)}; expected one of "
        f"{', '.join(map(repr, get_args(StartMethod)))}, or None for 'forkserver'."
    )


def launcher_for(method: StartMethod, modules: Sequence[str]) -> Launcher:
    """A launcher of this kind, of workers that are going to import these modules."""
    kinds: dict[StartMethod, Callable[[], Launcher]] = {
        "forkserver": partial(_ForkServer, modules),
        "spawn": _Spawn,
        "fork": _Fork,
    }
    return kinds[method]()


# -------------------------------------------------------------------- spawn


class _Spawn:
    def launch(self, end: socket.socket) -> Process:
        started = _start_interpreter(worker.__name__, "main", end)
        return Process(started.pid, os.pidfd_open(started.pid), started.wait)

    def close(self) -> None:
        pass


def _start_interpreter(module: str, function: str, end: socket.socket) -> subprocess.Popen[bytes]:
    """A new interpreter with this one's options and path.

    It calls `function(descriptor, parent)`: that of `end`, and the number of this process.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]  # others are ignored by Python
    program = (
        f"import sys; sys.path[:] = {path!r}; from {module} import {function}; "
        f"{function}({end.fileno()}, {os.getpid()})"
    )
    # The options that multiprocessing hands on too: -E, -s, -W, -X, ...
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    with _interrupts_wait():
        return subprocess.Popen(
            [sys.executable, *options, "-c", program],
            stdin=subprocess.DEVNULL,
            env=_ENVIRONMENT_UNLESS_SET | os.environ | _ENVIRONMENT,
            pass_fds=[end.fileno()],
        )


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A process started in the block meets no Ctrl-C before it ignores them.

    A new process has this thread's mask; `worker.survive_interrupts` opens it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -------------------------------------------------------------------- fork


class _Fork:
    def launch(self, end: socket.socket) -> Process:
        parent = os.getpid()
        _flush()
        with _interrupts_wait():
            pid = os.fork()
            if pid == 0:
                try:
                    os.environ.update(_ENVIRONMENT)
                    worker.main_of_fork(end, parent)
                finally:
                    os._exit(1)
        return Process(pid, os.pidfd_open(pid), lambda: _waited(pid))

    def close(self) -> None:
        pass


def _flush() -> None:
    """Before a fork: or the child would write, too, what waits to be written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _waited(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody else waits for all children of this process
        return -signal.SIGKILL


# -------------------------------------------------------------------- forkserver


class _ForkServer:
    """The side of the parent; `template` is the other."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._start()
        try:
            self._socket.send(pickle.dumps(list(modules)))
            can_be_forked = pickle.loads(self._answer(0)[0])
        except OSError:  # whatever their import does, it is done in the workers
            can_be_forked = False
        if not can_be_forked:
            self.close()
            self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _start_interpreter(__name__, "template", theirs)
        self._socket.settimeout(_TEMPLATE_ANSWERS_S)

    def launch(self, end: socket.socket) -> Process:
        try:
            return self._launch(end)
        except (ConnectionError, TimeoutError):  # somebody has killed the template
            self.close()
            self._start()
        try:
            return self._launch(end)
        except (ConnectionError, TimeoutError) as error:
            self.close()
            how = f"ended as soon as it was started, with exit code {self._process.returncode}"
            if isinstance(error, TimeoutError):
                how = f"did not answer within {_TEMPLATE_ANSWERS_S:.0f} s"
            raise WorkerDiedError(
                f"the process that starts workers {how}; what it wrote is on standard error. Try "
                "start_method='spawn', or threads: use_multiprocessing=False."
            ) from error

    def _launch(self, end: socket.socket) -> Process:
        socket.send_fds(self._socket, [b"launch"], [end.fileno()])
        message, (pidfd,) = self._answer(1)
        pid = int(pickle.loads(message))
        return Process(pid, pidfd, partial(self._reap, pid, self._process.pid))

    def _reap(self, pid: int, parent: int) -> int:
        try:
            if parent != self._process.pid:
                return -signal.SIGKILL
            self._socket.send(pickle.dumps(pid))
            return int(pickle.loads(self._answer(0)[0]))
        except OSError:  # the template has ended, and with it the knowledge of how
            return -signal.SIGKILL

    def _answer(self, most: int) -> tuple[bytes, list[int]]:
        message, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, most)
        if not message:
            raise ConnectionResetError("the template has ended")
        return message, descriptors

    def close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def template(descriptor: int, parent: int) -> None:
    """What the template does until its parent is gone: fork workers, tell how they ended.

    A request is the socket of a worker to fork, the number of one that has ended, or a list of
    modules to import.
    """
    worker.survive_interrupts()
    stand_ins.install()
    own = os.getpid()
    with socket.socket(fileno=descriptor) as requests:
        while worker.wait_for(requests, parent):
            message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 1)
            if not message:
                return
            if not descriptors:
                request = pickle.loads(message)
                answer = _import(request) if isinstance(request, list) else _waited(request)
                requests.send(pickle.dumps(answer))
                continue
            (end,) = descriptors
            pid = os.fork()
            if pid == 0:
                requests.close()
                worker.main_of_fork(socket.socket(fileno=end), own)
            os.close(end)
            pidfd = os.pidfd_open(pid)
            socket.send_fds(requests, [pickle.dumps(pid)], [pidfd])
            os.close(pidfd)


def _import(modules: list[str]) -> bool:
    """Import them; False if what they have started or opened is not for several processes."""
    before = os.listdir("/proc/self/fd")
    for module in modules:
        with contextlib.suppress(Exception):  # a worker that fails on it will tell
            importlib.import_module(module)
    _flush()
    return len(os.listdir("/proc/self/task")) == 1 and os.listdir("/proc/self/fd") == before
