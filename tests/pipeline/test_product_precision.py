"""No product of float32 is left to the precision of a device: in towers, losses, gradients, ranking and exports.

GPUs compute such products in TF32 and TPUs in bfloat16, unless each of them names a precision.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from jax.extend.core.primitives import conv_general_dilated_p, dot_general_p

from retrieval import losses
from retrieval.baselines import Training
from retrieval.baselines.registry import BASELINES
from retrieval.batching.assembly import batches
from retrieval.batching.sampler import Sampler
from retrieval.common.lists import Lists
from retrieval.config.schema import ENCODERS, KINDS_OF_FEATURES, Addition, Config, Feature, Mlp, Task
from retrieval.data.interactions import Interactions, Table
from retrieval.features.entities import EntityFeatures
from retrieval.models.binding import init
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.recipe import prepare
from retrieval.ranking import blocks, ranks, topk
from retrieval.serving.bundle import writing
from retrieval.training.step import create_state, train_step

HIGHEST = (jax.lax.Precision.HIGHEST,) * 2
PRODUCTS = (dot_general_p, conv_general_dilated_p)
RNG = np.random.default_rng(0)
CORPUS = Table(
    np.arange(40),
    {
        "genre": np.array(["War", "Drama", "Comedy", ""] * 10),
        "year": np.linspace(1950, 2000, 40),
        "picture": RNG.normal(size=(40, 3)).astype(np.float32),
    },
)
COLUMNS = {"number": "year", "buckets": "year", "periodic": "year", "vector": "picture"}  # others: "genre"
EVENTS = Interactions(
    RNG.integers(20, size=400),
    np.concatenate([np.arange(40), RNG.integers(40, size=360)]),
    RNG.integers(1, 6, 400).astype(np.float32),
    10**9 + RNG.integers(10**6, size=400),
)


def recipe_of(*, loss="in_batch_softmax", encoder="", precision="float32", kind="", additions=()):
    """Returns a recipe with an MLP, cross layers and a head, which have products whatever else is asked for."""
    config = Config(tasks=(Task("rating", hidden_sizes=(3,)),))
    model = config.model
    model.embedding_dimension, model.precision, model.additions = 4, precision, additions
    model.query.mlp = model.candidate.mlp = Mlp(hidden_sizes=(5,))
    model.query.cross.layers, model.candidate.cross.layers, model.candidate.cross.rank = 1, 1, 2
    model.history.encoder, model.history.length, model.history.heads = encoder, 6 if encoder else 0, 2 if encoder else 1
    if kind:
        size = {"buckets": 4, "periodic": 2, "text": 8}.get(kind, 0)
        period = 50.0 if kind == "periodic" else 0.0
        feature = Feature(COLUMNS.get(kind, "genre"), kind, size=size, period=period, hashes=int(kind == "text"))
        model.candidate.features = (Feature("id"), feature)
    config.loss.name = loss
    model.popularity_prior = OBJECTIVES[loss].scores_are_log_probabilities
    model.temperature = 1.0 if OBJECTIVES[loss].scores_are_cosines else 0.0
    config.train.batch_size = 32
    return prepare(config, EVENTS, CORPUS)


def products(jaxpr):
    """Yields the equations of products of float32 in a program, and in the programs in it."""
    for equation in jaxpr.eqns:
        if equation.primitive in PRODUCTS and any(v.aval.dtype == jnp.float32 for v in equation.invars):
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from products(inner)


def is_program(value):
    return hasattr(value, "eqns")


def precisions(function, *arguments):
    return [equation.params["precision"] for equation in products(jax.make_jaxpr(function)(*arguments).jaxpr)]


def of_step(recipe):
    """Returns the precisions of the products of a training step: towers, loss, heads and all gradients."""
    stacked = batches(
        recipe.examples,
        np.arange(len(recipe.examples.query_rows)),
        recipe.batch_size,
        sampler=Sampler(recipe.negatives),
    )
    batch = jax.tree.map(lambda column: jnp.asarray(column[0]), stacked)

    def step(state, batch, key):
        return train_step(state, batch, recipe.loss, recipe.model, recipe.optimizer, key)

    return precisions(step, create_state(recipe.model, recipe.optimizer), batch, jax.random.key(0))


def test_the_walk_finds_products_without_a_precision_wherever_they_are():
    def scanned(x):
        return jax.lax.scan(lambda carry, _: (jax.checkpoint(jax.jit(jnp.dot))(x, carry), None), x, None, length=2)[0]

    def branched(x):
        return jax.lax.cond(x[0, 0] > 0, scanned, lambda x: jax.lax.map(lambda row: row @ x, x), x)

    found = precisions(jax.grad(lambda x: jnp.sum(branched(x))), jnp.ones((2, 2)))
    assert len(found) > 4 and set(found) == {None}


@pytest.mark.slow
@pytest.mark.parametrize("loss", OBJECTIVES)
def test_a_step_with_each_loss_has_full_precision(loss):
    found = of_step(recipe_of(loss=loss))
    assert len(found) > 20 and set(found) == {HIGHEST}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_step_with_each_history_encoder_has_full_precision(encoder):
    assert set(of_step(recipe_of(encoder=encoder))) == {HIGHEST}


@pytest.mark.parametrize("kind", KINDS_OF_FEATURES)
def test_a_step_with_each_kind_of_feature_has_full_precision(kind):
    assert set(of_step(recipe_of(kind=kind))) == {HIGHEST}


@pytest.mark.slow
def test_what_is_left_of_float32_in_a_model_of_bfloat16_has_full_precision():
    assert set(of_step(recipe_of(precision="bfloat16", encoder="attention"))) == {HIGHEST}


@pytest.mark.parametrize("loss", ["in_batch_softmax", "bpr"])
def test_tensorfloat32_is_for_products_inside_the_towers_alone(loss):
    recipe = recipe_of(precision="tensorfloat32", encoder="transformer", loss=loss)
    high = (jax.lax.Precision.HIGH,) * 2
    assert set(of_step(recipe)) == {high, HIGHEST}
    queries, candidates = jnp.ones((3, 5)), jnp.ones((4, 5))
    assert precisions(losses.sampled_softmax, queries, candidates) == [HIGHEST]


@pytest.mark.parametrize("default", ["bfloat16", "tensorfloat32", None])
def test_the_default_of_the_process_does_not_reach_the_towers(default):
    recipe = recipe_of(encoder="gru")
    with jax.default_matmul_precision(default):
        assert set(of_step(recipe)) == {HIGHEST}


def test_losses_in_blocks_have_full_precision():
    queries, candidates, counts = jnp.ones((6, 3)), jnp.ones((5, 3)), jnp.ones(5)
    indices = jnp.arange(6), jnp.arange(6) % 5
    options = {"counts": counts, "scores_per_block": 10}
    cosine = functools.partial(losses.cosine_contrastive, margin=0.1, negative_weight=1.0)
    for loss in (losses.folded_softmax, losses.bpr, cosine):

        def value(queries, candidates, loss=loss):
            return loss(queries, candidates, *indices, **options)

        found = precisions(jax.value_and_grad(value, (0, 1)), queries, candidates)
        assert found and set(found) == {HIGHEST}


def test_ranking_has_full_precision():
    queries, candidates = jnp.ones((4, 3)), jnp.ones((20, 3))
    pairs, _ = blocks.pairs_by_block(np.zeros(0, np.int32), np.zeros(0, np.int32), 3, 8, blocks.LEAST_PAIRS)
    for size in (8, 20):
        count = functools.partial(ranks.count_block, size=size)
        found = precisions(count, queries, candidates, jnp.zeros((4, 2), jnp.int32), pairs)
        assert found and set(found) == {HIGHEST}
    score = functools.partial(topk._score_block, allowed=None, block=jnp.int32(0), size=8, chunk=4)
    assert set(precisions(score, jnp.zeros((4, 2, 4)), queries, candidates, pairs)) == {HIGHEST}


@pytest.fixture
def traced(monkeypatch):
    """Records the precision of each product of float32 that JAX traces or computes."""
    found, bind = [], dot_general_p.bind

    def record(*arguments, **params):
        if any(argument.dtype == jnp.float32 for argument in arguments):
            found.append(params["precision"])
        return bind(*arguments, **params)

    jax.clear_caches()
    monkeypatch.setattr(dot_general_p, "bind", record)
    yield found
    jax.clear_caches()


@pytest.mark.slow
def test_baselines_evaluation_and_embeddings_have_full_precision(traced):
    recipe = recipe_of(encoder="hstu", additions=(Addition("ease", arguments={"rank": 4}),))
    params, training = init(recipe.model), Training.of(EVENTS, CORPUS)
    for baseline in BASELINES.values():
        scorer = baseline.fit(training, **baseline.start)
        scorer(Lists.from_sequences([[1, 2]]))
    queries = np.asarray(recipe.query_embeddings(params, np.arange(20), EVENTS))
    candidates = np.asarray(recipe.candidate_embeddings(params))
    recipe.predict(params, jnp.asarray(queries[:3]), jnp.asarray(candidates[:3]))
    ranks.rank(queries, candidates, Lists.from_sequences([[1]] * 20))
    topk.top_k(queries, candidates, 3)
    assert len(traced) > 20 and set(traced) == {HIGHEST}


@pytest.mark.parametrize("encoder", ["", "transformer"])
def test_exported_programs_have_full_precision(encoder):
    recipe = recipe_of(encoder=encoder)
    features = {"query": EntityFeatures(), "candidate": EntityFeatures()}
    programs, _ = writing._programs(recipe.bound(init(recipe.model)), recipe.context, features)
    assert len(programs) == 2
    for program in programs.values():
        text = jax_export.deserialize(bytearray(program)).mlir_module()
        lines = re.findall(r"stablehlo\.(?:dot_general|dot|convolution) .*", text)
        assert lines and all("precision = [HIGHEST, HIGHEST]" in line for line in lines)
