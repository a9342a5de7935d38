"""`BatchStatistics`: what training has seen, compared with NumPy over the epoch."""

from __future__ import annotations

import csv
import io
import math
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
import rich.console

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.batches.core import core_of
from keras_npbatch.callbacks import BackupAndRestore, BatchStatistics
from keras_npbatch.errors import InvalidArgumentError, MissingExtraError
from keras_npbatch.samplers import LengthBuckets
from tests.keras_loaders import shake_age

N, BATCH = 50, 8
ENDS = "min", "max"


def arrays():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (N, 4, 4, 3)).astype("uint8")
    age = rng.normal(40, 5, (N, 1)).astype("float32")
    age[3], age[7] = np.nan, np.inf
    age[5] = 0
    label = rng.integers(0, 3, N).astype("int32")
    hot = np.eye(4, dtype="float32")[rng.integers(0, 4, N)]
    return {"image": image, "age": age}, {"label": label, "hot": hot}


def make_dataset(**settings):
    return ArrayDataset(*arrays(), **{"batch_size": BATCH, "seed": 1} | settings)


def make_model():
    """Takes the images; the ages are only carried along."""
    inputs = {"image": keras.Input((4, 4, 3), name="image"), "age": keras.Input((1,), name="age")}
    flat = keras.layers.Flatten()(inputs["image"])
    outputs = {
        "label": keras.layers.Dense(3, activation="softmax", name="label")(flat),
        "hot": keras.layers.Dense(4, activation="softmax", name="hot")(flat),
    }
    model = keras.Model(inputs, outputs)
    losses = {"label": "sparse_categorical_crossentropy", "hot": "categorical_crossentropy"}
    model.compile("sgd", losses)
    return model


def trained(dataset, *callbacks, statistics=None, epochs=2, **arguments):
    statistics = BatchStatistics(dataset, log="*") if statistics is None else statistics
    model = make_model()
    history = model.fit(
        dataset, epochs=epochs, verbose=0, callbacks=[statistics, *callbacks], **arguments
    )
    return statistics, history.history


def of(values):
    finite = values[np.isfinite(values)].astype("float64")
    return {
        "mean": finite.mean(),
        "std": finite.std(),
        "min": finite.min(),
        "max": finite.max(),
        "zeros": (values == 0).mean(),
        "nan": np.isnan(values).sum(),
        "inf": np.isinf(values).sum(),
    }


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_the_figures_are_numpys_over_the_rows_of_each_epoch(remainder):
    """Neither validation, nor what built the model, nor padding is in them."""
    dataset = make_dataset(remainder=remainder, workers=2)
    statistics, history = trained(dataset, validation_data=make_dataset(seed=5))
    x, y = arrays()
    steps = range(dataset.plan.num_batches)
    for epoch in range(2):
        rows = np.concatenate([dataset.rows(step, epoch) for step in steps])
        leaves = {"x/age": x["age"], "x/image": x["image"]}
        leaves |= {"y/label": y["label"], "y/hot": y["hot"]}
        for leaf, values in leaves.items():
            for name, value in of(values[rows]).items():
                full = f"data/{leaf}/{name}"
                assert statistics.history[full][epoch] == pytest.approx(value, rel=1e-6), full
                assert history[full][epoch] == statistics.history[full][epoch]
        for label in range(3):
            count = (y["label"][rows] == label).sum()
            assert statistics.history[f"data/y/label/class_{label}"][epoch] == count
        for label in range(4):
            count = y["hot"][rows, label].sum()
            assert statistics.history[f"data/y/hot/class_{label}"][epoch] == count
        assert history["data/samples"][epoch] == len(rows)
        assert history["data/batches"][epoch] == len(steps)
        assert history["data/samples_per_second"][epoch] > 0
        assert 0 <= history["data/wait_share"][epoch] <= 1
    assert ("data/sample_weight/mean" in history) == (remainder == "pad")


def without_times(figures):
    return {n: v for n, v in figures.items() if "per_second" not in n and "wait_share" not in n}


