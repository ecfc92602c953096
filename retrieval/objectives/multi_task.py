"""Retrieval and heads trained together."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import Batch
from retrieval.models.binding import Lookups
from retrieval.models.two_tower import TwoTower
from retrieval.objectives.base import Objective, embeddings

Value = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]


@dataclasses.dataclass(frozen=True)
class HeadLoss:
    """How the loss of one head counts.

    Attributes:
      name: of the head, and of the labels in the batch.
      weight: share of its loss beside that of retrieval; 0: the head is not trained.
      scale: what makes the two comparable, see `scale_of`.
    """

    name: str
    weight: float
    scale: float


def scale_of(retrieval: float, head: float) -> float:
    """Returns what a head's loss is multiplied with, so that its trivial predictor costs what that of retrieval does.

    A head whose labels are in the thousands has a squared error in the millions, and would swamp retrieval; one of a
    rare event has a log loss near 0, and would not be heard. Over the loss of the predictor that knows no more than the
    mean, each is 1 at the start of training, whatever its units; times that of retrieval, the weight 1 means that both
    have equal shares of the value.

    Shares of the value are not shares of the gradients: most of the loss of retrieval, the entropy of what cannot be
    foretold, does not move, and labels can be learned by heart. On MovieLens the weights that keep the quality of the
    ranking lie around 0.03; look for yours by `experiments.pareto`.

    Args:
      retrieval: the loss an example of what knows popularity alone, see `Objective.trivial_loss`.
      head: that of the mean of the labels in train: their variance, or the entropy of the base rate.

    >>> scale_of(6.5, 1.25)
    5.2
    """
    return retrieval / head


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiTask:
    """The value of an objective and the losses of heads: V + sum over heads of weight * scale * L.

    L is the squared error of a number, or the log loss of an event, of each example with a known label. They are summed
    or averaged as the objective's are; all known labels count alike, whatever the examples weigh in retrieval. What is
    logged is not scaled: "loss" is that of retrieval, and "task/NAME" the sum of a head's losses over the
    "examples/task/NAME" whose labels are known.

    With all weights 0 it is the objective alone, to the bit. O(B D) time a step beside it, for linear heads.

    Attributes:
      retrieval: the objective that trains the towers to retrieve.
      heads: the losses of heads.
    """

    retrieval: Objective
    heads: tuple[HeadLoss, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, model: TwoTower, batch: Batch) -> Value:
        """Returns the value to minimise, and the sums over the batch.

        Raises:
          ValueError: the model has no head, or the batch no labels, of a name.
        """
        queries, candidates, batch = embeddings(model, self.retrieval.batch_of(batch))
        value, sums = self.retrieval.of_embeddings(model, queries, candidates, batch)
        heads = [head for head in self.heads if head.weight]
        if not heads:
            return value, sums
        outputs = model.head_outputs(queries[batch.queries.indices], candidates[batch.candidates.indices])
        for head in heads:
            if head.name not in outputs or head.name not in batch.labels:
                raise ValueError(
                    f"head {head.name!r}: the model has the heads {sorted(outputs)}, "
                    f"the batch the labels {sorted(batch.labels)}"
                )
            labels = jnp.where(batch.real, batch.labels[head.name], jnp.nan)
            known = (~jnp.isnan(labels)).astype(jnp.float32)
            loss = losses.log_loss if model.heads[head.name].is_binary else losses.squared_error
            terms = loss(outputs[head.name], labels)
            value += head.weight * head.scale * losses.reduce(terms, known, self.retrieval.reduction)
            sums |= {f"task/{head.name}": jnp.sum(terms), f"examples/task/{head.name}": jnp.sum(known)}
        return value, sums

    def lookups(self, model: TwoTower, batch: Batch) -> Lookups:
        """Returns which rows of which tables the objective looks up; heads have no tables."""
        return self.retrieval.lookups(model, batch)
