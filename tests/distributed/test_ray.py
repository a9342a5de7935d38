"""Ray Train with Keras's Torch backend: two processes of a Ray that is started for the test."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.distributed.launching import finish

pytest.importorskip("ray", reason="the extra `ray`")
pytest.importorskip("torch")
_HERE = Path(__file__).parent
_EXAMPLE = _HERE.parents[1] / "examples" / "ray_train.py"
_LIMIT_S = 200
N, EPOCHS = 50, 3


@pytest.mark.timeout(_LIMIT_S + 30)
def test_ray_trains_one_model_on_each_sample_once_and_its_example_runs(tmp_path):
    # Ray's sockets lie in its folder, and their names must be short.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        (done,) = finish(
            [[sys.executable, str(_HERE / "ray_ranks.py"), str(tmp_path), str(_EXAMPLE)]],
            [
                {
                    "RAY_ADDRESS": "local",
                    "RAY_TMPDIR": folder,
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "GLOO_SOCKET_IFNAME": "lo",
                    "OMP_NUM_THREADS": "1",
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                }
            ],
            limit_s=_LIMIT_S,
        )
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    for rank, found in enumerate(ranks):
        assert found["shard"] == found["context"] == [rank, 2]
        assert found["seen"] == found["rows"]
        assert found["digest"] == ranks[0]["digest"]
    orders = set()
    for epoch in range(EPOCHS):
        half = slice(epoch * N // 2, (epoch + 1) * N // 2)
        of_epoch = [found["seen"][half] for found in ranks]
        assert sorted(of_epoch[0] + of_epoch[1]) == list(range(N))
        orders.add(tuple(of_epoch[0]))
    assert len(orders) == EPOCHS
    for pattern in (
        r"after epoch 2: <ArrayDataset: 1437 samples in 12 batches of 64 .*Shard\(index=0, count=2",
        r"test accuracy: 0\.[4-9]",
        r"the model is in /.*storage",
    ):
        assert re.search(pattern, done.stdout), f"{pattern} is not in:\n{done.stdout}"
