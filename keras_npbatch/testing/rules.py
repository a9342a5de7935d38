"""A rule: what is true of a good dataset, as a small function that looks for the contrary.

    @rule(why="...", mend="...", after=(every_batch_can_be_read,))
    def values_are_finite(subject):
        for batch in subject.epoch(0):
            if ...:
                yield "batch 3: x has 2 values that are NaN or infinite"

What it yields is what was seen; why it matters and how to mend it are the rule's. A rule is looked
at only where those in `after` found nothing: of one fault there is one finding, not ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keras_npbatch.testing.subject import Subject

__all__ = ["Look", "Rule", "rule"]

Look = Callable[[Subject], Iterable[str]]
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

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.look.__name__)


def rule(*, why: str, mend: str, after: tuple[Rule, ...] = ()) -> Callable[[Look], Rule]:
    """Makes a rule of a function; see `Rule` for the arguments."""
    return lambda look: Rule(look, why, mend, after)
