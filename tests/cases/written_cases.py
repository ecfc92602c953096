"""The configs whose files `tests/serving/written_before.tar.gz` holds, prepared by the code as it is now."""

import functools
import pathlib

import numpy as np

from retrieval.config.schema import Config, Feature, History
from retrieval.data.interactions import Interactions, Table
from retrieval.data.published import synthetic
from retrieval.data.splits import split
from retrieval.pipeline.recipe import prepare
from retrieval.training.step import TrainState, create_state

ARCHIVE = pathlib.Path(__file__).parents[1] / "serving/written_before.tar.gz"


def state_of(config: Config) -> TrainState:
    """Returns the state that a training of the config starts from."""
    recipe = prepare(config, *_data())
    return create_state(recipe.model, recipe.optimizer)


def everything() -> Config:
    """Returns the config of towers over a history, features of both sides and the time of the request."""
    config = with_history("transformer", layers=1, heads=1, length=5, last=True, inputs=("ratings", "gaps", "ages"))
    config.model.query.features = (
        Feature("id"),
        Feature("age", "number"),
        Feature("city"),
        Feature("timestamp", "periodic", size=2, period=86400.0),
        Feature("timestamp", "category", size=9, hashes=2),
    )
    config.model.candidate.features = (Feature("id"), Feature("group"))
    return config


def with_history(encoder: str, **settings) -> Config:
    """Returns the config of a query tower over histories alone."""
    config = Config()
    config.model.embedding_dimension = 8
    config.model.query.features = ()
    config.model.history = History(encoder, **{"length": 5, "layers": 2, "heads": 2, "last": True} | settings)
    return config


def deep() -> Config:
    """Returns the config of towers with an MLP and cross layers, a bias and a temperature, averaged."""
    config = Config()
    config.model.embedding_dimension = 8
    config.model.query.mlp.hidden_sizes = (16, 8)
    config.model.candidate.features = (Feature("id"), Feature("group"))
    config.model.candidate.cross.layers, config.model.candidate.cross.rank = 2, 3
    config.model.candidate_bias, config.model.temperature = True, 1.0
    config.optimizer.name, config.train.average = "rowwise_adagrad", 0.9
    return config


@functools.cache
def _data() -> tuple[Interactions, Table, None, Table]:
    events, items = synthetic.load()
    places = np.arange(len(events))
    kept = (events.query_ids < 30) & (places % 3 < 1 + events.query_ids % 3)
    events = Interactions(events.query_ids, events.candidate_ids, 1 + places % 9 / 2, events.timestamps)
    events = events.with_unknown_ratings(places % 7 == 0).take(kept)
    ids = np.append(np.arange(30), [105, 106])
    users = Table(ids, {"age": ids % 50, "city": np.array(["Ulm", "Kiel", ""])[ids % 3]})
    items = Table(items.ids, items.columns | {"group": items.ids % 8})
    parts = split(events, "leave_last_out", test_fraction=0.1, validation_fraction=0.0, seed=0)
    return parts.train, items, None, users
