"""`on_error="set_aside"`: training goes on without rows that can't be read; its loss is exact."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset
from keras_npbatch.batches.core import core_of
from keras_npbatch.callbacks import BackupAndRestore, CoverageAudit, InputMonitor, NaNReport, replay
from keras_npbatch.errors import NonFiniteError, SetAsideError, UnsupportedArgumentError
from keras_npbatch.fit.set_aside import refuse_in_strategy

N, BATCH = 50, 8
FAILING = (0, 3, 4, 20, 21, 22, 48)
GOOD = np.setdiff1d(np.arange(N), FAILING)
pytestmark = pytest.mark.filterwarnings("ignore:row .* could not be read:UserWarning")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 3)).astype("float32"), rng.normal(size=(N, 1)).astype("float32")


def broken(arrays, failing=FAILING, **settings):
    """A dataset some of whose rows can't be read."""
    x, y = arrays

    def load_sample(row):
        if row in failing:
            raise OSError(f"row {row} is broken")
        return x[row], y[row]

    chosen = {"batch_size": BATCH, "seed": 0, "on_error": "set_aside", "max_set_aside": 0.5}
    return SampleDataset(load_sample, num_samples=N, **chosen | settings)


class ByHand(BatchDataset):
    """The same rows, of which some have a weight of 0 and the others more, for a loss of mean 1."""

    def __init__(self, arrays, failing=FAILING, **settings):
        super().__init__(N, batch_size=BATCH, seed=0, **settings)
        (self.x, self.y), self.failing = arrays, failing

    def load(self, rows):
        real = ~np.isin(rows, self.failing)
        weights = (real * len(rows) / max(real.sum(), 1)).astype("float32")
        return self.x[rows], self.y[rows], weights


def make_dense(loss="mse", optimizer="adam"):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizer, loss, weighted_metrics=["mae"])
    return model


