"""The training objective of a two-tower model: an in-batch softmax with corrections from the training data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from retrieval import losses
from retrieval.data.batches import Batch
from retrieval.data.encoding import Examples
from retrieval.log_partition import KnownPositives, is_known_positive
from retrieval.models.two_tower import TwoTower


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
        queries, candidates = model.query(batch.queries.rows), model.candidate(batch.candidates.rows)
        softmax = self.softmax(queries, candidates, batch)
        norms = model.squared_norms(queries)[batch.queries.places]
        norms += model.squared_norms(candidates)[batch.candidates.places]
        value = losses.reduce(softmax + self.embedding_l2 * norms, batch.weights, self.reduction)
        return value, {"loss": jnp.sum(batch.weights * softmax), "examples": jnp.sum(batch.weights)}

    def softmax(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the unweighted loss of each example, from the embeddings of the batch's distinct rows.

        Hard negatives are chosen among the columns of the unfolded batch, which then costs O(B^2 D).
        """
        rows = batch.candidates.rows
        probabilities, known = self.sampling_probabilities, None
        if probabilities is not None:
            probabilities = probabilities[rows]
        if self.known_positives is not None:
            known = KnownPositives(self.known_positives[batch.queries.rows], rows)
        common = {"temperature": self.temperature, "scale_log_q": self.scale_log_q, "reduction": "none"}
        q, c = batch.queries.places, batch.candidates.places
        if not self.num_hard_negatives:
            return losses.folded_softmax(
                queries,
                candidates,
                q,
                c,
                jnp.zeros(len(rows)).at[c].add(batch.real.astype(jnp.float32)),
                sampling_probabilities=probabilities,
                remove_accidental_hits=self.remove_accidental_hits,
                known_positives=known,
                **common,
            )
        return losses.sampled_softmax(
            queries[q],
            candidates[c],
            sampling_probabilities=None if probabilities is None else probabilities[c],
            accidental_hits_of=c if self.remove_accidental_hits else None,
            known_positives=None if known is None else is_known_positive(known.lists, q[:, None], rows[c][None, :]),
            mask=jnp.broadcast_to(batch.real[None, :], (len(q), len(c))),
            num_hard_negatives=self.num_hard_negatives,
            **common,
        )


def known_positives(examples: Examples, num_query_rows: int) -> Int32[np.ndarray, "Q P"]:
    """Returns the distinct candidate rows of each query row's examples, ascending, padded with the largest int32."""
    pairs = np.unique(np.stack([examples.query_rows, examples.candidate_rows]), axis=1)
    counts = np.bincount(pairs[0], minlength=num_query_rows)
    table = np.full((num_query_rows, counts.max(initial=1)), np.iinfo(np.int32).max, np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table[pairs[0], np.arange(pairs.shape[1]) - starts[pairs[0]]] = pairs[1]
    return table
