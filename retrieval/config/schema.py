"""The schema of an experiment: the only place where defaults live.

A file in `configs/` returns a `Config` from `get_config()`. Fields are text, numbers, booleans, tuples and
dictionaries, so that `config.json` holds all of them and a flag can override each one outside a tuple of sections.
Where the meaning of a field says "none", an empty text or an empty tuple stands for it. `retrieval.config.users` says
whom the options serve that no shipped config sets. (Annotations here are evaluated: the flags are made from them.)
"""

import dataclasses

from retrieval.common.list_length import LARGEST_K
from retrieval.config.fields import LARGEST, MOST_IN_BATCH, MOST_ROWS, Section, choice, option, ranged, section

DATASETS = (
    *("movielens-100k", "movielens-1m", "movielens-10m", "movielens-20m", "movielens-25m", "movielens-32m"),
    *("movielens-latest-small", "synthetic"),
)
KINDS_OF_FEATURES = ("category", "bag", "number", "buckets", "periodic", "text", "vector")
ENCODERS = {  # each encoder of histories, with the fields of its section that it reads beside those that all read
    **{"recency": (), "mean": (), "weighted": (), "attention": ("heads",), "gru": ("layers",)},
    **{"transformer": ("layers", "heads"), "hstu": ("layers", "heads")},
}
LOSSES = {  # each loss, with the fields of its section that it reads beside those that all read: `Objective.options`
    "in_batch_softmax": (
        *("temperature", "log_q", "remove_accidental_hits", "remove_known_positives"),
        "num_hard_negatives",
    ),
    "full_softmax": ("temperature", "remove_known_positives"),
    "implicit_squared": ("unobserved_weight",),
    "cosine_contrastive": ("remove_known_positives", "margin", "negative_weight"),
    "bpr": ("remove_known_positives",),
}
OPTIMIZERS = (  # those of optax whose first argument is a learning rate, and two of `retrieval.training.optimizers`
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad"),
    *("fromage", "lamb", "lars", "lazy_adam", "lion", "noisy_sgd", "novograd", "optimistic_adam"),
    *("optimistic_adam_v2", "optimistic_gradient_descent", "radam", "rmsprop", "rowwise_adagrad", "rprop", "sgd"),
    *("sign_sgd", "signum", "sm3", "yogi"),
)


@dataclasses.dataclass
class Columns(Section):
    """Names of the columns in the user's files."""

    query_id: str = option("user_id", "Ids of the queries.")
    candidate_id: str = option("item_id", "Ids of the candidates.")
    rating: str = option("", "Ratings; none: every event counts the same.")
    timestamp: str = option("", "Times of the events: datetimes, ISO 8601 text or numbers; none: no split by time.")
    timestamp_unit: str = choice("s", ("s", "ms", "us", "ns"), "Unit of times that are numbers, counted from 1970.")
    title: str = option("", "Titles in the table of candidates; none: ids stand for titles.")


@dataclasses.dataclass
class Split(Section):
    """How one set of interactions is divided into train, validation and test."""

    strategy: str = choice(
        "random",
        ("random", "temporal", "leave_last_out", "cold_candidates"),
        "Which events are held out: random ones, the latest, the last of each query, or those of some candidates.",
    )
    test_fraction: float = ranged(
        0.2, "Share of the test part: of the events, or of the candidates where those are held out.", above=0, below=1
    )
    validation_fraction: float = ranged(
        0.2, "Share of the validation part in what the test part leaves; 0: none.", least=0, below=1
    )
    seed: int = ranged(42, "Seed of a random split.", least=0, most=LARGEST)


@dataclasses.dataclass
class Data(Section):
    """Where interactions come from: a published data set, one file to split, or ready-made parts."""

    dataset: str = choice("", ("", *DATASETS), "Published data set; none: the files below.")
    path: str = option("", "Local copy of it; none: downloaded.")
    cache: str = option("~/.cache/retrieval", "Folder of downloads and of encoded rows.")
    interactions: str = option("", "One file (.csv, .tsv, .parquet), divided by `split`.")
    train: str = option("", "Or ready-made parts: the training part.")
    validation: str = option("", "Validation part; none: no search for the number of epochs.")
    test: str = option("", "Test part.")
    candidates: str = option("", "Table of all candidates; none: every id seen.")
    queries: str = option("", "Table of the queries' attributes; none.")
    columns: Columns = section(Columns, "Names of the columns.")
    dislike_at_most: float = ranged(
        0.0, "Events with a rating up to this are dislikes, not positives; 0: none.", least=0
    )
    drop_duplicates: bool = option(True, "Keep the first event of each (query, candidate) pair only.")
    split: Split = section(Split, "How one file is divided.")
    placement: str = choice(
        "auto",
        ("auto", "device", "stream"),
        "Where the batches of an epoch are: on the device, streamed to it, or on the device if they fit.",
    )
    vocabulary: str = choice("train", ("train", "all"), "Which ids have a row of their own: of train, or of all parts.")


