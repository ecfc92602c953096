"""Checks of a whole config that need the libraries it names, optax and the index; still before any data are loaded."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from retrieval.common.choices import did_you_mean
from retrieval.config import checks
from retrieval.config import schema as config_lib
from retrieval.config.fields import shown
from retrieval.config.values import check_values
from retrieval.data.splits import Parts
from retrieval.evaluation.registry import metric_of, metrics_of
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.tuning import search
from retrieval.index.tuning.choices import Choices
from retrieval.training.optimizers import by_name

SEED = 0  # of the index: of the queries that choose it, and of the graph
FIELDS = {"target": "target_recall", **{name: f"hnsw.{name}" for name in ("space", "M", "ef_construction", "ef")}}


def check_experiment(config: config_lib.Config) -> None:
    """Checks all that can be checked of an experiment before its data are loaded, and normalises its values.

    Raises:
      ValueError: as `config.checks.check`, or the optimizer or the index cannot be made with their settings; the
        message names the field.
    """
    checks.check(config)
    metric = config.train.metric
    if metric_of(metric) is None:
        near = did_you_mean(metric, [f"excluding_seen/{known.name}_at_10" for known in metrics_of("query")])
        raise ValueError(
            f"train.metric must name a metric as metrics.json does, as 'excluding_seen/ndcg_at_10', got {shown(metric)}"
            f"{near}"
        )
    _check_optimizer(config)
    index_choices(config.index)


def check_parts(config: config_lib.Config, parts: Parts) -> None:
    """Checks that the parts suffice for what the config asks of them.

    Raises:
      ValueError: a part has dislikes alone, from which nothing is learned or found, or train has one query, and a graph
        is asked for, which is chosen on one and certified on another.
    """
    most = config.data.dislike_at_most
    for name in ("train", "validation", "test"):
        part = getattr(parts, name)
        if most and part is not None and part.ratings is not None and np.all(part.ratings <= most):
            raise ValueError(
                f"all {len(part)} interactions of the {name} part are dislikes: data.dislike_at_most is {most}, and "
                "ratings up to it are dislikes; lower it"
            )
    if config.index.kind == HnswIndex.kind and len(parts.train.distinct_ids[0]) < 2:
        raise ValueError(
            "index.kind is 'hnsw', and a graph needs two users in train at least, one to choose and one to certify it; "
            "set index.kind to 'exact', or leave it out"
        )


def index_choices(settings: config_lib.Index) -> Choices:
    """Returns the kinds and settings of an index that the config allows; checks all its settings.

    Raises:
      ValueError: a setting is out of range.
    """
    check_values(settings, "index")
    try:
        search.check(k=settings.k, target=settings.target_recall, seed=SEED, threads=settings.threads)
        graph = settings.hnsw
        return Choices(settings.kind, graph.space, graph.M, graph.ef_construction, graph.ef)
    except ValueError as error:  # begins with the name of the argument
        name, rest = str(error).split(" ", 1)
        raise ValueError(f"index.{FIELDS.get(name, name)} {rest}") from None


def _check_optimizer(config: config_lib.Config) -> None:
    """Checks the arguments of the optimizer: it makes one step, on shapes alone.

    Raises:
      ValueError: it has no such argument, or fails with its value.
    """
    section = config.optimizer
    params = {"table": jnp.zeros((2, 2)), **({"temperature": jnp.zeros(())} if config.model.temperature else {})}

    def step(params):
        optimizer = by_name.create(section.name, section.learning_rate, **section.arguments)
        return optimizer.update(params, optimizer.init(params), params)

    try:
        with jax.numpy_dtype_promotion("standard"):  # as optax needs it
            jax.eval_shape(step, params)
    except Exception as error:  # of whatever kind: optax checks few of its arguments
        arguments = f" and optimizer.arguments={section.arguments}" if section.arguments else ""
        raise ValueError(
            f"no step can be made with optimizer.name={section.name!r}{arguments}: {error}; change the arguments, or "
            "take another optimizer"
        ) from None