def assert_same_figures(ours, theirs):
    ours, theirs = without_times(ours), without_times(theirs)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_the_figures_are_the_same_for_any_workers():
    """To the last bit, a random transform included."""
    found = []
    for workers, processes in [(0, False), (2, False), (2, True)]:
        dataset = make_dataset(
            transform=shake_age, remainder="pad", workers=workers, use_multiprocessing=processes
        )
        validation = make_dataset(shuffle=False, workers=workers, use_multiprocessing=processes)
        statistics = BatchStatistics(dataset, per_batch=True, validation=validation)
        trained(dataset, statistics=statistics, validation_data=validation)
        found.append(statistics)
        dataset.close()
        validation.close()
    for other in found[1:]:
        assert_same_figures(other.history, found[0].history)
        assert other.batches == found[0].batches
    age = found[0].history["data/x/age/mean"]
    assert age[0] != age[1]  # other noise in each epoch


def test_they_are_computed_where_batches_are_made():
    """Also of arrays that are so cheap that without statistics no worker makes them."""
    seen = {}
    for workers in (0, 1):
        dataset = make_dataset(workers=workers)
        statistics = BatchStatistics(dataset)
        threads = seen[workers] = set()

        core = core_of(dataset)

        def spied(work, core=core, threads=threads):
            make = type(core).maker(core, work)

            def made(*place):
                if work.summarise is not None:  # not what only builds the model
                    threads.add(threading.current_thread() is threading.main_thread())
                return make(*place)

            return made

        core.maker = spied
        trained(dataset, statistics=statistics)
    assert seen == {0: {True}, 1: {False}}


def test_validation_has_figures_of_its_own():
    x, y = arrays()
    rows = np.arange(20)
    dataset = make_dataset()
    validation = ArrayDataset(
        {name: leaf[rows] for name, leaf in x.items()},
        {name: leaf[rows] for name, leaf in y.items()},
        batch_size=6,
        workers=2,
    )
    statistics = BatchStatistics(dataset, validation=validation, log="*")
    csv_like = []
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: csv_like.append(logs))
    _, history = trained(
        dataset,
        spy,
        statistics=statistics,
        epochs=3,
        validation_data=validation,
        validation_freq=2,
    )
    alone, _ = trained(make_dataset(), epochs=3)
    of_training = {n: v for n, v in statistics.history.items() if not n.startswith("val_")}
    assert_same_figures(of_training, alone.history)
    for name, value in of(x["age"][rows]).items():
        found = statistics.history[f"val_data/x/age/{name}"]
        assert found == pytest.approx([math.nan, value, math.nan], rel=1e-6, nan_ok=True)
        assert history[f"val_data/x/age/{name}"] == pytest.approx([value], rel=1e-6)
    assert statistics.history["val_data/batches"][1] == 4
    assert statistics.history["val_data/samples"][1] == 20
    whole = np.bincount(y["label"], minlength=3) / N
    part = np.bincount(y["label"][rows], minlength=3) / 20
    drift = 0.5 * np.abs(part - whole).sum()
    assert statistics.history["val_data/y/label/drift"][1] == pytest.approx(drift)
    for label in range(3):
        count = (y["label"][rows] == label).sum()
        assert statistics.history[f"val_data/y/label/class_{label}"][1] == count
    assert not any(name.startswith("val_") for name in csv_like[0])  # as Keras does
    assert "val_data/x/age/mean" in csv_like[1]


def test_the_dataset_that_is_trained_on_may_be_validated_with():
    dataset = make_dataset()
    statistics = BatchStatistics(dataset, validation=dataset)
    trained(dataset, statistics=statistics, validation_data=dataset)
    x = arrays()[0]
    for root in ("data", "val_data"):
        assert statistics.history[f"{root}/samples"] == [N, N]
        image = statistics.history[f"{root}/x/image/mean"]
        assert image == pytest.approx([x["image"].mean()] * 2, rel=1e-9)


def test_evaluate_alone_is_no_epoch():
    dataset, validation = make_dataset(), make_dataset(shuffle=False)
    statistics = BatchStatistics(dataset, validation=validation)
    make_model().evaluate(validation, verbose=0, callbacks=[statistics])
    assert statistics.history == {}