@pytest.mark.parametrize("remainder", ["keep", "pad", "spread", "drop"])
@pytest.mark.parametrize(
    "workers",
    [
        {"workers": 0},
        {"workers": 2},
        pytest.param({"workers": 1, "use_multiprocessing": True}, marks=pytest.mark.more),
    ],
)
def test_losses_are_those_of_weights_of_zero_by_hand(arrays, remainder, workers):
    histories, trained = [], []
    by_hand = "keep" if remainder == "pad" else remainder
    for dataset in (
        broken(arrays, remainder=remainder, **workers),
        ByHand(arrays, remainder=by_hand),
    ):
        model = make_dense()
        with dataset:
            steps = N // BATCH if remainder == "pad" else None  # the last one is another
            history = model.fit(dataset, epochs=1 if steps else 3, steps_per_epoch=steps, verbose=0)
        histories.append(history.history["loss"])
        trained.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*histories, rtol=2e-5)
    np.testing.assert_allclose(*trained, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_a_step_is_that_on_the_rows_that_can_be_read(arrays, loss, remainder):
    dataset = broken(arrays, remainder=remainder)
    chosen = keras.losses.MeanSquaredError(reduction=loss)
    model, other = (make_dense(chosen, keras.optimizers.SGD(0.01)) for _ in range(2))
    model.fit(dataset, epochs=2, verbose=0)
    x, y = arrays
    for epoch in range(2):
        for step in range(len(dataset)):
            rows = dataset.rows(step, epoch)
            rows = rows[~np.isin(rows, FAILING)]
            if len(rows):
                other.train_on_batch(x[rows], y[rows])
    for mine, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.more
@pytest.mark.parametrize("cache", [None, "1 MB"])
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no such steps there")
def test_steps_of_one_execution_train_the_same(arrays, cache):
    trained = []
    for steps in (1, 3):
        model = make_dense()
        model.compile("adam", "mse", steps_per_execution=steps)
        history = model.fit(broken(arrays, cache=cache), epochs=2, verbose=0).history
        trained.append([*history["loss"], *np.concatenate(model.get_weights(), axis=None)])
    np.testing.assert_allclose(*trained, rtol=1e-5)


def test_weights_of_time_steps_stay(arrays):
    rng = np.random.default_rng(1)
    x, y = rng.random((N, 4, 3), "float32"), rng.random((N, 4, 1), "float32")
    weights = rng.random((N, 4), "float32")

    def load_sample(row):
        if row in FAILING:
            raise OSError("broken")
        return x[row], y[row], weights[row]

    def compiled():
        model = keras.Sequential(
            [keras.Input((4, 3)), keras.layers.Dense(1, kernel_initializer="ones")]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    model, other = compiled(), compiled()
    settings = {"batch_size": BATCH, "seed": 0, "on_error": "set_aside", "max_set_aside": 0.5}
    dataset = SampleDataset(load_sample, num_samples=N, **settings)
    model.fit(dataset, epochs=1, verbose=0)
    for step in range(len(dataset)):
        rows = dataset.rows(step, 0)
        rows = rows[~np.isin(rows, FAILING)]
        other.train_on_batch(x[rows], y[rows], weights[rows])
    for mine, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


def test_a_batch_without_any_row_changes_nothing(arrays):
    everything = broken(arrays, failing=range(BATCH), shuffle=False)
    model = make_dense(optimizer=keras.optimizers.SGD(0.1))
    before = model.get_weights()
    history = model.fit(everything, steps_per_epoch=1, epochs=1, verbose=0).history
    assert history["loss"] == [0.0]
    for now, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


def test_evaluate_is_that_of_the_rows_that_can_be_read(arrays):
    model = make_dense()
    found = model.evaluate(broken(arrays), verbose=0)
    x, y = arrays
    expected = model.evaluate(ArrayDataset(x[GOOD], y[GOOD], batch_size=BATCH), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    train = broken(arrays)
    history = model.fit(train, validation_data=train, verbose=0, epochs=1).history
    expected = model.evaluate(ArrayDataset(x[GOOD], y[GOOD], batch_size=BATCH), verbose=0)
    np.testing.assert_allclose([history["val_loss"][0], history["val_mae"][0]], expected, rtol=1e-5)


def test_predict_refuses_them_and_reads_the_others(arrays):
    dataset = broken(arrays)
    with pytest.raises(SetAsideError, match="predict gives a result for each row"):
        make_dense().predict(dataset, verbose=0)
    model = make_dense()  # on JAX, the other has lost its weights
    predicted = model.predict(dataset.subset(GOOD), verbose=0)
    np.testing.assert_allclose(predicted, model.predict(arrays[0][GOOD], verbose=0), rtol=1e-6)


def test_receipts_and_logs_name_them(arrays):
    dataset = broken(arrays)
    audit, monitor = CoverageAudit(dataset), InputMonitor(dataset)
    history = make_dense().fit(dataset, epochs=2, callbacks=[audit, monitor], verbose=0).history
    assert history["coverage/seen"] == [len(GOOD)] * 2
    assert history["coverage/missing"] == [0, 0]
    assert history["coverage/set_aside"] == history["data_set_aside"] == [len(FAILING)] * 2
    for receipt in audit.receipts:
        assert receipt.set_aside_rows == FAILING
        assert receipt.is_right
        assert receipt.is_whole
        assert f"{len(FAILING)} set aside: rows [0, 3, 4" in repr(receipt)
        assert type(receipt).from_dict(receipt.as_dict()) == receipt
    whole = CoverageAudit(ArrayDataset(*arrays, batch_size=BATCH, seed=0))
    make_dense().fit(whole.dataset, epochs=1, callbacks=[whole], verbose=0)
    assert whole.receipts[0].epoch_digest == audit.receipts[0].epoch_digest
    assert whole.receipts[0].rows_digest != audit.receipts[0].rows_digest


def test_the_receipts_of_parts_of_an_epoch_add_up(arrays):
    parts = []
    first = broken(arrays)
    for dataset, steps in ((first, 3), (broken(arrays), None)):
        if steps is None:
            dataset.load_state_dict(first.state_dict(epoch=0, step=3))
            assert dataset.set_aside == first.set_aside
        audit = CoverageAudit(dataset)
        make_dense().fit(dataset, steps_per_epoch=steps, callbacks=[audit], verbose=0)
        parts += audit.receipts
    merged = CoverageAudit.merge(parts)
    assert merged.is_whole
    assert merged.set_aside == len(FAILING)
    assert not CoverageAudit.merge(parts[:1]).is_whole


def test_a_backup_knows_them(arrays, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise KeyboardInterrupt

    first = broken(arrays)
    backup = BackupAndRestore(first, tmp_path, save_freq=1, delete_checkpoint=False)
    with pytest.raises(KeyboardInterrupt):
        make_dense().fit(first, callbacks=[backup, Stop()], verbose=0)
    second = broken(arrays)
    backup = BackupAndRestore(second, tmp_path, save_freq=1)
    known = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            known.append(set(second.set_aside))

    make_dense().fit(second, callbacks=[backup, Look()], verbose=0)
    assert known[0] >= set(FAILING) & {
        int(row) for step in range(4) for row in first.rows(step, epoch=0)
    }
    assert list(second.set_aside) == list(FAILING)


def test_a_report_of_nan_replays_the_batch(arrays, tmp_path):
    x, y = arrays
    x[30] = np.nan
    dataset = broken((x, y), shuffle=False)
    with pytest.raises(NonFiniteError):
        make_dense().fit(dataset, callbacks=[NaNReport(dataset, tmp_path)], verbose=0)
    found = replay(tmp_path, broken((x, y), shuffle=False))
    assert np.isnan(found[0]).any()
    assert len(found[0]) == BATCH


def test_a_loss_without_a_value_for_each_row_is_refused(arrays):
    model = make_dense(lambda y, predicted: keras.ops.mean((y - predicted) ** 2))
    with pytest.raises(UnsupportedArgumentError, match=r"^on_error='set_aside' gives padded rows"):
        model.fit(broken(arrays), verbose=0)


def test_processes_of_a_strategy_of_tensorflow_are_refused(arrays):
    dataset = broken(arrays)
    with pytest.raises(UnsupportedArgumentError) as caught:
        refuse_in_strategy(core_of(dataset))
    assert str(caught.value) == (
        "the SampleDataset has on_error='set_aside' and trains in several processes of a "
        "TensorFlow strategy, where none knows how many rows the others could not read; expected "
        "one process, or several on JAX or Torch. Find these rows before (train in one process, "
        "and read dataset.set_aside), and leave them out: dataset.subset(rows)."
    )


def test_a_tf_data_dataset_is_refused(arrays):
    pytest.importorskip("tensorflow")
    with pytest.raises(UnsupportedArgumentError, match="no place for what was set aside"):
        broken(arrays).to_tf_dataset()
