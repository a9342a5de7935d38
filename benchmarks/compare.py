"""Two saved runs, row by row: slower, faster, or within noise.

    python -m benchmarks compare NEW.json             # with the committed baseline
    python -m benchmarks compare OLD.json NEW.json

`change` has the rule; a row is not judged if others took the cores meanwhile. Compared is the ratio
of each row to its limit, which moves little from one machine to another of its kind; still, runs of
one machine are the better evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import change, results
from benchmarks.cases import Row
from benchmarks.neighbours import QUIET_CORES
from benchmarks.table import as_markdown
from benchmarks.timing import spread

__all__ = ["Comparison", "compare"]

_COLUMNS = {
    "change": ".2f",
    "verdict": "s",
    "question": "s",
    "what": "s",
    "figure": "s",
    "old": ".2f",
    "old spread": "s",
    "new": ".2f",
    "new spread": "s",
}
_SAME_MACHINE = ("processor", "cores", "python", "versions")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of each row."""

    rows: list[Row]
    notes: list[str]

    @property
    def has_slower(self) -> bool:
        """Whether anything takes longer than it did."""
        return any(row["verdict"] == "slower" for row in self.rows)

    def __str__(self) -> str:
        """A table, the greatest changes first, and the notes."""
        table = as_markdown(sorted(self.rows, key=lambda row: -row["change"]), _COLUMNS)
        return "\n".join([table, "", *(f"- {note}" for note in self.notes)])


def compare(old: dict[str, Any], new: dict[str, Any], questions: Mapping[str, Any]) -> Comparison:
    """Compares the rows that both runs have.

    Args:
        old: a run, as `results.read` gives it.
        new: another.
        questions: the module of each question, by its name.
    """
    rows, notes = [], []
    for name in new["answers"]:
        question = questions[name]
        before = _by_key(old["answers"].get(name, []), question.KEY)
        after = _by_key(new["answers"][name], question.KEY)
        rows += [
            _compared(question, key, before[key], row)
            for key, row in after.items()
            if key in before
        ]
        notes += [f"{name}: {key} is new" for key in after if key not in before]
        notes += [f"{name}: {key} was not measured" for key in before if key not in after]
    said = [row["verdict"] for row in rows]
    counts = ", ".join(f"{said.count(verdict)} {verdict}" for verdict in dict.fromkeys(said))
    differs = [key for key in _SAME_MACHINE if old["machine"].get(key) != new["machine"].get(key)]
    if differs:
        notes.append(
            f"the runs are of different machines ({', '.join(differs)}): "
            f"{results.told(old['machine'])}; and {results.told(new['machine'])}"
        )
    return Comparison(rows, [counts or "no row is in both runs", *notes])


def _by_key(rows: list[Row], key: tuple[str, ...]) -> dict[str, Row]:
    return {" · ".join(str(row[name]) for name in key): row for row in rows}


def _compared(question: Any, key: str, old: Row, new: Row) -> Row:
    before, after = (row.get("ratios") or [row[question.RATIO]] for row in (old, new))
    was_disturbed = any(row.get("others", 0.0) > QUIET_CORES for row in (old, new))
    return {
        "question": question.NAME,
        "what": key,
        "figure": question.RATIO,
        "verdict": "disturbed" if was_disturbed else change.verdict(before, after),
        "change": change.change(before, after),
        "old": old[question.RATIO],
        "old spread": spread(before),
        "new": new[question.RATIO],
        "new spread": spread(after),
    }
