"""Certifies the recall of a graph on held-out queries, and writes the certificate of the index that `tune` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int32

from retrieval.index.certificate import ERROR, Certificate, CurvePoint, lower_bound
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.tuning.costs import at
from retrieval.index.tuning.recall import recall_of_each

_FIRST = 0.9  # share of the error probability for the first look; the next look has .9 of what is left, and so on


def error_of_look(look: int) -> float:
    """Returns the error probability of one look, 0 the first, at the held-out queries; all sum to at most `ERROR`."""
    return ERROR * _FIRST * (1 - _FIRST) ** look


@dataclasses.dataclass(frozen=True, eq=False)
class CertifiedGraph:
    """A graph at an ef, with its recall on held-out queries.

    Attributes:
      index: the graph at this ef.
      point: its point of the curve, measured on the choosing queries.
      shares: recall of each held-out query [q].
      bound: lower bound of the mean recall, see `certify`.
    """

    index: HnswIndex
    point: CurvePoint
    shares: Float64[np.ndarray, " q"]
    bound: float


def certify(
    index: HnswIndex,
    points: Sequence[CurvePoint],
    queries: Float32[np.ndarray, "q d"],
    truth: Int32[np.ndarray, "q k"],
    target: float,
) -> tuple[CertifiedGraph, bool]:
    """Finds the first ef, from the chosen one on, at which the lower bound of recall reaches `target`.

    Each further look at the same queries has a tenth of the error probability of the look before it (alpha spending),
    so that all looks together err no more often than one bound does.

    Args:
      index: the chosen graph at the chosen ef.
      points: the curve of this graph, ascending in ef.
      queries: held-out queries.
      truth: positions of their exact top k.
      target: recall that the bound must reach.

    Returns:
      The graph at that ef, or at the last ef of the curve, and whether its bound reaches the target.
    """
    remaining = [point for point in points if point.ef >= index.settings.ef]
    for look, point in enumerate(remaining):
        shares = recall_of_each(at(index, point.ef), queries, truth)
        bound = lower_bound(shares, error_of_look(look))
        if bound >= target or point is remaining[-1]:
            return CertifiedGraph(at(index, point.ef), point, shares, bound), bound >= target
    raise AssertionError("the curve has the point of the chosen ef")


def with_certificate_of_exact(
    whole: ExactIndex, k: int, target: float, reason: str, exact: CurvePoint, curve: Sequence[CurvePoint]
) -> ExactIndex:
    """Adds to exact search the certificate that says why it was chosen."""
    certificate = Certificate(k, target, 1.0, 1.0, 0, True, reason, exact, (exact, *curve))
    return dataclasses.replace(whole, metrics=_metrics(certificate), certificate=certificate)


def with_certificate(
    found: CertifiedGraph, k: int, target: float, exact: CurvePoint, curve: Sequence[CurvePoint]
) -> HnswIndex:
    """Adds to a graph its certificate; `exact` is the point of exact search."""
    certificate = Certificate(
        k=k,
        target=target,
        recall=float(found.shares.mean()),
        lower_bound=found.bound,
        num_queries=len(found.shares),
        is_reached=found.bound >= target,
        reason=_reason(found, exact, k, target),
        chosen=found.point,
        curve=(exact, *curve),
    )
    return dataclasses.replace(found.index, metrics=_metrics(certificate), certificate=certificate)


def _metrics(certificate: Certificate) -> dict[str, float]:
    """Returns recall@k and its lower bound as metrics that are saved with the index."""
    name = f"recall_at_{certificate.k}"
    return {name: certificate.recall, f"{name}_lower_bound": certificate.lower_bound}


def _reason(found: CertifiedGraph, exact: CurvePoint, k: int, target: float) -> str:
    """Writes why the graph was chosen: it is the cheapest that is certified, or a graph was asked for."""
    times = f"it takes {found.point.microseconds:.3g} µs a query, exact search {exact.microseconds:.3g}"
    if found.bound < target:
        return f"a graph was asked for: recall@{k} is at least {found.bound:.4f}, less than {target}; {times}"
    return f"the cheapest setting whose recall@{k} is surely at least {target}; {times}"
