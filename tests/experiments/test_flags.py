"""Wrong overrides on the command line end a program with one line, before a config file is read."""

import sys

import pytest
from absl import flags as absl_flags
from ml_collections import config_flags

from experiments.shared import arguments as parsing


def ending(*arguments):
    """Returns the message that a command line with these arguments ends with; None where it is accepted."""
    try:
        parsing.check_overrides(["program", *arguments])
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("evaluate.ks=ten", "evaluate.ks must be a tuple of whole numbers, got 'ten'"),
        ("evaluate.ks=5,ten", "evaluate.ks must be a tuple of whole numbers, got '5,ten'"),
        ("evaluate.ks=1.5", "evaluate.ks must be a tuple of whole numbers, got '1.5'"),
        ("evaluate.ks=True", "evaluate.ks must be a tuple of whole numbers, got 'True'"),
        ("evaluate.ks=", "evaluate.ks must be a tuple of whole numbers, got nothing"),
        ("evaluate.ks=(5, 10", "evaluate.ks must be a tuple of whole numbers, got '(5, 10'"),
        ("evaluate.ks={5, 10}", "evaluate.ks must be a tuple of whole numbers, got '{5, 10}'"),
        (
            "model.query.mlp.hidden_sizes=64,x",
            "hidden_sizes must be a tuple of whole numbers, got '64,x'",
        ),
        ("train.epochs=1e3", "train.epochs must be a whole number, got '1e3'"),
        ("train.epochs=", "train.epochs must be a whole number, got nothing"),
        ("train.seed=0x10", "train.seed must be a whole number, got '0x10'"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate must be a number, got 'fast'"),
        ("optimizer.arguments.b1=x", "optimizer.arguments.b1 must be a number, got 'x'"),
        ("optimizer.arguments={}", "optimizer.arguments is a dictionary of numbers, which the config file sets"),
        ("train.refit=maybe", "train.refit must be True or False, got 'maybe'"),
        ("tasks=3", "tasks is a tuple of sections Task, which the config file sets"),
        (
            "train.epoch=3",
            "the config has no field 'train.epoch'; did you mean 'train.epochs'?",
        ),
        ("loss.embedding_l2=1", "did you mean 'regularization.embedding_l2'?"),
        ("model=3", "the config has no field 'model'"),
    ],
)
def test_a_wrong_override_is_named_with_its_field_and_value(argument, message):
    error = ending("--quiet", f"--config.{argument}")
    assert error.startswith("error: ") and message in error and "\n" not in error


def test_a_value_after_a_blank_is_checked_too():
    assert "must be a whole number, got 'three'" in ending("--config.train.epochs", "three", "--quiet")
    assert "must be a whole number, got nothing" in ending("--config.train.epochs")


@pytest.mark.parametrize(
    "argument",
    [
        *("config.evaluate.ks=5", "config.evaluate.ks=5,10", "config.evaluate.ks=(5, 10)", "config.evaluate.ks=()"),
        *("config.train.epochs=-3", "config.optimizer.learning_rate=1e-3", "config.optimizer.learning_rate=1"),
        *("config.train.refit", "noconfig.train.refit", "config.train.refit=false", "config.loss.log_q=1"),
        *("config.name=", "config.data.columns.title=a=b", "config.optimizer.arguments.b1=0.9"),
        *("config.model.history.inputs=gaps", "config.model.history.inputs=('gaps', 'ages')"),
        *("index.k=3", "index.hnsw.M=16", "config=configs/x.py", "workdir=runs/config.x"),
    ],
)
def test_what_can_be_read_is_accepted(argument):
    assert ending(f"--{argument}") is None


def test_the_settings_of_an_index_are_named_by_their_path():
    assert "index.hnsw.M must be a whole number, got 'many'" in ending("--index.hnsw.M=many")
    assert "no field 'index.target'; did you mean" in ending("--index.target=0.5")


def test_an_error_names_fields_as_the_command_line_does(monkeypatch):
    text = "train.epochs must be 0 or more; set data.columns.rating, or model.additions[0].weight; see 'train.seed'"
    monkeypatch.setattr(parsing.flags, "FLAGS", {"config": None})
    assert parsing.as_typed(text) == (
        "--config.train.epochs must be 0 or more; set --config.data.columns.rating, or model.additions[0].weight; "
        "see 'train.seed'"
    )
    monkeypatch.setattr(parsing.flags, "FLAGS", {"index": None})
    assert (
        parsing.as_typed("index.k must be 1 or more, train.epochs 0") == "--index.k must be 1 or more, train.epochs 0"
    )
    monkeypatch.setattr(parsing.flags, "FLAGS", {})
    assert parsing.as_typed(text) == text


@pytest.mark.parametrize("argument", ["--workdir=a\x1b[31m", "--config.name=\udcff", "--filter=kind=\0", "runs/\n"])
def test_an_argument_that_no_line_can_hold_is_refused_by_every_program(argument):
    error = ending("--quiet", argument)
    assert "which no argument may have" in error and error.isprintable()


@pytest.mark.parametrize("typed", [["--workdir="], ["--bundle="], ["--workdir", ""], ["--quiet", "--bundle"]])
def test_a_folder_without_a_name_is_not_the_current_one(typed):
    assert "is empty, which would be the current folder" in ending(*typed)
    assert ending("--workdir=.") is None


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "AttributeError: .* has no attribute 'get_config'"),
        ("user_id,item_id\n1,2\n", r"config.py, line 1: NameError: name 'user_id' is not defined"),
        ("def get_config():\n    return 1 / 0\n", r"config.py, line 2: ZeroDivisionError: division by zero"),
        ("def get_config(:\n", r"SyntaxError: invalid syntax \(.*config.py, line 1\)"),
    ],
)
def test_a_config_file_with_an_error_is_named_with_the_line(tmp_path, monkeypatch, content, message):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # of another test: a new one would be laid over it
    path = tmp_path / "config.py"
    path.write_text(content)
    values = absl_flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    with pytest.raises(ValueError, match=f"--config: .*{message}") as raised, parsing.running_config():
        values(["program", f"--config={path}"])
    assert "\n" not in str(raised.value)


def test_a_file_that_out_names_is_checked_before_the_work(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    (tmp_path / "before.json").write_text("[]")
    for name in ("before.json", "new"):
        assert parsing.writable(str(tmp_path / name), ".json") == tmp_path / name
    for name, message in (("", "is a folder"), ("no/x", "does not exist"), ("thesis.txt", "nothing is overwritten")):
        with pytest.raises(ValueError, match=message):
            parsing.writable(str(tmp_path / name), ".json")
