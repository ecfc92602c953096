"""Multi-task objective: retrieval, and heads that predict labels."""

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
    """Weight of the loss of one head.

    Attributes:
      name: name of the head in the model, and of its labels in the batch.
      weight: weight of its scaled loss relative to that of retrieval; 0: the head is not trained.
      scale: factor that makes the losses comparable, see `scale_of`.
    """

    name: str
    weight: float
    scale: float


def scale_of(retrieval: float, head: float) -> float:
    """Returns the factor of a head's loss with which its trivial predictor has the same loss as that of retrieval.

    Unscaled losses depend on units: labels in the thousands have a squared error in the millions, which would outweigh
    retrieval, and a rare event has a log loss near 0, which would have no effect. Divided by the loss of its trivial
    predictor, which knows only the mean, each loss is 1 at the start of training; times the trivial loss of retrieval,
    the weight 1 gives both equal shares of the value.

    Equal shares of the value are not equal shares of the gradients: most of the loss of retrieval is the entropy of
    choices that cannot be predicted, which training does not reduce, whereas labels can be memorised. On MovieLens,
    weights around 0.03 keep the quality of the ranking; `experiments.pareto` finds them for other data.

    Args:
      retrieval: mean loss of scores that know only the popularity of candidates, see `Objective.trivial_loss`.
      head: loss of predicting the mean of the training labels: their variance, or the entropy of the base rate.

    >>> scale_of(6.5, 1.25)
    5.2
    """
    return retrieval / head


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiTask:
    """Sum of the value V of a retrieval objective and the losses L of heads: V + sum_heads weight * scale * L.

    L is the squared error of a number, or the log loss of an event, over the examples with a known label, reduced as
    the retrieval objective is. Each known label has the weight 1, independent of the weight of its example in
    retrieval. Logged sums are not scaled: "loss" is that of retrieval, and "task/NAME" the sum of a head's losses over
    its "examples/task/NAME" known labels.

    With all weights 0 the value is bit for bit that of the retrieval objective. Linear heads add O(B D) time to a step.

    Attributes:
      retrieval: objective of the towers.
      heads: weights of the losses of heads.
    """

    retrieval: Objective
    heads: tuple[HeadLoss, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, model: TwoTower, batch: Batch) -> Value:
        """Returns the value to minimise, and the sums over the batch to log.

        Raises:
          ValueError: the model has no head, or the batch has no labels, of that name.
        """
        queries, candidates, batch = embeddings(model, self.retrieval.batch_of(batch))
        value, sums = self.retrieval.from_embeddings(model, queries, candidates, batch)
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
            # padding has labels of 0 in the batch: NaN excludes it as it excludes unknown labels
            labels = jnp.where(batch.real, batch.labels[head.name], jnp.nan)
            known = (~jnp.isnan(labels)).astype(jnp.float32)
            loss = losses.log_loss if model.heads[head.name].is_binary else losses.squared_error
            terms = loss(outputs[head.name], labels)
            value += head.weight * head.scale * losses.reduce(terms, known, self.retrieval.reduction)
            sums |= {f"task/{head.name}": jnp.sum(terms), f"examples/task/{head.name}": jnp.sum(known)}
        return value, sums

    def lookups(self, model: TwoTower, batch: Batch) -> Lookups:
        """Returns the rows that the objective looks up, by the path of their table; heads have no tables."""
        return self.retrieval.lookups(model, batch)
