"""Each correction of the sampled softmax has its effect, and the effects come in the documented order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval import losses

QUERIES = jnp.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
CANDIDATES = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])  # scores [[6, 3], [9, 5]]
FIRST, SECOND = 0.0485873516, 4.0181499279  # ln(1 + e^-3) and ln(1 + e^4)


def softmax_of_scores(scores, **options):
    return losses.sampled_softmax(jnp.eye(len(scores)), scores.T, **options)


def loss_of(odds, **options):
    """Returns the loss of scores given as odds, their exponentials: -log(odds_ii / sum_j odds_ij)."""
    scores = np.log(np.asarray(odds, np.float32))
    return jax.jit(lambda scores: softmax_of_scores(scores, **options))(scores)


def probabilities(odds, **options):
    """Returns the softmax that the loss sees: its gradient by the scores, plus one for the positive."""
    scores = np.log(np.asarray(odds, np.float32))
    gradient = jax.jit(jax.grad(lambda scores: softmax_of_scores(scores, **options)))(scores)
    return np.asarray(gradient) + np.eye(*scores.shape)


def near(expected):
    return pytest.approx(expected, rel=1e-6)


def test_the_loss_is_the_sum_over_queries_of_the_cross_entropy_of_their_positives():
    assert losses.sampled_softmax(QUERIES, CANDIDATES) == near(FIRST + SECOND)


def test_weights_scale_the_terms_and_are_not_normalised():
    assert losses.sampled_softmax(QUERIES, CANDIDATES, weights=jnp.array([0.7, 0.3])) == near(1.2394561245)
    assert losses.sampled_softmax(QUERIES, CANDIDATES, weights=jnp.array([7.0, 3.0])) == near(12.394561245)


def test_no_reduction_gives_the_weighted_terms():
    terms = losses.sampled_softmax(QUERIES, CANDIDATES, weights=jnp.array([2.0, 0.0]), reduction="none")
    assert terms.tolist() == near([2 * FIRST, 0.0])


def test_the_mean_divides_by_the_sum_of_the_weights():
    assert losses.sampled_softmax(QUERIES, CANDIDATES, reduction="mean") == near((FIRST + SECOND) / 2)
    weighted = losses.sampled_softmax(
        QUERIES, CANDIDATES, reduction="mean", weights=jnp.array([1.0, 3.0])
    )  # (0.0485873516 + 3 * 4.0181499279) / 4
    assert weighted == near(3.0257592838)


def test_the_mean_over_weights_of_zero_is_zero_with_zero_gradients():
    def loss(queries):
        return losses.sampled_softmax(queries, CANDIDATES, reduction="mean", weights=jnp.zeros(2))

    value, gradient = jax.value_and_grad(loss)(QUERIES)
    assert value == 0 and np.all(gradient == 0)


def test_an_unknown_reduction_is_refused_by_name():
    with pytest.raises(ValueError, match="'average'"):
        losses.sampled_softmax(QUERIES, CANDIDATES, reduction="average")


def test_the_gradient_of_the_scores_is_the_softmax_less_one_for_the_positive():
    assert probabilities([[1, 2, 5], [3, 4, 1]]).ravel().tolist() == near([1 / 8, 2 / 8, 5 / 8, 3 / 8, 4 / 8, 1 / 8])


def test_rows_behind_the_queries_are_negatives_for_every_query():
    assert loss_of([[1, 1, 6], [1, 1, 2]], reduction="none").tolist() == near([np.log(8), np.log(4)])


def test_more_queries_than_candidates_are_refused():
    with pytest.raises(ValueError, match="2 queries, 1 candidates"):
        losses.sampled_softmax(QUERIES, CANDIDATES[:1])


def test_temperature_divides_the_scores():
    assert loss_of([[1, 2, 3]], temperature=0.5) == near(np.log(14))  # 1, 4, 9
    assert loss_of([[1, 4, 9]], temperature=2.0) == near(np.log(6))  # 1, 2, 3


def test_log_q_raises_rare_candidates_and_the_positive_is_corrected_too():
    rarely = jnp.array([0.5, 0.25, 0.25])  # odds 2, 8, 12
    assert loss_of([[1, 2, 3]], sampling_probabilities=rarely) == near(np.log(11))


def test_log_q_is_clipped_at_a_probability_of_a_millionth():
    assert loss_of([[1, 1]], sampling_probabilities=jnp.array([1.0, 0.0])) == near(np.log(1 + 1e6))
    assert loss_of([[1, 1]], sampling_probabilities=jnp.array([1.0, 1e-9])) == near(np.log(1 + 1e6))
    assert loss_of([[1, 1]], sampling_probabilities=jnp.array([1.0, 1e-5])) == near(np.log(1 + 1e5))


def test_log_q_is_clipped_at_a_probability_of_one():
    assert loss_of([[1, 1]], sampling_probabilities=jnp.array([4.0, 0.5])) == near(np.log(3))


def test_log_q_is_not_divided_by_the_temperature():
    rarely = jnp.array([0.5, 0.25, 0.25])  # 1, 4, 9 over them: 2, 16, 36
    assert loss_of([[1, 2, 3]], temperature=0.5, sampling_probabilities=rarely) == near(np.log(27))


def test_scaled_log_q_is_divided_by_the_temperature():
    rarely = jnp.array([0.5, 0.25, 0.25])  # 1, 4, 9 over their squares: 4, 64, 144
    loss = loss_of([[1, 2, 3]], temperature=0.5, sampling_probabilities=rarely, scale_log_q=True)
    assert loss == near(np.log(53))


def test_an_accidental_hit_has_no_probability():
    found = probabilities(np.ones((3, 3)), accidental_hits_of=jnp.array([7, 7, 9]))
    assert found[0, 1] == 0 and found[1, 0] == 0
    assert found[0].tolist() == near([1 / 2, 0, 1 / 2])


def test_the_positive_is_no_accidental_hit_and_others_repeated_negatives_stay():
    odds = [[1, 2, 4], [1, 2, 4], [1, 2, 4]]
    terms = loss_of(odds, accidental_hits_of=jnp.array([7, 7, 9]), reduction="none")
    assert terms.tolist() == near([np.log(5), np.log(6 / 2), np.log(7 / 4)])


def test_a_copy_of_the_positive_behind_the_queries_is_an_accidental_hit():
    terms = loss_of([[1, 2, 4], [1, 2, 4]], accidental_hits_of=jnp.array([7, 9, 7]), reduction="none")
    assert terms.tolist() == near([np.log(3), np.log(7 / 2)])


def test_known_positives_have_no_probability_and_the_own_positive_stays():
    known = jnp.array([[True, True, False], [False, False, False]])
    found = probabilities([[1, 2, 4], [1, 2, 5]], known_positives=known)
    assert found[0, 1] == 0
    assert found.ravel().tolist() == near([1 / 5, 0, 4 / 5, 1 / 8, 2 / 8, 5 / 8])


def test_masked_candidates_have_no_probability_and_the_positive_stays():
    mask = jnp.array([[False, False, True], [True, True, True]])
    found = probabilities([[1, 2, 4], [1, 2, 5]], mask=mask)
    assert found[0, 1] == 0
    assert found.ravel().tolist() == near([1 / 5, 0, 4 / 5, 1 / 8, 2 / 8, 5 / 8])


def test_a_query_without_negatives_has_neither_loss_nor_gradient():
    def loss(queries, candidates):
        return losses.sampled_softmax(queries, candidates, mask=jnp.zeros((2, 2), bool))

    value, gradients = jax.value_and_grad(loss, (0, 1))(QUERIES, CANDIDATES)
    assert value == 0
    assert np.all(gradients[0] == 0) and np.all(gradients[1] == 0)


def test_hard_negatives_are_those_with_the_highest_scores():
    assert loss_of([[1, 5, 3, 4]], num_hard_negatives=2) == near(np.log(10))


@pytest.mark.parametrize("count", [0, -1])
def test_without_a_positive_number_of_hard_negatives_all_stay(count):
    assert loss_of([[1, 5, 3, 4]], num_hard_negatives=count) == near(np.log(13))


@pytest.mark.parametrize("count", [3, 4, 100])
def test_where_fewer_negatives_are_left_than_asked_for_all_stay(count):
    assert loss_of([[1, 5, 3, 4]], num_hard_negatives=count) == near(np.log(13))


def test_a_batch_of_one_has_no_hard_negatives():
    assert loss_of([[3]], num_hard_negatives=2) == 0


def test_among_equal_hard_negatives_exactly_as_many_stay_as_asked_for_the_first_ones():
    found = probabilities([[1, 2, 2, 2, 1]], num_hard_negatives=2)
    assert found[0].tolist() == near([1 / 5, 2 / 5, 2 / 5, 0, 0])
    assert np.all(found[0, 3:] == 0)


def test_the_positive_does_not_count_as_a_hard_negative():
    assert loss_of([[9, 1, 3, 2]], num_hard_negatives=1) == near(np.log(12 / 9))


def test_removed_negatives_do_not_count_as_hard_ones():
    mask = jnp.array([[True, False, True, True]])
    rows = jnp.array([7, 7, 8, 9])
    assert loss_of([[1, 5, 3, 4]], mask=mask, num_hard_negatives=1) == near(np.log(5))
    assert loss_of([[1, 5, 3, 4]], known_positives=~mask, num_hard_negatives=1) == near(np.log(5))
    assert loss_of([[1, 5, 3, 4]], accidental_hits_of=rows, num_hard_negatives=1) == near(np.log(5))


def test_hard_negatives_are_chosen_after_log_q():
    odds, rarely = [[1, 5, 3, 4]], jnp.array([1.0, 1.0, 0.1, 1.0])  # 1, 5, 30, 4
    assert loss_of(odds, sampling_probabilities=rarely, num_hard_negatives=1) == near(np.log(31))


def test_label_smoothing_spreads_its_share_of_the_target_over_all_columns():
    found = probabilities([[1, 2, 5], [3, 4, 1]], label_smoothing=0.3) - np.eye(2, 3)  # the softmax less the target
    expected = np.array([[1 / 8, 2 / 8, 5 / 8], [3 / 8, 4 / 8, 1 / 8]]) - 0.7 * np.eye(2, 3) - 0.1
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_label_smoothing_leaves_out_what_is_removed_and_own_negatives():
    mask = jnp.array([[True, False, True, True]])
    own = jnp.log(jnp.array([[6.0]]))
    loss = loss_of([[1, 5, 3, 4]], mask=mask, own_negatives=own, num_hard_negatives=2, label_smoothing=0.2)
    assert loss == near(np.log(11) - 0.9 * np.log(1) - 0.1 * np.log(4))  # kept: 1, 4, and 6 for itself


@pytest.mark.slow
def test_an_explanation_shows_each_correction_and_adds_up_to_the_loss():
    queries, candidates = jnp.ones((2, 1)), jnp.array([[0.0], [1.0], [2.0], [0.0], [3.0], [0.5]])
    corrections = {
        "sampling_probabilities": jnp.array([0.5, 0.1, 0.1, 0.5, 0.1, 0.1]),
        "accidental_hits_of": jnp.array([7, 8, 9, 7, 10, 11]),
        "known_positives": jnp.array([[False, False, True, False, False, False]] * 2),
        "mask": jnp.array([[True, True, True, True, False, True]] * 2),
        "own_negatives": jnp.array([[0.25, -jnp.inf]] * 2),
        "num_hard_negatives": 2,
        "temperature": 0.5,
    }
    lines = losses.explain(queries, candidates, 0, **corrections).splitlines()
    loss = losses.sampled_softmax(queries, candidates, **corrections, reduction="none")[0]
    assert lines[0].startswith(f"loss {loss:.4f} =") and lines[0].endswith("3 of 8 columns left")
    rows = {line.split()[0]: line for line in lines[2:]}
    assert rows["0"].endswith("positive") and rows["0"].split()[1:4] == ["0.0000", "0.6931", "0.6931"]
    assert rows["1"].split()[1:4] == ["2.0000", "2.3026", "4.3026"]
    assert rows["2"].endswith("-inf     0.0000  known positive") and rows["4"].endswith("masked")
    assert rows["3"].endswith("accidental hit") and rows["6"].endswith("own negative, not among the hardest")
    shares = [float(line.split()[4]) for line in lines[2:]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-3)


def test_an_explanation_names_the_smoothed_target():
    queries, candidates = jnp.ones((1, 1)), jnp.log(jnp.array([[1.0], [3.0]]))
    loss = losses.sampled_softmax(queries, candidates, label_smoothing=0.5)
    line = losses.explain(queries, candidates, 0, label_smoothing=0.5).splitlines()[0]
    assert line == f"loss {loss:.4f} = log(sum of exp) 1.3863 - smoothed target 0.2747; 2 of 2 columns left"


def test_an_explanation_of_another_example_starts_with_its_positive():
    queries, candidates = jnp.ones((3, 1)), jnp.array([[5.0], [1.0], [2.0]])
    lines = losses.explain(queries, candidates, 2, top=1).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["2", "0"] and lines[2].endswith("positive")


def reference(queries, candidates, case):
    """Returns the loss and its gradients in float64, one query and one candidate after the other."""
    num_queries, num_candidates = len(queries), len(candidates)
    value, d_queries, d_candidates = 0.0, np.zeros(queries.shape), np.zeros(candidates.shape)
    for i in range(num_queries):
        logits = {}
        for j in range(num_candidates):
            logit = float(np.dot(queries[i], candidates[j])) / case["temperature"]
            log_q = np.log(min(max(float(case["probabilities"][j]), 1e-6), 1.0))
            logit -= log_q / case["temperature"] if case["scale_log_q"] else log_q
            hit = case["rows"][i] == case["rows"][j]
            if i == j or not (hit or case["known"][i, j] or not case["mask"][i, j]):
                logits[j] = logit
        negatives = sorted((j for j in logits if j != i), key=lambda j: (-logits[j], j))
        if case["num_hard_negatives"] > 0:
            negatives = negatives[: case["num_hard_negatives"]]
        kept = [i, *negatives]
        highest = max(logits[j] for j in kept)
        total = sum(np.exp(logits[j] - highest) for j in kept)
        value += case["weights"][i] * (np.log(total) + highest - logits[i])
        for j in kept:
            slope = case["weights"][i] * (np.exp(logits[j] - highest) / total - (j == i)) / case["temperature"]
            d_queries[i] += slope * candidates[j]
            d_candidates[j] += slope * queries[i]
    return value, d_queries, d_candidates


@functools.partial(jax.jit, static_argnames=("temperature", "scale_log_q", "num_hard_negatives"))
def value_and_gradients(queries, candidates, *, probabilities, rows, known, **case):
    def loss(queries, candidates):
        return losses.sampled_softmax(
            queries,
            candidates,
            sampling_probabilities=probabilities,
            accidental_hits_of=rows,
            known_positives=known,
            **case,
        )

    value, gradients = jax.value_and_grad(loss, (0, 1))(queries, candidates)
    return value, *gradients


@st.composite
def problems(draw):
    """Draws a batch of few values, so that equal candidates and equal scores are common."""
    num_queries, num_candidates = draw(st.sampled_from([(1, 1), (4, 6)]))
    numbers = st.integers(-3, 3) if draw(st.booleans()) else st.just(1)

    def array(elements, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(elements, min_size=size, max_size=size))).reshape(shape)

    temperature, scale_log_q, num_hard_negatives = draw(
        st.sampled_from([(1.0, False, 0), (0.5, False, 2), (0.5, True, 0), (2.0, True, 2)])
    )
    queries = array(numbers, num_queries, 2).astype(np.float32)
    candidates = array(numbers, num_candidates, 2).astype(np.float32) / 2
    return queries, candidates, {
        "temperature": temperature,
        "probabilities": array(st.sampled_from([0.0, 0.01, 0.5, 1.0]), num_candidates).astype(np.float32),
        "scale_log_q": scale_log_q,
        "rows": array(st.integers(0, draw(st.sampled_from([0, 3, 100]))), num_candidates).astype(np.int32),
        "known": array(st.booleans() if draw(st.booleans()) else st.just(True), num_queries, num_candidates),
        "mask": array(st.booleans() if draw(st.booleans()) else st.just(False), num_queries, num_candidates),
        "num_hard_negatives": num_hard_negatives,
        "weights": array(st.sampled_from([0.0, 0.5, 1.0, 3.0]), num_queries).astype(np.float32),
    }  # fmt: skip


def all_alike(num_queries, num_candidates, **changes):
    case = {
        "temperature": 1.0,
        "probabilities": np.ones(num_candidates, np.float32),
        "scale_log_q": False,
        "rows": np.arange(num_candidates, dtype=np.int32),
        "known": np.zeros((num_queries, num_candidates), bool),
        "mask": np.ones((num_queries, num_candidates), bool),
        "num_hard_negatives": 0,
        "weights": np.ones(num_queries, np.float32),
    }
    return np.ones((num_queries, 2), np.float32), np.ones((num_candidates, 2), np.float32), case | changes


@settings(deadline=None, max_examples=150)
@given(problem=problems())
@example(problem=all_alike(1, 1))
@example(problem=all_alike(4, 6))
@example(problem=all_alike(4, 6, num_hard_negatives=2))
@example(problem=all_alike(4, 6, rows=np.zeros(6, np.int32)))
@example(problem=all_alike(4, 6, mask=np.zeros((4, 6), bool), num_hard_negatives=2))
def test_all_corrections_together_agree_with_the_loss_written_out_one_pair_after_the_other(problem):
    queries, candidates, case = problem
    found = value_and_gradients(queries, candidates, **case)
    for actual, expected in zip(found, reference(queries, candidates, case), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)
