"""Keras's own tests pass with our datasets between, but for the differences written down here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.peers import keras_tests

_LIMIT_S = 2 * 1800

pytestmark = [pytest.mark.more, pytest.mark.timeout(_LIMIT_S)]

BACKENDS = ("jax", "torch", "tensorflow")


@dataclass(frozen=True)
class Known:
    """A difference that is meant."""

    test: str
    """A pattern of the test's name."""
    error: str
    """What it ends with."""
    reason: str
    backends: tuple[str, ...] = BACKENDS


DIFFERENCES = (
    Known(
        r"TestEpochIterator::test_basic_flow_\w+",
        "AmbiguousCallError",
        "An EpochIterator that a program makes itself doesn't say whether it trains, so whether "
        "shuffle=True is to be followed can't be told.",
    ),
    Known(
        r"TestEpochIterator::test_python_generator_input",
        "AssertionError",
        "It asks for Keras's own adapter of generators.",
    ),
    Known(
        r"PyDatasetAdapterTest::test_exception_reported_\w+",
        "ValueError: Expected exception",
        "An exception of a loader arrives as itself; tf.data makes an InvalidArgumentError of it.",
        ("tensorflow",),
    ),
)


@pytest.fixture(scope="module")
def source():
    found = keras_tests.find_tests()
    if found is None:
        pytest.skip("the installed Keras ships no tests; KERAS_NPBATCH_KERAS_TESTS names a copy")
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_pass_but_for_known_differences(source, backend):
    known = [each for each in DIFFERENCES if backend in each.backends]
    found = keras_tests.compare(source, backend)
    assert found.same > 100
    assert found.refused == ()
    unknown = [each for each in found.differences if not any(is_it(k, each) for k in known)]
    assert not unknown, str(found)
    for each in known:  # one that is gone is to be struck from the table
        assert any(is_it(each, difference) for difference in found.differences), each


def is_it(known, difference):
    is_named = re.search(f"{known.test}$", difference.test) is not None
    return is_named and difference.message.startswith(known.error)


def test_batches_that_come_in_another_order_are_noticed(source, monkeypatch):
    monkeypatch.setenv("KERAS_NPBATCH_REVERSED", "1")
    found = keras_tests.compare(source, "jax", "test_basic_flow_single and false_false")
    assert found.differences
    assert not found.same, str(found)
