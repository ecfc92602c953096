"""iALS: implicit alternating least squares."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Int64

from retrieval.baselines.base import Scorer, Training, or_popularity
from retrieval.common.lists import Lists
from retrieval.ranking.blocks import power_of_two

INITIAL_SCALE = 0.01
STEPS = 2  # of conjugate gradients in a turn
PRECISION = 1e-7  # of solutions called exact: that of float32
WIDTH = 16  # interactions in a row of a block
BLOCK_VALUES = 2**18  # factors in a block, 1 MiB: all steps are taken while it is in the cache of a core

HIGHEST = jax.lax.Precision.HIGHEST
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
    in the convention of the library implicit. Queries and candidates take turns. A turn goes from the last factors
    two steps of conjugate gradients (Takacs, Pilaszy and Tikk 2011) in coordinates where Y'Y + regularization I is the
    identity; see `_solve`. The objective falls in every turn, as with exact solutions. Takes O((n + (Q + N) D) D) time
    an iteration for n interactions; memory for the interactions and the factors, and for blocks of 1 MiB, or of the
    factors of the longest list.

    Args:
      training: what is learnt from.
      factors: D.
      regularization: above 0.
      alpha: the weight of an interaction, from 1 on.
      iterations: turns of both sides.
      seed: of the initial factors.

    Raises:
      ValueError: the settings have no minimum, or the regularization is too small for float32.
    """
    _check(regularization, alpha)
    histories, num_candidates = training.histories, training.num_candidates
    rng = np.random.default_rng(seed)
    shapes = (len(histories), factors), (num_candidates, factors)
    start = [jnp.asarray(rng.random(shape, np.float32) * INITIAL_SCALE) for shape in shapes]
    turned = Lists.from_pairs(histories.rows, histories.owners, num_candidates)
    sides = _blocks(histories, num_candidates, factors), _blocks(turned, len(histories), factors)
    settings = np.float32(regularization), np.float32(alpha), np.int32(iterations)
    return _finite(np.array(_alternate(*start, *sides, *settings)), regularization)


def fold_in(candidates: Factors, histories: Lists, *, regularization: float, alpha: float) -> Factors:
    """Returns the factors of queries that minimise the objective, given those of the candidates.

    They are (Y'Y + (alpha - 1) sum y y' + regularization I)^-1 alpha sum y, with sums over the history. Zeros for an
    empty one. Exact but for rounding: the steps are as many as bring the error of any history below 1e-7 of the
    solution; see `_solve`. Takes O(sqrt(alpha) D) time an interaction, and O(N D^2) beside.

    Args:
      candidates: y [N, D].
      histories: positions of the candidates that each query has, as sets.
      regularization: above 0.
      alpha: the weight of an interaction, from 1 on.

    Returns:
      The factors of the queries [Q, D].

    Raises:
      ValueError: the settings have no minimum, or the regularization is too small for float32.
    """
    _check(regularization, alpha)
    steps = np.int32(math.ceil(math.log(2 / PRECISION) / 2 * math.sqrt(alpha)))
    blocks = _blocks(histories, *candidates.shape)
    white, _, inverse = _whiten(jnp.asarray(candidates), np.float32(regularization))
    solved = np.zeros((*blocks.lists.shape, candidates.shape[1]), np.float32)
    for block, (others, owners) in enumerate(zip(blocks.others, blocks.owners, strict=True)):
        solved[block] = _solve_anew(white, inverse, others, owners, np.float32(alpha), steps)
    return _finite(solved.reshape(-1, candidates.shape[1])[blocks.places], regularization)


def _check(regularization, alpha):
    if not (regularization > 0 and alpha >= 1):
        raise ValueError(f"regularization must be above 0 and alpha at least 1, got {regularization} and {alpha}")


def _finite(factors: Factors, regularization: float) -> Factors:
    if not np.isfinite(factors).all():
        raise ValueError(f"regularization {regularization} is lost in float32 beside Y'Y; take a larger one")
    return factors


class _Blocks(NamedTuple):
    """Lists in blocks of one shape, each cut into rows of WIDTH, so that neither long nor short ones are padded much.

    Attributes:
      others: what is in the lists, one past the last of the other side where padded [blocks, rows, WIDTH].
      owners: the list of its block that each row is of, ascending [blocks, rows].
      lists: the lists of each block, one past the last where there are no more [blocks, rows].
      places: where each list stands in `lists` [n].
    """

    others: Int32[Array | np.ndarray, "blocks rows width"]
    owners: Int32[Array | np.ndarray, "blocks rows"]
    lists: Int32[Array | np.ndarray, "blocks rows"]
    places: Int64[np.ndarray, "n"] | Int32[Array, "n"]


