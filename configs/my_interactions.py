"""Your own interactions: one file to split, or ready-made parts. Ids only; nothing needs tuning to begin.

One file (CSV, TSV or Parquet) with a query id and a candidate id in each row, here with its own column names:

    python -m experiments.run --config=configs/my_interactions.py --workdir=runs/mine \
        --config.data.interactions=events.csv \
        --config.data.columns.query_id=customer --config.data.columns.candidate_id=product

or parts that are split already:

    python -m experiments.run --config=configs/my_interactions.py --workdir=runs/mine \
        --config.data.train=train.parquet --config.data.validation=val.parquet --config.data.test=test.parquet

What is chosen by itself, and how it scales: 32 dimensions, in one row a query and one a candidate; a penalty on the
embeddings for each example that looks them up, so that a row is held back in proportion to how little is known of it,
whatever the size of the data; scores that start at popularity; steps of 2,048 examples, or all where there are fewer;
and as many epochs, up to 60, as raise nDCG@10 on the validation part. More dimensions help above some 100,000
events (`--config.model.embedding_dimension=64`); larger steps are faster above millions
(`--config.train.batch_size=8192`).

Amazon Toys and Games, 5-core, leave one out (see `configs/my_sequences.py`, which does far better where there is an
order), mean and standard deviation over training seeds 0 to 4: hit rate@10 0.0606 +- 0.0019, nDCG@10 0.0341 +- 0.0009;
most popular 0.0090 and 0.0052, item-kNN with BM25 0.0891 and 0.0525: with 8.6 interactions a user, neighbours know more
than embeddings of users. Training takes 35 to 190 s a seed on two busy cores, search included.

    python -m experiments.seeds --config=configs/my_interactions.py --workdir=runs/toys_ids --seeds=5 \
        --config.data.interactions=toys.csv --config.data.split.strategy=leave_last_out \
        --config.data.columns.query_id=user_id --config.data.columns.candidate_id=item_id

Optional besides: `data.candidates`, a table of all candidates with their ids and, in `data.columns.title`, titles;
`data.queries`, a table of queries; `data.columns.timestamp`, for `data.split.strategy=temporal` or
`leave_last_out`; `data.columns.rating`. Copy this file and set the fields in it once they no longer change.
"""

from retrieval.config.schema import Config


def get_config() -> Config:
    """Returns the defaults: name your files by flags, or here."""
    return Config(name="my-interactions")
