"""How long until two new worker processes have made their first batch?

Each start is in a fresh interpreter, for a template serves all pools of a process, and is timed
from the dataset that is there to its first batch, imports of the model's process not counted. It is
told beside what the machine takes to start Python and to import NumPy.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.cases import Case, Options, Row, target
from benchmarks.timing import Rounds, interleave, seconds_of
from keras_npbatch.workers.systems import this_system

NAME = "workers"
TITLE = "To the first batch of new worker processes"
COLUMNS = {
    "start": "s",
    "x python": ".2f",
    "spread": "s",
    "ms": ".0f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("start",), "x python"

_LIMIT = "python -c 'import numpy'"
_MOST_MS = 500
_PROGRAM = """
import time
import numpy as np
import keras_npbatch as npb

with npb.ArrayDataset(
    np.zeros((5_120, 32, 32, 3), np.float32), batch_size=256, seed=0,
    workers=2, use_multiprocessing=True, start_method={method!r},
) as dataset:
    start = time.perf_counter()
    next(iter(dataset))
    print(time.perf_counter() - start)
"""


def cases(options: Options) -> list[Case]:
    """One for all: each start has a process of its own anyway."""
    return [Case(options.arguments(), {"KERAS_BACKEND": "numpy"})]


def measure(smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each way to start them, and the limit."""
    runs = {_LIMIT: partial(seconds_of, partial(_run, "import numpy"))}
    runs |= {method: partial(_seconds_to_batch, method) for method in this_system().start_methods}
    for run in runs.values():
        run()  # brings the files into memory
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "start": name,
            **times.told("x python", name, _LIMIT),
            "ms": times.seconds(name) * 1e3,
        }
        for name in runs
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The default way."""
    return [
        target(f"{row['start']}: ms", row["ms"], _MOST_MS)
        for row in rows
        if row["start"] == this_system().start_methods[0]
    ]


def _seconds_to_batch(method: str) -> float:
    return float(_run(_PROGRAM.format(method=method)))


def _run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
