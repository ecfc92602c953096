"""The package without a checkout: programs as sub-commands, configs by name, help."""

import re

import pytest
from program_cases import ROOT, started

import retrieval
from experiments.shared import configs
from experiments.shared.commands import as_started


def test_all_files_name_one_version():
    assert f"\nversion: {retrieval.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {retrieval.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert retrieval.__version__ in started("__main__", "--version").stdout


def test_the_programs_are_listed_with_what_they_do():
    shown = started("__main__").stdout
    assert re.search(r"^  run +Runs an experiment", shown, re.M) and re.search(r"^  sweep +Searches", shown, re.M)
    assert max(map(len, shown.splitlines())) <= 80
    assert "worker" not in shown and "__" not in shown


@pytest.mark.parametrize("words, text", [(["--version"], "retrieval 0."), (["rum"], "did you mean 'run'?")])
def test_a_word_that_is_no_program(words, text):
    result = started("__main__", *words)
    assert text in result.stdout + result.stderr


def test_a_program_takes_its_flags_as_a_subcommand():
    result = started("__main__", "verify", "--bundle=/nowhere")
    assert result.returncode == 1 and "verdict: 1 mismatches" in result.stdout


def test_a_config_is_named_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = configs.FOLDER / "movielens_100k.py"
    for text in ("movielens_100k", "movielens_100k.py", "configs/movielens_100k", "configs/movielens_100k.py"):
        assert configs.file_of(f"{text}:temporal") == f"{shipped}:temporal"
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "synthetic.py").write_text("")
    assert configs.file_of("mine") == "mine.py" and configs.file_of("synthetic") == "synthetic.py"
    assert configs.with_files(["run", "--config", "mine", "--workdir", "w"]) == [
        "run",
        "--config",
        "mine.py",
        "--workdir",
        "w",
    ]


def test_what_is_no_config_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is the folder of a run; give it as --workdir"):
        configs.file_of(str(tmp_path))
    with pytest.raises(ValueError, match="'movielens_10k'; did you mean 'movielens_100k'.*shipped are"):
        configs.file_of("movielens_10k")
    with pytest.raises(ValueError, match="No such file"):
        configs.file_of("")


def test_messages_name_programs_as_they_are_started(monkeypatch):
    text = "experiments.export writes one: python -m experiments.export --workdir=runs/experiments.x"
    assert as_started(text) == text
    monkeypatch.setattr("experiments.shared.commands.IS_INSTALLED", True)
    assert as_started(text).startswith("retrieval export writes one: retrieval export --workdir=")
    assert as_started("pip install -e '.[sweep]'") == "pip install 'retrieval[sweep]'"


@pytest.mark.parametrize("program", ["run", "recommend", "export", "compare", "sweep", "verify"])
def test_help_exits_with_0_and_lists_every_flag(program):
    result = started(program, "--help")
    assert result.returncode == 0 and "--[no]quiet" in result.stdout and "absl" not in result.stdout


def test_help_of_a_config_lists_every_option():
    shown = started("train", "--help=config").stdout
    assert "train.epochs: a whole number" in shown and "index.hnsw.ef: " in shown and "|" not in shown


@pytest.mark.parametrize(
    "program, flag, told",
    [
        ("run", "--epochs=3", "did you mean --config.train.epochs=3?"),
        ("recommend", "--workdir=runs/mine", "this program reads a bundle, --bundle=runs/mine/bundle"),
        ("evaluate", "--config=synthetic", "the run has its own, give --workdir alone"),
        ("report", "--bundle=b", "this program reads a run, --workdir"),
        ("recommend", "--userid=3", "did you mean 'user_id'?"),
    ],
)
def test_a_flag_of_another_program_or_spelling_is_told_how_it_is_written(program, flag, told):
    result = started(program, flag)
    assert result.returncode == 1 and told in result.stderr
