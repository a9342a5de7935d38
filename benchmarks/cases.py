"""Cases: what is measured in one process, and nothing else with it.

Each question is a module with these names, and `run_case` runs one of its cases in a fresh process,
so that neither a backend nor the memory of another case is in the way:

    NAME, TITLE               what to call it on the command line and above its table
    COLUMNS                   the keys of a row that the table shows, and how
    KEY, RATIO                the keys that tell one row from another, and the figure to compare; a
                              row's "ratios" are those of its rounds
    cases(options)            the cases to run
    measure(**arguments)      a case's rows; called in a process of its own
    verdicts(rows)            lines below the table: targets, met or missed
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.timing import Rounds
from benchmarks.workloads import WORKLOADS

__all__ = ["Case", "FailedError", "Options", "Row", "missing", "run_case", "target"]

Row = dict[str, Any]
"""What was measured, by column."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
_ROOT = Path(__file__).resolve().parent.parent
_ENDING = (signal.SIGINT, signal.SIGTERM)
_BESIDE_ROUNDS_S = 240.0
"""How long a case may take beside its rounds, for imports, data, the check of what is delivered."""
_ROUND_S = 30.0
"""How long a round may go on after the time for rounds is over."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    smoke: bool
    """Tiny data, to see that everything runs."""
    workloads: tuple[str, ...]
    backends: tuple[str, ...]
    rounds: Rounds
    with_peers: bool = True
    """Also what others make."""

    @property
    def in_memory(self) -> tuple[str, ...]:
        """The workloads that are arrays."""
        return tuple(name for name in self.workloads if not WORKLOADS[name].is_mapped)

    def arguments(self, **others: Any) -> dict[str, Any]:
        """The arguments of `measure` that every question takes, and `others`."""
        return {"smoke": self.smoke, "rounds": asdict(self.rounds), **others}


@dataclass(frozen=True, slots=True)
class Case:
    """A call of a question's `measure` in a process with this environment."""

    arguments: dict[str, Any]
    """Of `measure`, as JSON allows."""
    environment: dict[str, str] = field(default_factory=dict)
    left_out: str | None = None
    """Why it can't be measured here."""

    def within(self, seconds: float) -> Case:
        """The same with no more than so many seconds for its rounds."""
        rounds = self.arguments["rounds"]
        budget_s = min(rounds["budget_s"], seconds)
        return replace(self, arguments=self.arguments | {"rounds": rounds | {"budget_s": budget_s}})

    def __str__(self) -> str:
        """What it measures."""
        named = [
            ", ".join(value) if isinstance(value, tuple) else str(value)
            for name, value in self.arguments.items()
            if name not in ("smoke", "rounds")
        ]
        return " · ".join(named) or "all"


class FailedError(RuntimeError):
    """A case has no answer; its traceback, if it has one, is on standard error."""


def missing(package: str) -> str | None:
    """Why what needs this package is left out, or None."""
    found = importlib.util.find_spec(package) is not None
    return None if found else f"{package} is not installed"


def target(
    what: str, value: float, most: float, *, least: bool = False, by_hand: float | None = None
) -> str:
    """A line that tells whether a target was met.

    Args:
        what: was measured.
        value: the figure.
        most: the target.
        least: whether it is reached from below.
        by_hand: what the least code takes that does the same by hand and promises nothing.
    """
    met = value >= most if least else value <= most
    bound = "at least" if least else "at most"
    beside = "" if by_hand is None else f"; by hand {by_hand:.2f}"
    return f"{what}: {value:.2f}, target {bound} {most:g}: {'met' if met else 'MISSED'}{beside}"


def run_case(question: str, case: Case) -> list[Row]:
    """The rows of a case, from a process in a session of its own.

    All that the session has started ends with it, also when the case takes too long.

    Raises:
        FailedError: if it fails or takes too long.
    """
    longest_s = case.arguments["rounds"]["budget_s"] + _ROUND_S + _BESIDE_ROUNDS_S
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "rows.json"
        process = None
        try:
            with _ended_later():  # when we know what to end
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", __name__),
                        *(question, json.dumps(case.arguments), str(answer)),
                    ],
                    cwd=_ROOT,
                    env={**os.environ, **_QUIET, **case.environment},
                    start_new_session=True,
                )
            code = process.wait(longest_s)
        except subprocess.TimeoutExpired:
            raise FailedError(f"took more than {longest_s:.0f} s") from None
        finally:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):  # none of the session is left
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code != 0:
            raise FailedError(f"exit code {code}")
        rows: list[Row] = json.loads(answer.read_text())
    return rows


@contextlib.contextmanager
def _ended_later() -> Iterator[None]:
    """Ctrl-C and SIGTERM come after the block.

    To mask them is not enough: a thread of NumPy's takes them, and Python tells its main thread.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)


def _main(question: str, arguments: str, answer: str) -> None:
    rows = importlib.import_module(f"benchmarks.{question}").measure(**json.loads(arguments))
    Path(answer).write_text(json.dumps(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
