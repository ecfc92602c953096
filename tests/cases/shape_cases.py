"""Data of a few events in odd shapes, as files of a user."""

import csv
import itertools

from retrieval.config.schema import Config, Feature, Task
from retrieval.config.space import with_settings

HEADERS = {
    "events": ("user_id", "item_id", "rating", "time"),
    "items": ("item_id", "title"),
    "users": ("user_id", "age"),
}
SIZES = {"train.epochs": 1, "train.batch_size": 16, "model.embedding_dimension": 4, "evaluate.ks": (5, 10)}
OF_LOSS = {  # what else a loss needs
    "in_batch_softmax": {},
    "full_softmax": {},
    "implicit_squared": {"model.popularity_prior": False},
    "cosine_contrastive": {"model.popularity_prior": False, "model.temperature": 1.0},
    "bpr": {"model.popularity_prior": False},
}


def events(pairs, rating=None, time=None):
    """Returns rows of events with ratings from 1 to 5 and rising times, where these are not given."""
    return [
        (user, item, (user + item) % 5 + 1 if rating is None else rating, 1000 + row if time is None else time)
        for row, (user, item) in enumerate(pairs)
    ]


def grid(users, items):
    """Returns the pairs of each user with each item."""
    return list(itertools.product(users, items))


SOME = [(user, (3 * user + step) % 9) for user in range(15) for step in range(5)]
TWICE = [(user, (user + step) % 4) for user in range(10) for step in range(2)]
LAST_OUT = {"data.split.strategy": "leave_last_out"}
TEMPORAL = {"data.split.strategy": "temporal"}
COLD = {"data.split.strategy": "cold_candidates"}
NO_VALIDATION = {"data.split.validation_fraction": 0.0}
FIRST, THEN, OTHERS = grid(range(5), range(4)), grid(range(5), range(4, 8)), grid(range(50, 55), range(50, 54))
Shape = tuple[dict, dict]  # rows by field of `data`, settings
RUNS: dict[str, Shape] = {  # what runs to its end
    "one item": ({"interactions": events(grid(range(8), [0]))}, {}),
    "one user": ({"interactions": events(grid([0], range(20)))}, {}),
    "two events": ({"interactions": events([(0, 0), (1, 1)])}, NO_VALIDATION | {"data.split.test_fraction": 0.5}),
    "everybody has everything": ({"interactions": events(grid(range(6), range(5)))}, {}),
    "fewer items than k": ({"interactions": events([(u, i) for u, i in grid(range(12), range(3)) if (u + i) % 3])}, {}),
    "one event each": ({"interactions": events([(user, user % 4) for user in range(10)])}, {}),
    "two events each, the last held out": ({"interactions": events(TWICE)}, LAST_OUT | NO_VALIDATION),
    "no times, the last held out": ({"interactions": events(SOME)}, LAST_OUT | {"data.columns.timestamp": ""}),
    "one time for all": ({"interactions": events(SOME, time=7)}, TEMPORAL),
    "one pair many times": ({"interactions": events([(0, 0)] * 20)}, {"data.drop_duplicates": False}),
    "other users in test": ({"train": events(FIRST), "test": events(grid(range(50, 55), range(4)))}, {}),
    "other items in test": ({"train": events(FIRST), "test": events(grid(range(5), range(50, 54)))}, {}),
    "others in test": ({"train": events(FIRST), "test": events(OTHERS)}, {}),
    "others in validation": ({"train": events(FIRST), "validation": events(OTHERS), "test": events(THEN)}, {}),
    "one user in train": ({"train": events(grid([0], range(4))), "test": events(THEN)}, {}),
    "one event in train": ({"train": events([(0, 0)]), "test": events(THEN)}, {}),
    "items that nobody has": ({"interactions": events(SOME), "candidates": [(i, f"T{i}") for i in range(60)]}, {}),
    "attributes of other users": ({"interactions": events(SOME), "queries": [(100 + i, i) for i in range(5)]}, {}),
    "histories of one event": (
        {"interactions": events([(user, user % 4) for user in range(10)])},
        {"model.history.encoder": "transformer"},
    ),
    "the history of one user": ({"interactions": events(grid([0], range(20)))}, {"model.history.encoder": "gru"}),
    "one rating, weighted": ({"interactions": events(SOME, rating=3)}, {"loss.rating_weight": 1.0}),
}
REFUSED: dict[str, tuple[dict, dict, str]] = {  # what cannot run, and what is said before any training
    "no events": ({"interactions": []}, {}, "has a header and no rows"),
    "no items": ({"interactions": events(SOME), "candidates": []}, {}, "has a header and no rows"),
    "an empty test part": ({"train": events(FIRST), "test": []}, {}, "has a header and no rows"),
    "one event": (
        {"interactions": events([(0, 0)])},
        {},
        r"validation part of the random split is empty: 1 interactions.*set data.split.validation_fraction=0 for no",
    ),
    "one pair many times": ({"interactions": events([(0, 0)] * 20)}, {}, "the random split is empty: 1 interactions"),
    "one event each, the last held out": (
        {"interactions": events([(user, user % 4) for user in range(10)])},
        LAST_OUT,
        "one event of a query that has another; set data.split.validation_fraction=0.*or data.split.strategy",
    ),
    "two events each, the last and the one before held out": (
        {"interactions": events(TWICE)},
        LAST_OUT,
        "the validation part of the leave_last_out split is empty: 20 interactions.*validation_fraction=0 for no",
    ),
    "two items, held out": (
        {"interactions": events(grid(range(8), range(2)))},
        COLD,
        "part of the cold_candidates split is empty.*it holds out candidates, and needs several",
    ),
    "no times to split by": (
        {"interactions": events(SOME)},
        TEMPORAL | {"data.columns.timestamp": ""},
        "needs timestamps, and the interactions have none; name their column in data.columns.timestamp",
    ),
    "all are dislikes": (
        {"interactions": events(SOME)},
        {"data.dislike_at_most": 5.0},
        "interactions of the train part are dislikes: data.dislike_at_most is 5.0, .* lower it",
    ),
    "all of validation are dislikes": (
        {"train": events(FIRST, rating=5), "validation": events(THEN, rating=1), "test": events(OTHERS, rating=5)},
        {"data.dislike_at_most": 2.0},
        "all 20 interactions of the validation part are dislikes",
    ),
    "all of test are dislikes": (
        {"train": events(FIRST, rating=5), "test": events(THEN, rating=1)},
        {"data.dislike_at_most": 2.0},
        "all 20 interactions of the test part are dislikes",
    ),
    "items, but none that anybody has": (
        {"interactions": events(SOME), "candidates": [(100 + i, f"T{i}") for i in range(5)]},
        {},
        "have a candidate id that .*items.csv lacks",
    ),
    "a graph for one user": (
        {"train": events(grid([0], range(4))), "test": events(THEN)},
        {"index.kind": "hnsw"},
        "a graph needs two users in train at least.*set index.kind to 'exact'",
    ),
    "one rating to learn": (
        {"interactions": events(SOME, rating=3)},
        {"tasks": (Task("stars"),)},
        "task 'stars' has nothing to learn from the labels in train: all 48 of them are 3",
    ),
}


def experiment(folder, files, settings, loss="in_batch_softmax", kind=""):
    """Returns the config of a run on these rows, which are written to files in `folder`."""
    config = with_settings(Config(), {**SIZES, "loss.name": loss, "index.kind": kind, **OF_LOSS[loss]})
    config.data.columns.rating, config.data.columns.timestamp = "rating", "time"
    for field, rows in files.items():
        name = {"candidates": "items", "queries": "users"}.get(field, "events")
        path = folder / f"{'items' if field == 'candidates' else field}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADERS[name], *rows])
        setattr(config.data, field, str(path))
    if "queries" in files:
        config.model.query.features = (Feature("id"), Feature("age", "number"))
    return with_settings(config, settings)
