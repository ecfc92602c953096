"""The schema of an experiment: the only place where defaults live.

A file in `configs/` returns a `Config` from `get_config()`. Fields are plain strings, numbers, booleans,
tuples and dictionaries, so that a flag can override each of them and `config.json` holds all of them.
An empty string, tuple or 0 means "none" where the comment says so. (Annotations here are evaluated: the flags are
made from them.)
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from retrieval.common.choices import did_you_mean


@dataclasses.dataclass
class Columns:
    """Names of the columns in the user's files."""

    query_id: str = "user_id"
    candidate_id: str = "item_id"
    rating: str = ""  # none: every event counts the same
    timestamp: str = ""  # none: no split by time
    title: str = ""  # of the candidate table; none: ids stand for titles


@dataclasses.dataclass
class Split:
    """How one set of interactions is cut into train, validation and test."""

    strategy: str = "random"  # "random", "temporal", "leave_last_out" or "cold_candidates"
    test_fraction: float = 0.2  # of the events; of the candidates, with all their events, where those are cold
    validation_fraction: float = 0.2  # of what the test part leaves; 0: no validation part
    seed: int = 42


@dataclasses.dataclass
class Data:
    """Where interactions come from: a published data set, one file to split, or ready-made parts."""

    dataset: str = ""  # "movielens-100k" ... "movielens-latest-small" or "synthetic"; none: the files below
    path: str = ""  # local folder or archive of `dataset`; none: fetched and cached
    cache: str = "~/.cache/retrieval"
    interactions: str = ""  # one file (.csv, .tsv, .parquet), cut by `split`
    train: str = ""  # or ready-made parts
    validation: str = ""
    test: str = ""
    candidates: str = ""  # table of all candidates; none: every candidate id seen
    queries: str = ""  # table of query attributes
    columns: Columns = dataclasses.field(default_factory=Columns)
    dislike_at_most: float = 0.0  # events with a rating up to this are no positives but dislikes; 0: none are
    drop_duplicates: bool = True  # keep the first event of a (query, candidate) pair only
    split: Split = dataclasses.field(default_factory=Split)
    placement: str = "auto"  # of an epoch's batches: "device", "stream", or "auto": on the device if they fit
    vocabulary: str = "train"  # ids with a row of their own: those in "train", or in "all" parts and tables


@dataclasses.dataclass
class Feature:
    """A column that a tower reads, and how; see `retrieval.features`."""

    column: str = ""  # "id", a column of the tower's table, or of a query tower "timestamp": the time of the request
    kind: str = "category"  # "category", "bag", "number", "buckets", "periodic", "text" or "vector"
    dimension: int = 0  # of its embedding; 0: the tower's
    size: int = 0  # rows of a hashed table, number of buckets, or of frequencies
    hashes: int = 0  # rows that a value looks up in a hashed table; 0: a vocabulary from train, not hashed
    combiner: str = "mean"  # of the rows of one entity: "mean", "sum" or "sqrtn"
    weights: str = ""  # column of the weights of a bag's values
    period: float = 0.0  # of the slowest frequency, in units of the column; of the time, seconds
    dropout: float = 0.0  # probability that training takes it as missing: of "id", so that the unknown row is trained


def _ids() -> tuple[Feature, ...]:
    return (Feature(column="id"),)


@dataclasses.dataclass
class Tower:
    """What a tower reads, and how it puts that together; see `retrieval.models.feature_tower.FeatureTower`."""

    features: tuple[Feature, ...] = dataclasses.field(default_factory=_ids)
    combine: str = "sum"  # of the features' embeddings: "sum" or "concat"
    hidden_sizes: tuple[int, ...] = ()  # of the MLP over them; none: a sum is the output
    normalization: str = ""  # of its hidden layers: "layer"; none
    residual: bool = False  # its hidden layers add their input to their output
    dropout: float = 0.0  # of its hidden layers
    output_dropout: float = 0.0  # of the tower's output
    cross_layers: int = 0  # DCN-v2 layers before the MLP
    cross_rank: int = 0  # of their matrices; 0: full


@dataclasses.dataclass
class History:
    """What the query tower makes of the query's last interactions; see `retrieval.models.history`."""

    encoder: str = ""  # "recency", "mean", "weighted", "attention", "gru", "transformer" or "hstu"; none: no history
    length: int = 0  # interactions that it reads; 0: as many as nine in ten queries have in train, from 10 to 200
    visible: str = "past"  # to a target in training: "past", or "others": all of its window but itself
    items: str = "shared"  # the candidate tower's embeddings, or a table of "separate" ones
    last: bool = False  # the most recent interaction has an embedding of its own besides: transitions
    layers: int = 1  # of gru, transformer and hstu
    heads: int = 1  # of attention, transformer and hstu
    dropout: float = 0.0  # of the values of its tokens, and inside gru, transformer and hstu
    noise: float = 0.0  # probability that training takes an interaction out of the history
    ratings: bool = False  # tokens tell the ratings, in steps of a half
    gaps: bool = False  # tokens tell the time since the interaction before
    ages: bool = False  # tokens tell the age of the candidate at the interaction: the time since its first one in train


