"""Splits of interactions into train, validation and test parts: pure functions of data and seed.

A new split is a function that cuts events in two and an entry of `STRATEGIES`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from retrieval.common.choices import check_choice
from retrieval.common.errors import DataError
from retrieval.data.interactions import Interactions, concatenate

Indices = Int[np.ndarray, "_"]  # of events


@dataclasses.dataclass(frozen=True)
class Parts:
    """Disjoint parts of the interactions; `validation` is None if the validation fraction is 0."""

    train: Interactions
    validation: Interactions | None
    test: Interactions

    def train_and_validation(self) -> Interactions:
        """Returns all interactions outside of test, for the last fit, after the number of epochs is chosen."""
        return self._train_and_validation

    @functools.cached_property
    def _train_and_validation(self) -> Interactions:
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
    """Splits interactions into parts: test is cut from all events, then validation from the rest.

    Args:
      interactions: all events, in file order.
      strategy: key of `STRATEGIES`; the docstring of each strategy's function describes it.
      test_fraction: share of all events (of all candidates, for cold candidates), in (0, 1).
      validation_fraction: share of the events (candidates) outside of test, in [0, 1); 0: no validation part.
      seed: seed of the permutation for test; validation uses seed + 1.

    Raises:
      ValueError: a fraction is outside its interval, a part would be empty, the strategy is unknown, or it needs
        timestamps and the interactions have none.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1), got {validation_fraction}")
    check_choice("strategy", strategy, STRATEGIES)
    cut = STRATEGIES[strategy].cut
    train, test = cut(interactions, test_fraction, seed)
    remaining, validation = interactions.take(train), None
    if validation_fraction > 0:
        kept, held_out = cut(remaining, validation_fraction, seed + 1)
        remaining, validation = remaining.take(kept), remaining.take(held_out)
    parts = Parts(remaining, validation, interactions.take(test))
    for name in ("train", "validation", "test"):
        part = getattr(parts, name)
        if part is not None and len(part) == 0:
            reason = f"; {STRATEGIES[strategy].empty}" if STRATEGIES[strategy].empty else ""
            raise DataError(
                f"the {name} part of the {strategy} split is empty: {len(interactions)} interactions, "
                f"test_fraction {test_fraction}, validation_fraction {validation_fraction}{reason}",
                needed="split",
            )
    return parts


def random(interactions: Interactions, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Holds out the last events of `numpy.random.default_rng(seed).permutation(n)`."""
    return _cut(np.random.default_rng(seed).permutation(len(interactions)), fraction)


def temporal(interactions: Interactions, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Holds out the last events by timestamp; of equal timestamps, the last in file order."""
    if interactions.timestamps is None:
        raise DataError("a temporal split needs timestamps, and the interactions have none", needed="timestamps")
    return _cut(interactions.order_by_time(), fraction)


def leave_last_out(interactions: Interactions, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Holds out the last event of each query with two or more, by timestamp, or in file order without timestamps.

    The fraction is not read: of `split`, only whether `validation_fraction` is above 0 matters.
    """
    _, queries = np.unique(interactions.query_ids, return_inverse=True)
    order = interactions.order_by_time(queries)
    by_query = queries[order]
    is_last = np.append(by_query[1:] != by_query[:-1], True)[: len(order)]
    is_first = np.append(True, by_query[1:] != by_query[:-1])[: len(order)]
    held_out = order[is_last & ~is_first]
    return np.setdiff1d(np.arange(len(interactions)), held_out), np.sort(held_out)


def cold_candidates(interactions: Interactions, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Holds out all events of the last candidates of a seeded permutation of the ascending candidate ids.

    No part then knows the candidates of the next one. A query whose candidates are all held out is unknown in train.
    """
    candidates, candidate = np.unique(interactions.candidate_ids, return_inverse=True)
    _, cold = _cut(np.random.default_rng(seed).permutation(len(candidates)), fraction)
    is_cold = np.isin(candidate, cold)
    return np.flatnonzero(~is_cold), np.flatnonzero(is_cold)


def _cut(order: Indices, fraction: float) -> tuple[Indices, Indices]:
    first = round(len(order) * (1 - fraction))
    return order[:first], order[first:]


class Strategy(NamedTuple):
    """An entry of the registry.

    Attributes:
      cut: (interactions, fraction, seed) -> indices of the events that stay, and of the events held out.
      by_time: whether no event held out is older than one that stays, which `leakage.check_parts` then checks.
      by_candidate: whether events held out and events that stay have no candidate in common; likewise.
      empty: why a part may be empty, where it is not that there are few events.
    """

    cut: Callable[[Interactions, float, int], tuple[Indices, Indices]]
    by_time: bool = False
    by_candidate: bool = False
    empty: str = ""


STRATEGIES = {
    "random": Strategy(random),
    "temporal": Strategy(temporal, by_time=True),
    "leave_last_out": Strategy(leave_last_out, empty="each part held out takes one event of a query that has another"),
    "cold_candidates": Strategy(cold_candidates, by_candidate=True, empty="it holds out candidates, and needs several"),
}
