"""Whose work it is that keeps the machine busy: workers are ours, however they were started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import keras_npbatch as npb
from benchmarks.neighbours import own_cpu_s
from keras_npbatch.workers.systems import this_system

TICKS_S = 0.03
"""The kernel counts in hundredths of a second, and each process's on its own."""


class Working(npb.BatchDataset):
    """Each batch takes the processor for a while, and tells for how long."""

    def load(self, rows):
        begin = time.process_time()
        while time.process_time() - begin < 0.1:
            pass
        return np.full(len(rows), time.process_time() - begin)


@pytest.mark.parametrize("start_method", this_system().start_methods[:2])
def test_the_work_of_worker_processes_is_our_own_while_they_live(start_method):
    with Working(
        6, batch_size=1, workers=2, use_multiprocessing=True, start_method=start_method
    ) as dataset:
        next(iter(dataset))
        before, own = own_cpu_s(), time.process_time()
        used = sum(float(batch[0]) for batch in dataset)
        mine = time.process_time() - own
        after = own_cpu_s()
    # The first iteration was left early, so that one or two batches of this one were made before.
    assert after - before >= used - 0.3 + mine - TICKS_S * 4
    assert after - before >= 0.25


def told_by(program):
    """What a program prints, in a session of its own, as a case is: nothing else is in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        return [float(number) for number in process.stdout.readline().split()]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        process.stdout.close()


def test_the_work_of_a_process_whose_parent_has_ended_is_our_own():
    (used,) = told_by("""
import os, sys, time
from benchmarks.neighbours import own_cpu_s
before = own_cpu_s()
done, say = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:  # its parent ends at once
        while time.process_time() < 0.4:
            pass
        os.write(say, b"!")
        time.sleep(60)
    os._exit(0)
os.wait()
os.read(done, 1)
print(own_cpu_s() - before, flush=True)
""")
    assert 0.4 - TICKS_S * 2 <= used < 60


def test_the_work_of_another_session_is_not_our_own():
    own, of_others = told_by("""
import subprocess, sys
from benchmarks.neighbours import Watch, own_cpu_s
watch, before = Watch(), own_cpu_s()
work = "while time.process_time() < 0.5: pass"
program = f"import sys, time\\n{work}\\nprint(flush=True)\\nsys.stdin.read()"
process = subprocess.Popen(
    [sys.executable, "-c", program],
    stdin=subprocess.PIPE,  # it ends when we do
    stdout=subprocess.PIPE,
    start_new_session=True,
)
process.stdout.readline()
print(own_cpu_s() - before, watch.cores(), flush=True)
process.wait()
""")
    assert own < 0.4
    assert of_others > 0
