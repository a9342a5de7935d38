"""The command line.

python -m benchmarks                         all questions, within an hour
python -m benchmarks iterate fit --only C    some of them
python -m benchmarks compare OLD NEW         what became slower or faster between two saved runs
python -m benchmarks show FILE               the tables of a saved run
python -m benchmarks soak --minutes 15       kill, stop and crash workers at random: is all right?
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

from benchmarks import (
    auto,
    boundary,
    callbacks,
    fit,
    growth,
    imports,
    iterate,
    memory,
    results,
    samplers,
    sequences,
    sharing,
    soak,
    start,
    storage,
    tfdata,
    transport,
    workers,
)
from benchmarks.cases import Case, FailedError, Options, Row, run_case
from benchmarks.compare import compare
from benchmarks.table import as_markdown
from benchmarks.timing import Rounds
from benchmarks.workloads import FOLDER, WORKLOADS

_QUESTIONS: dict[str, ModuleType] = {
    question.NAME: question
    for question in (
        iterate,
        samplers,
        sequences,
        tfdata,
        storage,
        fit,
        callbacks,
        transport,
        workers,
        auto,
        boundary,
        start,
        memory,
        sharing,
        growth,
        imports,
    )
}
_BACKENDS = ("jax", "torch", "tensorflow")
_OF_A_SHARE = 0.5
"""The part of a case's share of the time that its rounds may take; the other is for all else."""


def main() -> int:
    """Does what was asked for; 1 if a case failed, or became slower."""
    command, *files = [*sys.argv[1:], ""]
    if command == "soak":
        return soak.main(files[:-1])
    if command in ("compare", "show"):
        return _read(command, files[:-1])
    arguments = _parse()
    rounds = Rounds(arguments.rounds, arguments.budget)
    if arguments.smoke:
        rounds = Rounds(enough=1, budget_s=0)
    options = Options(
        arguments.smoke, arguments.only, arguments.backend, rounds, not arguments.ours
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no case and no file outlives us
    with tempfile.TemporaryDirectory(prefix="keras_npbatch-benchmarks-") as folder:
        os.environ[FOLDER] = folder
        return _run(arguments, options)


def _run(arguments: argparse.Namespace, options: Options) -> int:
    todo = [
        (name, case)
        for name in arguments.questions or _QUESTIONS
        for case in _QUESTIONS[name].cases(options)
    ]
    part, parts = arguments.part
    todo = todo[part - 1 :: parts]
    until = time.perf_counter() + arguments.within * 60
    answers: dict[str, list[Row]] = {name: [] for name, _ in todo}
    not_measured: list[str] = []
    has_failed = False
    for number, (name, case) in enumerate(todo):
        print(f"{number + 1}/{len(todo)} {name}: {case}", file=sys.stderr)
        left_s = until - time.perf_counter()
        try:
            answers[name] += _answer(name, case, left_s / (len(todo) - number), left_s)
        except _LeftOutError as why:
            not_measured.append(f"{name}: {case}: left out, {why}")
        except FailedError as why:
            has_failed = True
            not_measured.append(f"{name}: {case}: FAILED, {why}")
        if arguments.out:
            results.write(arguments.out, sys.argv[1:], answers)
    _show(answers, with_verdicts=not options.smoke)  # tiny data say nothing
    for line in not_measured:
        print(f"- {line}")
    return int(has_failed)


class _LeftOutError(Exception):
    pass


def _answer(name: str, case: Case, share_s: float, left_s: float) -> list[Row]:
    if case.left_out is not None:
        raise _LeftOutError(case.left_out)
    if left_s <= 0:
        raise _LeftOutError("the time is over (--within)")
    return run_case(name, case.within(share_s * _OF_A_SHARE))


def _show(answers: dict[str, list[Row]], with_verdicts: bool = True) -> None:
    for name, rows in answers.items():
        question = _QUESTIONS[name]
        print(f"\n### {question.TITLE}\n\n{as_markdown(rows, question.COLUMNS)}\n")
        if with_verdicts:
            for line in question.verdicts(rows):
                print(f"- {line}")


def _read(command: str, files: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {command}")
    if command == "show":
        parser.add_argument("file", type=Path)
        report = results.read(parser.parse_args(files).file)
        print(results.told(report["machine"]))
        _show(report["answers"])
        return 0
    parser.add_argument("old", type=Path, nargs="?", default=results.BASELINE)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args(files)
    compared = compare(results.read(arguments.old), results.read(arguments.new), _QUESTIONS)
    print(compared)
    return int(compared.has_slower)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", help=f"of {', '.join(_QUESTIONS)}; default: all")
    parser.add_argument("--smoke", action="store_true", help="tiny data: does everything run?")
    parser.add_argument("--ours", action="store_true", help="without peers")
    parser.add_argument(
        "--only", type=_some(WORKLOADS), default=tuple(WORKLOADS), metavar=",".join(WORKLOADS)
    )
    parser.add_argument("--backend", type=_some(_BACKENDS), default=_BACKENDS, metavar="jax,torch")
    parser.add_argument(
        "--budget", type=float, default=30, metavar="SECONDS", help="for the rounds of one case"
    )
    parser.add_argument(
        "--rounds", type=int, default=9, metavar="N", help="quiet rounds that are enough (9)"
    )
    parser.add_argument(
        "--within", type=float, default=60, metavar="MINUTES", help="no case begins after them"
    )
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="every Nth case, from the Ith on"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    for name in arguments.questions:
        if name not in _QUESTIONS:
            parser.error(f"no question {name!r}; expected one of {', '.join(_QUESTIONS)}")
    return arguments


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts):  # argparse refuses a ValueError
        raise argparse.ArgumentTypeError(f"{text!r} is no part; expected 1/2 or 2/2, for example")
    return int(part), int(parts)


def _some(known):
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
