"""What a check of a dataset found, and the report of all checks.

report = check_dataset(dataset)
report.ok                    # no finding
report.raise_for_findings()  # an AssertionError that tells each of them
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
    """Why that matters in training."""
    mend: str
    """How to mend it."""

    def __repr__(self) -> str:
        return f"<Finding {self.check}: {self.seen}>"

    def __str__(self) -> str:
        return f"{self.check}: {self.seen}\n  Why it matters: {self.why}\n  To mend it: {self.mend}"


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks of a dataset found."""

    dataset: str
    """Which dataset."""
    findings: tuple[Finding, ...]
    """Its faults, the most basic first."""
    passed: tuple[str, ...]
    """The checks that found nothing."""
    skipped: Mapping[str, str]
    """The checks that could not be made, and why: they say nothing about the dataset."""
    remarks: tuple[Finding, ...] = ()
    """What is worth knowing and is no fault; `ok` and `raise_for_findings` ignore it."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Nothing for a dataset without findings.

        Raises:
            FaultyDatasetError: an `AssertionError` that tells every finding.
        """
        if self.findings:
            raise FaultyDatasetError(str(self))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """All that there is to tell; `python -m keras_npbatch check` shows it in colours."""
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