@dataclasses.dataclass
class Feature(Section):
    """A column that a tower reads, and how; see `retrieval.features`."""

    column: str = option(
        "", '"id", a column of the tower\'s table, or of a query tower "timestamp": the request\'s time.'
    )
    kind: str = choice("category", KINDS_OF_FEATURES, "How the column is encoded.")
    size: int = ranged(0, "Rows of a hashed table, number of buckets, or of frequencies.", least=0, most=MOST_ROWS)
    hashes: int = ranged(0, "Rows of a hashed table that a value looks up; 0: a vocabulary of train.", least=0, most=64)
    combiner: str = choice("mean", ("mean", "sum", "sqrtn"), "How the rows of one entity are combined.")
    weights: str = option("", "Column of the weights of a bag's values; none: all weigh the same.")
    period: float = ranged(0.0, "Of the slowest frequency, in units of the column; of a time, seconds.", least=0)
    dropout: float = ranged(0.0, "Probability that training takes the value as missing.", least=0, below=1)


@dataclasses.dataclass
class Mlp(Section):
    """Dense layers over the combined features of a tower."""

    hidden_sizes: tuple[int, ...] = ranged((), "Sizes of the layers; none: no MLP.", least=1, most=65_536)
    dropout: float = ranged(0.0, "Of the hidden layers' outputs.", least=0, below=1)


@dataclasses.dataclass
class Cross(Section):
    """Cross layers (DCN-v2) between the combined features of a tower and its MLP."""

    layers: int = ranged(0, "Number of layers.", least=0, most=64)
    rank: int = ranged(0, "Rank of their matrices; 0: full.", least=0, most=65_536)


def _ids() -> tuple[Feature, ...]:
    return (Feature(column="id"),)


@dataclasses.dataclass
class Tower(Section):
    """What a tower reads and how the features become one embedding; see `retrieval.models.feature_tower`."""

    features: tuple[Feature, ...] = dataclasses.field(
        default_factory=_ids, metadata=option((), "Columns that the tower reads.").metadata
    )
    mlp: Mlp = section(Mlp, "MLP over the combined features.")
    cross: Cross = section(Cross, "Cross layers before the MLP.")


@dataclasses.dataclass
class History(Section):
    """What the query tower makes of the query's last interactions; see `retrieval.models.history`."""

    encoder: str = choice("", ("", *ENCODERS), "How the interactions become one embedding; none: no history.")
    length: int = ranged(
        0, "Interactions read; 0: as many as nine in ten queries have in train, from 10 to 200.", least=0, most=65_536
    )
    visible: str = choice("past", ("past", "others"), "Interactions a target sees in training: earlier, or all others.")
    last: bool = option(False, "Embed the most recent interaction in a table of its own besides: transitions.")
    layers: int = ranged(1, "Of gru, transformer and hstu.", least=1, most=64)
    heads: int = ranged(1, "Of attention, transformer and hstu.", least=1, most=1024)
    dropout: float = ranged(0.0, "Of the tokens' values, and inside gru, transformer and hstu.", least=0, below=1)
    inputs: tuple[str, ...] = choice(
        (),
        ("ratings", "gaps", "ages"),
        "What tokens tell besides the item: ratings, the time since the interaction before, the age of the candidate.",
    )


@dataclasses.dataclass
class Ease(Section):
    """Arguments of the addition "ease": a linear item-item model (EASE), cut to a few dimensions."""

    rank: int = ranged(64, "Dimensions.", least=1, most=65_536)
    l2: float = ranged(300.0, "Penalty on the squared weights.", above=0)
    half_distance: float = ranged(0.0, "Steps in a history at which a pair counts half; 0: all count alike.", least=0)


@dataclasses.dataclass
class RecentPopularity(Section):
    """Arguments of the addition "recent_popularity": the prior follows the popularity at the end of train."""

    half_life: float = ranged(10.0, "Days after which an interaction counts half.", above=0)
    news: float = ranged(0.0, "Weight of what is new to a query since its last interaction; 0: none.", least=0)


