"""`python -m keras_npbatch check module:factory`: run `testing.check_dataset` from a shell.

`module:factory` names a dataset, or a function or class that returns one when called without
arguments. The exit status is 0 without findings, 1 with findings, and 2 for wrong usage or a check
that could not be made.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from keras_npbatch.errors import InvalidArgumentError, describe_error

__all__ = ["main"]

_FOUND, _WRONG_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command-line arguments; by default those of this process.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        dataset = _made(options.dataset)
    except _UsageError as error:
        parser.exit(_WRONG_USAGE, f"{parser.prog}: {error}\n")

    from rich.console import Console

    from keras_npbatch.testing.checking import check_dataset
    from keras_npbatch.testing.printing import print_report

    try:
        report = check_dataset(
            dataset,
            num_samples=options.num_samples,
            ignore=options.ignore,
            timeout=options.timeout,
        )
    except InvalidArgumentError as error:
        parser.exit(_WRONG_USAGE, f"{parser.prog}: {error}\n")
    except (Exception, SystemExit) as error:  # noqa: BLE001  # neither findings nor clean
        traceback.print_exc()
        told = f"the check was ended by {describe_error(error)}"
        parser.exit(_WRONG_USAGE, f"{parser.prog}: {told}\n")
    if isinstance(sys.stdout, io.TextIOWrapper):  # for a console without check marks
        sys.stdout.reconfigure(errors="replace")
    print_report(report, Console())
    return 0 if report.ok else _FOUND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m keras_npbatch", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="command")
    check = commands.add_parser("check", help="find what is wrong with a dataset")
    check.add_argument(
        "dataset",
        metavar="module:factory",
        help="a dataset, or what makes one when it is called without arguments",
    )
    check.add_argument(
        "--num-samples", type=int, metavar="N", help="samples that an epoch should have"
    )
    check.add_argument(
        "--ignore", action="append", default=[], metavar="CHECK", help="a check to leave out"
    )
    check.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds for one check (60)"
    )
    return parser


class _UsageError(Exception):
    """Wrong usage: the command prints the text and exits with status 2."""


def _made(target: str) -> Any:
    """The dataset that the command line names."""
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise _UsageError(f"{target!r} is no module:factory, such as my_project.data:make_train")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise _UsageError(f"{module_name} can't be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise _UsageError(f"{module_name} can't be imported: {describe_error(error)}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise _UsageError(f"{module_name} has no {name}") from error
        except (Exception, SystemExit) as error:
            raise _UsageError(f"{target} can't be looked up: {describe_error(error)}") from error
    if isinstance(found, type) or not _has(found, "on_epoch_end"):
        if not callable(found):
            raise _UsageError(f"{target} is neither a dataset nor makes one")
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise _UsageError(f"{target}() raised {describe_error(error)}") from error
    return found


def _has(found: Any, name: str) -> bool:
    try:
        return hasattr(found, name)
    except (Exception, SystemExit):  # noqa: BLE001  # raised by a `__getattr__`
        return False


if __name__ == "__main__":
    sys.exit(main())
