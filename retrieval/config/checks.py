"""Whether the settings of an experiment make sense, before there are any data and any work is done.

What depends on the data, as whether a column is there, is checked where they are read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from retrieval.config.schema import Config

LOSS_FIELDS = {  # what each loss reads of its section, beside what all read; see `objectives.Objective.options`
    "in_batch_softmax": (
        *("temperature", "log_q", "remove_accidental_hits", "remove_known_positives"),
        *("num_hard_negatives", "label_smoothing"),
    ),
    "full_softmax": ("temperature", "remove_known_positives", "label_smoothing"),
    "implicit_squared": ("unobserved_weight",),
    "cosine_contrastive": ("remove_known_positives", "margin", "negative_weight"),
    "bpr": ("remove_known_positives",),
}
SOFTMAXES = ("in_batch_softmax", "full_softmax")  # losses whose scores are log-probabilities
OVER_CORPUS = ("full_softmax", "implicit_squared")  # that compare with all candidates, drawn or not
LOWER_IS_BETTER = ("mean_rank", "mse", "rmse", "mae", "log_loss")  # figures that no training may be chosen by
RANGES = (  # of numbers, by the end of their path
    (
        "0 or more, below 1",
        lambda value: 0 <= value < 1,
        ("dropout", "output_dropout", "noise", "label_smoothing"),
    ),
    (
        "1 or more",
        lambda value: 1 <= value < math.inf,
        ("hidden_sizes", "layers", "heads", "train.batch_size", "evaluate.batch_size"),
    ),
    (
        "0 or more",
        lambda value: 0 <= value < math.inf,
        (
            *("cross_layers", "cross_rank", "dimension", "clip_norm", "weight_decay", "table_l2_power", "power"),
            *("num_hard_negatives", "unobserved_weight", "negative_weight", "rating_weight", "embedding_l2"),
            *("candidate_l2_power", "prior_news", "epochs", "evaluate_every", "patience", "seed", "table_l2"),
        ),
    ),
    (
        "above 0",
        lambda value: 0 < value < math.inf,
        ("learning_rate", "initial_scale", "loss.temperature"),
    ),
    ("from -1 to 1", lambda value: -1 <= value <= 1, ("margin",)),
)


def check(config: Config) -> None:
    """Checks that numbers are in their ranges, and that no setting contradicts another.

    Raises:
      ValueError: one is not, or two do; it says which, and what to do.
    """
    check_numbers(config)
    for side in ("query", "candidate"):
        for i, feature in enumerate(getattr(config.model, side).features):
            if not feature.column:
                raise ValueError(f"model.{side}.features[{i}].column is empty; name a column, or 'id'")
    metric = config.train.metric
    if metric.rpartition("/")[2] in LOWER_IS_BETTER:
        raise ValueError(f"train.metric must be a figure that is the better, the higher it is, got {metric!r}")
    _check_scores(config)


def check_numbers(config: Config) -> None:
    """Checks that numbers are in their ranges.

    Raises:
      ValueError: one is not; it says which.
    """
    for path, value in _numbers(dataclasses.asdict(config)):
        for words, holds, ends in RANGES:
            if f".{path}".endswith(tuple(f".{end}" for end in ends)) and not holds(value):
                raise ValueError(f"{path} must be {words}, got {value}")


def unread(config: Config) -> list[str]:
    """Returns what is set and has no effect, a sentence each, as settings of a history where there is none.

    >>> config = Config()
    >>> config.model.history.ratings = True
    >>> unread(config)
    ['model.history.ratings has no effect without model.history.encoder']
    """
    default = Config()
    sentences = []
    for section, names, needed in _without_effect(config):
        ours, theirs = (_at(of, section) for of in (config, default))
        changed = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
        sentences += [f"{section}.{name} has no effect {needed}" for name in changed]
    return sentences


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Returns each number with its path; those of a tuple, or under the keys of a dictionary of numbers, have its."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and all(isinstance(of, float | int) for of in value.values()):
            yield from ((path, of) for of in value.values())
        elif isinstance(value, Mapping):
            yield from _numbers(value, f"{path}.")
        elif isinstance(value, tuple):
            for i, of in enumerate(value):
                yield from _numbers(of, f"{path}[{i}].") if isinstance(of, Mapping) else _numbers({path: of})
        elif isinstance(value, float | int):
            yield path, value


def _check_scores(config: Config) -> None:
    """Checks that the scores which the loss trains are those that answers are ranked by."""
    model, name = config.model, config.loss.name
    if name in LOSS_FIELDS and name not in SOFTMAXES and model.popularity_prior:
        raise ValueError(
            f"loss.name={name!r} trains scores that are no log-probabilities, and model.popularity_prior has them "
            "start as such; set model.popularity_prior=False"
        )
    if name == "cosine_contrastive" and not model.temperature:
        raise ValueError(
            "loss.name='cosine_contrastive' compares cosines, and answers would be ranked by dot products; set "
            "model.temperature=1.0, for outputs of length 1"
        )


def _without_effect(config: Config) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Returns sections, fields of theirs that nothing reads, and what they are without."""
    model, loss, optimizer = config.model, config.loss, config.optimizer
    if not model.history.encoder:
        names = tuple(field.name for field in dataclasses.fields(model.history) if field.name != "encoder")
        yield "model.history", names, "without model.history.encoder"
    if not model.linear_rank:
        yield "model", ("linear_l2", "linear_half_distance", "linear_weight"), "without model.linear_rank"
    for side in ("query", "candidate"):
        tower = getattr(model, side)
        if not tower.hidden_sizes:
            yield f"model.{side}", ("normalization", "residual", "dropout"), f"without model.{side}.hidden_sizes"
        if not tower.cross_layers:
            yield f"model.{side}", ("cross_rank",), f"without model.{side}.cross_layers"
    of_losses = {name for names in LOSS_FIELDS.values() for name in names}
    of_others = of_losses - set(LOSS_FIELDS.get(loss.name, of_losses))
    yield "loss", tuple(sorted(of_others)), f"with loss.name={loss.name!r}"
    if loss.name in OVER_CORPUS:
        yield "negatives", ("uniform", "popular", "queue", "dislikes"), f"with loss.name={loss.name!r}"
    if loss.name in ("cosine_contrastive", "bpr"):
        yield "negatives", ("dislikes",), f"with loss.name={loss.name!r}"
    if not optimizer.table_l2:
        yield "optimizer", ("table_l2_power",), "without optimizer.table_l2"


def _at(config: Config, path: str) -> Any:
    section: Any = config
    for name in path.split("."):
        section = getattr(section, name)
    return section
