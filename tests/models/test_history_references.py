"""History encoders against plain loops over histories, positions, heads and tokens, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from history_cases import LENGTH, REAL, case, compiled, encoder, seconds, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.models.binding import init
from retrieval.models.history.bags import decayed_mean


def wide(tree):
    return {k: wide(v) if isinstance(v, dict) else np.asarray(v, np.float64) for k, v in tree.items()}


def check(name, visible, reference):
    """Compares an encoder with `reference(params, tokens [M, D], real [M], times [M])` in every history."""
    module, run = case(name, visible)
    tokens, real = tokens_of(REAL)
    times = seconds(REAL)
    params = wide(init(module))
    expected = [
        reference(params, *one) for one in zip(np.asarray(tokens, np.float64), REAL, np.asarray(times), strict=True)
    ]
    np.testing.assert_allclose(run(tokens, real, times), expected, rtol=2e-4, atol=2e-5)


def seen_by(p, real, visible):
    return [k for k in range(len(real)) if real[k] and (k <= p if visible == "past" else k != p + 1)]


def bag(tokens, real, decay, visible):
    """A weight for each visible token: decay to the power of how many others lie between it and the next place."""
    outputs = []
    for p in range(len(tokens)):
        seen = seen_by(p, real, visible)
        total, weights = np.zeros(tokens.shape[1]), np.zeros(tokens.shape[1])
        for k in seen:
            weight = decay ** sum(min(k, p + 1) < j < max(k, p + 1) for j in seen)
            total, weights = total + weight * tokens[k], weights + weight
        outputs.append(total / weights if seen else tokens[p])
    return np.stack(outputs)


@pytest.mark.parametrize("visible", ["past", "others"])
def test_a_mean_bag(visible):
    check("mean", visible, lambda params, tokens, real, times: bag(tokens, real, 1.0, visible))


@pytest.mark.parametrize("visible", ["past", "others"])
def test_a_weighted_bag(visible):
    def reference(params, tokens, real, times):
        return bag(tokens, real, 1 / (1 + np.exp(-params["decay_logits"])), visible)

    check("weighted", visible, reference)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    real=st.lists(st.booleans(), min_size=7, max_size=7),
    decay=st.sampled_from([0.0, 1e-30, 0.5, 1.0]),
    visible=st.sampled_from(["past", "others"]),
)
def test_bags_of_any_holes_and_of_decays_that_vanish(real, decay, visible):
    tokens, real = tokens_of([real])
    found = np.asarray(decayed_mean(tokens, real, jnp.full(1, decay), visible))[0]
    expected = bag(np.asarray(tokens[0], np.float64), np.asarray(real[0]), decay, visible)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weighted_bag_begins_with_memories_from_two_to_the_length():
    logits = init(encoder("weighted", dimension=3, length=50))["decay_logits"]
    assert (1 / (1 - 1 / (1 + np.exp(-logits)))).tolist() == pytest.approx([2, 10, 50], rel=1e-4)


def linear(params, x):
    return x @ params["kernel"] + params.get("bias", 0.0)


def norm(params, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * params["scale"] + params["bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_attention_begins_as_a_mean():
    tokens, real = tokens_of(REAL)
    means = case("mean", "past")[1](tokens, real)
    np.testing.assert_allclose(compiled(encoder("attention"))(tokens, real), means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("visible", ["past", "others"])
def test_attention_pooling(visible):
    def reference(params, tokens, real, times):
        outputs = []
        for p in range(len(tokens)):
            query, heads = linear(params["query"], tokens[p]), []
            seen = seen_by(p, real, visible)
            for head, part in enumerate((slice(0, 4), slice(4, 8))):
                scores = [
                    query[part] @ linear(params["key_map"], tokens[k])[part] / 2
                    + params["distances"]["table"][head, p - k + LENGTH]
                    for k in seen
                ]
                weights = np.exp(scores) / np.sum(np.exp(scores))
                heads.append(sum((w * tokens[k][part] for w, k in zip(weights, seen, strict=True)), np.zeros(4)))
            outputs.append(np.concatenate(heads) if seen else tokens[p])
        return np.stack(outputs)

    check("attention", visible, reference)


def test_a_gru():
    def layer(params, inputs, real):
        state, states = np.zeros(inputs.shape[1]), []
        for x, is_real in zip(inputs, real, strict=True):
            of_input, of_state = linear(params["inputs"], x), linear(params["states"], state)
            update, reset = sigmoid(of_input[:8] + of_state[:8]), sigmoid(of_input[8:16] + of_state[8:16])
            new = np.tanh(of_input[16:] + reset * of_state[16:])
            state = update * state + (1 - update) * new if is_real else state
            states.append(state)
        return np.stack(states)

    def reference(params, tokens, real, times):
        states = tokens
        for i in range(2):
            states = layer(params["cells"][f"cell_{i}"], states, real)
        return np.stack([linear(params["output"], states[p]) if any(real[: p + 1]) else tokens[p] for p in range(7)])

    check("gru", "past", reference)


def past(p, real):
    """What a position of a stack of layers sees: real tokens before it, and itself."""
    return [k for k in range(p + 1) if real[k] or k == p]


def test_a_transformer():
    def layer(params, x, real):
        projected = [linear(params["queries_keys_values"], norm(params["attention_norm"], token)) for token in x]
        outputs = []
        for p in range(len(x)):
            seen, heads = past(p, real), []
            for head in range(2):
                query, *keys = (projected[k][4 * head :][:4] for k in [p, *seen])
                values = [projected[k][16 + 4 * head :][:4] for k in seen]
                scores = np.exp([query @ projected[k][8 + 4 * head :][:4] / 2 for k in seen])
                heads.append(sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True)))
            y = x[p] + linear(params["attention_output"], np.concatenate(heads))
            hidden = np.maximum(linear(params["dense"], norm(params["dense_norm"], y)), 0)
            outputs.append(y + linear(params["dense_output"], hidden))
        return np.stack(outputs)

    def reference(params, tokens, real, times):
        x = np.sqrt(8) * tokens
        for p in range(7):
            x[p] += params["positions"][LENGTH - p] if real[p] else 0.0
        for i in range(2):
            x = layer(params["layers"][f"layer_{i}"], x, real)
        return np.stack([norm(params["norm"], token) for token in x])

    check("transformer", "past", reference)


def test_hstu():
    def layer(params, x, real, times):
        projected = [linear(params["projections"], norm(params["norm"], token)) for token in x]
        projected = [value * sigmoid(value) for value in projected]
        outputs = []
        for p in range(len(x)):
            total = np.zeros(8)
            for k in past(p, real):
                bucket = int(times[p] - times[k]).bit_length() + 1
                for head, part in enumerate((slice(0, 4), slice(4, 8))):
                    score = projected[p][16:24][part] @ projected[k][24:32][part]
                    score += params["distances"]["table"][head, p - k + LENGTH] + params["time_bias"][bucket]
                    total[part] += score * sigmoid(score) * projected[k][8:16][part]
            outputs.append(x[p] + linear(params["output"], projected[p][:8] * norm(params["sums_norm"], total)))
        return np.stack(outputs)

    def reference(params, tokens, real, times):
        x = np.sqrt(8) * tokens
        for i in range(2):
            x = layer(params["layers"][f"layer_{i}"], x, real, times)
        return np.stack([norm(params["norm"], token) for token in x])

    check("hstu", "past", reference)
