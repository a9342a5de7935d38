"""`CoverageAudit`: what the model was trained on, counted; and it can fail."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import get_args

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, Shard
from keras_npbatch.batches.core import core_of
from keras_npbatch.callbacks import BackupAndRestore, CoverageAudit, Receipt
from keras_npbatch.callbacks.coverage.receipt import Tally
from keras_npbatch.callbacks.watching import Watching, watching_of
from keras_npbatch.errors import CoverageError, InvalidArgumentError
from keras_npbatch.plan.division import divided
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.samplers import Weighted
from keras_npbatch.samplers.own import chosen_sampler
from tests.installed import needs_several_steps_at_once

N, BATCH = 50, 8


class Loader(BatchDataset):
    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch, step):
        super().__init__()
        self.place = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            self.model.stop_training = True


def ids_of(batch):
    return batch[1]


@pytest.mark.parametrize("rows_of", [None, ids_of])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
def test_a_right_run_gets_a_right_receipt_for_each_epoch(make_model, fit, remainder, rows_of):
    dataset = Loader(N, batch_size=BATCH, seed=1, remainder=remainder)
    audit = CoverageAudit(dataset, rows_of=rows_of)
    history = keras.callbacks.History()
    validation = Loader(21, batch_size=BATCH)
    callbacks = [audit, history]
    fit(make_model(), dataset, epochs=2, callbacks=callbacks, validation_data=validation)
    total = 48 if remainder == "drop" else N
    assert [receipt.epoch for receipt in audit.receipts] == [0, 1]
    for receipt in audit.receipts:
        assert receipt.is_whole
        assert (receipt.total, receipt.expected, receipt.seen) == (total, total, total)
        assert repr(receipt) == (
            f"<Receipt of epoch {receipt.epoch}, steps 0 to {receipt.steps[1] - 1}: {total} "
            f"samples seen, {total} expected, each as often as expected>"
        )
        assert (receipt.missing, receipt.repeated, receipt.unexpected) == (0, 0, 0)
        assert receipt.steps == (0, dataset.plan.num_batches)
    assert history.history["coverage/seen"] == [total, total]
    assert history.history["coverage/missing"] == [0, 0]
    assert history.history["coverage/repeated"] == [0, 0]


def test_the_digest_of_the_order_is_that_of_the_order_alone(make_model, fit, data):
    """Equal for other workers, kinds of dataset and batch sizes; not for other seeds, epochs."""

    def digests(dataset):
        audit = CoverageAudit(dataset)
        fit(make_model(), dataset, epochs=2, callbacks=[audit])
        assert audit.receipts[0].rows_digest == audit.receipts[0].total_digest
        return [receipt.order_digest for receipt in audit.receipts]

    first = digests(Loader(N, batch_size=BATCH, seed=1))
    assert first == digests(Loader(N, batch_size=BATCH, seed=1, workers=3))
    assert first == digests(ArrayDataset(*data(N), batch_size=BATCH, seed=1))
    assert first == digests(Loader(N, batch_size=13, seed=1, remainder="spread"))
    assert len({*first, *digests(Loader(N, batch_size=BATCH, seed=2))}) == 4
    # A value that was computed once, so that it can be compared with one of last year.
    assert first[0] == "b228304c9a7b342fa2a9bff74e90f2d3"


@pytest.mark.parametrize("steps_per_epoch", [5, 7, 10])
def test_epochs_of_the_data_are_counted_whatever_keras_calls_an_epoch(
    make_model, fit, steps_per_epoch
):
    dataset = Loader(N, batch_size=BATCH, seed=1).repeat()
    audit = CoverageAudit(dataset, rows_of=ids_of)
    fit(make_model(), dataset, epochs=4, steps_per_epoch=steps_per_epoch, callbacks=[audit])
    whole, rest = divmod(4 * steps_per_epoch, 7)
    assert [receipt.is_whole for receipt in audit.receipts] == [True] * whole + [False] * bool(rest)
    assert all(receipt.is_right for receipt in audit.receipts)
    assert audit.receipts[-1].steps == (0, rest or 7)


@pytest.mark.parametrize("steps_per_execution", [3, 10])
@pytest.mark.skipif(
    keras.version().startswith("3.7."), reason="Keras 3.7: steps_per_execution; see docs/limits.md"
)
def test_several_steps_at_once_are_all_counted(make_model, fit, backend, steps_per_execution):
    needs_several_steps_at_once(backend)
    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset, rows_of=ids_of)
    model = make_model(steps_per_execution=steps_per_execution)
    fit(model, dataset, epochs=2, callbacks=[audit])
    assert [receipt.is_whole for receipt in audit.receipts] == [True, True]


def test_an_epoch_that_training_is_stopped_in_is_no_violation_and_the_rest_makes_it_whole(
    make_model, fit
):
    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset)
    fit(make_model(), dataset, callbacks=[audit, Stop(0, 2)])
    (part,) = audit.receipts
    assert (part.steps, part.expected, part.seen, part.is_right) == ((0, 3), 24, 24, True)
    assert not part.is_whole
    dataset.load_state_dict(dataset.state_dict(epoch=0, step=3))
    fit(make_model(), dataset, callbacks=[audit])
    part, rest = [Receipt.from_dict(json.loads(json.dumps(r.as_dict()))) for r in audit.receipts]
    assert [part, rest] == audit.receipts
    assert (rest.steps, rest.expected, rest.seen) == ((3, 7), 26, 26)
    whole = CoverageAudit.merge([rest, part])
    assert whole.is_whole
    dataset.set_epoch(0)
    fit(make_model(), dataset, callbacks=[audit])
    assert whole == audit.receipts[-1]
    # A part that is not there, and one that is there twice.
    assert CoverageAudit.merge([part]).missing == 26
    assert CoverageAudit.merge([part, rest, part]).repeated == 24
    assert not CoverageAudit.merge([rest, rest]).is_whole


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            raise KeyboardInterrupt


def test_the_part_before_an_interruption_is_told_when_training_goes_on(make_model, fit, tmp_path):
    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset)
    backup = BackupAndRestore(dataset, tmp_path / "backup", save_freq=1)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), dataset, callbacks=[backup, audit, Interrupt()])
    assert audit.receipts == []
    fit(make_model(), dataset, callbacks=[backup, audit])
    assert [receipt.steps for receipt in audit.receipts] == [(0, 5), (5, 7)]
    assert CoverageAudit.merge(audit.receipts).is_whole


def test_a_merge_of_different_epochs_is_refused(make_model, fit):
    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset)
    fit(make_model(), dataset, epochs=2, callbacks=[audit])
    with pytest.raises(InvalidArgumentError) as caught:
        CoverageAudit.merge(audit.receipts)
    assert str(caught.value) == (
        "the receipts are of 2 different epochs, (epoch, samples): [(0, 50), (1, 50)]; expected "
        "parts of one epoch of one dataset. Merge those of each epoch."
    )
    with pytest.raises(InvalidArgumentError, match=r"^the receipts are of 0 different epochs"):
        CoverageAudit.merge([])


def test_with_a_backup_the_two_parts_of_an_epoch_add_up(make_model, fit, tmp_path):
    receipts = []
    for stop in (True, False):
        dataset = Loader(N, batch_size=BATCH, seed=1)
        audit = CoverageAudit(dataset)
        backup = BackupAndRestore(dataset, tmp_path, save_freq=1, delete_checkpoint=not stop)
        callbacks = [backup, audit, *([Stop(1, 2)] if stop else [])]
        fit(make_model(built=True), dataset, epochs=2, callbacks=callbacks)
        receipts += audit.receipts
    assert [(receipt.epoch, receipt.steps) for receipt in receipts] == [
        (0, (0, 7)),
        (1, (0, 3)),
        (1, (3, 7)),
    ]
    assert CoverageAudit.merge(receipts[1:]).is_whole


# -------------------------------------------------------------------- several processes


def receipts_of_all(make_model, fit, count, state=None, stop=None, **settings):
    """Each process's receipts and state, one process after the other."""
    found, states = [], []
    for index in range(count):
        dataset = Loader(N, seed=1, shard=(index, count), **settings)
        if state is not None:
            dataset.load_state_dict(state)
        audit = CoverageAudit(dataset, rows_of=ids_of)
        callbacks = [audit] if stop is None else [audit, Stop(0, stop)]
        fit(make_model(), dataset, callbacks=callbacks)
        found += audit.receipts
        step = None if stop is None else stop + 1
        states.append(dataset.state_dict(epoch=0, step=step) if stop is not None else None)
    assert all(state == states[0] for state in states)
    return found, states[0]


