"""Whatever is assigned to a field, the config is refused with its path, or it is written and comes back the same."""

import enum
import fractions
import pathlib
import typing
from collections.abc import Hashable

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.config.checks import check
from retrieval.config.fields import field_types
from retrieval.config.schema import Addition, Config, Feature, Task
from retrieval.config.serialization import differences, from_json, to_json
from retrieval.config.space import Choice, check_space, value_of, with_settings
from retrieval.config.values import check_values

FIELDS = sorted(field_types(Config))


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


wholes = st.integers(-3, 70) | st.sampled_from([2**31, 2**53 + 1, 2**63, 10**400, Level.HIGH])
scalars = (
    wholes
    | st.booleans()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([None, 1j, b"x", Colour.RED, fractions.Fraction(1, 3), pathlib.Path("a/b"), object])
    | wholes.filter(lambda n: abs(n) < 2**63).map(np.int64)
    | st.floats(width=32).map(np.float32)
    | st.booleans().map(np.bool_)
    | st.text(max_size=4).map(np.str_)
    | st.integers(0, 9).map(np.array)
    | st.integers(0, 9).map(jnp.int32)
)
keys = st.text(max_size=3) | scalars.filter(lambda value: isinstance(value, Hashable))
sections = st.sampled_from(
    [Feature("id"), Feature("a", size=np.int64(3)), Task("t", hidden_sizes=[np.int32(4)]), Addition(), {"name": "t"}]
)
lists = st.lists(st.integers(1, 70) | scalars | sections, max_size=3)
anything = (
    scalars
    | sections
    | lists
    | lists.map(tuple)
    | st.lists(st.integers(1, 9), max_size=3).map(np.array)
    | st.just(range(1, 3))
    | st.sets(st.integers(1, 9), max_size=2)
    | st.dictionaries(keys, scalars, max_size=2)
)


def is_plain(value, hint):
    """Tells whether a value and all in it have exactly the annotated type."""
    container = typing.get_origin(hint)
    if container is tuple:
        return type(value) is tuple and all(is_plain(item, typing.get_args(hint)[0]) for item in value)
    if container is dict:
        return type(value) is dict and all(type(k) is str and type(item) is float for k, item in value.items())
    return type(value) is hint


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(FIELDS), anything)
@example("evaluate.ks", [5, 10])
@example("data.drop_duplicates", "no")
@example("train.batch_size", np.int64(16))
@example("data.interactions", pathlib.Path("events.csv"))
@example("optimizer.learning_rate", 10**400)
@example("name", "\ud800")
def test_a_value_is_refused_by_its_path_or_comes_back_from_json_as_it_is(field, value):
    config = Config()
    *path, name = field.split(".")
    setattr(value_of(config, ".".join(path)) if path else config, name, value)
    try:
        check_values(config)
    except ValueError as error:
        assert field in str(error) and len(str(error)) < 1000 and "\n" not in str(error)
        return
    hints = field_types(Config)
    assert all(is_plain(value_of(config, path), hint) for path, hint in hints.items())
    again = from_json(to_json(config))
    assert again == config and differences(again, config) == []


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["optimizer", "addition"]), keys, scalars)
@example("optimizer", "b1", 1)
@example("optimizer", "b1", np.float32(0.9))
@example("optimizer", 1, 0.5)
def test_what_is_put_into_a_dictionary_later_is_checked_and_normalised_too(section, key, value):
    config = Config(tasks=(Task("stars"),))
    config.model.additions = (Addition(),)
    arguments = config.optimizer.arguments if section == "optimizer" else config.model.additions[0].arguments
    arguments[key] = value
    try:
        check_values(config)
    except ValueError as error:
        assert "arguments" in str(error)
    else:
        assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("evaluate.ks", [np.int64(5), 10], (5, 10)),
        ("evaluate.ks", np.array([5, 10]), (5, 10)),
        ("evaluate.ks", range(9, 11), (9, 10)),
        ("data.drop_duplicates", np.bool_(False), False),
        ("train.batch_size", np.array(16), 16),
        ("optimizer.learning_rate", np.float64(0.1), 0.1),
        ("optimizer.learning_rate", Level.HIGH, 3.0),
        ("data.path", pathlib.Path("a") / "b", "a/b"),
        ("name", Colour.RED, "red"),
    ],
)
def test_a_value_that_means_the_same_is_the_same_from_python_and_in_a_search_space(field, value, meant):
    config = with_settings(Config(), {field: value})
    check(config)
    assert value_of(config, field) == meant and type(value_of(config, field)) is type(meant)
    if field.startswith(("train", "optimizer")):
        check_space({field: Choice(value, meant + 1)}, Config())


@pytest.mark.parametrize("other", [None, {}, "configs/synthetic.py", Config().train])
def test_what_is_no_config_is_refused_as_such(other):
    with pytest.raises(ValueError, match=r"a config must be a retrieval\.Config, got "):
        check(other)
