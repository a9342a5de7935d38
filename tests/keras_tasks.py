"""Every loss and weighted metric of Keras that looks at samples, with targets that they take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import losses, metrics

CLASSES = 3
# No share of a few rows is exactly this, so rounding can't decide on which side a metric stands.
BOUND = 0.4637


@dataclass(frozen=True)
class Task:
    """Targets and predictions of one kind, for positions of any number of axes."""

    targets: Any
    """`targets(rng, shape)` draws targets for positions of a shape."""
    activation: str | None = None
    """Of the layer that predicts them."""
    units: int = 1
    """Of that layer."""


def numbers(rng, shape):
    """No two rows have nearly the same: R2Score divides by their variance."""
    rows = math.prod(shape)
    steps = np.stack([rng.permutation(rows), rng.permutation(rows)], axis=-1)
    drawn = (3 * steps + rng.uniform(size=(rows, 2))) / rows
    return drawn.astype("float32").reshape(*shape, 2)


def positive(rng, shape):
    return rng.uniform(0.5, 2, size=(*shape, 2)).astype("float32")


def shares(rng, shape):
    drawn = rng.uniform(0.1, 1, size=(*shape, CLASSES)).astype("float32")
    return drawn / drawn.sum(-1, keepdims=True)


def one_hot(rng, shape):
    return np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, shape)]


def labels(rng, shape):
    return rng.integers(0, CLASSES, shape)


def labels_with_axis(rng, shape):
    return labels(rng, shape)[..., None]


def several_labels(rng, shape):
    return rng.integers(0, 2, (*shape, CLASSES))


def masks(rng, shape):
    return rng.integers(0, 2, (*shape, 1)).astype("uint8")


def signs(rng, shape):
    return rng.choice(np.array([-1, 1], "float32"), (*shape, 2))


REGRESSION = Task(numbers, units=2)
POSITIVE = Task(positive, "softplus", 2)
SHARES = Task(shares, "softmax", CLASSES)
ONE_HOT = Task(one_hot, "softmax", CLASSES)
LABELS = Task(labels, "softmax", CLASSES)
LABELS_WITH_AXIS = Task(labels_with_axis, "softmax", CLASSES)
SEVERAL_LABELS = Task(several_labels, "sigmoid", CLASSES)
MASKS = Task(masks, "sigmoid", 1)
SIGNS = Task(signs, "tanh", 2)

LOSSES = [
    (REGRESSION, losses.MeanSquaredError),
    (REGRESSION, losses.MeanAbsoluteError),
    (REGRESSION, losses.MeanAbsolutePercentageError),
    (REGRESSION, losses.Huber),
    (REGRESSION, losses.LogCosh),
    (REGRESSION, losses.CosineSimilarity),
    (POSITIVE, losses.MeanSquaredLogarithmicError),
    (POSITIVE, losses.Poisson),
    (SHARES, losses.KLDivergence),
    (SHARES, losses.CategoricalCrossentropy),
    (ONE_HOT, losses.CategoricalFocalCrossentropy),
    (ONE_HOT, losses.CategoricalHinge),
    (LABELS, losses.SparseCategoricalCrossentropy),
    (LABELS_WITH_AXIS, losses.SparseCategoricalCrossentropy),
    (SEVERAL_LABELS, losses.BinaryCrossentropy),
    (SEVERAL_LABELS, losses.BinaryFocalCrossentropy),
    (MASKS, losses.BinaryCrossentropy),
    (SIGNS, losses.Hinge),
    (SIGNS, losses.SquaredHinge),
    (REGRESSION, lambda: losses.MeanSquaredError(reduction="sum")),
    (LABELS, lambda: losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")),
]
"""Every loss of Keras that gives values for samples, each with targets that it is made for."""

METRICS = {
    REGRESSION: [
        *(metrics.MeanSquaredError, metrics.RootMeanSquaredError, metrics.MeanAbsoluteError),
        *(metrics.MeanAbsolutePercentageError, metrics.CosineSimilarity, metrics.LogCoshError),
        *(metrics.PearsonCorrelation, metrics.ConcordanceCorrelation),
    ],
    POSITIVE: [metrics.MeanSquaredLogarithmicError, metrics.Poisson],
    SHARES: [metrics.KLDivergence, metrics.CategoricalCrossentropy],
    ONE_HOT: [
        *(metrics.CategoricalAccuracy, metrics.CategoricalHinge),
        lambda: metrics.TopKCategoricalAccuracy(2),
        *(metrics.AUC, metrics.Precision, metrics.Recall, metrics.TruePositives),
        lambda: metrics.OneHotMeanIoU(CLASSES, dtype="float32"),
        lambda: metrics.OneHotIoU(CLASSES, [0], dtype="float32"),
        lambda: metrics.Precision(class_id=1),
    ],
    LABELS: [
        *(metrics.SparseCategoricalAccuracy, metrics.SparseCategoricalCrossentropy),
        lambda: metrics.SparseTopKCategoricalAccuracy(2),
        lambda: metrics.MeanIoU(CLASSES, sparse_y_pred=False, dtype="float32"),
        lambda: metrics.IoU(CLASSES, [0], sparse_y_pred=False, dtype="float32"),
    ],
    LABELS_WITH_AXIS: [
        metrics.SparseCategoricalAccuracy,
        lambda: metrics.MeanIoU(CLASSES, sparse_y_pred=False, dtype="float32"),
    ],
    SEVERAL_LABELS: [
        *(metrics.BinaryAccuracy, metrics.BinaryCrossentropy, metrics.AUC),
        *(metrics.FalsePositives, metrics.FalseNegatives, metrics.TrueNegatives),
        lambda: metrics.SensitivityAtSpecificity(BOUND),
        lambda: metrics.SpecificityAtSensitivity(BOUND),
        lambda: metrics.PrecisionAtRecall(BOUND),
        lambda: metrics.RecallAtPrecision(BOUND),
    ],
    MASKS: [
        metrics.BinaryAccuracy,
        metrics.AUC,
        lambda: metrics.BinaryIoU([0, 1], dtype="float32"),
    ],
    SIGNS: [metrics.Hinge, metrics.SquaredHinge],
}
FLAT_METRICS = {
    REGRESSION: [metrics.R2Score],
    ONE_HOT: [metrics.F1Score, lambda: metrics.FBetaScore("micro")],
    SEVERAL_LABELS: [
        lambda: metrics.F1Score(threshold=0.5),
        lambda: metrics.AUC(multi_label=True, num_labels=CLASSES),
    ],
}
"""Those that take targets of two axes alone."""

COUNTS = (metrics.TruePositives, metrics.FalsePositives)
COUNTS += (metrics.TrueNegatives, metrics.FalseNegatives)
"""Those that add weights up."""


def metrics_of(task, shape):
    """Each metric that takes such targets, for positions of a shape."""
    flat = () if shape else FLAT_METRICS.get(task, ())
    return [metric() for metric in (*METRICS[task], *flat)]
