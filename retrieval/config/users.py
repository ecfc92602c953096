"""Why the options that no shipped config sets are there: a command, a measurement, or a request in public issues.

Metrics are those of the validation part with training seed 0: of a run with the option, whose default or alternative
stands beside it.
"""

YOUR_DATA = "the commands of `my_interactions`"
OUT_OF_CORE = "training out of core: `stream/memory`"
DISLIKES = "asked for: dislikes as negatives (NVIDIA-Merlin/models #885, keras-team/keras #20080)"
MLP = "towers of other libraries' tutorials; `movielens_100k:metadata` with (64,): recall@20 .401, without .443"
RANK = "`movielens_100k:temporal_best` with one query layer of rank 8: nDCG@10 .423, of full rank .418"
USERS = {  # by path
    "data.path": "the command of `movielens_1m`",
    "data.cache": OUT_OF_CORE,
    "data.interactions": YOUR_DATA,
    "data.train": YOUR_DATA,
    "data.validation": YOUR_DATA,
    "data.test": YOUR_DATA,
    "data.candidates": "the commands of `my_items`",
    "data.queries": YOUR_DATA,
    "data.columns.query_id": YOUR_DATA,
    "data.columns.candidate_id": YOUR_DATA,
    "data.columns.rating": YOUR_DATA,
    "data.columns.timestamp": "the command of `my_sequences`",
    "data.columns.timestamp_unit": "click logs in milliseconds, as RetailRocket's and Tenrec's",
    "data.columns.title": YOUR_DATA,
    "data.dislike_at_most": DISLIKES,
    "data.drop_duplicates": OUT_OF_CORE,
    "data.split.seed": "the several splits of the tutorial, tests/config/test_configs.py",
    "data.placement": "`stream/epoch` and `stream/memory`",
    "model.query.mlp.hidden_sizes": MLP,
    "model.candidate.mlp.hidden_sizes": MLP,
    "model.query.mlp.dropout": "with `hidden_sizes`",
    "model.candidate.mlp.dropout": "with `hidden_sizes`",
    "model.query.cross.layers": "`movielens_100k:temporal_best` with one query layer: nDCG@10 .418, none .425",
    "model.query.cross.rank": RANK,
    "model.candidate.cross.rank": RANK,
    "model.history.length": "`my_sequences` on MovieLens 100K with 20: nDCG@10 .138, automatic .132",
    "model.history.layers": "`my_sequences` on MovieLens 100K, `transformer` of 2 and 2 heads: nDCG@10 .100, of 1 .091",
    "model.history.heads": "see `model.history.layers`",
    "model.history.inputs": "`my_sequences` on MovieLens 100K with all three: nDCG@10 .134, none .132",
    "model.precision": "`bfloat16` on MovieLens 100K, see docs/models.md: precision@10 .3709, `float32` .3714",
    "model.candidate_bias": "`bpr` on MovieLens 100K: nDCG@10 .162, without .110",
    "model.temperature": "`cosine_contrastive`; asked for: guidance on temperature (tensorflow/recommenders #566)",
    "loss.temperature": "asked for: guidance on temperature (tensorflow/recommenders #566, #633)",
    "loss.remove_known_positives": "asked for: other positives of the user as negatives (tensorflow/recommenders #706)",
    "loss.num_hard_negatives": "asked for: hard negatives (tensorflow/recommenders #566, #633)",
    "loss.unobserved_weight": "MovieLens 100K with .03, .1, .3: nDCG@10 .241, .259, .265",
    "loss.margin": "MovieLens 100K with .2, .5: nDCG@10 .211, .216",
    "loss.negative_weight": "MovieLens 100K with 10, 100: nDCG@10 .216, .109",
    "negatives.popular": "asked for: logQ of mixed negatives (tensorflow/recommenders #635)",
    "negatives.queue": "asked for: negatives beyond the batch (tensorflow/recommenders #561)",
    "negatives.dislikes": DISLIKES,
    "optimizer.arguments": "the optimizers of Keras, whose `initial_accumulator_value` and `eps` migrate",
    "train.seed": "`experiments.seeds`",
    "train.refit": "`experiments.sweep`, which searches alone",
    "evaluate.top_k_accuracies": "the published table of `tutorial`",
    "evaluate.ks": "the tables of results, at 10 and 20",
    "index.kind": "`experiments.export --index.kind=exact`: no graph where users have seen much",
    "index.target_recall": "`experiments.export --index.target_recall=0.95`",
    "index.k": "`experiments.tune_index --k=10`",
    "index.threads": "`index/search`: graphs of a million vectors",
    "index.hnsw.space": "`index/search`: `inner_product`",
    "index.hnsw.M": "`index/search`: 16",
    "index.hnsw.ef_construction": "`index/search`: 100",
    "index.hnsw.ef": "`index/search`: 108",
}
