"""Settings that make no sense are refused before any work, and those that nothing reads are named."""

import copy
import math

import pytest

from configs import (
    movielens_100k,
    movielens_100k_ensemble,
    multitask,
    my_interactions,
    my_items,
    my_sequences,
    tutorial,
)
from retrieval.config.checks import check, unread
from retrieval.config.schema import Config, Feature, Task
from retrieval.config.space import with_settings

SHIPPED = (
    *(module.get_config() for module in (multitask, my_interactions, my_items, my_sequences, tutorial)),
    *map(movielens_100k.get_config, movielens_100k.VARIANTS),
    *map(movielens_100k_ensemble.get_config, movielens_100k_ensemble.VARIANTS),
)


def cosines():
    return with_settings(
        Config(), {"loss.name": "cosine_contrastive", "model.popularity_prior": False, "model.temperature": 1.0}
    )


@pytest.mark.parametrize("config", SHIPPED, ids=lambda config: config.name)
def test_the_shipped_configs_make_sense_and_all_that_they_set_is_read(config):
    check(config)
    assert unread(config) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss.temperature", 0.0, "loss.temperature must be above 0, got 0.0"),
        ("train.average", 1.5, "train.average must be 0 or more, below 1, got 1.5"),
        ("loss.margin", 5.0, "loss.margin must be -1 or more, at most 1, got 5.0"),
        ("regularization.embedding_l2", -1.0, "regularization.embedding_l2 must be 0 or more, got -1.0"),
        ("loss.unobserved_weight", math.nan, "loss.unobserved_weight must be 0 or more, got nan"),
        ("loss.num_hard_negatives", -1, "loss.num_hard_negatives must be 0 or more, at most 1,048,576, got -1"),
        ("optimizer.learning_rate", math.inf, "optimizer.learning_rate must be above 0, got inf"),
        (
            "regularization.table_l2",
            {"query_tower": -1.0},
            "table_l2.query_tower must be 0 or more, got -1.0",
        ),
        ("model.history.layers", 0, "model.history.layers must be 1 or more, at most 64, got 0"),
        ("model.candidate.mlp.dropout", 2.0, "model.candidate.mlp.dropout must be 0 or more, below 1, got 2.0"),
        (
            "model.candidate.mlp.hidden_sizes",
            (8, 0),
            r"candidate.mlp.hidden_sizes\[1\] must be 1 or more",
        ),
        ("model.candidate.cross.layers", -1, "model.candidate.cross.layers must be 0 or more, at most 64, got -1"),
        ("model.query.features", (Feature("a", dropout=1.0),), r"model.query.features\[0\].dropout must be 0 or more"),
        ("model.query.features", (Feature(),), r"model.query.features\[0\].column is empty; name a column"),
        ("tasks", (Task("stars", hidden_sizes=(0,)),), r"tasks\[0\].hidden_sizes\[0\] must be 1 or more"),
        ("train.batch_size", 0, "train.batch_size must be 1 or more, at most 1,048,576, got 0"),
        ("train.patience", -1, "train.patience must be 0 or more, got -1"),
        ("train.metric", "rating/rmse", "train.metric must be a metric of which higher values are better"),
        ("train.metric", "excluding_seen/mean_rank", "train.metric must be a metric of which higher"),
        ("train.metric", "excluding_seen/ndcg_at_7", r"evaluate.ks=\(5, 10, 20, 50, 100\) lacks 7; add it"),
        ("evaluate.ks", (5, 20), "train.metric is 'excluding_seen/ndcg_at_10', and .* lacks 10"),
        ("optimizer.learning_rate", 1e39, "learning_rate must be above 0, of size 3.4e\\+38 at most, as float32 holds"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_path(field, value, message):
    with pytest.raises(ValueError, match=message):
        check(with_settings(Config(), {field: value}))


@pytest.mark.parametrize("name", ["implicit_squared", "cosine_contrastive", "bpr"])
def test_a_loss_of_other_scores_is_refused_with_a_popularity_prior(name):
    with pytest.raises(ValueError, match="set model.popularity_prior=False"):
        check(with_settings(Config(), {"loss.name": name}))


def test_cosines_are_trained_where_answers_are_ranked_by_them():
    check(cosines())
    with pytest.raises(ValueError, match="compares cosines.* set model.temperature=1.0"):
        check(with_settings(cosines(), {"model.temperature": 0.0}))


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("model.history.inputs", ("gaps",), "model.history.inputs has no effect without model.history.encoder"),
        ("model.query.mlp.dropout", 0.1, "model.query.mlp.dropout has no effect without model.query.mlp.hidden_sizes"),
        ("model.query.cross.rank", 4, "model.query.cross.rank has no effect without model.query.cross.layers"),
        ("loss.margin", 0.1, "loss.margin has no effect with loss.name='in_batch_softmax'"),
        ("data.path", "ml-100k.zip", "data.path has no effect without data.dataset"),
        ("data.columns.title", "name", "data.columns.title has no effect without data.candidates"),
    ],
)
def test_what_nothing_reads_is_named(field, value, sentence):
    config = Config()
    before = copy.deepcopy(config)
    assert unread(with_settings(config, {field: value})) == [sentence] and config == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"data.dataset": "synthetic", "data.columns.rating": "stars"},
            "data.columns.rating has no effect with data.dataset",
        ),
        ({"data.train": "a.csv", "data.split.seed": 1}, "data.split.seed has no effect with data.train"),
        (
            {"model.history.encoder": "gru", "model.history.heads": 2},
            "model.history.heads has no effect with model.history.encoder='gru'",
        ),
        ({"train.evaluate_every": 0, "train.patience": 2}, "train.patience has no effect with train.evaluate_every=0"),
        ({"index.kind": "exact", "index.hnsw.M": 8}, "index.hnsw.M has no effect with index.kind='exact'"),
    ],
)
def test_what_nothing_reads_beside_another_setting_is_named(settings, sentence):
    assert unread(with_settings(Config(), settings)) == [sentence]


@pytest.mark.parametrize(
    ("name", "fields"),
    [("full_softmax", ["uniform", "dislikes"]), ("bpr", ["dislikes"]), ("in_batch_softmax", [])],
)
def test_negatives_that_the_loss_does_not_look_at_are_named(name, fields):
    config = with_settings(Config(), {"loss.name": name, "negatives.uniform": 8, "negatives.dislikes": 2})
    assert unread(config) == [f"negatives.{field} has no effect with loss.name={name!r}" for field in fields]
