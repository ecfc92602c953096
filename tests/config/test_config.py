"""A config survives JSON, and errors in one name the field and what it should be."""

import json
import pathlib

import pytest

from retrieval.config import schema as config_lib
from retrieval.config.fields import check_field
from retrieval.config.schema import Config, Task
from retrieval.config.serialization import differences, from_json, to_json

OLDER = (pathlib.Path(__file__).parent / "older_config.json").read_text(encoding="utf-8")


def changed():
    config = Config(name="changed")
    config.data.columns.title = "überschrift"
    config.data.split.test_fraction = 0.125
    config.model.query.mlp.hidden_sizes = (64, 32)
    config.optimizer = config_lib.Optimizer("adam", 1e-3, {"b1": 0.85, "eps": 1e-7})
    config.train.refit = False
    config.evaluate.ks = ()
    return config


def edited(path, value):
    """Returns the JSON of the default config with `value` at `path`."""
    content = json.loads(to_json(Config()))
    section = content
    *sections, field = path.split(".")
    for name in sections:
        section = section[name]
    section[field] = value
    return json.dumps(content)


@pytest.mark.parametrize("make", [Config, changed])
def test_a_config_comes_back_from_json(make):
    again = from_json(to_json(make()))
    assert again == make()
    assert type(again.model.query.mlp.hidden_sizes) is tuple


def test_every_config_has_sections_of_its_own():
    Config().train.epochs = 99
    Config().optimizer.arguments["b1"] = 0.5
    assert Config().train.epochs != 99
    assert Config().optimizer.arguments == {}


def without(path):
    """Returns the JSON of the default config without the field at `path`."""
    content = json.loads(to_json(Config()))
    section = content
    *sections, field = path.split(".")
    for name in sections:
        section = section[name]
    del section[field]
    return json.dumps(content)


@pytest.mark.parametrize("path", ["train.epoch", "data.columns.tittle", "zzz"])
def test_a_field_that_the_schema_does_not_know_is_named_with_what_to_do(path):
    message = f"another version of the schema: it sets {path}, which this version does not know; use another --workdir"
    with pytest.raises(ValueError, match=message):
        from_json(edited(path, 1))


@pytest.mark.parametrize("path", ["train.epochs", "data.split.seed", "index"])
def test_a_missing_field_is_named_with_what_to_do(path):
    with pytest.raises(ValueError, match=f"another version of the schema: it lacks {path}; use another --workdir"):
        from_json(without(path))


def test_fields_in_tuples_of_sections_are_compared_too():
    config = Config(tasks=(Task("stars"),), name="x")
    content = json.loads(to_json(config))
    content["tasks"][0]["target"] = "rating"
    del content["tasks"][0]["weight"]
    with pytest.raises(ValueError, match=r"sets tasks\[0\].target, .* and it lacks tasks\[0\].weight; use"):
        from_json(json.dumps(content))


def test_a_config_of_the_schema_before_the_nested_one_is_named_as_such():
    with pytest.raises(ValueError, match="it sets .*model.linear_rank.*and it lacks .*model.additions"):
        from_json(OLDER)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("train.epochs", "3", "must be a whole number, got '3'"),
        ("train.epochs", 3.0, "must be a whole number, got 3.0"),
        ("train.epochs", True, "must be a whole number, got True"),
        ("train.refit", 1, "must be True or False, got 1"),
        ("optimizer.learning_rate", True, "must be a number, got True"),
        ("optimizer.learning_rate", None, "must be a number, got None"),
        ("name", None, "must be text, got None"),
        ("evaluate.ks", 10, "must be a tuple of whole numbers, got 10"),
        ("optimizer.arguments", [], r"must be a dictionary of numbers, got \(\)"),
        ("train", 5, "must be a section Train, got 5"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_field(path, value, message):
    with pytest.raises(ValueError, match=f"^{path} {message}"):
        from_json(edited(path, value))


def test_an_element_of_another_type_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"evaluate\.ks\[1\] must be a whole number, got '5'"):
        from_json(edited("evaluate.ks", [10, "5"]))
    with pytest.raises(ValueError, match=r"optimizer\.arguments\.b1 must be a number, got 'x'"):
        from_json(edited("optimizer.arguments", {"b1": "x"}))


def test_whole_numbers_are_floats_where_floats_are_expected():
    learning_rate = from_json(edited("optimizer.learning_rate", 1)).optimizer.learning_rate
    assert (type(learning_rate), learning_rate) == (float, 1.0)
    assert from_json(edited("optimizer.arguments", {"b1": 1})).optimizer.arguments == {"b1": 1.0}


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_text_that_is_no_config_is_refused(text):
    with pytest.raises(ValueError):
        from_json(text)


@pytest.mark.parametrize("path", ["name", "train.epochs", "data.split.seed", "optimizer.arguments.b1"])
def test_fields_can_be_checked_by_path(path):
    check_field(Config, path)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"),
        ("data.split.tset_fraction", "data.split.test_fraction"),
        ("loss.embedding_l2", "regularization.embedding_l2"),  # the field of that name in another section
        ("train.epochs.first", "train.epochs"),
    ],
)
def test_a_path_to_no_field_is_named_with_the_nearest(path, nearest):
    with pytest.raises(ValueError, match=f"no field '{path}'; did you mean '{nearest}'"):
        check_field(Config, path)


@pytest.mark.parametrize("path", ["train", "data.columns"])
def test_a_section_is_no_field(path):
    with pytest.raises(ValueError, match=f"no field '{path}'"):
        check_field(Config, path)


def test_equal_configs_have_no_differences():
    assert differences(changed(), changed()) == []


def test_differences_name_the_field_and_both_values():
    theirs = Config()
    theirs.train.epochs = 7
    theirs.evaluate.ks = (5, 20)
    theirs.optimizer.arguments = {"b1": 0.5}
    ours = Config()
    assert differences(ours, theirs) == [
        f"evaluate.ks: {ours.evaluate.ks}, (5, 20)",
        "optimizer.arguments.b1: None, 0.5",
        f"train.epochs: {ours.train.epochs}, 7",
    ]
