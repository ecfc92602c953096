"""A config survives JSON, and errors in one name the field and what it should be."""

import json

import pytest

from retrieval.config import schema as config_lib
from retrieval.config.schema import Config, check_field, differences, from_json, to_json


def changed():
    config = Config(name="changed")
    config.data.columns.title = "überschrift"
    config.data.split.test_fraction = 0.125
    config.model.query.hidden_sizes = (64, 32)
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
    assert type(again.model.query.hidden_sizes) is tuple


def test_every_config_has_sections_of_its_own():
    Config().train.epochs = 99
    Config().optimizer.arguments["b1"] = 0.5
    assert Config().train.epochs != 99
    assert Config().optimizer.arguments == {}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("train.epoch", r"config\.train has no field 'epoch'; did you mean 'epochs'\?"),
        ("data.columns.tittle", r"config\.data\.columns has no field 'tittle'; did you mean 'title'\?"),
        ("modle", r"config has no field 'modle'; did you mean 'model'\?"),
        ("zzz", "config has no field 'zzz'$"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(path, message):
    with pytest.raises(ValueError, match=message):
        from_json(edited(path, 1))


@pytest.mark.parametrize("path", ["train.epochs", "data.split.seed", "index"])
def test_a_missing_field_is_named(path):
    content = json.loads(to_json(Config()))
    section = content
    *sections, field = path.split(".")
    for name in sections:
        section = section[name]
    del section[field]
    with pytest.raises(ValueError, match=f"config.{path} is missing"):
        from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("train.epochs", "3", "must be int, got '3'"),
        ("train.epochs", 3.0, "must be int, got 3.0"),
        ("train.epochs", True, "must be int, got True"),
        ("train.refit", 1, "must be bool, got 1"),
        ("optimizer.learning_rate", True, "must be float, got True"),
        ("optimizer.learning_rate", None, "must be float, got None"),
        ("name", None, "must be str, got None"),
        ("evaluate.ks", 10, "must be tuple, got 10"),
        ("optimizer.arguments", [], r"must be dict, got \[\]"),
        ("train", 5, "must be a section, got 5"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_field(path, value, message):
    with pytest.raises(ValueError, match=f"config.{path} {message}"):
        from_json(edited(path, value))


def test_an_element_of_another_type_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"config\.evaluate\.ks\[1\] must be int, got '5'"):
        from_json(edited("evaluate.ks", [10, "5"]))
    with pytest.raises(ValueError, match=r"config\.optimizer\.arguments\.b1 must be float, got 'x'"):
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
    check_field(path)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"),
        ("data.split.tset_fraction", "data.split.test_fraction"),
        ("model.embedding_l2", "loss.embedding_l2"),  # the field of that name in another section
        ("train.epochs.first", "train.epochs"),
    ],
)
def test_a_path_to_no_field_is_named_with_the_nearest(path, nearest):
    with pytest.raises(ValueError, match=f"no field '{path}'; did you mean '{nearest}'"):
        check_field(path)


@pytest.mark.parametrize("path", ["train", "data.columns"])
def test_a_section_is_no_field(path):
    with pytest.raises(ValueError, match=f"no field '{path}'"):
        check_field(path)


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
