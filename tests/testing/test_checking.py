"""`check_dataset` finds what is wrong with a loader, and nothing where nothing is."""

from __future__ import annotations

import os
import pickle
import random
import re
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy import empty_like

from keras_npbatch import ArrayDataset, testing
from keras_npbatch.errors import FaultyDatasetError, InvalidArgumentError
from keras_npbatch.testing import Finding, Report, check_dataset, checks_for
from keras_npbatch.testing.rules.all import RULES
from tests.testing.gallery import broken, good
from tests.testing.gallery.broken import BROKEN, Broken
from tests.testing.gallery.good import GOOD, Loader, Seeded, Textbook

ROOT = Path(__file__).parents[2]
FINDINGS = Path(__file__).parent / "gallery" / "findings.txt"
ORIGINAL = (np.empty_like,)
IN_PROCESSES = "processes_read_the_same_batches"
"""Starts processes, which import Keras for a `PyDataset`: made for some of the gallery."""
SOME_IN_PROCESSES = [
    "textbook, shuffled",
    *("load", "load, a random transform", "__getitem__"),
    *("arrays", "arrays, nested", "arrays, a part of a split"),
    *("arrays, padded and augmented", "arrays, augmented in training"),
]


def found(report):
    return {finding.check for finding in report.findings}


# --- the galleries -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_found_in_a_good_loader(name):
    ignore = () if name in SOME_IN_PROCESSES else [IN_PROCESSES]
    report = check_dataset(GOOD[name](), ignore=ignore)
    assert report.ok, report
    assert report.findings == ()
    assert set(report.passed) | set(report.skipped) | set(ignore) == {rule.name for rule in RULES}


