"""What `TorchDataParallel` refuses in a process that is alone; tests/distributed has the others."""

from __future__ import annotations

import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import TorchDataParallel
from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError


def test_it_is_for_torch(backend):
    if backend == "torch":
        assert TorchDataParallel().averages_gradients
        return
    with pytest.raises(UnsupportedArgumentError) as caught:
        TorchDataParallel()
    assert str(caught.value) == (
        f"TorchDataParallel was made with Keras's backend {backend!r}; expected 'torch'. For JAX "
        "there is keras.distribution.DataParallel, for TensorFlow tf.distribute."
    )


def test_without_other_processes_it_says_how_to_start_them(backend, make_model, data):
    if backend != "torch":
        pytest.skip("TorchDataParallel")
    with pytest.raises(InvalidArgumentError) as caught:
        make_model().fit(ArrayDataset(*data()), verbose=0, callbacks=[TorchDataParallel()])
    assert str(caught.value) == (
        "TorchDataParallel found no torch.distributed process group; expected one. Call "
        "torch.distributed.init_process_group('gloo') first, and start the script with torchrun."
    )
