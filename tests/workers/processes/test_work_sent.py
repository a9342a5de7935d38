"""Work as bytes: a task is small, whatever tables the sampler has and whatever rows are chosen."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_npbatch import BatchDataset
from keras_npbatch.batches.work import Work
from keras_npbatch.plan.division import divided, folded
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.stratified import Stratified
from keras_npbatch.samplers.weighted import Weighted
from keras_npbatch.workers.processes.work_sent import WorkSent, load
from keras_npbatch.workers.systems import this_system

N = 100_000
SMALL_BYTES = 2000


def labels(n: int = N, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 3, n)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(N, 32, seed=1, sampler=Stratified(labels()))


def as_a_worker_has_it(plan: Plan) -> Plan:
    """With a sampler and a selection of its own, which came with the dataset."""
    again: Plan = pickle.loads(pickle.dumps(plan))
    assert again.sampler is not plan.sampler
    return again


def parts(plan: Plan) -> dict[str, Plan]:
    return {
        "whole": plan,
        "part of a split": divided(plan, (0.8,), 0)[0],
        "fold": folded(plan, 5, 0)[0][0],
    }


@pytest.mark.parametrize("which", ["whole", "part of a split", "fold"])
@pytest.mark.parametrize("training", [True, False, "sent"])
def test_what_arrives_is_what_was_sent_and_makes_the_same_batches(
    plan: Plan, which: str, training: Any
) -> None:
    ours = parts(plan)[which]
    theirs = as_a_worker_has_it(ours)
    for chosen in (ours, replace(ours, skip=64, batch_size=7, remainder="spread")):
        work = Work(chosen, training)
        found = load(WorkSent(ours).dump(work), theirs)
        assert found == work
        assert found.plan.rows(3, 1).tolist() == chosen.rows(3, 1).tolist()


@pytest.mark.parametrize("which", ["whole", "part of a split", "fold"])
def test_neither_the_sampler_nor_the_rows_of_a_part_are_in_the_bytes(
    plan: Plan, which: str
) -> None:
    ours = parts(plan)[which]
    theirs = as_a_worker_has_it(ours)
    data = WorkSent(ours).dump(Work(ours))
    assert len(data) < SMALL_BYTES < N < len(pickle.dumps(Work(ours)))
    found = load(data, theirs).plan
    assert found.sampler is theirs.sampler
    assert found.selection is theirs.selection


def test_the_sampler_is_named_where_the_work_has_it_in_another_plan(plan: Plan) -> None:
    """As in the middle of an epoch, or on another shard."""
    for other in (replace(plan, skip=10), plan.of_shard(0), replace(plan, batch_size=8)):
        data = WorkSent(plan).dump(Work(other))
        assert len(data) < SMALL_BYTES
        assert load(data, plan) == Work(other)


def test_another_sampler_is_sent(plan: Plan) -> None:
    for other in (
        replace(plan, sampler=Stratified(labels(seed=1))),
        replace(plan, sampler=Weighted(np.arange(N))),
        plan.for_call("predict"),
    ):
        found = load(WorkSent(plan).dump(Work(other)), as_a_worker_has_it(plan)).plan
        assert found == other != plan
        assert found.sampler is not other.sampler
        assert found.rows(2, 5).tolist() == other.rows(2, 5).tolist()


def test_a_part_is_sent_to_workers_that_have_the_whole(plan: Plan) -> None:
    part = parts(plan)["fold"]
    found = load(WorkSent(plan).dump(Work(part)), as_a_worker_has_it(plan)).plan
    assert found == part
    assert found.rows(0, 7).tolist() == part.rows(0, 7).tolist()


def test_work_is_made_bytes_once(plan: Plan) -> None:
    """For each batch of an epoch it is the same object."""
    sent, work = WorkSent(plan), Work(plan)
    data = sent.dump(work)
    assert all(sent.dump(work) is data for _ in range(3))
    assert sent.dump(Work(plan)) == data  # the worker keeps what makes batches by these bytes
    other = Work(plan, training=False)
    assert sent.dump(other) != data
    assert load(sent.dump(other), plan) == other
    assert sent.dump(work) == data


class Ids(BatchDataset):
    """Its batches are the row numbers, its targets too."""

    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.copy()


def epochs_of(dataset: BatchDataset, count: int = 2) -> list[Any]:
    return [ids.tolist() for _ in range(count) for _, ids in dataset]


@pytest.mark.parametrize("start_method", this_system().start_methods[::2])
def test_worker_processes_make_the_batches_of_the_sampler(start_method: str) -> None:
    def make(**settings: Any) -> Ids:
        return Ids(203, batch_size=16, seed=1, sampler=Stratified(labels(203)), **settings)

    alone = make(workers=0)
    in_processes = make(workers=2, use_multiprocessing=True, start_method=start_method)
    with in_processes:
        assert epochs_of(in_processes) == epochs_of(alone)
    for ours, theirs in zip(in_processes.folds(3)[1], alone.folds(3)[1], strict=True):
        with ours:
            assert epochs_of(ours) == epochs_of(theirs)
