"""The tower of features against plain forms, as part of a model, and exported."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export as jax_export

from retrieval.batching.assembly import batches
from retrieval.batching.batch import Capacity
from retrieval.data.encoding import Examples
from retrieval.features.encoded import Encoded, Spec, to_columns
from retrieval.models.binding import bind, flatten_params, init
from retrieval.models.feature_inputs import FeatureInput
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.serving.bundle import export_towers
from retrieval.training.optimizers import by_name
from retrieval.training.step import create_state, train_step

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
NUM_ENTITIES, NUM_KNOWN = 7, 5
ROWS = jnp.arange(NUM_ENTITIES)
KEY = jax.random.key(0)


def moved(module):
    """Returns the module with all its parameters off zero, and the parameters."""
    params = jax.tree.map(lambda leaf: leaf + 0.5, init(module))
    return bind(module, params), params


def combined(table, rows, weights, combiner):
    """Returns the combination of one example's rows, in NumPy."""
    if not np.any(weights):
        return table[0]
    total = sum(weight * table[row] for row, weight in zip(rows, weights, strict=True))
    return total / {"sum": 1, "mean": np.sum(weights), "sqrtn": np.sqrt(np.sum(weights**2))}[combiner]


GENRES = Encoded(
    np.array([[0, 0], [1, 2], [2, 0], [3, 1], [1, 0], [2, 3], [3, 0]], np.int32),
    np.array([[1, 0], [1, 1], [1, 0], [1, 1], [1, 0], [1, 1], [1, 0]], np.float32),
    None,
)
YEAR = Encoded(None, None, np.array([[0, 1], [0.5, 0], [-1, 0], [0, 1], [2, 0], [1, 0], [-2, 0]], np.float32))
COUNTRY = Encoded(np.array([[0], [1], [1], [2], [2], [1], [2]], np.int32), np.ones((7, 1), np.float32), None)
STATIC = {
    "id": FeatureInput(Spec(NUM_KNOWN, 1, "mean")),
    "genres": FeatureInput(Spec(4, 2, "sum"), encoded=GENRES),
    "year": FeatureInput(Spec(0, 2, ""), encoded=YEAR),
    "country": FeatureInput(Spec(3, 1, "mean"), encoded=COUNTRY),
}
OF_EXAMPLE = {"hour": FeatureInput(Spec(0, 3, "")), "device": FeatureInput(Spec(6, 2, "mean"))}
HOUR = Encoded(None, None, np.linspace(-1, 1, 21, dtype=np.float32).reshape(7, 3))
DEVICE = Encoded(
    np.arange(14, dtype=np.int32).reshape(7, 2) % 6, np.tile(np.float32([[1, 1], [1, 0]]), (4, 1))[:7], None
)
CONTEXT = {
    name: jnp.asarray(column)
    for part in (to_columns("hour", HOUR), to_columns("device", DEVICE))
    for name, column in part.items()
}


def tower(features=None, dimension=3, **options):
    options = {"num_entities": NUM_ENTITIES, "initial_scale": 0.5, "rngs": nnx.Rngs(0), **options}
    return FeatureTower(STATIC if features is None else features, dimension=dimension, **options)


def all_missing(size):
    """Returns every static feature but the id of `size` entities of which nothing is known."""
    return {
        "genres": Encoded(jnp.zeros((size, 2), jnp.int32), jnp.tile(jnp.array([[1.0, 0.0]]), (size, 1)), None),
        "year": Encoded(None, None, jnp.tile(jnp.array([[0.0, 1.0]]), (size, 1))),
        "country": Encoded(jnp.zeros((size, 1), jnp.int32), None, None),
    }


def by_hand(params, rows):
    """Returns each static feature's embedding of the rows, in NumPy."""
    tables = {name: np.asarray(of.get("table", {}).get("embedding", 0)) for name, of in params["features"].items()}
    kernel = np.asarray(params["features"]["year"]["linear"]["kernel"])
    return {
        "id": tables["id"][[row if row < NUM_KNOWN else 0 for row in rows]],
        "genres": np.array([combined(tables["genres"], GENRES.rows[r], GENRES.weights[r], "sum") for r in rows]),
        "year": YEAR.values[rows] @ kernel,
        "country": tables["country"][COUNTRY.rows[rows, 0]],
    }


def test_features_are_added():
    model, params = moved(tower())
    np.testing.assert_allclose(model(ROWS), sum(by_hand(params, np.arange(7)).values()), **CLOSE)


