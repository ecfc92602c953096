"""Names that a config allows are the keys of the registries: no room before `pipeline` may import both."""

import dataclasses

import pytest

from retrieval.config import schema
from retrieval.config.fields import METADATA
from retrieval.data.labels import KINDS as TASKS
from retrieval.data.published.registry import DATASETS
from retrieval.data.splits import STRATEGIES
from retrieval.features.encoded import COMBINERS
from retrieval.features.registry import KINDS
from retrieval.models.feature_tower import COMBINATIONS
from retrieval.models.history import ENCODERS
from retrieval.models.history.visibility import VISIBLE
from retrieval.objectives import OBJECTIVES


@pytest.mark.parametrize(
    ("section", "field", "names"),
    [
        (schema.Data, "dataset", DATASETS),
        (schema.Split, "strategy", STRATEGIES),
        (schema.Feature, "kind", KINDS),
        (schema.Feature, "combiner", COMBINERS),
        (schema.Tower, "combine", COMBINATIONS),
        (schema.History, "encoder", ENCODERS),
        (schema.History, "visible", VISIBLE),
        (schema.Task, "kind", TASKS),
        (schema.Loss, "name", OBJECTIVES),
    ],
)
def test_a_config_allows_the_names_of_the_registry(section, field, names):
    declared = {each.name: each.metadata[METADATA].choices for each in dataclasses.fields(section)}
    assert {name for name in declared[field] if name} == {name for name in names if name}
