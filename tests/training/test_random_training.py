"""What is random in training is a function of seed and step; what is given is an argument of the program."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from training_cases import NUM_CANDIDATES, NUM_QUERIES, make_examples, make_model, one_batch

from retrieval.models.binding import bind, init, take_apart
from retrieval.models.embedding_table import Fixed
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training import epochs
from retrieval.training.epochs import fit
from retrieval.training.optimizers import by_name
from retrieval.training.step import create_state, train_step

RNG = np.random.default_rng(0)
EXAMPLES = make_examples(RNG.integers(1, NUM_QUERIES, 50), RNG.integers(1, NUM_CANDIDATES, 50))
ADAGRAD = by_name.create("adagrad", 0.1)


class Noisy(nnx.Module):
    """A tower that tells the noise of each step."""

    def __init__(self, num_rows, seed):
        self.table = IdTower(num_rows, 3, initial_scale=1.0, rngs=nnx.Rngs(seed))
        self.key = nnx.data(None)

    def __call__(self, rows):
        found = self.table(rows)
        return found if self.key is None else found + jax.random.normal(self.key, found.shape)


def noisy_model():
    return TwoTower(Noisy(NUM_QUERIES, 0), Noisy(NUM_CANDIDATES, 1))


def trained(**options):
    settings = {"batch_size": 16, "epochs": 3, "seed": 0} | options
    return list(fit(noisy_model(), EXAMPLES, InBatchSoftmax(), ADAGRAD, **settings))


def same(actual, desired):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True))


def test_a_run_of_a_random_model_goes_on_to_the_same_bits_from_any_epoch_on_any_placement():
    whole = trained()
    for done, placement in ((1, "stream"), (2, "device")):
        rest = trained(state=whole[done - 1][0], placement=placement)
        assert [means for _, means in rest] == [means for _, means in whole[done:]]
        assert same(rest[-1][0], whole[-1][0])


def test_steps_and_modules_draw_apart_and_a_key_the_same_again():
    model, state, batch = noisy_model(), create_state(noisy_model(), ADAGRAD), one_batch([1, 2], [1, 2])
    drawn = []

    def loss(model, batch):
        for rows, embed in ((batch.queries.rows, model.query), (batch.candidates.rows, model.candidate)):
            drawn.append(jax.lax.stop_gradient(embed(rows)))
        return jnp.sum(model.query(batch.queries.rows)), {"examples": jnp.ones(())}

    def noise(step, key):
        drawn.clear()
        train_step(state._replace(step=jnp.int32(step)), batch, loss, model, ADAGRAD, key)
        plain = model.query(batch.queries.rows), model.candidate(batch.candidates.rows)
        return [np.asarray(with_noise - without).round(4) for with_noise, without in zip(drawn, plain, strict=True)]

    key = jax.random.key(7)
    first, again, next_step, other_key = noise(3, key), noise(3, key), noise(4, key), noise(3, jax.random.key(8))
    assert same(first, again)
    assert not any(np.array_equal(a, b) for other in (next_step, other_key) for a, b in zip(first, other, strict=True))
    assert not np.array_equal(*first)
    assert all(np.all(noises == 0) for noises in noise(3, None))


def test_another_seed_draws_otherwise_though_the_order_is_the_same():
    one_batch_an_epoch = {"batch_size": 50, "epochs": 1}
    losses = [trained(seed=seed, **one_batch_an_epoch)[0][1]["loss"] for seed in (0, 1)]
    assert abs(losses[0] - losses[1]) > 1e-3  # one batch holds all examples, whatever their order


def test_a_trained_random_model_is_not_random():
    model = noisy_model()
    params = trained()[-1][0].params
    once, again = (bind(model, params).query(jnp.array([1, 2])) for _ in range(2))
    assert np.array_equal(once, again) and np.array_equal(
        once, params["query_tower"]["table"]["embedding"]["embedding"][1:3]
    )


class Attributes(IdTower):
    """A tower with given attributes of every row."""

    def __init__(self, attributes, **options):
        super().__init__(len(attributes), attributes.shape[1], **options)
        self.attributes = Fixed(jnp.asarray(attributes))

    def __call__(self, rows):
        return super().__call__(rows) + self.attributes[...][rows]


def attributed_model(attributes):
    common = {"initial_scale": 1.0, "rngs": nnx.Rngs(0)}
    return TwoTower(IdTower(NUM_QUERIES, attributes.shape[1], **common), Attributes(attributes, **common))


def largest_constant(jaxpr):
    return max((np.size(constant) for constant in jaxpr.consts), default=0)


def test_given_arrays_are_arguments_of_the_program_and_no_constants_in_it(monkeypatch):
    attributes = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32)
    model, programs = attributed_model(attributes), []
    jit = jax.jit

    def traced(function, **options):
        def run(*arguments):
            programs.append(jax.make_jaxpr(function)(*arguments))
            return jit(function, **options)(*arguments)

        return run

    monkeypatch.setattr(epochs.jax, "jit", traced)
    list(fit(model, EXAMPLES, InBatchSoftmax(), ADAGRAD, batch_size=16, epochs=1, seed=0))
    assert programs and max(map(largest_constant, programs)) < 100
    monkeypatch.undo()
    state, batch = create_state(model, ADAGRAD), one_batch([1, 2], [1, 2])
    referred = jax.make_jaxpr(lambda state: train_step(state, batch, InBatchSoftmax(), model, ADAGRAD))(state)
    assert largest_constant(referred) == attributes.size  # what the test above would find


def test_training_with_given_arrays_uses_them():
    attributes = np.random.default_rng(0).normal(size=(NUM_CANDIDATES, 3)).astype(np.float32)
    reached = []
    for given in (attributes, np.zeros_like(attributes)):
        ((state, _),) = fit(
            attributed_model(given), EXAMPLES, InBatchSoftmax(), ADAGRAD, batch_size=16, epochs=1, seed=0
        )
        reached.append(state.params["candidate_tower"]["embedding"]["embedding"])
    assert not np.allclose(*reached, atol=1e-3)


def test_a_model_taken_apart_and_put_together_is_the_same():
    model = TwoTower(
        *(getattr(make_model(), side) for side in ("query_tower", "candidate_tower")), np.arange(7.0, dtype=np.float32)
    )
    given, model_of = take_apart(model)
    assert [leaf.tolist() for leaf in jax.tree.leaves(given)] == [list(range(NUM_CANDIDATES))]
    doubled = model_of(jax.tree.map(lambda leaf: 2 * leaf, given))
    assert same(init(doubled), init(model))
    rows = jnp.array([3, 4])
    assert np.allclose(doubled.candidate(rows)[:, -1], 2 * model.candidate(rows)[:, -1])
