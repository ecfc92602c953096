"""The training objective of a two-tower model: an in-batch softmax with corrections from the training data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from retrieval import losses
from retrieval.data.encoding import Examples
from retrieval.models.two_tower import TwoTower
from retrieval.train import Batch


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InBatchSoftmax:
    """Each query's positive against the other candidates of the batch, with a penalty on the embeddings.

    Attributes:
      sampling_probabilities: how often each candidate row is drawn as a negative [num_candidate_rows]; None: no logQ.
      known_positives: candidate rows of each query row's positives in train, ascending, padded at the end
        [num_query_rows, P]; None: a query's other positives stay its negatives.
      temperature: divides the scores.
      scale_log_q: divides the logQ correction by the temperature too.
      remove_accidental_hits: removes negatives that are the positive itself.
      num_hard_negatives: keeps only the hardest negatives; 0: all.
      embedding_l2: penalty an example on the squared norms of its query's and its candidate's embedding.
      reduction: "sum" or "mean" over the batch.
    """

    sampling_probabilities: Float[Array, "N"] | None = None
    known_positives: Int[Array, "Q P"] | None = None
    temperature: float = dataclasses.field(default=1.0, metadata={"static": True})
    scale_log_q: bool = dataclasses.field(default=False, metadata={"static": True})
    remove_accidental_hits: bool = dataclasses.field(default=False, metadata={"static": True})
    num_hard_negatives: int = dataclasses.field(default=0, metadata={"static": True})
    embedding_l2: float = dataclasses.field(default=0.0, metadata={"static": True})
    reduction: str = dataclasses.field(default="sum", metadata={"static": True})

    def __call__(self, model: TwoTower, batch: Batch) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns the value to minimise, and the sums of softmax losses and weights over the batch."""
        queries, candidates = model.query(batch.query_rows), model.candidate(batch.candidate_rows)
        weights = jnp.where(batch.real, batch.weights, 0.0)
        softmax = self.softmax(queries, candidates, batch)
        penalty = self.embedding_l2 * (model.squared_norms(queries) + model.squared_norms(candidates))
        value = losses.reduce(softmax + penalty, weights, self.reduction)
        return value, {"loss": jnp.sum(weights * softmax), "examples": jnp.sum(weights)}

    def softmax(
        self, queries: Float[Array, "B D"], candidates: Float[Array, "B D"], batch: Batch
    ) -> Float[Array, "B"]:
        """Returns the unweighted softmax loss of each example; what fills up the batch is nobody's negative."""
        probabilities, known = self.sampling_probabilities, self.known_positives
        rows = batch.candidate_rows
        return losses.sampled_softmax(
            queries,
            candidates,
            temperature=self.temperature,
            sampling_probabilities=None if probabilities is None else probabilities[rows],
            scale_log_q=self.scale_log_q,
            accidental_hits_of=rows if self.remove_accidental_hits else None,
            known_positives=None
            if known is None
            else losses.is_known_positive(known[batch.query_rows], rows),
            mask=jnp.broadcast_to(batch.real[None, :], (len(queries), len(candidates))),
            num_hard_negatives=self.num_hard_negatives,
            reduction="none",
        )


def known_positives(examples: Examples, num_query_rows: int) -> Int32[np.ndarray, "Q P"]:
    """Returns the distinct candidate rows of each query row's examples, ascending, padded with the largest int32."""
    pairs = np.unique(np.stack([examples.query_rows, examples.candidate_rows]), axis=1)
    counts = np.bincount(pairs[0], minlength=num_query_rows)
    table = np.full((num_query_rows, counts.max(initial=1)), np.iinfo(np.int32).max, np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table[pairs[0], np.arange(pairs.shape[1]) - starts[pairs[0]]] = pairs[1]
    return table
