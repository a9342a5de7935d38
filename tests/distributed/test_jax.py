"""Keras on JAX over several processes and devices: `fit` as it is, and what goes wrong.

The processes are started once for each number of them and go through all scenarios of
jax_ranks.py; the tests look at what they said. What the model saw is written down in its step.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launching import check_example, free_port, launch
from tests.jax_flags import quick_to_compile

pytest.importorskip("jax")
_HERE = Path(__file__).parent

EPOCHS, GLOBAL_BATCH = 3, 16
SAMPLES = {"pad": 33, "drop": 45, "keep": 40, "spread": 36}
SEEN = {"pad": 33, "drop": 32, "keep": 40, "spread": 36}
_said: dict[int, list[dict[str, dict]]] = {}


def said_by(count):
    """What each process has said, by name."""
    if count not in _said:
        environment = {
            "KERAS_BACKEND": "jax",
            "PORT": str(free_port()),
            "TELL_AFTER_S": "100",
            "JAX_PLATFORMS": "cpu",
            **quick_to_compile(f"--xla_force_host_platform_device_count={4 if count == 1 else 1}"),
        }
        with tempfile.TemporaryDirectory() as folder:
            results = launch(
                _HERE / "jax_ranks.py",
                count,
                folder,
                environment=lambda rank: environment,
                limit_s=120,
            )
        _said[count] = [{each["name"]: each for each in of} for of in results]
    return _said[count]


@pytest.fixture(params=[2, pytest.param(4, marks=pytest.mark.more)])
def ranks(request):
    return said_by(request.param)


@pytest.fixture
def two():
    return said_by(2)


@pytest.fixture
def alone():
    return said_by(1)[0]


def epochs_of(said, total, validated=0):
    """The ids that weighed something, epoch by epoch."""
    ids = np.array(said["ids"])[np.array(said["weights"]) > 0].tolist()
    size = total + validated
    assert len(ids) == EPOCHS * size
    return [ids[start : start + total] for start in range(0, len(ids), size)]


def assert_close(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


# --- rows set aside ----------------------------------------------------------------------------


def test_rows_that_any_process_cannot_read_weigh_nothing_in_the_loss_of_all(two, alone):
    assert len({tuple(said["set aside, rows"]["rows"]) for said in two}) == 1
    for said in two:
        assert said["set aside, rows"]["rows"] == alone["set aside, rows"]["failing"]
        assert_close(said["set aside"]["trained"], alone["set aside"]["trained"])
        np.testing.assert_allclose(
            said["set aside"]["history"]["loss"], alone["set aside"]["history"]["loss"], rtol=1e-5
        )


def test_all_processes_end_in_words(two):
    for said in two:
        assert said["too many"]["error"] == "SetAsideError"
    assert [said["no memory"]["error"] for said in two] == ["RanksDisagreeError", "MemoryError"]
    assert two[0]["no memory"]["message"] == "process 1 can't go on: MemoryError: row 3 is broken"


# --- what the model saw ------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SAMPLES))
def test_each_sample_once_an_epoch_on_all_processes_together(ranks, name):
    """On JAX all processes run one step on the global batch, so each has seen all of it."""
    for said in ranks:
        validated = 33 if name == "pad" else 0
        epochs = epochs_of(said[name], SEEN[name], validated)
        assert epochs[0] != epochs[1]
        for ids in epochs:
            assert len(set(ids)) == SEEN[name]
            assert set(ids) <= set(range(SAMPLES[name]))


@pytest.mark.parametrize("name", list(SAMPLES))
def test_weights_are_those_of_one_process_with_the_global_batch(ranks, alone, name):
    """`pad` is compared with `keep`: the samples that fill up the last batch change nothing."""
    for said in ranks:
        assert said[name]["trained"] == ranks[0][name]["trained"]
        assert_close(said[name]["trained"], alone[name]["trained"])


def test_evaluated_metrics_are_those_of_one_process(ranks, alone):
    expected = alone["evaluate"]["result"]
    for said in ranks:
        for name in ("loss", "mae"):
            assert said["evaluate"]["result"][name] == pytest.approx(expected[name], rel=1e-5)
            ours, theirs = (each["pad"]["history"][f"val_{name}"] for each in (said, alone))
            assert ours == pytest.approx(theirs, rel=1e-4)


def test_without_a_seed_all_take_that_of_the_first(ranks):
    for said in ranks:
        assert said["no seed"]["seed"] == ranks[0]["no seed"]["seed"]
        for ids in epochs_of(said["no seed"], 33):
            assert sorted(ids) == list(range(33))


def test_worker_processes_within_the_ranks(two):
    for said in two:
        assert said["processes"]["ids"][:48] == said["pad"]["ids"][:48]
        for ids in epochs_of(said["processes"], 33):
            assert sorted(ids) == list(range(33))


def test_a_tf_dataset_is_sharded_once(two):
    for said in two:
        assert said["tf.data"]["ids"] == said["drop"]["ids"]
        assert_close(said["tf.data"]["trained"], said["drop"]["trained"])


def test_what_is_resumed_ends_with_the_same_weights(two):
    for said in two:
        assert_close(said["interrupted"]["trained"], said["drop"]["trained"])


def test_after_the_rest_of_an_epoch_come_whole_ones(two):
    for said in two:
        assert said["rest"]["ids"] == said["drop"]["ids"][GLOBAL_BATCH:]


def test_interrupted_and_started_again_all_go_on_from_the_backup_of_the_first(two):
    for said in two:
        assert_close(said["backed up"]["trained"], said["drop"]["trained"])
        ids, steady = said["backed up"]["ids"], said["drop"]["ids"]
        assert ids[: len(steady)] == steady


@pytest.mark.parametrize(
    ("count", "shape", "shards"),
    [
        (2, "2x1", 2),
        pytest.param(2, "1x2", 1, marks=pytest.mark.more),
        pytest.param(4, "2x2", 2, marks=pytest.mark.more),
    ],
)
def test_processes_that_hold_parts_of_one_model_read_the_same_shard(alone, count, shape, shards):
    ranks = said_by(count)
    told = [said[f"shard of {shape}"] for said in ranks]
    assert [each["shard"] for each in told] == [
        [rank * shards // count, shards] for rank in range(count)
    ]
    assert len({each["seed"] for each in told}) == 1
    for said in ranks:
        for ids in epochs_of(said[shape], 33):
            assert sorted(ids) == list(range(33))
        assert_close(said[shape]["trained"], alone["four outputs"]["trained"])
        assert said[f"unlike {shape}"]["error"] == "RanksDisagreeError"


# --- one process, several devices --------------------------------------------------------------


@pytest.mark.parametrize("shard", [None, "auto"])
def test_four_devices_of_one_process(alone, shard):
    said = alone[f"devices, shard={shard}"]
    for ids in epochs_of(said, 33):
        assert sorted(ids) == list(range(33))
    assert_close(said["trained"], alone["pad"]["trained"])


def test_a_batch_that_the_devices_cannot_divide_is_refused(alone):
    said = alone["one device too many"]
    assert said["error"] == "UnsupportedArgumentError"
    assert "divides each batch among 4 devices of this process" in said["message"]
    assert "expected a multiple of 4" in said["message"]


def test_predict_on_devices(alone):
    said = alone["predict on devices"]
    if "predicted" in said:
        assert_close(said["predicted"], said["expected"])
        assert "set_distribution(None) before" in alone["predict the rest"]["message"]
    else:  # an early Keras
        assert "gives the parts of a batch in any order" in said["message"]
    assert alone["predict the rest"]["error"] == "UnsupportedArgumentError"
    assert_close(
        alone["predict on one device"]["predicted"], alone["predict on one device"]["expected"]
    )


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("seed", "seed: 0 on 0, 1 on 1"),
        ("data", "data: "),
        ("settings", "global_batch_size: 8 on 0, 16 on 1"),
        ("samples", "num_samples: 33 on 0, 49 on 1"),
        ("epoch", "position: [0, 0, 0, false] on 0, [1, 0, 0, false] on 1"),
        ("restored", "position: [0, 0, 0, false] on 0, [1, 0, 0, false] on 1"),
        ("evaluate others", "num_samples: 33 on 0, 34 on 1"),
        ("same shard", "have the shards (index, count) [(1, 2), (1, 2)]"),
        ("one draws a seed", "speak of different things: 0 of a seed, 1 of a dataset"),
    ],
)
def test_what_differs_is_told_to_every_process_before_the_first_step(two, name, told):
    for said in two:
        assert said[name]["error"] == "RanksDisagreeError"
        assert told in said[name]["message"]


def test_where_one_is_refused_the_other_is_told(two):
    assert [said["one is refused"]["error"] for said in two] == [
        "UnsupportedArgumentError",
        "RanksDisagreeError",
    ]
    assert (
        "process 0 can't go on: UnsupportedArgumentError: DataParallel needs batches of"
        in (two[1]["one is refused"]["message"])
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no shard", "the ArrayDataset has 1; expected 2. Give it shard='auto'"),
        ("other shards", "the ArrayDataset has 3; expected 2"),
        ("validation", "the ArrayDataset has 1; expected 2"),
        ("unequal", "needs batches of one size on all processes, and at step 2 they have 1 to 2"),
        *[
            (
                name,
                "at step 1 they have 2 to 3 samples; expected equal numbers. Of the epoch 13 "
                "samples were left: go on with another batch_size or number of processes, or call "
                "set_epoch to start it again.",
            )
            for name in ("unequal rest", "unequal rest, restored")
        ],
        ("predict", "predict was called under a DataParallel over 2 processes"),
        ("predict a shard", "predict was given the dataset"),
        ("to_tf_dataset", "would shard its tf.data.Dataset once more"),
    ],
)
def test_what_would_hang_or_train_samples_twice_is_refused(two, name, told):
    for said in two:
        assert said[name]["error"] == "UnsupportedArgumentError"
        assert told in said[name]["message"]


def test_a_mesh_without_a_process_is_refused_there(two):
    assert two[0]["small mesh"] == {"name": "small mesh", "error": None, "warnings": []}
    assert two[1]["small mesh"]["error"] == "UnsupportedArgumentError"
    assert "the processes have devices: {0: [0], 1: []}" in two[1]["small mesh"]["message"]


def test_each_process_predicts_alone(two):
    for said in two:
        assert_close(said["predict alone"]["predicted"], said["predict alone"]["expected"])


def test_without_a_distribution_there_is_a_warning(two):
    for said in two:
        assert "there is no keras.distribution" in said["no distribution"]["warnings"][0]
        assert "has no shard: each of them trains on all" in said["neither"]["warnings"][0]
        assert said["on purpose"] == {"name": "on purpose", "error": None, "warnings": []}


def test_waiting_for_a_process_that_never_comes_ends(two):
    assert two[0]["alone"]["error"] == "RanksDisagreeError"
    assert (
        "process 1 of 2 did not say which dataset it has within 1 s" in two[0]["alone"]["message"]
    )


# --- example -----------------------------------------------------------------------------------


@pytest.mark.more
def test_the_example_runs():
    example = str(_HERE.parents[1] / "examples" / "jax_fit.py")
    address = f"127.0.0.1:{free_port()}"
    common = [sys.executable, example, "--address", address, "--processes", "2", "--epochs", "3"]
    commands = [[*common, "--rank", str(rank)] for rank in range(2)]
    check_example(commands, {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""})
