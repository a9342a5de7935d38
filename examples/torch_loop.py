"""Several processes, a training loop of one's own: DistributedDataParallel around a Torch module.

    KERAS_BACKEND=torch torchrun --standalone --nproc-per-node 2 examples/torch_loop.py

A dataset is iterated over as it is; no `DataLoader`, no `DistributedSampler`. The loss is divided
by the weights of the samples of all processes, so that each sample counts alike in the last batch.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

is_on_gpu = torch.cuda.is_available()
if is_on_gpu:
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
device = "cuda" if is_on_gpu else "cpu"
distributed.init_process_group("nccl" if is_on_gpu else "gloo")
rank, count = distributed.get_rank(), distributed.get_world_size()

digits = load_digits()
x, y = (digits.data / 16.0).astype("float32"), digits.target
is_test = np.arange(len(x)) % 5 == 0
# Padded to full batches: the third array of a batch, 0 for each added sample.
train = npb.ArrayDataset(x[~is_test], y[~is_test], batch_size=64, seed=0, shard="auto")

torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)).to(
    device
)
parallel = DistributedDataParallel(module)
optimizer = torch.optim.Adam(parallel.parameters(), 0.002)
entropy = torch.nn.CrossEntropyLoss(reduction="none")
seen = torch.zeros((~is_test).sum(), device=device)

for epoch in range(arguments.epochs):
    for step, batch in enumerate(train):
        inputs, labels, weights = (torch.from_numpy(array).to(device) for array in batch)
        weight_of_all = weights.sum()
        distributed.all_reduce(weight_of_all)
        # DistributedDataParallel averages the gradients over the processes.
        losses = entropy(parallel(inputs), labels)
        loss = (losses * weights).sum() * count / weight_of_all
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows = train.rows(step, epoch)  # what this process has read
        seen[torch.from_numpy(rows.copy()).to(device)] += 1

distributed.all_reduce(seen)
with torch.no_grad():
    predicted = module(torch.from_numpy(x[is_test]).to(device)).argmax(1).cpu().numpy()
if rank == 0:
    print(f"{count} processes have seen each sample {seen.unique().tolist()} times")
    print(f"test accuracy of the loop: {(predicted == y[is_test]).mean():.3f}")
# It ends the threads of the group, unless something still holds the group, as `parallel` does.
del parallel, optimizer
distributed.destroy_process_group()