def fit_labels(dataset, **arguments):
    statistics = BatchStatistics(dataset, **{"log": "*"} | arguments.pop("settings", {}))
    model = keras.Sequential([keras.layers.Dense(30)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(dataset, verbose=0, callbacks=[statistics], **arguments)
    return statistics, history.history


HALVES = np.arange(16) // 8


class Halves(BatchDataset):
    """One class in the first half, another in the second."""

    def load(self, rows):
        return np.zeros((len(rows), 1), "float32"), HALVES[rows]


def test_the_drift_of_classes_is_their_distance_from_those_in_the_arrays():
    x = np.zeros((16, 1), "float32")
    dataset = ArrayDataset(x, HALVES, batch_size=8, shuffle=False).repeat()
    statistics, history = fit_labels(dataset, epochs=4, steps_per_epoch=1)
    assert statistics.history["data/y/drift"] == [0.5] * 4
    assert history["data/y/class_0"] == [8, 0, 8, 0]
    assert history["data/y/class_1"] == [0, 8, 0, 8]


def test_of_a_part_of_a_split_it_is_their_distance_from_those_in_the_part():
    part, _ = ArrayDataset(np.zeros((16, 1)), HALVES, batch_size=4, shuffle=False).split(0.25)
    labels = [HALVES[row] for row in part.rows(0)]
    assert sorted(set(labels)) == [0, 1]
    statistics, _ = fit_labels(part)
    assert statistics.history["data/y/drift"] == [0.0]
    skewed = np.isin(np.arange(16), part.rows(0)[:2]).astype(int)  # half of the part, few of all
    one, _ = ArrayDataset(np.zeros((16, 1)), skewed, batch_size=4, shuffle=False).split(0.25)
    assert fit_labels(one)[0].history["data/y/drift"] == [0.0]


def test_of_data_that_are_no_arrays_it_is_that_from_the_first_whole_epoch():
    dataset = Halves(16, batch_size=4, shuffle=False).repeat()
    statistics, _ = fit_labels(dataset, epochs=4, steps_per_epoch=2)
    assert statistics.history["data/y/drift"] == pytest.approx(
        [math.nan, 0.5, 0.5, 0.5], nan_ok=True
    )
    assert statistics.history["data/y/class_1"] == [0, 8, 0, 8]
    resumed = Halves(16, batch_size=4, shuffle=False)
    resumed.load_state_dict(resumed.state_dict(epoch=0, step=2))
    statistics, _ = fit_labels(resumed, epochs=2)
    assert statistics.history["data/y/drift"] == pytest.approx([math.nan, 0.0], nan_ok=True)


def test_or_from_what_is_known_of_the_classes():
    for counts in ({"y": {0: 3, 1: 1}}, {"y": {0: 0.75, 1: 0.25}}):
        for dataset in (
            Halves(16, batch_size=4),
            ArrayDataset(np.zeros((16, 1), "float32"), HALVES),
        ):
            statistics, history = fit_labels(dataset, settings={"class_counts": counts})
            assert statistics.history["data/y/drift"] == [0.25]
            assert history["data/y/drift"] == [0.25]


@pytest.mark.parametrize("classes", [20, 21])
def test_many_classes_are_not_in_the_logs(classes):
    y = np.arange(classes)
    statistics, history = fit_labels(ArrayDataset(np.zeros((classes, 1), "float32"), y))
    assert statistics.history["data/y/class_19"] == [1]
    assert ("data/y/class_19" in history) == (classes == 20)
    assert history["data/y/drift"] == [0.0]


def logged(log, classes=3, **settings):
    y = np.arange(classes * 2) % classes
    dataset = ArrayDataset(np.ones((len(y), 1), "float32"), y)
    statistics, history = fit_labels(dataset, settings={"log": log} | settings, epochs=2)
    return statistics, sorted(set(history) - {"loss", "val_loss"})


def test_few_figures_are_in_the_logs_unless_more_are_asked_for():
    y = np.arange(6) % 3
    dataset = ArrayDataset(np.ones((6, 1), "float32"), y)
    statistics = BatchStatistics(dataset)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(dataset, verbose=0, callbacks=[statistics]).history
    assert sorted(history) == ["data/samples_per_second", "data/wait_share", "loss"]
    assert len(statistics.history) > 20


def test_what_is_padding_is_logged_with_a_sampler_that_knows_lengths():
    lengths = np.random.default_rng(0).integers(1, 50, 30)
    sampler = LengthBuckets(lengths, batches_per_window=2)
    dataset = ArrayDataset(np.ones((30, 1), "float32"), np.ones(30), batch_size=4, sampler=sampler)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    statistics = BatchStatistics(dataset, log="data/padding_waste")
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=[statistics]).history
    for epoch in range(2):
        of_batches = [lengths[dataset.rows(step, epoch)] for step in range(8)]
        padded = sum(len(each) * int(each.max()) for each in of_batches)
        expected = 1 - int(lengths.sum()) / padded
        assert history["data/padding_waste"][epoch] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("log", "names"),
    [
        ((), []),
        ("data/y/drift", ["data/y/drift"]),
        (["data/y/drift", "data/?/mean"], ["data/x/mean", "data/y/drift", "data/y/mean"]),
        ("data/y/class_[01]", ["data/y/class_0", "data/y/class_1"]),
        (iter(["*max"]), ["data/x/max", "data/y/max"]),
    ],
)
def test_log_names_the_figures_that_are_in_the_logs(log, names):
    statistics, found = logged(log)
    assert found == names
    assert {"data/x/mean", "data/y/drift", "data/y/class_2"} <= statistics.history.keys()


