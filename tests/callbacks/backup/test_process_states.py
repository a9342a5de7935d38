"""What each process goes on with from a backup of all, whatever their numbers were and are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.callbacks.backup.process_states import own_state
from keras_npbatch.plan.shard import Shard

exact = settings(deadline=None, derandomize=True, max_examples=100)
states = st.lists(
    st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=1, max_size=5
).map(lambda each: np.array(each, "float32"))


def backup(each, name):
    """That of the first, and of the others what is not the same."""
    arrays = {name: each[0]}
    others = enumerate(each[1:], 1)
    return arrays | {
        f"processes/{index}/{name}": array
        for index, array in others
        if not np.array_equal(array, each[0])
    }


def taken(each, count, group, rule=""):
    """What `count` processes take of what each had."""
    name = f"{group}/0"
    arrays = backup(each, name)
    return [
        own_state(arrays, name, len(each), Shard(index, count), group, rule)
        for index in range(count)
    ]


@exact
@given(states, st.sampled_from(["metrics", "model", "seeds", "generators"]))
def test_as_many_as_there_were_take_what_each_had(each, group):
    np.testing.assert_array_equal(taken(each, len(each), group, "sum"), each)


@exact
@given(states, st.integers(1, 5))
def test_sums_of_metrics_and_means_of_statistics_stay_those_of_all(each, count):
    np.testing.assert_allclose(
        sum(taken(each, count, "metrics", "sum")), each.sum(axis=0), rtol=1e-6
    )
    for group, rule in (("metrics", "mean"), ("model", "")):
        found = taken(each, count, group, rule)
        np.testing.assert_allclose(np.mean(found, axis=0), each.mean(axis=0), rtol=1e-6)
        if count != len(each):
            assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [1, 5]), (3, [1, 5, 1])])
def test_what_can_not_be_put_together_is_that_of_one_process(count, expected):
    each = np.array([[1], [5]], "uint32")
    for group in ("model", "seeds", "generators"):
        assert [int(found[0]) for found in taken(each, count, group)] == expected
    if count != 2:
        assert {int(found[0]) for found in taken(each, count, "metrics", "none")} == {1}
