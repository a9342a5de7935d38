"""`fit(shuffle=False)` reads in the order of the data, and what is told of it is what it saw."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, callbacks, errors
from tests.keras_loaders import Numbers, WholeNumbers

N, BATCH = 50, 8
ALL = list(range(N))


def make(kind=Numbers, **settings):
    return kind(**settings)


def said(dataset, epoch):
    """The rows of an epoch, as the dataset tells them."""
    return np.concatenate([dataset.rows(step, epoch) for step in range(7)]).tolist()


def drawn(epoch):
    """The rows of a shuffled epoch."""
    return said(make(), epoch)


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        (Numbers, {"workers": 0}),
        (Numbers, {"workers": 3}),
        (WholeNumbers, {"workers": 3}),
        (Numbers, {"workers": 2, "use_multiprocessing": True}),
    ],
    ids=["inline", "threads", "__getitem__", "processes"],
)
def test_it_reads_in_the_order_of_the_data_and_counts_epochs(make_model, fit, kind, workers, built):
    dataset = make(kind, **workers)
    assert fit(make_model(built=built), dataset, shuffle=False, epochs=2).epochs == [ALL, ALL]
    assert dataset.epoch == 2
    assert fit(make_model(built=True), dataset).epochs == [drawn(2)]
    assert fit(make_model(built=True), dataset, shuffle=False).epochs == [ALL]
    # What was said of each epoch stays true.
    assert [said(dataset, epoch) for epoch in range(5)] == [ALL, ALL, drawn(2), ALL, drawn(4)]
    assert dataset.locate(13, epoch=1) == (1, 5)
    assert dataset.explain(epoch=3, step=6).rows.tolist() == [48, 49]
    assert dataset.locate(13, epoch=2) == make().locate(13, epoch=2)
    assert [y.tolist() for _, y in dataset] == [make().rows(step, 4).tolist() for step in range(7)]


def test_arrays_and_the_settings_of_a_remainder_too(make_model, fit, data):
    for remainder, rows in (("keep", ALL), ("drop", ALL[:48]), ("pad", [*ALL, *[48, 49] * 3])):
        dataset = ArrayDataset(*data(N), batch_size=BATCH, remainder=remainder)
        assert fit(make_model(), dataset, shuffle=False).epochs == [rows]


def test_a_given_true_leaves_the_order_to_the_dataset(make_model, fit):
    """It is the default, so it can't be told apart."""
    assert fit(make_model(), make(shuffle=False), shuffle=True).epochs == [ALL]
    assert fit(make_model(), make(), shuffle=True).epochs == [drawn(0)]
    assert fit(make_model(), make(shuffle=False), shuffle=False).epochs == [ALL]


@pytest.mark.parametrize("shuffle", ["batch", None, 0])
def test_anything_else_is_refused(make_model, shuffle):
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(make(), shuffle=shuffle, verbose=0)
    assert str(caught.value) == (
        f"fit(shuffle=...) was given {shuffle!r} ({type(shuffle).__name__}) with the dataset "
        "(Numbers), which shuffles samples, not batches; expected False for the order of the data. "
        "Leave it out for the dataset's own order."
    )


def test_validation_with_the_same_dataset_changes_nothing(make_model, fit):
    dataset = make()
    seen = fit(make_model(), dataset, shuffle=False, epochs=2, validation_data=dataset)
    assert (seen.epochs, seen.validations) == ([ALL, ALL], [ALL, ALL])
    assert said(dataset, 1) == ALL


def test_an_endless_dataset_too(make_model, fit):
    dataset = make().repeat()
    seen = fit(make_model(), dataset, shuffle=False, epochs=2, steps_per_epoch=10)
    rows = [*ALL, *ALL, *ALL]
    assert seen.epochs == [rows[: N + 3 * BATCH], rows[N + 3 * BATCH : 2 * N + 6 * BATCH]]


