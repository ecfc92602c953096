"""A whole training: search, final fit, interruption."""

import dataclasses

import numpy as np
import pytest

from retrieval import phases
from retrieval.config import Config, Data, Train
from retrieval.data.dataset import load

DATASET = load(Data(dataset="synthetic"))
CONFIG = Config(data=Data(dataset="synthetic"), train=Train(batch_size=1024, epochs=12, patience=2))


def changed(**fields):
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **fields))


def train(config, folder, dataset=DATASET, stop_after=None):
    seen = []

    def on_epoch(history):
        seen.append((history[-1]["phase"], history[-1]["epoch"]))
        if stop_after == seen[-1]:
            raise KeyboardInterrupt

    return phases.train(config, dataset, folder, on_epoch), seen


def parameters(config, folder, choice):
    return phases.restore(config, DATASET, folder, choice).params


def equal(ours, theirs):
    return all(
        np.array_equal(ours[tower]["embedding"]["embedding"], theirs[tower]["embedding"]["embedding"])
        for tower in ("query_tower", "candidate_tower")
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    choice, seen = train(CONFIG, folder)
    return folder, choice, seen


def test_the_search_stops_early_and_the_final_fit_takes_its_best_epoch(finished):
    _, choice, seen = finished
    last_search = max(epoch for phase, epoch in seen if phase == "search")
    assert choice.phase == "final"
    assert choice.epoch == last_search - CONFIG.train.patience
    assert max(epoch for phase, epoch in seen if phase == "final") == choice.epoch


def test_the_final_fit_sees_the_validation_part(finished):
    folder, choice, _ = finished
    trained = phases.restore(CONFIG, DATASET, folder, choice)
    assert len(trained.train) == len(DATASET.parts.train) + len(DATASET.parts.validation)


@pytest.mark.parametrize("at", [("search", 0), ("search", 3), ("final", 0), ("final", 2)])
def test_an_interrupted_training_resumes_to_the_same_bits(finished, tmp_path, at):
    folder, choice, _ = finished
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path, stop_after=at)
    resumed, _ = train(CONFIG, tmp_path)
    assert resumed == choice
    assert equal(parameters(CONFIG, tmp_path, resumed), parameters(CONFIG, folder, choice))


def test_without_refit_the_best_state_of_the_search_is_the_result(finished, tmp_path):
    config = changed(refit=False)
    choice, seen = train(config, tmp_path)
    assert choice == phases.Choice("search", finished[1].epoch)
    assert {phase for phase, _ in seen} == {"search"}
    assert len(phases.restore(config, DATASET, tmp_path, choice).train) == len(DATASET.parts.train)


def test_without_evaluation_all_epochs_are_trained_on_both_parts(tmp_path):
    choice, seen = train(changed(evaluate_every=0, epochs=3), tmp_path)
    assert choice == phases.Choice("final", 3)
    assert seen == [("final", epoch) for epoch in range(4)]


def test_evaluation_every_other_epoch_chooses_among_those(tmp_path):
    histories = []
    phases.train(changed(evaluate_every=2, refit=False, epochs=5, patience=0), DATASET, tmp_path, histories.append)
    evaluated = [r["epoch"] for r in histories[-1] if "validation/excluding_seen/ndcg_at_10" in r]
    assert evaluated == [0, 2, 4, 5]


def test_a_misspelt_metric_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'excluding_seen/ndcg_at_10'"):
        train(changed(metric="excluding_seen/ndgc_at_10"), tmp_path)


def test_a_checkpoint_of_another_config_is_refused(finished):
    folder, choice, _ = finished
    with pytest.raises(ValueError, match="another config, vocabulary or data"):
        phases.restore(changed(seed=5), DATASET, folder, choice)


def test_a_training_that_learns_nothing_keeps_the_popularity_ranking(tmp_path):
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(DATASET.parts.train, candidate_ids=rng.permutation(DATASET.parts.train.candidate_ids))
    parts = dataclasses.replace(DATASET.parts, train=noise)
    config = changed(refit=False, patience=1)
    dataset = dataclasses.replace(DATASET, parts=parts)
    histories = []
    choice = phases.train(config, dataset, tmp_path, histories.append)
    scores = [record["validation/excluding_seen/ndcg_at_10"] for record in histories[-1]]
    assert scores[choice.epoch] == max(scores) >= scores[0]
