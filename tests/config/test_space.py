"""Search spaces: what may vary, and how settings reach the config."""

import shlex

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import config_flags

from retrieval.config.fields import field_types
from retrieval.config.schema import Config, Feature
from retrieval.config.space import (
    Choice,
    LogUniform,
    Uniform,
    as_flags,
    check_space,
    default_space,
    from_record,
    is_whole,
    to_record,
    value_of,
    with_settings,
)


def with_momentum():
    config = Config()
    config.optimizer.arguments = {"momentum": 0.5}
    return config


def test_the_default_space_and_all_kinds_of_fields_are_accepted():
    check_space(default_space(Config()), Config())
    space = {
        "model.query.mlp.hidden_sizes": Choice((), (64,), (64, 32)),
        "loss.log_q": Choice(True, False),
        "optimizer.name": Choice("adagrad", "lazy_adam"),
        "optimizer.arguments.momentum": Uniform(0.0, 0.9),
        "loss.temperature": Uniform(1, 2),
        "train.batch_size": LogUniform(256, 4096),
    }
    check_space(space, with_momentum())


@pytest.mark.parametrize(
    "space, message",
    [
        ({}, "a dictionary from fields"),
        ([("loss.temperature", Uniform(0.5, 2.0))], "a dictionary from fields"),
        ({"loss.temprature": Uniform(0.5, 2.0)}, "no field 'loss.temprature'; did you mean 'loss.temperature'"),
        ({"loss": Uniform(0.5, 2.0)}, "no field 'loss'"),
        ({"loss.temperature": (0.5, 2.0)}, "loss.temperature must vary by one of Uniform, LogUniform, Choice"),
        ({"loss.temperature": Uniform(2.0, 0.5)}, "low < high"),
        ({"loss.temperature": Uniform(0.5, float("inf"))}, "finite"),
        ({"loss.temperature": Uniform(0.5, float("nan"))}, "finite"),
        ({"loss.temperature": LogUniform(0.0, 2.0)}, "0 < low < high"),
        ({"loss.temperature": Choice(1.0)}, "two different values"),
        ({"loss.temperature": Choice(1.0, 1.0, 2.0)}, "two different values"),
        ({"model.query.features": Choice((), (Feature(column="id"),))}, "texts, numbers, booleans or tuples"),
        ({"train.batch_size": Uniform(256.0, 512.0)}, "train.batch_size must be a whole number, got 256.0"),
        ({"train.batch_size": Choice(256, "512")}, "train.batch_size must be a whole number, got '512'"),
        ({"train.average": Uniform(0.0, 2.0)}, "train.average must be 0 or more, below 1, got 2.0"),
        ({"model.history.layers": Choice(0, 1)}, "model.history.layers must be 1 or more, at most 64, got 0"),
        ({"loss.log_q": Uniform(0, 1)}, "loss.log_q must be True or False, got 0"),
        ({"optimizer.name": Uniform(False, True)}, "must lie between numbers"),
        ({"data.split.seed": Choice(1, 2)}, "data.split.seed cannot vary in a sweep"),
        ({"train.metric": Choice("a", "b")}, "train.metric cannot vary in a sweep"),
        ({"name": Choice("a", "b")}, "name cannot vary in a sweep"),
        ({"optimizer.arguments.momentum": Uniform(0.0, 0.9)}, "get_config\\(\\) must set it"),
    ],
)
def test_what_cannot_vary_is_named(space, message):
    with pytest.raises(ValueError, match=message):
        check_space(space, Config())


def test_the_batch_size_is_whole_and_the_temperature_is_not():
    assert is_whole("train.batch_size") and not is_whole("loss.temperature") and not is_whole("loss.log_q")
    assert not is_whole("optimizer.arguments.momentum")


def test_settings_are_set_in_a_copy():
    config = with_momentum()
    changed = with_settings(config, {"optimizer.arguments.momentum": 0.9, "model.query.mlp.hidden_sizes": (64,)})
    assert changed.optimizer.arguments == {"momentum": 0.9} and changed.model.query.mlp.hidden_sizes == (64,)
    assert config == with_momentum()
    assert value_of(changed, "optimizer.arguments.momentum") == 0.9
    with pytest.raises(ValueError, match="optimizer.arguments.nesterov is not set"):
        with_settings(config, {"optimizer.arguments.nesterov": 1.0})


def test_the_default_space_lies_around_the_config():
    config = with_settings(
        Config(), {"regularization.embedding_l2": 0.0, "optimizer.learning_rate": 0.001, "train.batch_size": 2}
    )
    space = default_space(config)
    check_space(space, config)
    assert space == {"optimizer.learning_rate": LogUniform(0.0002, 0.005), "train.batch_size": Choice(1, 2, 4, 8)}


numbers = st.floats(1e-3, 1e3) | st.integers(1, 1000)
declarations = (
    st.builds(Uniform, numbers, numbers)
    | st.builds(LogUniform, numbers, numbers)
    | st.lists(
        numbers | st.text(max_size=3) | st.booleans() | st.tuples(numbers, numbers) | st.just(()), max_size=4
    ).map(lambda values: Choice(*values))
)


@given(st.dictionaries(st.sampled_from(sorted(field_types(Config))), declarations, max_size=3))
def test_a_space_survives_its_record(space):
    again = from_record(to_record(space))
    assert again == space and list(map(repr, again.values())) == list(map(repr, space.values()))


@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@given(
    st.fixed_dictionaries(
        {
            "loss.temperature": st.floats(1e-9, 1e9),
            "train.batch_size": st.integers(1, 10**9),
            "loss.log_q": st.booleans(),
            "optimizer.name": st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
            "model.query.mlp.hidden_sizes": st.lists(st.integers(1, 999)).map(tuple),
            "optimizer.arguments.momentum": st.floats(0.0, 1.0),
        }
    )
)
def test_flags_set_what_the_settings_say(tmp_path_factory, chosen):
    path = tmp_path_factory.getbasetemp() / "with_momentum.py"
    path.write_text(
        "from retrieval.config.schema import Config\n\ndef get_config():\n    config = Config()\n"
        "    config.optimizer.arguments = {'momentum': 0.5}\n    return config\n"
    )
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    argv = ["program", f"--config={path}", *shlex.split(" ".join(as_flags(chosen)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", argv)  # where overrides are looked for
        values(argv)
    assert holder.value == with_settings(with_momentum(), chosen)
