"""Benchmarks return measurements; tests do not check how fast they are."""

import importlib.util
import sys

import numpy as np
import pytest

import retrieval
from experiments.benchmark import SUITES
from experiments.benchmarks import (
    baselines,
    evaluation,
    index,
    jobs,
    loading,
    losses,
    optimizer,
    peers,
    ranking,
    replicas,
    resume,
    streaming,
    uncertainty,
)
from experiments.benchmarks.measure import run_alone, seconds, share, times_better
from retrieval.index import ExactIndex


@pytest.fixture(scope="module")
def recipe():
    rng = np.random.default_rng(0)
    events = retrieval.Interactions(rng.integers(0, 20, 60), rng.integers(0, 10, 60))
    return retrieval.prepare(retrieval.Config(), events, retrieval.Table(np.arange(10)))


def check(measurements, *names):
    assert tuple(measurement.name for measurement in measurements) == names
    assert all(
        np.isfinite(measurement.ratio) and measurement.value > 0 and measurement.reference > 0
        for measurement in measurements
    )


@pytest.mark.slow
def test_losses(recipe):
    check(losses.folded(recipe.examples, batch_size=32, dimension=4), "loss/folded", "loss/folded/memory")
    check(losses.blocked(batch_size=32, dimension=4), "loss/blocked", "loss/blocked/memory")
    check(losses.epoch(recipe, batch_size=32, rounds=1), "epoch/tutorial")


def test_a_command_is_measured_alone_however_large_the_suite_is():
    held = bytearray(b"x") * (300 * 2**20)
    took, peak = run_alone([sys.executable, "-S", "-c", "held = bytearray(b'x') * (50 * 2**20); print('to nowhere')"])
    del held
    assert 0 < took < 60 and 50 * 2**20 < peak < 150 * 2**20
    with pytest.raises(RuntimeError, match="ended with status 3"):
        run_alone([sys.executable, "-S", "-c", "raise SystemExit(3)"])


def test_optimizer():
    check(optimizer.touched_rows(many=100, few=10, dimension=4, batch_size=8, steps=2), "optimizer/touched_rows")


@pytest.mark.slow
def test_replicas(recipe):
    names = ("replicas/batch_32", "replicas/batch_32/epoch")
    check(replicas.together([recipe, recipe], batch_sizes=(32,), epochs=3, rounds=1), *names)


@pytest.mark.slow
def test_streaming():
    sizes = {"num_queries": 50, "num_candidates": 20}
    check(streaming.epoch(num_examples=2000, **sizes, dimension=4, batch_size=64, rounds=1), "stream/epoch")
    check(streaming.memory(num_examples=5000, **sizes, steps=3), "stream/memory")


def test_uncertainty():
    names = ("uncertainty/bootstrap", "uncertainty/bootstrap/seconds")
    check(uncertainty.bootstrap(num_queries=20, num_metrics=4, resamples=10, looped=2), *names)


@pytest.mark.slow
def test_evaluation():
    check(evaluation.movielens(ks=(5,), resamples=4, rounds=1), "evaluation/tutorial", "evaluation/loop")


@pytest.mark.slow
def test_large_baselines():
    names = ("baselines/item_knn_cosine", "baselines/ease", "baselines/ease/memory")
    check(baselines.large(40, 110, 600, names=("item_knn_cosine", "ease")), *names)


def test_ials_is_measured_beside_implicit_or_says_what_is_missing():
    if importlib.util.find_spec("implicit"):
        check(baselines.implicit_als(rounds=1), "baselines/ials")
    else:
        with pytest.raises(ImportError, match="pip install -e '.\\[bench\\]'"):
            baselines.implicit_als()


def test_ranking():
    check(ranking.ranks(9, 300, 4), "evaluate/ranks", "evaluate/ranks/memory")
    check(ranking.exact_top_k(9, 300, 4, k=5), "topk/exact")
    check(ranking.movielens(30, 40, 90, 200), "evaluate/movielens")


@pytest.mark.slow
def test_checkpoints():
    sizes = {"num_queries": 20, "num_candidates": 30, "num_events": 400, "batch_size": 64, "epochs": 2, "rounds": 1}
    check(resume.overhead(**sizes), "resume/overhead")


@pytest.mark.slow
def test_jobs():
    rows = ("", "/compilation", "/memory")
    names = [f"run/movielens_100k{first}{row}" for first in ("", "/first") for row in rows]
    check(jobs.movielens("configs/synthetic.py", rounds=1), *names)


def test_every_row_of_the_suite_has_its_own_function():
    functions = [run for suite in SUITES.values() for run in suite.values()]
    assert len(set(functions)) == len(functions)


def test_a_ratio_above_one_is_faster_or_dearer_as_the_measurement_says():
    assert times_better("a", 1.0, 8.0, "seconds", "plain", 4).ratio == 8.0
    assert share("a", 1.0, 8.0, "seconds", "bare", 1.5).ratio == 0.125


def test_each_function_is_called_once_to_compile_and_once_a_round():
    calls = []
    times = seconds(lambda: calls.append("a"), lambda: calls.append("b"), rounds=2)
    assert calls == ["a", "b", "a", "b", "a", "b"] and len(times) == 2


def test_index(tmp_path):
    sizes = {"num_candidates": 2000, "num_queries": 70, "dimension": 8, "cache": str(tmp_path)}
    check(index.search(**sizes, rounds=1), "index/search/one_thread", "index/search/all_threads")
    parts = [f"index/filtered/{part}" for part in ("0.5", "0.1", "0.01", "0.001", "one")]
    names = [name for part in parts for name in (f"{part}/recall", part)]
    filtered = list(index.filtered(**sizes, rounds=1))
    check(filtered, *names)
    assert all(measurement.value >= 0.98 for measurement in filtered if measurement.name.endswith("/recall"))
    check(index.update(**sizes, window=0.2, rounds=1), "index/update")
    parts = ("", "/disk", "/bare", "/hnswlib", "/copy")
    check(loading.load(**sizes, rounds=1), *(f"index/load{part}" for part in parts))
    check(loading.load_bundle(**sizes, rounds=1), "index/load_bundle")
    check(index.small(100, 8, rounds=1), "index/small/batch", "index/small/single")


def test_other_libraries_are_measured_where_they_are_installed(monkeypatch):
    def exact(vectors):
        yield "exact", lambda queries: ExactIndex.build(vectors).search(queries, 10)[1]

    monkeypatch.setattr(peers, "PEERS", {"json": exact, "no_such_module": None})
    check(list(peers.beside(500, 30, 4, rounds=1)), "index/beside/exact", "index/beside/json")


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.PEERS)
def test_each_library_answers(name):
    pytest.importorskip(name)
    measurements = {measurement.name: measurement for measurement in peers.beside(2000, 50, 16, rounds=1)}
    assert f"index/beside/{name}" in measurements
