"""Checkpoints come back as they were, or say why not."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from retrieval.checkpoint import Checkpoints
from retrieval.train import TrainState

OPTIMIZER = optax.adagrad(0.1)


def state(value):
    params = {"tower": {"embedding": jnp.full((3, 2), value, jnp.float32)}}
    return TrainState(jnp.asarray(7, jnp.int32), params, OPTIMIZER.init(params))


def save(folder, scores, fingerprint="same"):
    with Checkpoints(folder, fingerprint) as checkpoints:
        for epoch, score in enumerate(scores):
            checkpoints.save(epoch, state(epoch), [{"epoch": e} for e in range(epoch + 1)], score)


def test_the_last_state_and_its_history_come_back(tmp_path):
    save(tmp_path, [0.1, 0.2])
    with Checkpoints(tmp_path, "same") as checkpoints:
        restored = checkpoints.last(state(0))
    assert (restored.epoch, restored.history) == (1, [{"epoch": 0}, {"epoch": 1}])
    assert np.array_equal(restored.state.params["tower"]["embedding"], np.ones((3, 2)))
    assert int(restored.state.step) == 7


def test_the_best_and_the_last_are_kept(tmp_path):
    save(tmp_path, [0.1, 0.9, 0.9, 0.3])
    with Checkpoints(tmp_path, "same") as checkpoints:
        assert checkpoints.at(1, state(0)).state.params["tower"]["embedding"][0, 0] == 1
        assert checkpoints.last(state(0)).epoch == 3
        with pytest.raises(ValueError, match=r"no checkpoint of epoch 2, only \[1, 3\]"):
            checkpoints.at(2, state(0))


def test_an_empty_folder_has_no_last_state(tmp_path):
    with Checkpoints(tmp_path, "same") as checkpoints:
        assert checkpoints.last(state(0)) is None


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path):
    save(tmp_path, [0.1])
    with Checkpoints(tmp_path, "other") as checkpoints:
        with pytest.raises(ValueError, match="trained with another config, vocabulary or data"):
            checkpoints.last(state(0))
