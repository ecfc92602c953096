"""The programs, flags, configs, fields and files that README and documentation name exist."""

import ast
import importlib.util
import re
import sys

import ml_collections.config_flags as config_flags
import pytest
from absl import flags as absl_flags
from docs_cases import GENERATED, PAGES, ROOT, commands, text_of
from test_imports import ROOMS

from experiments.config_reference import page as config_page
from retrieval.config import checks
from retrieval.config.fields import check_field, field_types
from retrieval.config.schema import Config
from retrieval.evaluation.registry import METRICS

EXPERIMENTS = ROOT / "experiments"
WRITTEN = [page for page in PAGES if page not in GENERATED]
SECTIONS = "|".join(("data", "model", "loss", "regularization", "negatives", "optimizer", "train", "evaluate", "index"))


def program_file(program):
    """Returns the file that `python -m experiments.PROGRAM` runs."""
    path = EXPERIMENTS / f"{program.removeprefix('experiments.')}.py"
    return path if path.is_file() else path.with_suffix("") / "__main__.py"


def defined(tree):
    """Returns the first argument of each call of an absl DEFINE function."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return {call.args[0].value for call in calls if call.func.attr.startswith("DEFINE_")}


def flags_of(program):
    """Returns the flags of a program: its own, and those of the shared functions that it calls."""
    shared = ast.parse((EXPERIMENTS / "shared/flags.py").read_text(encoding="utf-8"))
    functions = {node.name: defined(node) for node in shared.body if isinstance(node, ast.FunctionDef)}
    tree = ast.parse(program_file(program).read_text(encoding="utf-8"))
    called = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    names = defined(tree).union(*(functions[name] for name in called & functions.keys()), functions["define_quiet"])
    return names | {f"no{name}" for name in names} | {"help"}


@pytest.mark.parametrize("page", WRITTEN)
def test_every_command_names_a_program_and_its_flags(page):
    for program, *words in commands(text_of(page)):
        assert program_file(program).is_file(), f"{page}: {program}"
        for word in words:
            if word.startswith("--"):
                name = re.match(r"--([a-z_]+)", word)[1]
                assert name in flags_of(program), f"{page}: {program} {word}"


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("page", WRITTEN)
def test_every_command_makes_a_config_that_passes_the_checks(page, monkeypatch):
    for program, *words in commands(text_of(page)):
        settings = [word for word in words if word.startswith("--config")]
        if settings:
            monkeypatch.setattr(sys, "argv", [program, *settings])  # where ml_collections looks for overrides
            values = absl_flags.FlagValues()
            config_flags.DEFINE_config_file("config", flag_values=values)
            values(sys.argv)
            assert isinstance(values.config, Config), f"{page}: {settings}"
            checks.check(values.config)
            assert not checks.unread(values.config), f"{page}: {settings}"


@pytest.mark.parametrize("page", WRITTEN)
def test_every_config_and_variant_exists(page):
    for name, variant in re.findall(r"\b(configs/[a-z_0-9]+\.py)(?::([a-z_0-9]+))?", text_of(page)):
        spec = importlib.util.spec_from_file_location("config_file", ROOT / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert isinstance(module.get_config(*([variant] if variant else [])), Config)


@pytest.mark.parametrize("page", WRITTEN)
def test_every_field_in_backticks_exists(page):
    for name in re.findall(rf"`(?:config\.)?((?:{SECTIONS})\.[A-Za-z_0-9.]*[a-z0-9])[`=]", text_of(page)):
        sections = {path.rsplit(".", i)[0] for path in field_types(Config) for i in (1, 2)}
        if name not in sections:
            check_field(Config, name)


@pytest.mark.parametrize("page", WRITTEN)
def test_every_file_and_program_in_the_text_exists(page):
    text = text_of(page)
    for name in re.findall(r"\b((?:configs|retrieval|experiments|tests)/[a-z_0-9/]+\.pyi?)\b", text):
        assert (ROOT / name).is_file(), f"{page}: {name}"
    for name in re.findall(r"`(experiments\.[a-z_]+)", text):
        assert program_file(name).is_file(), f"{page}: {name}"


def test_every_option_is_shown_in_use():
    shown = "\n".join(text_of(page) for page in WRITTEN).replace("model.query.", "model.candidate.")
    paths = {path.replace("model.query.", "model.candidate.") for path in field_types(Config)} - {"name"}
    assert not [path for path in paths if not re.search(rf"\b{re.escape(path)}\b", shown)]


def test_the_readme_is_short_and_has_the_two_commands():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 200
    main = "python -m experiments.run --config=configs/movielens_100k.py --workdir=runs/movielens_100k"
    assert f"```sh\npip install -e . && {main}\n```" in text
    assert "```sh\npip install -e '.[test]' && pytest\n```" in text


def test_the_reference_of_the_config_is_up_to_date():
    written = text_of("config.md").rstrip("\n")
    assert written == config_page().rstrip("\n"), "run: python -m experiments.config_reference > docs/config.md"


def test_the_recipes_name_what_their_files_define():
    recipes = re.findall(r"`([A-Za-z_]+)` in `([a-z_/]+\.py)`", text_of("contributing.md"))
    assert len(recipes) >= 10
    for name, file in recipes:
        assert re.search(rf"^(def |class )?{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_metric_has_a_formula():
    text = text_of("evaluation.md")
    missing = [metric.name for metric in METRICS if not re.search(rf"[`/]{metric.name}(_at_k)?`", text)]
    assert not missing, f"docs/evaluation.md has no formula of {missing}"


def test_the_rooms_are_listed_in_their_order():
    assert tuple(re.findall(r"^\| `([a-z]+)` \|", text_of("contributing.md"), re.MULTILINE)) == ROOMS
