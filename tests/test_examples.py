"""Every example runs on every backend, and says what it should.

By default the first runs, on one backend, since each takes long:
`pytest tests/test_examples.py -m more` runs the others and on the others, as `.ci/run` does.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import needs
from tests.jax_flags import quick_to_compile

_EXAMPLES = Path(__file__).parent.parent / "examples"
_LIMIT_S = 300

_SAYS = {
    "01_digits.py": [
        r"test accuracy: 0\.[5-9]",
        r"epoch 0: 1437 rows, 1437 different",
        r"sample 7 was in batch \d+ of epoch 2",
    ],
    "02_augmentation.py": [
        r"4 workers and 0 workers give the same weights, bit for bit",
        r"accuracy on 360 other digits: 0\.[5-9]",
        r"batch 5 of epoch 3: labels \[8, 0, 5, 2, 0, 0, 0, 7\]",
    ],
    "03_files.py": [
        r"test accuracy: 0\.[3-9]",
        r"keras_npbatch: raised by load\(rows\) at epoch 3, step \d+, rows \[",
    ],
    "04_tf_data.py": [
        r"23 batches of TensorSpec\(shape=\(None, 64\), dtype=tf.float32",
        r"after 3 epochs each sample was seen \[3\] times",
        r"test accuracy of the loop: 0\.[7-9]",
        r"the dataset has delivered 6 epochs",
    ],
    "05_statistics.py": [
        r"1437 samples of epoch 2",
        r"the digits of the last epoch: 0: 1\d\d, 1: 1\d\d, .*9: 1\d\d",
        r"the model saw each of 1437 samples once in 3 epochs",
        r"the picture is in .*data\.png",
    ],
    "06_waiting.py": [
        r"InputMonitor: training waits for data \d+% of the time: .* Most goes to reading: make "
        r"the dataset with workers=\d+, which is 0 now\.",
        r"with workers=\d+ each step waits \d+ ms for data, before \d+",
    ],
    "07_resume.py": [
        r"interrupted after step 9 of epoch 1",
        r"going on with epoch 1, step 10",
        r"interrupted and not interrupted: the same weights, bit for bit",
    ],
    "08_imbalanced.py": [
        r"frauds in the first balanced batches of 64: \[32, 32, 32, 32\]",
        r"shuffled: average precision 0\.\d+, mean probability [0-3]\.",
        r"balanced: average precision 0\.\d+, mean probability [1-9]\d\.",
        r"balanced, corrected: average precision 0\.\d+, mean probability [0-4]\.",
    ],
    "09_length_buckets.py": [
        r"Shuffle: [4-9]\d% padding",
        r"LengthBuckets: [1-3]?\d% padding, shapes \[16, 32, 64, 128, 256",
        r"padded to the longest of each batch it would be \d\.",
        r"padded to the longest sample, \d+\.\d% is padding",
    ],
    "10_cross_validation.py": [
        r"fold 4: \d+ rows and \d+, writers on both sides: 0, each row once: True",
        r"mean accuracy 0\.[6-9]",
    ],
    "11_image_folder.py": [
        r"ImageFolder\('.*photos', 300 images, 2 classes, size=\(48, 48\), color_mode='rgb', deco",
        r"test accuracy: (0\.[6-9]|1)",
        r"wrong about \d+ of 60 images, first of all \['\d\d\d\.jpg'",
        r"a broken file is told: keras_npbatch: raised by '/photos/china/007\.jpg' \(row 7\)",
    ],
    "12_semi_supervised.py": [
        r"loss 2\.\d+, then 1\.\d+",
        r"60 labels: [3-9]\d\.\d% of 500 other digits are right",
    ],
    "13_storage.py": [
        r"HDF5: test accuracy (0\.[6-9]|1)",
        r"all three storages: the same weights, bit for bit",
    ],
}

_BY_DEFAULT = {"01_digits.py": "tensorflow"}


def test_every_example_is_tested():
    """Those without a number train in several processes: tests/distributed runs them."""
    assert sorted(_SAYS) == sorted(path.name for path in _EXAMPLES.glob("[0-9]*.py"))
    assert _BY_DEFAULT.keys() <= _SAYS.keys()
    tests = "".join(
        path.read_text() for path in (Path(__file__).parent / "distributed").glob("test_*.py")
    )
    for path in _EXAMPLES.glob("[!0-9]*.py"):
        assert f'"{path.name}"' in tests


def _runs():
    for example, backend in itertools.product(sorted(_SAYS), ("tensorflow", "jax", "torch")):
        is_default = _BY_DEFAULT.get(example) == backend
        marks = [needs(backend), *([] if is_default else [pytest.mark.more])]
        yield pytest.param(example, backend, marks=marks)


@pytest.mark.timeout(_LIMIT_S + 30)
@pytest.mark.parametrize(("example", "backend"), list(_runs()))
def test_example_runs(example, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend == "jax":
        environment |= quick_to_compile()
    result = subprocess.run(
        [sys.executable, str(_EXAMPLES / example), "--epochs", "3"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for pattern in _SAYS[example]:
        assert re.search(pattern, result.stdout), f"{pattern} is not in:\n{result.stdout}"
