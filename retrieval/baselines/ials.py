"""iALS: implicit alternating least squares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from retrieval.baselines.training import Scorer, Training, matrix, or_popularity
from retrieval.lists import Lists
from retrieval.scoring import power_of_two

INITIAL_SCALE = 0.01
DENSE = 0.02  # share of the pairs that are interactions, from which on all pairs are computed
MOST_DENSE = 2**26  # pairs, of which 4 bytes each are in memory
GATHERED = 2**12  # factors of interactions in memory at a time, few enough to stay in the cache

Factors = Float32[np.ndarray, "_ D"]


def fit(
    training: Training, *, factors: int, regularization: float, alpha: float, iterations: int, seed: int = 0
) -> Scorer:
    """Scores by the dot products of factors, a query's made from its history by `fold_in`; see `candidate_factors`."""
    settings = {"regularization": regularization, "alpha": alpha}
    candidates = candidate_factors(training, factors=factors, iterations=iterations, seed=seed, **settings)

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        return fold_in(candidates, histories, **settings) @ candidates.T

    return or_popularity(scores, training)


def candidate_factors(
    training: Training, *, factors: int, regularization: float, alpha: float, iterations: int, seed: int = 0
) -> Factors:
    """Returns the factors y of the candidates [N, D], which minimise with those of the queries, x,

        sum over all pairs of c (p - x y)^2 + regularization (sum |x|^2 + sum |y|^2)

    with p = 1 and c = alpha for the interactions, p = 0 and c = 1 for all other pairs (Hu, Koren and Volinsky 2008),
    in the convention of the library implicit. Queries and candidates take turns. A turn goes from the last factors one
    step of the conjugate gradient method (Takacs, Pilaszy and Tikk 2011), preconditioned by what all of a side have in
    common, Y'Y + regularization I. A turn is not exact, but lowers the objective at a fraction of the cost, and by the
    next one the other side has moved anyway. Takes O((n + (Q + N) D) D) time an iteration for n interactions, or
    O(Q N D) where interactions are so dense that products of whole matrices are faster.

    Args:
      training: what is learnt from.
      factors: D.
      regularization: above 0.
      alpha: the weight of an interaction, from 1 on.
      iterations: turns of both sides.
      seed: of the initial factors.
    """
    if not (regularization > 0 and alpha >= 1):
        raise ValueError(f"regularization must be above 0 and alpha at least 1, got {regularization} and {alpha}")
    num_queries, num_candidates = len(training.histories), training.num_candidates
    rng = np.random.default_rng(seed)
    shapes = (num_queries, factors), (num_candidates, factors)
    start = [jnp.asarray(rng.random(shape, np.float32) * INITIAL_SCALE) for shape in shapes]
    of_queries, of_candidates = _both_sides(training.histories, num_candidates)
    settings = np.float32(regularization), np.float32(alpha), np.int32(iterations)
    return np.array(_alternate(*start, of_queries, of_candidates, *settings))


def fold_in(candidates: Factors, histories: Lists, *, regularization: float, alpha: float) -> Factors:
    """Returns the factors of queries that minimise the objective, given those of the candidates; exact.

    They are (Y'Y + (alpha - 1) sum y y' + regularization I)^-1 alpha sum y, with sums over the history, a set. Zeros
    for an empty one. Takes O(D^3) time a query, and O(D^2) an interaction.
    """
    identity = np.eye(candidates.shape[1], dtype=np.float32)
    shared = jnp.asarray(candidates.T @ candidates + np.float32(regularization) * identity)
    padded = jnp.pad(jnp.asarray(candidates), ((0, 1), (0, 0)))
    solved = np.zeros((len(histories) + 1, candidates.shape[1]), np.float32)  # and one for what is padded
    for group in _padded(histories, len(candidates)):
        for rows, others in zip(*group, strict=True):
            solved[rows] = _solve(shared, padded, others, np.float32(alpha))
    return solved[:-1]


@jax.jit
def _solve(shared, candidates, others, alpha):
    near = candidates[others]
    normal = shared[None] + (alpha - 1) * _dot(near.mT, near)
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(normal), True), alpha * near.sum(axis=1)[..., None])[..., 0]


class _Padded(NamedTuple):
    """Rows that have about as many interactions, in groups of one size.

    Attributes:
      rows: which rows of this side, one past the last where there is none [groups, size].
      others: rows of the other side that each has interactions with, likewise [groups, size, length].
    """

    rows: Int32[Array | np.ndarray, "groups size"]
    others: Int32[Array | np.ndarray, "groups size length"]


