"""`mix` and `concat`: samples of several datasets in one batch."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, concat, errors, mix
from keras_npbatch.batches.core import core_of
from keras_npbatch.samplers.shares import shares
from keras_npbatch.testing import check_dataset

SIZES = (30, 12, 7)
OFFSETS = np.cumsum([0, *SIZES])


def noisy(batch: Any, rng: np.random.Generator) -> Any:
    x, y = batch
    return x + rng.integers(0, 1000, len(x))[:, np.newaxis] / 1e4, y


def noisy_sample(sample: Any, rng: np.random.Generator) -> Any:
    x, y = sample
    return x + rng.integers(0, 1000) / 1e4, y


def halved(batch: Any) -> Any:
    x, y = batch
    return x / 2, y


class Loader(npb.BatchDataset):
    """Reads the same as an `ArrayDataset` would."""

    def __init__(self, x: Any, y: Any, **kwargs: Any) -> None:
        super().__init__(num_samples=len(x), **kwargs)
        self.x, self.y = x, y

    def load(self, rows: Any) -> Any:
        return self.x[rows], self.y[rows]


def parts(seed: int | None = 3, **of_last: Any) -> list[Any]:
    """Three datasets; each sample knows its number among all of them."""
    numbers = [np.arange(OFFSETS[i], OFFSETS[i + 1]) for i in range(3)]
    data = [(part[:, np.newaxis] * 10.0, part) for part in numbers]
    return [
        ArrayDataset(*data[0], seed=seed),
        Loader(*data[1], seed=seed, transform=halved),
        ArrayDataset(*data[2], seed=seed, **of_last),
    ]


def ids(batches: Any) -> list[list[int]]:
    return [batch[1].tolist() for batch in batches]


def as_bytes(batches: Any) -> list[bytes]:
    return [b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in batch) for batch in batches]


def test_samples_get_what_their_dataset_gives_them() -> None:
    for x, y in concat(parts(), batch_size=8, seed=0):
        scale = np.where((y >= OFFSETS[1]) & (y < OFFSETS[2]), 5, 10)
        np.testing.assert_array_equal(x[:, 0], y * scale)


@settings(max_examples=25)
@given(
    st.integers(1, 20),
    st.sampled_from(["keep", "drop", "pad", "spread"]),
    st.sampled_from([None, npb.samplers.InOrder(), npb.samplers.Stratified(np.arange(49) % 2)]),
)
def test_joined_each_sample_comes_once(batch_size: int, remainder: Any, sampler: Any) -> None:
    joined = concat(parts(), batch_size=batch_size, remainder=remainder, sampler=sampler, seed=1)
    real = [n for step in range(len(joined)) for n in joined.rows(step).tolist()]
    assert (
        len(set(real))
        == len(real)
        == (49 // batch_size * batch_size if remainder == "drop" else 49)
    )
    for step, batch in enumerate(joined):
        rows = joined.rows(step, 0)
        assert batch[1][: len(rows)].tolist() == rows.tolist()
    predicted = [n for batch in ids(joined.batches_for("predict")) for n in batch]
    assert predicted == list(range(49))


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from(["first", "longest", 60, 77]),
    st.integers(1, 16),
)
def test_mixed_each_dataset_has_its_share_and_its_own_epochs(
    weights: list[int], until: Any, batch_size: int
) -> None:
    mixed = mix(parts(), weights, until=until, batch_size=batch_size, seed=1)
    total = mixed.plan.epoch_size
    counts = shares(weights, SIZES, until)
    assert sum(counts) == total
    walked: list[list[int]] = [[], [], []]
    for epoch in range(3):
        mixed.set_epoch(epoch)
        seen = np.array([n for batch in ids(mixed) for n in batch])
        which = mixed.origin(seen).datasets
        for index, count in enumerate(counts):
            share = np.arange(1, total + 1) * count / total
            assert (np.abs(np.cumsum(which == index) - share) < 1 + 1e-9).all()
            walked[index] += seen[which == index].tolist()
    for index, size in enumerate(SIZES):
        for start in range(0, len(walked[index]) - size + 1, size):
            assert len(set(walked[index][start : start + size])) == size
    exact = np.array(weights) / sum(weights) * total
    assert (np.abs(counts - exact) < 1).all()


def test_batches_do_not_depend_on_workers_or_shards() -> None:
    def made(**who: Any) -> Any:
        drawing = parts(transform=noisy, augment=npb.each(noisy_sample))
        return mix(drawing, [3, 2, 1], batch_size=6, seed=5, augment=npb.each(noisy_sample), **who)

    alone = made(workers=0)
    expected = [as_bytes(alone) for _ in range(2)]
    for who in ({"workers": 2}, {"workers": 2, "use_multiprocessing": True}):
        with made(**who) as other:
            assert [as_bytes(other) for _ in range(2)] == expected
    assert as_bytes(pickle.loads(pickle.dumps(made()))) == expected[0]
    sharded = [
        mix(parts(), [3, 2, 1], batch_size=3, seed=5, shard=(index, 2)) for index in range(2)
    ]
    whole = mix(parts(), [3, 2, 1], batch_size=6, seed=5, remainder="pad")
    for step in range(len(whole)):
        rows = [shard.rows(step).tolist() for shard in sharded]
        assert sorted(rows[0] + rows[1]) == sorted(whole.rows(step).tolist())
        for shard, some in zip(sharded, rows, strict=True):
            assert shard[step][1][: len(some)].tolist() == some


def test_an_epoch_resumes_where_it_was_left() -> None:
    mixed = mix(parts(), [3, 2, 1], batch_size=6, seed=5)
    expected = ids(mixed)
    again = mix(parts(), [3, 2, 1], batch_size=6, seed=5)
    again.load_state_dict(mixed.state_dict(epoch=0, step=2))
    assert ids(again) == expected[2:]
    for other in (
        mix(parts(), [3, 2, 2], batch_size=6, seed=5),
        mix(parts(seed=4), [3, 2, 1], batch_size=6, seed=5),
        mix(parts(transform=halved), [3, 2, 1], batch_size=6, seed=5),
    ):
        with pytest.raises(errors.InvalidStateError):
            other.load_state_dict(mixed.state_dict(epoch=0, step=2))


def test_drawn_seeds_of_the_datasets_follow_that_of_the_whole() -> None:
    runs = [mix(parts(seed=None), [1, 1, 1], batch_size=6, seed=5) for _ in range(2)]
    assert ids(runs[0]) == ids(runs[1])
    runs[1].load_state_dict(runs[0].state_dict())


def test_where_samples_come_from_is_told() -> None:
    first, second = parts()[:2]
    joined = concat([first.subset([3, 5, 8]), second], seed=0)
    origin = joined.origin([0, 2, 3, 14])
    assert origin.datasets.tolist() == [0, 0, 1, 1]
    assert origin.rows.tolist() == [3, 8, 0, 11]
    assert joined.load(np.array([2, 3]))[1].tolist() == [8, 30]
    with pytest.raises(IndexError, match="rows go from 15 to 15; expected numbers from 0 to 14"):
        joined.origin([15])


def test_evaluation_is_neither_augmented_nor_weighed() -> None:
    augmented = parts(augment=noisy, class_weight={48: 2.0})
    joined = concat([augmented[2]], batch_size=7, seed=0)
    ((x, y),) = joined.batches_for("evaluate")
    np.testing.assert_array_equal(x[:, 0], y * 10)
    x, y, weights = joined[0]
    assert (x[:, 0] != y * 10).any()
    assert weights[y == 48].tolist() == [2.0]


def test_the_checker_finds_nothing() -> None:
    check_dataset(concat(parts(), batch_size=8, seed=0)).raise_for_findings()
    check_dataset(mix(parts(), [3, 2, 1], batch_size=8, seed=0)).raise_for_findings()


OTHER = ArrayDataset(np.zeros((4, 2), "f4"), np.arange(4))
HINT = "expected the same leaves, shapes and dtypes."


class ByIndex(npb.BatchDataset):
    def __getitem__(self, index: int) -> Any:
        return self.rows(index)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: concat(parts()[0]),
            "concat was given a dataset; expected a list of datasets: concat([a, b]).",
        ),
        (
            lambda: concat(*parts()),
            "concat was given datasets one by one; expected a list of datasets: concat([a, b]).",
        ),
        (
            lambda: mix(*parts(), weights=[1, 2]),
            "mix was given datasets one by one; expected a list of datasets: mix([a, b], "
            "weights=[0.7, 0.3]).",
        ),
        (
            lambda: mix(parts()),
            "weights is None; expected the share of each dataset. Where each sample should come "
            "once, write concat.",
        ),
        (
            lambda: concat("ab"),
            "datasets is 'ab' (str); expected a list of datasets of keras_npbatch.",
        ),
        (
            lambda: concat([]),
            "datasets is [] (list); expected a list of datasets of keras_npbatch.",
        ),
        (
            lambda: concat([parts()[0], np.zeros(3)]),
            "datasets[1] is ndarray of shape (3,) and dtype float64; expected a dataset of "
            "keras_npbatch, such as ArrayDataset(x, y).",
        ),
        (
            lambda: concat([ByIndex(4)]),
            "datasets[0] overrides __getitem__ and so makes whole batches, which can't be mixed; "
            "expected a dataset with load(rows).",
        ),
        (
            lambda: concat([parts()[0].repeat()]),
            "datasets[0] is endless; expected the dataset itself, without repeat().",
        ),
        (
            lambda: concat([ArrayDataset(np.zeros(4), seed=0, shard=(0, 2))]),
            "datasets[0] has a shard; expected datasets without. Give shard= to the whole.",
        ),
        (
            lambda: concat(
                [ArrayDataset(np.zeros(4), sampler=npb.samplers.Weighted([1, 2, 3, 4]))]
            ),
            None,
        ),
        (
            lambda: concat([parts()[0], OTHER]),
            "datasets[1] has x float32 (n, 2), y int64 (n,), but datasets[0] has x float64 "
            f"(n, 1), y int64 (n,); {HINT}",
        ),
        (
            lambda: concat([ArrayDataset(npb.sources.Ragged([[1.0], [2.0, 3.0]]))]),
            "datasets[0] has sequences that are padded to another length in each batch; expected "
            "one length: Ragged(..., pad_to=256).",
        ),
        (
            lambda: concat([npb.zip(parts()[0], parts()[0]), parts()[0]]),
            "datasets[0] is zipped: its batches have no rows in common; expected the datasets "
            "before. Mix or join those first, and zip the results.",
        ),
        (
            lambda: concat([parts()[0], parts(class_weight={0: 1.0})[2]]),
            "datasets[1] has class_weight, and datasets[0] has none; expected it for all of them, "
            "or for the whole.",
        ),
        (
            lambda: mix(parts(), [1, 2]),
            "weights is [1.0, 2.0]; expected a number above 0 for each of the 3 datasets. To leave "
            "a dataset out, don't give it.",
        ),
        (
            lambda: mix(parts(), [1, 1, 1], shuffle=False),
            "shuffle was given to mix; expected it for the datasets: each is read in its own "
            "order.",
        ),
        (
            lambda: mix(parts(), None),  # type: ignore[arg-type]
            "weights is None; expected the share of each dataset. Where each sample should come "
            "once, write concat.",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(make: Any, message: str | None) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make()
    if message is None:
        assert "which the whole would not follow" in str(caught.value)
    else:
        assert str(caught.value) == message


def test_batches_that_differ_are_refused_when_they_are_made() -> None:
    first = Loader(np.zeros((4, 2), "f4"), np.arange(4))
    second = Loader(np.zeros((4, 3), "f4"), np.arange(4))
    with pytest.raises(errors.InvalidBatchError) as caught:
        concat([first, second], shuffle=False)[0]
    assert str(caught.value) == (
        "datasets[1] gave x float32 (n, 3), y int64 (n,), but datasets[0] x float32 (n, 2), "
        f"y int64 (n,); {HINT} Make them alike in transform=."
    )


def drawn(sample: Any, rng: np.random.Generator) -> Any:
    x, y = sample
    return x, y, float(rng.integers(1 << 40))


def test_what_a_sample_draws_depends_on_no_batch_of_datasets_in_datasets_either() -> None:
    def draws(**settings: Any) -> dict[int, list[float]]:
        numbers = [np.arange(9.0), np.arange(20.0, 26.0), np.arange(40.0, 51.0)]
        first, second, third = (
            ArrayDataset(part, part, seed=1, augment=npb.each(drawn)) for part in numbers
        )
        mixed = mix([concat([first, second], seed=2), third], [1, 1], until=60, seed=5, **settings)
        found: dict[int, list[float]] = {}
        for _, y, draw in mixed:
            for row, value in zip(y.tolist(), draw.tolist(), strict=True):
                found.setdefault(int(row), []).append(value)
        return found

    expected = draws(batch_size=8)
    assert draws(batch_size=5) == expected
    shards = [draws(batch_size=4, shard=(index, 2), remainder="drop") for index in range(2)]
    for row, values in draws(batch_size=8, remainder="drop").items():
        of_shards = shards[0].get(row, []) + shards[1].get(row, [])
        assert sorted(of_shards) == sorted(values)
    several = [values for values in expected.values() if len(values) > 1]
    assert several
    assert all(len(set(values)) == len(values) for values in several)


def test_a_loader_that_asks_for_rows_gets_those_of_its_own_epochs() -> None:
    class Asking(Loader):
        def load(self, rows: Any) -> Any:
            assert set(self.rows(0).tolist()) <= set(range(12))
            return super().load(rows)

    part = Asking(np.arange(12.0), np.arange(12), batch_size=5)
    assert len(ids(mix([part, part], [1, 1], batch_size=4, seed=0))) == 6


def test_batch_sizes_of_the_datasets_matter_to_a_state_where_they_decide_the_order() -> None:
    def made(batch_size: int) -> Any:
        buckets = npb.samplers.LengthBuckets(np.arange(12) % 5 + 1)
        part = ArrayDataset(np.arange(12.0), seed=0, sampler=buckets, batch_size=batch_size)
        return mix([part, ArrayDataset(np.arange(12.0), seed=1)], [1, 1], batch_size=4, seed=2)

    made(3).load_state_dict(made(3).state_dict())
    with pytest.raises(errors.InvalidStateError):
        made(3).load_state_dict(made(4).state_dict())


def test_what_is_not_an_array_is_refused() -> None:
    from scipy.sparse import csr_matrix

    sparse = ArrayDataset(np.eye(4), transform=csr_matrix)
    with pytest.raises(errors.InvalidBatchError) as caught:
        concat([sparse, sparse], seed=0)[0]
    assert str(caught.value).startswith("datasets[0] gave x as ")
    assert "expected arrays, which can be put together" in str(caught.value)


def test_batches_of_one_dataset_each_are_compared_too() -> None:
    first = Loader(np.zeros((4, 2), "f4"), np.arange(4))
    second = Loader(np.zeros((4, 3), "f4"), np.arange(4))
    with pytest.raises(errors.InvalidBatchError, match=r"datasets\[1\] gave x float32 \(n, 3\)"):
        list(concat([first, second], batch_size=1, shuffle=False, workers=0))


def test_any_rows_can_be_loaded() -> None:
    mixed = mix(
        [ArrayDataset(np.arange(5.0), np.arange(5), augment=npb.each(drawn)) for _ in range(2)],
        [1, 5],
        seed=0,
    )
    assert mixed.load(np.arange(10))[1].tolist() == [*range(5), *range(5)]
    with pytest.raises(errors.InvalidArgumentError, match="rows is empty"):
        mixed.load(np.arange(0))


def test_a_module_that_workers_import_may_make_datasets(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_module_of_datasets.py").write_text(
        "import numpy as np, keras_npbatch as npb\n"
        "class Loader(npb.BatchDataset):\n"
        "    def load(self, rows):\n"
        "        return rows * 1.0, rows\n"
        "who = dict(workers=2, use_multiprocessing=True, max_queue_size=3, timeout=60.0)\n"
        "part = npb.ArrayDataset(np.arange(9.0), np.arange(9), shard=None, **who)\n"
        "loader = Loader(20, batch_size=8, seed=0, **who)\n"
        "mixed = npb.mix([part, loader], [1, 2], batch_size=4, seed=0, **who)\n"
        "samples = npb.SampleDataset(lambda row: (float(row), row), num_samples=9, **who)\n"
        "joined = npb.concat([part, samples], **who)\n"
        "assert loader.workers == 2 and loader.use_multiprocessing and loader.max_queue_size == 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("a_module_of_datasets")
    try:
        with module.loader as loader:
            assert sorted(n for batch in ids(loader) for n in batch) == list(range(20))
        with module.mixed as mixed:
            assert sum(map(len, ids(mixed))) == mixed.plan.epoch_size
    finally:
        del sys.modules["a_module_of_datasets"]


class InChunks:
    """Data in chunks that are kept until an epoch begins."""

    shape, dtype, is_in_memory, chunk_rows, chunk_starts = (6,), np.dtype(float), False, 2, None
    forgotten = 0

    def read(self, rows: Any, empty: Any) -> Any:
        return rows + 0.5

    def keep(self, *_: Any, **__: Any) -> None:
        """Keeps nothing."""

    def forget(self, pass_number: int | None = None) -> None:
        InChunks.forgotten += 1

    def reading(self, batch_size: int) -> None:
        """Nothing twice."""


@pytest.mark.parametrize(
    "put", [concat, lambda datasets, **_: npb.zip(*datasets)], ids=["concat", "zip"]
)
def test_an_epoch_begins_in_each_dataset_and_their_data_are_compared(put: Any) -> None:
    whole = put([ArrayDataset(InChunks(), seed=0), ArrayDataset(np.arange(6.0), seed=0)], seed=0)
    before = pickle.dumps(core_of(whole).sent_settings())
    forgotten = InChunks.forgotten
    list(whole)
    assert InChunks.forgotten > forgotten
    assert pickle.dumps(core_of(whole).sent_settings()) == before
    other = put([ArrayDataset(InChunks(), seed=0), ArrayDataset(np.arange(1, 7.0), seed=0)], seed=0)
    assert core_of(whole).data_digest() != core_of(other).data_digest()


def test_the_checker_reads_copies_of_the_datasets_too() -> None:
    class Counts(Loader):
        calls = 0

        def load(self, rows: Any) -> Any:
            self.calls += 1
            return super().load(rows)

    loader = Counts(np.arange(12.0), np.arange(12), seed=0)
    check_dataset(concat([loader], batch_size=4, seed=0)).raise_for_findings()
    assert loader.calls == 0
