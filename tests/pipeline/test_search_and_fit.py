"""A whole training: search, final fit, interruption."""

import dataclasses
import itertools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retrieval.config.schema import Config, Data, Optimizer, Train
from retrieval.data.dataset import load
from retrieval.pipeline import phase as phase_module
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.trained import ChosenEpoch
from retrieval.training.checkpoint import Checkpoints

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

    return search_and_fit.train(config, dataset, folder, on_epoch), seen


def parameters(config, folder, choice):
    return search_and_fit.restore(config, DATASET, folder, choice).params


def equal(params, others):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def checkpoints(folder, phase):
    """The files of a phase, the last first."""
    return sorted((folder / phase).iterdir(), reverse=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trained, seen = train(CONFIG, folder)
    return folder, trained, seen


def test_the_search_stops_early_and_the_final_fit_takes_its_best_epoch(finished):
    _, trained, seen = finished
    choice = trained.choice
    last_search = max(epoch for phase, epoch in seen if phase == "search")
    assert choice.phase == "final"
    assert choice.epoch == last_search - CONFIG.train.patience
    assert max(epoch for phase, epoch in seen if phase == "final") == choice.epoch


def test_the_final_fit_sees_the_validation_part(finished):
    _, trained, _ = finished
    assert len(trained.train) == len(DATASET.parts.train) + len(DATASET.parts.validation)


def test_what_is_trained_is_what_is_restored(finished):
    folder, trained, _ = finished
    restored = search_and_fit.restore(CONFIG, DATASET, folder, trained.choice)
    assert restored.choice == trained.choice and len(restored.train) == len(trained.train)
    assert equal(restored.params, trained.params)
    assert np.array_equal(restored.candidate_embeddings, trained.candidate_embeddings)


@pytest.mark.parametrize("at", [("search", 0), ("search", 3), ("final", 0), ("final", 2)])
def test_an_interrupted_training_resumes_to_the_same_bits(finished, tmp_path, at):
    _, trained, _ = finished
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path, stop_after=at)
    resumed, _ = train(CONFIG, tmp_path)
    assert resumed.choice == trained.choice and equal(resumed.params, trained.params)
    assert equal(parameters(CONFIG, tmp_path, resumed.choice), trained.params)


def test_without_refit_the_best_state_of_the_search_is_the_result(finished, tmp_path):
    config = changed(refit=False)
    trained, seen = train(config, tmp_path)
    assert trained.choice == ChosenEpoch("search", finished[1].choice.epoch)
    assert {phase for phase, _ in seen} == {"search"} and seen[-1][1] > trained.choice.epoch
    assert len(trained.train) == len(DATASET.parts.train)
    assert equal(trained.params, parameters(config, tmp_path, trained.choice))


@pytest.mark.slow
def test_checkpoints_that_are_lost_during_a_training_change_nothing(tmp_path, monkeypatch):
    config = changed(refit=False)
    kept, _ = train(config, tmp_path / "kept")
    monkeypatch.setattr(Checkpoints, "save", lambda *arguments: None)
    lost, _ = train(config, tmp_path / "lost")
    assert lost.choice == kept.choice and equal(lost.params, kept.params)


def test_without_evaluation_all_epochs_are_trained_on_both_parts(tmp_path):
    trained, seen = train(changed(evaluate_every=0, epochs=3), tmp_path)
    assert trained.choice == ChosenEpoch("final", 3)
    assert seen == [("final", epoch) for epoch in range(4)]


def test_evaluation_every_other_epoch_chooses_among_those(tmp_path):
    histories = []
    search_and_fit.train(
        changed(evaluate_every=2, refit=False, epochs=5, patience=0), DATASET, tmp_path, histories.append
    )
    evaluated = [r["epoch"] for r in histories[-1] if "validation/excluding_seen/ndcg_at_10" in r]
    assert evaluated == [0, 2, 4, 5]


def test_a_misspelt_metric_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'excluding_seen/ndcg_at_10'"):
        train(changed(metric="excluding_seen/ndgc_at_10"), tmp_path)


def test_a_checkpoint_of_another_config_is_refused(finished):
    folder, trained, _ = finished
    with pytest.raises(ValueError, match="another config, vocabulary or data"):
        search_and_fit.restore(changed(seed=5), DATASET, folder, trained.choice)