def test_a_class_of_many_is_logged_by_its_name():
    assert logged(["data/y/class_2*", "data/y/class_7"], classes=30)[1] == ["data/y/class_7"]


def test_a_name_of_no_figure_is_told():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        logged(["data/x/mena", "val_data/x/mean"])
    (text,) = [str(each.message) for each in caught if each.category is UserWarning]
    assert text.startswith(
        "BatchStatistics was given log=['data/x/mena'], which names no figure; expected some of "
        "data/batches, data/bytes, data/samples, "
    )


def test_row_numbers_are_no_classes():
    """More than a thousand, though each batch has few."""
    y = np.arange(1010)
    dataset = ArrayDataset(np.zeros((1010, 1), "float32"), y, batch_size=505)
    statistics = BatchStatistics(dataset)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(dataset, verbose=0, callbacks=[statistics])
    assert statistics.history["data/y/mean"] == [504.5]
    assert not [name for name in statistics.history if "class_" in name or "drift" in name]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        *(
            (
                {"log": wrong},
                f"log is {text}; expected names of figures, such as ['data/wait_share', "
                "'data/*/drift'], '*' for all of them, or () for none.",
            )
            for wrong, text in [(None, "None (NoneType)"), (3, "3 (int)"), ([1], "[1] (list)")]
        ),
        (
            {"validation": (1, 2)},
            "validation is (1, 2) (tuple); expected the ArrayDataset or BatchDataset that fit is "
            "given as validation_data.",
        ),
        (
            {"class_counts": [9, 1]},
            "class_counts is [9, 1] (list); expected the counts of the whole data for each leaf, "
            "such as {'y': {0: 900, 1: 100}}.",
        ),
        (
            {"class_counts": {"y": {"a": 1}}},
            "class_counts['y'] is {'a': 1} (dict); expected class numbers with their counts or "
            "shares in the whole data, such as {0: 900, 1: 100}.",
        ),
        (
            {"class_counts": {"y": {0: 0}}},
            "class_counts['y'] is {0: 0} (dict); expected class numbers with their counts or "
            "shares in the whole data, such as {0: 900, 1: 100}.",
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments, text):
    with pytest.raises(InvalidArgumentError) as caught:
        BatchStatistics(make_dataset(), **arguments)
    assert str(caught.value) == text