ADDITIONS = {"ease": Ease, "recent_popularity": RecentPopularity}


@dataclasses.dataclass
class Addition(Section):
    """A model without gradient training whose score is added to that of the towers."""

    name: str = choice("ease", tuple(ADDITIONS), "Which model.")
    weight: float = ranged(1.0, "Of its score.", above=0)
    arguments: dict[str, float] = ranged({}, "Of the model, see `Ease` and `RecentPopularity`.")


@dataclasses.dataclass
class Model(Section):
    """The two towers, and what is added to the dot product of their outputs."""

    embedding_dimension: int = ranged(32, "Dimension of the towers' outputs.", least=1, most=65_536)
    query: Tower = section(Tower, "The query tower.")
    candidate: Tower = section(Tower, "The candidate tower.")
    history: History = section(History, "The query's last interactions.")
    initial_scale: float = ranged(0.02, "Standard deviation of the initial embeddings.", above=0)
    precision: str = choice(
        "float32",
        ("float32", "tensorfloat32", "bfloat16"),
        "Of tables and towers, on every device; tensorfloat32: float32, with faster products inside towers on GPUs. "
        "Scores and sums are in float32.",
    )
    popularity_prior: bool = option(True, "Scores start at the log-probability in train; of softmaxes alone.")
    candidate_bias: bool = option(False, "Add a learned bias to the score of each candidate.")
    temperature: float = ranged(
        0.0, "Outputs have length 1, over a learned temperature that starts here; 0: outputs as they are.", least=0
    )
    additions: tuple[Addition, ...] = option((), "Models added to the towers.")


@dataclasses.dataclass
class Loss(Section):
    """What training minimises; see `retrieval.objectives`."""

    name: str = choice("in_batch_softmax", tuple(LOSSES), "The loss.")
    temperature: float = ranged(1.0, "Divides the scores of the softmaxes.", above=0)
    log_q: bool = option(True, "In-batch softmax: correct for the sampling probabilities of the candidates.")
    remove_accidental_hits: bool = option(True, "In-batch softmax: copies of a positive are no negatives.")
    remove_known_positives: bool = option(False, "The query's other positives in train are no negatives.")
    num_hard_negatives: int = ranged(
        0, "In-batch softmax: the highest negatives kept; 0: all.", least=0, most=MOST_IN_BATCH
    )
    unobserved_weight: float = ranged(0.1, "Implicit squared: weight of a pair that is not observed.", least=0)
    margin: float = ranged(0.5, "Cosine contrastive: negatives below it cost nothing.", least=-1, most=1)
    negative_weight: float = ranged(10.0, "Cosine contrastive: weight of the negatives' mean.", least=0)
    rating_weight: float = ranged(
        0.0, "An example weighs 1 + this * (rating - mean) / half the range; 0: all weigh the same.", least=0
    )
    reduction: str = choice("sum", ("sum", "mean"), "Over the batch; the learning rate belongs to it.")


@dataclasses.dataclass
class Regularization(Section):
    """Penalties on embeddings."""

    embedding_l2: float = ranged(
        0.055, "Penalty, for each example, on the squared norms of its two embeddings.", least=0
    )
    candidate_power: float = ranged(
        1.0, "A candidate's `embedding_l2` in an epoch grows with its count in train to this power.", least=0, most=10
    )
    table_l2: dict[str, float] = ranged(
        {}, "By how a table's path begins: penalty on the squared norm of each row, times its count in train.", least=0
    )


@dataclasses.dataclass
class Task(Section):
    """What a head predicts of an interaction besides whether it happens; see `retrieval.data.labels`."""

    name: str = option("", "Of its metrics and of its parameters.")
    kind: str = choice("regression", ("regression", "binary"), "The rating, or whether it is at least `threshold`.")
    threshold: float = ranged(0.0, "The least rating of a positive label.")
    weight: float = ranged(1.0, "Of its loss beside that of retrieval; 0: the head is not trained.", least=0)
    hidden_sizes: tuple[int, ...] = ranged((), "Of the head's MLP.", least=1, most=65_536)


@dataclasses.dataclass
class DrawnNegatives(Section):
    """Negatives of a batch beside its own candidates; see `retrieval.batching.negatives`."""

    uniform: int = ranged(0, "Drawn for each batch, every candidate of train alike.", least=0, most=MOST_IN_BATCH)
    popular: int = ranged(0, "Drawn for each batch, in proportion to count ** 0.75.", least=0, most=MOST_IN_BATCH)
    queue: int = ranged(0, "Candidates of that many examples before the batch.", least=0, most=MOST_IN_BATCH)
    dislikes: int = ranged(0, "Drawn for each example from its query's dislikes.", least=0, most=65_536)


