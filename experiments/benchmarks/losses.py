"""Measures the softmax losses and an epoch, beside their textbook forms."""

from __future__ import annotations

import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import tutorial
from retrieval import Recipe, fit, folded_softmax, load_data, prepare, sampled_softmax
from retrieval.batching.assembly import batches, epoch_order
from retrieval.data.encoding import Examples
from retrieval.losses.log_partition import SCORES_PER_BLOCK
from retrieval.models.binding import bind, init

from .measure import Measurement, seconds, share, temporary_bytes, times_better

MEGABYTES_OF_BLOCKED = 128


def tutorial_recipe() -> Recipe:
    """Returns the tutorial's model on MovieLens 100K."""
    config = tutorial.get_config()
    dataset = load_data(config.data)
    return prepare(config, dataset.parts.train_and_validation(), dataset.corpus)


def folded(examples: Examples | None = None, batch_size: int = 8192, dimension: int = 32) -> list[Measurement]:
    """Measures loss and gradients of a batch of MovieLens over its distinct rows, beside one column per example."""
    examples = tutorial_recipe().examples if examples is None else examples
    epoch = batches(examples, epoch_order(len(examples.weights), seed=0, epoch=0), batch_size)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), epoch)
    rng = np.random.default_rng(0)
    tables = tuple(
        jnp.asarray(rng.normal(0, 0.3, (len(side.rows), dimension)).astype(np.float32))
        for side in (batch.queries, batch.candidates)
    )
    q, c = batch.queries.indices, batch.candidates.indices
    counts = jnp.zeros(len(batch.candidates.rows)).at[c].add(batch.real.astype(jnp.float32))
    probabilities = jnp.maximum(counts, 1) / batch_size

    def library(queries, candidates):
        return folded_softmax(
            queries, candidates, q, c, counts, sampling_probabilities=probabilities, remove_accidental_hits=True
        )

    def plain(queries, candidates):
        return sampled_softmax(queries[q], candidates[c], sampling_probabilities=probabilities[c], accidental_hits_of=c)

    gradients = [jax.value_and_grad(form, (0, 1)) for form in (library, plain)]
    times = seconds(*(functools.partial(jax.jit(form), *tables) for form in gradients))
    memory = [temporary_bytes(form, *tables) for form in gradients]
    against = f"one column per example, {batch_size} x {batch_size}"
    return [
        times_better("loss/folded", *times, "seconds", against, 40),
        times_better("loss/folded/memory", *memory, "bytes", against, 25),
    ]


def blocked(batch_size: int = 32768, dimension: int = 64) -> list[Measurement]:
    """Measures loss and gradients of a batch without repeats, beside the three matrix products of its minimum."""
    rng = np.random.default_rng(0)
    queries, candidates = (
        jnp.asarray(rng.normal(0, 0.3, (batch_size, dimension)).astype(np.float32)) for _ in range(2)
    )
    places, counts = jnp.arange(batch_size), jnp.ones(batch_size)
    size = max(1, min(batch_size, SCORES_PER_BLOCK // batch_size))

    def library(queries, candidates):
        return folded_softmax(queries, candidates, places, places, counts, remove_accidental_hits=True)

    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # as the library computes them

    def products(queries, candidates):
        def block(sums, queries):
            scores = product(queries, candidates.T)
            return sums + product(scores.T, queries), product(scores, candidates)

        return jax.lax.scan(block, jnp.zeros_like(candidates), queries.reshape(-1, size, dimension))

    gradients = jax.value_and_grad(library, (0, 1))
    times = seconds(
        *(functools.partial(jax.jit(form), queries, candidates) for form in (gradients, products)), rounds=3
    )
    megabytes = temporary_bytes(gradients, queries, candidates) / 1e6
    return [
        share("loss/blocked", *times, "seconds", "three matrix products in the same blocks", 2.0),
        share("loss/blocked/memory", megabytes, MEGABYTES_OF_BLOCKED, "MB", "the bound", 1.0),
    ]


def epoch(recipe: Recipe | None = None, batch_size: int = 8192, rounds: int = 3) -> list[Measurement]:
    """Measures an epoch of `fit`, batches included, beside a plain step dispatched for each batch.

    The epochs of `fit` follow each other without a pause, so that no batch is prepared outside of the timing.
    """
    recipe = tutorial_recipe() if recipe is None else recipe
    library = fit(
        recipe.model, recipe.examples, recipe.loss, recipe.optimizer, batch_size=batch_size, epochs=rounds + 1, seed=0
    )
    dense = functools.partial(_plain_epoch, recipe, _plain_step(recipe), batch_size)
    ends = [time.perf_counter() for _ in library]
    value = min(later - earlier for earlier, later in itertools.pairwise(ends))
    times = value, *seconds(dense, rounds=rounds)
    return [times_better("epoch/tutorial", *times, "seconds", "a dense step, one dispatch per batch", 50)]


def _plain_step(recipe: Recipe):
    optimizer = optax.adagrad(0.1, eps=1e-7)

    @jax.jit
    def step(params, opt_state, query_rows, candidate_rows):
        def loss(params):
            model = bind(recipe.model, params)
            return sampled_softmax(model.query(query_rows), model.candidate(candidate_rows))

        gradients = jax.grad(loss)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return optimizer, step


def _plain_epoch(recipe: Recipe, plain, batch_size: int):
    optimizer, step = plain
    examples = recipe.examples
    order = np.random.default_rng(0).permutation(len(examples.weights))
    params = init(recipe.model)
    opt_state = optimizer.init(params)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        params, opt_state = step(params, opt_state, examples.query_rows[rows], examples.candidate_rows[rows])
    return params
