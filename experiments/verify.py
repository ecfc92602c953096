"""Checks a bundle: its hashes, its consistency, and whether it answers as it did at its export.

python -m experiments.verify --bundle=runs/movielens_100k/bundle

It prints a line for each check, each mismatch by name, and a verdict; the exit status is 1 after a mismatch. Where the
files that the model was trained on are within reach, it also says whether they are still the same: a bundle stays sound
when its data go on, but answers from the data of its export.
"""

from __future__ import annotations

import sys

from absl import flags as absl_flags

from retrieval.serving import bundle

from .shared import console, flags
from .shared.run_data import changes_of_data

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.", required=True)


VERIFY_KEY = absl_flags.DEFINE_string(
    "verify_key", None, "PEM file of the public key whose owner must have signed the bundle; none: nobody must."
)


def main() -> None:
    findings = list(bundle.inspect(BUNDLE.value, VERIFY_KEY.value))
    rows = [
        [finding.check, "mismatch" if finding.problems else "ok", "" if finding.problems else finding.facts]
        for finding in findings
    ]
    console.show_table(f"Bundle {BUNDLE.value}", ["check", "", ""], rows)
    for line in changes_of_data(BUNDLE.value):
        console.say(line)
    problems = [problem for finding in findings for problem in finding.problems]
    for problem in problems:
        console.say(f"mismatch: {problem}")
    console.say(f"verdict: {f'{len(problems)} mismatches, do not serve it' if problems else 'sound'}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    flags.run(main)
