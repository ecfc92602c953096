"""Checks a bundle: hashes, whether its parts go together, and whether it answers as it did when it was exported.

python -m experiments.verify --bundle=runs/movielens_100k/bundle

Prints a line for each check, each mismatch by name, and a verdict; the exit status is 1 where there is a mismatch.
"""

from __future__ import annotations

import sys

from absl import flags as absl_flags

from experiments.shared import console, flags
from retrieval.serving import bundle

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.", required=True)


def main() -> None:
    findings = list(bundle.inspect(BUNDLE.value))
    rows = [[of.check, "mismatch" if of.problems else "ok", "" if of.problems else of.facts] for of in findings]
    console.show_table(f"Bundle {BUNDLE.value}", ["check", "", ""], rows)
    problems = [problem for of in findings for problem in of.problems]
    for problem in problems:
        console.say(f"mismatch: {problem}")
    console.say(f"verdict: {f'{len(problems)} mismatches, do not serve it' if problems else 'sound'}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    flags.run(main)
