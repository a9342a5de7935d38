"""A rule: what is true of a good dataset, as a small function that looks for violations.

    @rule(why="...", mend="...", after=(every_batch_can_be_read,))
    def values_are_finite(subject):
        for batch in subject.epoch(0):
            if ...:
                yield "batch 3: x has 2 values that are NaN or infinite"

The function yields what was seen; the rule says why it matters and how to mend it. One fault gives
one finding, not ten:

- A rule is skipped if a rule in `after` found something: then it can't be checked, or its finding
  would only follow from the other.
- If a rule in `steady` found something, the contents of a batch change between reads. The rule is
  still checked, but `subject` compares batches by the user's `sample_id`, or raises `NotChecked`:
  noise must not hide lost samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keras_npbatch.testing.subject.subject import Subject

__all__ = ["Look", "Rule", "Told", "rule"]


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule saw, with a `why` and `mend` that differ from the rule's own, or as a remark."""

    seen: str
    """What was seen."""
    why: str | None = None
    """Why it matters; None: the rule's text."""
    mend: str | None = None
    """How to mend it; None: the rule's text."""
    is_fault: bool = True
    """Whether it is a finding; otherwise it is a remark."""


Look = Callable[[Subject], Iterable[str | Told]]
"""`look(subject)` yields what was seen; it raises `NotChecked` if it can't decide."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule, as `rule` makes it of a function; compared by identity."""

    look: Look
    """The function that looks for faults."""
    why: str
    """Why a fault matters in training."""
    mend: str
    """How to mend it."""
    after: tuple[Rule, ...]
    """Rules that must hold for this one to mean anything."""
    steady: tuple[Rule, ...]
    """Rules that must hold for contents to be comparable."""

    @property
    def name(self) -> str:
        """What reports show, and `ignore` takes: the name of the function."""
        return str(self.look.__name__)


def rule(
    *, why: str, mend: str, after: tuple[Rule, ...] = (), steady: tuple[Rule, ...] = ()
) -> Callable[[Look], Rule]:
    """A decorator that makes a function a rule; see `Rule` for the arguments."""
    return lambda look: Rule(look, why, mend, after, steady)