def test_another_validation_dataset_is_refused():
    dataset, validation = make_dataset(), make_dataset(shuffle=False)
    statistics = BatchStatistics(dataset, validation=validation)
    with pytest.raises(InvalidArgumentError) as caught:
        trained(dataset, statistics=statistics, validation_data=make_dataset(shuffle=False))
    assert str(caught.value) == (
        f"BatchStatistics was given validation={validation!r}, which fit was not given as "
        "validation_data; expected the very dataset."
    )


def test_each_batch_on_request():
    dataset = make_dataset()
    statistics, _ = trained(dataset, statistics=BatchStatistics(dataset, per_batch=True))
    assert [(found["epoch"], found["step"]) for found in statistics.batches] == [
        (epoch, step) for epoch in range(2) for step in range(7)
    ]
    _, y = arrays()
    for found in statistics.batches:
        rows = dataset.rows(found["step"], found["epoch"])
        assert found["data/samples"] == len(rows)
        assert found["data/bytes"] == len(rows) * (4 * 4 * 3 + 4 + 4 + 16)
        assert found["data/y/label/mean"] == pytest.approx(y["label"][rows].mean())
        assert found.get("data/y/label/class_1", 0) == (y["label"][rows] == 1).sum()
    assert trained(dataset)[0].batches == []


def test_csv_logger_writes_the_figures(tmp_path):
    trained(make_dataset(), keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["data/samples"]) for row in rows] == [N, N]
    assert float(rows[1]["data/x/image/max"]) == arrays()[0]["image"].max()


def test_tensorboard_shows_the_figures_and_the_images(tmp_path, backend):
    if backend != "tensorflow":
        pytest.skip("Keras's TensorBoard callback needs TensorFlow")
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def brighter(batch, rng):
        x, y = batch
        return x | {"image": np.minimum(x["image"], 200) + 55}, y

    dataset = make_dataset(transform=brighter)
    statistics = BatchStatistics(dataset, image_dir=tmp_path / "images", log="*")
    board = keras.callbacks.TensorBoard(tmp_path / "logs")
    trained(dataset, board, statistics=statistics)
    read = EventAccumulator(str(tmp_path / "logs" / "train")).Reload()
    for name in ("data/x/image/mean", "data/y/label/drift", "data/samples"):
        found = [tf.make_ndarray(e.tensor_proto) for e in read.Tensors(f"epoch_{name}")]
        np.testing.assert_allclose(found, statistics.history[name], rtol=1e-6)
    images = EventAccumulator(str(tmp_path / "images"), {"tensors": 0}).Reload()
    events = images.Tensors("data/x/image")
    assert [event.step for event in events] == [0, 1]
    for epoch, event in enumerate(events):
        width, height, *pictures = event.tensor_proto.string_val
        assert (int(width), int(height), len(pictures)) == (4, 4, BATCH)
        dataset.set_epoch(epoch)
        shown = [tf.io.decode_png(picture).numpy() for picture in pictures]
        np.testing.assert_array_equal(shown, dataset[0][0]["image"])


def test_epochs_go_on_in_a_second_fit_and_after_a_resume(tmp_path):
    dataset = make_dataset()
    statistics, _ = trained(dataset)
    assert statistics.epochs == [0, 1]
    trained(dataset, statistics=statistics, epochs=1)
    assert statistics.epochs == [0, 1, 2]
    assert statistics.table().title == "50 samples of epoch 2"
    other, _ = trained(dataset, statistics=BatchStatistics(dataset))
    assert other.epochs == [3, 4]
    for epochs in (1, 3):
        dataset = make_dataset()
        backup = BackupAndRestore(dataset, tmp_path, delete_checkpoint=False)
        statistics, _ = trained(dataset, backup, epochs=epochs)
    assert statistics.epochs == [1, 2]


def test_epochs_of_some_steps_each_have_a_number():
    dataset = make_dataset().repeat()  # 7 steps
    statistics, _ = trained(dataset, epochs=4, steps_per_epoch=3)
    assert statistics.epochs == [0, 1, 2, 3]
    trained(dataset, statistics=statistics, steps_per_epoch=3)
    assert statistics.epochs == [0, 1, 2, 3, 4, 5]


