"""What becomes of worker processes that are killed, stopped and crashed at random, for long.

python -m benchmarks soak --minutes 15

Epoch after epoch is read by two or three worker processes, of each start method, while another
thread sends SIGKILL, SIGSEGV, SIGSTOP (half of them with a SIGCONT soon after) to a worker or to
the process that forks workers, and now and then Ctrl-C to the reader. Each batch is compared with
what it must be. After each round no process, thread or descriptor may be left.

It asks no question of speed, so it is none of those that run without a name.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np
import psutil

from keras_npbatch import BatchDataset
from keras_npbatch.batches.core import core_of
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.systems import this_system

_ROWS, _BATCH, _WIDTH = 600, 8, 4096
_EPOCHS_A_ROUND = 8
_TIMEOUT_S = 2.0
_HANGS_AFTER_S = 90.0
"""A batch that takes so long is a hang: the stacks of all threads are printed, and it ends."""
_BETWEEN_S = (0.1, 1.2)
_SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
_INTERRUPTED = 0.03
"""Of the signals, so many go to the reader, as Ctrl-C."""
_TO_THE_TEMPLATE = 0.25
"""Of the others, so many go to the process that forks workers, or to a worker that starts."""


class Rows(BatchDataset):
    """Batches that can be checked: each value tells its row and epoch."""

    def load(self, rows):
        time.sleep(0.002)
        return content(rows, self.epoch), rows


def content(rows, epoch):
    return np.repeat((rows + 1000 * epoch)[:, np.newaxis], _WIDTH, 1).astype("float64")


class Trouble(threading.Thread):
    """Sends signals until it is told that it is over."""

    def __init__(self, seed: int, interrupts: bool) -> None:
        super().__init__(name="trouble", daemon=True)
        self.sent: Counter[str] = Counter()
        self.over = threading.Event()
        self.dataset: Rows | None = None
        self._rng = random.Random(seed)
        self._interrupts = interrupts

    def run(self) -> None:
        while not self.over.wait(self._rng.uniform(*_BETWEEN_S)):
            if self._interrupts and self._rng.random() < _INTERRUPTED:
                self.sent["Ctrl-C"] += 1
                os.kill(os.getpid(), signal.SIGINT)
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                self._strike()

    def workers(self) -> list[int]:
        pool = None if self.dataset is None else core_of(self.dataset).part(Executor).pool
        return [] if pool is None else pool.pids

    def _strike(self) -> None:
        workers = self.workers()
        role = "template" if self._rng.random() < _TO_THE_TEMPLATE else "worker"
        victims = [
            child
            for child in psutil.Process().children(recursive=True)
            if (child.pid in workers) == (role == "worker")
        ]
        if not victims:
            return
        victim = self._rng.choice(victims)
        number = self._rng.choice(_SIGNALS)
        victim.send_signal(number)
        self.sent[f"{number.name} {role}"] += 1
        if number == signal.SIGSTOP and self._rng.random() < 0.5:
            time.sleep(self._rng.uniform(0.01, 0.6))
            victim.send_signal(signal.SIGCONT)
            self.sent[f"SIGCONT {role}"] += 1


class Soak:
    """All rounds, and what they came to."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.epochs = self.batches = self.rounds = self.interrupted = 0
        self.longest_s = 0.0

    def round(self, trouble: Trouble, until: float) -> None:
        methods = this_system().start_methods
        method = self.rng.choice([methods[0], *methods])
        dataset = Rows(
            _ROWS,
            batch_size=_BATCH,
            seed=self.rng.randrange(1000),
            workers=self.rng.choice([2, 3]),
            use_multiprocessing=True,
            start_method=method,
            timeout=_TIMEOUT_S,
        )
        self.rounds += 1
        trouble.dataset = dataset
        try:
            with dataset:
                for _ in range(_EPOCHS_A_ROUND):
                    self._epoch(dataset)
                    if time.monotonic() > until:
                        return
        except KeyboardInterrupt:
            self.interrupted += 1
            dataset.close()

    def _epoch(self, dataset: Rows) -> None:
        epoch, began, step = dataset.epoch, time.monotonic(), -1
        for step, (x, rows) in enumerate(dataset):
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
            np.testing.assert_array_equal(rows, dataset.rows(step, epoch))
            np.testing.assert_array_equal(x, content(rows, epoch))
            self.batches += 1
            began = time.monotonic()
        if step + 1 != len(dataset):
            raise AssertionError(f"epoch {epoch} has {step + 1} of {len(dataset)} batches")
        self.epochs += 1


def left_behind(descriptors: int, threads: int) -> str:
    """What is still there some seconds after a round, and was not there before."""
    until = time.monotonic() + 5
    while True:
        own = psutil.Process()
        found = own.children(recursive=True)
        more = own.num_fds() - descriptors, threading.active_count() - threads
        if not found and max(more) <= 0:
            return ""
        if time.monotonic() > until:
            return f"processes {found}, {more[0]} descriptors, {more[1]} threads"
        time.sleep(0.02)


def main(arguments: list[str]) -> int:
    """Soaks; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--no-interrupts", action="store_true", help="no Ctrl-C to the reader")
    parsed = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
    soak, trouble = Soak(parsed.seed), Trouble(parsed.seed, not parsed.no_interrupts)
    until = time.monotonic() + 60 * parsed.minutes
    before: tuple[int, int] | None = None
    memory: list[int] = []
    wrong = ""
    while trouble.is_alive() or before is None:
        try:
            if before is None:
                soak.round(trouble, until)
                # What is opened once and for good has been opened.
                before = psutil.Process().num_fds(), threading.active_count() + 1
                trouble.start()
            elif time.monotonic() < until and not wrong:
                soak.round(trouble, until)
            else:
                trouble.over.set()
                trouble.join()
                break
            wrong = left_behind(*before)
            memory.append(psutil.Process().memory_info().rss >> 20)
        except KeyboardInterrupt:
            soak.interrupted += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"seed {parsed.seed}: {soak.rounds} rounds, {soak.epochs} epochs, {soak.batches} batches")
    print("signals:", ", ".join(f"{name} {count}" for name, count in sorted(trouble.sent.items())))
    print(f"longest wait for a batch: {soak.longest_s:.1f} s; interrupted {soak.interrupted} times")
    told = [memory[0], memory[len(memory) // 2], memory[-1]]
    print(f"memory after the first, a middle and the last round: {told} MB")
    print("WRONG: left behind " + wrong if wrong else "nothing was lost, changed or left behind")
    sys.stdout.flush()
    return int(bool(wrong))
