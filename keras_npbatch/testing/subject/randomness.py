"""The global generators of Python, NumPy and Torch: sets them for a read that they may decide.

    with rng.untouched():
        seed_all(0)
        dataset[3]

Those of TensorFlow and JAX are left alone: JAX has none, and the state of TensorFlow's can't be
read, so it could not be restored.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

__all__ = ["SEEDED_BY", "seed_all", "states"]

SEEDED_BY = {
    "random": "random.seed",
    "np.random": "np.random.seed",
    "torch": "torch.manual_seed",
}
"""The function that seeds each generator."""


def seed_all(seed: int, *, only: str | None = None, others: int = 0) -> None:
    """Set the global generators.

    Args:
        seed: the seed of all generators, or of the one named by `only`.
        only: a key of `SEEDED_BY`.
        others: the seed of the generators not named by `only`.
    """
    seeds = {name: seed if only in (None, name) else others for name in SEEDED_BY}
    random.seed(seeds["random"])
    np.random.seed(seeds["np.random"])  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        # Only that of the CPU, since that is what is restored.
        torch.default_generator.manual_seed(seeds["torch"])


def states() -> dict[str, Any]:
    """The state of each generator, in a form that can be compared."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    found: dict[str, Any] = {
        "random": random.getstate(),
        "np.random": (numpy[1].tobytes(), *numpy[2:]),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state().numpy().tobytes()
    return found