@pytest.mark.parametrize(
    ("remainder", "total"), [(None, 50), ("pad", 50), ("spread", 50), ("drop", 48)]
)
def test_the_receipts_of_all_processes_add_up(make_model, fit, remainder, total):
    receipts, _ = receipts_of_all(make_model, fit, 3, batch_size=4, remainder=remainder)
    assert [receipt.shard for receipt in receipts] == [(0, 3), (1, 3), (2, 3)]
    assert {receipt.total for receipt in receipts} == {total}
    assert all(receipt.is_right and not receipt.is_whole for receipt in receipts)
    merged = CoverageAudit.merge([receipt.as_dict() for receipt in receipts])
    assert merged.is_whole
    assert (merged.shard, merged.seen, merged.missing, merged.repeated) == ((0, 1), total, 0, 0)
    alone = Loader(N, batch_size=12, seed=1, remainder=remainder)
    audit = CoverageAudit(alone)
    fit(make_model(), alone, callbacks=[audit])
    assert merged == audit.receipts[0]  # the digest of the order too
    without = CoverageAudit.merge(receipts[:2])
    assert not without.is_whole
    assert without.missing == receipts[2].seen
    assert CoverageAudit.merge([*receipts, receipts[0]]).repeated == receipts[0].seen


def test_the_receipts_add_up_when_another_number_of_processes_goes_on(make_model, fit):
    before, state = receipts_of_all(make_model, fit, 4, stop=1, batch_size=3)
    after, _ = receipts_of_all(make_model, fit, 3, state=state, batch_size=3)
    assert [receipt.seen for receipt in before] == [6] * 4
    assert [receipt.steps for receipt in after] == [(0, 3)] * 3
    assert CoverageAudit.merge([*before, *after]).is_whole
    assert not CoverageAudit.merge([*before, *after[1:]]).is_whole


