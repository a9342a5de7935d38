"""What is no number, and no state, is refused by one of our errors and changes nothing."""

from __future__ import annotations

import copy
import json
import math
import os

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import BatchDataset, Shard, errors

N, BATCH = 50, 8


class Loader(BatchDataset):
    def load(self, rows):
        return rows[:, np.newaxis] * 2.0, rows


NO_WHOLE_NUMBERS = [
    *(math.nan, math.inf, -math.inf, 1.5, 8.0, -1, -(2**63), 1j),
    *(True, False, np.True_, "8", b"8", "", [], [8], (8,), {}, {8}, ..., len),
    *(np.float32(8), np.float64("nan"), np.array([8]), np.array(8.0), np.array("8")),
    *(np.datetime64(8, "s"), np.timedelta64(8, "s"), np.str_("8")),
]
SETTINGS = ["num_samples", "batch_size", "seed", "workers", "max_queue_size", "timeout"]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_by_name(name, value):
    if name == "timeout" and type(value) in (float, np.float32) and 0 < value < math.inf:
        return  # seconds may have a fraction
    arguments = {"num_samples": N, "batch_size": BATCH} | {name: value}
    with pytest.raises(errors.InvalidArgumentError, match=name):
        Loader(**arguments)


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_number_of_a_process_an_epoch_or_a_step_is_refused(value):
    dataset = Loader(num_samples=N, batch_size=BATCH)
    for call in (
        lambda: Shard(value, 2),
        lambda: Shard(0, value),
        lambda: dataset.rows(value),
        lambda: dataset.rows(0, epoch=value),
        lambda: dataset.locate(value),
        lambda: dataset.set_epoch(value),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()
    assert dataset.epoch == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.data())
def test_a_state_that_was_changed_is_refused_or_is_that_of_a_position(data):
    dataset = Loader(num_samples=N, batch_size=BATCH, seed=0)
    before = dataset.state_dict(epoch=3, step=2)
    dataset.load_state_dict(before)
    state = copy.deepcopy(before)
    inner = state if data.draw(st.booleans()) else state["dataset"]
    name = data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=5))
    if data.draw(st.booleans()):
        inner[name] = data.draw(JSON)
    else:
        inner.pop(name, None)
    try:
        dataset.load_state_dict(state)
    except errors.InvalidStateError:
        assert dataset.state_dict() == before
        return
    place = json.loads(json.dumps(dataset.state_dict()))
    assert dataset.state_dict(epoch=place["epoch"], step=place["step"])["epoch"] == dataset.epoch
    assert len(list(dataset)) == len(dataset) - place["step"] + (place["skip"] > 0)
