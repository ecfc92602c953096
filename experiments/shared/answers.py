"""Answers of a bundle as text: a table for readers, JSON or CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from retrieval.serving.answers import Recommendations

from . import console

FORMATS = ("table", "json", "csv")
COLUMNS = ("rank", "id", "title", "score")


def say_answers(form: str, names: Sequence[Any], answer: Recommendations) -> None:
    """Prints the answers to one query or many.

    Args:
      form: one of `FORMATS`.
      names: what was asked for, one for each query: a user's id, or None.
      answer: what a `Recommender` returned.
    """
    known = np.atleast_1d(answer.known)
    items: list[list[dict[str, Any]]] = [[] for _ in names]
    for row in answer.rows():
        items[row["query"]].append({name: row[name] for name in COLUMNS})
    answers = [
        {"query": name, "known": bool(is_known), "items": found}
        for name, is_known, found in zip(names, known, items, strict=True)
    ]
    if form == "json":
        console.say(json.dumps(answers[0] if len(names) == 1 else answers, ensure_ascii=False, indent=1))
    elif form == "csv":
        console.say(_csv(answers).rstrip())
    else:
        for found in answers:
            if len(names) > 1:
                console.say(f"{found['query']}{'' if found['known'] else ' (not in train)'}")
            for line in _lines(found["items"]):
                console.say(line)


def _lines(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a line for each item: score, id and title."""
    width = max((len(str(item["id"])) for item in found), default=0)
    for item in found:
        title = "" if item["title"] == str(item["id"]) else f"  {console.visible(item['title'])}"
        yield f"{item['score']:8.3f}  {console.visible(str(item['id'])):>{width}}{title}"


def _csv(answers: Sequence[dict[str, Any]]) -> str:
    """Returns all answers as one table, with the query in the first column."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("query", *COLUMNS))
    for found in answers:
        query = "" if found["query"] is None else found["query"]
        writer.writerows((query, *item.values()) for item in found["items"])
    return file.getvalue()