def test_a_training_that_learns_nothing_keeps_the_popularity_ranking(tmp_path):
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(DATASET.parts.train, candidate_ids=rng.permutation(DATASET.parts.train.candidate_ids))
    parts = dataclasses.replace(DATASET.parts, train=noise)
    config = changed(refit=False, patience=1)
    dataset = dataclasses.replace(DATASET, parts=parts)
    histories = []
    trained = search_and_fit.train(config, dataset, tmp_path, histories.append)
    scores = [record["validation/excluding_seen/ndcg_at_10"] for record in histories[-1]]
    assert scores[trained.choice.epoch] == max(scores) >= scores[0]


@pytest.mark.parametrize(("phase", "number"), [("search", 1), ("search", 3), ("final", 1)])
def test_a_training_with_damaged_checkpoints_goes_on_to_the_same_bits(finished, tmp_path, caplog, phase, number):
    folder, trained, _ = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damaged = checkpoints(tmp_path, phase)[:number]
    for path in damaged:
        damage(path)
    resumed, _ = train(CONFIG, tmp_path)
    assert resumed.choice == trained.choice and equal(resumed.params, trained.params)
    assert [path for path in damaged if str(path) in caplog.text] == damaged
    assert ("training starts anew" in caplog.text) == (number == len(checkpoints(folder, phase)))


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_result_is_trained_again_to_the_same_bits(finished, tmp_path, caplog, number):
    folder, trained, _ = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for path in checkpoints(tmp_path, "final")[:number]:
        damage(path)
    assert equal(parameters(CONFIG, tmp_path, trained.choice), trained.params)
    assert f"lacks epoch {trained.choice.epoch}" in caplog.text
    caplog.clear()
    parameters(CONFIG, tmp_path, trained.choice)
    assert not caplog.text  # it is whole again


@pytest.mark.slow
def test_a_lost_best_of_the_search_is_trained_again_to_the_same_bits(tmp_path):
    config = changed(refit=False)
    trained, _ = train(config, tmp_path)
    (tmp_path / f"search/{trained.choice.epoch:06d}.checkpoint").unlink()
    assert equal(parameters(config, tmp_path, trained.choice), trained.params)
    (tmp_path / f"search/{trained.choice.epoch:06d}.checkpoint").unlink()
    again, _ = train(config, tmp_path)
    assert again.choice == trained.choice and equal(again.params, trained.params)


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_last_good_state(finished, tmp_path, monkeypatch):
    _, trained, _ = finished
    fit, good = phase_module.fit, []

    def broken(*arguments, **options):
        good.extend(itertools.islice(fit(*arguments, **options), 3))
        yield from good
        state = good[-1][0]
        yield from fit(*arguments, **options | {"state": state._replace(params=jax.tree.map(_nan, state.params))})

    monkeypatch.setattr(phase_module, "fit", broken)
    with pytest.raises(FloatingPointError, match="the loss is not finite in epoch 4"):
        train(CONFIG, tmp_path)
    monkeypatch.undo()
    assert equal(parameters(CONFIG, tmp_path, ChosenEpoch("search", 3)), good[-1][0].params)
    resumed, seen = train(CONFIG, tmp_path)
    assert seen[:2] == [("search", 3), ("search", 4)] and resumed.choice == trained.choice
    assert equal(resumed.params, trained.params)


def _nan(leaf):
    return jnp.full_like(leaf, jnp.nan)


def test_a_learning_rate_that_breaks_training_is_told(tmp_path):
    config = dataclasses.replace(CONFIG, optimizer=Optimizer(name="sgd", learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="not finite.*epoch 1.*lower the learning rate"):
        train(config, tmp_path)
    assert [int(path.stem) for path in checkpoints(tmp_path, "search")] == [0]


def test_each_epoch_is_logged_with_its_speed_and_memory(tmp_path):
    histories = []
    search_and_fit.train(changed(evaluate_every=0, epochs=3), DATASET, tmp_path, histories.append)
    untrained, *epochs = histories[-1]
    assert untrained == {"phase": "final", "epoch": 0, "step": 0}
    steps = epochs[0]["step"]
    for record in epochs:
        assert record["step"] == steps * record["epoch"]
        assert record["step_seconds"] * steps == pytest.approx(record["seconds"])
        num_examples = len(DATASET.parts.train) + len(DATASET.parts.validation)
        assert record["examples_per_second"] * record["seconds"] == pytest.approx(num_examples)
        assert record["peak_rss_bytes"] > 50e6
    assert epochs[0]["peak_rss_bytes"] <= epochs[-1]["peak_rss_bytes"]
