"""Golden queries: requests with the answers of a bundle when it was written, to be compared wherever it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from retrieval.common.lists import PADDING_ROW
from retrieval.data.columns import to_list
from retrieval.data.interactions import Table
from retrieval.index import Filter
from retrieval.serving.answers import Recommendations
from retrieval.serving.recommender import Recommender

NUMBER, K = 12, 10  # queries of each kind, and candidates of each answer
TOLERANCE = 1e-3  # of a score, relative and absolute: another processor adds up in another order
UNKNOWN_IDS = "not in the vocabulary", 2**62 + 1  # ids that nobody has

Record = dict[str, Any]  # {"request": arguments of `recommend`, "answer": ids, scores and known}


def ask(recommender: Recommender, examples: Table | None = None) -> list[Record]:
    """Returns golden queries with the answers of a bundle.

    About 32 queries: seen ones, with and without their seen candidates; an unseen one; some with candidates excluded or
    with a filter; and some with a history or features, if the query tower reads these.

    Args:
      recommender: the bundle.
      examples: queries with raw features; None: no golden query has features.
    """
    requests = _requests(recommender, examples)
    return [{"request": request, "answer": _answer(_replay(recommender, request))} for request in requests]


def differences(recommender: Recommender, records: Any) -> list[str]:
    """Returns a sentence for each golden query that a bundle answers differently.

    Candidates whose scores differ by less than the tolerance may change places, or replace each other at the end.

    Args:
      recommender: the bundle.
      records: the result of `ask`, read from JSON.

    Raises:
      ValueError: the records are not a result of `ask`.
    """
    if not isinstance(records, list) or not records:
        raise ValueError(f"golden queries must be a list of at least one record, got {str(records)[:60]!r}")
    found = []
    for number, record in enumerate(records):
        try:
            found += [f"golden queries {number}{problem}" for problem in _differences(recommender, record)]
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
            raise ValueError(f"golden queries {number} are no record of some: {error!r}") from None
    return found


def _differences(recommender: Recommender, record: Record) -> list[str]:
    request, (ids, scores, known) = record["request"], _expected(record["answer"])
    answer = _replay(recommender, request)
    if not np.array_equal(answer.known, known):
        return [": which of them train has differs"]
    right = _right(recommender, request, answer, (ids, scores))
    wrong = np.flatnonzero(~right.all(axis=1)).tolist()
    return [
        f", query {query}: {_difference(answer, ids, scores, query, int(np.argmin(right[query])))}" for query in wrong
    ]


def _requests(recommender: Recommender, examples: Table | None) -> list[Record]:
    known = _spread(recommender.queries.ids)
    unknown = UNKNOWN_IDS[0] if known.dtype.kind == "U" else UNKNOWN_IDS[1]
    candidates = _spread(recommender.corpus.ids).tolist()
    requests: list[Record] = [
        {"user_id": known.tolist(), "k": K},
        {"user_id": [*known[: NUMBER // 2].tolist(), unknown], "k": K, "exclude_seen": False},
        {"user_id": known[:1].tolist(), "k": K, "exclude": [candidates]},
        {"user_id": known.tolist(), "k": K, "filter": {"deny": candidates} | _one_of(recommender.corpus)},
    ]
    if recommender.histories is not None:
        histories = [_spread(recommender.candidates.ids)[:length].tolist() for length in (0, 1, NUMBER)]
        requests.append({"history": histories, "k": K})
    if examples is not None and recommender.query_features.encoders:
        read = {encoder.column for encoder in recommender.query_features.encoders.values()}
        columns = {name: to_list(column[:NUMBER]) for name, column in examples.columns.items() if name in read}
        rows = [
            {name: _plain(column[i]) for name, column in columns.items()} for i in range(len(examples.ids[:NUMBER]))
        ]
        requests.append({"features": rows, "k": K})
    return requests


def _replay(recommender: Recommender, request: Mapping[str, Any]) -> Recommendations:
    """Returns the answer to a request that was read from JSON."""
    filters = {"filter": Filter(**request["filter"])} if "filter" in request else {}
    return recommender.recommend(**{**request, **filters})


def _one_of(corpus: Table) -> dict[str, Any]:
    """Returns a condition on the first text attribute besides the title that a candidate has; {} without one."""
    for name, column in corpus.columns.items():
        if name != "title" and column.dtype.kind == "U" and (column != "").any():
            return {"one_of": {name: column[column != ""][:1].tolist()}}
    return {}


def _spread(ids: Shaped[np.ndarray, "n"]) -> Shaped[np.ndarray, "m"]:
    """Returns up to `NUMBER` ids, evenly spaced."""
    return ids[np.unique(np.linspace(0, max(len(ids) - 1, 0), min(NUMBER, len(ids))).astype(int))]


def _plain(value: Any) -> Any:
    """Returns a value of a column; None for NaN, and for a vector of NaN."""
    numbers = value if isinstance(value, list) else [value]
    return None if any(isinstance(number, float) and number != number for number in numbers) else value


def _answer(answer: Recommendations) -> Mapping[str, Any]:
    scores = [[score if np.isfinite(score) else None for score in row] for row in answer.scores.tolist()]
    return {"ids": answer.ids.tolist(), "scores": scores, "known": answer.known.tolist()}


def _expected(answer: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids, scores and known of an answer that was read from JSON."""
    scores = [[-np.inf if score is None else score for score in row] for row in answer["scores"]]
    return np.asarray(answer["ids"]), np.asarray(scores, np.float32), np.asarray(answer["known"])


def _right(
    recommender: Recommender, request: Record, answer: Recommendations, expected: tuple[np.ndarray, ...]
) -> Bool[np.ndarray, "Q k"]:
    """Tells for each rank whether the score is the expected one, and the bundle gives the expected id this score.

    So ids may differ only where scores are nearly tied, within the list or at its end.
    """
    ids, scores = expected
    if answer.ids.shape != ids.shape or answer.scores.shape != scores.shape or answer.ids.dtype.kind != ids.dtype.kind:
        return np.zeros(answer.ids.shape, bool)
    positions = recommender.corpus.positions(ids.ravel()).reshape(ids.shape)
    query_arguments = {
        name: argument for name, argument in request.items() if name in ("user_id", "history", "features", "times")
    }
    found = np.vecdot(recommender.embed_queries(**query_arguments)[:, None], recommender.embeddings[positions])
    is_left = np.isneginf(scores)
    found[positions == PADDING_ROW], found[is_left] = np.nan, -np.inf
    near = [
        np.isclose(candidate_scores, scores, rtol=TOLERANCE, atol=TOLERANCE)
        for candidate_scores in (answer.scores, found)
    ]
    return near[0] & near[1] & ((answer.ids == ids) | ~is_left)


def _difference(answer: Recommendations, ids, scores, query: int, rank: int) -> str:
    if answer.ids.shape != ids.shape:
        return f"got an answer of shape {answer.ids.shape}, expected {ids.shape}"
    got, score = answer.ids[query, rank].item(), answer.scores[query, rank]
    return (
        f"got {got!r} with score {score:.6g} at rank {rank + 1}, expected {ids[query, rank].item()!r} with "
        f"{scores[query, rank]:.6g}"
    )
