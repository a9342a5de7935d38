"""Keras's Torch backend over several processes: `fit`, a loop of one's own, and what goes wrong.

The processes are started once for each number of them and go through all scenarios of
torch_ranks.py; the tests look at what they said.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launching import finish, launch
from tests.installed import needs

_HERE = Path(__file__).parent
_EXAMPLES = _HERE.parents[1] / "examples"
ON_THIS_MACHINE = {"KERAS_BACKEND": "torch", "GLOO_SOCKET_IFNAME": "lo"}

EPOCHS, GLOBAL_BATCH = 3, 8
_LIMIT_S = 200
pytestmark = [needs("torch"), pytest.mark.timeout(_LIMIT_S + 30)]
SAMPLES = {"keep, equal": 52, "pad, whole": 48, "fewer samples than processes": 1}
_said: dict[int, list[dict[tuple[str, str], dict]]] = {}


@pytest.fixture(params=[2, pytest.param(4, marks=pytest.mark.more)])
def ranks(request, tmp_path_factory):
    """What each process has said, by scenario and case."""
    return said_by(request.param, tmp_path_factory)


@pytest.fixture
def two_ranks(tmp_path_factory):
    return said_by(2, tmp_path_factory)


def said_by(count, tmp_path_factory):
    if count not in _said:
        scenarios = (
            ("fit", "metrics", "set_aside", "disagree", "back_up", "loop", "fail")
            if count == 2
            else ("fit", "loop")
        )
        results = launch(
            _HERE / "torch_ranks.py",
            count,
            tmp_path_factory.mktemp("ranks"),
            *scenarios,
            environment=lambda rank: ON_THIS_MACHINE,
            limit_s=_LIMIT_S,
        )
        _said[count] = [{(each["scenario"], each["case"]): each for each in of} for of in results]
    return _said[count]


def of_case(ranks, case, scenario="fit"):
    return [said[scenario, case] for said in ranks]


def fit_cases(ranks):
    return [case for scenario, case in ranks[0] if scenario == "fit"]


# -------------------------------------------------------------------- fit


def test_the_models_of_all_processes_see_each_sample_once_an_epoch(ranks):
    cases = fit_cases(ranks)
    assert len(cases) == 7 + 7 * (len(ranks) == 2)
    for case in cases:
        of_ranks = of_case(ranks, case)
        n = SAMPLES.get(case, 53 if case in ("keep, unequal", "spread") else 50)
        epochs = EPOCHS * (2 if case == "two calls" else 1)
        orders = set()
        for epoch in range(epochs):
            seen = [*chain(*(said["trained"][epoch] for said in of_ranks))]
            if case == "drop":
                assert len(seen) == n - n % GLOBAL_BATCH
                assert len(set(seen)) == len(seen)
            else:
                assert sorted(seen) == list(range(n)), case
            orders.add(tuple(seen))
        assert len(orders) == epochs or n == 1, "each epoch has an order of its own"
        for said in of_ranks:
            assert len(said["trained"]) == epochs
            # A process without a row sees nothing; and all see what the dataset says they do.
            assert said["trained"] == said["order"]


def test_all_processes_take_the_same_number_of_steps(ranks):
    for case in fit_cases(ranks):
        steps = [said["steps"] for said in of_case(ranks, case)]
        assert steps == [steps[0]] * len(ranks)
        expected = {"fewer samples than processes": 1, "drop": 6, "pad, whole": 6}.get(case, 7)
        assert set(steps[0]) == {expected}


def test_the_weights_of_all_processes_are_equal_to_the_bit(ranks):
    """Also the moving statistics of batch normalization, and where batches differ in size."""
    for case in fit_cases(ranks):
        assert len({said["digest"] for said in of_case(ranks, case)}) == 1, case


def test_weights_and_metrics_are_those_of_one_process(ranks):
    compared = [case for scenario, case in ranks[0] if scenario == "alone"]
    assert {"pad", "drop", "fewer samples than processes"} <= set(compared)
    for case in compared:
        alone = ranks[0]["alone", case]
        for said in of_case(ranks, case):
            for ours, theirs in zip(said["weights"], alone["weights"], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=case)
            assert len(said["histories"]) == len(alone["histories"])
            for ours, theirs in zip(said["histories"], alone["histories"], strict=True):
                assert list(ours) == list(theirs)
                for name in theirs:
                    np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)


def test_metrics_differ_from_epoch_to_epoch_and_from_training_to_validation(ranks):
    """So that the comparison above means something."""
    (history,) = of_case(ranks, "pad")[0]["histories"]
    assert sorted(history) == ["loss", "seen", "squares", "val_loss", "val_seen", "val_squares"]
    values = [value for name in history if "seen" not in name for value in history[name]]
    assert len(set(np.round(values, 4))) == 2 * EPOCHS  # loss is the mean of squares
    alone = ranks[0]["alone", "pad"]
    assert alone["weights"] != ranks[0]["alone", "drop"]["weights"]


def test_metrics_are_the_same_on_all_processes(ranks):
    for case in fit_cases(ranks):
        histories = [said["histories"] for said in of_case(ranks, case)]
        assert histories == [histories[0]] * len(ranks), case


def test_validation_reads_each_sample_once(ranks):
    of_ranks = of_case(ranks, "pad")
    for epoch in range(EPOCHS):
        seen = [*chain(*(said["validated"][epoch] for said in of_ranks))]
        assert sorted(seen) == list(range(21))


def test_without_a_seed_all_processes_draw_the_same_one(ranks):
    (seed,) = {said["seed"] for said in of_case(ranks, "no seed")}
    assert seed != 5
    assert len({said["made", "no seed"]["seed"] for said in ranks}) == 1


def test_workers_of_several_processes_do_not_mix_their_batches(two_ranks):
    for said in two_ranks:
        for case in ("threads", "processes"):
            assert said["fit", case]["trained"] == said["fit", "pad"]["trained"]
            assert said["fit", case]["digest"] == said["fit", "pad"]["digest"]


# -------------------------------------------------------------------- rows set aside


def test_rows_that_any_process_cannot_read_weigh_nothing_in_the_loss_of_all(two_ranks):
    alone = two_ranks[0]["set aside", "fit"]["one"]
    failing = two_ranks[0]["set aside", "fit"]["failing"]
    of_ranks = [said["set aside", "fit"] for said in two_ranks]
    for said in of_ranks:
        assert said["two"] == said["threads"]
        assert said["two"]["steps"] == alone["steps"] == [7, 7]
        np.testing.assert_allclose(said["two"]["loss"], alone["loss"], rtol=1e-5)
        for ours, theirs in zip(said["two"]["weights"], alone["weights"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert said["two"]["set_aside"] == failing
        assert [row for row, _ in said["two"]["state"]] == failing
    for epoch in range(2):
        seen = [*chain(*(said["two"]["trained"][epoch] for said in of_ranks))]
        assert sorted(seen) == sorted({*range(50)} - set(failing))


def test_all_processes_end_at_the_same_step_in_words(two_ranks):
    first, last = two_ranks
    for said in two_ranks:
        assert said["set aside", "too many"]["error"] == "SetAsideError"
        assert said["set aside", "too many"]["message"].startswith("3 of 50 rows (6.00%) could not")
    assert last["set aside", "no memory"]["error"] == "MemoryError"
    assert first["set aside", "no memory"]["error"] == "RanksDisagreeError"
    assert first["set aside", "no memory"]["message"] == (
        "process 1 can't go on: MemoryError: row 3 is broken"
    )
    assert first["set aside", "validation"]["error"] == "SetAsideError"
    assert last["set aside", "validation"]["message"].startswith(
        "process 0 can't go on: SetAsideError: rows [9] could not be read"
    )
    for case in ("too many", "no memory", "validation"):
        assert first["set aside", case]["steps"] == last["set aside", case]["steps"]


# -------------------------------------------------------------------- metrics

_WHOLE = {"positives": 24, "ratio": 0.25, "vector": 2 * 24 / (2 * 24 + 8), "sum": 32}
"""What one process finds in 32 samples: all are taken for positive, and 24 are."""


def is_keras_3_7():
    return importlib.metadata.version("keras").startswith("3.7.")


@pytest.mark.parametrize("kind", ["Sequential", "OwnResult", "OwnResultOfKeras"])
def test_metrics_of_every_kind_are_those_of_all(two_ranks, kind):
    """Sums, ratios, vectors, and variables of which there is a mean, or that of the first."""
    of_all = {**_WHOLE, "mean": (16 + 2 * 16) / 2, "only_first_replica": 16}
    half = {"positives": 12, "sum": 16, "mean": (8 + 2 * 8) / 2, "only_first_replica": 8}
    for said in two_ranks:
        history = said["metrics", kind]["history"]
        for name, value in of_all.items():
            assert history[name] == pytest.approx([value]), name
            if kind != "OwnResult" or not is_keras_3_7():  # which has none in its history then
                assert history[f"val_{name}"] == pytest.approx([half.get(name, value)]), name
        assert ("own" in history) == (kind == "OwnResultOfKeras")


def test_gradients_are_averaged_once(two_ranks):
    for said in two_ranks:
        told = said["metrics", "Sequential"]
        assert told["averaged"] != told["by_keras"]


def test_one_process_evaluates_and_predicts_alone(two_ranks):
    others, told = (said["metrics", "evaluate"]["alone"] for said in two_ranks)
    assert others == {}
    assert len(told) == 4
    for found in told.values():
        for name, value in {**_WHOLE, "mean": 64, "only_first_replica": 64}.items():
            assert found[name] == pytest.approx([value]), name
        assert found["predicted"] == [1.0] * 32


def test_evaluating_a_part_gives_the_metrics_of_all_where_keras_puts_them_together(two_ranks):
    for rank, said in enumerate(two_ranks):
        part = said["metrics", "evaluate"]["part"]
        if said["metrics", "Sequential"]["by_keras"]:
            expected = {**_WHOLE, "mean": 24, "only_first_replica": 16}
            for name, value in expected.items():
                assert part[name] == pytest.approx([value]), name
        else:
            assert part["sum"] == [16]
            assert part["mean"] == [16 * (rank + 1)]


# -------------------------------------------------------------------- told, not hung

_EXPECTED = (
    ". Expected the same data, settings, seed and position on all: with others, samples would be "
    "repeated and lost, or one process would wait for the others forever."
)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("seed", "seed: 5 on 0, 6 on 1"),
        ("batch_size", "global_batch_size: 8 on 0, 10 on 1"),
        ("remainder", 'remainder: "pad" on 0, "drop" on 1'),
        ("position", "position: [2, 0, 0, false] on 0, [3, 0, 0, false] on 1"),
    ],
)
def test_what_differs_is_told_to_every_process_before_the_first_step(two_ranks, case, message):
    for said in two_ranks:
        told = said["told", case]
        assert told["told"] == f"the processes have different datasets: {message}{_EXPECTED}"
        assert told["trained"] == []


@pytest.mark.parametrize(
    ("case", "pattern"),
    [
        ("samples", r"num_samples: 49 on 0, 50 on 1; x: .*; y: "),
        ("dtype", r'x: \[\[50, 4\], "float32"\] on 0, \[\[50, 4\], "float64"\] on 1'),
        ("features", r'x: \[\[50, 4\], "float32"\] on 0, \[\[50, 3\], "float32"\] on 1'),
    ],
)
def test_other_data_are_told_too(two_ranks, case, pattern):
    for said in two_ranks:
        assert re.search(pattern, said["told", case]["told"])
        assert said["told", case]["trained"] == []


def test_two_processes_with_one_shard_are_told(two_ranks):
    for said in two_ranks:
        assert said["told", "shard"]["told"] == (
            "the 2 processes have the shards (index, count) [(0, 2), (0, 2)]; expected each of "
            "the 2 once. Use shard='auto', or Shard(rank, 2)."
        )


def test_a_dataset_without_a_shard_is_warned_of(two_ranks):
    for rank, said in enumerate(two_ranks):
        assert said["told", "no shard"]["told"] == [
            f"torch.distributed says that this is process {rank} of 2, and the ArrayDataset has "
            "no shard: each of them trains on all samples. Give it shard='auto', or shard=(0, 1) "
            "if it is meant so."
        ]
        assert said["told", "meant so"]["told"] == []


def test_gradients_that_nobody_averages_are_warned_of(two_ranks):
    """From version 3.16 on Keras averages them itself."""
    by_keras = [said["metrics", "Sequential"]["by_keras"] for said in two_ranks]
    digests = [said["told", "no callback"]["digest"] for said in two_ranks]
    assert [digests[0] == digests[1]] * 2 == by_keras
    warning = (
        "the ArrayDataset has a shard, and nothing averages the gradients of the processes: each "
        "of them trains a model of its own on its part of the samples. Give fit "
        "callbacks=[keras_npbatch.callbacks.TorchDataParallel(), ...]."
    )
    for said in two_ranks:
        assert said["told", "no callback"]["told"] == ([] if by_keras[0] else [warning])
        for case in ("right", "hooks", "own step"):
            assert said["told", case]["told"] == []


def test_a_callback_before_it_is_refused(two_ranks):
    for said in two_ranks:
        assert said["told", "second"]["told"] == (
            "TorchDataParallel comes after TerminateOnNaN in callbacks; expected it first: those "
            "before it get other metrics on each process, and if one of them ends training "
            "there, the others wait forever. Put it first."
        )


def test_a_model_that_is_built_on_one_process_only_is_trained_on_all(two_ranks):
    told = [said["told", "built on one"] for said in two_ranks]
    assert told[0]["digest"] == told[1]["digest"]
    assert sorted(chain(*(rows for each in told for rows in each["trained"]))) == list(range(50))


def test_training_that_was_broken_off_is_not_averaged_twice(two_ranks):
    for said in two_ranks:
        told = said["told", "broken off"]
        assert told["reductions"] == told["reductions_after_a_whole_fit"] > 0
        assert told["is_restored"]


def test_all_stop_at_the_same_epoch(two_ranks):
    """By what all have found, though each alone would have stopped at another."""
    epochs = [said["told", "stopping"]["epochs"] for said in two_ranks]
    assert epochs == [epochs[0]] * 2


def test_interrupted_and_started_again_all_go_on_from_the_backup_of_the_first(two_ranks):
    """Metrics, moving statistics and dropout, which are each process's own within an epoch, too."""
    for said in two_ranks:
        told = said["backup", "one folder"]
        steady, runs = told["steady"], told["runs"]
        assert [*chain(*(run["trained"] for run in runs))] == steady["trained"]
        assert runs[-1]["digest"] == steady["digest"]
        assert not told["is_left"]
        for name, values in steady["history"].items():
            assert runs[-1]["history"][name] == values[1:]