_Side = Float[Array, "_ _"] | list[_Padded]  # who interacts with whom: 1 or 0 for each pair, or lists


def _both_sides(histories: Lists, num_candidates: int) -> tuple[_Side, _Side]:
    """Returns the interactions seen from the queries and from the candidates."""
    num_pairs = len(histories) * num_candidates
    if len(histories.rows) >= DENSE * num_pairs and num_pairs <= MOST_DENSE:
        dense = jnp.asarray(matrix(histories, num_candidates).toarray())
        return dense, dense.T
    turned = Lists.from_pairs(histories.rows, histories.owners, num_candidates)
    return _padded(histories, num_candidates), _padded(turned, len(histories))


def _padded(lists: Lists, num_others: int) -> list[_Padded]:
    """Groups the lists by length, from one power of two to the next."""
    lengths = lists.lengths
    widths = 1 << np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    groups = []
    for width in np.unique(widths[lengths > 0]).tolist():
        rows = np.flatnonzero((widths == width) & (lengths > 0))
        size = min(power_of_two(len(rows)), max(1, GATHERED // width))  # few sizes, so that few programs are compiled
        padded = np.full(-(-len(rows) // size) * size, len(lists), np.int32)
        padded[: len(rows)] = rows
        others = np.full((len(padded), width), num_others, np.int32)
        of_rows = lists.take(rows)
        others[of_rows.owners, np.arange(len(of_rows.rows)) - of_rows.offsets[of_rows.owners]] = of_rows.rows
        groups.append(_Padded(padded.reshape(-1, size), others.reshape(-1, size, width)))
    return groups


@jax.jit
def _alternate(queries, candidates, of_queries, of_candidates, regularization, alpha, iterations):
    def iterate(_, both):
        queries, candidates = both
        queries = _improve(queries, candidates, of_queries, regularization, alpha)
        return queries, _improve(candidates, queries, of_candidates, regularization, alpha)

    return jax.lax.fori_loop(0, iterations, iterate, (queries, candidates))[1]


def _improve(
    own: Float[Array, "n D"], others: Float[Array, "m D"], side: _Side, regularization, alpha
) -> Float[Array, "n D"]:
    """Returns factors of one side that are better, given those of the other."""
    shared = _dot(others.T, others) + regularization * jnp.eye(others.shape[1], dtype=others.dtype)
    inverse = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(shared), True), jnp.eye(len(shared), dtype=shared.dtype))
    descend = functools.partial(_descend, shared=shared, inverse=inverse, alpha=alpha)
    if not isinstance(side, list):

        def of_all(weigh, points):
            return _dot(side * weigh(_dot(points, others.T)), others)

        return descend(own, of_all)
    others = jnp.pad(others, ((0, 1), (0, 0)))

    def of_group(group: _Padded) -> Float[Array, "size D"]:
        near = others[group.others]

        def of_lists(weigh, points):
            weights = weigh(jnp.einsum("nld,nd->nl", near, points))
            return jnp.einsum("nl,nld->nd", weights, near)  # what is padded has factors of zeros

        return descend(own.at[group.rows].get(mode="fill", fill_value=0), of_lists)

    improved = jnp.zeros_like(own)  # without interactions, the best there is
    for group in side:
        solved = jax.lax.map(of_group, group)
        improved = improved.at[group.rows].set(solved, mode="drop")
    return improved


def _descend(
    points: Float[Array, "n D"],
    weighted_sums: Callable[[Callable, Array], Array],
    shared: Float[Array, "D D"],
    inverse: Float[Array, "D D"],
    alpha: Float[Array, ""],
) -> Float[Array, "n D"]:
    """Takes one step to the solutions x of A x = (shared + (alpha - 1) sum y y') x = alpha sum y.

    The step goes along inverse (alpha sum y - A x), with the `inverse` of `shared`, to where the objective is least.
    `weighted_sums(weigh, points)` is the sum of weigh(x y) y over the interactions of each point x.
    """
    residuals = weighted_sums(lambda x: alpha - (alpha - 1) * x, points) - _dot(points, shared)
    directions = _dot(residuals, inverse)
    changes = residuals + weighted_sums(lambda x: (alpha - 1) * x, directions)  # A times the directions
    descents, curvatures = (jnp.sum(directions * x, axis=1, keepdims=True) for x in (residuals, changes))
    return points + directions * jnp.where(curvatures > 0, descents / jnp.where(curvatures > 0, curvatures, 1), 0)


def _dot(left: Float[Array, "*b n k"], right: Float[Array, "*b k m"]) -> Float[Array, "*b n m"]:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