def test_the_receipts_add_up_when_others_go_on_with_batches_that_drop_other_samples(
    make_model, fit
):
    before, state = receipts_of_all(make_model, fit, 2, stop=0, batch_size=8, remainder="drop")
    after, _ = receipts_of_all(make_model, fit, 1, state=state, batch_size=10, remainder="drop")
    assert {receipt.total for receipt in before} == {48}
    (rest,) = after
    assert (rest.expected, rest.total) == (30, 46)
    merged = CoverageAudit.merge([*before, rest])
    assert merged.is_whole
    assert (merged.total, merged.seen, merged.num_samples) == (46, 46, 50)
    assert CoverageAudit.merge([*before]).missing == 32
    assert CoverageAudit.merge([before[1], rest]).missing == 8


parts_of_epochs = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=4
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(1, 80), st.sampled_from(get_args(Remainder)), parts_of_epochs, st.booleans())
def test_whatever_goes_on_with_an_epoch_its_receipts_add_up(n, remainder, parts, shuffle):
    """Processes, batch size and steps of each part; the last one goes to the end."""
    receipts, skip = [], 0
    for number, (count, size, steps) in enumerate(parts):
        try:
            sampler = chosen_sampler(shuffle, None)
            plan = Plan(n, size, 7, sampler, remainder, Shard(0, count), skip)
        except InvalidArgumentError:  # too few left for a batch
            assume(receipts)
            break
        is_last = number == len(parts) - 1 or steps >= plan.num_batches
        stop = plan.num_batches if is_last else steps
        for index in range(count):
            tally = Tally(plan.of_shard(index), 2, 0)
            for step in range(stop):
                tally.count(step, tally.plan.rows(2, step))
            receipts.append(tally.receipt(stop))
        skip = plan.global_span(stop - 1)[1]
        if is_last:
            break
    merged = Receipt.merged(receipts)
    assert merged.is_whole == is_last
    assert merged.seen == skip
    with pytest.raises(InvalidArgumentError, match="2 different epochs"):
        Receipt.merged([*receipts, dataclasses.replace(receipts[0], num_samples=n + 1)])


# -------------------------------------------------------------------- broken on purpose


class WrongRow(Loader):
    """As a mistake in an index: row 13 is read where row 14 was asked for."""

    def load(self, rows):
        return super().load(np.where(rows == 14, 13, rows))


class Replacing(Plan):
    """Draws with replacement, as a sampler of one's own might."""

    def rows(self, epoch, step):
        return np.random.default_rng([epoch, step]).integers(0, self.num_samples, 8)


def test_a_loader_that_reads_another_row_is_found(make_model, fit):
    dataset = WrongRow(N, batch_size=BATCH, seed=1)
    with pytest.raises(CoverageError) as caught:
        fit(make_model(), dataset, callbacks=[CoverageAudit(dataset, rows_of=ids_of)])
    assert str(caught.value) == (
        "epoch 0 was not trained on each of its 50 samples once: 1 not at all, rows [14]; 1 more "
        "than once, rows [13]. Expected every sample exactly once. See what load(rows), a callback "
        "or a wrapper of the dataset does with the batches."
    )


def test_with_a_sampler_that_repeats_rows_each_is_counted_against_it(make_model, fit):
    weights = np.where(np.arange(N) == 14, 3, 1)
    settings = {"batch_size": BATCH, "seed": 1, "sampler": Weighted(weights, N + 2)}
    audit = CoverageAudit(dataset := Loader(N, **settings))
    fit(make_model(), dataset, callbacks=[audit])
    assert audit.receipts[0].is_whole
    assert audit.receipts[0].seen == N + 2
    wrong = WrongRow(N, **settings)
    with pytest.raises(CoverageError) as caught:
        fit(make_model(), wrong, callbacks=[CoverageAudit(wrong, rows_of=ids_of)])
    assert str(caught.value) == (
        "epoch 0 was not trained on its 52 samples as often as its sampler says: 1 too seldom, "
        "rows [14]; 1 too often, rows [13]. Expected no row more often or more seldom. See what "
        "load(rows), a callback or a wrapper of the dataset does with the batches."
    )


