"""Each loss by its name: built from the training part, and known to the config by the same facts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retrieval.config.checks import check, unread
from retrieval.config.schema import Config, Loss
from retrieval.data.encoding import Examples
from retrieval.objectives import OBJECTIVES, TrainingRows

ROWS = np.array([1, 2, 1], np.int32), np.array([3, 1, 2], np.int32)
PAIRS = Examples(*ROWS, np.ones(3, np.float32))
WINDOWS = Examples(np.array([1, 2], np.int32), np.array([[3, 2], [-1, 1]], np.int32), np.ones((2, 2), np.float32))
CHANGED = {  # another value than the default of each option
    "temperature": 0.5,
    "log_q": False,
    "remove_accidental_hits": False,
    "remove_known_positives": True,
    "num_hard_negatives": 3,
    "unobserved_weight": 0.3,
    "margin": 0.2,
    "negative_weight": 2.0,
}


def config_of(name):
    config = Config()
    config.loss.name = name
    return config


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_created_with_its_options_from_the_training_part(name):
    kind = OBJECTIVES[name]
    options = {option: CHANGED[option] for option in kind.options}
    objective = kind.create(TrainingRows(PAIRS, PAIRS, 4, 5), **options, embedding_l2=0.25, reduction="mean")
    assert type(objective) is kind and (objective.embedding_l2, objective.reduction) == (0.25, "mean")
    for option in set(options) - {"remove_known_positives"}:
        assert getattr(objective, option) == CHANGED[option]
    if "remove_known_positives" in options:
        found = objective.known_positives.contain(jnp.array([1, 1, 2, 3]), jnp.array([2, 1, 1, 1]))
        assert found.tolist() == [True, False, True, False]
        assert kind.create(TrainingRows(PAIRS, PAIRS, 4, 5), **options | {"remove_known_positives": False}) != objective
    if kind.over_corpus:
        assert objective.num_candidate_rows == 5


def test_the_weights_of_queries_are_those_of_the_examples_that_training_reads():
    windows = WINDOWS._replace(weights=np.full((2, 2), 2, np.float32))
    objective = OBJECTIVES["implicit_squared"].create(TrainingRows(PAIRS, windows, 4, 5), unobserved_weight=0.3)
    assert objective.query_weights.tolist() == [0, 4, 2, 0]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_arrays_of_an_objective_are_arguments_of_a_step_and_all_else_is_constant(name):
    kind = OBJECTIVES[name]
    options = {option: CHANGED[option] for option in kind.options}
    objective = kind.create(TrainingRows(PAIRS, PAIRS, 4, 5), **options)
    leaves, structure = jax.tree.flatten(objective)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert hash(structure) == hash(jax.tree.structure(kind.create(TrainingRows(PAIRS, PAIRS, 4, 5), **options)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_config_names_the_options_that_a_loss_does_not_read(name):
    assert {option for kind in OBJECTIVES.values() for option in kind.options} == set(CHANGED)
    assert set(CHANGED) <= {field.name for field in dataclasses.fields(Loss)}
    config = config_of(name)
    for option, value in CHANGED.items():
        assert getattr(config.loss, option) != value
        setattr(config.loss, option, value)
    named = {sentence.split()[0] for sentence in unread(config)}
    assert {f"loss.{option}" for option in CHANGED} - named == {f"loss.{option}" for option in OBJECTIVES[name].options}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_config_knows_which_scores_a_loss_trains_and_which_negatives_it_reads(name):
    kind, config = OBJECTIVES[name], config_of(name)
    config.model.popularity_prior, config.model.temperature = True, 1.0
    assert_refused(config, "popularity_prior", not kind.scores_are_log_probabilities)
    config.model.popularity_prior, config.model.temperature = False, 0.0
    assert_refused(config, "cosines", kind.scores_are_cosines)
    for field, has_effect in (("uniform", not kind.over_corpus), ("dislikes", kind.reads_dislikes)):
        config = config_of(name)
        setattr(config.negatives, field, 7)
        assert any(f"negatives.{field} has no effect" in sentence for sentence in unread(config)) != has_effect


def assert_refused(config, reason, is_refused):
    if not is_refused:
        check(config)
        return
    with pytest.raises(ValueError, match=reason):
        check(config)
