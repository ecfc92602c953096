"""The tower over histories: no look ahead, one pass as many calls, tables shared or apart, and what is last."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from history_cases import CASES, REAL, tokens_of
from tower_cases import AGE, GENRES, HOUR, Feature, interactions, moved, recipe

from retrieval.batching.assembly import batches
from retrieval.models.binding import bind, init
from retrieval.models.embedding_table import EmbeddingTable
from retrieval.models.history import ENCODERS, Tokens
from retrieval.models.history.bags import MeanBag, PowerBag
from retrieval.models.history_tower import HistoryTower, LastEmbedding
from retrieval.objectives import embeddings

LENGTH = 5
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
each_encoder = pytest.mark.parametrize(("name", "visible"), CASES)


@functools.cache
def case(name, visible="past", **settings):
    """Returns a recipe with all that a history may have, its model off the initial values, and compiled calls."""
    settings = {"last": True, "inputs": ("ratings", "gaps", "ages"), "heads": 2, "length": LENGTH} | settings
    made = recipe([Feature("id"), HOUR, AGE], [Feature("id"), GENRES], encoder=name, visible=visible, **settings)
    model = bind(made.model, moved(made.model))
    columns = {name: column[:4] for name, column in made.examples.context.items()}
    rows = jnp.asarray(made.examples.query_rows[:4])
    call = jax.jit(lambda rows, columns: model.query(rows, columns))
    query_at = jax.jit(lambda *arguments: model.query_at(*arguments))
    return made, model, rows, columns, lambda columns: outputs(query_at, rows, columns), call


def outputs(query_at, rows, columns):
    """Returns the embeddings of the queries at each position of windows."""
    places = jnp.arange(len(rows) * (LENGTH + 1))
    found = query_at(places, jnp.asarray(rows), jax.tree.map(jnp.asarray, columns))
    return np.asarray(found).reshape(len(rows), LENGTH + 1, -1)


def changed(columns, place):
    """Returns the columns with another interaction at a place of each window."""
    others = {"history": lambda c: c % 9 + 1, "history_ratings": lambda c: c % 11 + 1}
    others |= {name: lambda c: c + 99_999 for name in ("history_gaps", "history_ages", "history_times")}
    return {
        name: np.where(np.arange(LENGTH + 1) == place, others[name](column), column) if name in others else column
        for name, column in columns.items()
    }


@each_encoder
def test_what_a_target_is_and_what_follows_it_changes_no_bit_of_its_query(name, visible):
    *_, columns, at, _ = case(name, visible)
    before = at(columns)
    full = np.all(columns["history"] > 0, axis=1)
    assert np.all(np.isfinite(before)) and np.any(full)
    for place in range(LENGTH + 1):
        found = at(changed(columns, place))
        hidden = range(place + 1) if visible == "past" else [place]
        for p in hidden:
            assert np.array_equal(before[:, p], found[:, p]), (place, p)
        seen = range(place + 1, LENGTH + 1) if visible == "past" else set(range(LENGTH + 1)) - {place}
        for p in seen:
            assert np.any(before[full, p] != found[full, p]), (place, p)


@each_encoder
def test_the_target_of_a_window_is_asked_for_as_serving_asks_after_the_rest_of_it(name, visible):
    _, _, rows, columns, at, call = case(name, visible)
    asked = {n: c[:, :-1] if n.startswith("history") else c[:, -1] for n, c in columns.items()}
    np.testing.assert_allclose(call(rows, asked), at(columns)[:, -1], **CLOSE)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "transformer"])  # whose positions are absolute
def test_each_position_is_asked_for_as_serving_asks_after_what_precedes_it(name):
    _, _, rows, columns, at, call = case(name)
    per_position = at(columns)
    for known in range(LENGTH):  # interactions before the target
        cut = {}
        for n, column in columns.items():
            if n.startswith("history"):
                first = np.broadcast_to(-1 if n in ("history_gaps", "history_ages") else 0, (4, LENGTH - known)).astype(
                    column.dtype
                )
                cut[n] = np.concatenate([first, column[:, :known]], axis=1)
            else:
                cut[n] = column[:, known]
        full = np.all(columns["history"] > 0, axis=1)
        np.testing.assert_allclose(call(rows, cut)[full], per_position[full, known], **CLOSE)


def test_padding_says_nothing_and_an_empty_history_is_the_start_that_first_targets_are_predicted_from():
    _, _, rows, columns, at, call = case("transformer")
    empty = {n: np.zeros_like(c[:, :-1]) if n.startswith("history") else c[:, 0] for n, c in columns.items()}
    noisy = {n: c + 3 if n.startswith("history_") else c for n, c in empty.items()}
    answer = call(rows, empty)
    assert np.all(np.isfinite(answer)) and np.array_equal(answer, call(rows, noisy))
    full = np.all(columns["history"] > 0, axis=1)
    np.testing.assert_allclose(answer[full], at(columns)[full, 0], **CLOSE)


def test_a_step_of_training_moves_start_and_every_parameter_that_serving_reads():
    made, _, *_ = case("transformer", last=True)
    batch = batches(made.examples, np.arange(len(made.examples.query_rows)), len(made.examples.query_rows))
    batch = jax.tree.map(lambda column: jnp.asarray(column[0]), batch)
    gradient = jax.jit(jax.grad(lambda params: made.loss(bind(made.model, params), batch)[0]))(moved(made.model))
    still = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient["query_tower"])
        if not np.any(leaf)
    ]
    assert still == []
    positions = gradient["query_tower"]["encoder"]["positions"]
    assert np.all(np.any(positions != 0, axis=1))  # the place of the last interaction too, which serving asks after


def test_a_candidate_that_train_has_not_seen_is_read_by_its_features():
    made, *_, ask = case("mean", last=False, inputs=())
    before = interactions().take(slice(0, 0))
    columns = made.columns(np.array([0, 0, 0]), before)
    columns["history"][:, -1] = made.encoding.candidates.rows([9, 10, 777])  # two with features, and nobody
    columns["history"][:, -2] = made.encoding.candidates.rows([1])[0]
    answers = np.asarray(ask(jnp.ones(3, jnp.int32), columns))
    assert np.all(np.isfinite(answers))
    assert all(not np.allclose(answers[i], answers[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_the_table_of_the_candidate_tower_is_one_parameter_that_histories_read():
    made, *_ = case("mean")
    model, params = made.model, moved(made.model)
    assert "items" not in params["query_tower"]
    columns = {n: jnp.asarray(c[:1]) for n, c in made.examples.context.items()}
    ask = jax.jit(lambda params: bind(model, params).query_at(jnp.array([LENGTH]), jnp.array([1]), columns))
    before = ask(params)
    table = params["candidate_tower"]["features"]["id"]["table"]
    table["embedding"] = table["embedding"] + 1.0
    assert not np.allclose(ask(params), before)


def test_a_history_may_have_a_table_of_its_own_where_unknown_candidates_are_padding():
    table = EmbeddingTable(5, 4, initializer=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0))
    tower = HistoryTower(table, 5, Tokens(4, rngs=nnx.Rngs(1)), MeanBag(visible="past"))
    assert init(tower)["items"]["embedding"].shape == (5, 4)
    known, unknown, padded = (
        tower(jnp.zeros(1, jnp.int32), history=jnp.array([[1, row]], jnp.int32)) for row in (2, 7, 0)
    )
    assert not np.allclose(known, unknown)
    np.testing.assert_array_equal(unknown, padded)


@pytest.mark.parametrize("size", [1, 4])
def test_embedding_every_candidate_once_is_embedding_each_place(size):
    _, model, rows, columns, *_ = case("mean")
    tower = model.query_tower
    history = jnp.asarray(columns["history"][:size])
    once = tower.items(jnp.arange(tower.num_items, dtype=history.dtype))[history]
    assert (history.size <= tower.num_items) == (size == 1)
    np.testing.assert_allclose(tower._embed(history), once, **CLOSE)


def test_no_query_is_answered_by_no_embedding():
    made, *_ = case("mean")
    params = init(made.model)
    found = made.query_embeddings(params, np.zeros(0, np.int64), interactions())
    assert found.shape == (0, made.candidate_embeddings(params).shape[1])


def test_the_last_interaction_is_looked_up_and_row_0_stands_for_none():
    last = LastEmbedding(4, 3, dropout=0.0, initial_scale=0.5, dtype=jnp.float32, rngs=nnx.Rngs(0))
    table = np.asarray(last.table.embedding[...])
    found = last(jnp.array([[0, 2, 3], [1, 9, 0]]))  # 9: features alone, no row of the table
    np.testing.assert_array_equal(found, table[[[0, 0, 2, 3], [0, 1, 0, 0]]])
    assert np.all(np.any(table != 0, axis=1))


@pytest.mark.parametrize(("name", "visible"), [("recency", "past"), ("transformer", "past"), ("attention", "others")])
def test_windows_are_the_examples_of_their_targets_one_by_one(name, visible):
    """The embeddings of a batch of windows are those of batches that hold one target each."""
    made, model, *_ = case(name, visible)
    number = len(made.examples.query_rows)
    batch = batches(made.examples, np.arange(number)[::-1].copy(), number)
    queries, candidates, found = embeddings(model, jax.tree.map(lambda column: jnp.asarray(column[0]), batch))
    real = np.flatnonzero(np.asarray(batch.real[0]))
    rows = np.asarray(found.queries.rows), np.asarray(found.candidates.rows)[np.asarray(found.candidates.indices)]
    ours = {}
    for i in real:
        embedding = np.concatenate([queries[i], candidates[found.candidates.indices[i]]])
        ours.setdefault((int(rows[0][i]), int(rows[1][i])), []).append(embedding)
    theirs = {}
    examples = made.examples
    at = outputs(model.query_at, examples.query_rows, examples.context)
    for i, p in zip(*np.nonzero(examples.candidate_rows >= 0), strict=True):
        pair = int(examples.query_rows[i]), int(examples.candidate_rows[i, p])
        theirs.setdefault(pair, []).append(np.concatenate([at[i, p], model.candidate(jnp.array([pair[1]]))[0]]))
    assert ours.keys() == theirs.keys() and sum(map(len, ours.values())) == len(interactions())
    for pair, vectors in ours.items():
        order = lambda of: np.array(sorted(np.round(v, 3).tolist() for v in of))  # noqa: E731
        np.testing.assert_allclose(order(vectors), order(theirs[pair]), rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_each_target_of_windows_is_the_ordinary_example_of_its_history():
    made, *_ = case("transformer")
    params = moved(made.model)
    train = interactions()
    held_out = train.take(slice(30, 40))
    windows = made.held_out_examples(held_out, train.take(slice(0, 30)))
    assert windows.candidate_rows.shape == (10, LENGTH + 1)
    model = bind(made.model, params)
    found = outputs(model.query_at, windows.query_rows, windows.context)[:, -1]
    expected = made.query_embeddings(params, held_out.query_ids, train.take(slice(0, 30)), held_out.timestamps)
    np.testing.assert_allclose(found, expected, **CLOSE)
    rows = made.encoding.candidates.rows(held_out.candidate_ids)
    assert np.array_equal(windows.candidate_rows[:, -1], rows) and np.all(windows.candidate_rows[:, :-1] == -1)


def plain_power_bag(tokens, real, power, scale):
    """Returns the sums of a plain loop over the real tokens up to each; START, token p, where there are none."""
    outputs = np.array(tokens)
    for b in range(len(tokens)):
        for p in range(tokens.shape[1]):
            if seen := [q for q in range(p + 1) if real[b, q]][::-1]:
                outputs[b, p] = sum(scale * n**-power * tokens[b, q] for n, q in enumerate(seen, 1))
    return outputs


def test_a_power_bag_is_the_sum_of_a_plain_loop():
    bag = bind(PowerBag(), {"log_scale": jnp.float32(0.3), "power": jnp.float32(0.7)})
    tokens, real = tokens_of(REAL)
    expected = plain_power_bag(np.asarray(tokens, np.float64), REAL, 0.7, np.exp(0.3))
    np.testing.assert_allclose(bag(tokens, real), expected, rtol=1e-5, atol=1e-5)


def test_a_power_bag_begins_as_the_last_token_and_half_of_the_one_before():
    tokens, real = jnp.array([[[8.0], [6.0], [4.0]]]), jnp.array([[False, True, True]])
    np.testing.assert_allclose(PowerBag()(tokens, real)[0, :, 0], [8, 6, 4 + 6 / 2])


@pytest.mark.slow
def test_the_columns_of_other_examples_change_nothing():
    _, model, rows, columns, at, _ = case("hstu")
    order = np.array([2, 0, 3, 1])
    found = outputs(model.query_at, rows[order], {n: c[order] for n, c in columns.items()})
    np.testing.assert_allclose(found, at(columns)[order], **CLOSE)
