"""Labels from ratings, the losses of them by hand, and what evaluation makes of predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_cases import LIKES, RATING, corpus, rated

from retrieval import losses
from retrieval.baselines.label_biases import PREDICTORS
from retrieval.config.schema import Task
from retrieval.data import labels
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions
from retrieval.evaluation.heads import Labelled
from retrieval.evaluation.pointwise_metrics import auc_by_query, log_losses, means_by_query
from retrieval.evaluation.protocol import Result

NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "name must be a unique name without '/', got ''"),
        ({"name": "a/b"}, "without '/', got 'a/b'"),
        ({"name": "likes"}, "a unique name"),
        ({"name": "x", "kind": "regresion"}, r"tasks\[1\].kind must be one of.*did you mean 'regression'"),
        ({"name": "x", "weight": -1.0}, "weight must be 0 or more, got -1.0"),
        ({"name": "x", "weight": NAN}, "weight must be 0 or more, got nan"),
    ],
)
def test_a_task_that_cannot_be_built_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        labels.check_tasks((LIKES, Task(**settings)))


@pytest.mark.parametrize(
    ("values", "message"), [([NAN], "none is known"), ([3.0, 3.0, NAN], "all 2 of them are 3"), ([], "none")]
)
def test_labels_that_teach_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=f"'rating' has nothing to learn.*{message}"):
        labels.statistics("rating", np.array(values, np.float32))


def test_without_ratings_a_task_names_the_field_to_set():
    with pytest.raises(ValueError, match="task 'rating' predicts the rating, and the interactions have none"):
        labels.labels_of((RATING,), None)
    assert labels.labels_of((), None) == {}


def test_trivial_losses_are_those_of_the_best_constants():
    ratings = rated().ratings
    for task, loss in ((RATING, losses.squared_error), (LIKES, losses.log_loss)):
        found = labels.labels_of((task,), ratings)[task.name]
        of_labels = labels.statistics(task.name, found)
        trivial = labels.trivial_loss(task.kind, of_labels)
        start = of_labels.mean if task is RATING else labels.log_odds(of_labels)

        def cost(constant, loss=loss, found=found):
            return float(jnp.mean(loss(jnp.full(len(found), constant, jnp.float32), jnp.asarray(found))))

        assert cost(start) == pytest.approx(trivial, rel=1e-5)
        assert min(cost(start - 0.05), cost(start + 0.05)) > trivial


def test_unknown_labels_cost_nothing_and_have_no_gradient():
    outputs, found = jnp.array([0.5, -2.0]), jnp.array([1.0, NAN])
    for loss, value, slope in (
        (losses.squared_error, 0.25, -1.0),
        (losses.log_loss, np.log(1 + np.exp(-0.5)), -1 / (1 + np.exp(0.5))),
    ):
        assert float(jnp.sum(loss(outputs, found))) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(
            jax.grad(lambda x, loss=loss: jnp.sum(loss(x, found)))(outputs), [slope, 0.0], rtol=1e-6
        )


def test_the_log_loss_of_sure_outputs_is_exact():
    np.testing.assert_allclose(losses.log_loss(jnp.array([-200.0, 200.0]), jnp.array([1.0, 1.0])), [200.0, 0.0])
    assert np.all(np.isfinite(log_losses(np.array([0.0, 1.0]), np.array([1.0, 0.0]))))


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=30)


@given(PAIRS)
def test_the_auc_of_each_query_is_that_of_all_its_pairs(pairs):
    owners, scores, ones = (
        (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.zeros(0, int),) * 3
    )
    found = auc_by_query(scores / 4.0, ones.astype(np.float64), owners, 5)
    for query in range(5):
        own = owners == query
        above = [(a > b) + (a == b) / 2 for a in scores[own & (ones == 1)] for b in scores[own & (ones == 0)]]
        np.testing.assert_allclose(found[query], np.mean(above) if above else NAN)


def test_figures_are_means_over_interactions_and_roots_of_them():
    held_out = Interactions([7, 7, 9, 9], [0, 1, 0, 2], [5.0, 1.0, 0.0, 2.0]).with_unknown_ratings(np.arange(4) == 2)
    encoding = Encoding.fit(rated(), corpus())
    asked = Labelled.of((RATING, LIKES), encoding, held_out)
    assert (asked.query_ids.tolist(), asked.owners.tolist(), asked.positions.tolist()) == (
        [7, 9],
        [0, 0, 1, 1],
        [0, 1, 0, 2],
    )
    stars, odds = np.array([4.0, 2.0, 3.0, 5.0]), np.array([0.75, 0.25, 0.5, 0.5])
    per_query = asked.measure({"rating": stars, "likes": odds}, "x")
    assert per_query.values["rating/mse"].tolist() == [1.0, 9.0] and per_query.weights["rating/mse"].tolist() == [
        2.0,
        1.0,
    ]
    figures = Result.of(per_query).metrics
    assert figures["rating/mse"] == pytest.approx(11 / 3) and figures["rating/rmse"] == pytest.approx((11 / 3) ** 0.5)
    assert figures["rating/mae"] == pytest.approx(5 / 3)
    assert figures["likes/log_loss"] == pytest.approx((-2 * np.log(0.75) - np.log(0.5)) / 3)
    assert figures["likes/auc"] == 1.0 and np.isnan(per_query.values["likes/auc"][1])


def test_intervals_of_roots_are_roots_of_intervals_and_results_join():
    rng = np.random.default_rng(0)
    asked = Labelled.of((RATING,), Encoding.fit(rated(), corpus()), rated(1))
    result = Result.of(asked.measure({"rating": rng.normal(3.5, 1, len(asked.owners))}))
    np.testing.assert_allclose(np.square(result.intervals["rating/rmse"]), result.intervals["rating/mse"])
    both = result.beside(Result(result.per_query, {"x": 1.0}, {"x": (0.0, 2.0)}, ()))
    assert {"x", "rating/rmse"} <= both.metrics.keys() & both.intervals.keys()
    fewer = Result.of(Labelled.of((), Encoding.fit(rated(), corpus()), rated(1).take(slice(5))).measure({}))
    with pytest.raises(ValueError, match="not of the same ones"):
        result.beside(fewer)


def test_dislikes_are_not_asked_about():
    asked = Labelled.of((RATING,), Encoding.fit(rated(), corpus(), 2.0), rated(1))
    assert asked.labels["rating"].min() > 2


def test_biases_beat_candidate_means_and_those_the_mean():
    encoding, train = Encoding.fit(rated(), corpus()), rated()
    asked = Labelled.of((RATING, LIKES), encoding, train)
    errors = {
        name: Result.of(asked.measure(predictions)).metrics
        for name, predictions in asked.by_baselines(encoding, train).items()
    }
    assert set(errors) == set(PREDICTORS["regression"])
    assert errors["biases"]["rating/rmse"] < errors["candidate_mean"]["rating/rmse"] < errors["mean"]["rating/rmse"]
    assert errors["mean"]["rating/mse"] == pytest.approx(train.ratings.var(dtype=np.float64))
    assert errors["candidate_mean"]["likes/log_loss"] < errors["mean"]["likes/log_loss"]
    assert "likes/log_loss" not in errors["biases"]


def test_biases_solve_their_damped_normal_equations():
    rng = np.random.default_rng(0)
    queries, candidates, stars = rng.integers(1, 5, 60), rng.integers(1, 7, 60), rng.normal(3, 1, 60)
    predict = PREDICTORS["regression"]["biases"](stars, queries, candidates)
    q, c = np.eye(5)[queries][:, 1:], np.eye(7)[candidates][:, 1:]
    design = np.concatenate([q, c], axis=1)
    solution = np.linalg.solve(design.T @ design + 5 * np.eye(10), design.T @ (stars - stars.mean()))
    np.testing.assert_allclose(predict(queries, candidates), stars.mean() + design @ solution, atol=1e-4)
    assert predict(np.array([0, 99]), np.array([0, 99])).tolist() == [stars.mean()] * 2


def test_a_query_without_known_labels_has_no_mean():
    means, numbers = means_by_query(np.array([1.0, 3.0]), np.array([2, 2]), 3)
    np.testing.assert_array_equal(means, [NAN, NAN, 2.0])
    assert numbers.tolist() == [0, 0, 2]