def test_features_stand_side_by_side_in_their_order_under_a_linear_layer():
    model, params = moved(tower(STATIC | {"genres": STATIC["genres"]._replace(dimension=5)}, combine="concat"))
    parts = by_hand(params, np.arange(7))
    layer = params["mlp"]["layers"]["layer_0"]
    assert layer["kernel"].shape == (3 + 5 + 3 + 3, 3)
    expected = np.concatenate(list(parts.values()), axis=1) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(model(ROWS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_cross_layers_and_an_mlp_follow_the_combination(combine):
    options = {"hidden_sizes": (6, 6)}
    model, params = moved(tower(combine=combine, cross_layers=2, cross_rank=2, **options))
    parts = list(by_hand(params, np.arange(7)).values())
    x = jnp.asarray(sum(parts) if combine == "sum" else np.concatenate(parts, axis=1), jnp.float32)
    np.testing.assert_allclose(model(ROWS), model.mlp(model.cross(x)), rtol=1e-4, atol=1e-4)
    kernels = [params["mlp"]["layers"][f"layer_{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(x.shape[1], 6), (6, 6), (6, 3)]
    assert params["cross"]["narrow"]["layer_1"]["kernel"].shape == (x.shape[1], 2)


def test_entities_that_train_does_not_know_have_the_id_of_row_zero_and_features_of_their_own():
    model, params = moved(tower())
    ids = np.asarray(params["features"]["id"]["table"]["embedding"])
    assert ids.shape == (NUM_KNOWN, 3)
    without = moved(tower({name: of for name, of in STATIC.items() if name != "id"}))[0]
    params_of_rest = {"features": {name: of for name, of in params["features"].items() if name != "id"}}
    rest = bind(without, params_of_rest)(ROWS)
    np.testing.assert_allclose(model(ROWS) - rest, ids[[0, 1, 2, 3, 4, 0, 0]], **CLOSE)
    assert not np.allclose(model(ROWS)[5], model(ROWS)[6])


@pytest.mark.parametrize("hidden", [(), (6, 4)])
def test_the_feature_id_alone_is_an_id_tower(hidden):
    ids = {"id": FeatureInput(Spec(NUM_ENTITIES, 1, "mean"))}
    ours = tower(ids, hidden_sizes=hidden, rngs=nnx.Rngs(7))
    theirs = IdTower(NUM_ENTITIES, 3, hidden, initial_scale=0.5, rngs=nnx.Rngs(7))
    rows = jnp.array([3, 0, 6, 3])
    assert np.array_equal(ours(rows), theirs(rows))
    assert ours.lookups(rows)["features/id/table"] is rows
    names = [path.removeprefix("features/id/").replace("table/", "embedding/") for path in flatten_params(init(ours))]
    assert names == list(flatten_params(init(theirs)))


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_a_call_is_the_embedding_of_the_gathered_features(combine):
    model, _ = moved(tower(STATIC | OF_EXAMPLE, combine=combine, hidden_sizes=(4,)))
    assert model.context == ("hour", "device", "device/weights")
    rows = np.array([6, 0, 3])
    context = {name: column[jnp.asarray(rows)] for name, column in CONTEXT.items()}
    given = {"genres": GENRES, "year": YEAR, "country": COUNTRY, "hour": HOUR, "device": DEVICE}
    features = {
        name: Encoded(*(None if array is None else jnp.asarray(array[rows]) for array in encoded))
        for name, encoded in given.items()
    }
    expected = model.embed(features, jnp.array([0, 0, 3]))
    np.testing.assert_allclose(model(jnp.asarray(rows), **context), expected, **CLOSE)


def test_a_new_entity_is_embedded_as_one_of_the_table_that_train_does_not_know():
    model, _ = moved(tower())
    features = {"genres": GENRES, "year": YEAR, "country": COUNTRY}
    of_row = {
        name: Encoded(*(None if array is None else jnp.asarray(array[5:6]) for array in of))
        for name, of in features.items()
    }
    np.testing.assert_allclose(model.embed(of_row), model(jnp.array([5])), **CLOSE)
    np.testing.assert_allclose(model.embed(all_missing(2)), model(jnp.array([0, 0])), **CLOSE)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(NUM_ENTITIES)), size=st.integers(1, NUM_ENTITIES))
def test_an_embedding_does_not_depend_on_the_rest_of_the_batch(order, size):
    model = FULL
    rows = jnp.array(order[:size])
    np.testing.assert_allclose(model(rows), WHOLE[np.array(order[:size])], rtol=1e-4, atol=1e-5)


FULL = moved(tower(hidden_sizes=(4,), cross_layers=1))[0]
WHOLE = np.asarray(FULL(ROWS))


def test_features_of_any_name_keep_their_parameters():
    names = ["items", "key", "values", "release year/number", "Größe"]
    features = {name: STATIC["genres"]._replace(dropout=0.5) for name in names}
    model = tower(features, combine="concat")
    assert set(init(model)["features"]) == set(names)
    bound = bind(model, init(model), key=KEY)
    assert not np.array_equal(bound(ROWS), model(ROWS)) and np.array_equal(bind(model, init(model))(ROWS), model(ROWS))


def test_dropping_the_id_trains_the_row_of_the_unknown():
    features = STATIC | {"id": STATIC["id"]._replace(dropout=0.5)}
    model = tower(features)
    rows = jnp.array([1, 2, 3, 4])

    def gradient(key):
        return jax.grad(lambda params: jnp.sum(bind(model, params, key=key)(rows)))(init(model))

    assert np.all(gradient(None)["features"]["id"]["table"]["embedding"][0] == 0)
    dropped = [gradient(jax.random.key(seed))["features"]["id"]["table"]["embedding"] for seed in range(4)]
    assert all(np.sum(of[:, 0]) == 4 for of in dropped) and any(of[0, 0] > 0 for of in dropped)


def test_nothing_is_random_without_a_key_and_everything_is_a_function_of_it():
    features = {name: of._replace(dropout=0.5) for name, of in STATIC.items()}
    model = tower(features, hidden_sizes=(8,), dropout=0.5)
    params = init(model)
    assert np.array_equal(model(ROWS), model(ROWS)) and np.array_equal(bind(model, params)(ROWS), model(ROWS))
    same = [bind(model, params, key=jax.random.key(1))(ROWS) for _ in range(2)]
    assert np.array_equal(*same) and not np.array_equal(same[0], model(ROWS))
    assert not np.array_equal(same[0], bind(model, params, key=jax.random.key(2))(ROWS))


def step_of(model, optimizer):
    return jax.jit(functools.partial(train_step, loss=InBatchSoftmax(), model=model, optimizer=optimizer))


def a_batch(query_rows, candidate_rows, context):
    rows = np.asarray(query_rows, np.int32), np.asarray(candidate_rows, np.int32)
    examples = Examples(*rows, np.ones(len(rows[0]), np.float32))
    found = batches(examples, np.arange(len(rows[0])), len(rows[0]), Capacity(4, 4, len(rows[0])))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), found)._replace(context=context)


