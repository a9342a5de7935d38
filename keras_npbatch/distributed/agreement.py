"""The messages that processes which train together exchange.

    seed = agreed_seed(seed, shard)             # the same on all
    refuse_differences(shard, description)      # an error on all, before the first step

They communicate through what they train with: the JAX coordinator, a Torch process group, or a
TensorFlow strategy. Each message names its topic, so that one from a process at another point of
its program is not misunderstood.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from keras_npbatch.batches.core import Core
from keras_npbatch.distributed import rank as ranks
from keras_npbatch.errors import InvalidArgumentError, RanksDisagreeError, describe_error
from keras_npbatch.plan.shard import Shard

__all__ = [
    "OTHERS_COME_WITHIN_S",
    "agree",
    "agreed_seed",
    "compare",
    "contents",
    "refuse_differences",
    "refuse_different_backups",
    "report",
    "say_in",
    "say_to_all",
    "tell_failure",
]

_MOST_TOLD = 5
OTHERS_COME_WITHIN_S = 600.0
"""How long to wait for others, which may be late: they load data, or wait for a machine."""


def agreed_seed(seed: int, shard: Shard) -> int:
    """The seed that the first process has drawn.

    Args:
        seed: the seed that this process has drawn.
        shard: the shard of this process.

    Raises:
        InvalidArgumentError: if the processes have no way to communicate.
        RanksDisagreeError: if another process was given a seed.
    """
    said = say_to_all(json.dumps(["a seed", str(seed)]), shard.count)
    if said is None:
        raise InvalidArgumentError(
            f"seed is None in a dataset for {shard.count} processes, which would each draw "
            "another one, so that samples were repeated and lost; expected the same seed on all. "
            "Give it: seed=0. Or start jax.distributed or torch.distributed before the dataset "
            "is made, or make it in the scope of a strategy of TensorFlow: then they agree on one."
        )
    return int(contents(said)[0])


def refuse_differences(shard: Shard, description: Mapping[str, Any]) -> None:
    """Compare the descriptions of all processes, and refuse differences.

    Does nothing if the processes have no way to communicate.

    Args:
        shard: the shard of this process.
        description: what must be the same on all processes, by name; values that JSON takes.

    Raises:
        RanksDisagreeError: on every process, if they differ; it says what differs, and where.
    """
    said = say_to_all(report(shard, description), shard.count)
    if said is not None:
        compare(said)


def agree(core: Core) -> None:
    """Check once that the processes which train together have the same dataset.

    Raises:
        RanksDisagreeError: on every process, if they don't.
    """
    if not core.is_agreed and ranks.has_others(core.plan.shard):
        refuse_differences(core.plan.shard, core.description())
        core.is_agreed = True


def refuse_different_backups(shard: Shard, folder: Any, found: str) -> None:
    """Check that all processes have found the same backup of training.

    Does nothing if the processes have no way to communicate.

    Args:
        shard: the shard of this process.
        folder: the folder that was searched for the backup.
        found: the backup that was found, in words.

    Raises:
        RanksDisagreeError: on every process, if they differ; it says which process found what.
    """
    said = say_to_all(json.dumps(["a backup", found]), shard.count)
    if said is None:
        return
    each = contents(said)
    if len(set(each)) > 1:
        told_each = "; ".join(f"{text} on {number}" for number, text in enumerate(each))
        raise RanksDisagreeError(
            f"the processes found different backups in {folder}: {told_each}. Expected one folder "
            "that all of them can read; the first process writes it. Put it on a file system that "
            "they share."
        )


def report(shard: Shard, description: Mapping[str, Any]) -> str:
    """The message in which a process describes itself; see `compare`."""
    place = ranks.mesh_place()
    reader = None if place is None else place.shard.index
    return json.dumps(["a dataset", [shard.index, shard.count, reader, dict(description)]])


def compare(said: Sequence[str], shards_expected: int | None = None) -> None:
    """Check that the reports of all processes fit together.

    Args:
        said: the reports, in process order.
        shards_expected: how many shards there must be; None: as many as the reports say, each read
            by the same number of processes.

    Raises:
        RanksDisagreeError: if they don't; it says what differs, and where.
    """
    reports = contents(said)
    shards = [(index, count) for index, count, _, _ in reports]
    # Processes that hold parts of one replica of the model must read the same shard.
    readers = [reader for _, _, reader, _ in reports if reader is not None]
    count = len(set(readers)) or shards_expected or shards[0][1]
    is_whole = set(shards) == {(index, count) for index in range(count)}
    if readers:
        is_right = is_whole and len(set(zip(readers, shards, strict=True))) == count
    else:
        is_right = is_whole and len(set(Counter(shards).values())) == 1
    if not is_right:
        count = len(set(readers)) or shards_expected or len(reports)
        raise RanksDisagreeError(
            f"the {len(reports)} processes have the shards (index, count) {shards}; expected each "
            f"of the {count} once. Use shard='auto', or Shard(rank, {count})."
        )
    descriptions = [theirs for *_, theirs in reports]
    names = sorted({name for theirs in descriptions for name in theirs})
    different = [name for name in names if len({_text(each, name) for each in descriptions}) > 1]
    if not different:
        return
    told_each = "; ".join(
        f"{name}: " + ", ".join(f"{_text(each, name)} on {index}" for index, each in told_of)
        for name in different[:_MOST_TOLD]
        for told_of in [_first_of_each(name, descriptions)]
    )
    more = len(different) - _MOST_TOLD
    raise RanksDisagreeError(
        f"the processes have different datasets: {told_each}{f'; and {more} more' * (more > 0)}. "
        "Expected the same data, settings, seed and position on all: with others, samples would "
        "be repeated and lost, or one process would wait for the others forever."
    )


def tell_failure(shard: Shard, error: Exception) -> None:
    """Tell the processes that wait for this one's report that it fails, if JAX connects them.

    Args:
        shard: the shard of this process.
        error: why it fails.
    """
    if ranks.can_talk_by_jax(shard.count):
        from keras_npbatch.distributed.jax import say

        say(json.dumps(["a failure", describe_error(error)]))


def contents(said: Sequence[str]) -> list[Any]:
    """The content of each message; all must be about one topic."""
    told_of = [json.loads(text) for text in said]
    topics = [topic for topic, _ in told_of]
    if len(set(topics)) == 1:
        return [content for _, content in told_of]
    for number, (topic, content) in enumerate(told_of):
        if topic == "a failure":
            raise RanksDisagreeError(f"process {number} can't go on: {content}")
    each = ", ".join(f"{number} of {topic}" for number, topic in enumerate(topics))
    raise RanksDisagreeError(
        f"the processes speak of different things: {each}. Expected all to make the same datasets "
        "and calls of fit and evaluate, in one order, and a seed to be given on all or on none."
    )


def _first_of_each(
    name: str, descriptions: list[dict[str, Any]]
) -> list[tuple[int, dict[str, Any]]]:
    """For each distinct value of `name`, the first process that has it."""
    firsts: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, each in enumerate(descriptions):
        firsts.setdefault(_text(each, name), (number, each))
    return list(firsts.values())


def _text(description: dict[str, Any], name: str) -> str:
    return json.dumps(description[name]) if name in description else "not there"


def say_to_all(message: str, count: int, *, steadily: bool = False) -> list[str] | None:
    """Exchange messages with the processes that read `count` shards.

    All must call it, equally often.

    Args:
        message: of this process.
        count: how many shards there are.
        steadily: whether many messages follow, so that a way to send them is kept.

    Returns:
        The message of each process, in process order; None if they can't communicate.
    """
    if ranks.can_talk_by_jax(count):
        from keras_npbatch.distributed.jax import say_to_all as say_by_jax

        return say_by_jax(message, OTHERS_COME_WITHIN_S)
    torch_distributed = ranks.started_torch()
    if torch_distributed is not None and torch_distributed.get_world_size() > 1:
        from keras_npbatch.tensors.torch import gather as say_by_torch

        return say_by_torch(message, OTHERS_COME_WITHIN_S, kept=steadily)
    strategy = ranks.entered_strategy()
    if strategy is not None:
        from keras_npbatch.distributed.tensorflow import process_of

        if process_of(strategy).count == count:
            return say_in(strategy, message)
    return None


def say_in(strategy: Any, message: str) -> list[str]:
    """Exchange messages with all processes of a TensorFlow strategy; see `say_to_all`."""
    from keras_npbatch.distributed.tensorflow import say_to_all as say_by_tensorflow

    return say_by_tensorflow(strategy, message, OTHERS_COME_WITHIN_S)
