"""A rule: what is true of a good dataset, as a small function that looks for the contrary.

    @rule(why="...", mend="...", after=(every_batch_can_be_read,))
    def values_are_finite(subject):
        for batch in subject.epoch(0):
            if ...:
                yield "batch 3: x has 2 values that are NaN or infinite"

What it yields is what was seen; why it matters and how to mend it are the rule's. One fault gives
one finding, not ten:

- A rule is skipped if one of those in `after` found something: it could not be looked at, or its
  finding would follow from theirs.
- If one of those in `steady` found something, the contents of a batch change from read to read.
  The rule is still looked at, but `subject` compares batches by the user's `sample_id`, or raises
  `NotChecked`: noise must not hide lost samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keras_npbatch.testing.subject.subject import Subject

__all__ = ["Look", "Rule", "Told", "rule"]


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule saw, if there is more to tell than the rule's own `why` and `mend`."""

    seen: str
    """What was seen."""
    why: str | None = None
    """Why it matters; None: the rule's."""
    mend: str | None = None
    """How to mend it; None: the rule's."""
    is_fault: bool = True
    """Whether it is a finding; otherwise a remark."""


Look = Callable[[Subject], Iterable[str | Told]]
"""`look(subject)` yields what was seen; it raises `NotChecked` where it can't tell."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule; two are the same only if they are one object."""

    look: Look
    """What looks for faults."""
    why: str
    """Why a fault matters in training."""
    mend: str
    """How to mend it."""
    after: tuple[Rule, ...]
    """Rules that must hold for this one to mean anything."""
    steady: tuple[Rule, ...]
    """Rules that must hold for contents to be compared."""

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.look.__name__)


def rule(
    *, why: str, mend: str, after: tuple[Rule, ...] = (), steady: tuple[Rule, ...] = ()
) -> Callable[[Look], Rule]:
    """Makes a rule of a function; see `Rule` for the arguments."""
    return lambda look: Rule(look, why, mend, after, steady)
