"""What does input cost in `model.fit`: with a dataset, with arrays, and without any input?

The model is as small as can be, so that the input is what is measured: a bigger model has more time
to hide it in, and moves the ratios towards 1.
"""

from __future__ import annotations

from benchmarks.cases import Case, Options, Row
from benchmarks.timing import Rounds, interleave
from benchmarks.workloads import WORKLOADS

NAME = "fit"
TITLE = "An epoch of model.fit"
COLUMNS = {
    "backend": "s",
    "workload": "s",
    "feed": "s",
    "x fit(x, y)": ".2f",
    "x floor": ".2f",
    "ms/step": ".3f",
    "rounds": "d",
    "others": ".2f",
}
_MOST_BATCHES = 1_000
_MOST_BYTES = 320_000_000
"""An epoch is cut to this, since a step takes a hundred times as long as a batch does."""


def cases(options: Options) -> list[Case]:
    """One for each backend and workload."""
    return [
        Case(
            options.arguments(backend=backend, workload_name=name),
            {"KERAS_BACKEND": backend},
        )
        for backend in options.backends
        for name in options.workloads
    ]


def measure(backend: str, workload_name: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each feed."""
    from benchmarks.feeds import FEEDS, FLOOR, REFERENCE  # these import Keras
    from benchmarks.training import Trainer, check_fit

    workload = WORKLOADS[workload_name]
    if smoke:
        workload = workload.tiny()
    else:
        workload = workload.at_most(batches=_MOST_BATCHES, num_bytes=_MOST_BYTES)
    data = workload.data()
    feeds = {name: feed(workload, data) for name, feed in FEEDS.items()}
    for name, arguments in feeds.items():
        if name != FLOOR:
            check_fit(workload, arguments)
    runs = {name: Trainer(workload, feed).seconds_of_epoch for name, feed in feeds.items()}
    for run in runs.values():
        run()  # compiles
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "backend": backend,
            "workload": workload.name,
            "feed": name,
            "x fit(x, y)": times.ratio(name, REFERENCE),
            "x floor": times.ratio(name, FLOOR),
            "ms/step": times.seconds(name) / workload.num_batches * 1e3,
            "rounds": len(times),
            "others": times.others,
        }
        for name in feeds
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The default setting on each backend and workload."""
    return [
        f"{row['backend']} {row['workload']}: {row['feed']} takes {row['x fit(x, y)']:.2f} of the "
        f"time of fit(x, y), {row['x floor']:.2f} of that without input"
        for row in rows
        if "default" in row["feed"]
    ]
