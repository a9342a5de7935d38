"""Which process of how many: what the environment tells, and what the others say.

With the frameworks themselves it is tested in tests/distributed.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.distributed.agreement import compare, report
from keras_npbatch.distributed.rank import find_shard
from keras_npbatch.errors import InvalidArgumentError, RanksDisagreeError
from keras_npbatch.plan.shard import Shard

exact = settings(deadline=None, derandomize=True, max_examples=100)


@pytest.fixture(autouse=True)
def nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def tf_config(kind: str, index: Any, chiefs: int = 0, workers: int = 0, **others: int) -> str:
    numbers = {"chief": chiefs, "worker": workers, **others}
    cluster = {name: ["127.0.0.1:1"] * number for name, number in numbers.items() if number}
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


# --- who is told -------------------------------------------------------------------------------


def test_alone_it_reads_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "keras_npbatch"):
        assert find_shard() == Shard(0, 1)
    assert caplog.messages == ["shard='auto': found no other processes; this one reads all samples"]


def test_the_variables_of_torchrun(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with caplog.at_level(logging.INFO, "keras_npbatch"):
        assert find_shard() == Shard(2, 4)
    assert caplog.messages == [
        "shard='auto': process 2 of 4, says the environment (RANK=2, WORLD_SIZE=4)"
    ]


@pytest.mark.parametrize(
    ("rank", "world_size"), [("2", None), (None, "4"), ("a", "4"), ("4", "4"), ("-1", "2")]
)
def test_variables_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, world_size: str | None
) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", world_size)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(
        InvalidArgumentError, match=rf"found the environment \(RANK={rank}, WORLD_SIZE={world_size}"
    ):
        find_shard()


@pytest.mark.parametrize(
    ("config", "shard"),
    [
        (tf_config("worker", 1, workers=3), Shard(1, 3)),
        (tf_config("worker", 1, chiefs=1, workers=3), Shard(2, 4)),
        (tf_config("chief", 0, chiefs=1, workers=3), Shard(0, 4)),
        (tf_config("worker", "0", workers=2, ps=1), Shard(0, 2)),
        ("", Shard(0, 1)),
    ],
)
def test_the_configuration_of_tensorflow(
    monkeypatch: pytest.MonkeyPatch, config: str, shard: Shard
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    assert find_shard() == shard


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "{}",
        "[]",
        "3",
        tf_config("worker", 3, workers=3),
        tf_config("ps", 0, workers=1, ps=1),
        tf_config("worker", None, workers=3),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InvalidArgumentError, match=r"found TF_CONFIG=.*expected a cluster"):
        find_shard()


def test_different_answers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TF_CONFIG", tf_config("worker", 1, workers=2))
    with pytest.raises(InvalidArgumentError) as caught:
        find_shard()
    assert str(caught.value) == (
        "shard='auto' found different answers: the environment (RANK=0, WORLD_SIZE=2) says process "
        "0 of 2; TF_CONFIG says process 1 of 2. Expected one. Say which: "
        "shard=keras_npbatch.Shard(index, count)."
    )
    monkeypatch.setenv("RANK", "1")
    assert find_shard() == Shard(1, 2)


# --- what they say -----------------------------------------------------------------------------

descriptions = st.dictionaries(
    st.sampled_from(["seed", "shuffle", "x", "position"]),
    st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    max_size=4,
)


def of_all(*each: dict[str, Any]) -> list[str]:
    return [report(Shard(index, len(each)), one) for index, one in enumerate(each)]


@exact
@given(st.lists(descriptions, min_size=1, max_size=4))
def test_equal_descriptions_pass_and_different_ones_do_not(each: list[dict[str, Any]]) -> None:
    compare(of_all(*[each[0]] * 4))
    if all(one == each[0] for one in each):
        compare(of_all(*each))
        return
    with pytest.raises(RanksDisagreeError) as caught:
        compare(of_all(*each))
    for name in ("seed", "shuffle", "x", "position"):
        there = {json.dumps(one.get(name, "not there")) for one in each}
        assert (f"{name}: " in str(caught.value)) == (len(there) > 1)


def test_each_value_is_told_with_the_first_that_has_it() -> None:
    with pytest.raises(RanksDisagreeError) as caught:
        compare(of_all({"seed": 1}, {"seed": 2, "x": None}, {"seed": 1}))
    assert str(caught.value) == (
        "the processes have different datasets: seed: 1 on 0, 2 on 1; x: not there on 0, null on "
        "1. Expected the same data, settings, seed and position on all: with others, samples would "
        "be repeated and lost, or one process would wait for the others forever."
    )


def test_many_differences_are_cut_short() -> None:
    with pytest.raises(RanksDisagreeError, match=r"e: 0 on 0, 1 on 1; and 2 more\. Expected"):
        compare(of_all(dict.fromkeys("abcdefg", 0), dict.fromkeys("abcdefg", 1)))


@pytest.mark.parametrize(
    "shards",
    [[(0, 2), (0, 2)], [(0, 2), (1, 3)], [(0, 3), (1, 3)], [(0, 2), (1, 2), (0, 2)]],
)
def test_shards_that_do_not_make_a_whole_are_refused(shards: list[tuple[int, int]]) -> None:
    with pytest.raises(
        RanksDisagreeError, match=re.escape(f"have the shards (index, count) {shards}; expected")
    ):
        compare([report(Shard(*shard), {}) for shard in shards])


def test_processes_that_share_shards_are_right_unless_it_is_known_that_none_may() -> None:
    """A loop of one's own may have a model in several processes."""
    said = [report(Shard(index, 2), {}) for index in (0, 0, 1, 1)]
    compare(said)
    with pytest.raises(RanksDisagreeError, match="expected each of the 4 once"):
        compare(said, 4)
