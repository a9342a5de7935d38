"""`check_dataset`: finds everything that is wrong with a dataset, in one call.

    report = check_dataset(Slides(paths, labels))
    report.raise_for_findings()

Each check applies a rule (see `rules`) in its own thread, for at most `timeout` seconds: if the
dataset hangs, that is a finding, and the check does not hang. Only copies of the dataset are read,
and the global random generators are restored.
"""

from __future__ import annotations

import threading
import time
import unittest
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_npbatch import rng
from keras_npbatch.errors import FaultyDatasetError, InvalidArgumentError, describe
from keras_npbatch.sources.progress import counted
from keras_npbatch.testing.findings import Finding, Report
from keras_npbatch.testing.subject import memory

if TYPE_CHECKING:
    from keras_npbatch.testing.rules.rule import Rule, Told
    from keras_npbatch.testing.subject.subject import SampleId, Subject

__all__ = ["Check", "check_dataset", "checks_for"]

_GRACE_S = 2.0
"""Extra time for a check to notice that its time is over."""


def check_dataset(
    dataset: Any,
    sample_id: SampleId | None = None,
    *,
    num_samples: int | None = None,
    shuffles: bool | None = None,
    with_seed: Callable[[int], Any] | None = None,
    ignore: Iterable[str] = (),
    timeout: float = 60.0,
) -> Report:
    """Check a dataset for mistakes that loaders make, and report what is wrong with it.

    Reads two epochs, and some batches several times, in threads and worker processes, and trains a
    small model for one step. All of this happens on copies of the dataset. Most checks need no
    argument; each argument makes them stricter. On a terminal a bar shows how far it is.

    Example:

    ```python
    report = keras_npbatch.testing.check_dataset(Slides(paths, labels, batch_size=4))
    report.raise_for_findings()
    ```

    Args:
        dataset: any finite `keras.utils.PyDataset`, such as a `BatchDataset`.
        sample_id: a function that takes a batch and returns the id of the sample in each row, as an
            array of shape `(n,)`, or `(n, k)` if the ids are read from k parts of the batch (such
            as x and y), which must agree. Without it, samples are identified by their contents.
        num_samples: number of samples that an epoch should have. A `BatchDataset` provides it.
        shuffles: whether epochs should differ in their order. Defaults to the attribute `shuffle`
            of the dataset, if it has one.
        with_seed: a function that takes a seed and makes the dataset with it, to check that the
            seed decides the order: `with_seed=lambda seed: Slides(paths, labels, seed=seed)`.
        ignore: names of checks to leave out.
        timeout: maximum number of seconds for each check.

    Returns:
        A report with `ok`, `findings`, `remarks` and `raise_for_findings()`.

    Raises:
        InvalidArgumentError: for anything but a finite PyDataset, and for invalid arguments.
    """
    checks = checks_for(
        dataset,
        sample_id,
        num_samples=num_samples,
        shuffles=shuffles,
        with_seed=with_seed,
        ignore=ignore,
        timeout=timeout,
    )
    with counted(checks, f"checking {type(dataset).__name__}") as each:
        outcomes = {check.name: check.outcome() for check in each}
    return Report(
        dataset=f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        findings=tuple(finding for outcome in outcomes.values() for finding in outcome.findings),
        remarks=tuple(remark for outcome in outcomes.values() for remark in outcome.remarks),
        passed=tuple(
            name
            for name, outcome in outcomes.items()
            if not outcome.findings and outcome.skipped is None
        ),
        skipped={
            name: outcome.skipped
            for name, outcome in outcomes.items()
            if outcome.skipped is not None
        },
    )


