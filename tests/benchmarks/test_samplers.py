"""No list of samplers lacks one: those that are measured, and those that strategies draw."""

from __future__ import annotations

import pytest
from hypothesis import find

from benchmarks import samplers as measured
from keras_npbatch.samplers import SAMPLERS
from keras_npbatch.testing import strategies


def test_every_sampler_is_measured_beside_shuffle():
    ours = {name for name, (package, _) in measured._SAMPLERS.items() if package is None}
    assert ours | {"Shuffle"} == {kind.__name__ for kind in SAMPLERS}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_is_drawn(kind):
    assert type(find(strategies.samplers(5), lambda drawn: type(drawn) is kind)) is kind