MANY = 90
WORDS = np.random.default_rng(0).integers(0, 300, (MANY, 2)).astype(np.int32)
LARGE = {
    "id": FeatureInput(Spec(80, 1, "mean"), dropout=0.5),
    "words": FeatureInput(Spec(300, 2, "sum"), encoded=Encoded(WORDS, np.float32(WORDS > 20), None)),
    "genres": FeatureInput(Spec(4, 2, "sum"), encoded=Encoded(WORDS % 4, np.ones((MANY, 2), np.float32), None)),
}


def distinct(padded):
    """Returns the rows that are meant by rows padded at the end with 0."""
    return [row for i, row in enumerate(padded) if i == 0 or row != 0]


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    rows=st.sampled_from([1, 7]).flatmap(
        lambda size: st.lists(st.integers(0, MANY - 1), min_size=size, max_size=size, unique=True)
    ),
    padding=st.sampled_from([0, 2]),
)
def test_lookups_are_distinct_ascending_and_hold_every_row_of_a_call(rows, padding):
    rows = np.array([*sorted(rows), *[0] * padding])
    found = LARGE_TOWER.lookups(jnp.asarray(rows))
    looked_up = {"id": np.where(rows < 80, rows, 0), "words": WORDS[rows]}
    for name, num_rows in (("id", 80), ("words", 300)):
        path = f"features/{name}/table"
        assert (path in found) == (8 * (looked_up[name].size + 1) <= num_rows)
        if path in found:
            held = distinct(found[path].tolist())
            assert held == sorted({0, *looked_up[name].ravel().tolist()})
    assert "features/genres/table" not in found
    assert np.array_equal(LARGE_TOWER.rows_read(jnp.asarray(rows))["features/genres/table"], WORDS[rows] % 4)