@dataclasses.dataclass
class Model:
    """The two towers, and what is added to the dot product of their outputs."""

    embedding_dimension: int = 32
    query: Tower = dataclasses.field(default_factory=Tower)
    candidate: Tower = dataclasses.field(default_factory=Tower)
    history: History = dataclasses.field(default_factory=History)
    initial_scale: float = 0.02  # standard deviation of the initial embeddings
    precision: str = "float32"  # of tables and towers; "bfloat16": half the memory, sums still in float32
    linear_rank: int = 0  # dimensions of a linear item-item model (EASE) whose score is added to the towers'; 0: none
    linear_l2: float = 300.0  # its penalty
    linear_half_distance: float = 0.0  # steps in a history at which its pairs of items count half; 0: all count alike
    linear_weight: float = 1.0  # of its score
    popularity_prior: bool = True  # the score starts at the candidate's log-probability in train; of softmaxes alone
    prior_half_life: float = 0.0  # days; answers follow the popularity at the end of train, where an interaction so old
    # counts half; see `retrieval.data.popularity.recent_prior`; 0: all of train counts alike
    prior_news: float = 0.0  # with it: weight of what is new to queries since they were last there; 0: none
    candidate_bias: bool = False  # a learned addition to the score of each candidate
    temperature: float = 0.0  # outputs of length 1 over a learned temperature that starts here; 0: as they are


@dataclasses.dataclass
class Loss:
    """What training minimises; see `retrieval.objectives`."""

    name: str = "in_batch_softmax"  # or "full_softmax", "implicit_squared", "cosine_contrastive", "bpr"
    temperature: float = 1.0  # of the softmaxes
    log_q: bool = True  # in-batch softmax: correct for the candidates' frequencies in train
    scale_log_q: bool = False  # divide the correction by the temperature too
    remove_accidental_hits: bool = True
    remove_known_positives: bool = False  # the query's other positives in train are no negatives
    num_hard_negatives: int = 0  # in-batch softmax; 0: all
    label_smoothing: float = 0.0  # softmaxes: share of the target that is spread over the columns
    unobserved_weight: float = 0.1  # implicit squared loss: of a pair that is not observed
    margin: float = 0.5  # cosine contrastive: cosines of negatives below it cost nothing
    negative_weight: float = 10.0  # cosine contrastive: of the negatives' mean
    rating_weight: float = 0.0  # an example weighs 1 + this * (its rating - the mean) / half the range; 0: all alike
    embedding_l2: float = 0.055  # penalty an example on the squared norms of its two embeddings
    candidate_l2_power: float = 1.0  # a candidate's penalty in an epoch grows with its count in train to this power
    reduction: str = "sum"  # "sum" or "mean" over the batch; the learning rate belongs to it


@dataclasses.dataclass
class Task:
    """What a head predicts of an interaction besides whether it happens; see `retrieval.data.labels`."""

    name: str = ""  # of its figures and of its parameters
    kind: str = "regression"  # or "binary": whether the target is at least `threshold`
    target: str = "rating"  # of the interaction
    threshold: float = 0.0
    weight: float = 1.0  # of its loss beside that of retrieval, both scaled alike; 0: the head is not trained
    hidden_sizes: tuple[int, ...] = ()  # of the head's MLP


@dataclasses.dataclass
class Negatives:
    """Negatives of a batch beside its own candidates; see `retrieval.batching.negatives.Negatives`."""

    uniform: int = 0  # drawn a batch, each candidate of train alike
    popular: int = 0  # drawn a batch, in proportion to count ** power
    power: float = 0.75
    queue: int = 0  # candidates of that many examples before the batch
    dislikes: int = 0  # drawn an example, from what its query disliked; see data.dislike_at_most
    frequencies: str = "train"  # of the positives, for logQ: counted in "train", or estimated from the "stream"


@dataclasses.dataclass
class Optimizer:
    """An optax optimizer by name, with its other arguments."""

    name: str = "adagrad"
    learning_rate: float = 0.1
    arguments: dict[str, float] = dataclasses.field(default_factory=dict)
    schedule: str = "constant"  # of the learning rate; "linear", "cosine": to 0 over train.epochs, in both phases
    warmup: float = 0.0  # share of the schedule in which the learning rate first rises
    clip_norm: float = 0.0  # bounds the norm of all gradients of a step; 0: nothing does
    weight_decay: float = 0.0  # of matrices that are no tables: share that a step takes, times the learning rate
    table_l2: dict[str, float] = dataclasses.field(default_factory=dict)  # by how a table's path begins: a penalty on
    # the squared norm of each row, times its count in train ** table_l2_power; see `training.optimizers`
    table_l2_power: float = 1.0  # 1: a row counts as often as it occurs; 0: once an epoch


