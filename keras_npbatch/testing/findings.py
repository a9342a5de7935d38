"""The findings of a check of a dataset, and the report of all checks.

report = check_dataset(dataset)
report.ok                    # no finding
report.raise_for_findings()  # an AssertionError that lists all findings
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_npbatch.errors import FaultyDatasetError

__all__ = ["Finding", "Report"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a dataset."""

    check: str
    """The check that found it."""
    seen: str
    """What was seen."""
    why: str
    """Why it matters in training."""
    mend: str
    """How to fix it."""

    def __repr__(self) -> str:
        return f"<Finding {self.check}: {self.seen}>"

    def __str__(self) -> str:
        return f"{self.check}: {self.seen}\n  Why it matters: {self.why}\n  To mend it: {self.mend}"


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all checks of a dataset."""

    dataset: str
    """The class of the dataset."""
    findings: tuple[Finding, ...]
    """The faults, the most basic first."""
    passed: tuple[str, ...]
    """The checks that found nothing."""
    skipped: Mapping[str, str]
    """The skipped checks, and why: they say nothing about the dataset."""
    remarks: tuple[Finding, ...] = ()
    """Worth knowing, but not faults; `ok` and `raise_for_findings` ignore them."""

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Raise an error if there are findings.

        Raises:
            FaultyDatasetError: an `AssertionError` that lists all findings.
        """
        if self.findings:
            raise FaultyDatasetError(str(self))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """The whole report as text; `python -m keras_npbatch check` prints it in colours."""
        count = len(self.findings)
        parts = [f"{self.dataset}: {count or 'no'} finding{'' if count == 1 else 's'}"]
        parts += map(str, self.findings)
        parts += [f"Remark: {remark}" for remark in self.remarks]
        if self.skipped:
            parts.append(
                "Not checked:\n"
                + "\n".join(f"  {name}: {reason}" for name, reason in self.skipped.items())
            )
        return "\n\n".join(parts)
