"""The objective with negatives beyond the batch and with contexts, against its plain form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from retrieval.batching.assembly import batches
from retrieval.batching.batch import NO_CAPACITY, Capacity
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.losses.row_sets import RowSets
from retrieval.models.binding import bind, init
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax, embeddings
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import create
from retrieval.training.step import create_state, train_step

FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
COUNTS = np.array([0, 30, 10, 40, 15, 5], np.float32)
RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(1, 4, 20).astype(np.int32),
    RNG.choice(6, 20, p=COUNTS / 100).astype(np.int32),
    RNG.choice(np.array([0.5, 1.0, 2.0], np.float32), 20),
    {"hour": RNG.integers(0, 24, 20).astype(np.float32)},
)
DISLIKED = Lists.from_sequences([[], [5], [], [2, 4, 5]])
NEGATIVES = Negatives(COUNTS, uniform=3, popular=4, queue=5, disliked=DISLIKED, dislikes=2)


class InContext(IdTower):
    """A query tower that reads the hour of each example."""

    context = ("hour",)

    def __call__(self, rows, hour):
        return super().__call__(rows) * (1.0 + hour / 24.0)[:, None]


def make_model(query_tower=IdTower):
    rngs = nnx.Rngs(0)
    prior = np.array([0.0, 1.0, 0.5, 0.0, 2.0, 0.3], np.float32)
    return TwoTower(query_tower(4, 3, initial_scale=1.0, rngs=rngs), IdTower(6, 3, initial_scale=1.0, rngs=rngs), prior)


def a_batch(negatives=NEGATIVES, step=1, batch_size=12, capacity=NO_CAPACITY):
    found = batches(EXAMPLES, np.arange(20), batch_size, capacity, Sampler(negatives))
    return jax.tree.map(lambda column: jnp.asarray(column[step]), found)


def by_hand(model, batch, options):
    """Returns each example's loss from a list of its columns, one after the other."""
    rows, probabilities = np.asarray(batch.candidates.rows), np.asarray(batch.probabilities)
    shared = [place for place in np.asarray(batch.negatives.shared) if place >= 0]
    positives = np.asarray(batch.candidates.indices)[np.asarray(batch.real)]
    columns = [*positives, *shared]
    queries = np.asarray(batch.queries.rows)[np.asarray(batch.queries.indices)]
    context = {"hour": batch.context["hour"]}
    embeddings = np.asarray(model.query(jnp.asarray(queries), context), np.float64)
    candidates = np.asarray(model.candidate(batch.candidates.rows), np.float64)
    expected = []
    for i in range(len(positives)):
        scores = candidates @ embeddings[i] / options.get("temperature", 1.0)
        scale = options["temperature"] if options.get("scale_log_q") else 1.0
        shift = -np.log(probabilities) / scale if options.get("log_q") else np.zeros(len(rows))
        kept = [
            scores[j] + shift[j]
            for n, j in enumerate(columns)
            if n == i or not (options.get("remove_accidental_hits") and rows[j] == rows[positives[i]])
        ]
        own = [place for place in np.asarray(batch.negatives.own)[i] if place >= 0]
        weight = len(DISLIKED[int(queries[i])]) * len(columns) / 2 if options.get("log_q") else 1.0
        kept += [scores[j] + np.log(weight or 1.0) / scale for j in own]
        expected.append(np.log(np.sum(np.exp(kept))) - scores[positives[i]] - shift[positives[i]])
    return np.array(expected)


OPTIONS = [
    {},
    {"log_q": True, "remove_accidental_hits": True},
    {"log_q": True, "temperature": 0.5, "scale_log_q": True},
]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("tower", [IdTower, InContext])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_negatives_beyond_the_batch_enter_the_loss_as_columns(options, tower, step):
    model, batch, loss = make_model(tower), a_batch(step=step), InBatchSoftmax(**options)
    queries, candidates, seen = embeddings(model, batch)
    found = jax.jit(loss.terms)(queries, candidates, seen)[batch.real]
    np.testing.assert_allclose(found, by_hand(model, batch, options), **FLOAT32)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_negatives_are_the_hardest_where_there_are_not_more(options):
    model, batch = make_model(), a_batch()

    def gradients(loss):
        return jax.jit(jax.grad(lambda params: loss(bind(model, params), batch)[0]))(init(model))

    folded, unfolded = (InBatchSoftmax(**options, num_hard_negatives=n) for n in (0, 1000))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **FLOAT32), gradients(folded), gradients(unfolded))