@dataclasses.dataclass
class Train:
    """How long to train, and what decides."""

    seed: int = 0  # of the initial values and the order of examples
    batch_size: int = 2048
    epochs: int = 60  # at most, where early stopping is on
    evaluate_every: int = 1  # epochs; 0: never
    patience: int = 6  # evaluations without a better one before training stops; 0: never stop early
    metric: str = "excluding_seen/ndcg_at_10"  # on the validation part; the highest is the best
    average: float = 0.0  # decay a step of an average of the parameters, used instead of the last ones; 0: none
    refit: bool = True  # train anew on train and validation for the best number of epochs


@dataclasses.dataclass
class Evaluate:
    """Which figures to compute on the test part."""

    top_k_accuracies: tuple[int, ...] = (1, 5, 10, 50, 100)  # over interactions, nothing excluded
    ks: tuple[int, ...] = (5, 10, 20, 50, 100)  # lengths of the lists of all other metrics
    batch_size: int = 4096  # of the test loss


@dataclasses.dataclass
class Index:
    """How the candidate embeddings are searched: the cheapest setting whose recall on real queries is certified."""

    kind: str = ""  # "exact" or "hnsw"; none: exact search, unless a graph is certified and twice as fast
    target_recall: float = 0.99  # what the lower bound of the 95 % interval of recall@k must reach
    k: int = 10
    queries: int = 4096  # of those that train knows, at most, that choose and certify
    space: str = ""  # "inner_product", "normalized" or "euclidean"; none: tuned, as 0 of the next three
    M: int = 0  # neighbours of a node
    ef_construction: int = 0  # candidates considered for them
    ef: int = 0  # candidates that a search considers
    seed: int = 0
    threads: int = 1  # that build; more are faster, and build another graph each time. 0: all of the machine


@dataclasses.dataclass
class Config:
    """One experiment."""

    name: str = ""
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    loss: Loss = dataclasses.field(default_factory=Loss)
    tasks: tuple[Task, ...] = ()  # a head for each
    negatives: Negatives = dataclasses.field(default_factory=Negatives)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    train: Train = dataclasses.field(default_factory=Train)
    evaluate: Evaluate = dataclasses.field(default_factory=Evaluate)
    index: Index = dataclasses.field(default_factory=Index)


def to_json(config: Config) -> str:
    """Returns the config as JSON text, one field a line."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Reads what `to_json` wrote.

    Raises:
      ValueError: a field is missing, unknown or of another type; all fields are expected.
    """
    return _parse(Config, json.loads(text), "config")


def differences(ours: Config, theirs: Config) -> list[str]:
    """Returns a line "field: ours, theirs" for each field that differs."""
    flat_ours, flat_theirs = flatten(dataclasses.asdict(ours)), flatten(dataclasses.asdict(theirs))
    return [
        f"{field}: {flat_ours.get(field)!r}, {flat_theirs.get(field)!r}"
        for field in sorted(flat_ours.keys() | flat_theirs.keys())
        if flat_ours.get(field) != flat_theirs.get(field)
    ]


def check_field(path: str) -> None:
    """Checks that `path`, as in "train.epochs", is a field of `Config`, or a key of a field of dictionaries.

    Raises:
      ValueError: it is none; the message names the nearest.
    """
    fields = field_types(Config)
    if path not in fields and typing.get_origin(fields.get(path.rpartition(".")[0])) is not dict:
        leaf = path.rsplit(".", 1)[-1]
        near = did_you_mean(path, fields) or next(
            (f"; did you mean {n!r}?" for n in fields if n.rsplit(".", 1)[-1] == leaf), ""
        )
        raise ValueError(f"the config has no field {path!r}{near}")


def field_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """Returns the type of each field by its path, sections descended into."""
    types_ = {}
    for name, hint in typing.get_type_hints(cls).items():
        nested = field_types(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {}
        types_.update(nested or {prefix + name: hint})
    return types_


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, with paths for keys.

    >>> flatten({"train": {"epochs": 3}, "name": "x"})
    {'train.epochs': 3, 'name': 'x'}
    """
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def _parse(hint: Any, value: Any, path: str) -> Any:
    """Returns a JSON value as an instance of the annotated type."""
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be a section, got {value!r}")
        for name in value.keys() - hints.keys():
            raise ValueError(f"{path} has no field {name!r}{did_you_mean(name, hints)}")
        for name in hints.keys() - value.keys():
            raise ValueError(f"{path}.{name} is missing")
        return hint(**{name: _parse(hints[name], value[name], f"{path}.{name}") for name in hints})
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list):
        element = typing.get_args(hint)[0]
        return tuple(_parse(element, item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        element = typing.get_args(hint)[1]
        return {key: _parse(element, item, f"{path}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, types.GenericAlias) or type(value) is not hint:
        raise ValueError(f"{path} must be {getattr(hint, '__name__', hint)}, got {value!r}")
    return value
