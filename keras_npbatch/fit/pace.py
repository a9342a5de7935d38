"""Decides whether Keras's own loop has time to make batches while the model computes.

has_time_for(core.facts(plan))
"""

from __future__ import annotations

import keras

from keras_npbatch.batches.facts import Facts

__all__ = ["has_time_for"]


def has_time_for(facts: Facts) -> bool:
    """Whether an additional thread would gain nothing.

    On JAX the loop dispatches a step and continues. On a CPU the step occupies the cores, and work
    that the loop does meanwhile costs no more than the same work in a thread.
    """
    is_gathered = facts.are_gathered and facts.are_arrays and facts.is_in_memory
    if not is_gathered or keras.backend.backend() != "jax":
        return False
    from keras_npbatch.tensors import jax

    return jax.computes_on_cpu()
