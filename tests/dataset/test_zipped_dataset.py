"""`zip`: batches of several datasets side by side."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, errors


def noisy(x: Any, rng: np.random.Generator) -> Any:
    return x + rng.random(len(x))


def labelled(**settings: Any) -> ArrayDataset:
    return ArrayDataset(np.arange(10.0), np.arange(10), **{"batch_size": 4, "seed": 1} | settings)


def unlabelled(**settings: Any) -> ArrayDataset:
    settings = {"batch_size": 8, "seed": 2, "augment": noisy} | settings
    return ArrayDataset(np.arange(100.0, 133.0), **settings)


def as_bytes(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: as_bytes(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return [as_bytes(each) for each in tree]
    return tree.tobytes()


@settings(max_examples=30)
@given(
    st.sampled_from(["first", "longest", 1, 4, 11]),
    st.sampled_from(["keep", "drop", "spread"]),
    st.integers(1, 10),
    st.integers(1, 33),
)
def test_each_dataset_gives_the_batches_of_its_own_epochs(
    until: Any, remainder: Any, few: int, many: int
) -> None:
    first = labelled(batch_size=few, remainder=remainder)
    second = unlabelled(batch_size=many, remainder=remainder)
    zipped = npb.zip(first, second, until=until)
    lengths = [len(first), len(second)]
    steps = {"first": min(lengths), "longest": max(lengths)}.get(until, until)
    assert len(zipped) == steps
    walked = [as_bytes(batch) for _ in range(3) for batch in zipped]
    expected = []
    for which, length in zip((first, second), lengths, strict=True):
        batches = []
        for number in range(3 * steps):
            epoch, step = divmod(number, length)
            which.set_epoch(epoch)
            batches.append(as_bytes(which[step]))
        expected.append(batches)
    assert walked == [list(pair) for pair in zip(*expected, strict=True)]
    assert zipped.steps_of(steps - 1, epoch=2) == tuple(
        divmod(3 * steps - 1, length) for length in lengths
    )


def test_by_name_with_any_workers_and_after_a_resume() -> None:
    def made(**who: Any) -> Any:
        return npb.zip(few=labelled(), many=unlabelled(), until="longest", **who)

    with made(workers=0) as alone:
        expected = [as_bytes(batch) for _ in range(2) for batch in alone]
    for who in ({"workers": 2}, {"workers": 2, "use_multiprocessing": True}):
        with made(**who) as other:
            assert [as_bytes(batch) for _ in range(2) for batch in other] == expected
    again = made()
    again.load_state_dict(alone.state_dict(epoch=1, step=2))
    assert [as_bytes(batch) for batch in again] == expected[7:]
    assert again.steps_of(4, epoch=0) == {"few": (1, 1), "many": (0, 4)}
    with pytest.raises(errors.InvalidStateError):
        npb.zip(few=labelled(seed=5), many=unlabelled(), until="longest").load_state_dict(
            alone.state_dict()
        )


def test_evaluation_reads_in_the_order_of_the_data() -> None:
    zipped = npb.zip(labelled(), unlabelled())
    for step, ((x, y), more) in enumerate(zipped.batches_for("evaluate")):
        assert y.tolist() == list(range(10))[4 * step : 4 * step + 4]
        assert x.tolist() == y.tolist()
        assert more.tolist() == list(range(100 + 8 * step, min(108 + 8 * step, 133)))


def test_shards_read_their_parts_of_each_dataset() -> None:
    shards = [
        npb.zip(labelled(batch_size=2, shard=(i, 2)), unlabelled(batch_size=4, shard=(i, 2)))
        for i in range(2)
    ]
    whole = npb.zip(labelled(remainder="pad"), unlabelled())
    assert len(shards[0]) == len(shards[1]) == len(whole)
    for step, ((_, y, weights), _) in enumerate(whole):
        seen: list[int] = []
        for shard in shards:
            (_, of_shard, real), _ = shard[step]
            seen += of_shard[real > 0].tolist()
        assert sorted(seen) == sorted(y[weights > 0].tolist())


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_another_number_of_processes_goes_on(number: int, count: int) -> None:
    def processes(of: int) -> list[Any]:
        return [
            npb.zip(
                labelled(batch_size=4 // of, shard=(i, of), remainder="pad"),
                unlabelled(batch_size=8 // of, shard=(i, of), remainder="pad", augment=None),
                until="longest",
            )
            for i in range(of)
        ]

    def read(batches: Any) -> list[tuple[list[int], list[int]]]:
        found = []
        for of_each in batches:
            (labels, more) = [], []
            for (_, y, weights), (x, _, of_more) in of_each:
                labels += y[weights > 0].tolist()
                more += x[of_more.reshape(-1) > 0].tolist()
            found.append((sorted(labels), sorted(more)))
        return found

    state = processes(number)[0].state_dict(epoch=1, step=2)
    others = processes(count)
    for other in others:
        other.load_state_dict(state)
    (whole,) = processes(1)
    whole.set_epoch(1)
    expected = read([whole[step]] for step in range(2, len(whole)))
    assert read(zip(*others, strict=True)) == expected


def test_what_it_is_is_told() -> None:
    zipped = npb.zip(few=labelled(), many=labelled())
    assert repr(zipped).startswith("<ZippedDataset: 3 batches of few=<ArrayDataset: 10 samples")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: npb.zip(labelled()),
            "zip was given 1 dataset; expected two or three, zip(a, b), or any number by name: "
            "zip(labelled=a, unlabelled=b).",
        ),
        (
            lambda: npb.zip([labelled(), labelled()]),  # type: ignore[arg-type]
            "zip was given a list; expected datasets one by one: zip(a, b), or by name: "
            "zip(labelled=a, unlabelled=b).",
        ),
        (
            lambda: npb.zip(*[labelled()] * 4),
            "zip was given 4 datasets; expected two or three, zip(a, b), or any number by name: "
            "zip(labelled=a, unlabelled=b).",
        ),
        (
            lambda: npb.zip(labelled(), other=labelled()),
            "zip was given 1 dataset and other by name; expected all of them by name, or none.",
        ),
        (
            lambda: npb.zip(labelled(), unlabelled(), shard=(0, 2)),  # type: ignore[arg-type]
            "shard was given to zip; expected it for each of the datasets, whose batches come as "
            "they are: ArrayDataset(x, y, shard=...).",
        ),
        (
            lambda: npb.zip(labelled(), np.zeros(3)),  # type: ignore[arg-type]
            "datasets[1] is ndarray of shape (3,) and dtype float64; expected a dataset of "
            "keras_npbatch, such as ArrayDataset(x, y).",
        ),
        (
            lambda: npb.zip(labelled(), unlabelled().repeat()),
            "datasets[1] is endless; expected the dataset itself, without repeat(): it goes on by "
            "itself.",
        ),
        (
            lambda: npb.zip(labelled(shard=(0, 2)), unlabelled()),
            "datasets[1] has the shard None, but the first dataset Shard(index=0, count=2); "
            "expected the same shard= in each dataset.",
        ),
        (
            lambda: npb.zip(labelled(), unlabelled(), until="last"),  # type: ignore[arg-type]
            "until is 'last' (str); expected 'first', 'longest', or how many batches an epoch has.",
        ),
        (
            lambda: npb.zip(labelled(), unlabelled()).shard(0, 2),
            "zipped datasets can't be sharded; expected the datasets to be: shard each of them, "
            "and zip the shards.",
        ),
        (
            lambda: npb.testing.check_dataset(npb.zip(labelled(), unlabelled())),
            "dataset is several zipped ones, whose batches have no samples in common; expected one "
            "of them: check each.",
        ),
        (
            lambda: npb.callbacks.CoverageAudit(npb.zip(labelled(), unlabelled())),
            "CoverageAudit was given zipped datasets, whose batches have no rows in common; "
            "expected a dataset whose batches are samples.",
        ),
        (
            lambda: npb.zip(labelled(), unlabelled()).split(0.5),
            "zipped datasets can't be split; expected the datasets to be: split each of them, and "
            "zip the parts.",
        ),
    ],
)
def test_what_cannot_be_zipped_is_refused(make: Any, message: str) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make()
    assert str(caught.value).endswith(message)


def test_there_are_no_rows_in_common() -> None:
    with pytest.raises(NotImplementedError, match=r"no rows in common; expected dataset\[step\]"):
        npb.zip(labelled(), unlabelled()).load(np.array([0]))