def test_callbacks_are_told_what_the_model_sees(make_model, fit):
    dataset = make()
    told = []

    class Ask(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            told.append(dataset.rows(1).tolist())

        def on_epoch_begin(self, epoch, logs=None):
            told.append(dataset.rows(1, epoch).tolist())

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                epoch = len(audit.receipts)
                told.append(dataset.rows(1, epoch).tolist())

    audit = callbacks.CoverageAudit(dataset, rows_of=lambda batch: batch[1])
    fit(make_model(), dataset, shuffle=False, epochs=2, callbacks=[audit, Ask()])
    assert told == [ALL[8:16]] * 5
    of_order = callbacks.CoverageAudit(make(shuffle=False))
    fit(make_model(), of_order.dataset, epochs=2, callbacks=[of_order])
    digests = [receipt.order_digest for receipt in audit.receipts]
    assert digests == [receipt.order_digest for receipt in of_order.receipts]
    assert all(receipt.is_whole for receipt in audit.receipts)


def test_what_comes_after_a_training_that_was_stopped_is_shuffled(make_model, fit):
    dataset = make()
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", True)
    )
    fit(make_model(), dataset, shuffle=False, epochs=5, callbacks=[stop])
    assert [said(dataset, epoch) for epoch in (0, 1)] == [ALL, drawn(1)]


# -------------------------------------------------------------------- resuming


def test_a_state_goes_on_in_the_order_of_the_data(make_model, fit):
    """Saved by a callback of the user's, which knows the step that was trained on."""
    dataset, states = make(), []
    save = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: states.append(
            dataset.state_dict(epoch=1, step=batch + 1)
        )
    )
    dataset.set_epoch(1)
    fit(make_model(), dataset, shuffle=False, callbacks=[save])
    state = json.loads(json.dumps(states[3]))

    other = make()
    other.load_state_dict(state)
    assert fit(make_model(), other, shuffle=False, epochs=2).epochs == [ALL[32:], ALL]

    other.load_state_dict(state)  # an iteration keeps the order for the rest of that epoch
    assert np.concatenate([y for _, y in other]).tolist() == ALL[32:]
    assert np.concatenate([y for _, y in other]).tolist() == drawn(2)

    resized = Numbers(batch_size=5)
    resized.load_state_dict(state)
    assert fit(make_model(), resized, shuffle=False).epochs == [ALL[32:]]


@pytest.mark.parametrize("was", [True, False])
def test_going_on_in_another_order_is_refused(make_model, fit, was):
    dataset = make()
    state = dataset.state_dict(epoch=1, step=4) | ({} if was else {"in_order": True})
    dataset.load_state_dict(state)
    with pytest.raises(errors.InvalidStateError) as caught:
        make_model().fit(dataset, shuffle=not was, verbose=0)
    assert str(caught.value) == (
        f"the dataset goes on within epoch 1, of which a part was read with fit(shuffle={was}), "
        f"and this is fit(shuffle={not was}): of the rest, some samples would come twice and "
        f"others never. Give fit shuffle={was}, or call set_epoch(1) to begin that epoch again."
    )
    dataset.set_epoch(1)
    assert fit(make_model(), dataset, shuffle=not was).epochs == [ALL if was else drawn(1)]


def test_a_damaged_order_in_a_state_is_refused():
    with pytest.raises(errors.InvalidStateError) as caught:
        make().load_state_dict(make().state_dict(epoch=1, step=4) | {"in_order": 1})
    assert str(caught.value) == "in the state, in_order is 1 (int); expected True or False."


@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_a_backup_goes_on_as_if_nothing_had_happened(make_model, fit, tmp_path, save_freq):
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 11:
                raise KeyboardInterrupt

    arguments = {"shuffle": False, "epochs": 3}
    whole = make_model()
    fit(whole, make(), **arguments)
    broken = callbacks.BackupAndRestore(make(), tmp_path, save_freq=save_freq)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), broken.dataset, callbacks=[broken, Break()], **arguments)
    again = callbacks.BackupAndRestore(make(), tmp_path, save_freq=save_freq)
    model = make_model()
    seen = fit(model, again.dataset, callbacks=[again], **arguments)
    # Within an epoch the metrics go on too, and with them the log of what was seen before.
    assert seen.epochs == [ALL if save_freq == "epoch" else [*ALL, *ALL], ALL]
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_report_of_a_nan_makes_the_batch_again(make_model, fit, tmp_path):
    class Bad(Numbers):
        def load(self, rows):
            x, y = super().load(rows)
            x[rows == 40] = np.nan
            return x, y

    report = callbacks.NaNReport(make(Bad), tmp_path)
    with pytest.raises(errors.NonFiniteError, match="after epoch 0, step 5, rows"):
        fit(make_model(), report.dataset, shuffle=False, callbacks=[report])
    _, y = callbacks.replay(tmp_path, make(Bad))
    assert y.tolist() == ALL[40:48]
