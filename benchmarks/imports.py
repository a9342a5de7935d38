"""What does importing the package cost, beside what it needs?"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.cases import Case, Options, Row, target
from benchmarks.timing import Rounds, interleave

NAME = "imports"
TITLE = "Import time"
COLUMNS = {
    "statement": "s",
    "x numpy": ".2f",
    "spread": "s",
    "ms": ".1f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("statement",), "x numpy"

_STATEMENTS = (
    "import numpy",
    "import keras_npbatch",
    "import keras_npbatch.plan",
    "import keras",
    "from keras_npbatch import ArrayDataset",
)
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def cases(options: Options) -> list[Case]:
    """One for all: each import has a process of its own anyway."""
    return [Case(options.arguments(), {"KERAS_BACKEND": "numpy"})]


def measure(smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each statement."""
    runs = {statement: partial(_seconds, statement) for statement in _STATEMENTS}
    for run in runs.values():
        run()  # brings the files into memory
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "statement": statement,
            **times.told("x numpy", statement, _STATEMENTS[0]),
            "ms": times.seconds(statement) * 1e3,
        }
        for statement in _STATEMENTS
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The package itself."""
    return [
        target("import keras_npbatch: x numpy", row["x numpy"], 1.5)
        for row in rows
        if row["statement"] == _STATEMENTS[1]
    ]


def _seconds(statement: str) -> float:
    """The time of a statement in a fresh interpreter, after its own start-up."""
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)
