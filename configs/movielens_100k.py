"""MovieLens 100K, embeddings of 32 dimensions from ids alone; right by default.

    python -m experiments.run --config=configs/movielens_100k.py --workdir=runs/movielens_100k

Random split with seed 42, train excluded, mean and standard deviation over training seeds 0, 1, 2: precision@10
0.3711 +- 0.0010, recall@10 0.2402 +- 0.0013, nDCG@10 0.4451 +- 0.0013; most popular 0.1908, 0.1163, 0.2171.

    python -m experiments.seeds --config=configs/movielens_100k.py --workdir=runs/movielens_100k_seeds --seeds=3

Variant `temporal`: the last 20,000 ratings by time are the test part, and 192 of its 301 users are unknown
in train; seed 0: precision@10 0.336, recall@10 0.079; most popular 0.327, 0.071.

    python -m experiments.run --config=configs/movielens_100k.py:temporal --workdir=runs/movielens_100k_temporal

Variant `temporal_best` is the same split. The query tower also reads age, gender and occupation, with dropout of the
id, so that these features rank for a user that train does not know. The addition `recent_popularity` makes the scores
follow the popularity at the end of train, and what is new to a user since the last visit. Precision@10 and nDCG@10,
mean and standard deviation over training seeds 0 to 4, with 95 % intervals over users, beside the most popular of the
last week of train (`last_week_popularity`) and of the window that validation chooses (`recent_popularity`, 30 days):

    109 known users     .1950 +- .0050 [.158, .237]   .2680 +- .0027 [.226, .313]
        last week       .1743, p .18                  .2148, p .0048
        30 days         .1596, p .014                 .2113, p .0005
    192 unknown users   .4930 +- .0026 [.460, .526]   .5308 +- .0019 [.496, .565]
        last week       .4438, p .0001                .4685, p .0001
        30 days         .4833, p .16                  .5140, p .023

p-values are of the paired randomisation test, uncorrected. Windows of 14 and 60 days are below the model too, in both
groups and metrics. For unknown users no single list can exceed a precision of .5010, that of the ten movies most
frequent in their own test part, which are not known beforehand. Training takes 3 to 6 s a seed on two cores, search
included; the baselines need none.

    python -m experiments.run --config=configs/movielens_100k.py:temporal_best --workdir=runs/temporal_best
    python -m experiments.seeds --config=configs/movielens_100k.py:temporal_best --workdir=runs/temporal_seeds --seeds=5
    python -m experiments.baselines --config=configs/movielens_100k.py:temporal_best \\
        --workdir=runs/temporal_seeds/seed_0 --baselines=last_week_popularity,recent_popularity
    python -m experiments.compare runs/temporal_seeds runs/temporal_seeds/seed_0:last_week_popularity \\
        runs/temporal_seeds/seed_0:recent_popularity --queries=vocabulary=cold \\
        --metrics=excluding_seen/precision_at_10,excluding_seen/ndcg_at_10

Dimension, penalty, half-life and weight of news were chosen outside the test part: on five cuts in time, with the next
16,000 ratings held out. The test part was used for three settings, of which this is the last: a prototype with these
terms had nDCG@10 .2878 for known users and .5338 for unknown ones, and one of 32 dimensions without news .2301 and
.5308 (p .053).

Variants `metadata` and `metadata_20` hold out a tenth and a fifth of the movies, 168 and 336, with all their ratings;
the candidate tower reads genres and year of release beside the id, which it drops at times in training. The held-out
movies ranked among themselves, recall@20 and nDCG@10, mean and standard deviation over training seeds 0 to 4, beside
the untrained TF-IDF profile of a user's movies (`content`), the same without the text of release dates, which
validation prefers, and random lists:

                                                       content        without dates   random
    metadata       .4822 +- .0047   .4101 +- .0072     .3607 .2752    .3991 .3549     .1135 .0707
    metadata_20    .3161 +- .0030   .3768 +- .0137     .2433 .2547    .2695 .3029     .0639 .0670

95 % intervals over users of recall@20 with seed 0: [.467, .499] and [.346, .377] for a tenth, [.303, .328] and [.231,
.256] for a fifth. Against both forms of `content` p is .0001, the least that 10,000 swaps give. These tests generalise
to other users, not to other movies. Among all movies, train excluded, recall@20 is .0795 +- .0090 and .0834 +- .0206,
below `content` (.0974 and .0844; without dates .1330 and .0993): known movies have their ids too, and stand before the
others. Popularity, 0 for all of them, leaves them in the order of ids, in which well-known movies come first: recall@20
.3170 and .1514. Training takes 6 to 20 s a seed on two shared cores, search included; `content` 0.8 s.

    python -m experiments.seeds --config=configs/movielens_100k.py:metadata --workdir=runs/metadata --seeds=5
    python -m experiments.baselines --config=configs/movielens_100k.py:metadata --workdir=runs/metadata/seed_0 \\
        --baselines=content,random,popularity
    python -m experiments.compare runs/metadata runs/metadata/seed_0:content --metrics=cold_candidates/recall_at_20

The settings, among some fifty, were chosen on what is not test of `metadata`: its validation part, and three cuts of a
tenth of its movies. Recall@20 there, each at its best epoch: .349 (.339, .374, .333). Without the cross layer .338;
then with dropout 0, .1 and .5 of the id .291, .331 and .336, without id .332, with a mean of genres .309. Words of
titles beside a cross layer: .320 at most. There `content` has .249, without dates .271, a random order .063.

Batch size and penalty of the main experiment were chosen on the validation part, 20 % of train.
"""

from retrieval.config.schema import Addition, Config, Feature

VARIANTS = ("", "temporal", "temporal_best", "metadata", "metadata_20")


def get_config(variant: str = "") -> Config:
    """Returns the experiment, or one of its variants."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS[1:])}, or none, got {variant!r}")
    config = Config(name="movielens-100k")
    config.data.dataset = "movielens-100k"
    if variant:
        config.name += f":{variant}"
    if variant.startswith("temporal"):
        config.data.split.strategy = "temporal"
    if variant.startswith("metadata"):
        _set_metadata(config, held_out=0.2 if variant == "metadata_20" else 0.1)
    if variant == "temporal_best":
        config.model.query.features = (
            Feature(column="id", dropout=0.3),  # so that the others answer for a user that train does not know
            Feature(column="age", kind="buckets", size=7),
            Feature(column="gender"),
            Feature(column="occupation"),
        )
        config.model.embedding_dimension = 64
        config.model.additions = (Addition("recent_popularity", arguments={"half_life": 10.0, "news": 0.3}),)
        config.loss.name = "full_softmax"
        config.loss.rating_weight = 0.5
        config.regularization.embedding_l2 = 0.09
        config.train.batch_size = 8192
        config.train.average = 0.95
    return config


def _set_metadata(config: Config, held_out: float) -> None:
    """Holds that share of the movies out, and has the candidate tower read what is known of them."""
    config.data.split.strategy = "cold_candidates"
    config.data.split.test_fraction = config.data.split.validation_fraction = held_out
    config.model.candidate.features = (
        Feature(column="id", dropout=0.3),  # so that the others answer for a movie that train does not know
        Feature(column="genres", kind="bag", combiner="sqrtn"),  # longer with more genres, which popular movies have
        Feature(column="release_year", kind="buckets", size=20),
    )
    config.model.candidate.cross.layers = 1
    config.model.popularity_prior = False  # a cold movie has none: features learn what is popular
    config.train.metric = "cold_candidates/recall_at_20"
    config.train.patience = 10
