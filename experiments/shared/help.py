"""What `--help` prints: the purpose of a program, its flags, and with `--help=config` every option of a config."""

from __future__ import annotations

import sys
import textwrap

from absl import flags

from retrieval.config.reference import listing

from . import console

WIDTH = 80
ASKS = {"--help", "-help", "-h", "--helpfull", "--helpshort"}
REQUIRED = "must have a value other than None"  # of the check of a required flag
OPTIONS = {"--help=config", "--help=index"}


def is_asked(argv: list[str]) -> bool:
    """Tells whether the arguments ask for help."""
    return any(argument in ASKS or argument.startswith("--help=") for argument in argv[1:])


def show(argv: list[str]) -> None:
    """Prints the help of the program that runs, or the options of a config."""
    if OPTIONS & set(argv):
        return console.say(f"--config.PATH=VALUE sets an option.\n\n{listing()}")
    lines = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
    own = _flags()
    for name in sorted(own):
        lines += _lines(own[name])
    if "config" in own or "index" in own:
        lines += ["", "--help=config lists every option with its type, range and default."]
    console.say("\n".join(lines))


def _flags() -> dict[str, flags.Flag]:
    """Returns the flags of the program by name, without those that every program of absl has."""
    by_module = flags.FLAGS.flags_by_module_dict()
    foreign = {flag.name for module, defined in by_module.items() if module.startswith("absl") for flag in defined}
    return {name: flags.FLAGS[name] for name in flags.FLAGS if len(name) > 1 and name not in foreign}


def _lines(flag: flags.Flag) -> list[str]:
    """Returns the lines of one flag: its name, its default or that it must be given, and what it does."""
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={flag.name.upper()}"
    if any(REQUIRED in validator.message for validator in flag.validators):
        name += "  (required)"
    elif flag.default not in (None, "", False):
        name += f"  (default {flag.default})"
    text = textwrap.wrap(" ".join(flag.help.split()), WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return [f"  {name}", *(f"      {line}" for line in text)]
