"""The benchmark of checkpoints runs and gives figures; how large they are is not tested."""

import numpy as np

from experiments.benchmark import SUITES
from experiments.benchmarks import resume


def test_the_overhead_of_checkpoints_is_a_figure():
    (figure,) = resume.overhead(num_queries=20, num_candidates=30, num_events=400, batch_size=64, epochs=2, rounds=1)
    assert figure.name == "resume/overhead" and figure.name in SUITES["engine"]
    assert np.isfinite(figure.ratio) and min(figure.value, figure.reference, figure.ratio) > 0
