"""`dataset.workers_chosen`, and the settings of `workers="auto"`."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.errors import InvalidArgumentError
from tests.inside import core_of

X = np.zeros((40, 3), "float32")


class Waits(npb.BatchDataset):
    """A batch costs far more than to hand it over."""

    def load(self, rows: Any) -> Any:
        time.sleep(0.002)
        return rows


def test_a_number_of_workers_is_no_choice() -> None:
    assert npb.ArrayDataset(X, workers=2).workers_chosen is None


def test_it_is_told_by_the_dataset_and_its_repr_and_its_table() -> None:
    dataset = npb.ArrayDataset(X, batch_size=1, workers="auto", seed=0)
    chosen = dataset.workers_chosen
    assert chosen is not None
    assert (chosen.kind, chosen.workers, chosen.max_queue_size) == ("inline", 0, 0)
    assert not chosen.settled
    assert "workers='auto' (inline, being tried), next epoch 0" in repr(dataset)
    assert dataset.workers == "auto"
    reason = "batches are rows of arrays, which threads copy at the same time"
    assert chosen.without == {"processes": reason}
    assert "auto: inline, being tried" in dataset._repr_html_()


def test_what_was_chosen_stays_from_call_to_call_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = Waits(400, batch_size=2, workers="auto", use_multiprocessing=False)
    with caplog.at_level(logging.INFO, "keras_npbatch"):
        list(dataset)
        list(dataset)
    chosen = dataset.workers_chosen
    assert chosen is not None
    assert chosen.settled
    assert chosen.kind == "threads"
    assert chosen.without == {"processes": "use_multiprocessing=False"}
    assert f"workers='auto': batches are made by {chosen} from now on" in caplog.messages
    assert f"workers='auto' ({chosen}), " in repr(dataset)
    twin = copy.copy(dataset)  # has workers of its own
    assert twin.workers_chosen is not None
    assert not twin.workers_chosen.settled
    dataset.workers = 1
    assert dataset.workers_chosen is None
    assert dataset.max_queue_size == 10


def test_what_the_queue_was_set_to_bounds_the_choice() -> None:
    dataset = Waits(120, batch_size=2, workers="auto", use_multiprocessing=False)
    dataset.max_queue_size = 3
    seen = set()
    for _ in range(3):
        for _batch in dataset:
            chosen = dataset.workers_chosen
            assert chosen is not None
            seen.add(chosen.max_queue_size)
    assert max(seen) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"workers": "automatic"},
            "workers is 'automatic' (str); expected a whole number from 0 up, or 'auto'.",
        ),
        (
            {"workers": 2, "memory_limit": "1 GB"},
            "memory_limit was given with workers=2; expected workers='auto', which chooses how "
            "many workers there are within that limit. Otherwise workers, max_queue_size and the "
            "size of a batch decide how much memory it takes.",
        ),
        (
            {"workers": "auto", "memory_limit": 2.0},
            "memory_limit is 2.0 (float); expected a size such as '8 GB', a number of bytes, or a "
            "share of the memory from 0.0 to 1.0.",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        npb.ArrayDataset(X, **settings)
    assert str(caught.value) == message


def test_the_memory_limit_arrives() -> None:
    dataset = npb.ArrayDataset(X, workers="auto", memory_limit="50 MB")
    settings = core_of(dataset).settings
    assert settings is not None
    assert settings.memory_bytes == 50 * 10**6
