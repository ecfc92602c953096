"""How a user starts the programs: `python -m experiments.NAME` in a checkout, else `retrieval NAME`."""

from __future__ import annotations

import re

PACKAGE = __package__.rpartition(".")[0]  # "experiments", or "retrieval.programs" where the package is installed
IS_INSTALLED = PACKAGE != "experiments"
PROGRAM = re.compile(r"(?:python -m )?\bexperiments\.(?=[a-z])")


def as_started(text: str) -> str:
    """Returns a text that names programs of `experiments` with their names as this program was started."""
    return PROGRAM.sub("retrieval ", text) if IS_INSTALLED else text
