"""Replicas trained together end as each would alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from training_cases import NUM_CANDIDATES, NUM_QUERIES, make_examples, make_model

from retrieval.models.id_tower import IdTower
from retrieval.models.layers import Dropout
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.ensemble import fit_many
from retrieval.training.epochs import fit
from retrieval.training.optimizers import by_name
from retrieval.training.optimizers.parameter_average import averaged

RNG = np.random.default_rng(0)
EXAMPLES = make_examples(RNG.integers(1, NUM_QUERIES, 50), RNG.integers(1, NUM_CANDIDATES, 50))
ADAGRAD = functools.partial(by_name.create, "adagrad")
SETTINGS = {"batch_size": 16, "epochs": 3, "seed": 0}
LOSS = InBatchSoftmax(embedding_l2=0.1, remove_accidental_hits=True)


class Dropped(IdTower):
    """A tower that is random in training."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.dropout = Dropout(0.5)

    def __call__(self, rows):
        return self.dropout(super().__call__(rows))


def dropped_model(seed):
    common = {"initial_scale": 1.0, "rngs": nnx.Rngs(seed)}
    return TwoTower(Dropped(NUM_QUERIES, 3, **common), IdTower(NUM_CANDIDATES, 3, **common))


def together(models, optimizer, learning_rates, **options):
    return list(fit_many(models, EXAMPLES, LOSS, optimizer, learning_rates=learning_rates, **SETTINGS | options))


def alone(model, optimizer, **options):
    return list(fit(model, EXAMPLES, LOSS, optimizer, **SETTINGS | options))


def check_replicas(models, optimizer, learning_rates, **options):
    epochs = together(models, optimizer, learning_rates, **options)
    assert len(epochs) == SETTINGS["epochs"]
    for r, (model, rate) in enumerate(zip(models, learning_rates, strict=True)):
        expected = alone(model, optimizer(rate), **options)
        for (states, means), (state, of_one) in zip(epochs, expected, strict=True):
            assert {name: values[r] for name, values in means.items()} == pytest.approx(of_one, rel=1e-5)
            of_replica = jax.tree.map(lambda leaf, r=r: leaf[r], states)
            assert jax.tree.structure(of_replica) == jax.tree.structure(state)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of_replica, state)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["device", "stream"])
def test_each_replica_ends_as_its_own_training(placement):
    models = [make_model(seed=seed, hidden=(4,)) for seed in range(3)]
    check_replicas(models, ADAGRAD, [0.1, 0.1, 0.02], placement=placement)


@pytest.mark.slow
def test_replicas_of_a_random_model_draw_as_its_own_training_does():
    check_replicas([dropped_model(seed) for seed in range(2)], ADAGRAD, [0.1, 0.05])


@pytest.mark.slow
def test_replicas_have_averages_of_their_own():
    def optimizer(learning_rate):
        return averaged(by_name.create("adagrad", learning_rate), 0.9)

    models = [make_model(seed=seed) for seed in range(2)]
    *_, (states, _) = together(models, optimizer, [0.1, 0.05])
    kept = jax.vmap(lambda state: state.kept)(states)
    for r, rate in enumerate((0.1, 0.05)):
        *_, (state, _) = alone(models[r], optimizer(rate))
        jax.tree.map(lambda a, b, r=r: np.testing.assert_allclose(a[r], b, rtol=1e-4, atol=1e-5), kept, state.kept)


def test_a_replica_that_diverges_leaves_the_others_as_they_are():
    models = [make_model(seed=0), make_model(seed=1)]
    sgd = functools.partial(by_name.create, "sgd")
    *_, (states, means) = together(models, sgd, [0.01, 1e30])
    *_, (state, of_one) = alone(models[0], sgd(0.01))
    assert means["loss"][0] == pytest.approx(of_one["loss"], rel=1e-5) and not np.isfinite(means["loss"][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5), states.params, state.params)


def test_yielded_states_outlive_the_epochs_after_them():
    first, *_ = together([make_model()], ADAGRAD, [0.1])
    assert int(first[0].step[0]) == 4 and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(first[0].params))


@pytest.mark.parametrize(("number", "rates"), [(0, []), (2, [0.1]), (1, [0.1, 0.2])])
def test_each_replica_needs_a_model_and_a_learning_rate(number, rates):
    with pytest.raises(
        ValueError, match=f"each replica needs a model and a learning rate, got {number} and {len(rates)}"
    ):
        together([make_model()] * number, ADAGRAD, rates)


def test_models_of_other_shapes_and_batches_beyond_the_data_are_refused():
    with pytest.raises(ValueError, match="parameter query_tower/mlp"):
        together([make_model(), make_model(hidden=(4,))], ADAGRAD, [0.1, 0.1])
    with pytest.raises(ValueError, match=r"batch_size must be in \[1, 50\].* got 51"):
        together([make_model()], ADAGRAD, [0.1], batch_size=51)


def test_replicas_are_compiled_once_whatever_their_number():
    traced = []

    def loss(model, batch):
        traced.append(batch)
        return LOSS(model, batch)

    models = [make_model(seed=seed) for seed in range(4)]
    epochs = fit_many(models, EXAMPLES, jax.tree_util.Partial(loss), ADAGRAD, learning_rates=[0.1] * 4, **SETTINGS)
    next(epochs)
    after_the_first = len(traced)
    list(epochs)
    assert 0 < after_the_first == len(traced) <= 2


def test_a_learning_rate_may_be_traced_by_every_rule_of_touched_rows():
    params = {"table": {"embedding": jnp.ones((2, 2))}}
    for name in ("adagrad", "sgd", "rowwise_adagrad"):

        def update(rate, name=name):
            optimizer = by_name.create(name, rate)
            return optimizer.update(params, optimizer.init(params), params)[0]["table"]["embedding"]

        found = jax.vmap(update)(jnp.array([0.1, 0.2]))
        assert np.asarray(found) == pytest.approx(np.stack([update(0.1), update(0.2)]), rel=1e-6)
    assert isinstance(ADAGRAD(0.1), optax.GradientTransformation)
