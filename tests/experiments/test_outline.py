"""The outline of a model: every parameter once, in the order of computation, with the shapes that towers return."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tower_cases import AGE, CORPUS, GENRES, HOUR, ID, PEOPLE, YEAR, Feature, config, interactions

from experiments.inspection.outline import outline
from retrieval.config.schema import Task
from retrieval.models.binding import flatten_params, init
from retrieval.models.history import ENCODERS
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.pipeline.recipe import prepare

YEARS = [YEAR, Feature("year", "buckets", size=3), Feature("year", "buckets", size=2)]


def recipe_of(change=lambda settings: None, query=(ID, AGE, HOUR), candidate=(ID, GENRES), **history):
    settings = config(query, candidate, **history)
    change(settings)
    return prepare(settings, interactions(), CORPUS, queries=PEOPLE)


def rich(settings):
    settings.model.candidate.mlp.hidden_sizes = (8,) * 11
    settings.model.candidate.cross.layers, settings.model.candidate.cross.rank = 2, 3
    settings.model.candidate.mlp.dropout = 0.2
    settings.model.candidate_bias, settings.model.temperature = True, 0.1
    settings.tasks = (Task(name="stars", hidden_sizes=(5,)), Task(name="liked", kind="binary", threshold=3.0))


def found_in(root):
    """Returns the shape of each parameter of an outline by its path, which must be there once."""
    found = {}
    for _, part in root.walk():
        for rest, leaf in part.own.items():
            path = f"{part.path}/{rest}" if part.path else rest
            assert path not in found
            found[path] = leaf.shape
    return found


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda settings: None, {}),
        (rich, {"candidate": [ID, *YEARS, GENRES]}),
        *((lambda settings: None, {"encoder": name, "heads": 2, "layers": 2}) for name in ENCODERS),
        (rich, {"encoder": "hstu", "last": True, "inputs": ("ratings", "gaps"), "query": []}),
    ],
)
def test_each_parameter_is_counted_once(change, settings):
    model = recipe_of(change, **settings).model
    params = flatten_params(init(model))
    root = outline(model, 5)
    assert found_in(root) == {path: leaf.shape for path, leaf in params.items()}
    assert root.num_parameters == sum(leaf.size for leaf in params.values())
    assert root.num_bytes == sum(leaf.nbytes for leaf in params.values())


def part_of(root, path):
    (found,) = (part for _, part in root.walk() if part.path == path)
    return found


def test_outputs_are_those_that_towers_and_features_return():
    made = recipe_of(rich, candidate=[ID, GENRES, *YEARS], encoder="transformer", last=True)
    model, root = made.model, outline(made.model, 5)
    columns = {name: jnp.asarray(column[:2]) for name, column in made.examples.context.items()}
    rows = jnp.arange(2)
    queries = jax.eval_shape(lambda: model.query_at(jnp.arange(12), rows, columns))
    assert root.output == queries.shape[1:] == jax.eval_shape(model.candidate, rows).shape[1:]
    tower = model.candidate_tower
    assert part_of(root, "candidate_tower").output == jax.eval_shape(tower, rows).shape[1:]
    for name in tower.names:
        expected = jax.eval_shape(lambda name=name: tower.features[name](*inputs_of(tower, name, rows))).shape[1:]
        assert part_of(root, f"candidate_tower/features/{name}").output == expected
    combined = jnp.zeros((2, 4))
    assert part_of(root, "candidate_tower/combine").output == (4,) == jax.eval_shape(tower.cross, combined).shape[1:]
    tokens = jax.eval_shape(model.query_tower.tokens, jnp.zeros((2, 5, 4)), jnp.ones((2, 5), bool))
    assert part_of(root, "query_tower/tokens").output == tokens[0].shape[1:]
    encoded = jax.eval_shape(model.query_tower.encoder, *tokens)
    assert part_of(root, "query_tower/encoder").output == encoded.shape[1:]
    layers = [part.output for part in part_of(root, "candidate_tower/mlp").parts if part.kind == "Linear"]
    assert layers == [(8,)] * 11 + [(4,)]


def inputs_of(tower, name, rows):
    """Returns what the module of a feature is called with."""
    if name == "id":
        return (rows[:, None],)
    encoded = tower.entities[name](rows)
    return (encoded.values,) if encoded.rows is None else (encoded.rows, encoded.weights)


def test_parts_stand_in_the_order_of_computation():
    root = outline(recipe_of(rich, encoder="gru", last=True, layers=11).model, 5)
    assert [part.name for part in root.parts] == [
        "query_tower",
        "candidate_tower",
        "candidate_bias",
        "head stars",
        "head liked",
    ]
    query, candidate = root.parts[:2]
    assert [part.name for part in query.parts] == ["items", "tokens", "encoder", "last", "features", "combine"]
    assert [part.name for part in candidate.parts] == ["id", "genres", "combine", "cross", "mlp"]
    layers = [part.name for part in candidate.parts[-1].parts]
    assert layers == [f"layer_{i}" for i in range(12)]
    assert [part.name for part in query.parts[2].parts] == [*(f"cell_{i}" for i in range(11)), "output"]


def test_details_say_what_is_looked_up_and_dropped():
    dropped = Feature("genres", "bag", combiner="sqrtn", dropout=0.25)
    root = outline(
        recipe_of(rich, query=[ID, Feature("timestamp", "buckets", size=2), HOUR], candidate=[ID, dropped]).model
    )
    assert part_of(root, "candidate_tower/features/genres").detail == "sqrtn of up to 2 of 4 rows, dropout 0.25"
    assert part_of(root, "candidate_tower/features/id").detail == "1 of 10 rows"
    assert part_of(root, "query_tower/features/timestamp/buckets").detail == "rows of 3"
    assert part_of(root, "query_tower/features/timestamp/periodic").detail == "3 values"
    assert part_of(root, "candidate_tower/mlp").detail == "relu, dropout 0.2"


def test_items_are_counted_with_the_candidates_where_they_are_shared():
    items = part_of(outline(recipe_of(encoder="mean").model, 5), "query_tower/items")
    assert (items.num_parameters, items.detail, items.output) == (0, "shared", (5, 4))


def test_towers_of_any_kind_show_their_modules():
    towers = (IdTower(rows, 3, sizes, initial_scale=0.1, rngs=nnx.Rngs(0)) for rows, sizes in ((5, (4,)), (6, ())))
    model = TwoTower(*towers)
    root = outline(model)
    assert [part.name for part in root.parts[0].parts] == ["embedding", "mlp"]
    assert [part.num_parameters for part in root.parts] == [15 + 3 * 4 + 4 + 4 * 3 + 3, 18]
    assert root.output == (3,)


def test_bytes_are_those_of_the_precision():
    def narrow(settings):
        settings.model.precision = "bfloat16"

    wide, half = (outline(recipe_of(change, query=[ID]).model) for change in (lambda settings: None, narrow))
    assert (wide.num_parameters, wide.num_bytes) == (half.num_parameters, 2 * half.num_bytes)
