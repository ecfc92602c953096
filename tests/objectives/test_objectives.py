"""Every objective: against its plain form, with touched rows, in context, and by what training with it reaches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from retrieval.baselines import ials
from retrieval.baselines.base import Training
from retrieval.batching.assembly import batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.common.lists import Lists
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.popularity import log_prior
from retrieval.data.published import synthetic
from retrieval.losses.pairwise import normalized
from retrieval.losses.row_sets import RowSets
from retrieval.models.binding import bind
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import BPR, CosineContrastive, FullSoftmax, ImplicitSquared, InBatchSoftmax, query_weights
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import create
from retrieval.training.step import create_state, train_step

FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
NUM_QUERY_ROWS, NUM_CANDIDATE_ROWS = 5, 8
RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(1, 4, 20).astype(np.int32),
    RNG.integers(1, 7, 20).astype(np.int32),
    RNG.choice(np.array([0.5, 1.0, 2.0], np.float32), 20),
    {"hour": RNG.integers(0, 24, 20).astype(np.float32)},
)
KNOWN = Lists.from_pairs(EXAMPLES.query_rows, EXAMPLES.candidate_rows, NUM_QUERY_ROWS)
WEIGHTS = query_weights(EXAMPLES, NUM_QUERY_ROWS)
OBJECTIVES = {
    "in-batch softmax": InBatchSoftmax(log_q=True, label_smoothing=0.1, embedding_l2=0.1),
    "full softmax": FullSoftmax(NUM_CANDIDATE_ROWS, RowSets.from_lists(KNOWN), temperature=0.5, embedding_l2=0.1),
    "implicit squared": ImplicitSquared(NUM_CANDIDATE_ROWS, WEIGHTS, 0.3, embedding_l2=0.1),
    "cosine contrastive": CosineContrastive(margin=0.1, negative_weight=2.0),
    "bpr": BPR(RowSets.from_lists(KNOWN)),
}


class InContext(IdTower):
    """A query tower that reads the hour of each example."""

    context = ("hour",)

    def __call__(self, rows, hour):
        return super().__call__(rows) * (1.0 + hour / 24.0)[:, None]


def make_model(query_tower=IdTower):
    rngs = nnx.Rngs(0)
    return TwoTower(
        query_tower(NUM_QUERY_ROWS, 3, initial_scale=1.0, rngs=rngs),
        IdTower(NUM_CANDIDATE_ROWS, 3, initial_scale=1.0, rngs=rngs),
    )


def an_epoch(uniform=0, batch_size=8, examples=EXAMPLES):
    counts = np.bincount(examples.candidate_rows, minlength=NUM_CANDIDATE_ROWS).astype(np.float32)
    sampler = Sampler(Negatives(counts, uniform=uniform))
    return batches(examples, np.arange(len(examples.weights)), batch_size, sampler=sampler)


def a_batch(step=0, **settings):
    return jax.tree.map(lambda column: jnp.asarray(column[step]), an_epoch(**settings))


def scores_of_examples(model, batch):
    """Returns the scores of all candidate rows for each real example, and the rows of its query and its positive."""
    real = np.asarray(batch.real)
    q, c = (np.asarray(side.rows)[np.asarray(side.indices)][real] for side in (batch.queries, batch.candidates))
    context = {name: column[real] for name, column in batch.context.items()}
    queries = np.asarray(model.query(jnp.asarray(q), context), np.float64)
    return queries @ np.asarray(model.candidate(jnp.arange(NUM_CANDIDATE_ROWS)), np.float64).T, q, c


@pytest.mark.parametrize("tower", [IdTower, InContext])
@pytest.mark.parametrize("known", [False, True])
def test_the_full_softmax_is_over_every_known_candidate_whatever_the_batch_holds(tower, known):
    model, batch = make_model(tower), a_batch(step=2, uniform=3)
    loss = FullSoftmax(
        NUM_CANDIDATE_ROWS, RowSets.from_lists(KNOWN) if known else None, temperature=0.5, label_smoothing=0.2
    )
    scores, q, c = scores_of_examples(model, batch)
    expected = []
    for logits, query, candidate in zip(scores / 0.5, q, c, strict=True):
        left = [j for j in range(1, NUM_CANDIDATE_ROWS) if not known or j == candidate or j not in KNOWN[int(query)]]
        aim = 0.8 * logits[candidate] + 0.2 * np.mean(logits[left])
        expected.append(np.log(np.sum(np.exp(logits[left]))) - aim)
    _, sums = jax.jit(lambda batch: loss(model, batch))(batch)
    weights = np.asarray(batch.weights)[np.asarray(batch.real)]
    assert sums["loss"] == pytest.approx(np.sum(weights * expected), rel=1e-5)
    assert sums["examples"] == weights.sum()


@pytest.mark.parametrize("row", [0, NUM_CANDIDATE_ROWS])  # unknown, or known by its features alone
def test_a_positive_without_a_row_of_its_own_competes_with_the_corpus(row):
    unknown = EXAMPLES._replace(candidate_rows=np.full_like(EXAMPLES.candidate_rows, row))
    model, batch = make_model(), a_batch(examples=unknown)
    _, sums = FullSoftmax(NUM_CANDIDATE_ROWS)(model, batch)
    scores, _, _ = scores_of_examples(model, batch)
    expected = np.log(np.sum(np.exp(scores), axis=1)) - scores[:, 0]
    assert sums["loss"] == pytest.approx(np.sum(np.asarray(batch.weights) * expected), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 20])
def test_an_epoch_of_the_squared_loss_counts_each_query_with_the_corpus_once(batch_size):
    model, loss = make_model(), ImplicitSquared(NUM_CANDIDATE_ROWS, WEIGHTS, 0.3)
    sums = jax.jit(lambda epoch: jax.lax.map(lambda batch: loss(model, batch)[1], epoch))(
        an_epoch(batch_size=batch_size)
    )
    tables = model.query(jnp.arange(NUM_QUERY_ROWS)), model.candidate(jnp.arange(NUM_CANDIDATE_ROWS))
    scores = np.asarray(tables[0]) @ np.asarray(tables[1]).T
    q, c, weights = EXAMPLES[:3]
    with_examples = scores[np.unique(q), 1:]
    expected = np.sum(weights * (scores[q, c] - 1) ** 2) + 0.3 * np.sum(with_examples**2)
    assert np.sum(sums["loss"]) == pytest.approx(expected, rel=1e-5)


def test_in_context_each_example_counts_its_own_scores_with_its_share():
    model, batch = make_model(InContext), a_batch(batch_size=20)
    value, _ = ImplicitSquared(NUM_CANDIDATE_ROWS, WEIGHTS, 0.3)(model, batch)
    scores, q, c = scores_of_examples(model, batch)
    positives = scores[np.arange(len(q)), c]
    terms = (positives - 1) ** 2 + 0.3 * np.sum(scores[:, 1:] ** 2, axis=1) / np.asarray(WEIGHTS)[q]
    assert value == pytest.approx(np.sum(EXAMPLES.weights * terms), rel=1e-5)


def test_a_query_without_examples_in_train_counts_the_corpus_in_each():
    examples = EXAMPLES._replace(query_rows=np.full(20, 4, np.int32))
    model, batch = make_model(), a_batch(batch_size=20, examples=examples)
    value, _ = ImplicitSquared(NUM_CANDIDATE_ROWS, WEIGHTS, 0.3)(model, batch)
    scores, _, c = scores_of_examples(model, batch)
    terms = (scores[np.arange(20), c] - 1) ** 2 + 0.3 * np.sum(scores[:, 1:] ** 2, axis=1)
    assert WEIGHTS[4] == 0 and value == pytest.approx(np.sum(EXAMPLES.weights * terms), rel=1e-5)


def test_the_weights_of_windows_are_those_of_their_targets():
    candidates = np.array([[-1, 3], [2, 3], [-1, -1]], np.int32)
    examples = Examples(np.array([1, 1, 2], np.int32), candidates, np.array([[9, 1], [2, 3], [9, 9]], np.float32))
    assert query_weights(examples, 4).tolist() == [0, 6, 0, 0]


@pytest.mark.parametrize("uniform", [0, 5])
@pytest.mark.parametrize("known", [False, True])
def test_pairwise_negatives_are_the_draws_and_without_draws_the_positives_of_the_others(known, uniform):
    model, batch = make_model(), a_batch(step=2, uniform=uniform)  # the last batch, which is filled up
    scores, q, c = scores_of_examples(model, batch)
    rows = np.asarray(batch.candidates.rows)
    columns = rows[np.asarray(batch.negatives.shared)] if uniform else c
    expected = []
    for of_query, query, candidate in zip(scores, q, c, strict=True):
        left = [j for j in columns if j != candidate and not (known and j in KNOWN[int(query)])]
        losses = [np.log1p(np.exp(of_query[j] - of_query[candidate])) for j in left]
        expected.append(np.mean(losses) if left else 0.0)
    loss = BPR(RowSets.from_lists(KNOWN) if known else None)
    value, _ = jax.jit(lambda batch: loss(model, batch))(batch)
    weights = np.asarray(batch.weights)[np.asarray(batch.real)]
    assert value == pytest.approx(np.sum(weights * expected), rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_on_touched_rows_is_the_dense_one(name):
    model, batch, loss = make_model(InContext), a_batch(uniform=2, batch_size=5), OBJECTIVES[name]
    touched = create("adagrad", 0.1)
    state = create_state(model, touched)
    dense = optax.GradientTransformation(*touched)
    actual, desired = (
        jax.jit(functools.partial(train_step, loss=loss, model=model, optimizer=rule))(state, batch)[0]
        for rule in (touched, dense)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, desired)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_mean_divides_the_losses_and_the_penalty_by_the_weights(name):
    model, batch = make_model(), a_batch(step=2, uniform=2)
    summed = dataclasses.replace(OBJECTIVES[name], embedding_l2=0.1)
    mean = dataclasses.replace(summed, reduction="mean")
    both = jax.jit(lambda batch: [loss(model, batch) for loss in (summed, mean)])
    (total, sums), (value, same) = both(batch)
    q, c, weights = (jnp.asarray(column[16:]) for column in EXAMPLES[:3])
    norms = [model.squared_norms(side) for side in (model.query(q), model.candidate(c))]
    assert total == pytest.approx(float(sums["loss"]) + 0.1 * float(jnp.sum(weights * sum(norms))), rel=1e-5)
    assert value == pytest.approx(float(total / jnp.sum(weights)), rel=1e-5)
    assert same["loss"] == pytest.approx(float(sums["loss"]))


class Unit(IdTower):
    """A tower whose outputs are normalised."""

    def __call__(self, rows):
        return normalized(super().__call__(rows))


@dataclasses.dataclass
class Task:
    """The synthetic data, 4 of 5 events in train."""

    encoding: Encoding
    examples: Examples
    training: Training
    counts: np.ndarray
    targets: object

    def ndcg(self, scores):
        """Returns the nDCG@10 of each query with a test event; scores [query rows, corpus], train excluded."""
        found = []
        for query, row in enumerate(self.targets.query_rows):
            of_query = np.array(scores[row], np.float64)
            of_query[self.targets.seen[query]] = -np.inf
            relevant = self.targets.relevant[query]
            gains = np.isin(np.argsort(-of_query, kind="stable")[:10], relevant)
            discounts = 1 / np.log2(np.arange(2, 12))
            found.append(np.sum(gains * discounts) / np.sum(discounts[: len(relevant)]))
        return np.array(found)


@pytest.fixture(scope="module")
def task():
    interactions, table = synthetic.load()
    is_train = np.random.default_rng(0).random(len(interactions)) < 0.8
    train, test = interactions.take(is_train), interactions.take(~is_train)
    encoding = Encoding.fit(train, table)
    examples = encoding.examples(train)
    counts = encoding.counts(examples)
    return Task(encoding, examples, Training.of(train, table), counts, encoding.targets(test, train))


def trained_scores(task, loss, *, tower=IdTower, prior=False, negatives=None, epochs=6):
    """Returns the scores of all query rows for the corpus after a few epochs."""
    rngs = nnx.Rngs(0)
    queries, candidates = task.encoding.queries.num_rows, task.encoding.candidates.num_rows
    towers = [tower(rows, 16, initial_scale=0.1, rngs=rngs) for rows in (queries, candidates)]
    model = TwoTower(*towers, log_prior(task.counts) if prior else None)
    settings = {"batch_size": 512, "epochs": epochs, "seed": 0, "negatives": negatives}
    *_, (state, _) = fit(model, task.examples, loss, create("adagrad", 0.1), **settings)
    model = bind(model, state.params)
    return model.query(jnp.arange(queries)) @ model.candidate(jnp.asarray(task.encoding.corpus_rows)).T


@pytest.mark.slow
def test_training_with_each_loss_ranks_far_better_than_by_popularity(task):
    num_candidates = task.encoding.candidates.num_rows
    draws = Negatives(task.counts, uniform=256)
    popular = np.mean(task.ndcg(np.broadcast_to(task.training.counts, (task.encoding.queries.num_rows, 400))))
    assert popular < 0.16
    reached = {
        "full softmax": trained_scores(task, FullSoftmax(num_candidates, embedding_l2=0.05), prior=True),
        "smoothed": trained_scores(
            task, FullSoftmax(num_candidates, embedding_l2=0.05, label_smoothing=0.1), prior=True
        ),
        "cosine contrastive": trained_scores(
            task, CosineContrastive(margin=0.4, negative_weight=5.0), tower=Unit, negatives=draws
        ),
        "bpr": trained_scores(task, BPR(embedding_l2=0.01), negatives=draws),
    }
    figures = {name: np.mean(task.ndcg(scores)) for name, scores in reached.items()}
    assert min(figures.values()) > 2.5 * popular, figures


@pytest.mark.slow
def test_training_by_the_squared_loss_is_as_good_as_ials(task):
    factors = ials.fit(task.training, factors=16, regularization=20.0, alpha=4.0, iterations=15)
    als = task.ndcg(np.concatenate([np.zeros((1, 400)), factors(task.training.histories)]))
    weights = query_weights(task.examples, task.encoding.queries.num_rows)
    loss = ImplicitSquared(task.encoding.candidates.num_rows, weights, 1.0, embedding_l2=0.1)
    towers = task.ndcg(trained_scores(task, loss, epochs=8))
    differences = towers - als
    error = np.std(differences) / np.sqrt(len(differences))
    assert np.mean(als) > 0.4 and abs(np.mean(differences)) < 3 * error


def test_the_penalty_of_a_candidate_is_scaled_by_its_row():
    model, batch = make_model(), a_batch()
    scale = jnp.arange(NUM_CANDIDATE_ROWS, dtype=jnp.float32)
    plain, scaled = (InBatchSoftmax(embedding_l2=0.5, candidate_l2_scale=factor) for factor in (None, scale))
    rows = batch.candidates.rows[batch.candidates.indices]
    norms = model.squared_norms(model.candidate(rows))
    difference = scaled(model, batch)[0] - plain(model, batch)[0]
    assert difference == pytest.approx(float(0.5 * jnp.sum(batch.weights * norms * (scale[rows] - 1))), rel=1e-3)
