"""What every history encoder keeps: no look ahead, padding that is not there, an answer to an empty history."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from history_cases import (
    CASES,
    DIMENSION,
    LENGTH,
    READ_SOME_TOKENS,
    REAL,
    at_random,
    case,
    compiled,
    encoder,
    seconds,
    tokens_of,
    with_key,
)
from jax import export

from retrieval.models import history
from retrieval.models.binding import bind, init

each_encoder = pytest.mark.parametrize("name, visible", CASES)
each_name = pytest.mark.parametrize("name", history.ENCODERS)


def sees(real, visible):
    """Which real tokens k each output p sees [M, M]."""
    size = len(real)
    allowed = [[k <= p if visible == "past" else k != p + 1 for k in range(size)] for p in range(size)]
    return np.array(allowed) & real[None, :]


@each_encoder
def test_a_changed_token_changes_no_bit_of_an_output_that_may_not_see_it(name, visible):
    _, run = case(name, visible)
    tokens, real = tokens_of(REAL)
    times = seconds(REAL)
    before = run(tokens, real, times)
    for k in range(LENGTH + 1):
        after = run(jnp.where(jnp.arange(LENGTH + 1)[:, None] == k, 7.0 - 1000 * tokens, tokens), real, times)
        hidden = np.arange(k) if visible == "past" else [k - 1] if k else []
        assert np.array_equal(before[:, hidden], after[:, hidden]), k
        changed = np.any(before != after, axis=2)
        assert np.all(changed[real[:, k], k]), k  # an output sees its own token


@each_encoder
def test_an_output_has_a_gradient_of_the_tokens_that_it_may_see_and_exactly_none_of_others(name, visible):
    module, _ = case(name, visible)
    jacobians = jax.jit(jax.vmap(jax.jacrev(lambda *one: module(*(column[None] for column in one))[0])))
    found = np.asarray(jacobians(*tokens_of(REAL), seconds(REAL)))  # [B, p, D, k, D]
    assert np.all(np.isfinite(found))
    depends = np.any(found != 0, axis=(2, 4))
    own = np.eye(LENGTH + 1, dtype=bool)  # padding may depend on its own token
    for row, real in enumerate(REAL):
        expected = sees(real, visible)
        assert not np.any(depends[row] & ~(expected | own))
        if name not in READ_SOME_TOKENS:
            assert np.all(depends[row] | own | ~expected)
        assert np.all(depends[row][own] | ~real)


@each_encoder
def test_what_lies_in_padding_changes_no_output_of_a_real_token(name, visible):
    _, run = case(name, visible)
    tokens, real = tokens_of(REAL)
    garbage = jnp.where(real[..., None], tokens, 1e6)
    times = jnp.where(real, seconds(REAL), 0)
    before, after = run(tokens, real, seconds(REAL)), run(garbage, real, times)
    assert np.array_equal(before[real], after[real])


@each_encoder
@pytest.mark.parametrize("more", [1, 5])
def test_more_padding_before_a_history_changes_no_output(name, visible, more):
    run = compiled(at_random(encoder(name, visible, length=LENGTH + more)))
    tokens, real = tokens_of(REAL)
    longer = np.pad(REAL, ((0, 0), (more, 0)))
    start = jnp.broadcast_to(tokens[:, :1], (len(REAL), more, DIMENSION))
    times = seconds(REAL)
    longer = jnp.concatenate([start, tokens], axis=1), jnp.asarray(longer), jnp.pad(times, ((0, 0), (more, 0)))
    np.testing.assert_allclose(run(*longer)[:, more:], run(tokens, real, times), rtol=1e-5, atol=1e-5)


@each_encoder
def test_an_empty_history_is_answered_as_every_first_interaction_is_predicted(name, visible):
    _, run = case(name, visible)
    outputs = run(*tokens_of(REAL), seconds(REAL))
    empty = outputs[6, -1]
    assert np.all(np.isfinite(empty))
    for row in range(7):  # with `visible="others"`, what precedes the first of several interactions sees the later ones
        first = int(np.argmax(REAL[row])) if row < 6 else LENGTH + 1
        before = range(first) if visible == "past" else [first - 1] * (row in (5, 6))
        for p in before:
            np.testing.assert_allclose(outputs[row, p], empty, rtol=1e-5, atol=1e-6)


@each_name
def test_start_is_what_an_empty_history_learns_by(name):
    module, _ = case(name, "past")
    tokens, real = tokens_of(REAL[6:7])
    answer = jax.jit(jax.grad(lambda start: module(jnp.broadcast_to(start, tokens.shape), real)[0, -1, 0]))
    gradient = answer(tokens[0, 0])
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


@each_encoder
@pytest.mark.parametrize("length", [0, 1])
def test_histories_of_no_place_and_of_one_give_the_outputs_of_longer_ones(name, visible, length):
    _, run = case(name, visible)
    tokens, real = tokens_of(REAL[5:7])  # the last is real, and none is
    cut = slice(LENGTH - length, None)
    outputs = run(tokens[:, cut], real[:, cut])
    assert outputs.shape == (2, length + 1, DIMENSION)
    rows = slice(0 if length else 1, None)
    np.testing.assert_allclose(outputs[rows], run(tokens, real)[rows, cut], rtol=1e-5, atol=1e-6)


@each_encoder
def test_gradients_of_parameters_are_finite_whatever_is_masked(name, visible):
    module, _ = case(name, visible)
    gradient = jax.jit(jax.grad(lambda params, *history: jnp.sum(bind(module, params)(*history) ** 2), argnums=(0, 1)))
    for real in (REAL, np.zeros_like(REAL)):
        tokens, real = tokens_of(real)
        for scale in (1.0, 0.0):  # zeros: tokens without variance
            leaves = jax.tree.leaves(gradient(init(module), scale * tokens, real))
            assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


@each_encoder
def test_a_narrow_encoder_is_near_the_wide_one(name, visible):
    wide, run = case(name, visible)
    narrow = encoder(name, visible, dtype=jnp.bfloat16)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), init(wide))
    assert {leaf.dtype for leaf in jax.tree.leaves(init(narrow))} <= {jnp.dtype(jnp.bfloat16)}
    tokens, real = tokens_of(REAL)
    outputs = compiled(bind(narrow, params))(tokens.astype(jnp.bfloat16), real, seconds(REAL))
    assert outputs.dtype == jnp.bfloat16
    exact = run(tokens, real, seconds(REAL))
    error = np.abs(outputs.astype(np.float32) - exact)
    assert np.max(error) < 0.15 * np.max(np.abs(exact)) and np.mean(error) < 0.02 * np.max(np.abs(exact))


@each_encoder
def test_an_exported_encoder_takes_any_number_of_histories(name, visible):
    module, run = case(name, visible)
    (batch,) = export.symbolic_shape("batch")
    shapes = [
        ((batch, LENGTH + 1, DIMENSION), jnp.float32),
        ((batch, LENGTH + 1), bool),
        ((batch, LENGTH + 1), jnp.int32),
    ]
    program = export.export(jax.jit(lambda *args: module(*args)))(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    program = export.deserialize(program.serialize())
    for rows in (slice(0, 1), slice(0, 9)):
        tokens, real = tokens_of(REAL[rows])
        times = seconds(REAL[rows])
        np.testing.assert_allclose(program.call(tokens, real, times), run(tokens, real, times), rtol=1e-5, atol=1e-5)


@each_encoder
def test_times_matter_to_encoders_that_say_so_alone(name, visible):
    _, run = case(name, visible)
    tokens, real = tokens_of(REAL)
    one, other = (run(tokens, real, times) for times in (seconds(REAL), 2 * (seconds(REAL) - 10**9)))
    assert np.array_equal(one, other) == (not history.ENCODERS[name].reads_times)


@pytest.mark.parametrize("name", ["gru", "transformer", "hstu"])
def test_dropout_is_a_function_of_the_key_and_absent_without_one(name):
    module = at_random(encoder(name, dropout=0.5))
    plain = at_random(encoder(name))
    tokens, real = tokens_of(REAL)
    draw = jax.jit(lambda seed: with_key(module, seed)(tokens, real))
    one, again, other = draw(1), draw(1), draw(2)
    without = compiled(plain)(tokens, real)
    assert np.array_equal(compiled(module)(tokens, real), without)
    assert np.array_equal(one, again) and np.any(one != other) and np.any(one != without)


@pytest.mark.parametrize("name", ["gru", "transformer", "hstu"])
def test_layers_keep_their_order_in_a_bound_encoder(name):
    module = encoder(name, layers=11, dimension=2, length=1)  # by name, layer_10 comes before layer_2
    tokens, real = tokens_of(REAL[:, -2:], dimension=2)
    assert np.array_equal(compiled(bind(module, init(module)))(tokens, real), compiled(module)(tokens, real))


def test_an_unknown_encoder_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"one of .*'mean', .*got 'transfomer'; did you mean 'transformer'\?"):
        encoder("transfomer")


@pytest.mark.parametrize("name", [name for name, entry in history.ENCODERS.items() if "others" not in entry.visible])
def test_leaving_one_out_is_refused_where_states_would_hold_it(name):
    with pytest.raises(ValueError, match=f"'{name}'.*take visible='past', or one of mean, weighted, attention"):
        encoder(name, "others")


@each_name
def test_an_unknown_visibility_is_refused(name):
    with pytest.raises(ValueError, match="visible must be one of 'past', 'others', got 'future'"):
        encoder(name, "future")


@pytest.mark.parametrize("name", ["attention", "transformer", "hstu"])
@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_dimension_are_refused(name, heads):
    with pytest.raises(ValueError, match=f"heads must be a divisor of the dimension 8, got {heads}"):
        encoder(name, heads=heads)


def test_a_history_longer_than_the_positions_is_refused():
    tokens, real = tokens_of(REAL)
    with pytest.raises(ValueError, match="has 5 positions and received 6 tokens; cut to the last 5"):
        encoder("transformer", length=5)(tokens, real)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "transformer", "hstu"])
def test_the_last_but_one_of_a_history_is_learned_which_no_bag_tells_from_the_last(name):
    values = jax.random.randint(jax.random.key(1), (64, LENGTH), 0, 5)
    module = encoder(name, dimension=16, layers=1)
    params = {"encoder": init(module), "table": jax.random.normal(jax.random.key(0), (5, 16))}
    real = jnp.ones((64, LENGTH + 1), bool).at[:, 0].set(False)

    def loss(params):  # output p, after values p - 2 and p - 1, tells value p - 2
        tokens = jnp.pad(params["table"][values], ((0, 0), (1, 0), (0, 0)))
        scores = bind(module, params["encoder"])(tokens, real)[:, 2:] @ params["table"].T
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, values[:, :-1]))

    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types in adam
        for _ in range(200):
            params, state, value = step(params, state)
    assert value < 0.4  # of ln 5 = 1.61; 0.8 ln 2 = 0.55 where the order of the last two is not told
