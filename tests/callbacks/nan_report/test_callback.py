"""`NaNReport`: the batch that made a NaN is written down, and can be made again."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import NaNReport, replay
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError, NonFiniteError
from tests.installed import needs_several_steps_at_once

N, BATCH = 50, 8


def noise(batch, rng):
    (x, y) = batch
    return x + rng.standard_normal(x.shape).astype("float32"), y


def make_dataset(bad=None, row=23, **settings):
    x = np.arange(N, dtype="float32")[:, np.newaxis] / N
    y = np.arange(N, dtype="float32")
    if bad is not None:
        x[row] = bad
    return ArrayDataset(x, y, **{"batch_size": BATCH, "seed": 1, "transform": noise} | settings)


def make_model(loss="mse", **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss, metrics=["mae"], **arguments)
    return model


@pytest.mark.parametrize("remainder", ["keep", "pad"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_in_the_data_is_found_and_its_batch_comes_again(tmp_path, bad, remainder):
    dataset = make_dataset(bad, remainder=remainder, workers=2)
    step, _ = dataset.locate(23, epoch=0)
    folder = tmp_path / "nan"
    with pytest.raises(NonFiniteError) as caught:
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, folder)])
    rows = dataset.rows(step, 0).tolist()
    assert str(caught.value).startswith(
        f"after epoch 0, step {step}, rows {rows}: x has 1 values that are NaN or infinite; the "
        "loss is "
    )
    assert str(caught.value).endswith(
        f"The batch is in {folder}; make it again with keras_npbatch.callbacks.replay"
        f"({str(folder)!r}, dataset)."
    )
    report = json.loads((folder / "report.json").read_text())
    assert (report["epoch"], report["step"]) == (0, step)
    assert report["batches"][0]["rows"] == rows
    assert sorted(report["logs"]) == ["loss", "mae"]
    again = make_dataset(bad, remainder=remainder)
    batch = replay(folder, again)
    with np.load(folder / "arrays-0.npz") as kept:
        for number, leaf in enumerate(batch):
            np.testing.assert_array_equal(kept[f"leaf-{number}"], leaf, strict=True)
    assert np.flatnonzero(~np.isfinite(batch[0])).tolist() == [rows.index(23)]
    assert again.epoch == 0  # nothing has moved


def test_the_weights_of_a_padded_batch_come_again_as_the_model_got_them(tmp_path):
    dataset = make_dataset(remainder="pad")
    row = int(dataset.rows(6, 0)[0])  # in the last batch: 2 samples, 6 added
    dataset = make_dataset(np.nan, row, remainder="pad")
    with pytest.raises(NonFiniteError, match="epoch 0, step 6"):
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    _, _, weights = replay(tmp_path, dataset)
    assert weights.tolist() == [4, 4, 0, 0, 0, 0, 0, 0]


def padded_at_the_nan():
    """A dataset whose last batch has 2 samples, a NaN in one of them, and 6 that were added."""
    row = int(make_dataset(remainder="pad").rows(6, 0)[0])
    return make_dataset(np.nan, row, remainder="pad", transform=None)


def test_weights_for_a_loss_that_is_a_sum_come_again(tmp_path):
    dataset, summed = padded_at_the_nan(), keras.losses.MeanSquaredError(reduction="sum")
    with pytest.raises(NonFiniteError, match="epoch 0, step 6"):
        make_model(summed).fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    _, _, weights = replay(tmp_path, dataset)
    assert weights.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_weights_for_several_outputs_come_again(tmp_path):
    inputs = keras.Input((1,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": keras.losses.MeanSquaredError(reduction="sum")})
    x, y = padded_at_the_nan().load(np.arange(N))
    dataset = ArrayDataset(x, {"a": y, "b": y}, batch_size=BATCH, seed=1, remainder="pad")
    with pytest.raises(NonFiniteError, match="epoch 0, step 6"):
        model.fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    _, _, weights = replay(tmp_path, dataset)
    assert weights["a"].tolist() == [4, 4, 0, 0, 0, 0, 0, 0]
    assert weights["b"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    other = ArrayDataset(x, {"a": y, "b": y + 1}, batch_size=BATCH, seed=1, remainder="pad")
    with pytest.raises(InvalidStateError, match=re.escape("y['b'] of epoch 0, step 6 is another")):
        replay(tmp_path, other)


def test_a_loss_that_turns_nan_from_good_data_is_found(tmp_path):
    def loss(y_true, y_pred):
        return keras.ops.sqrt(30.0 - y_true) + 0 * y_pred[:, 0]  # of targets above 30

    dataset = make_dataset()
    first = next(s for s in range(7) if dataset.rows(s, 0).max() > 30)
    with pytest.raises(NonFiniteError, match=rf"step {first}, rows .*: the loss is nan\. "):
        make_model(loss).fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    assert (replay(tmp_path, dataset)[1] > 30).any()


def test_training_can_be_stopped_instead(tmp_path):
    dataset = make_dataset(np.nan)
    report = NaNReport(dataset, tmp_path, on_nan="stop")
    history = make_model().fit(dataset, epochs=3, verbose=0, callbacks=[report]).history
    assert len(history["loss"]) == 1
    assert (tmp_path / "report.json").exists()


def test_good_training_writes_nothing(tmp_path):
    """Large numbers whose sum is infinite are no NaN, and integers are never."""
    big = np.full((N, 1), 3e38, "float32")
    dataset = ArrayDataset({"x": big[:, :1] * 0 + 1, "big": big}, np.arange(N), batch_size=BATCH)
    inputs = {name: keras.Input((1,), name=name) for name in ("x", "big")}
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs["x"]))
    model.compile("sgd", "mse")
    model.fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path / "nan")])
    assert not (tmp_path / "nan").exists()


@pytest.mark.skipif(
    keras.version().startswith("3.7."), reason="Keras 3.7: steps_per_execution; see docs/limits.md"
)
def test_all_batches_of_an_execution_are_written(tmp_path, backend):
    needs_several_steps_at_once(backend)
    row = int(make_dataset().rows(4, 0)[3])
    dataset = make_dataset(np.nan, row)
    with pytest.raises(NonFiniteError):
        make_model(steps_per_execution=3).fit(
            dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)]
        )
    for number, step in enumerate([3, 4, 5]):
        x, y = replay(tmp_path, dataset, number)
        assert y.tolist() == dataset.rows(step, 0).tolist()
        assert np.isnan(x).any() == (step == 4)


def test_other_data_are_told_from_those_of_the_report(tmp_path):
    dataset = make_dataset(np.nan)
    with pytest.raises(NonFiniteError):
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    with pytest.raises(InvalidStateError, match="another dataset: seed was 1 and is 2"):
        replay(tmp_path, make_dataset(np.nan, seed=2))
    step, _ = dataset.locate(23, 0)
    with pytest.raises(InvalidStateError) as caught:
        replay(tmp_path, make_dataset())
    assert str(caught.value) == (
        f"x of epoch 0, step {step} is another array than when the report was written; expected "
        "the same bytes. The data or the transform have changed; the arrays as they were are in "
        f"{tmp_path}."
    )


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"batches": []}'])
def test_a_folder_without_a_report_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    expected = (
        rf"^{re.escape(str(tmp_path))} has no report of a NaNReport with such a batch \(.*\); "
        r"expected the folder that it was given\.$"
    )
    with pytest.raises(InvalidStateError, match=expected):
        replay(tmp_path, make_dataset())


def written(tmp_path):
    dataset = make_dataset(np.nan)
    with pytest.raises(NonFiniteError):
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    return dataset, json.loads((tmp_path / "report.json").read_text())


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda report: report | {"version": 1}, r"has version 1 \(int\); this .* reads version 2"),
        (lambda report: report | {"batches": {"-1": report["batches"][0]}}, "no report of a NaN"),
        (lambda report: report | {"number": 7}, "no report of a NaN"),
        (lambda report: report | {"number": "0"}, "no report of a NaN"),
        (lambda report: report | {"batches": [{}]}, "no report of a NaN"),
        (lambda report: report | {"batches": [report["batches"][0] | {"state": 3}]}, "no report"),
        (lambda report: report | {"batches": [report["batches"][0] | {"leaves": ["x"]}]}, "leaves"),
        (lambda report: report | {"batches": [report["batches"][0] | {"weights": 2}]}, "no report"),
        (lambda report: report | {"batches": [report["batches"][0] | {"weights": "w"}]}, "no rep"),
        (lambda report: [report], "no report of a NaN"),
    ],
)
def test_a_damaged_report_is_refused(tmp_path, damage, text):
    dataset, report = written(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(damage(report)))
    with pytest.raises(InvalidStateError, match=text):
        replay(tmp_path, dataset)


def test_damaged_arrays_are_refused(tmp_path):
    dataset, _ = written(tmp_path)
    arrays = tmp_path / "arrays-0.npz"
    raw = arrays.read_bytes()
    for content in (raw[:-40], b"", raw[:60] + b"x" * 40 + raw[100:], None):
        arrays.unlink()
        if content is not None:
            arrays.write_bytes(content)
        else:
            np.savez(arrays, **{"leaf-0": np.array([object()]), "leaf-1": np.zeros(1)})
        with pytest.raises(InvalidStateError, match=r"arrays-0.npz is damaged, or not written by"):
            replay(tmp_path, dataset)


def test_a_planted_link_is_replaced_and_not_followed(tmp_path):
    folder, victim = tmp_path / "nan", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    for name in ("arrays-0.npz", "report.json", "report.json.unfinished"):
        (folder / name).symlink_to(victim)
    (folder / "arrays-1.npz").write_bytes(b"of an older report")
    dataset, _ = written(folder)
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir() if not path.is_symlink()) == [
        "arrays-0.npz",
        "report.json",
    ]
    assert np.isnan(replay(folder, dataset)[0]).any()


def test_metrics_of_several_values_are_written_too(tmp_path):
    x = np.zeros((N, 3), "float32")
    x[5] = np.nan
    dataset = ArrayDataset(x, np.eye(3, dtype="float32")[np.arange(N) % 3], batch_size=BATCH)
    model = keras.Sequential([keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score(average=None)])
    with pytest.raises(NonFiniteError):
        model.fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path)])
    logs = json.loads((tmp_path / "report.json").read_text())["logs"]
    assert len(logs["f1_score"]) == 3


def test_a_folder_that_cant_be_written_to_does_not_hide_the_nan(tmp_path):
    (tmp_path / "file").write_text("a file")
    dataset = make_dataset(np.nan)
    step, _ = dataset.locate(23, 0)
    expected = (
        rf"^after epoch 0, step {step}, .*The report can't be written to .*file \(FileExistsError"
    )
    with pytest.raises(NonFiniteError, match=expected):
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, tmp_path / "file")])


def test_one_of_several_processes_does_not_stop_alone(tmp_path):
    dataset = make_dataset(shard=(0, 2))
    with pytest.raises(InvalidArgumentError) as caught:
        NaNReport(dataset, tmp_path, on_nan="stop")
    assert str(caught.value) == (
        "on_nan is 'stop' with a dataset for 2 processes; expected 'raise'. Each process looks at "
        "its own part of a batch: one that stopped within an epoch would be waited for by the "
        "others, while an error ends them all."
    )
    NaNReport(dataset, tmp_path)
    NaNReport(make_dataset(shard=(0, 1)), tmp_path, on_nan="stop")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"folder": 3}, "folder is 3 (int); expected the path of a folder."),
        ({"folder": ""}, "folder is '' (str); expected the path of a folder."),
        ({"on_nan": "warn"}, "on_nan is 'warn' (str); expected 'raise' or 'stop'."),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(tmp_path, arguments, text):
    with pytest.raises(InvalidArgumentError) as caught:
        NaNReport(make_dataset(), **{"folder": tmp_path} | arguments)
    assert str(caught.value) == text
