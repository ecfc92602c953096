"""How a user starts the programs: `python -m experiments.NAME` in a checkout, else `retrieval NAME`."""

from __future__ import annotations

import re

PACKAGE = __package__.rpartition(".")[0]  # "experiments", or "retrieval.programs" where the package is installed
IS_INSTALLED = PACKAGE != "experiments"
EXTRA = re.compile(r"pip install -e '\.\[([a-z,]+)\]'")
PROGRAM = re.compile(r"(?:python -m )?\bexperiments\.(?=[a-z])")


def as_started(text: str) -> str:
    """Returns a text with the programs, and the extras to install, named as fits the way this program was started."""
    return EXTRA.sub(r"pip install 'retrieval[\1]'", PROGRAM.sub("retrieval ", text)) if IS_INSTALLED else text
