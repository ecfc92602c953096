"""The benchmarks of streaming run and give figures; their sizes and times are not those of the test."""

import math

from experiments.benchmarks import streaming


def assert_figures(figures, names):
    assert [figure.name for figure in figures] == names
    assert all(math.isfinite(figure.value) and figure.value > 0 and figure.ratio > 0 for figure in figures)


def test_a_streamed_epoch_is_measured_beside_one_on_the_device():
    figures = streaming.epoch(
        num_examples=2000, num_queries=50, num_candidates=20, dimension=4, batch_size=64, rounds=1
    )
    assert_figures(figures, ["stream/epoch"])


def test_the_memory_of_a_process_that_trains_out_of_core_is_measured():
    assert_figures(streaming.memory(num_examples=5000, num_queries=50, num_candidates=20, steps=3), ["stream/memory"])
