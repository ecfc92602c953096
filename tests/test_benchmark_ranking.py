"""The benchmarks of ranking run, on small sizes: that figures come out, not what they are."""

import math

import pytest

from experiments.benchmarks import ranking


@pytest.mark.parametrize(
    ("benchmark", "names"),
    [
        (lambda: ranking.ranks(9, 300, 4), ["evaluate/ranks", "evaluate/ranks/memory"]),
        (lambda: ranking.exact_top_k(9, 300, 4, k=5), ["topk/exact"]),
        (lambda: ranking.movielens(30, 40, 90, 200), ["evaluate/movielens"]),
    ],
)
def test_figures_come_out(benchmark, names):
    figures = benchmark()
    assert [figure.name for figure in figures] == names
    for figure in figures:
        assert all(math.isfinite(number) and number > 0 for number in (figure.value, figure.reference, figure.ratio))
