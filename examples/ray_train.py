"""Ray Train: the same script on one machine and on a cluster.

    pip install 'keras_npbatch[ray,torch,examples]'
    python examples/ray_train.py --processes 2
    RAY_ADDRESS=auto python examples/ray_train.py --processes 32 --storage s3://...  # on a cluster

Ray starts the processes wherever there is room and connects them with torch.distributed, where
`shard="auto"` finds them. Each process reads its part of every global batch of 128 samples.
"""

import argparse
import os
import tempfile

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--processes", type=int, default=2)
parser.add_argument("--storage", help="a folder, or s3://..., that all machines can write to")
arguments = parser.parse_args()


def train_on_each(settings):
    """Run in each process. It has its own imports, since Ray starts a fresh process."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy as np
    import ray.train
    from sklearn.datasets import load_digits

    import keras_npbatch as npb

    count = ray.train.get_context().get_world_size()
    digits = load_digits()
    x, y = (digits.images / 16.0).astype("float32"), digits.target.astype("int32")
    is_test = np.arange(len(x)) % 5 == 0
    batch_size = 128 // count
    train = npb.ArrayDataset(x[~is_test], y[~is_test], batch_size=batch_size, seed=0, shard="auto")
    test = npb.ArrayDataset(x[is_test], y[is_test], batch_size=batch_size, shard="auto")

    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # Padded rows weigh nothing in a weighted metric.
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])

    def report(epoch, logs):
        """Report the metrics to Ray; the first process saves the model, which all have."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if train.plan.shard.index == 0:
                model.save(f"{folder}/model.keras")
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({**logs, "epoch": epoch, "plan": repr(train)}, checkpoint)

    model.fit(
        train,
        validation_data=test,
        epochs=settings["epochs"],
        verbose=0,
        callbacks=[
            npb.callbacks.TorchDataParallel(),  # first in the list
            keras.callbacks.LambdaCallback(on_epoch_end=report),
        ],
    )


if __name__ == "__main__":
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        train_on_each,
        train_loop_config={"epochs": arguments.epochs},
        scaling_config=ScalingConfig(num_workers=arguments.processes),
        run_config=RunConfig(storage_path=arguments.storage),
    )
    result = trainer.fit()
    print(f"after epoch {result.metrics['epoch']}: {result.metrics['plan']}")
    print(f"test accuracy: {result.metrics['val_accuracy']:.3f}")
    print(f"the model is in {result.checkpoint.path}")
