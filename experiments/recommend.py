"""Prints recommendations for a user, a history or features, or items like another, from an exported bundle.

    python -m experiments.recommend --bundle=runs/movielens_100k/bundle --user_id=10 --k=10
    python -m experiments.recommend --bundle=runs/movielens_100k/bundle --user_id=10 --filter=genres=Comedy \\
        --filter="release_year>=1990"
    python -m experiments.recommend --bundle=runs/movielens_100k/bundle --similar_to="Star Wars (1977)" --k=10
    python -m experiments.recommend --bundle=runs/movielens_100k/bundle --users_file=users.txt --format=csv
    python -m experiments.recommend --bundle=runs/temporal/bundle --features=age=24 --features=gender=F --k=10
    python -m experiments.recommend --bundle=runs/mine/bundle --history=121,64,7 --k=10
"""

from __future__ import annotations

import csv
import pathlib
import re
from collections.abc import Sequence

from absl import flags as absl_flags

from retrieval.common.choices import did_you_mean
from retrieval.common.list_length import LARGEST_K
from retrieval.data.columns import type_of
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.values import parse_number
from retrieval.index import Filter
from retrieval.serving import bundle
from retrieval.serving.answers import Recommendations
from retrieval.serving.recommender import Recommender

from .shared import answers, console, flags

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.", required=True)
USER_ID = absl_flags.DEFINE_string("user_id", None, "Raw id of the user; none: an unknown user.")
HISTORY = absl_flags.DEFINE_list(
    "history", None, "Raw ids of the last items of the user, oldest first, joined by commas; none: the items in train."
)
FEATURES = absl_flags.DEFINE_multi_string(
    "features", None, "COLUMN=VALUE of the user, or with --similar_to of the item; once for each column."
)
USERS_FILE = absl_flags.DEFINE_string("users_file", None, "Text file of raw ids of users, one in a line.")
FORMAT = absl_flags.DEFINE_enum("format", "table", answers.FORMATS, "How the items are printed.")
SIMILAR_TO = absl_flags.DEFINE_string("similar_to", None, "Raw id or title of an item: prints similar items.")
FILTER = absl_flags.DEFINE_multi_string(
    "filter",
    None,
    "Condition on the items, once for each: COLUMN=VALUE,VALUE (one of them), COLUMN>=NUMBER, COLUMN<=NUMBER, "
    "id=ID,ID (only these), id!=ID,ID (none of these). Values with commas stand in double quotes.",
)
K = absl_flags.DEFINE_integer("k", 10, "Number of items.", 1, LARGEST_K)
EXCLUDE_SEEN = absl_flags.DEFINE_bool(
    "exclude_seen", True, "Leave out the items of the user in train and in the history."
)


def main() -> None:
    if all(flag.value is None for flag in (USER_ID, USERS_FILE, HISTORY, FEATURES, SIMILAR_TO)):
        raise ValueError("--user_id, --history, --features or --similar_to is needed, received none of them")
    if USERS_FILE.value is not None and any(flag.value for flag in (USER_ID, HISTORY, FEATURES, SIMILAR_TO)):
        raise ValueError("--users_file names all users; leave out --user_id, --history, --features and --similar_to")
    if SIMILAR_TO.value is not None and not (USER_ID.value is None and HISTORY.value is None):
        raise ValueError("--similar_to asks for items like another; leave out --user_id and --history")
    recommender = bundle.load(BUNDLE.value)
    features = None if FEATURES.value is None else parse_features(FEATURES.value)
    chosen = None if FILTER.value is None else parse_filter(FILTER.value, recommender)
    if SIMILAR_TO.value is not None:
        candidate_id = item_of(SIMILAR_TO.value, recommender, is_new=features is not None)
        similar = recommender.similar(candidate_id, K.value, features=features, filter=chosen)
        return say_items(SIMILAR_TO.value, similar)
    if USERS_FILE.value is not None:
        return recommend_to_all(USERS_FILE.value, recommender, chosen)
    user_id = None if USER_ID.value is None else recommender.queries.parse(USER_ID.value)
    history = None if HISTORY.value is None else [recommender.candidates.parse(text) for text in HISTORY.value]
    inputs = {"history": history, "features": features}
    if user_id is None:  # lists make it one query even where the history is empty
        inputs = {name: None if value is None else [value] for name, value in inputs.items()}
    answer = recommender.recommend(user_id, K.value, **inputs, exclude_seen=EXCLUDE_SEEN.value, filter=chosen)
    if FORMAT.value == "table":
        say_unknown(recommender, user_id, history, answer)
    say_items(user_id, answer)


def say_unknown(
    recommender: Recommender, user_id: int | str | None, history: list | None, answer: Recommendations
) -> None:
    """Says which of what was given train does not know."""
    if user_id is not None and not answer.known:
        console.say(f"{user_id} {_unknown(recommender, user_id)}")
    if history is not None:
        rows = recommender.candidates.rows(history)
        if skipped := [text for text, row in zip(HISTORY.value, rows, strict=True) if row == UNKNOWN_ROW]:
            console.say(f"not in the vocabulary, left out of the history: {', '.join(skipped)}")


