"""Prints the best candidates for a query, or for a history, out of an exported bundle.

python -m experiments.recommend --bundle=runs/movielens_100k/bundle --user_id=10 --k=10
python -m experiments.recommend --bundle=runs/mine/bundle --history=121,64,7 --k=10
"""

from __future__ import annotations

from absl import flags as absl_flags

from experiments import console, flags
from retrieval import bundle
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.recommend import Recommender

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.", required=True)
USER_ID = absl_flags.DEFINE_string("user_id", None, "Raw id of the query; none: only its history is known.")
HISTORY = absl_flags.DEFINE_list(
    "history", None, "Raw ids of what the query did last, oldest first, joined by commas; none: what it did in train."
)
K = absl_flags.DEFINE_integer("k", 10, "How many candidates.", lower_bound=1)
EXCLUDE_SEEN = absl_flags.DEFINE_bool("exclude_seen", True, "Leave out what the query has in train and its history.")


def main() -> None:
    if USER_ID.value is None and HISTORY.value is None:
        raise ValueError("--user_id or --history is needed, received neither")
    recommender = bundle.load(BUNDLE.value)
    query_ids = None if USER_ID.value is None else [recommender.queries.parse(USER_ID.value)]
    history = None if HISTORY.value is None else [[recommender.candidates.parse(text) for text in HISTORY.value]]
    answer = recommender.recommend(query_ids, K.value, history=history, exclude_seen=EXCLUDE_SEEN.value)
    if query_ids is not None and not answer.known[0]:
        console.say(f"{query_ids[0]} {_unknown(recommender, query_ids[0])}")
    if history is not None:
        rows = recommender.candidates.rows(history[0])
        if skipped := [text for text, row in zip(HISTORY.value, rows, strict=True) if row == UNKNOWN_ROW]:
            console.say(f"not in the vocabulary, left out of the history: {', '.join(skipped)}")
    found = answer.positions[0] >= 0
    for title, score in zip(answer.titles[0][found], answer.scores[0][found], strict=True):
        console.say(f"{score:8.3f}  {title}")
    if not found.all():
        console.say(f"only {found.sum()} candidates are left, {K.value} were asked for")


def _unknown(recommender: Recommender, query_id: int | str) -> str:
    """Returns what to say of a query that train has not."""
    if recommender.queries.rows([query_id])[0] != UNKNOWN_ROW:
        return "is not in train: this is the answer to its features"
    answered = "an unknown query" if HISTORY.value is None else "an unknown query with this history"
    return f"is not in the vocabulary: this is the answer for {answered}"


if __name__ == "__main__":
    flags.run(main)
