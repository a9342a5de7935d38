"""`TorchDataParallel`: processes that train one model together, with Keras's Torch backend.

    torch.distributed.init_process_group("gloo")
    train = ArrayDataset(x, y, batch_size=64, shard="auto")
    model.fit(train, epochs=10, callbacks=[TorchDataParallel()])

Up to version 3.15, Keras's Torch trainer does not know about other processes: each would train its
own model. This callback makes them equal where Keras allows it: weights when training begins,
gradients where the optimizer takes them, metrics when an epoch ends. Later versions average the
gradients and sum all metrics; the callback does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError
from keras_npbatch.fit.call import find_call

__all__ = ["TorchDataParallel"]


class TorchDataParallel(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Train one model in all processes of `torch.distributed`, with `fit` and the Torch backend.

    If the dataset has a `shard`, training equals that of one process with the same global batch:

    - When training begins, all processes take the weights and optimizer state of the first one.
    - At each step, the optimizer gets the mean of the gradients of all processes (from Keras 3.16
      on, Keras itself averages them).
    - When an epoch ends, the metrics of all samples are written to `logs`, the same on every
      process, so that callbacks such as `EarlyStopping` decide the same everywhere. So put this
      callback first in the list. Up to Keras 3.15 the progress bar shows the metrics of one process
      until then. The variables of a metric are combined by their `aggregation`, nearly always
      their sum.
    - Weights that are not trained, such as the moving statistics of `BatchNormalization`, are
      averaged at the end of each epoch and before validation.

    Within an epoch, a process may see the loss of its own part only. A callback that ends training
    there (`TerminateOnNaN`, or one that sets `stop_training` in `on_train_batch_end`) does so on
    one process only, and the others fail or wait: let it raise an exception instead, as `NaNReport`
    does.

    If the batches of a step differ in size (`remainder="keep"` or `"spread"`), the mean of each
    process has equal weight, as in `DistributedDataParallel`; with `"pad"` and `"drop"`, each
    sample has. Only one process should write files: give `ModelCheckpoint` to the first.

    With a dataset without a shard, `evaluate` runs on this process alone. With a shard, Keras up to
    3.15 returns the metrics of what this process has read; later versions return those of all
    processes, so all of them must call it.

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
        self.__dict__[ATTRIBUTE] = _Metrics()

    def __getstate__(self) -> dict[str, Any]:
        """The state without the model of a `fit`, for copies and pickles."""
        return self.__dict__ | {"_model": None}

    def on_train_begin(self, logs: Any = None) -> None:
        """Take the weights of the first process, and make the optimizer average all gradients.

        Raises:
            InvalidArgumentError: if there is no process group, or another callback comes first.
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
        self.__dict__[ATTRIBUTE] = _Metrics(is_fit=True)
        optimizer = self.model.optimizer
        _from_first([*self.model.weights, *optimizer.variables])
        # An instance's own `apply` takes precedence over that of its class. One may be left from a
        # `fit` that ended with an exception.
        if isinstance(optimizer.apply, _Averaging):
            del optimizer.apply
        if not torch_trainer.averages_gradients(self.model):
            optimizer.apply = _Averaging(optimizer.apply)

    def on_test_begin(self, logs: Any = None) -> None:
        """Store the training metrics before validation in `fit`, which resets them."""
        metrics = _metrics_in(self)
        if metrics.is_fit:
            _average_floats(self.model.non_trainable_weights)
            metrics.training = _metrics_of_all(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        """Store the metrics of validation."""
        metrics = _metrics_in(self)
        if metrics.is_fit:
            metrics.validation = _metrics_of_all(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the metrics of all processes to `logs`, for the callbacks that follow."""
        metrics = _metrics_in(self)
        if not metrics.training:
            _average_floats(self.model.non_trainable_weights)
            metrics.training = _metrics_of_all(self.model)
        of_validation = {f"val_{name}": value for name, value in metrics.validation.items()}
        found = metrics.training | of_validation
        if logs is not None:
            logs.update({name: found[name] for name in logs if name in found})
        metrics.training, metrics.validation = {}, {}

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the optimizer."""
        _metrics_in(self).is_fit = False
        if isinstance(self.model.optimizer.apply, _Averaging):
            del self.model.optimizer.apply


@dataclass(slots=True)
class _Metrics:
    """What the callback keeps, in one attribute: its namespace belongs to those who subclass it."""

    is_fit: bool = False
    """Whether a `fit` is running: validation outside of one is left alone."""
    training: dict[str, Any] = field(default_factory=dict)
    """The metrics of all processes, before validation resets them."""
    validation: dict[str, Any] = field(default_factory=dict)


def _metrics_in(callback: TorchDataParallel) -> _Metrics:
    metrics: _Metrics = vars(callback)[ATTRIBUTE]
    return metrics


def _metrics_of_all(model: Any) -> dict[str, Any]:
    from keras_npbatch.distributed import torch_trainer

    return torch_trainer.metrics_of_all(model)


class _Averaging:
    """`optimizer.apply` on the mean of the gradients of all processes.

    It runs before the optimizer's own clipping and accumulation, which therefore get the gradients
    that one process would have with the global batch.
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
    """Replace each tensor by its mean over all processes."""
    import torch
    from torch import distributed

    count = distributed.get_world_size()
    with torch.no_grad():
        # All run at once, in the order of the model's weights, which is the same on all processes.
        pairs = [(tensor, distributed.all_reduce(tensor, async_op=True)) for tensor in tensors]
        for tensor, work in pairs:
            work.wait()
            tensor.div_(count)


def _average_floats(variables: Iterable[Any]) -> None:
    _average([each.value.data for each in variables if each.value.is_floating_point()])


def _from_first(variables: Iterable[Any]) -> None:
    """Replace the value of each variable by that of the first process."""
    from torch import distributed

    for variable in variables:
        distributed.broadcast(variable.value.data, 0)