def recommend_to_all(path: str, recommender: Recommender, chosen: Filter | None) -> None:
    """Prints the recommendations for each user of a text file."""
    texts = [line.strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"--users_file={path} names no user; write one id in each line")
    user_ids = [recommender.queries.parse(text) for text in texts]
    answer = recommender.recommend(user_ids, K.value, exclude_seen=EXCLUDE_SEEN.value, filter=chosen)
    answers.say_answers(FORMAT.value, user_ids, answer)


def item_of(text: str, recommender: Recommender, *, is_new: bool) -> int | str:
    """Returns the id of the item that has this id or, in upper or lower case, this title.

    Args:
      text: the id or the title.
      recommender: the bundle.
      is_new: whether the item may be unknown, as its features are given.

    Raises:
      ValueError: no item has it, or several items have this title.
    """
    try:
        candidate_id = recommender.candidates.parse(text)
    except ValueError:
        candidate_id = None
    if candidate_id is not None and (is_new or recommender.corpus.positions([candidate_id])[0] >= 0):
        return candidate_id
    titles = [title.casefold() for title in recommender.titles.astype(str).tolist()]
    found = recommender.corpus.ids[[title == text.casefold() for title in titles]].tolist()
    if len(found) > 1:
        raise ValueError(f"--similar_to: {len(found)} items have the title {text!r}, give the id of one: {found[:10]}")
    if not found:
        near = did_you_mean(text, recommender.titles.astype(str).tolist())
        raise ValueError(f"--similar_to: no item has the id or the title {text!r}{near}")
    return found[0]


def parse_features(texts: Sequence[str]) -> dict[str, str]:
    """Returns raw columns from texts of the form COLUMN=VALUE.

    Raises:
      ValueError: a text has another form, or a column occurs twice.
    """
    features: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in features:
            problem = "occurs twice" if equals else "has no ="
            raise ValueError(f"--features takes COLUMN=VALUE once for each column, {text!r} {problem}")
        features[name] = value
    return features


def parse_filter(texts: Sequence[str], recommender: Recommender) -> Filter:
    """Returns the filter of texts in the forms of --filter, with numbers where the column has numbers.

    Raises:
      ValueError: a text has none of the forms, or a bound is not a number.
    """
    one_of: dict[str, list] = {}
    between: dict[str, tuple] = {}
    allow, deny = None, []
    for text in texts:
        match = re.fullmatch(r"([^=<>!]+)(=|!=|>=|<=)(.*)", text)
        name, operator, value = match.groups() if match else ("", "", "")
        parts = next(csv.reader([value], skipinitialspace=True), None) or [""]
        values = [_parsed(part.strip(), name, recommender) for part in parts] if match else []
        if name == "id" and operator == "=":
            allow = [*(allow or []), *values]
        elif name == "id" and operator == "!=":
            deny += values
        elif operator == "=":
            one_of[name] = [*one_of.get(name, []), *values]
        elif operator in (">=", "<=") and len(values) == 1 and name != "id":
            low, high = between.get(name, (None, None))
            between[name] = (values[0], high) if operator == ">=" else (low, values[0])
        else:
            raise ValueError(f"--filter takes COLUMN=VALUE, COLUMN>=NUMBER, COLUMN<=NUMBER or id!=ID, got {text!r}")
    return Filter(one_of, between, allow, deny)


def _parsed(text: str, name: str, recommender: Recommender) -> int | float | bool | str:
    """Returns a value in the type of its column; text where the corpus has no such column, which the search refuses."""
    if name == "id":
        return recommender.candidates.parse(text)
    column = recommender.corpus.columns.get(name)
    kind = "text" if column is None else type_of(column)
    if kind in ("text", "lists of text") or column.ndim > 1:
        return text
    try:
        if kind == "booleans":
            return {"true": True, "false": False}[text.lower()]
        return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else parse_number(text)
    except (KeyError, ValueError):
        remedy = "; write true or false" if kind == "booleans" else ""
        raise ValueError(f"--filter: column {name!r} holds {kind}, got {text!r}{remedy}") from None


def say_items(asked: int | str | None, answer: Recommendations) -> None:
    """Prints the answer to one query, and in a table what is missing in it."""
    answers.say_answers(FORMAT.value, [asked], answer)
    found = answer.positions.ravel() >= 0
    if FORMAT.value != "table":
        return
    if not found.any() and SIMILAR_TO.value is not None and FILTER.value is None:
        console.say(f"item {SIMILAR_TO.value} has neither training data nor features: nothing is like it")
    elif not found.all():
        console.say(f"only {found.sum()} items are left, {K.value} were asked for")


def _unknown(recommender: Recommender, user_id: int | str) -> str:
    """Returns the message about a user that is not in train."""
    if FEATURES.value is not None or recommender.queries.rows([user_id])[0] != UNKNOWN_ROW:
        return "is not in train: this is the answer to its features"
    answered = "an unknown user" if HISTORY.value is None else "an unknown user with this history"
    return f"is not in the vocabulary: this is the answer for {answered}"


if __name__ == "__main__":
    flags.run(main)