def test_backups_in_folders_of_their_own_are_refused(two_ranks):
    for said in two_ranks:
        assert said["backup", "own folders"]["told"] == (
            "the processes found different backups in FOLDER: that of epoch 0, step 3 on 0; none "
            "on 1. Expected one folder that all of them can read; the first process writes it. Put "
            "it on a file system that they share."
        )


def test_when_one_fails_the_others_end_too(two_ranks):
    left, failed = (said["failed", ""] for said in two_ranks)
    assert failed["told"] == "the disk is gone"
    (note,) = failed["notes"]
    assert note.startswith("keras_npbatch: raised by load(rows) at epoch 0, step 3, rows [")
    assert "onnection" in left["told"]  # closed by peer, or reset


# -------------------------------------------------------------------- a loop of one's own


def loop_cases(ranks):
    return [case for scenario, case in ranks[0] if scenario == "loop"]


def test_a_loop_trains_on_each_sample_once_an_epoch(ranks):
    assert len(loop_cases(ranks)) == (8 if len(ranks) == 2 else 2)
    for case in loop_cases(ranks):
        for epoch in range(EPOCHS):
            seen = [*chain(*(said["trained"][epoch] for said in of_case(ranks, case, "loop")))]
            assert len(seen) == len(set(seen))
            assert len(seen) == (48 if case.endswith("drop") else 53)


