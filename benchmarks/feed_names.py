"""Names of feeds that both the plan of a measurement and the feeds themselves refer to."""

FLOOR = "floor: one ready batch"
REFERENCE = "fit(x, y)"
BY_HAND = "take in the loop, by hand"
DEFAULT = "keras_npbatch, default (workers=1)"
