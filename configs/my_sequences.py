"""Your own sequences: what comes next after a query's history, from ids in the order of time.

    python -m experiments.run --config=configs/my_sequences.py --workdir=runs/mine \
        --config.data.interactions=events.csv --config.data.columns.timestamp=time

The fields of `data` are those of `configs/my_interactions.py`. Without a timestamp the order of the file is that of
time. The last interaction of each query is the test part, the one before it the validation part
(`data.split.strategy=temporal` cuts at one time for all instead).

The query tower has no id: it reads the history, so that new queries need no training. It adds a sum of the last
candidates, which weigh less the longer ago they were (learned), and an embedding of the very last one. Sums share their
table with the candidate tower. It can be used without tuning. How it scales:

- a history holds what nine in ten queries have, from 10 to 200 interactions; longer ones are cut into windows, so that
  each interaction is predicted once. Time and memory of a step grow with that length;
- 64 dimensions in two tables of all candidates;
- the softmax compares with 1,024 random candidates and those of the batch, corrected for their probabilities, whatever
  the size of the corpus; half of the values of the history are dropped in training, and there is no other penalty;
- at most 12 epochs of falling learning rate; the number of epochs is chosen on the validation part, and the model is
  trained anew on both parts for as many.

Amazon Toys and Games, 5-core (19,412 users, 11,924 items, 167,597 interactions; lines `user_id,item_id` in the order
of time), all items ranked, those of the history excluded, mean and standard deviation over training seeds 0 to 4: hit
rate@10 0.1202 +- 0.0011, nDCG@10 0.0748 +- 0.0006; beside it item-kNN with BM25, tuned on validation, 0.0891 and
0.0525, with cosines 0.0821 and 0.0492, and most popular 0.0090 and 0.0052 (p 0.0001 against each). Training takes 90 to
160 s a seed on two busy cores, search included; item-kNN 4 to 12 s. Dimension, dropout and learning rate were chosen on
the validation part.

    python -m experiments.seeds --config=configs/my_sequences.py --workdir=runs/toys --seeds=5 \
        --config.data.interactions=toys.csv \
        --config.data.columns.query_id=user_id --config.data.columns.candidate_id=item_id
    python -m experiments.baselines --config=configs/my_sequences.py --workdir=runs/toys/seed_0 \
        --baselines=popularity,item_knn_cosine,item_knn_bm25 --config.data.interactions=toys.csv \
        --config.data.columns.query_id=user_id --config.data.columns.candidate_id=item_id

A sweep of what may need tuning after all, as `get_space` says it:

    python -m experiments.sweep --config=configs/my_sequences.py --workdir=runs/sweep --trials=30 \
        --config.data.interactions=events.csv --config.data.columns.timestamp=time
"""

from retrieval.config.schema import Config
from retrieval.config.space import Choice, LogUniform, Space, Uniform


def get_config() -> Config:
    """Returns the experiment: name your files by flags, or here."""
    config = Config(name="my-sequences")
    config.data.split.strategy = "leave_last_out"
    config.model.embedding_dimension = 64
    config.model.initial_scale = 0.05
    config.model.query.features = ()
    config.model.history.encoder = "recency"
    config.model.history.last = True
    config.model.history.dropout = 0.5
    config.negatives.uniform = 1024
    config.regularization.embedding_l2 = 0.0
    config.loss.reduction = "mean"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.006
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = 0.03
    config.train.batch_size = 1024
    config.train.epochs = 12
    config.train.patience = 3
    return config


def get_space() -> Space:
    """Returns what a sweep varies."""
    return {
        "model.embedding_dimension": Choice(32, 64, 128),
        "model.history.dropout": Uniform(0.2, 0.7),
        "optimizer.learning_rate": LogUniform(0.002, 0.02),
        "negatives.uniform": Choice(256, 1024, 4096),
    }
