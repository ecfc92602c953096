"""Small models and batches for tests of training steps."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import strategies as st

from retrieval.batching.assembly import batches
from retrieval.batching.batch import Capacity
from retrieval.data.encoding import Examples
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower

NUM_QUERIES, NUM_CANDIDATES, BATCH_SIZE = 6, 7, 8


def make_model(hidden=(), seed=0, dtype=jnp.float32):
    """Returns two id towers of three dimensions, the query's with a MLP if it has hidden sizes."""
    common = {"initial_scale": 1.0, "dtype": dtype, "rngs": nnx.Rngs(seed)}
    return TwoTower(IdTower(NUM_QUERIES, 3, hidden, **common), IdTower(NUM_CANDIDATES, 3, **common))


def make_examples(query_rows, candidate_rows):
    """Returns examples of weight 1."""
    rows = np.asarray(query_rows, np.int32), np.asarray(candidate_rows, np.int32)
    return Examples(*rows, np.ones(len(query_rows), np.float32))


def one_batch(query_rows, candidate_rows):
    """Returns up to `BATCH_SIZE` examples as one batch, of one shape whatever they are."""
    epoch = batches(
        make_examples(query_rows, candidate_rows), np.arange(len(query_rows)), BATCH_SIZE, Capacity(8, 8, 8)
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), epoch)


def random_batches(data, number):
    """Draws batches, of one example up to `BATCH_SIZE`, with repeats."""
    drawn = []
    for _ in range(number):
        size = data.draw(st.integers(1, BATCH_SIZE))
        rows = [st.lists(st.integers(1, n - 1), min_size=size, max_size=size) for n in (NUM_QUERIES, NUM_CANDIDATES)]
        drawn.append(one_batch(*map(data.draw, rows)))
    return drawn