def _blocks(lists: Lists, num_others: int, dimension: int) -> _Blocks:
    """Fills blocks with the lists, in their order; a block is as large as BLOCK_VALUES or the longest list ask for."""
    rows = np.maximum(-(-lists.lengths // WIDTH), 1)
    size = power_of_two(max(BLOCK_VALUES // (WIDTH * dimension), int(rows.max(initial=1))))
    ends, first = np.cumsum(rows), [0]
    while first[-1] < len(lists):
        filled = ends[first[-1]] - rows[first[-1]]
        first.append(int(np.searchsorted(ends, filled + size, side="right")))
    first = np.array(first)
    block_of = np.repeat(np.arange(len(first) - 1), np.diff(first))
    starts = (ends - rows)[first[:-1]]  # rows before each block
    row_of = block_of * size + ends - rows - starts[block_of]  # the first of each list
    in_block = np.arange(len(lists)) - first[block_of]
    shape = len(starts), size
    others = np.full((*shape, WIDTH), num_others, np.int32)
    entries = np.repeat(row_of * WIDTH - lists.offsets[:-1], lists.lengths) + np.arange(len(lists.rows))
    others.reshape(-1)[entries] = lists.rows
    owners, members = np.full(shape, size - 1, np.int32), np.full(shape, len(lists), np.int32)
    owners.reshape(-1)[np.repeat(row_of - ends + rows, rows) + np.arange(rows.sum())] = np.repeat(in_block, rows)
    places = block_of * size + in_block
    members.reshape(-1)[places] = np.arange(len(lists))
    return _Blocks(others, owners, members, places)


@jax.jit
def _alternate(queries, candidates, query_blocks, candidate_blocks, regularization, alpha, iterations):
    """Improves the factors of queries and candidates in turn, and returns those of the candidates."""

    def iterate(_, both):
        queries, candidates = both
        queries = _improve(queries, candidates, query_blocks, regularization, alpha)
        return queries, _improve(candidates, queries, candidate_blocks, regularization, alpha)

    return jax.lax.fori_loop(0, iterations, iterate, (queries, candidates))[1]


def _improve(
    factors: Float[Array, "n D"], others: Float[Array, "m D"], blocks: _Blocks, regularization, alpha
) -> Float[Array, "n D"]:
    """Returns factors of one side that are better, given those of the other."""
    white, root, inverse = _whiten(others, regularization)
    factors = jnp.pad(_dot(factors, root), ((0, 1), (0, 0)))

    def solve_block(block):
        others, owners, lists = block
        return _solve(factors[lists], white, others, owners, alpha, STEPS)

    solved = jax.lax.map(solve_block, (blocks.others, blocks.owners, blocks.lists))
    return _dot(solved.reshape(-1, factors.shape[1])[blocks.places], inverse)


@jax.jit
def _whiten(
    others: Float[Array, "m D"], regularization
) -> tuple[Float[Array, "_ D"], Float[Array, "D D"], Float[Array, "D D"]]:
    """Returns Y L'^-1 with a row of zeros for padding, L and L^-1, with LL' = Y'Y + regularization I.

    In these coordinates, which conditions the systems well, factors x are x L: dot products with the others stay.
    """
    identity = jnp.eye(others.shape[1], dtype=others.dtype)
    root = jnp.linalg.cholesky(_dot(others.T, others) + regularization * identity)
    inverse = jax.scipy.linalg.solve_triangular(root, identity, lower=True)
    return jnp.pad(_dot(others, inverse.T), ((0, 1), (0, 0))), root, inverse


@jax.jit
def _solve_anew(white, inverse, others, owners, alpha, steps):
    """Solves for rows without factors yet, from zeros, and returns them in the coordinates of the data."""
    start = jnp.zeros((len(owners), white.shape[1]), white.dtype)
    return _dot(_solve(start, white, others, owners, alpha, steps), inverse)


def _solve(
    points: Float[Array, "rows D"],
    white: Float[Array, "_ D"],
    others: Int32[Array, "rows width"],
    owners: Int32[Array, "rows"],
    alpha: Float[Array, ""],
    steps,
) -> Float[Array, "rows D"]:
    """Takes steps of conjugate gradients to the solutions z of (I + (alpha - 1) sum w w') z = alpha sum w.

    Here w is y in coordinates where Y'Y + regularization I is the identity. A sum over some of the w w' is at most that
    over all, which is at most I. So the eigenvalues lie between 1 and alpha whatever the data, and k steps leave
    2 ((sqrt(alpha) - 1) / (sqrt(alpha) + 1))^k <= 2 exp(-2 k / sqrt(alpha)) of the error.
    """
    neighbours = white[others]

    def sums(weigh, points):
        weights = weigh(jnp.einsum("rwd,rd->rw", neighbours, points[owners], precision=HIGHEST))
        row_sums = jnp.einsum("rw,rwd->rd", weights, neighbours, precision=HIGHEST)  # padding is rows of zeros
        return jax.ops.segment_sum(row_sums, owners, len(points), indices_are_sorted=True)

    def step(_, state):
        points, residuals, directions, squares = state
        changes = directions + sums(lambda x: (alpha - 1) * x, directions)
        lengths = _ratio(squares, _products(directions, changes))
        residuals = residuals - lengths * changes
        last, squares = squares, _products(residuals, residuals)
        return points + lengths * directions, residuals, residuals + _ratio(squares, last) * directions, squares

    residuals = sums(lambda x: alpha - (alpha - 1) * x, points) - points
    state = points, residuals, residuals, _products(residuals, residuals)
    return jax.lax.fori_loop(0, steps, step, state)[0]


def _products(left: Float[Array, "n D"], right: Float[Array, "n D"]) -> Float[Array, "n 1"]:
    return jnp.sum(left * right, axis=1, keepdims=True)


def _ratio(above: Float[Array, "n 1"], below: Float[Array, "n 1"]) -> Float[Array, "n 1"]:
    """Returns above / below; 0 where `below` is, which is at the solution."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)


def _dot(left: Float[Array, "n k"], right: Float[Array, "k m"]) -> Float[Array, "n m"]:
    return jnp.matmul(left, right, precision=HIGHEST)
