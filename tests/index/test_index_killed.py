"""A process that saves an index over another again and again is killed: one of the two is there, whole."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from retrieval.index import ExactIndex, HnswIndex, load

SAVES = """
import itertools, sys
import numpy as np
from retrieval.index import ExactIndex, HnswIndex
first = HnswIndex.build(np.random.default_rng(0).standard_normal((3000, 16)), M=8, ef_construction=10, ef=10, seed=0)
second = ExactIndex.build(np.random.default_rng(1).standard_normal((2000, 16)))
print("ready", flush=True)
for index in itertools.cycle([first, second]):
    index.save(sys.argv[1])
"""


def kill_and_load(folder, seed):
    process = subprocess.Popen([sys.executable, "-c", SAVES, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 + np.random.default_rng(seed).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
    return load(folder)


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 23), marks=pytest.mark.slow)])
def test_a_killed_save_leaves_one_index_or_the_other(tmp_path, seeds):
    ExactIndex.build(np.eye(3)).save(tmp_path)
    for seed in seeds:
        index = kill_and_load(tmp_path, seed)
        sizes = {HnswIndex: (3000,), ExactIndex: (2000, 3)}
        assert len(index) in sizes[type(index)]
        assert index.search(index.embeddings[:5], 3)[1].min() >= 0
    index.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 + len(index.parts()[1])  # what was left behind is gone
