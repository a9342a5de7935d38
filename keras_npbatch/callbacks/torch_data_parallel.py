"""`TorchDataParallel`: processes that train one model together, with Keras's Torch backend.

    torch.distributed.init_process_group("gloo")
    train = ArrayDataset(x, y, batch_size=64, shard="auto")
    model.fit(train, epochs=10, callbacks=[TorchDataParallel()])

Up to version 3.15, Keras's Torch trainer knows nothing of other processes: each would train a model
of its own. What must be alike is made so where Keras offers a place: weights when training begins,
gradients where the optimizer takes them, metrics when an epoch ends. Later versions average the
gradients, and sum all metrics; the rest is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError
from keras_npbatch.fit.call import find_call

__all__ = ["TorchDataParallel"]


class TorchDataParallel(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Train one model in all processes of `torch.distributed`, with `fit` and the Torch backend.

    With a dataset that has a `shard`, training is that of one process with the same global batch:

    - As training begins, all take the weights and the optimizer of the first process.
    - At each step, the optimizer gets the mean of the gradients of all processes (from Keras 3.16
      on Keras itself sees to that).
    - As an epoch ends, `logs` get the metrics of all samples, on every process the same, so that
      `EarlyStopping` and the like decide alike; this callback therefore comes first in the list.
      Up to Keras 3.15 the progress bar shows those of one process until then. A metric's variables
      are put together as they say (`aggregation`, nearly always their sum).
    - Weights that are not trained, such as the moving statistics of `BatchNormalization`, are
      averaged as an epoch ends, and before validation.

    Within an epoch a process may see the loss of its own part alone. A callback that ends training
    there (`TerminateOnNaN`, `stop_training` set in `on_train_batch_end`) does so on one process
    alone, and the others fail or wait: let it raise an exception instead, as `NaNReport` does.

    Where the batches of a step differ in size (`remainder="keep"` or `"spread"`) each process's
    mean counts alike, as in `DistributedDataParallel`; with `"pad"` and `"drop"` each sample does.
    Only one process should write files: give `ModelCheckpoint` to the first.

    A process that gives `evaluate` a dataset without a shard evaluates alone. With a shard, Keras
    up to 3.15 returns the metrics of what this process has read; later versions return those of
    all, so all processes must call it.

    Example:

    ```python
    # torchrun --nproc-per-node 2 script.py
    torch.distributed.init_process_group("gloo")     # "nccl" for GPUs
    train = keras_npbatch.ArrayDataset(x, y, batch_size=64, shard="auto")
    test = keras_npbatch.ArrayDataset(xt, yt, batch_size=64, shard="auto")
    model.fit(
        train,
        validation_data=test,
        epochs=10,
        callbacks=[keras_npbatch.callbacks.TorchDataParallel()],
    )
    ```

    Raises:
        UnsupportedArgumentError: if Keras's backend is not Torch.
    """

    averages_gradients = True

    def __init__(self) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise UnsupportedArgumentError(
                f"TorchDataParallel was made with Keras's backend {keras.backend.backend()!r}; "
                "expected 'torch'. For JAX there is keras.distribution.DataParallel, for "
                "TensorFlow tf.distribute."
            )
        self._training: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._is_fit = False

    def __getstate__(self) -> dict[str, Any]:
        """Copied and pickled without the model of a `fit`."""
        return self.__dict__ | {"_model": None}

    def on_train_begin(self, logs: Any = None) -> None:
        """Take the weights of the first process, and let the optimizer ask for all gradients.

        Raises:
            InvalidArgumentError: if there are no other processes, or another callback comes first.
        """
        from torch import distributed

        from keras_npbatch.distributed import torch_trainer

        if not distributed.is_available() or not distributed.is_initialized():
            raise InvalidArgumentError(
                "TorchDataParallel found no torch.distributed process group; expected one. Call "
                "torch.distributed.init_process_group('gloo') first, and start the script with "
                "torchrun."
            )
        _refuse_another_first(self)
        self._is_fit = True
        self._training, self._validation = {}, {}
        optimizer = self.model.optimizer
        _from_first([*self.model.weights, *optimizer.variables])
        # An instance's own `apply` goes before that of its class. One may be left of a `fit` that
        # has ended with an exception.
        if isinstance(optimizer.apply, _Averaging):
            del optimizer.apply
        if not torch_trainer.averages_gradients(self.model):
            optimizer.apply = _Averaging(optimizer.apply)

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation begins in `fit`: Keras is about to reset the metrics of training."""
        if self._is_fit:
            _average_floats(self.model.non_trainable_weights)
            self._training = _metrics_of_all(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        """Note the metrics of validation."""
        if self._is_fit:
            self._validation = _metrics_of_all(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put the metrics of all processes into `logs`, for the callbacks that follow."""
        if not self._training:
            _average_floats(self.model.non_trainable_weights)
            self._training = _metrics_of_all(self.model)
        found = self._training | {f"val_{name}": value for name, value in self._validation.items()}
        if logs is not None:
            logs.update({name: found[name] for name in logs if name in found})
        self._training, self._validation = {}, {}

    def on_train_end(self, logs: Any = None) -> None:
        """Let the optimizer be what it was."""
        self._is_fit = False
        if isinstance(self.model.optimizer.apply, _Averaging):
            del self.model.optimizer.apply


def _metrics_of_all(model: Any) -> dict[str, Any]:
    from keras_npbatch.distributed import torch_trainer

    return torch_trainer.metrics_of_all(model)


class _Averaging:
    """`optimizer.apply` on the mean of the gradients of all processes.

    It stands before the optimizer's own clipping and accumulation, which then see what those of
    one process with the global batch would.
    """

    def __init__(self, apply: Callable[..., Any]) -> None:
        self.apply = apply

    def __call__(self, grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        _average([gradient for gradient in grads if gradient is not None])
        return self.apply(grads, trainable_variables)


def _refuse_another_first(callback: TorchDataParallel) -> None:
    call = find_call()
    given = getattr(call.arguments.get("callbacks"), "callbacks", ()) if call is not None else ()
    if given and given[0] is not callback:
        raise InvalidArgumentError(
            f"TorchDataParallel comes after {type(given[0]).__name__} in callbacks; expected it "
            "first: those before it get other metrics on each process, and if one of them ends "
            "training there, the others wait forever. Put it first."
        )


def _average(tensors: Iterable[Any]) -> None:
    """Put the mean of all processes in the place of each tensor."""
    import torch
    from torch import distributed

    count = distributed.get_world_size()
    with torch.no_grad():
        # All at once under way; in the order of the model's weights, which is the same on all.
        pairs = [(tensor, distributed.all_reduce(tensor, async_op=True)) for tensor in tensors]
        for tensor, work in pairs:
            work.wait()
            tensor.div_(count)


def _average_floats(variables: Iterable[Any]) -> None:
    _average([each.value.data for each in variables if each.value.is_floating_point()])


def _from_first(variables: Iterable[Any]) -> None:
    """Put the value that the first process has in the place of each variable."""
    from torch import distributed

    for variable in variables:
        distributed.broadcast(variable.value.data, 0)
