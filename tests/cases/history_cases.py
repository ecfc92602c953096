"""Encoders and histories that the tests of history encoders share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from retrieval.models import history
from retrieval.models.binding import bind, init

LENGTH, DIMENSION = 6, 8
READ_SOME_TOKENS: tuple[str, ...] = ()  # encoders that do not read each token that they may see, as only the last one
CASES = [(name, visible) for name, entry in history.ENCODERS.items() for visible in entry.visible]


def encoder(name, visible="past", *, dimension=DIMENSION, length=LENGTH, layers=2, heads=2, dropout=0.0, **kwargs):
    sizes = {"length": length, "layers": layers, "heads": heads, "dropout": dropout}
    return history.create(name, dimension, **sizes, visible=visible, rngs=nnx.Rngs(0), **kwargs)


def at_random(module, seed=0):
    """Returns the module with other parameters than it starts at: zeros would hide what they multiply."""
    leaves, tree = jax.tree.flatten(init(module))
    rng = np.random.default_rng(seed)
    return bind(module, tree.unflatten([leaf + rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype) for leaf in leaves]))


@functools.cache
def case(name, visible):
    """Returns an encoder and its compiled call, which tests share."""
    module = at_random(encoder(name, visible))
    return module, compiled(module)


def compiled(module):
    """Returns the call of a module as a compiled function that returns a NumPy array."""
    program = jax.jit(lambda *history: module(*history))
    return lambda *history: np.asarray(program(*history))


def with_key(module, seed):
    """Returns a copy of the module as a training step binds it."""
    copy = bind(module, init(module))
    for i, (_, part) in enumerate(nnx.iter_modules(copy)):
        if hasattr(part, "key"):
            part.key = nnx.data(jax.random.fold_in(jax.random.key(seed), i))
    return copy


def tokens_of(real, *, dimension=DIMENSION, seed=0, start=0.3):
    """Returns random tokens with START in padding, and `real` as an array."""
    real = jnp.asarray(real, bool)
    tokens = jax.random.normal(jax.random.key(seed), (*real.shape, dimension))
    return jnp.where(real[..., None], tokens, start * jnp.cos(jnp.arange(dimension * 1.0))[None, None]), real


def seconds(real, *, seed=0):
    """Returns ascending times of tokens."""
    gaps = np.random.default_rng(seed).integers(0, 10**6, np.shape(real))
    return jnp.asarray(np.cumsum(gaps, axis=1) + 10**9, jnp.int32)


# one full, ones of each length down to none, and ones with holes, as noise makes them
REAL = np.array(
    [[0] * (7 - n) + [1] * n for n in range(6, -1, -1)] + [[0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 0, 1]], bool
)
