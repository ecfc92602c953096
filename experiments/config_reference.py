"""Prints the reference of all options of a config, in Markdown, with the shipped configs that set each of them.

python -m experiments.config_reference > docs/config.md
"""

from __future__ import annotations

from retrieval.config.reference import reference
from retrieval.config.schema import Config

from .shared import configs, console, flags

HEAD = """# Options of a config

Generated from the schema by `python -m experiments.config_reference`. `--config.PATH=VALUE` sets an option from the
shell, `config.PATH = VALUE` in a config file or in Python; options in tuples of sections are set in config files and
Python alone. A value of another type, out of range or under a misspelt name is refused before any work, with its path.
One that means the same becomes the type of the option: a list, a range or an array where a tuple is, a number of NumPy,
a whole number where a float holds it exactly, a path where text is. So a config is equal to what its config.json says.

The last column names the shipped configs that set another value than the default; for the other options, the command,
the measurement or the request that they are there for. Metrics in it are those of the validation part with training
seed 0, in `metrics.jsonl` of a run with that option and `--config.train.refit=False`.
"""


def shipped() -> dict[str, Config]:
    """Returns the configs in `configs/` with their variants, by what `--config` calls them."""
    found = {}
    for name in configs.shipped():
        module = configs.module_of(name)
        for variant in getattr(module, "VARIANTS", ("",)):
            found[f"{name}:{variant}".rstrip(":")] = module.get_config(*filter(None, [variant]))
    return found


def page() -> str:
    """Returns the page of the documentation."""
    return f"{HEAD}\n{reference(shipped())}"


def main() -> None:
    console.say(page().rstrip("\n"))


if __name__ == "__main__":
    flags.run(main)