@dataclasses.dataclass
class Optimizer(Section):
    """An optimizer of optax by name, and what goes with it."""

    name: str = choice("adagrad", OPTIMIZERS, "Update rule.")
    learning_rate: float = ranged(0.1, "Step size.", above=0)
    arguments: dict[str, float] = ranged({}, "Other arguments of the optimizer, by name.")
    schedule: str = choice(
        "constant", ("constant", "linear", "cosine"), "Of the learning rate: constant, or to 0 over `train.epochs`."
    )
    warmup: float = ranged(0.0, "Share of the schedule in which the learning rate first rises.", least=0, below=1)
    weight_decay: float = ranged(
        0.0, "Of matrices that are no tables: share removed in a step, times the learning rate.", least=0
    )


@dataclasses.dataclass
class Train(Section):
    """How long to train, and what decides."""

    seed: int = ranged(0, "Of the initial values and the order of examples.", least=0, most=LARGEST)
    batch_size: int = ranged(2048, "Examples in a step.", least=1, most=MOST_IN_BATCH)
    epochs: int = ranged(60, "At most, with early stopping.", least=0, most=LARGEST)
    evaluate_every: int = ranged(1, "Epochs from one validation to the next; 0: never.", least=0, most=LARGEST)
    patience: int = ranged(6, "Validations without a better one that end training; 0: never.", least=0, most=LARGEST)
    metric: str = option("excluding_seen/ndcg_at_10", "On the validation part; the epoch with the highest is kept.")
    average: float = ranged(
        0.0, "Decay in a step of the EMA of the parameters, which replaces them; 0: none.", least=0, below=1
    )
    refit: bool = option(True, "Train anew on train and validation for the best number of epochs.")


@dataclasses.dataclass
class Evaluate(Section):
    """Which metrics to compute on the test part."""

    top_k_accuracies: tuple[int, ...] = ranged(
        (1, 5, 10, 50, 100),
        "Lengths k of top-k accuracy, over interactions, nothing excluded.",
        least=1,
        most=LARGEST_K,
    )
    ks: tuple[int, ...] = ranged((5, 10, 20, 50, 100), "Lengths k of all other metrics.", least=1, most=LARGEST_K)


@dataclasses.dataclass
class Hnsw(Section):
    """The graph of hnswlib; settings left open are tuned."""

    space: str = choice("", ("", "inner_product", "normalized", "euclidean"), "What the graph measures; none: tuned.")
    M: int = ranged(0, "Neighbours of a node; 0: tuned.", least=0, most=4096)
    ef_construction: int = ranged(0, "Candidates considered for them; 0: tuned.", least=0, most=LARGEST_K)
    ef: int = ranged(0, "Candidates that a search considers; 0: tuned.", least=0, most=LARGEST_K)


@dataclasses.dataclass
class Index(Section):
    """How the candidate embeddings are searched: the cheapest setting whose recall on real queries is certified."""

    kind: str = choice("", ("", "exact", "hnsw"), "none: exact, unless a graph is certified and twice as fast.")
    target_recall: float = ranged(
        0.99, "What the lower bound of the 95 % interval of recall@k must reach.", above=0, below=1
    )
    k: int = ranged(10, "Of the recall.", least=1, most=LARGEST_K)
    threads: int = ranged(
        1, "That build a graph; more are faster, and build another graph each time; 0: all.", least=0, most=65_536
    )
    hnsw: Hnsw = section(Hnsw, "Settings of the graph.")


@dataclasses.dataclass
class Config(Section):
    """One experiment."""

    name: str = option("", "Of the experiment.")
    data: Data = section(Data, "Where interactions come from.")
    model: Model = section(Model, "The towers.")
    loss: Loss = section(Loss, "What training minimises.")
    regularization: Regularization = section(Regularization, "Penalties on embeddings.")
    tasks: tuple[Task, ...] = option((), "A head for each.")
    negatives: DrawnNegatives = section(DrawnNegatives, "Negatives beside those of the batch.")
    optimizer: Optimizer = section(Optimizer, "How parameters move.")
    train: Train = section(Train, "How long to train.")
    evaluate: Evaluate = section(Evaluate, "Which metrics.")
    index: Index = section(Index, "How candidates are searched.")