LARGE_TOWER = tower(LARGE, num_entities=MANY)


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, KEY], ids=["deterministic", "random"])
def test_a_step_on_the_rows_that_a_tower_tells_is_the_dense_one(key):
    features = {name: of._replace(dropout=0.5 if key is not None else 0.0) for name, of in LARGE.items()}
    queries = tower(features | OF_EXAMPLE, num_entities=MANY)
    model = TwoTower(queries, tower(features, num_entities=MANY, rngs=nnx.Rngs(1)), num_biases=MANY)
    batch = a_batch([1, 3, 1], [2, 4, 85], {name: column[:3] for name, column in CONTEXT.items()})
    lookups = model.lookups(batch.queries.rows, batch.candidates.rows)
    sides = [f"{side}/features/{name}/table" for side in ("query_tower", "candidate_tower") for name in ("id", "words")]
    assert list(lookups) == [*sides, "candidate_bias"]
    state = create_state(model, by_name.create("adagrad", 0.1))
    params, loss = state.params, InBatchSoftmax()
    held = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf[lookups[table]]
            if (table := jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/embedding")) in lookups
            else leaf
        ),
        params,
    )
    dense = loss(bind(model, params, key=key), batch)[0]
    np.testing.assert_allclose(loss(bind(model, held, lookups, key=key), batch)[0], dense, rtol=1e-5)
    if key is None:
        ours, theirs = (
            step_of(model, rule)(state, batch)[0]
            for rule in (
                by_name.create("adagrad", 0.1),
                optax.GradientTransformation(*by_name.create("adagrad", 0.1)),
            )
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_a_tower_is_exported_for_any_batch_size():
    model, _ = moved(tower(hidden_sizes=(4,), cross_layers=1, dropout=0.5))
    programs, arrays = export_towers({"tower": (model, {})})
    program = jax_export.deserialize(bytearray(programs["tower"]))
    for rows in (ROWS[:1], ROWS):
        np.testing.assert_allclose(program.call(arrays, rows), model(rows), rtol=1e-4, atol=1e-5)


def test_an_embedding_of_new_entities_is_exported_for_any_batch_size():
    model, _ = moved(tower())
    (size,) = jax_export.symbolic_shape("batch")
    like = jax.tree.map(lambda array: jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype), all_missing(1))
    program = jax_export.export(jax.jit(model.embed))(like)
    np.testing.assert_allclose(program.call(all_missing(3)), model.embed(all_missing(3)), **CLOSE)


@pytest.mark.slow
def test_a_narrow_tower_has_narrow_parameters_and_outputs_near_those_of_a_wide_one():
    options = {"hidden_sizes": (4,), "cross_layers": 1, "combine": "concat"}
    wide, narrow = tower(STATIC | OF_EXAMPLE, **options), tower(STATIC | OF_EXAMPLE, **options, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(init(narrow))} == {jnp.dtype(jnp.bfloat16)}
    narrowed = bind(narrow, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), init(wide)))
    outputs = narrowed(ROWS, **CONTEXT)
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_allclose(outputs.astype(jnp.float32), wide(ROWS, **CONTEXT), atol=0.1)


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ({}, {}, "needs at least one feature"),
        (STATIC, {"combine": "add"}, "combine must be one of 'sum', 'concat', got 'add'"),
        (STATIC, {"num_entities": 4}, "feature 'id' has 5 known rows, more than the 4 entities"),
        (STATIC, {"num_entities": 9}, "feature 'genres' is encoded for 7 entities, the table has 9"),
        (
            {"year": STATIC["year"]._replace(dimension=5)},
            {},
            "feature 'year' has dimension 5, the sum of features has 3",
        ),
        ({"id": STATIC["id"]._replace(dropout=1.0)}, {}, "a dropout rate must be in"),
    ],
)
def test_a_tower_that_cannot_be_is_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        tower(features, **options)


def test_missing_and_unknown_features_are_refused_by_name():
    model = tower(STATIC | OF_EXAMPLE)
    with pytest.raises(ValueError, match=r"reads the columns \['device', 'device/weights', 'hour'\], received \[\]"):
        model(ROWS)
    with pytest.raises(ValueError, match=r"has the features \[.*\] beside its ids, received \['genres'\]"):
        model.embed({"genres": GENRES})
    with pytest.raises(ValueError, match="a tower of ids alone needs `ids`"):
        tower({"id": STATIC["id"]}).embed({})