def test_the_steps_of_images_are_the_epochs(tmp_path, monkeypatch):
    """The rest of an epoch that was resumed has no first batch."""
    written = []
    monkeypatch.setattr(
        "keras_npbatch.callbacks.statistics.callback.write_images",
        lambda folder, batch, samples, epoch: written.append((epoch, samples)),
    )
    dataset = make_dataset()
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=2))
    for _ in range(2):
        trained(dataset, statistics=BatchStatistics(dataset, image_dir=tmp_path), epochs=2)
    assert written == [(2, 8), (3, 8), (4, 8)]


def test_the_table_has_a_row_for_each_leaf():
    statistics, _ = trained(make_dataset())
    text = io.StringIO()
    rich.console.Console(file=text, width=120).print(statistics.table())
    lines = text.getvalue().splitlines()
    assert lines[0].strip() == "50 samples of epoch 1"
    found = {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}
    assert sorted(found) == ["x/age", "x/image", "y/hot", "y/label"]
    assert f"{statistics.history['data/x/age/mean'][-1]:.4g}" in found["x/age"]


def test_the_plot_shows_classes_ranges_throughput_and_waiting(tmp_path):
    statistics, _ = trained(make_dataset(), epochs=3)
    figure = statistics.plot()
    classes, speed, waiting, *ranges = figure.axes
    bar_containers = [bars for bars in classes.containers if bars.get_label().startswith("y/")]
    bars = {bars.get_label(): [bar.get_height() for bar in bars] for bars in bar_containers}
    for leaf, number in (("label", 3), ("hot", 4)):
        counts = [statistics.history[f"data/y/{leaf}/class_{each}"][-1] for each in range(number)]
        np.testing.assert_allclose(bars[f"y/{leaf}"], 100 * np.array(counts) / sum(counts))
    drawn = {line.get_label(): line.get_xdata().tolist() for axes in ranges for line in axes.lines}
    assert drawn["data/x/age"] == statistics.history["data/x/age/mean"]
    assert len(drawn) == 4
    for axes in ranges:  # each with a scale of its own
        root = axes.lines[0].get_label()
        segments = axes.collections[0].get_segments()
        for epoch, (low, high) in enumerate(segment[:, 0] for segment in segments):
            assert [low, high] == [statistics.history[f"{root}/{end}"][epoch] for end in ENDS]
    colors = {axes.lines[0].get_label(): axes.collections[0].get_color() for axes in ranges}
    for container in bar_containers:
        color = container.patches[0].get_facecolor()
        np.testing.assert_array_equal(colors[f"data/{container.get_label()}"][0], color)
    assert speed.lines[0].get_ydata().tolist() == statistics.history["data/samples_per_second"]
    shares = 100 * np.array(statistics.history["data/wait_share"])
    np.testing.assert_array_equal(waiting.lines[0].get_ydata(), shares)
    _, right = figure.subfigs
    assert (ranges[-1].get_xlabel(), right.get_supylabel()) == ("value", "epoch")
    assert speed.get_ylabel() == "samples / s"
    assert waiting.get_ylabel() == "% of the time"
    assert waiting.get_ylim()[1] == pytest.approx(1.15 * max(shares[1:]) or 1)
    figure.savefig(tmp_path / "data.png")
    assert (tmp_path / "data.png").stat().st_size > 10_000


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as caught:
        BatchStatistics(make_dataset()).plot()
    assert str(caught.value) == (
        "BatchStatistics.plot() needs matplotlib, which is not installed; install it with pip "
        "install 'keras_npbatch[plot]'."
    )


def test_without_tensorflow_the_extra_is_named(monkeypatch, tmp_path, backend):
    if backend == "tensorflow":
        pytest.skip("it is there")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    dataset = make_dataset()
    with pytest.raises(MissingExtraError) as caught:
        trained(dataset, statistics=BatchStatistics(dataset, image_dir=tmp_path))
    assert str(caught.value) == (
        "BatchStatistics(image_dir=...) needs TensorFlow, which is not installed; install it with "
        "pip install 'keras_npbatch[tensorflow]', or leave image_dir out."
    )