def checks_for(
    dataset: Any,
    sample_id: SampleId | None = None,
    *,
    num_samples: int | None = None,
    shuffles: bool | None = None,
    with_seed: Callable[[int], Any] | None = None,
    ignore: Iterable[str] = (),
    timeout: float = 60.0,
) -> list[Check]:
    """The checks of a dataset as a list, for `pytest.mark.parametrize`.

    Example:

    ```python
    @pytest.mark.parametrize("check", checks_for(Slides(paths, labels)), ids=str)
    def test_slides(check):
        check()
    ```

    Args:
        dataset: see `check_dataset`.
        sample_id: see `check_dataset`.
        num_samples: see `check_dataset`.
        shuffles: see `check_dataset`.
        with_seed: see `check_dataset`.
        ignore: see `check_dataset`.
        timeout: see `check_dataset`.

    Returns:
        Callables without arguments. Each raises a `FaultyDatasetError` if it finds something, or
        `unittest.SkipTest`, which pytest understands, if it can't check this dataset.
    """
    from keras_npbatch.testing.rules.all import RULES  # Keras is imported here, not before
    from keras_npbatch.testing.subject.subject import Subject

    names = [rule.name for rule in RULES]
    ignored = [ignore] if isinstance(ignore, str) else list(ignore)
    for name in ignored:
        if name not in names:
            raise InvalidArgumentError(
                f"ignore has {describe(name)}; expected names of checks: {', '.join(names)}."
            )
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < float("inf"):
        raise InvalidArgumentError(
            f"timeout is {describe(timeout)}; expected seconds, a number above 0."
        )
    subject = Subject(
        dataset,
        sample_id=sample_id,
        num_samples=num_samples,
        shuffles=shuffles,
        with_seed=with_seed,
    )
    examination = _Examination(subject, timeout)
    return [Check(rule, examination) for rule in RULES if rule.name not in ignored]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a check."""

    findings: tuple[Finding, ...] = ()
    """The faults that it found."""
    remarks: tuple[Finding, ...] = ()
    """Observations that are not faults."""
    skipped: str | None = None
    """Why the check was skipped; None if it was not."""
    blocked_by: tuple[str, ...] = ()
    """The checks whose findings make the checks that build on this one meaningless."""


class Check:
    """One check of one dataset.

    Calling it raises a `FaultyDatasetError` if it finds something.
    """

    def __init__(self, rule: Rule, examination: _Examination) -> None:
        self.name = rule.name
        """The name: a statement that is true of a good dataset."""
        self._rule, self._examination = rule, examination

    def __call__(self) -> None:
        """Run the check.

        Raises:
            FaultyDatasetError: an `AssertionError` that says what was found.
            unittest.SkipTest: if this dataset can't be checked.
        """
        outcome = self.outcome()
        if outcome.findings:
            raise FaultyDatasetError("\n\n".join(map(str, outcome.findings)))
        if outcome.skipped is not None:
            raise unittest.SkipTest(f"{self.name}: {outcome.skipped}")

    def outcome(self) -> Outcome:
        """The result of the check, which runs only once."""
        return self._examination.outcome(self._rule)

    def __str__(self) -> str:
        return self.name


class _Examination:
    """All checks of one dataset; each runs once, after those it builds on."""

    def __init__(self, subject: Subject, timeout: float) -> None:
        self._subject, self._timeout_s = subject, float(timeout)
        self._outcomes: dict[Rule, Outcome] = {}
        self._hangs = False

    def outcome(self, rule: Rule) -> Outcome:
        if rule not in self._outcomes:
            blocked_by, noise = self._found_by(rule.after), self._found_by(rule.steady)
            if self._hangs:
                outcome = Outcome(skipped="the dataset hangs")
            elif blocked_by:
                reason = f"first mend: {', '.join(blocked_by)}"
                outcome = Outcome(skipped=reason, blocked_by=blocked_by)
            else:
                self._subject.noise = noise
                outcome = self._look(rule)
            self._outcomes[rule] = outcome
        return self._outcomes[rule]

    def _found_by(self, rules: Iterable[Rule]) -> tuple[str, ...]:
        """The rules whose findings make one of these rules fail or be skipped."""
        found = [name for rule in rules for name in self.outcome(rule).blocked_by]
        return tuple(dict.fromkeys(found))

    def _look(self, rule: Rule) -> Outcome:
        from keras_npbatch.testing.rules.rule import Told
        from keras_npbatch.testing.subject.subject import NotChecked, Unreadable

        skipped: str | None = None
        seen: list[str | Told] = []
        raised: list[BaseException] = []

        def look() -> None:
            try:
                seen.extend(rule.look(self._subject))
            except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
                raised.append(error)

        self._subject.deadline = time.monotonic() + self._timeout_s
        thread = threading.Thread(target=look, name="keras_npbatch-check", daemon=True)
        with rng.untouched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            thread.start()
            thread.join(self._timeout_s + _GRACE_S)
        if thread.is_alive():
            # Its deadline stays, so the thread ends if the dataset returns. No other check runs.
            self._hangs = True
            memory.restore()
            seen = [f"it did not come back within {self._timeout_s:g} seconds"]
        elif raised and isinstance(raised[0], NotChecked):
            skipped = str(raised[0])
        elif raised and isinstance(raised[0], Unreadable):
            seen.append(str(raised[0]))
        elif raised:
            raise raised[0]
        told = [one if isinstance(one, Told) else Told(one) for one in seen]
        findings, remarks = (
            tuple(
                Finding(rule.name, one.seen, one.why or rule.why, one.mend or rule.mend)
                for one in told
                if one.is_fault is is_fault
            )
            for is_fault in (True, False)
        )
        if findings:
            return Outcome(findings, remarks, blocked_by=(rule.name,))
        return Outcome((), remarks, skipped)
