"""Checks that training has not seen held-out data."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from retrieval.common.errors import DataError
from retrieval.data.encoding import Encoding
from retrieval.data.ids import find
from retrieval.data.interactions import Interactions
from retrieval.data.splits import Parts
from retrieval.data.times import written


class LeakageError(DataError):
    """Training has seen held-out data."""


def check_parts(parts: Parts, *, repeats: bool = False, temporal: bool = False, cold_candidates: bool = False) -> int:
    """Checks that parts are disjoint, and in order of time or without common candidates if the split promises so.

    O(n log m) time for n interactions and m held-out interactions.

    Args:
      parts: train, validation and test part.
      repeats: whether a (query, candidate) pair may be in several parts; repeats are then counted, not refused.
      temporal: whether no held-out interaction may be older than an interaction of an earlier part.
      cold_candidates: whether no held-out candidate may be in an earlier part.

    Returns:
      The number of interactions of train and validation whose pair is in test too.

    Raises:
      LeakageError: a pair is in two parts and `repeats` is False, the parts overlap in time or have no timestamps, or
        they have a candidate in common.
    """
    sequence = [(name, getattr(parts, name)) for name in ("train", "validation", "test")]
    sequence = [(name, part) for name, part in sequence if part is not None]
    num_repeated = 0
    for i, (later, held_out) in enumerate(sequence):
        for earlier, part in sequence[:i]:
            num_shared = _check_pairs(earlier, part, later, held_out, repeats)
            num_repeated += num_shared if later == "test" else 0
            if temporal:
                _check_times(earlier, part, later, held_out)
            if cold_candidates:
                _check_candidates(earlier, part, later, held_out)
    return num_repeated


def check_encoding(
    encoding: Encoding, counts: Float[np.ndarray, "num_rows"], train: Interactions, *, any_vocabulary: bool = False
) -> None:
    """Checks that vocabularies and counts come from the training part.

    Args:
      encoding: the vocabularies.
      counts: count of each candidate row that training uses.
      train: the interactions that the model was trained on.
      any_vocabulary: whether ids that are not in train may have rows of their own.

    Raises:
      LeakageError: an id of a vocabulary is not in `train`, or a count differs from the count in `train`.
    """
    for name, vocabulary, ids in zip(
        ("query", "candidate"), (encoding.queries, encoding.candidates), train.distinct_ids, strict=True
    ):
        foreign = vocabulary.ids[find(ids, vocabulary.ids) < 0]
        if len(foreign) and not any_vocabulary:
            raise LeakageError(
                f"the vocabulary has {len(foreign)} {name} ids that are not in train, the first {foreign[0].item()!r}: "
                "it has seen held-out data; build it from train alone, or pass any_vocabulary=True"
            )
    expected = encoding.counts(encoding.examples(train))
    if not np.array_equal(counts, expected):
        row = int(np.flatnonzero(counts != expected)[0])
        raise LeakageError(
            f"row {row} of the candidates is counted {counts[row]:g} times, but occurs {expected[row]:g} times in "
            "train: the counts have seen other data; count train alone"
        )


def _check_pairs(earlier: str, part: Interactions, later: str, held_out: Interactions, repeats: bool) -> int:
    known = held_out.distinct_ids
    pairs = np.unique(_codes(held_out, known))
    num_shared, example = 0, None
    for piece in part.pieces():  # a part out of core does not fit in memory
        codes = _codes(piece, known)
        indices = np.minimum(np.searchsorted(pairs, codes), len(pairs) - 1)
        shared = np.flatnonzero(pairs[indices] == codes) if len(pairs) else np.zeros(0, np.int64)
        num_shared += len(shared)
        if len(shared) and example is None:
            example = piece.query_ids[shared[0]].item(), piece.candidate_ids[shared[0]].item()
    if num_shared and not repeats:
        raise LeakageError(
            f"{num_shared} interactions of {earlier} are in {later} too, the first of query {example[0]!r} with "
            f"candidate {example[1]!r}: held-out pairs were trained on; take them out of one part, or allow them",
            needed="repeats",
        )
    return num_shared


def _codes(interactions: Interactions, known) -> Int64[np.ndarray, "n"]:
    """Returns a unique integer for each (query, candidate) pair whose ids are known, -1 for other pairs."""
    queries = find(known[0], interactions.query_ids).astype(np.int64)
    candidates = find(known[1], interactions.candidate_ids).astype(np.int64)
    # Indices fit 31 bits, so that a pair fits an int64 and pairs are found by one search.
    return np.where((queries >= 0) & (candidates >= 0), queries << 32 | candidates, -1)


def _check_times(earlier: str, part: Interactions, later: str, held_out: Interactions) -> None:
    if part.timestamps is None or held_out.timestamps is None:
        raise LeakageError(
            f"the split is temporal, but {earlier} or {later} has no timestamps to check that {later} comes after "
            f"{earlier}",
            needed="timestamps",
        )
    if not len(part) or not len(held_out):
        return
    last, first = part.time_of(int(part.order_by_time()[-1])), held_out.time_of(int(held_out.order_by_time()[0]))
    if last > first:
        raise LeakageError(
            f"the split is temporal, but {earlier} has an interaction at {written(*last)}, after the first of {later} "
            f"at {written(*first)}: it has seen the future; cut all parts at one time"
        )


def _check_candidates(earlier: str, part: Interactions, later: str, held_out: Interactions) -> None:
    (_, known), (_, asked) = part.distinct_ids, held_out.distinct_ids
    shared = asked[find(known, asked) >= 0]
    if len(shared):
        raise LeakageError(
            f"the split is by candidates, but {len(shared)} candidates of {later} are in {earlier} too, the first "
            f"{shared[0].item()!r}: they are not cold; take all their interactions out of {earlier}"
        )
