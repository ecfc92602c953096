"""Names that a config allows are the keys of the registries: no room before `pipeline` may import both."""

import pytest

from retrieval.config import schema
from retrieval.config.fields import options
from retrieval.config.placements import PLACEMENTS
from retrieval.data.labels import KINDS as TASKS
from retrieval.data.published.registry import DATASETS
from retrieval.data.splits import STRATEGIES
from retrieval.features.encoded import COMBINERS
from retrieval.features.registry import KINDS
from retrieval.index.hnsw.spaces import SPACES
from retrieval.index.registry import KINDS as INDEXES
from retrieval.models.history import ENCODERS
from retrieval.models.history.visibility import VISIBLE
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.additions import ADDITIONS
from retrieval.pipeline.architecture import PRECISIONS
from retrieval.training.optimizers.by_name import create
from retrieval.training.optimizers.schedules import SCHEDULES


@pytest.mark.parametrize(
    ("section", "field", "names"),
    [
        (schema.Data, "dataset", DATASETS),
        (schema.Split, "strategy", STRATEGIES),
        (schema.Feature, "kind", KINDS),
        (schema.Feature, "combiner", COMBINERS),
        (schema.History, "encoder", ENCODERS),
        (schema.History, "visible", VISIBLE),
        (schema.Task, "kind", TASKS),
        (schema.Loss, "name", OBJECTIVES),
        (schema.Data, "placement", PLACEMENTS),
        (schema.Model, "precision", PRECISIONS),
        (schema.Addition, "name", ADDITIONS),
        (schema.Optimizer, "schedule", SCHEDULES),
        (schema.Index, "kind", INDEXES),
        (schema.Hnsw, "space", SPACES),
    ],
)
def test_a_config_allows_the_names_of_the_registry(section, field, names):
    assert {name for name in options(section)[field].choices if name} == {name for name in names if name}


def test_the_schema_says_which_fields_a_history_encoder_reads():
    fields = {"layers", "heads"}
    assert schema.ENCODERS.keys() == ENCODERS.keys()
    for name, encoder in ENCODERS.items():
        assert set(schema.ENCODERS[name]) == fields & set(encoder.arguments), name


@pytest.mark.filterwarnings("ignore")  # of optax, that an optimizer will change
@pytest.mark.parametrize("name", schema.OPTIMIZERS)
def test_every_optimizer_that_the_schema_names_can_be_created(name):
    assert create(name, 0.1).update
