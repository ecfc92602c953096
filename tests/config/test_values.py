"""Wrong values set in Python are refused with one line before any work."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

from retrieval.config import schema
from retrieval.config.checks import arguments_of, check
from retrieval.config.fields import LARGEST, Range, UnknownField
from retrieval.config.schema import Addition, Config, Feature, History, Task
from retrieval.config.space import with_settings
from retrieval.config.values import check_values
from retrieval.data.interactions import Interactions, Table
from retrieval.pipeline.recipe import prepare

NAN, NOTHING = float("nan"), np.zeros(0, np.int64)


@pytest.mark.parametrize(
    ("section", "field", "nearest"),
    [
        (Config().model, "embedding_dim", "did you mean 'embedding_dimension'"),
        (Config().train, "epoch", "did you mean 'epochs'"),
        (Config(), "optimiser", "did you mean 'optimizer'"),
        (Feature("id"), "drop_out", "did you mean 'dropout'"),
        (Config().model.query, "hidden_sizes", "Tower has no field 'hidden_sizes', got hidden_sizes=64"),
    ],
)
def test_an_unknown_attribute_is_refused_at_once_with_the_nearest(section, field, nearest):
    before = copy.deepcopy(section)
    for error in (AttributeError, ValueError):
        with pytest.raises(error, match=nearest):
            setattr(section, field, 64)
    assert section == before and issubclass(UnknownField, AttributeError)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train.metric", 3, "train.metric must be text, got 3"),
        (
            "train.seed",
            99999999999999999999,
            "train.seed must be 0 or more, at most 2,147,483,647, got 99999999",
        ),
        ("train.seed", True, "train.seed must be a whole number, got True"),
        ("train.epochs", 3.5, "train.epochs must be a whole number, got 3.5"),
        ("train.epochs", None, "train.epochs must be a whole number, got None"),
        ("train.refit", 1, "train.refit must be True or False, got 1"),
        ("train.refit", "no", "train.refit must be True or False, got 'no'"),
        ("train.average", NAN, "train.average must be 0 or more, below 1, got nan"),
        ("optimizer.learning_rate", "0.1", "optimizer.learning_rate must be a number, got '0.1'"),
        ("optimizer.learning_rate", False, "optimizer.learning_rate must be a number, got False"),
        ("optimizer.arguments", {"b1": NAN}, "optimizer.arguments.b1 must be finite, got nan"),
        ("optimizer.arguments", {"b1": "x"}, "optimizer.arguments.b1 must be a number, got 'x'"),
        ("optimizer.arguments", [("b1", 0.9)], "optimizer.arguments must be a dictionary of numbers, got"),
        ("evaluate.ks", 10, "evaluate.ks must be a tuple of whole numbers, got 10"),
        ("evaluate.ks", ("ten",), r"evaluate.ks\[0\] must be a whole number, got 'ten'"),
        ("evaluate.ks", (5, 1.5), r"evaluate.ks\[1\] must be a whole number, got 1.5"),
        ("evaluate.ks", "5", "evaluate.ks must be a tuple of whole numbers, got '5'"),
        (
            "model.query.mlp.hidden_sizes",
            (64, "x"),
            r"query.mlp.hidden_sizes\[1\] must be a whole number, got 'x'",
        ),
        ("model.history.inputs", ("gap",), r"model.history.inputs\[0\] must be one of .*did you mean 'gaps'"),
        ("model.query", "tower", "model.query must be a section Tower, got 'tower'"),
        ("model.query.features", ("id",), r"model.query.features\[0\] must be a section Feature, got 'id'"),
        ("model.query.features", (Feature("a", size="9"),), r"model.query.features\[0\].size must be a whole number"),
        ("tasks", (Task("stars", kind="regresion"),), r"tasks\[0\].kind must be one of .*did you mean 'regression'"),
        ("tasks", (Task("stars", weight=math.inf),), r"tasks\[0\].weight must be 0 or more, got inf"),
        ("tasks", Task("stars"), "tasks must be a tuple of sections Task, got Task"),
        ("model.additions", (Addition("eas"),), r"model.additions\[0\].name must be one of .*did you mean 'ease'"),
        (
            "model.additions",
            (Addition(arguments={"rnk": 3}),),
            r"arguments.rnk is no argument of 'ease'.*'rank'",
        ),
        ("model.additions", (Addition(arguments={"rank": 2.5}),), r"arguments.rank must be a whole number, got 2.5"),
        ("model.additions", (Addition(arguments={"l2": 0.0}),), r"arguments.l2 must be above 0, got 0.0"),
        ("model.additions", (Addition(), Addition()), r"additions\[1\].name is 'ease', which is added already"),
        ("data.columns.query_id", "", "data.columns.query_id is empty; name the column of the ids"),
        ("data.dataset", "movielens-100", "data.dataset must be one of .*did you mean 'movielens-100k'"),
        ("loss.name", "softmax", "loss.name must be one of .*did you mean 'full_softmax'"),
        ("index.hnsw.space", "cosine", "index.hnsw.space must be one of"),
    ],
)
def test_a_wrong_value_is_refused_before_any_work(field, value, message):
    config = with_settings(Config(), {field: value})
    with pytest.raises(ValueError, match=message):
        check(config)
    with pytest.raises(ValueError, match=message):
        prepare(config, Interactions(NOTHING, NOTHING), Table(NOTHING))  # the data are not looked at


def test_a_list_or_dictionary_changed_in_place_is_checked_too():
    config = Config()
    config.optimizer.arguments["b1"] = "x"
    with pytest.raises(ValueError, match="optimizer.arguments.b1 must be a number"):
        check(config)


def test_values_of_a_neighbouring_type_become_that_of_the_field():
    config = Config()
    config.evaluate.ks = [np.int64(5), 10]
    config.train.batch_size, config.optimizer.learning_rate = np.int32(64), 1
    config.regularization.table_l2 = {"": np.float32(0.5)}
    check_values(config)
    assert config.evaluate.ks == (5, 10) and {*map(type, config.evaluate.ks)} == {int}
    assert type(config.train.batch_size) is int and type(config.optimizer.learning_rate) is float
    assert config.regularization.table_l2 == {"": 0.5}


def test_sections_are_copied_replaced_and_pickled_as_dataclasses():
    config = with_settings(Config(), {"train.epochs": 3, "model.history.encoder": "mean"})
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == dataclasses.replace(config) == config
    assert History("mean").encoder == "mean"


def test_the_arguments_of_an_addition_have_the_defaults_of_the_schema():
    assert arguments_of(Addition("ease", arguments={"rank": 8})) == schema.Ease(rank=8)
    assert arguments_of(Addition("recent_popularity", arguments={"news": 1})) == schema.RecentPopularity(news=1.0)


def test_a_range_says_the_bound_of_an_int32_where_it_is_crossed():
    counts = Range(least=0, most=LARGEST)
    assert str(counts) == counts.described(-1) == "0 or more"
    assert counts.described(LARGEST + 1) == "0 or more, at most 2,147,483,647"
    assert LARGEST in counts and LARGEST + 1 not in counts and math.inf not in counts and NAN not in Range()
    edges = Range(above=0, below=1)
    assert 0 not in edges and 1 not in edges and 0.5 in edges


def test_a_config_that_fits_is_prepared():
    events = Interactions(np.array([1, 1, 2]), np.array([3, 4, 3]))
    assert prepare(Config(), events, Table(np.array([3, 4]))).num_examples == 3