def test_queries_fold_if_their_tower_reads_the_row_alone_and_candidates_always():
    batch = a_batch(Negatives(COUNTS), step=0, capacity=Capacity(3, 6, 12))
    (folded, columns, _), (unfolded, same, _) = (embeddings(make_model(tower), batch) for tower in (IdTower, InContext))
    assert (len(folded), len(columns)) == (3, 6) and (len(unfolded), len(same)) == (12, 6)


@pytest.mark.parametrize("tower", [IdTower, InContext])
def test_a_step_on_touched_rows_is_the_dense_one_with_negatives_and_in_context(tower):
    model, batch, loss = make_model(tower), a_batch(), InBatchSoftmax(log_q=True, embedding_l2=0.1)
    touched = create("adagrad", 0.1)
    state = create_state(model, touched)
    dense = optax.GradientTransformation(*touched)
    actual, desired = (
        jax.jit(functools.partial(train_step, loss=loss, model=model, optimizer=rule))(state, batch)[0]
        for rule in (touched, dense)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, desired)


def test_dislikes_sink_and_likes_rise():
    loss = InBatchSoftmax(log_q=True)
    ranks = {}
    for name, negatives in (("with", NEGATIVES), ("without", Negatives(COUNTS))):
        *_, (state, _) = fit(
            make_model(), EXAMPLES, loss, create("adagrad", 0.1), batch_size=10, epochs=20, seed=0, negatives=negatives
        )
        model = bind(make_model(), state.params)
        scores = model.query(jnp.array([3])) @ model.candidate(jnp.arange(6)).T
        ranks[name] = float(jnp.mean(scores[0, jnp.array([2, 4, 5])]) - jnp.mean(scores[0, jnp.array([1, 3])]))
    assert ranks["with"] < ranks["without"] - 0.5


def test_training_with_all_kinds_of_negatives_resumes_bit_for_bit():
    negatives = Negatives(COUNTS, 3, 4, queue=5, disliked=DISLIKED, dislikes=2, estimated=True)
    loss, optimizer = InBatchSoftmax(log_q=True), create("adagrad", 0.1)
    settings = {"batch_size": 6, "epochs": 3, "seed": 0, "negatives": negatives}
    whole = list(fit(make_model(), EXAMPLES, loss, optimizer, **settings))
    resumed = list(fit(make_model(), EXAMPLES, loss, optimizer, **settings, state=whole[0][0], placement="stream"))
    for actual, desired in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole[1:]), strict=True):
        assert np.array_equal(actual, desired)


@pytest.mark.slow
def test_an_explanation_of_a_batch_adds_up_to_the_loss_of_its_example():
    model, batch, loss = make_model(InContext), a_batch(step=0), InBatchSoftmax(log_q=True, remove_accidental_hits=True)
    softmax = loss.terms(*embeddings(model, batch))
    for example in (0, 7):
        assert loss.explain(model, batch, example).startswith(f"loss {softmax[example]:.4f} = ")


def test_what_fills_up_a_batch_stays_finite_without_any_column():
    examples = Examples(np.array([1, 2, 1], np.int32), np.array([3, 4, 5], np.int32), np.ones(3, np.float32))
    disliked = Lists.from_sequences([[], [1], [2], []])
    known = RowSets.from_lists(Lists.from_pairs(examples.query_rows, examples.candidate_rows, 4))
    negatives = Negatives(np.array([0, 0, 0, 1, 1, 1], np.float32), disliked=disliked, dislikes=1)
    for hits in (False, True):
        loss = InBatchSoftmax(known, log_q=True, remove_accidental_hits=hits)
        settings = {"batch_size": 2, "epochs": 3, "seed": 0, "negatives": negatives}
        *_, (_, metrics) = fit(make_model(), examples, loss, create("adagrad", 0.1), **settings)
        assert np.isfinite(metrics["loss"])
