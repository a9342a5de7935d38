"""Two processes that Ray Train starts, and then its example; started by test_ray.py.

    python ray_ranks.py FOLDER EXAMPLE

Each process writes what its model was trained on into FOLDER.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

N, GLOBAL_BATCH, EPOCHS = 50, 8, 3


def train_on_each(settings):
    """Imports for itself: Ray starts it afresh, with the function alone."""
    import hashlib
    import json
    import os
    from pathlib import Path

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy as np
    import ray.train

    import keras_npbatch as npb

    context = ray.train.get_context()
    seen = []

    def loss(ids, predicted):
        """Notes the ids, as they are trained on."""
        if predicted.requires_grad and not ids.is_meta:
            seen.extend(ids.detach().flatten().tolist())
        return keras.ops.square(predicted - keras.ops.sin(keras.ops.cast(ids, "float32")))

    ids = np.arange(settings["n"])
    dataset = npb.ArrayDataset(
        ids[:, np.newaxis].astype("float32") / 50,
        ids[:, np.newaxis],
        batch_size=settings["global_batch"] // context.get_world_size(),
        # Without a seed, and a different one in each process: they must agree on one.
        shard="auto",
        remainder="keep",
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    # Only what is trained on: Keras calls the loss once to build.
    begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.clear())
    model.fit(
        dataset,
        epochs=settings["epochs"],
        verbose=0,
        callbacks=[npb.callbacks.TorchDataParallel(), begin],
    )
    weights = b"".join(map(np.ndarray.tobytes, model.get_weights()))
    found = {
        "seen": seen,
        "shard": [dataset.plan.shard.index, dataset.plan.shard.count],
        "context": [context.get_world_rank(), context.get_world_size()],
        "digest": hashlib.sha256(weights).hexdigest(),
        "rows": [
            row
            for epoch in range(settings["epochs"])
            for step in range(len(dataset))
            for row in dataset.rows(step, epoch).tolist()
        ],
    }
    path = Path(settings["folder"]) / f"rank-{context.get_world_rank()}.json"
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    folder, example = map(Path, sys.argv[1:])
    settings = {"n": N, "global_batch": GLOBAL_BATCH, "epochs": EPOCHS, "folder": str(folder)}
    TorchTrainer(
        train_on_each,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(folder / "storage")),
    ).fit()
    sys.argv = [str(example), "--epochs", "3", "--storage", str(folder / "storage")]
    runpy.run_path(str(example), run_name="__main__")