SLOW = [broken.DiesInAWorker]
"""Their worker processes are replaced a few times before they are given up."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.kind.__name__,
            marks=[pytest.mark.more] if case.kind in SLOW else [],
        )
        for case in BROKEN
    ],
)
def test_a_broken_loader_is_found_by_the_checks_that_should(case: Broken):
    ignore = () if IN_PROCESSES in case.found_by else [IN_PROCESSES]
    report = check_dataset(case.kind(), **case.arguments, ignore=ignore)
    assert found(report) == case.found_by, report
    assert not report.ok
    told = "\n".join(
        f"{case.kind.__name__}{', '.join(['', *case.arguments])}\n    {finding.check}: "
        f"{without_places(finding.seen)}"
        for finding in report.findings
    )
    assert told in FINDINGS.read_text()


def without_places(seen: str) -> str:
    """Without what differs from run to run: where in a file, in memory, which batch threads met."""
    seen = re.sub(r" \(at .*", "", seen)
    seen = re.sub(r"0x[0-9a-f]+", "0x...", seen)
    seen = seen.replace("Can't get local object", "Can't pickle local object")  # Python 3.13
    return re.sub(r"dataset\[\d\] has (.* threads)", r"dataset[.] has \1", seen)


def test_every_check_finds_some_loader_of_the_gallery():
    """A check that finds nothing in any of them might be unable to."""
    cases = [*BROKEN, *broken.BROKEN_FOR_KERAS]
    assert set().union(*(case.found_by for case in cases)) == {rule.name for rule in RULES}


def test_every_broken_loader_is_in_the_list():
    classes = {
        kind
        for kind in vars(broken).values()
        if isinstance(kind, type)
        and kind.__module__.startswith(broken.__name__)
        and hasattr(kind, "on_epoch_end")
    }
    assert classes == {case.kind for case in [*BROKEN, *broken.BROKEN_FOR_KERAS]}


def test_a_fault_can_only_be_found_where_it_is_told_what_is_right():
    """Without the argument nothing is found: contents are the same in each epoch."""
    for case in BROKEN:
        if case.kind in (broken.RepeatsAtTheWrapUnshuffled, broken.TargetsOfTheNextRow):
            assert check_dataset(case.kind(), ignore=[IN_PROCESSES]).ok
    assert check_dataset(broken.IgnoresItsSeed(), ignore=[IN_PROCESSES]).ok


def jitter(batch, rng):
    x, y = batch
    return x + rng.standard_normal(x.shape), y


@settings(max_examples=20)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**70),
    shuffle=st.booleans(),
    remainder=st.sampled_from(["keep", "drop", "pad", "spread"]),
    transform=st.sampled_from([None, jitter]),
    workers=st.integers(0, 2),
    epoch=st.integers(0, 5),
)
def test_nothing_is_found_in_our_own_whatever_the_settings(n, batch_size, epoch, **chosen):
    batch_size = min(n, batch_size)
    for make in (lambda **s: Loader(n=n, **s), lambda **s: good.arrays(n=n, **s)):
        dataset = make(batch_size=batch_size, **chosen)
        dataset.set_epoch(epoch)
        report = check_dataset(
            dataset,
            broken.id_of_y,
            with_seed=lambda seed, make=make: make(
                **{**chosen, "seed": seed}, batch_size=batch_size
            ),
            ignore=[IN_PROCESSES],
        )
        assert report.ok, report


@settings(max_examples=20)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    kind=st.sampled_from([Textbook, Seeded, good.Shuffled, good.InPlace, good.Augmented]),
)
def test_nothing_is_found_in_a_textbook_dataset_of_any_size(n, batch_size, kind):
    report = check_dataset(
        kind(*good.data(n), batch_size=batch_size),
        broken.id_of_y,
        num_samples=n,
        ignore=[IN_PROCESSES],
    )
    assert report.ok, report


@settings(max_examples=30)
@given(
    remainder=st.sampled_from(["drop", "keep", "pad", "spread"]),
    batch_size=st.integers(2, 8),
    full=st.integers(1, 5),
    rest=st.integers(1, 7),
    different=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_equal_inputs_may_have_different_targets(
    remainder, batch_size, full, rest, different, seed
):
    """Also where each epoch leaves out others of them."""
    y = np.arange(full * batch_size + min(rest, batch_size - 1))
    x = np.random.default_rng(seed).integers(0, different, len(y))
    ours = ArrayDataset(x, y, batch_size=batch_size, remainder=remainder, seed=seed)
    for dataset in (ours, Textbook(x, y, batch_size), Seeded(x, y, batch_size, seed=seed)):
        report = check_dataset(dataset, ignore=[IN_PROCESSES])
        assert report.ok, report
        assert "samples_keep_their_targets" in report.passed


class OtherTargetsEachEpoch(Loader):
    """Of each input, though an epoch leaves two samples out."""

    def load(self, rows):
        x, y = super().load(rows)
        return x // 25, y + 100 * self.epoch


def test_more_targets_that_move_than_samples_left_out_are_found():
    report = check_dataset(OtherTargetsEachEpoch(remainder="drop"), ignore=[IN_PROCESSES])
    assert [finding.seen for finding in report.findings] == [
        "4 of 4 inputs have other targets in the next epoch"
    ]


# --- arguments ---------------------------------------------------------------------------------


def test_sample_id_tells_which_sample_is_which():
    same = {"ignore": [IN_PROCESSES]}
    assert check_dataset(broken.RepeatsAtTheWrapUnshuffled(), **same).ok
    report = check_dataset(broken.RepeatsAtTheWrapUnshuffled(), sample_id=broken.id_of_y, **same)
    assert found(report) == {"every_sample_comes_once"}


@pytest.mark.parametrize("kind", [Textbook, Loader])
def test_num_samples_is_what_an_epoch_should_have(kind):
    assert check_dataset(kind(), num_samples=good.N, ignore=[IN_PROCESSES]).ok
    report = check_dataset(kind(), num_samples=60, ignore=[IN_PROCESSES])
    (finding,) = report.findings
    assert finding.seen == "50 samples came in an epoch; expected 60"


def test_sample_id_makes_augmented_samples_known_again():
    def skipped(**arguments):
        return check_dataset(good.Augmented(), ignore=[IN_PROCESSES], **arguments).skipped

    assert skipped()["every_sample_comes_once"] == (
        "the contents of the samples differ from epoch to epoch, so none is known again; tell "
        "which sample is which: sample_id=..."
    )
    assert "every_sample_comes_once" not in skipped(sample_id=broken.id_of_y)


@pytest.mark.parametrize(
    ("sample_id", "told"),
    [
        (lambda batch: batch[1][:-1], "ndarray of shape (7,) and dtype int64"),
        (lambda batch: np.zeros((8, 1, 1)), "ndarray of shape (8, 1, 1) and dtype float64"),
    ],
)
def test_ids_that_do_not_fit_the_batch_are_refused(sample_id, told):
    with pytest.raises(InvalidArgumentError) as caught:
        check_dataset(Textbook(), sample_id)
    assert str(caught.value) == (
        f"sample_id(batch) returned {told} for a batch of 8; expected an array of shape (8,), or "
        "(8, k) for ids read from k parts of the batch."
    )


def test_an_error_in_sample_id_reaches_the_caller_as_itself():
    with pytest.raises(ZeroDivisionError):
        check_dataset(Textbook(), lambda batch: 1 // 0)


def test_shuffles_tells_what_an_attribute_does_not():
    class Silent(Textbook):
        pass

    silent = {"ignore": [IN_PROCESSES, "it_can_be_sent_to_processes"]}
    assert "shuffling_changes_the_order" in check_dataset(Silent(), **silent).skipped
    assert check_dataset(Silent(), shuffles=False, **silent).ok
    assert found(check_dataset(Silent(), shuffles=True, **silent)) == {
        "shuffling_changes_the_order"
    }


def test_ignore_leaves_checks_out():
    ignored = ["len_is_the_number_of_batches", IN_PROCESSES]
    report = check_dataset(broken.ForgetsTheLastBatch(), ignore=ignored)
    assert report.ok
    assert not set(ignored) & {*report.passed, *report.skipped}
    assert check_dataset(broken.Nothing(), ignore="batches_have_a_form_that_keras_takes").ok


def test_timeout_bounds_each_check():
    report = check_dataset(broken.Hangs(), timeout=0.2)
    assert [finding.seen for finding in report.findings] == [
        "it did not come back within 0.2 seconds"
    ]
    assert set(report.skipped.values()) == {
        "the dataset hangs", "first mend: every_batch_can_be_read"
    } or set(report.skipped.values()) == {"the dataset hangs"}  # fmt: skip
    assert report.passed == ()


def test_a_dataset_too_large_for_the_time_is_no_finding():
    class Long(Textbook):
        def __len__(self):
            return 10**9

        def __getitem__(self, idx):
            return super().__getitem__(idx % 6)

    report = check_dataset(Long(), timeout=0.3, ignore=["it_can_be_sent_to_processes"])
    assert report.ok, report
    told = report.skipped["every_batch_can_be_read"]
    assert re.fullmatch(
        r"its time was over before batch \d+ of 1000000000; give a longer timeout, or a dataset "
        "with a part of the data",
        told,
    )
    # Once for all rules: they stopped at the same batch.
    assert report.skipped["lengths_agree"] == report.skipped["values_are_finite"] == told


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        (
            np.zeros(3),
            {},
            "dataset is ndarray of shape (3,) and dtype float64; expected a keras.utils.PyDataset, "
            "such as a BatchDataset. Pass the object, not its class.",
        ),
        (
            Textbook,
            {},
            "dataset is the class Textbook; expected a keras.utils.PyDataset, such as a "
            "BatchDataset. Pass the object, not its class.",
        ),
        (
            Loader().repeat(),
            {},
            "dataset is an endless Loader; expected a finite one. Check one epoch of it: the "
            "dataset before repeat().",
        ),
        (Textbook(), {"sample_id": 3}, "sample_id is 3 (int); expected a function."),
        (Textbook(), {"with_seed": 3}, "with_seed is 3 (int); expected a function."),
        (
            Textbook(),
            {"num_samples": 0},
            "num_samples is 0 (int); expected a whole number from 1 up.",
        ),
        (
            Textbook(),
            {"timeout": 0},
            "timeout is 0 (int); expected seconds, a number above 0.",
        ),
        (
            Textbook(),
            {"timeout": True},
            "timeout is True (bool); expected seconds, a number above 0.",
        ),
        (
            Textbook(),
            {"ignore": "purity"},
            "ignore has 'purity' (str); expected names of checks: "
            f"{', '.join(rule.name for rule in RULES)}.",
        ),
        (
            Seeded(),
            {"with_seed": np.ones},
            "with_seed(0) returned ndarray of shape (0,) and dtype float64; expected a "
            "keras.utils.PyDataset.",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(dataset, arguments, message):
    with pytest.raises(InvalidArgumentError) as caught:
        check_dataset(dataset, **arguments)
    assert str(caught.value) == message


# --- nothing is left changed -------------------------------------------------------------------


def everything(value):
    return pickle.dumps(vars(value), protocol=5)


@pytest.mark.parametrize(
    "kind",
    [good.Shuffled, good.InPlace, good.Augmented, broken.ShufflesInGetitem, broken.ChangesItsData,
     broken.OwnGenerator, broken.ConsumesInHook, broken.SharedBuffer, broken.RunningMean],
)  # fmt: skip
def test_the_dataset_is_as_before(kind):
    dataset = kind()
    before = everything(dataset)
    check_dataset(dataset, ignore=[IN_PROCESSES])
    assert everything(dataset) == before


def test_a_dataset_of_ours_is_where_it_was_and_its_iteration_goes_on():
    dataset = Loader(workers=2)
    dataset.load_state_dict(dataset.state_dict(epoch=4, step=2))
    iterator = iter(dataset)
    next(iterator)
    state = dataset.state_dict()
    report = check_dataset(dataset)
    assert report.ok, report
    assert dataset.state_dict() == state
    assert (dataset.epoch, dataset.workers, dataset.use_multiprocessing) == (4, 2, False)
    np.testing.assert_array_equal(next(iterator)[1], dataset.rows(3, 4))
    dataset.close()


def test_arrays_are_not_copied():
    """A copy of the data for each check might not fit into memory."""
    from keras_npbatch.batches.core import core_of
    from keras_npbatch.testing.subject.copies import copied

    x, y = good.data()
    dataset = good.arrays()
    twin = copied(dataset)
    assert [
        a is b
        for a, b in zip(*(core_of(each).data.values() for each in (twin, dataset)), strict=True)
    ] == [True, True]
    x.flags.writeable = False
    twin = copied(Textbook(x, y))
    assert twin.x is x
    assert twin.y is not y


def test_the_global_generators_are_as_before():
    torch = pytest.importorskip("torch")

    for kind in (broken.NumpyRandom, broken.PythonRandom, Loader):
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        expected = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        check_dataset(kind(), ignore=[IN_PROCESSES])
        assert (random.random(), np.random.random(), torch.rand(1).item()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("draws", "told"),
    [
        (["torch"], "torch (torch.manual_seed)"),
        (["np.random"], "np.random (np.random.seed)"),
        (["random", "torch"], "random and torch (random.seed, torch.manual_seed)"),
    ],
    ids=str,
)
def test_the_global_generator_that_was_used_is_named(draws, told):
    torch = pytest.importorskip("torch") if "torch" in draws else None

    class Noisy(Textbook):
        def __getitem__(self, idx):
            x, y = super().__getitem__(idx)
            if "torch" in draws:
                x = x + torch.rand(len(x), 1).numpy()
            if "random" in draws:
                x = x + random.random()
            return x + np.random.random() if "np.random" in draws else x, y  # noqa: NPY002

    report = check_dataset(Noisy(), ignore=["it_can_be_sent_to_processes"])
    assert found(report) == {"global_random_state_changes_nothing"}
    (finding,) = report.findings
    assert finding.seen == f"dataset[0] has other contents after another global seed of {told}"


def test_numpy_is_as_before():
    """Also where a dataset hangs while `np.empty` is replaced."""
    empty, empty_like = np.empty, np.empty_like

    class HangsWhenItIsReplaced(Textbook):
        def __getitem__(self, idx):
            if np.empty is not empty:
                time.sleep(30)
            return super().__getitem__(idx)

    report = check_dataset(HangsWhenItIsReplaced(), timeout=1.0)
    assert found(report) == {"len_is_the_number_of_batches"}
    assert (np.empty, np.empty_like) == (empty, empty_like)
    for kind in (Textbook, broken.ReturnsInTheLoopEmpty):
        check_dataset(kind(), ignore=[IN_PROCESSES])
        assert (np.empty, np.empty_like) == (empty, empty_like)


def test_a_class_of_no_module_that_is_known_is_checked():
    """As of a file that was executed by `runpy` or `importlib.util`."""

    class Executed(Textbook):
        pass

    Executed.__module__ = "executed_and_gone"
    checks = {check.name: check for check in checks_for(Executed())}
    checks["every_row_of_a_batch_is_filled"]()


def test_memory_that_is_not_filled_is_found_whatever_it_held():
    """Here it holds what belongs there, as it may by chance."""
    (original,) = ORIGINAL

    class Lucky(Textbook):
        def __init__(self):
            super().__init__(*good.data(48))

        def __getitem__(self, idx):
            x, y = super().__getitem__(idx)
            out = empty_like(x)
            if empty_like is original:  # else it is full of what the check put there
                out[:] = x
            return out, y

    report = check_dataset(Lucky(), ignore=["it_can_be_sent_to_processes"])
    (finding,) = report.findings
    assert finding.seen == (
        "8 of 8 rows of x in batch 0 hold what was in the memory before: np.empty made them, and "
        "nothing wrote to them"
    )


def test_python_is_told_apart_from_the_dataset():
    """Python before 3.11.9 fails now and then where several threads parse literals."""

    class Parses(Textbook):
        def __getitem__(self, idx):
            if threading.current_thread().name.startswith("Thread-"):
                raise SystemError("AST constructor recursion depth mismatch (before=3, after=5)")
            return super().__getitem__(idx)

    report = check_dataset(Parses(), ignore=["it_can_be_sent_to_processes"])
    (finding,) = report.findings
    assert finding.check == "threads_read_the_same_batches"
    assert finding.mend.startswith("Use Python 3.11.9 or later: this is a fault of earlier ones")
    assert finding.why == {rule.name: rule.why for rule in RULES}[finding.check]


# --- noise -------------------------------------------------------------------------------------


def test_noise_hides_what_only_contents_could_tell():
    """Half of the samples are flipped: that looks as if the others were lost."""

    class Flipped(Seeded):
        def __getitem__(self, idx):
            x, y = super().__getitem__(idx)
            flipped = np.random.random((len(x), 1)) < 0.5  # noqa: NPY002
            return np.where(flipped, x[:, ::-1], x), y

    same = {"ignore": [IN_PROCESSES, "it_can_be_sent_to_processes"], "num_samples": good.N}
    report = check_dataset(Flipped(), **same)
    assert found(report) == {"global_random_state_changes_nothing"}, report
    assert report.skipped["every_sample_comes_once"] == (
        "first mend: global_random_state_changes_nothing; or tell which sample is which: "
        "sample_id=..."
    )
    report = check_dataset(Flipped(), broken.id_of_y, **same)
    assert found(report) == {"global_random_state_changes_nothing"}, report
    assert "every_sample_comes_once" in report.passed


@pytest.mark.parametrize("arguments", [{"num_samples": good.N}, {"sample_id": broken.id_of_y}])
def test_an_ignored_check_does_not_hide_others(arguments):
    ignore = ["global_random_state_changes_nothing", IN_PROCESSES]
    report = check_dataset(broken.NoiseAndRepeats(), ignore=ignore, **arguments)
    assert found(report) == {"every_sample_comes_once"}


def test_ids_that_are_noise_themselves_tell_nothing():
    report = check_dataset(
        broken.ShufflesInGetitem(), broken.id_of_y, ignore=[IN_PROCESSES], num_samples=good.N
    )
    assert found(report) == {"a_batch_is_the_same_when_read_again"}
    assert report.skipped["every_sample_comes_once"] == (
        "first mend: a_batch_is_the_same_when_read_again"
    )


@settings(max_examples=15)
@example(n=9, batch_size=8, seed=96, share=0.0, noise=False)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    noise=st.booleans(),
)
def test_coverage_is_checked_by_ids_whatever_the_noise(n, batch_size, seed, share, noise):
    """What is right passes; one sample more in place of another is found."""

    class Noisy(Seeded):
        repeats = False

        def __getitem__(self, idx):
            x, y = super().__getitem__(idx)
            if self.repeats:
                y = np.where(y == 0, n - 1, y)
            flipped = np.random.random((len(x), 1)) < share  # noqa: NPY002
            x = np.where(flipped, x[:, ::-1], x)
            return x + (np.random.random(x.shape) if noise else 0), y  # noqa: NPY002

    ignore = [rule.name for rule in RULES if rule.name != "every_sample_comes_once"]
    dataset = Noisy(*good.data(n), batch_size=batch_size, seed=seed)
    report = check_dataset(dataset, broken.id_of_y, num_samples=n, ignore=ignore)
    assert report.ok, report
    assert report.passed == ("every_sample_comes_once",)
    dataset.repeats = True
    report = check_dataset(dataset, broken.id_of_y, num_samples=n, ignore=ignore)
    assert report.ok == (n == 1), report


@settings(max_examples=15)
@example(n=30, batch_size=14, kind=good.MostlyBlank)
@example(n=10, batch_size=20, kind=good.FewFlipped)
@example(n=2, batch_size=2, kind=good.SomeFlipped)
@example(n=4, batch_size=2, kind=good.FewFlipped)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    kind=st.sampled_from(
        [good.PaddedAndShuffled, good.PaddedTargets, good.SomeFlipped, good.FewFlipped,
         good.Preallocated, good.MostlyBlank, good.OneNumberEach]
    ),
)  # fmt: skip
def test_nothing_is_found_in_what_is_easily_taken_for_a_fault(n, batch_size, kind):
    report = check_dataset(kind(*good.data(n), batch_size=batch_size), ignore=[IN_PROCESSES])
    assert report.ok, report


# --- the report --------------------------------------------------------------------------------

REPORT = Report(
    "data.Slides",
    (Finding("a_check", "something", "It matters.", "Mend it."),),
    ("another",),
    {"a_third": "there is no need"},
)


def test_a_report_tells_what_was_seen_why_it_matters_and_how_to_mend_it():
    assert str(REPORT) == (
        "data.Slides: 1 finding\n\n"
        "a_check: something\n  Why it matters: It matters.\n  To mend it: Mend it.\n\n"
        "Not checked:\n  a_third: there is no need"
    )
    assert str(Report("data.Slides", (), ("another",), {})) == "data.Slides: no findings"


FIRST_EPOCH = (
    "the first epoch of a new dataset is in the order of the data; later ones are shuffled"
)


class Overwritten(good.Shuffled):
    """Shuffles, and then sets the order again."""

    def __init__(self):
        super().__init__()
        self.on_epoch_end()
        self.indices = list(range(good.N))


@pytest.mark.parametrize(
    ("kind", "arguments", "remarks"),
    [
        (good.Shuffled, {}, [FIRST_EPOCH]),
        (good.Shuffled, {"sample_id": broken.id_of_y}, [FIRST_EPOCH]),
        (good.InPlace, {"sample_id": broken.id_of_y}, []),
        (Overwritten, {}, [FIRST_EPOCH]),
        (Seeded, {}, []),
        (Textbook, {}, []),
        (Loader, {"sample_id": broken.id_of_y}, []),
    ],
)
def test_a_first_epoch_that_is_not_shuffled_is_a_remark(kind, arguments, remarks):
    report = check_dataset(kind(), ignore=[IN_PROCESSES], **arguments)
    assert report.ok
    assert "shuffling_changes_the_order" in {**dict.fromkeys(report.passed), **report.skipped}
    assert [remark.seen for remark in report.remarks] == remarks
    for remark in report.remarks:
        told = f"Remark: shuffling_changes_the_order: {FIRST_EPOCH}\n  Why it matters: "
        assert told in str(report)
        assert remark.mend == (
            "Shuffle in __init__ too: call self.on_epoch_end() as its last line."
        )


def test_a_list_of_the_callers_that_is_shuffled_is_a_remark():
    class Files(Textbook):
        def __init__(self, files):
            super().__init__()
            self.files = files

        def on_epoch_end(self):
            random.shuffle(self.files)

        def __getitem__(self, idx):
            rows = np.array(self.files[idx * good.BATCH : (idx + 1) * good.BATCH])
            return self.x[rows], self.y[rows]

    ignore = [IN_PROCESSES, "it_can_be_sent_to_processes", "shuffling_changes_the_order"]
    files = list(range(good.N))
    report = check_dataset(Files(files), ignore=ignore)
    assert report.ok, report
    assert [remark.seen for remark in report.remarks] == [
        "on_epoch_end() changes the order of files in place, which others hold too"
    ]
    assert files == list(range(good.N))
    report = check_dataset(Files(list(range(good.N))), ignore=ignore)
    assert report.ok
    assert report.remarks == ()


def test_a_constructor_that_seeds_a_global_generator_is_found():
    class Seeds(Seeded):
        def __init__(self, seed=0):
            super().__init__(seed=seed)
            np.random.seed(seed)  # noqa: NPY002

    ignore = [IN_PROCESSES, "it_can_be_sent_to_processes"]
    assert check_dataset(Seeds(), ignore=ignore).ok
    (finding,) = check_dataset(Seeds(), ignore=ignore, with_seed=Seeds).findings
    assert finding.check == "global_generators_are_left_as_they_are"
    assert finding.seen == "with_seed(0) seeds the global generator of np.random (np.random.seed)"


def test_raise_for_findings_raises_for_findings():
    with pytest.raises(FaultyDatasetError) as caught:
        REPORT.raise_for_findings()
    assert str(caught.value) == str(REPORT)
    assert isinstance(caught.value, AssertionError)
    Report("data.Slides", (), ("another",), {}).raise_for_findings()


def test_every_rule_says_why_and_how():
    for rule in RULES:
        for text in (rule.why, rule.mend):
            assert text.endswith(".")
            assert text[0].isupper() or text.startswith("fit ")
        assert rule.look.__doc__


def test_rules_come_after_those_they_build_on():
    for number, rule in enumerate(RULES):
        assert set(rule.after) <= set(RULES[:number])


def test_a_finding_is_told_once_and_not_by_what_builds_on_it():
    report = check_dataset(broken.Nothing())
    assert len(report.findings) == 1
    assert report.skipped["lengths_agree"] == "first mend: batches_have_a_form_that_keras_takes"


# --- one by one --------------------------------------------------------------------------------

CHECKS = checks_for(
    good.arrays(),
    with_seed=lambda seed: good.arrays(seed=seed),
    ignore=["keras_trains_one_step"],  # the NumPy backend does not
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_checks_are_parameters_for_pytest(check):
    check()


def test_checks_have_the_names_of_rules():
    assert [str(check) for check in CHECKS] == [rule.name for rule in RULES[:-1]]


def test_a_check_raises_what_it_found_or_tells_that_it_cannot_tell():
    checks = {str(check): check for check in checks_for(broken.ForgetsTheLastBatch())}
    with pytest.raises(FaultyDatasetError) as caught:
        checks["len_is_the_number_of_batches"]()
    assert str(caught.value).startswith(
        "len_is_the_number_of_batches: len(dataset) is 6, but dataset[6] is a batch too, of 2 "
        "samples\n  Why it matters: Keras asks for"
    )
    checks["lengths_agree"]()
    with pytest.raises(unittest.SkipTest) as skipped:
        checks["only_the_last_batch_is_short"]()
    assert str(skipped.value) == (
        "only_the_last_batch_is_short: first mend: len_is_the_number_of_batches"
    )


# --- imports -----------------------------------------------------------------------------------


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )


def test_importing_testing_imports_neither_keras_nor_a_framework_nor_hypothesis():
    names = ("keras", "jax", "torch", "tensorflow", "hypothesis", "rich")
    done = run(
        "import sys, keras_npbatch.testing\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_testing_is_at_hand_from_the_package():
    import keras_npbatch

    assert keras_npbatch.testing is testing


def test_a_report_is_told_in_a_notebook_as_it_is_printed():
    report = Report("data", (Finding("a_check", "seen", "why", "mend"),), (), {})
    assert repr(report) == str(report)
    assert repr(report.findings) == "(<Finding a_check: seen>,)"
