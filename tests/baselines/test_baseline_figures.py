"""Baselines reach their published figures on MovieLens 100K; settings are those of the publications and peers."""

import pytest

from configs import movielens_100k
from retrieval.baselines import BASELINES, Training
from retrieval.data.dataset import load
from retrieval.pipeline.evaluate_trained import create_evaluation

RANDOM = {  # precision, recall, nDCG at 10, train excluded
    "popularity": ({}, (0.191, 0.116, 0.217)),
    "item_knn_bm25": ({"neighbours": 800, "k1": 1.2, "b": 0.4}, (0.3245, 0.2107, 0.3957)),
    "ease": ({"regularization": 700.0}, (0.3675, 0.2323, 0.4397)),
    "ials": ({"factors": 64, "regularization": 37.5, "alpha": 5.0, "iterations": 10}, (0.3713, 0.2365, 0.4450)),
}
OTHER_IALS = [
    ({"factors": 32, "regularization": 48.0, "alpha": 8.0, "iterations": 30}, (0.3631, 0.2347, 0.4355)),
    ({"factors": 256, "regularization": 30.0, "alpha": 4.0, "iterations": 6}, (0.374, 0.238, 0.448)),
]
TEMPORAL = {
    "popularity": ({}, (0.129, 0.146)),
    "last_week_popularity": ({"days": 7.0}, (0.174, 0.215)),
    "ease": ({"regularization": 700.0}, (0.1514, 0.1736)),
}


def prepared(*variant):
    config = movielens_100k.get_config(*variant)
    dataset = load(config.data)
    return Training.of(dataset.parts.train_and_validation(), dataset.corpus), create_evaluation(config, dataset)


@pytest.fixture(scope="module")
def on_random():
    return prepared()


def figures(training, evaluation, name, settings):
    rankings = evaluation.rank_by(BASELINES[name].fit(training, **settings))
    return evaluation.measure(rankings, resamples=2)


CASES = [(name, *case) for name, case in RANDOM.items()]
CASES += [pytest.param("ials", *case, marks=pytest.mark.slow) for case in OTHER_IALS]


@pytest.mark.parametrize(("name", "settings", "expected"), CASES)
def test_figures_of_the_random_split(on_random, name, settings, expected):
    got = figures(*on_random, name, settings).metrics
    for metric, value in zip(("precision", "recall", "ndcg"), expected, strict=True):
        assert got[f"excluding_seen/{metric}_at_10"] == pytest.approx(value, abs=0.003), metric


def test_figures_of_the_users_that_train_knows_in_the_temporal_split():
    training, evaluation = prepared("temporal")
    for name, (settings, expected) in TEMPORAL.items():
        slices = figures(training, evaluation, name, settings).slices
        (known,) = (s for s in slices if (s.side, s.column, s.value) == ("queries", "vocabulary", "known"))
        assert known.num_queries == 109
        for metric, value in zip(("precision", "ndcg"), expected, strict=True):
            assert known.metrics[f"excluding_seen/{metric}_at_10"] == pytest.approx(value, abs=0.003), (name, metric)
