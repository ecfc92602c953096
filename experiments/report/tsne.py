"""Exact t-SNE (van der Maaten and Hinton 2008), deterministic: it starts at the principal plane."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

PERPLEXITY = 30  # effective number of neighbours of a point
STEPS = 300
EXAGGERATION, EARLY = 12.0, STEPS // 4  # factor of the attraction in the first steps
MOMENTA = 0.5, 0.8  # in the first steps, and after them
SPREAD = 0.01  # standard deviation of the start
HALVINGS = 25  # of the bisection
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # the same picture on every device


def embed(vectors: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n 2"]:
    """Returns a point in the plane for each vector, so that neighbours stay neighbours; O(n^2) time and memory.

    Fewer than four points have no neighbourhoods and get their coordinates in the principal plane.
    """
    start = principal_plane(vectors)
    if len(vectors) < 4:
        return start
    squares = np.vecdot(vectors, vectors)
    distances = np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0)
    shared = affinities(distances, min(PERPLEXITY, (len(vectors) - 1) / 3))
    start *= SPREAD / max(start[:, 0].std(), 1e-12)
    return np.asarray(_descend(jnp.asarray(shared, jnp.float32), jnp.asarray(start, jnp.float32)))


def principal_plane(vectors: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n 2"]:
    """Returns the coordinates on the first two principal components; 0 for a component that does not exist."""
    left, scale, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(vectors), 2), vectors.dtype)
    plane[:, : len(scale)] = (left * scale)[:, :2]
    return plane


def affinities(distances: Float[np.ndarray, "n n"], perplexity: float) -> Float[np.ndarray, "n n"]:
    """Returns the joint affinities of all pairs of points: symmetric, with sum 1.

    Bisection finds for each point the bandwidth at which its neighbours have the perplexity.
    """
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(
        axis=1, keepdims=True
    )  # changes no probability, and keeps the sums of weights from underflow
    np.fill_diagonal(distances, 0)
    low = np.zeros((len(distances), 1), distances.dtype)
    precision, high = low + 1, low + np.inf
    for _ in range(HALVINGS):
        weights = np.exp(-distances * precision)
        np.fill_diagonal(weights, 0)
        total = weights.sum(axis=1, keepdims=True)
        entropy = np.log(total) + precision * np.vecdot(distances, weights)[:, None] / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), 2 * precision, (low + high) / 2)
    weights /= total
    return (weights + weights.T) / (2 * len(weights))


def gradient(
    shared: Float[Array, "n n"], points: Float[Array, "n 2"], exaggeration: Array | float
) -> Float[Array, "n 2"]:
    """Returns the gradient of KL(exaggeration x shared || Student's t of the points), equation 5 of the paper."""
    squares = jnp.sum(points * points, axis=1)
    near = 1 / (1 + squares[:, None] + squares[None, :] - 2 * _product(points, points.T))
    near = near * (1 - jnp.eye(len(points), dtype=points.dtype))
    force = (exaggeration * shared - near / jnp.sum(near)) * near
    return 4 * (jnp.sum(force, axis=1, keepdims=True) * points - _product(force, points))


@jax.jit
def _descend(shared: Float[Array, "n n"], start: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    rate = len(start) / EXAGGERATION  # Belkina et al. 2019

    def step(i, state):
        points, velocity = state
        early = i < EARLY
        change = rate * gradient(shared, points, jnp.where(early, EXAGGERATION, 1.0))
        velocity = jnp.where(early, *MOMENTA) * velocity - change
        points = points + velocity
        return points - jnp.mean(points, axis=0, keepdims=True), velocity

    return jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros_like(start)))[0]
