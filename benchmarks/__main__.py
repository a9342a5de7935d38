"""The command line: `python -m benchmarks [QUESTION ...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks import fit, imports, iterate, memory, start
from benchmarks.cases import Options, Row, run_case
from benchmarks.table import as_markdown
from benchmarks.timing import Rounds
from benchmarks.workloads import WORKLOADS

_QUESTIONS = {question.NAME: question for question in (iterate, fit, start, memory, imports)}
_BACKENDS = ("jax", "torch", "tensorflow")
_PACKAGES = ("keras_npbatch", "keras", "numpy", "tensorflow-cpu", "tensorflow", "jax", "torch")


def main() -> int:
    """Runs what was asked for; 1 if a case failed."""
    arguments = _parse()
    rounds = Rounds(enough=1, budget_s=0) if arguments.smoke else Rounds(9, arguments.budget)
    options = Options(arguments.smoke, arguments.only, arguments.backend, rounds)
    answers: dict[str, list[Row]] = {}
    failed = False
    for name in arguments.questions or _QUESTIONS:
        question = _QUESTIONS[name]
        rows = answers[name] = []
        for case in question.cases(options):
            print(f"{name} {case.environment} {case.arguments}", file=sys.stderr)
            try:
                rows += run_case(name, case)
            except subprocess.CalledProcessError:
                print("FAILED", file=sys.stderr)
                failed = True
            if arguments.out:  # after each case, so that an interrupted run leaves what it has
                report = {"command": sys.argv[1:], "machine": _machine(), "answers": answers}
                arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\n### {question.TITLE}\n\n{as_markdown(rows, question.COLUMNS)}\n")
        if not options.smoke:  # tiny data say nothing
            for line in question.verdicts(rows):
                print(f"- {line}")
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", help=f"of {', '.join(_QUESTIONS)}; default: all")
    parser.add_argument("--smoke", action="store_true", help="tiny data: does everything run?")
    parser.add_argument("--only", type=_some(WORKLOADS), default=tuple(WORKLOADS), metavar="T,C,I")
    parser.add_argument("--backend", type=_some(_BACKENDS), default=_BACKENDS, metavar="jax,torch")
    parser.add_argument(
        "--budget", type=float, default=60, metavar="SECONDS", help="for the rounds of one case"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    for name in arguments.questions:
        if name not in _QUESTIONS:
            parser.error(f"no question {name!r}; expected one of {', '.join(_QUESTIONS)}")
    return arguments


def _some(known):
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _machine() -> dict[str, object]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(main())
