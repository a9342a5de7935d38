"""Your own training loop in several processes: DistributedDataParallel and a Torch module.

    KERAS_BACKEND=torch torchrun --standalone --nproc-per-node 2 examples/torch_loop.py

Iterate over the dataset itself: no `DataLoader`, no `DistributedSampler`. The loss is divided by
the sum of the sample weights of all processes, so that each sample of the last batch counts the
same as any other.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
import torch.distributed.nn  # before the group is made: its defaults would hold the group for ever
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
# Batches are padded to full size. Their third array holds the weights: 0 for each added row.
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
        rows = train.rows(step, epoch)  # the rows that this process has read
        seen[torch.from_numpy(rows.copy()).to(device)] += 1

distributed.all_reduce(seen)
with torch.no_grad():
    predicted = module(torch.from_numpy(x[is_test]).to(device)).argmax(1).cpu().numpy()
if rank == 0:
    print(f"{count} processes have seen each sample {seen.unique().tolist()} times")
    print(f"test accuracy of the loop: {(predicted == y[is_test]).mean():.3f}")
# Ends the threads of the group, unless something still holds the group, as `parallel` does. A
# thread that Python's end finds at work may abort the process.
del parallel, optimizer
distributed.destroy_process_group()
