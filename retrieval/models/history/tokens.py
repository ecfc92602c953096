"""Tokens: item embeddings of a history plus embeddings of side inputs (rating, gap, age)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.models.layers import Dropout

NUM_LOG_BUCKETS = 33  # bucket 0 for missing, then one for each number of binary digits of an int32 >= 0
INITIAL_SCALE = 0.02  # standard deviation of the initial START vector


def log_buckets(seconds: Int[Array, "*S"]) -> Int[Array, "*S"]:
    """Returns 1 + the number of binary digits of each value, in [1, 32]; 0 for a negative value, which means missing.

    Each bucket is twice as wide as the one before it: bucket 13 holds about an hour, 18 a day, 20 and 21 a week.

    >>> log_buckets(jnp.array([-1, 0, 1, 2, 3, 4, 3600, 86400, 2**31 - 1])).tolist()
    [0, 1, 2, 3, 3, 4, 13, 18, 32]
    """
    digits = 32 - jax.lax.clz(jnp.maximum(seconds.astype(jnp.int32), 0))
    return jnp.where(seconds < 0, 0, digits + 1)


class Tokens(nnx.Module):
    """Puts START before a history and in place of padding, and adds embeddings of side inputs to the interactions.

    Embeddings of side inputs start at 0, so that training starts as without side inputs.
    """

    def __init__(
        self,
        dimension: int,
        *,
        num_ratings: int = 0,
        gaps: bool = False,
        ages: bool = False,
        dropout: float = 0.0,
        noise: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates START, and a table for each side input.

        Args:
          dimension: D, size of the embeddings.
          num_ratings: rows of the table of ratings; 0: ratings are not read.
          gaps: whether the time since the previous interaction is read.
          ages: whether the age of the candidate at the interaction is read.
          dropout: dropout rate of the tokens.
          noise: probability that training removes an interaction from the history, as if it were padding.
          dtype: type of the parameters.
          rngs: random streams of the initial values.

        Raises:
          ValueError: a rate is not in [0, 1).
        """
        if not 0.0 <= noise < 1.0:
            raise ValueError(f"noise must be in [0, 1), got {noise}")
        normal = nnx.initializers.truncated_normal(INITIAL_SCALE)
        self.start = nnx.Param(normal(rngs.params(), (dimension,), dtype))
        sizes = {
            "ratings": num_ratings,
            "gaps": NUM_LOG_BUCKETS if gaps else 0,
            "ages": NUM_LOG_BUCKETS if ages else 0,
        }
        self.tables = nnx.Dict(
            {name: nnx.Param(jnp.zeros((size, dimension), dtype)) for name, size in sizes.items() if size}
        )
        self.dropout = Dropout(dropout)
        self.noise = noise
        self.key = nnx.data(None)

    def __call__(
        self,
        embeddings: Float[Array, "B L D"],
        real: Bool[Array, "B L"],
        ratings: Int[Array, "B L"] | None = None,
        gaps: Int[Array, "B L"] | None = None,
        ages: Int[Array, "B L"] | None = None,
    ) -> tuple[Float[Array, "B L+1 D"], Bool[Array, "B L+1"]]:
        """Returns the tokens, and a mask of the tokens that are interactions, which an encoder may read.

        Values in padding are ignored, even NaN. A side input that is None adds nothing.

        Args:
          embeddings: item embeddings of the candidates, right-aligned.
          real: False in padding.
          ratings: row of each interaction's rating in the table of ratings.
          gaps: seconds since the previous interaction; negative: unknown, as for the first.
          ages: seconds since the candidate first appeared; negative: unknown.

        Raises:
          ValueError: a side input is given for which there is no table.
        """
        given = {"ratings": ratings, "gaps": gaps, "ages": ages}
        for name, values in given.items():
            if values is not None and name in self.tables:
                rows = values if name == "ratings" else log_buckets(values)
                embeddings = embeddings + jnp.take(self.tables[name][...], rows, axis=0, mode="clip")
            elif values is not None:
                raise ValueError(f"Tokens has no table of {name}, yet received them; create it with one, or pass None")
        if self.key is not None and self.noise > 0:  # removed interactions become START, as padding does
            real = real & jax.random.bernoulli(self.key, 1 - self.noise, real.shape)
        tokens = jnp.where(real[..., None], self.dropout(embeddings), self.start[...][None, None])
        first = jnp.broadcast_to(self.start[...], (tokens.shape[0], 1, tokens.shape[2]))
        return jnp.concatenate([first, tokens], axis=1), jnp.pad(real, ((0, 0), (1, 0)))
