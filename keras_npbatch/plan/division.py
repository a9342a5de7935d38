"""Divides the plan of a dataset: into a subset, the parts of a split, or folds.

    training, validation = divided(plan, (0.8,), seed=0)
    for training, validation in folded(plan, 5, seed=0, stratify=labels): ...

Fractions alone need no memory, and move no row when others are appended (`split`). Everything else
keeps row numbers, 8 bytes a row (`chosen`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan import cuts
from keras_npbatch.plan.chosen import Chosen, chosen_rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.split import Selection, shares_of
from keras_npbatch.samplers.given import check_length, classes_of
from keras_npbatch.samplers.order import Rows, WholeData, every_row

__all__ = ["divided", "folded", "subset"]

_FOLDS = 5


def subset(plan: Plan, rows: Any) -> Plan:
    """The plan of chosen rows; see `BatchDataset.subset`."""
    chosen = chosen_rows(rows, plan.available)
    return plan.of_part(_part(plan, chosen, f"subset of {len(chosen)} rows"))


def divided(
    plan: Plan,
    fractions: Sequence[Any],
    seed: Any,
    *,
    stratify: Any = None,
    groups: Any = None,
    by: Any = None,
) -> list[Plan]:
    """The plans of disjoint parts; see `BatchDataset.split`."""
    if by is not None:
        if fractions or seed != 0:
            raise InvalidArgumentError(
                f"split was given {'fractions' if fractions else 'a seed'} and by={describe(by)}; "
                "expected the splitter alone: it has settings of its own."
            )
        return list(_by(plan, by, stratify, groups, "split")[0])
    if stratify is None and groups is None:
        selection = plan.selection or Selection(plan.num_samples)
        return [plan.of_part(part) for part in selection.split(fractions, seed)]
    shares = shares_of(fractions)
    seed = whole_number("seed", seed, least=0, most=rng.MAX_SEED)
    name = f"split({', '.join(str(float(share)) for share in shares)}, seed={seed}"
    name += _described(stratify, groups)
    parts = _cut(plan, shares, seed, stratify, groups, "split")
    return [
        plan.of_part(_part(plan, rows, f"part {index} of {name}"))
        for index, rows in enumerate(parts)
    ]


def folded(
    plan: Plan,
    k: Any,
    seed: Any,
    *,
    stratify: Any = None,
    groups: Any = None,
    by: Any = None,
) -> list[tuple[Plan, Plan]]:
    """The plans of training and validation for each fold; see `BatchDataset.folds`."""
    if by is not None:
        if (k, seed) != (None, 0):
            raise InvalidArgumentError(
                f"folds was given {'a seed' if k is None else 'k'} and by={describe(by)}; expected "
                "the splitter alone: it has settings of its own."
            )
        return _by(plan, by, stratify, groups, "folds")
    if isinstance(k, float) and 0 < k <= 0.5:
        raise InvalidArgumentError(
            f"k is {k} (float); expected how many folds. Each of them has 1 / k of the rows to "
            f"validate on: for {k} write folds({round(1 / k)})."
        )
    k = whole_number("k", _FOLDS if k is None else k, least=2, most=plan.num_samples)
    seed = whole_number("seed", seed, least=0, most=rng.MAX_SEED)
    shares = [Fraction(1, k)] * k
    name = f"folds({k}, seed={seed}{_described(stratify, groups)}"
    parts = _cut(plan, shares, seed, stratify, groups, "folds")
    pairs = []
    for index, rows in enumerate(parts):
        others = np.sort(np.concatenate([part for part in parts if part is not rows]))
        fold = f"fold {index} of {name}"
        training = plan.of_part(_part(plan, others, f"all but {fold}"))
        pairs.append((training, plan.of_part(_part(plan, rows, fold))))
    return pairs


def _part(plan: Plan, rows: Rows, name: str) -> Chosen:
    names = () if plan.selection is None else plan.selection.names
    return Chosen(plan.num_rows, (*names, name), rows)


def _described(stratify: Any, groups: Any) -> str:
    told = [n for n, given in (("stratify", stratify), ("groups", groups)) if given is not None]
    return "".join(f", {name}" for name in told) + ")"


def _cut(
    plan: Plan, shares: list[Fraction], seed: int, stratify: Any, groups: Any, call: str
) -> list[Rows]:
    """The rows of each part."""
    rows = every_row(plan.available)
    codes = _labels(plan, stratify, f"labels (stratify=) of {call}", rows)
    of_groups = _labels(plan, groups, f"groups of {call}", rows)
    if codes is not None and len(codes[1]) < 2:
        raise InvalidArgumentError(
            f"labels (stratify=) of {call} are all of one class, {codes[1][0]!r}; expected at "
            "least two. Leave stratify out."
        )
    if of_groups is not None:
        if len(of_groups[1]) == len(rows) > 1:
            raise InvalidArgumentError(
                f"groups of {call} have one row each ({len(rows)} groups); expected several rows "
                "in a group. Without groups, rows are divided one by one."
            )
        if len(of_groups[1]) < len(shares):
            count = len(of_groups[1])
            raise InvalidArgumentError(
                f"{call} was given {count} group{'s' if count > 1 else ''} for {len(shares)} "
                "parts; expected at least one for each."
            )
    if codes is not None and call == "folds" and of_groups is None:
        fewest = np.bincount(codes[0])
        if fewest.min() < len(shares):
            which = int(fewest.argmin())
            raise InvalidArgumentError(
                f"k is {len(shares)}, and class {codes[1][which]!r} has {fewest[which]} rows; "
                "expected at least one for each fold. Use fewer folds."
            )
    if of_groups is not None and (codes is not None or call == "folds"):
        classes = np.zeros(len(rows), np.int64) if codes is None else codes[0]
        names = [] if codes is None else codes[1]
        parts = cuts.dealt(of_groups[0], classes, names, shares, seed, call)
    elif of_groups is not None:
        parts = cuts.grouped(*of_groups, shares, seed)
    else:
        classes = np.zeros(len(rows), np.int64) if codes is None else codes[0]
        parts = cuts.stratified(classes, shares, seed)
    found = [rows[parts == index] for index in range(len(shares))]
    for index, part in enumerate(found):
        if not len(part):
            raise InvalidArgumentError(
                f"part {index} of {call}, counted from 0, would have none of the {len(rows)} "
                "samples; expected at least one. Use more even fractions, fewer parts, or another "
                "seed."
            )
    return found


def _labels(plan: Plan, given: Any, what: str, rows: Rows) -> tuple[Rows, list[Any]] | None:
    """The class of each available row, numbered from 0 up, and their names."""
    if given is None:
        return None
    codes, names = classes_of(given, what)
    check_length(len(codes), plan.num_rows, what)
    present, codes = np.unique(codes[rows], return_inverse=True)
    return codes.astype(np.int64).reshape(-1), [names[each] for each in present.tolist()]


def _by(plan: Plan, by: Any, stratify: Any, groups: Any, call: str) -> list[tuple[Plan, Plan]]:
    """The folds of a splitter of scikit-learn; of a split, the first one alone."""
    if isinstance(by, type) or not callable(getattr(by, "split", None)):
        raise InvalidArgumentError(
            f"by is {describe(by)}; expected a splitter of scikit-learn, such as "
            "StratifiedGroupKFold(5) or TimeSeriesSplit()."
        )
    rows = every_row(plan.available)
    given = []
    for what, each in ((f"labels (stratify=) of {call}", stratify), (f"groups of {call}", groups)):
        if each is not None:
            each = np.asarray(each)
            check_length(len(each) if each.ndim else 1, plan.num_rows, what)
            each = each[rows]
        given.append(each)
    try:
        folds = by.split(np.zeros((len(rows), 1)), *given)
        pairs = list(islice(folds, 1 if call == "split" else None))
    except Exception as error:
        names = [
            name for name, each in (("stratify", stratify), ("groups", groups)) if each is None
        ]
        if names:
            missing = " and ".join(f"no {name}=" for name in names)
            error.add_note(
                f"keras_npbatch: {call}(by={type(by).__name__}) was given {missing}: to a "
                "splitter, stratify= is its y, and groups= its groups."
            )
        raise
    found = []
    for index, (training, validation) in enumerate(pairs):
        name = f"fold {index} of {type(by).__name__}"
        found.append(
            (
                plan.of_part(_part(plan, _told(rows, training, name), f"training of {name}")),
                plan.of_part(_part(plan, _told(rows, validation, name), name)),
            )
        )
    if not found:
        raise InvalidArgumentError(f"by is {describe(by)}, which gave no fold; expected one.")
    return found


def _told(rows: Rows, numbers: Any, name: str) -> Rows:
    """The rows with these numbers, which a splitter gave."""
    try:
        return rows[chosen_rows(numbers, WholeData(len(rows)))]
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"in {name}, {error}") from None