def test_a_sampler_that_repeats_rows_is_found(make_model, fit):
    dataset = Loader(N, batch_size=BATCH, seed=1)
    core_of(dataset).plan = Replacing(N, BATCH, seed=1)
    audit = CoverageAudit(dataset)
    with pytest.raises(CoverageError, match=r"not at all, rows .* more than once, rows "):
        fit(make_model(), dataset, callbacks=[audit])
    drawn = np.concatenate([dataset.rows(step, 0) for step in range(7)])
    times = np.bincount(drawn, minlength=N)
    (receipt,) = audit.receipts
    assert receipt.missing_rows == tuple(row for row in dataset_order(0) if times[row] == 0)
    assert receipt.repeated_rows == tuple(np.flatnonzero(times > 1).tolist())


def dataset_order(epoch):
    return Plan(N, BATCH, seed=1).order(epoch).rows(0, N).tolist()


def test_a_pass_that_is_left_while_training_goes_on_is_found(make_model, fit):
    """5 of 7 steps an epoch: Keras drops the other two, with a warning of its own."""
    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset)
    keep_going = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            watching_of(audit, Watching).epoch_iterator, "_current_iterator", None
        )
    )
    with pytest.raises(CoverageError, match=r"of its 50 samples once: 10 not at all, rows "):
        fit(make_model(), dataset, epochs=2, steps_per_epoch=5, callbacks=[audit, keep_going])
    left = [row for step in (5, 6) for row in dataset.rows(step, 0)]
    assert audit.receipts[0].missing_rows == tuple(left)


def test_a_violation_can_be_a_warning(make_model, fit):
    dataset = WrongRow(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset, on_violation="warn", rows_of=ids_of)
    history = keras.callbacks.History()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        fit(make_model(), dataset, epochs=2, callbacks=[audit, history])
    texts = [str(found.message) for found in caught if found.category is UserWarning]
    assert [text[:7] for text in texts] == ["epoch 0", "epoch 1"]
    assert history.history["coverage/missing"] == history.history["coverage/repeated"] == [1, 1]


@pytest.mark.parametrize("returned", ["strings", "too few", "too large", "broken"])
def test_what_rows_of_returns_must_be_rows(make_model, fit, returned):
    def rows_of(batch):
        ids = np.array(batch[1])
        return {
            "strings": ids.astype(str),
            "too few": ids[1:],
            "too large": ids + N,
            "broken": ids + 0.5,
        }[returned]

    dataset = Loader(N, batch_size=BATCH, seed=1)
    audit = CoverageAudit(dataset, rows_of=rows_of)
    expected = (
        r"^rows_of returned ndarray of shape .* for a batch of 8 samples; expected their row "
    )
    with pytest.raises(InvalidArgumentError, match=expected + r"numbers, from 0 to 49\.$"):
        fit(make_model(), dataset, callbacks=[audit])


def test_on_violation_is_one_of_two():
    with pytest.raises(InvalidArgumentError) as caught:
        CoverageAudit(Loader(N), on_violation="ignore")
    assert str(caught.value) == "on_violation is 'ignore' (str); expected 'raise' or 'warn'."


def test_of_a_part_of_a_split_its_own_rows_are_expected():
    part, other = divided(Plan(10**12, 250_000, seed=0), (1e-6,), 0)
    tally = Tally(part, epoch=0, first=0)  # four bytes for each of its million rows
    stranger = int(other.rows(0, 0)[0])
    for step in range(part.num_batches):
        rows = part.rows(0, step).copy()
        if step == 1:
            lost, rows[3] = int(rows[3]), stranger
        if step == 2:
            twice = int(rows[5])
            lost_too, rows[4] = int(rows[4]), twice
            rows[6], lost_last = stranger, int(rows[6])
        tally.count(step, rows)
    receipt = tally.receipt(part.num_batches)
    assert (receipt.num_samples, receipt.expected, receipt.seen) == (10**6, 10**6, 10**6)
    assert receipt.missing_rows == (lost, lost_too, lost_last)
    assert receipt.repeated_rows == tuple(sorted((twice, stranger)))
    assert receipt.unexpected_rows == (stranger,)


def test_a_receipt_tells_what_is_wrong_in_a_notebook():
    receipt = Receipt(
        3, (1, 2), (0, 4), 20, 20, 20, 10, 9, 2, 1, 0, (4, 7), (5,), (), "", "", "", ""
    )
    assert repr(receipt) == (
        "<Receipt of epoch 3, steps 0 to 3 of shard 1 of 2: 9 samples seen, 10 expected, 2 "
        "missing: rows [4, 7], 1 repeated: rows [5]>"
    )
