"""Checks that the settings of an experiment go together, before any data are loaded and any work is done.

What depends on the data, as whether a column exists, is checked where the data are read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from retrieval.common.choices import did_you_mean
from retrieval.config.fields import options, shown, type_hints
from retrieval.config.schema import ADDITIONS, ENCODERS, LOSSES, Addition, Columns, Config, History, Hnsw, Split
from retrieval.config.values import check_values

SOFTMAXES = ("in_batch_softmax", "full_softmax")  # losses whose scores are log-probabilities
OVER_CORPUS = ("full_softmax", "implicit_squared")  # losses that compare with all candidates and draw none
READS_DISLIKES = ("in_batch_softmax",)  # losses with negatives drawn from what a query disliked
LOWER_IS_BETTER = ("mean_rank", "mse", "rmse", "mae", "log_loss")  # metrics that cannot choose the best epoch


def check(config: Any) -> None:  # a `Config`, which is checked here
    """Checks every value of the config, see `values.check_values`, and that no setting contradicts another.

    Raises:
      ValueError: it is no config, a value is wrong, or two settings contradict each other; the message says which and
        what to do.
    """
    if type(config) is not Config:
        raise ValueError(f"a config must be a retrieval.Config, got {shown(config)}")
    check_values(config)
    for name in ("query_id", "candidate_id"):
        if not getattr(config.data.columns, name):
            raise ValueError(f"data.columns.{name} is empty; name the column of the ids")
    for side in ("query", "candidate"):
        for i, feature in enumerate(getattr(config.model, side).features):
            if not feature.column:
                raise ValueError(f"model.{side}.features[{i}].column is empty; name a column, or 'id'")
    metric = config.train.metric
    if metric.rpartition("/")[2] in LOWER_IS_BETTER:
        raise ValueError(f"train.metric must be a metric of which higher values are better, got {metric!r}")
    _check_length(config)
    _check_scores(config)
    _check_additions(config)


def arguments_of(addition: Addition, path: str = "arguments") -> Any:
    """Returns the arguments of an addition as a section, with the defaults of those that are not set.

    >>> arguments_of(Addition("ease", arguments={"rank": 8}))
    Ease(rank=8, l2=300.0, half_distance=0.0)

    Args:
      addition: an entry of `model.additions`.
      path: of its arguments in the config, for messages.

    Raises:
      ValueError: the addition has no such argument, or a value is wrong.
    """
    cls = ADDITIONS[addition.name]
    hints = type_hints(cls)
    for name in addition.arguments:
        if name not in hints:
            known = did_you_mean(name, hints) or f"; it has {', '.join(hints)}"
            raise ValueError(f"{path}.{name} is no argument of {addition.name!r}{known}")
    whole = {name for name, hint in hints.items() if hint is int}
    arguments = cls(
        **{
            name: int(value) if name in whole and float(value).is_integer() else value
            for name, value in addition.arguments.items()
        }
    )
    check_values(arguments, path)
    return arguments


def unread(config: Config) -> list[str]:
    """Returns a sentence for each setting that has no effect, as those of a history without an encoder.

    >>> config = Config()
    >>> config.model.history.last = True
    >>> unread(config)
    ['model.history.last has no effect without model.history.encoder']
    """
    default, sentences = Config(), []
    for section, names, reason in _without_effect(config):
        set_here, set_by_default = (functools.reduce(getattr, section.split("."), c) for c in (config, default))
        changed = [name for name in names if getattr(set_here, name) != getattr(set_by_default, name)]
        sentences += [f"{section}.{name} has no effect {reason}" for name in changed]
    return list(dict.fromkeys(sentences))


def _check_length(config: Config) -> None:
    """Checks that the validation part is evaluated at the list length of the metric that chooses the epoch."""
    data, metric, ks = config.data, config.train.metric, config.evaluate.ks
    has_validation = bool(data.validation) if data.train else data.split.validation_fraction > 0
    length = metric.rpartition("_at_")[2]
    if has_validation and config.train.evaluate_every and length.isdecimal() and int(length) not in ks:
        raise ValueError(
            f"train.metric is {metric!r}, and evaluate.ks={ks} lacks {length}; add it, or change the metric"
        )


def _check_scores(config: Config) -> None:
    """Checks that the scores that the loss trains are those that candidates are ranked by."""
    model, name = config.model, config.loss.name
    if name not in SOFTMAXES and model.popularity_prior:
        raise ValueError(
            f"loss.name={name!r} trains scores that are no log-probabilities, and model.popularity_prior makes them "
            "start as log-probabilities; set model.popularity_prior=False"
        )
    if name == "cosine_contrastive" and not model.temperature:
        raise ValueError(
            "loss.name='cosine_contrastive' compares cosines, and candidates would be ranked by dot products; set "
            "model.temperature=1.0, for outputs of length 1"
        )


def _check_additions(config: Config) -> None:
    names = [addition.name for addition in config.model.additions]
    for i, addition in enumerate(config.model.additions):
        if addition.name in names[:i]:
            raise ValueError(f"model.additions[{i}].name is {addition.name!r}, which is added already; remove one")
        arguments_of(addition, f"model.additions[{i}].arguments")
    if "recent_popularity" in names and config.loss.name not in SOFTMAXES:
        raise ValueError(
            f"the addition 'recent_popularity' changes log-probabilities, and loss.name={config.loss.name!r} trains "
            f"none; remove it, or set loss.name to one of {', '.join(SOFTMAXES)}"
        )


def _without_effect(config: Config) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Returns sections, the fields in them that nothing reads, and the reason."""
    model, loss, data, encoder = config.model, config.loss.name, config.data, config.model.history.encoder
    if not data.dataset:
        yield "data", ("path",), "without data.dataset"
    else:
        yield "data.columns", tuple(options(Columns)), "with data.dataset"
    if not data.candidates:
        yield "data.columns", ("title",), "without data.candidates"
    if data.train:
        yield "data.split", tuple(options(Split)), "with data.train"
    if not encoder:
        yield (
            "model.history",
            tuple(name for name in options(History) if name != "encoder"),
            "without model.history.encoder",
        )
    else:
        unread = {name for names in ENCODERS.values() for name in names} - set(ENCODERS[encoder])
        yield "model.history", tuple(sorted(unread)), f"with model.history.encoder={encoder!r}"
    for side in ("query", "candidate"):
        tower = getattr(model, side)
        if not tower.mlp.hidden_sizes:
            yield f"model.{side}.mlp", ("dropout",), f"without model.{side}.mlp.hidden_sizes"
        if not tower.cross.layers:
            yield f"model.{side}.cross", ("rank",), f"without model.{side}.cross.layers"
    fields_of_losses = {name for names in LOSSES.values() for name in names}
    yield "loss", tuple(sorted(fields_of_losses - set(LOSSES[loss]))), f"with loss.name={loss!r}"
    if not config.train.evaluate_every:
        yield "train", ("metric", "patience", "refit"), "with train.evaluate_every=0"
    if config.index.kind == "exact":
        yield "index.hnsw", tuple(options(Hnsw)), "with index.kind='exact'"
    if loss in OVER_CORPUS:
        yield "negatives", ("uniform", "popular", "queue"), f"with loss.name={loss!r}"
    if loss not in READS_DISLIKES:
        yield "negatives", ("dislikes",), f"with loss.name={loss!r}"
