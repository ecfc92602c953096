"""Prints the best candidates for a query, out of an exported bundle.

python -m experiments.recommend --bundle=runs/movielens_100k/bundle --user_id=10 --k=10
"""

from __future__ import annotations

from absl import flags as absl_flags

from experiments import console, flags
from retrieval import bundle

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.", required=True)
USER_ID = absl_flags.DEFINE_string("user_id", None, "Raw id of the query.", required=True)
K = absl_flags.DEFINE_integer("k", 10, "How many candidates.", lower_bound=1)
EXCLUDE_SEEN = absl_flags.DEFINE_bool("exclude_seen", True, "Leave out what the query has in train.")


def main() -> None:
    recommender = bundle.load(BUNDLE.value)
    query_id = recommender.queries.parse(USER_ID.value)
    answer = recommender.recommend([query_id], K.value, exclude_seen=EXCLUDE_SEEN.value)
    if not answer.known[0]:
        console.say(f"{query_id} is not in the vocabulary: this is the answer for an unknown query")
    found = answer.positions[0] >= 0
    for title, score in zip(answer.titles[0][found], answer.scores[0][found], strict=True):
        console.say(f"{score:8.3f}  {title}")
    if not found.all():
        console.say(f"only {found.sum()} candidates are left, {K.value} were asked for")


if __name__ == "__main__":
    flags.run(main)
