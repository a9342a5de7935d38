"""Prints a report in a terminal, with colours.

print_report(check_dataset(dataset), Console())
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from keras_npbatch.testing.findings import Report

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print findings and remarks with reasons and fixes, then the passed and skipped checks.

    Args:
        report: the report of a dataset.
        console: the console. The terminal wraps long lines, so that they can be searched.
    """

    def write(line: str = "") -> None:
        console.print(line, soft_wrap=True, highlight=False)

    count = len(report.findings)
    verdict = f"{count} finding{'' if count == 1 else 's'}" if count else "no findings"
    write(f"[bold]{escape(report.dataset)}[/]: [bold {'red' if count else 'green'}]{verdict}[/]")
    marks = [(finding, "red", "\N{BALLOT X}") for finding in report.findings]
    marks += [(remark, "yellow", "!") for remark in report.remarks]
    for finding, colour, mark in marks:
        write()
        write(f"[bold {colour}]{mark} {finding.check}[/]")
        write(f"  [dim]seen:[/] {escape(finding.seen)}")
        write(f"  [dim]why it matters:[/] {escape(finding.why)}")
        write(f"  [dim]to mend it:[/] {escape(finding.mend)}")
    write()
    for name in report.passed:
        write(f"[green]\N{CHECK MARK}[/] {name}")
    for name, reason in report.skipped.items():
        write(f"[dim]- {name}: {escape(reason)}[/]")