def test_the_weights_of_a_loop_are_those_of_one_process(ranks):
    """With every remainder, since the loss is divided by the weights of all."""
    for case in loop_cases(ranks):
        of_ranks = of_case(ranks, case, "loop")
        assert all(said["weights"] == of_ranks[0]["weights"] for said in of_ranks)
        for said in of_ranks:
            for ours, theirs in zip(said["weights"], said["alone"], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


# -------------------------------------------------------------------- examples

_SAYS = {
    "torch_fit.py": [
        r"process 0 of 2: weights (\w+), test accuracy (0\.[3-9]\d+)",
        r"process 1 of 2: weights (\w+), test accuracy (0\.[3-9]\d+)",
        r"step 11 of 12 in epoch 0: 29 of 1437 samples, remainder='pad'",
    ],
    "torch_loop.py": [
        r"2 processes have seen each sample \[3\.0\] times",
        r"test accuracy of the loop: 0\.[6-9]",
    ],
}


@pytest.mark.more
@pytest.mark.parametrize("example", ["torch_fit.py", "torch_loop.py"])
def test_an_example_runs_with_torchrun(example):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    (done,) = finish(
        [[*torchrun, "--nproc-per-node", "2", str(_EXAMPLES / example), "--epochs", "3"]],
        [{**ON_THIS_MACHINE, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}],
        limit_s=100,
    )
    found = [re.search(pattern, done.stdout) for pattern in _SAYS[example]]
    assert all(found), done.stdout
    if example == "torch_fit.py":
        assert found[0].groups() == found[1].groups()
