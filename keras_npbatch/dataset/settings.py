"""The settings of a dataset: its arguments, checked, and their text in its `repr`.

begin_dataset(dataset, Core, num_samples, batch_size=32, ..., workers=1)
described(core_of(dataset))        # what `repr` gives
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.distributed.agreement import agreed_seed
from keras_npbatch.distributed.rank import find_shard, has_others
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.own import is_plain, order_setting
from keras_npbatch.workers.chosen import workers_chosen
from keras_npbatch.workers.executor import (
    check_max_queue_size,
    check_memory_limit,
    check_timeout,
    check_workers,
)
from keras_npbatch.workers.systems import check_start_method

__all__ = ["begin_dataset", "described", "settings_of", "settings_told"]

_MOST_AHEAD = 10
"""`max_queue_size` if it is not given."""
_LEAVES_TOLD = 8
"""Maximum number of leaves in a `repr`."""


def begin_dataset(
    dataset: Batches,
    kind: Callable[..., Core],
    *arguments: Any,
    workers: Any,
    use_multiprocessing: Any,
    max_queue_size: Any,
    start_method: Any,
    timeout: Any,
    memory_limit: Any,
    shard: Any,
    **settings: Any,
) -> None:
    """Give a dataset its core, made by `kind`; for the settings see `BatchDataset`.

    Raises:
        InvalidArgumentError: for an invalid value.
    """
    if use_multiprocessing or start_method is not None:
        check_start_method(start_method)
    number, has_own_queue = check_workers(workers), max_queue_size is not None
    who = WorkerSettings(
        workers=number,
        use_multiprocessing=None if use_multiprocessing is None else bool(use_multiprocessing),
        max_queue_size=check_max_queue_size(max_queue_size if has_own_queue else _MOST_AHEAD),
        start_method=start_method,
        timeout_s=check_timeout(timeout),
        has_own_queue=has_own_queue,
        memory_bytes=check_memory_limit(memory_limit, number),
    )
    if shard is not None:
        shard = find_shard() if shard == "auto" else Shard.of(shard)
    begin(dataset, kind, *arguments, settings=who, shard=shard, **settings)
    core = core_of(dataset)
    if shard is not None and not core.has_own_seed and core.draws and has_others(shard):
        core.plan = replace(core.plan, seed=agreed_seed(core.plan.seed, shard))
        core.has_own_seed = True


def settings_of(dataset: Batches) -> WorkerSettings:
    """The settings of the workers that make the batches of a dataset."""
    settings = core_of(dataset).settings
    assert settings is not None
    return settings


def described(core: Core) -> str:
    """The data and the settings, without a seed that was drawn."""
    plan, workers = core.plan, core.settings
    assert workers is not None
    shard = f", {plan.shard}" if core.is_part else ""
    selected = "" if plan.selection is None else f" ({plan.selection.described})"
    seed = plan.seed if core.has_own_seed else None
    functions = {"transform": core.transform, "augment": core.augment}
    changes = "".join(
        f", {setting}={function.name}"
        for setting, function in functions.items()
        if function is not None
    )
    if core.collate is not None:
        changes = f", collate={core.collate.name}{changes}"
    if core.cache is not None:
        changes += f", cache={core.cache.setting!r}"
    if core.aside is not None:
        changes += f", on_error='set_aside', max_set_aside={core.aside.most_share}"
    order = f"shuffle={plan.shuffle}" if is_plain(plan.sampler) else f"sampler={plan.sampler}"
    repeats = "" if plan.epoch_size == plan.num_samples else f", {plan.epoch_size} an epoch,"
    return (
        f"<{core.name}: {plan.num_samples} samples{selected}{repeats} in {plan.num_batches} "
        f"batches of {plan.batch_size} (remainder={plan.remainder!r}){_data(core)}"
        f"{changes}, {order}, seed={seed}{shard}, workers={_workers(core, workers)}, "
        f"next epoch {core.clock.epoch}{', endless' if core.endless else ''}>"
    )


def settings_told(core: Core) -> dict[str, str]:
    """The data and the settings as a table: names, and values in words."""
    plan, workers = core.plan, core.settings
    assert workers is not None
    found: dict[str, Any] = {}
    if core.has_rows:
        found["samples"] = plan.num_samples
        found["part of the data"] = None if plan.selection is None else plan.selection.described
        found["batches"] = f"{plan.num_batches} of {plan.batch_size} (remainder={plan.remainder!r})"
        found["order"] = order_setting(plan.sampler)
        found["seed"] = plan.seed if core.has_own_seed else f"{plan.seed} (drawn)"
    else:
        found["batches"] = plan.num_batches
    for index, dataset in enumerate(core.datasets):
        found[f"datasets[{index}]"] = repr(dataset)
    for setting, function in (("transform", core.transform), ("augment", core.augment)):
        found[setting] = None if function is None else function.name
    weights = core.class_weight
    found["class_weight"] = None if weights is None else weights.pairs
    found["cache"] = None if core.cache is None else core.cache.setting
    found["shard"] = plan.shard if core.is_part else None
    found["workers"] = _workers_in_words(core, workers)
    found["next epoch"] = f"{core.clock.epoch}{', endless' if core.endless else ''}"
    return {name: str(value) for name, value in found.items() if value is not None}


def _workers(core: Core, workers: WorkerSettings) -> str:
    chosen = workers_chosen(core)
    if chosen is not None:
        return f"'auto' ({chosen})"
    kind = " processes" if workers.use_multiprocessing and workers.workers else ""
    return f"{workers.workers}{kind}"


def _workers_in_words(core: Core, workers: WorkerSettings) -> str:
    chosen = workers_chosen(core)
    if chosen is not None:
        return f"auto: {chosen}"
    kind = "processes" if workers.use_multiprocessing else "threads"
    return f"{workers.workers} {kind}" if workers.workers else "none"


def _data(core: Core) -> str:
    data = core.data
    leaves = [f"{path} {leaf.dtype} {tuple(leaf.shape)}" for path, leaf in data.items()]
    if len(leaves) > _LEAVES_TOLD:
        leaves = [*leaves[:_LEAVES_TOLD], f"... ({len(data)} arrays)"]
    return "".join(f", {text}" for text in leaves)
