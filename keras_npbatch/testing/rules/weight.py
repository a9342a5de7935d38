"""The rule about sample weights: Keras must take them as weights of samples."""

from __future__ import annotations

from collections.abc import Iterator

from keras_npbatch.batches.parts import unpack
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.rules.structure import all_batches_have_one_structure, lengths_agree
from keras_npbatch.testing.subject.subject import NotChecked, Subject
from keras_npbatch.tree import leaves, leaves_with_paths

__all__ = ["weights_have_the_axes_of_their_targets"]


@rule(
    why="Keras aligns weights with the last axes of a loss: weights (n,) would weigh the positions "
    "of a loss (n, time), in silence where there are as many as samples, and fail elsewhere.",
    mend="Give the weights an axis of size 1 for each further axis of the loss: "
    "sample_weight[:, None], or weigh each position.",
    after=(all_batches_have_one_structure, lengths_agree),
)
def weights_have_the_axes_of_their_targets(subject: Subject) -> Iterator[str]:
    """Weights have at least as many axes as the values of Keras's losses for such targets."""
    batch = subject.read(subject.at_epoch(0), 0)
    parts = unpack(batch, "dataset[0]")
    weights, targets = leaves_with_paths(parts.sample_weight, "sample_weight"), leaves(parts.y)
    if not weights or not targets:
        raise NotChecked("the batches have no sample_weight")
    if len(weights) == 1 < len(targets):
        weights = weights * len(targets)
    if len(weights) != len(targets):
        raise NotChecked("sample_weight is not nested as y is")
    pads = subject.is_ours and subject.dataset.plan.remainder == "pad"
    for (path, weight), target in zip(weights, targets, strict=True):
        least = len(target.shape) - 1
        # Integers (n, k) may be the classes of k positions, or k numbers of one sample.
        may_be_classes = least == 1 and target.shape[1] > 1 and "int" in str(target.dtype)
        if pads and may_be_classes:
            least = 2
        if len(weight.shape) < least:
            yield (
                f"{path} has the shape {tuple(weight.shape)} for targets of shape "
                f"{tuple(target.shape)}; expected at least {least} axes"
            )
