"""Train, validation and test parts of one set of interactions; pure and seeded."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from retrieval.data.interactions import Interactions, concatenate

Rows = Int[np.ndarray, "_"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Disjoint parts of the interactions; `validation` is None where none was asked for."""

    train: Interactions
    validation: Interactions | None
    test: Interactions

    def train_and_validation(self) -> Interactions:
        """Returns all that is not test, for the last fit, when the number of epochs is chosen."""
        return self.train if self.validation is None else concatenate(self.train, self.validation)

    def all(self) -> Interactions:
        """Returns the interactions of all parts."""
        return concatenate(self.train_and_validation(), self.test)


def split(
    interactions: Interactions,
    strategy: str,
    *,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> Parts:
    """Cuts interactions into parts.

    Args:
      interactions: all events, in file order.
      strategy: "random": the first events of `numpy.random.default_rng(seed).permutation(n)` are train, the
        rest test; the validation part is cut from train in the same way with seed + 1. "temporal": the last events by
        timestamp are test, the last of the rest validation. "leave_last_out": the last event of each query
        with two or more is test, the last but one of each query with three or more validation; by timestamp, or
        file order where there are none; the fractions only tell whether there is a validation part (> 0).
        "cold_candidates": all events of some candidates are test, those of some others validation, so that no part
        knows the candidates of the next; they are the last of a permutation of the candidate ids, with the seeds as
        for "random". A query whose candidates are all held out is unknown in train.
      test_fraction: share of all events, or of the candidates, in (0, 1).
      validation_fraction: share of the events, or candidates, that are not test, in [0, 1); 0: no validation part.
      seed: of the random permutations.

    Raises:
      ValueError: a fraction is outside its interval, a part would be empty, the strategy is unknown, or it
        needs timestamps and there are none.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1), got {validation_fraction}")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    cut = STRATEGIES[strategy]
    train, test = cut(interactions, test_fraction, seed)
    rest, validation = interactions.take(train), None
    if validation_fraction > 0:
        kept, held_out = cut(rest, validation_fraction, seed + 1)
        rest, validation = rest.take(kept), rest.take(held_out)
    parts = Parts(rest, validation, interactions.take(test))
    for name in ("train", "validation", "test"):
        part = getattr(parts, name)
        if part is not None and len(part) == 0:
            raise ValueError(
                f"the {name} part of the {strategy} split is empty: {len(interactions)} interactions, "
                f"test_fraction {test_fraction}, validation_fraction {validation_fraction}"
            )
    return parts


def _random(interactions: Interactions, fraction: float, seed: int) -> tuple[Rows, Rows]:
    order = np.random.default_rng(seed).permutation(len(interactions))
    return _cut(order, fraction)


def _temporal(interactions: Interactions, fraction: float, seed: int) -> tuple[Rows, Rows]:
    if interactions.timestamps is None:
        raise ValueError("a temporal split needs timestamps: name their column in data.columns.timestamp")
    return _cut(np.argsort(interactions.timestamps, kind="stable"), fraction)


def _leave_last_out(interactions: Interactions, fraction: float, seed: int) -> tuple[Rows, Rows]:
    _, queries = np.unique(interactions.query_ids, return_inverse=True)
    time = np.zeros(len(interactions)) if interactions.timestamps is None else interactions.timestamps
    order = np.lexsort((time, queries))  # stable: file order among equal times
    by_query = queries[order]
    is_last = np.append(by_query[1:] != by_query[:-1], True)[: len(order)]
    is_first = np.append(True, by_query[1:] != by_query[:-1])[: len(order)]
    held_out = order[is_last & ~is_first]
    return np.setdiff1d(np.arange(len(interactions)), held_out), np.sort(held_out)


def _cold_candidates(interactions: Interactions, fraction: float, seed: int) -> tuple[Rows, Rows]:
    candidates, candidate = np.unique(interactions.candidate_ids, return_inverse=True)
    _, cold = _cut(np.random.default_rng(seed).permutation(len(candidates)), fraction)
    is_cold = np.isin(candidate, cold)
    return np.flatnonzero(~is_cold), np.flatnonzero(is_cold)


def _cut(order: Rows, fraction: float) -> tuple[Rows, Rows]:
    first = round(len(order) * (1 - fraction))
    return order[:first], order[first:]


STRATEGIES = {
    "random": _random,
    "temporal": _temporal,
    "leave_last_out": _leave_last_out,
    "cold_candidates": _cold_candidates,
}
