"""Datasets with a shard, without an engine."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, Shard
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.workers.systems import this_system

N = 50


class Loader(BatchDataset):
    """Its batches are the row numbers."""

    def load(self, rows):
        return rows.copy()


class Whole(BatchDataset):
    """Returns finished batches."""

    def __getitem__(self, index):
        return self.rows(index).copy()


def noisy(batch: Any, rng: np.random.Generator) -> Any:
    return batch + rng.random(batch.shape)


def test_a_shard_is_said_as_a_pair_too():
    for shard in (Shard(1, 3), (1, 3)):
        dataset = Loader(N, batch_size=4, seed=0, shard=shard)
        assert dataset.plan.shard == Shard(1, 3)
        assert (dataset.batch_size, dataset.global_batch_size, len(dataset)) == (4, 12, 5)
        assert "Shard(index=1, count=3)" in repr(dataset)
    assert "Shard" not in repr(Loader(N, seed=0))


@pytest.mark.parametrize("shard", ["Auto", 1, (3, 3), object()])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(InvalidArgumentError):
        Loader(N, seed=0, shard=shard)


def test_remainder_is_pad_by_default_where_there_is_a_shard():
    assert Loader(N, seed=0).remainder == "keep"
    assert Loader(N, seed=0, shard=(0, 1)).remainder == "pad"
    assert Loader(N, seed=0, shard=(0, 2)).remainder == "pad"
    assert Loader(N, seed=0, shard=(0, 2), remainder="keep").remainder == "keep"
    assert Whole(N, seed=0, batch_size=8, shard=(0, 2)).remainder == "keep"  # can't pad


@pytest.mark.parametrize("kind", [Loader, Whole])
@pytest.mark.parametrize("remainder", [None, "keep", "drop"])
@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_the_method_gives_what_the_argument_gives(kind, remainder, shard):
    settings_ = {"batch_size": 5, "seed": 3, "remainder": remainder}
    part, made = kind(N, **settings_).shard(*shard), kind(N, **settings_, shard=shard)
    assert part.plan == made.plan
    assert repr(part) == repr(made)
    assert part.state_dict() == made.state_dict()
    assert pickle.loads(pickle.dumps(part)).shard(*shard).plan == made.plan


@pytest.mark.parametrize("transform", [None, noisy])
def test_without_a_seed_it_is_refused_where_the_processes_cannot_talk(transform):
    def make(**shard):
        return Loader(N, shuffle=transform is None, transform=transform, **shard)

    with pytest.raises(InvalidArgumentError) as by_argument:
        make(shard=(0, 2))
    with pytest.raises(InvalidArgumentError) as by_method:
        make().shard(0, 2)
    assert str(by_method.value) == str(by_argument.value)
    assert "seed is None in a dataset for 2 processes" in str(by_method.value)
    assert make().shard(0, 1).plan.shard.count == 1
    assert Loader(N, shuffle=False).shard(0, 2).plan.shard.count == 2


@pytest.mark.parametrize("remainder", ["keep", "spread"])
def test_a_batch_without_a_sample_is_refused(remainder):
    n = 49 if remainder == "keep" else 2
    with pytest.raises(InvalidArgumentError) as caught:
        Loader(n, batch_size=4, seed=0, shard=(0, 3), remainder=remainder)
    assert str(caught.value) == (
        f"remainder={remainder!r} leaves shards without a sample: the last batch has "
        f"{n % 12} for 3 of them. Use remainder='pad', whose added samples weigh nothing, 'drop', "
        "or another batch_size."
    )


@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(1, 4), st.sampled_from([0, 2]), st.booleans()
)
@settings(max_examples=40)
def test_padded_batches_of_all_have_every_sample_once(n, batch_size, count, workers, shuffle):
    """Also where a process has no sample of the last batch."""
    seen = []
    for index in range(count):
        dataset = ArrayDataset(
            np.arange(n),
            batch_size=batch_size,
            seed=1,
            shuffle=shuffle,
            shard=(index, count),
            workers=workers,
        )
        for step, (ids, _, weights) in enumerate(dataset):
            assert len(ids) == len(weights) == batch_size
            assert (weights[weights > 0] == 1).all()
            rows = dataset.rows(step, 0)
            assert ids[weights > 0].tolist() == rows.tolist()
            assert set(ids) <= set(dataset.explain(epoch=0, step=step).rows.tolist())
            seen += rows.tolist()
    assert sorted(seen) == list(range(n))


def test_any_process_knows_the_rows_of_all():
    datasets = [Loader(N, batch_size=4, seed=0, shard=(index, 3)) for index in range(3)]
    for step in range(5):
        told = datasets[2].explain(epoch=1, step=step)
        for index, dataset in enumerate(datasets):
            rows = dataset.rows(step, 1)
            assert np.array_equal(rows, datasets[0].rows(step, 1, shard=index))
            assert np.array_equal(rows, datasets[1].rows(step, 1, shard=Shard(index, 3)))
            assert np.array_equal(rows, told.shards[index])
        alone = datasets[0].rows(step, 1, shard=Shard(0, 1))
        assert np.array_equal(alone, told.rows)
    with pytest.raises(InvalidArgumentError, match="shard is 3"):
        datasets[0].rows(0, shard=3)


def test_locate_finds_what_the_process_reads():
    datasets = [Loader(N, batch_size=4, seed=0, shard=(index, 3)) for index in range(3)]
    for row in range(N):
        (found,) = [
            (dataset, place)
            for dataset in datasets
            if (place := dataset.locate(row, 2)) is not None
        ]
        dataset, (step, position) = found
        assert dataset.rows(step, 2)[position] == row


def test_shard_makes_the_part_of_a_process():
    dataset = Loader(N, batch_size=4, seed=0, remainder="pad")
    part = dataset.shard(1, 3)
    assert part.plan.shard == Shard(1, 3)
    assert dataset.plan.shard == Shard(0, 1)
    assert type(part) is Loader
    assert np.array_equal(part.rows(2), Loader(N, batch_size=4, seed=0, shard=(1, 3)).rows(2))
    with pytest.raises(InvalidArgumentError, match="leaves shards without a sample"):
        Loader(49, batch_size=4, seed=0, remainder="keep").shard(0, 3)
    with pytest.raises(InvalidArgumentError, match="index of a Shard is 3"):
        dataset.shard(3, 3)


@pytest.mark.parametrize("copied", [lambda d: pickle.loads(pickle.dumps(d)), copy.copy])
def test_a_copy_has_the_shard(copied):
    dataset = Loader(N, batch_size=4, seed=0, shard=(1, 3))
    assert copied(dataset).plan == dataset.plan
    assert dataset.repeat().plan == dataset.plan


def test_each_shard_has_random_numbers_of_its_own_and_the_first_those_of_none():
    """Else the same augmentation would be done to several samples of each global batch."""
    ids = np.zeros(N)
    made = [
        ArrayDataset(
            ids, batch_size=4, seed=0, transform=noisy, remainder="spread", shard=(index, 3)
        )[0]
        for index in range(3)
    ]
    assert len(np.unique(np.concatenate(made))) == sum(map(len, made))
    alone = ArrayDataset(ids, batch_size=4, seed=0, transform=noisy)[0]
    assert np.array_equal(made[0], alone[: len(made[0])])


@pytest.mark.parametrize("method", this_system().start_methods[:2])
def test_processes_make_the_batches_of_the_shard(method):
    expected = [rows.tolist() for rows, *_ in Loader(N, batch_size=4, seed=0, shard=(1, 2))]
    with Loader(
        N,
        batch_size=4,
        seed=0,
        shard=(1, 2),
        workers=2,
        use_multiprocessing=True,
        start_method=method,
    ) as dataset:
        made = list(dataset)
    assert [rows.tolist() for rows, *_ in made] == expected


def test_without_a_way_to_agree_on_a_seed_it_must_be_said():
    with pytest.raises(InvalidArgumentError) as caught:
        Loader(N, shard=(0, 2))
    assert str(caught.value) == (
        "seed is None in a dataset for 2 processes, which would each draw another one, so that "
        "samples were repeated and lost; expected the same seed on all. Give it: seed=0. Or start "
        "jax.distributed or torch.distributed before the dataset is made, or make it in the scope "
        "of a strategy of TensorFlow: then they agree on one."
    )
    # Where nothing depends on it, nothing has to be agreed on.
    assert len(Loader(N, shuffle=False, shard=(0, 2))) == 1
    assert len(Loader(N, shard=(0, 1))) == 2
    with pytest.raises(InvalidArgumentError, match="seed is None"):
        Loader(N, shuffle=False, transform=noisy, shard=(0, 2))


def test_auto_asks_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Loader(N, seed=0, shard="auto").plan.shard == Shard(1, 3)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    dataset = Loader(N, seed=0, shard="auto")
    assert (dataset.plan.shard, dataset.remainder) == (Shard(0, 1), "pad")


class ReadsByIndex(BatchDataset):
    """Returns finished batches, whatever rows they should have."""

    def __getitem__(self, index):
        return np.arange(4 * index, 4 * index + 4)


@pytest.mark.parametrize(
    ("settings_", "ignored"),
    [
        ({"shuffle": False, "shard": (1, 2), "remainder": "drop"}, "the shard"),
        ({"shard": (1, 2), "remainder": "drop"}, "shuffle=True and the shard"),
        ({}, "shuffle=True"),
    ],
)
def test_a_loader_that_does_without_rows_is_warned_of_what_it_ignores(settings_, ignored):
    dataset = ReadsByIndex(16, batch_size=4, seed=0, workers=0, **settings_)
    with pytest.warns(UserWarning, match=f"so {ignored} would change nothing"):
        list(dataset)
