"""Training under TensorFlow's strategies, in one process and in several: what the models saw.

Each test starts its processes once, for many scenarios; the scripts beside this file have them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.callbacks.coverage.receipt import Receipt
from keras_npbatch.plan.plan import Plan
from tests.distributed.launching import check_example, free_port, launch

if version("keras").startswith("3.7."):
    pytest.skip(
        "Keras 3.7 under strategies: other losses; see docs/limits.md", allow_module_level=True
    )
_HERE = Path(__file__).parent
_LIMIT_S = 200.0
_EPOCHS, _BATCH, _SEED = 3, 8, 3
_FITTED = ("41 pad", "5 pad", "41 drop", "48 keep")


def launched(script: str, count: int, *scenarios: str) -> list[dict[str, dict[str, Any]]]:
    """What each process said of each scenario."""
    workers = [f"127.0.0.1:{free_port()}" for _ in range(count)]

    def environment(rank: int) -> dict[str, str]:
        task = {"type": "worker", "index": rank}
        config = json.dumps({"cluster": {"worker": workers}, "task": task})
        return {"KERAS_BACKEND": "tensorflow", **({"TF_CONFIG": config} if count > 1 else {})}

    results = launch(_HERE / script, count, *scenarios, environment=environment, limit_s=_LIMIT_S)
    return [{said.pop("scenario"): said for said in result} for result in results]


def planned(name: str, epoch: int) -> list[list[int]]:
    """The rows of each global batch, of one process: "41 drop" is 41 samples, the last dropped."""
    num_samples, remainder = name.split()
    plan = Plan(int(num_samples), _BATCH, _SEED, remainder=remainder)  # type: ignore[arg-type]
    return [plan.rows(epoch, step).tolist() for step in range(plan.num_batches)]


def together(parts: Iterable[Iterable[int]]) -> list[int]:
    """The samples of all parts, sorted."""
    return sorted(chain.from_iterable(parts))


def each_sample_was_seen_once(name: str, replicas: Iterable[list[list[list[int]]]]) -> None:
    """By all replicas together, in each epoch; and each replica saw about as many."""
    for epoch, seen in enumerate(zip(*replicas, strict=True)):
        parts = [part for process in seen for part in process]
        batches = planned(name, epoch)
        assert together(parts) == together(batches), (name, epoch)
        least = sum(_BATCH // len(parts) for batch in batches if len(batch) == _BATCH)
        assert all(len(part) >= least for part in parts), (name, epoch)


def agree(ours: Any, theirs: Any) -> None:
    """Numbers are equal, but for the order in which they were summed."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    assert np.size(theirs) > 0
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.timeout(_LIMIT_S + 30)
def test_two_replicas_in_one_process() -> None:
    (said,) = launched("tf_replicas.py", 1)

    def is_as_alone(scenario: str, *, weights: bool = True) -> None:
        two, one = said[scenario]["two"], said[scenario]["one"]
        assert len(two["seen"]) == len(one["seen"])
        for seen, expected in zip(two["seen"], one["seen"], strict=True):
            assert together(seen) == together(expected), scenario
        if weights:
            agree(two["weights"], one["weights"])
            agree(two["history"], one["history"])

    for name in (*_FITTED, "18 spread"):
        each_sample_was_seen_once(name, [said[f"fit {name}"]["two"]["seen"]])
        is_as_alone(f"fit {name}")
    for scenario in (
        "short epochs",
        "two steps at once",
        "process workers",
        "one device",
        "validation",
    ):
        is_as_alone(scenario)
    for scenario in ("two steps at once", "process workers", "validation"):
        each_sample_was_seen_once("41 pad", [said[scenario]["two"]["seen"]])
    assert len(said["one device"]["two"]["seen"][0]) == 1
    assert said["validation"]["two"]["history"].keys() == {"loss", "mae", "val_loss", "val_mae"}

    asked = said["evaluated and predicted"]
    agree(*asked["evaluated"])
    agree(*asked["predicted"])
    assert len(asked["predicted"][0]) == 41
    assert asked["epoch"] == 0
    agree(*said["fresh"]["evaluated"])

    resumed = said["resumed"]
    rest = planned("41 pad", 1)[2:] + planned("41 pad", 2)
    assert together(resumed["seen"]) == together(rest)
    assert resumed["receipts"] == [[25, True], [41, True]]

    assert said["broken"]["error"] == "OSError: sample-13.png is broken"
    (note,) = said["broken"]["notes"]
    assert note.startswith("keras_npbatch: raised by load(rows) at epoch 0, step ")
    assert said["refused"]["errors"] == {
        "uneven": "UnsupportedArgumentError: MirroredStrategy divides each batch among 2 "
        "devices of this process, and that of step 5 has 1 sample; expected a multiple of 2. "
        "Choose such a batch_size, with remainder='pad' or 'drop'.",
        "batch size": "UnsupportedArgumentError: MirroredStrategy divides each batch among 2 "
        "devices of this process, and that of step 0 has 7 samples; expected a multiple of 2. "
        "Choose such a batch_size, with remainder='pad' or 'drop'.",
        "unknown": "UnsupportedArgumentError: the model was made under a CentralStorageStrategy; "
        "expected one of MirroredStrategy, MultiWorkerMirroredStrategy, OneDeviceStrategy. Give "
        "fit the ArrayDataset.to_tf_dataset(), or make and compile the model outside of the "
        "strategy's scope.",
    }

    for name in ("48 keep", "49 keep", "41 drop", "43 spread"):
        for epoch, batches in enumerate(said[f"loop {name}"]["parts"]):
            assert all(len(parts) == 2 for parts in batches)
            assert [first + second for first, second in batches] == planned(name, epoch)
    for epoch, batches in enumerate(said["loop 41 pad"]["parts"]):
        assert all(len(part) == _BATCH // 2 for parts in batches for part in parts)
        full = [first + second for first, second in batches[:-1]]
        *expected, (last,) = planned("41 pad", epoch)
        assert (full, batches[-1]) == (expected, [[last] * 4, [last] * 4])
    for name in ("41 pad", "41 drop", "48 keep", "49 keep", "43 spread"):
        each_sample_was_seen_once(name, [said[f"tf.data {name}"]["two"]["seen"]])
        # TensorFlow takes the mean of the replicas' means, whatever the sizes of their parts.
        is_as_alone(f"tf.data {name}", weights=name not in ("49 keep", "43 spread"))


@pytest.mark.more
@pytest.mark.timeout(_LIMIT_S + 30)
def test_four_processes() -> None:
    """Of the last batch of "41 pad", three of them have no sample."""
    ranks = launched("tf_processes.py", 4, "fit", "loop")
    fitted_as_by_one(ranks)
    for name in ("41 pad", "41 drop", "46 keep", "43 spread"):
        of_each_rank_is_as_of_one(f"loop {name}", ranks)
        assert all(len(rank[f"loop {name}"]["ours"]["seen"]) == _EPOCHS for rank in ranks)


@pytest.mark.timeout(_LIMIT_S + 30)
@pytest.mark.more
def test_two_processes_of_two_devices() -> None:
    ranks = launched(
        "tf_processes.py", 2, "two_devices", "fit", "again", "autosharding", "agreement", "refusals"
    )
    first, second = ranks
    fitted_as_by_one(ranks)
    assert [len(said["fit 41 pad"]["ours"]["seen"][0]) for said in ranks] == [2, 2]

    for scenario in ("second fit", "process workers"):
        each_sample_was_seen_once("41 pad", [said[scenario]["seen"] for said in ranks])
    for epoch in range(2):
        receipts = [Receipt.from_dict(said["second fit"]["receipts"][epoch]) for said in ranks]
        assert not any(receipt.is_whole for receipt in receipts)
        assert npb.callbacks.CoverageAudit.merge(receipts).is_whole
    order = [*chain(*planned("44 drop", 0), *planned("44 drop", 1))]
    for epoch in range(5):
        seen = [part for said in ranks for part in said["short epochs"]["seen"][epoch]]
        assert together(seen) == sorted(order[2 * _BATCH * epoch :][: 2 * _BATCH])

    autosharded = [said["autosharding"]["seen"] for said in ranks]
    assert together(autosharded) == list(range(41))

    different_datasets_are_told(ranks)
    agreed = [said["agreed"] for said in ranks]
    assert [said["shard"] for said in agreed] == [[0, 2], [1, 2]]  # with no TF_CONFIG
    assert first["agreed"]["seed"] == second["agreed"]["seed"] != _SEED
    assert together(rows for said in agreed for rows in said["rows"]) == list(range(41))
    assert together(rows for said in agreed for rows in said["trained"][0]) == list(range(41))
    for rank, said in enumerate(agreed):
        assert said["alone"].startswith("InvalidArgumentError: seed is None in a dataset for 2")
        assert said["alone"].endswith(
            "make it in the scope of a strategy of TensorFlow: then they agree on one."
        )
        assert said["warned"] == [
            f"MultiWorkerMirroredStrategy says that this is process {rank} of 2, and the "
            "ArrayDataset has no shard: each of them trains on all samples. Give it shard='auto', "
            "or shard=(0, 1) if it is meant so."
        ]
        what_keras_cannot_do_is_told(ranks[rank]["refused"])


def different_datasets_are_told(ranks: list[dict[str, dict[str, Any]]]) -> None:
    """On every rank, and before the first step."""
    same = "RanksDisagreeError: the processes have different datasets: "
    expected = {
        "seed": same + "seed: 0 on 0, 1 on 1. ",
        "data": same + 'data: "',
        "remainder": same + 'remainder: "pad" on 0, "drop" on 1. ',
        "batch size": same + "global_batch_size: 8 on 0, 16 on 1. ",
        "shard": "RanksDisagreeError: the 2 processes have the shards (index, count) "
        "[(0, 2), (0, 2)]; expected each of the 2 once. ",
        "no shard": "RanksDisagreeError: the 2 processes have the shards (index, count) "
        "[(0, 1), (0, 1)]; expected each of the 2 once. Use shard='auto', or Shard(rank, 2).",
    }
    for said in ranks:
        errors = said["different"]["errors"]
        assert len(errors) == 2 * len(expected) - 1  # to_tf_dataset warns of "no shard"
        for name, error in errors.items():
            assert error is not None, name
            assert error.startswith(expected[name.partition(": ")[2]]), name
    assert ranks[0]["different"] == ranks[1]["different"]


def what_keras_cannot_do_is_told(said: dict[str, str]) -> None:
    """And is still so: where one of the last two comes to work, Keras can do what is refused."""
    told = (
        "UnsupportedArgumentError: {step} of the Sequential is Keras's own, whose results are "
        "scalars, and Keras fails to reduce scalars over the processes of a "
        "MultiWorkerMirroredStrategy ('Invalid reduction dimension 0'); expected results with an "
        "axis to reduce. Derive a class of models: def {step}(self, data): return {{name: "
        "tf.expand_dims(value, 0) for name, value in super().{step}(data).items()}}"
    )
    assert said["fit"] == told.format(step="train_step")
    assert said["evaluate"] == told.format(step="test_step")
    assert said["predict"] == (
        "UnsupportedArgumentError: predict under a MultiWorkerMirroredStrategy puts the results "
        "of all processes together, whatever they have read; expected a model outside of the "
        "strategy's scope. Make one of the same kind, and give it the weights: "
        "other.set_weights(model.get_weights())."
    )
    assert said["no_strategy"] == (
        "UserWarning: TF_CONFIG tells of other processes, the ArrayDataset has a shard, and the "
        "model was made outside of the scope of a strategy: each process trains a model of its "
        "own. Make and compile it within `with strategy.scope():` of a "
        "tf.distribute.MultiWorkerMirroredStrategy."
    )
    assert said["uneven"] == (
        "UnsupportedArgumentError: MultiWorkerMirroredStrategy needs batches of one size on all "
        "processes, and at step 5 they have 1 to 2 samples; expected equal numbers. Use "
        "remainder='pad', the default with a shard, or 'drop'."
    )
    assert said["keras_with_tf_data"].startswith(
        "ValueError: Attempt to convert a value (PerReplica"
    )
    assert said["keras_with_scalars"].startswith(
        "ValueError: Invalid reduction dimension 0 for input"
    )


def fitted_as_by_one(ranks: list[dict[str, dict[str, Any]]]) -> None:
    """Samples, weights, losses and metrics of `fit`, and those of its validation."""
    for name in (*_FITTED, "16 spread"):
        of_each_rank_is_as_of_one(f"fit {name}", ranks)
        one = ranks[0][f"fit {name} by one"]["history"]
        assert one.keys() == {"loss", "mae", "val_loss", "val_mae"}
        for said in ranks:
            agree(said[f"fit {name}"]["ours"]["history"], one)
            assert said[f"fit {name}"]["epoch"] == _EPOCHS


def of_each_rank_is_as_of_one(scenario: str, ranks: list[dict[str, dict[str, Any]]]) -> None:
    """Samples and weights."""
    each_sample_was_seen_once(
        scenario.partition(" ")[2], [said[scenario]["ours"]["seen"] for said in ranks]
    )
    one = ranks[0][f"{scenario} by one"]
    for said in ranks:
        assert said[scenario]["ours"]["weights"] == ranks[0][scenario]["ours"]["weights"]
        agree(said[scenario]["ours"]["weights"], one["weights"])


@pytest.mark.more
def test_the_example_runs() -> None:
    example = str(_HERE.parents[1] / "examples" / "tensorflow_fit.py")
    workers = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    common = [sys.executable, example, "--workers", workers, "--epochs", "3"]
    commands = [[*common, "--index", str(index)] for index in range(2)]
    check_example(commands, {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"})
