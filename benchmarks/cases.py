"""Cases: what is measured in one process, and nothing else with it.

Each question is a module with these names, and `run_case` runs one of its cases in a fresh process,
so that neither a backend nor the memory of another case is in the way:

    NAME, TITLE               what to call it on the command line and above its table
    COLUMNS                   the keys of a row that the table shows, and how
    cases(options)            the cases to run
    measure(**arguments)      a case's rows; called in a process of its own
    verdicts(rows)            lines below the table: targets, met or missed
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Rounds

__all__ = ["Case", "Options", "Row", "run_case"]

Row = dict[str, Any]
"""What was measured, by column."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    smoke: bool
    workloads: tuple[str, ...]
    backends: tuple[str, ...]
    rounds: Rounds

    def arguments(self, **others: Any) -> dict[str, Any]:
        """The arguments of `measure` that every question takes, and `others`."""
        return {"smoke": self.smoke, "rounds": asdict(self.rounds), **others}


@dataclass(frozen=True, slots=True)
class Case:
    """A call of a question's `measure` in a process with this environment."""

    arguments: dict[str, Any]
    """Of `measure`, as JSON allows."""
    environment: dict[str, str] = field(default_factory=dict)


def run_case(question: str, case: Case) -> list[Row]:
    """The rows of a case.

    Raises:
        subprocess.CalledProcessError: if it fails; its traceback is on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "rows.json"
        subprocess.run(
            [sys.executable, "-m", __name__, question, json.dumps(case.arguments), str(answer)],
            cwd=_ROOT,
            env={**os.environ, **_QUIET, **case.environment},
            check=True,
        )
        rows: list[Row] = json.loads(answer.read_text())
    return rows


def _main(question: str, arguments: str, answer: str) -> None:
    rows = importlib.import_module(f"benchmarks.{question}").measure(**json.loads(arguments))
    Path(answer).write_text(json.dumps(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
