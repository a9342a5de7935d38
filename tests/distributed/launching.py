"""Several processes of one training, started and ended: what tests of every engine share.

    # the test
    port = free_port()
    results = launch(script, 2, "pad", environment=lambda rank: {"MASTER_PORT": str(port)})
    results[0]      # what the first process has said, in its order

    # the script, which finds this module beside it
    from launching import say
    say(seen=[1, 2, 3])

No process outlives `launch`, whatever happens, and what each of them wrote is in the message if one
fails or the time is over. What they say goes through files, since frameworks write to stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Ended", "check_example", "finish", "free_port", "launch", "say"]

_SAID = "KERAS_NPBATCH_TEST_SAID"
_OTHERS_END_WITHIN_S = 10.0
"""After one has failed, the others either notice soon or never."""
_LINES_SHOWN = 60


def launch(
    script: Path,
    count: int,
    *arguments: object,
    environment: Callable[[int], Mapping[str, str]] = lambda rank: {},
    limit_s: float = 60.0,
    interpreter: Sequence[str] = ("-W", "error::UserWarning"),
) -> list[list[dict[str, Any]]]:
    """Run a script in `count` processes at once; all of them must end well.

    Args:
        script: the file to run. `RANK` and `WORLD_SIZE` tell each process which one it is.
        count: how many processes.
        arguments: of the script, the same for all.
        environment: `environment(rank)`, variables for one process.
        limit_s: seconds until all are killed.
        interpreter: arguments of Python.

    Returns:
        What each process has said, in the order of the ranks.

    Raises:
        AssertionError: with what all of them wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / f"said-{rank}" for rank in range(count)]
        command = [sys.executable, *interpreter, str(script), *map(str, arguments)]
        environments = [
            {
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                # Ranks that each take all processors are slower, and sum in other orders.
                "OMP_NUM_THREADS": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                _SAID: str(path),
                **environment(rank),
            }
            for rank, path in enumerate(said)
        ]
        finish([command] * count, environments, limit_s=limit_s)
        return [
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            for path in said
        ]


def say(**result: Any) -> None:
    """Tell the test something, as JSON takes it. Called in a process that `launch` started."""
    with open(os.environ[_SAID], "a") as file:
        file.write(json.dumps(result) + "\n")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has: the system chooses it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    returncode: int | None
    """Its exit status, negative for a signal; None if its time was over."""
    stdout: str
    stderr: str


def finish(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]],
    *,
    limit_s: float,
    must_succeed: bool = True,
) -> list[Ended]:
    """Run commands at once until all have ended, or the time is over.

    Args:
        commands: what to run.
        environments: variables of each, beside those of this process.
        limit_s: seconds until all are killed.
        must_succeed: whether a failure, or the end of the time, is an error.

    Raises:
        AssertionError: with what all of them wrote.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = []
        for number, (command, added) in enumerate(zip(commands, environments, strict=True)):
            out = stack.enter_context(open(folder / f"out-{number}", "wb"))
            err = stack.enter_context(open(folder / f"err-{number}", "wb"))
            # A group of its own, to end its children with it.
            process = subprocess.Popen(
                command,
                env={**_environment(), **added},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            stack.callback(_end, process)
            processes.append(process)
        returncodes = _wait(processes, limit_s)
        ended = [
            Ended(
                returncode,
                (folder / f"out-{number}").read_text(errors="replace"),
                (folder / f"err-{number}").read_text(errors="replace"),
            )
            for number, returncode in enumerate(returncodes)
        ]
    assert not must_succeed or all(each.returncode == 0 for each in ended), _told(ended, limit_s)
    return ended


def _environment() -> dict[str, str]:
    """This process's, without what would make another one behave as if it were a test or rank."""
    left_out = ("PYTEST", "COV_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TF_CONFIG")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


def _wait(processes: Sequence[subprocess.Popen[bytes]], limit_s: float) -> list[int | None]:
    """The exit status of each process; None for those that are still there."""
    end, has_failed = time.monotonic() + limit_s, False
    while True:
        returncodes = [_status(process) for process in processes]
        if None not in returncodes or time.monotonic() > end:
            return returncodes
        if any(returncodes) and not has_failed:
            has_failed = True
            end = min(end, time.monotonic() + _OTHERS_END_WITHIN_S)
        time.sleep(0.02)


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """The exit status, without taking it: until then nobody else can have the number."""
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its group, and its children that have left the group."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def _told(ended: Sequence[Ended], limit_s: float) -> str:
    lines = []
    for number, each in enumerate(ended):
        how = "was killed" if each.returncode is None else f"ended with {each.returncode}"
        lines.append(f"----- process {number} of {len(ended)} {how} (limit: {limit_s} s)")
        for name, text in (("stdout", each.stdout), ("stderr", each.stderr)):
            shown = text.splitlines()[-_LINES_SHOWN:]
            lines += [f"{name}:", *shown] if shown else []
    return "\n".join(lines)


def check_example(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    """Run an example in all its processes: they end with the same weights, which have learned."""
    ended = finish(commands, [environment] * len(commands), limit_s=100)
    told = [
        re.search(r"process \d of 2: (weights \w+, test accuracy 0\.[3-9]\d+)\n", each.stdout)
        for each in ended
    ]
    assert None not in told, [each.stdout for each in ended]
    assert len({each.group(1) for each in told if each is not None}) == 1
    assert "step 11 of 12 in epoch 0: 29 of 1437 samples, remainder='pad'" in ended[0].stdout
