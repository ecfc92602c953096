"""The trivial loss of every objective, by which heads are scaled, is that of a dense simulation."""

import jax
import numpy as np
import pytest

from retrieval.batching.assembly import batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.data.popularity import log_prior
from retrieval.objectives import OBJECTIVES, TrainingRows

NUM_QUERIES, NUM_CANDIDATES, BATCH_SIZE = 40, 200, 64  # rows, the unknown one included
RNG = np.random.default_rng(0)
SHARES = 1 / np.arange(1, NUM_CANDIDATES)
CANDIDATES = np.concatenate(
    [np.arange(1, NUM_CANDIDATES), RNG.choice(NUM_CANDIDATES - 1, 1081, p=SHARES / SHARES.sum()) + 1]
)
PAIRS = Examples(
    RNG.integers(1, NUM_QUERIES, 1280).astype(np.int32),
    RNG.permutation(CANDIDATES).astype(np.int32),
    RNG.uniform(0.5, 1.5, 1280).astype(np.float32),
)
COUNTS = np.bincount(PAIRS.candidate_rows, minlength=NUM_CANDIDATES).astype(np.float32)
DISLIKED = Lists.from_sequences([RNG.integers(1, NUM_CANDIDATES, 5) for _ in range(NUM_QUERIES)])
OPTIONS = {
    "temperature": (1.0, 0.25),
    "log_q": (True, False),
    "remove_accidental_hits": (True, False),
    "remove_known_positives": (False, True),
    "num_hard_negatives": (0, 5),
    "unobserved_weight": (0.1,),
    "margin": (0.5, -0.5),
    "negative_weight": (3.0,),
}


def cases():
    """Yields each objective with its first options, and with each of the others in turn."""
    for name, objective in OBJECTIVES.items():
        first = {option: OPTIONS[option][0] for option in objective.options}
        yield name, first
        for option in objective.options:
            for value in OPTIONS[option][1:]:
                yield name, first | {option: value}


def dense(name, options, scores, batch):
    """Returns the mean loss of scores [N] that are equal for all queries, one example and one column at a time."""
    queries, candidates = batch.queries.rows[batch.queries.indices], batch.candidates.rows[batch.candidates.indices]
    probabilities = dict(zip(batch.candidates.rows.tolist(), batch.probabilities.tolist(), strict=True))
    shared = batch.candidates.rows[batch.negatives.shared]
    known = {(q, c) for q, c in zip(PAIRS.query_rows.tolist(), PAIRS.candidate_rows.tolist(), strict=True)}
    known = known if options.get("remove_known_positives") else set()
    losses = []
    for i, (query, row) in enumerate(zip(queries.tolist(), candidates.tolist(), strict=True)):
        others = [*np.delete(candidates, i).tolist(), *shared.tolist()]
        if name in ("bpr", "cosine_contrastive"):
            others = [c for c in (shared if len(shared) else np.delete(candidates, i)).tolist() if c != row]
        if name in ("full_softmax", "implicit_squared"):
            others = [c for c in range(1, NUM_CANDIDATES) if c != row]
        if options.get("remove_accidental_hits"):
            others = [c for c in others if c != row]
        others = [c for c in others if (query, c) not in known or c == row]
        positive, negatives = scores[row], scores[others]
        if name == "bpr":
            losses.append(np.mean(np.log1p(np.exp(negatives - positive))))
        elif name == "cosine_contrastive":
            hinges = np.maximum(0, negatives - options["margin"])
            losses.append(1 - positive + options["negative_weight"] * np.mean(hinges))
        elif name == "implicit_squared":
            all_squares = np.sum(scores[1:] ** 2) / np.sum(PAIRS.weights[PAIRS.query_rows == query])
            losses.append((positive - 1) ** 2 + options["unobserved_weight"] * all_squares)
        else:
            logits = np.concatenate([[positive], negatives]) / options["temperature"]
            if options.get("log_q"):
                logits -= np.log([probabilities[c] for c in (row, *others)])
            if options.get("num_hard_negatives"):
                logits = np.concatenate([logits[:1], -np.sort(-logits[1:])[: options["num_hard_negatives"]]])
            losses.append(np.log(np.sum(np.exp(logits))) - logits[0])
    return np.sum(batch.weights * losses) / np.sum(batch.weights)


@pytest.mark.parametrize("negatives", [{}, {"uniform": 30, "popular": 20}])
@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_the_trivial_loss_is_that_of_a_dense_simulation(name, options, negatives):
    rows = TrainingRows(PAIRS, PAIRS, NUM_QUERIES, NUM_CANDIDATES)
    objective = OBJECTIVES[name].create(rows, **options)
    prior = log_prior(COUNTS)
    order = np.arange(2 * BATCH_SIZE)
    stacked = batches(PAIRS, order, BATCH_SIZE, sampler=Sampler(Negatives(COUNTS, **negatives)))
    scores = np.asarray(objective.trivial_scores(prior), np.float64)
    parts = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), stacked) for i in range(2)]
    weights = [np.sum(part.weights) for part in parts]
    expected = np.average([dense(name, options, scores, part) for part in parts], weights=weights)
    assert objective.trivial_loss(stacked, prior) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("full_softmax", {"temperature": 0.25}, "entropy"),
        ("in_batch_softmax", {"temperature": 0.25, "log_q": True}, "columns"),
        ("in_batch_softmax", {"log_q": False}, "columns"),
        ("implicit_squared", {"unobserved_weight": 0.1}, 1.0),
        ("cosine_contrastive", {"margin": -0.5, "negative_weight": 4.0}, 3.0),  # 1 + 4 * max(0, 0 + 0.5)
        ("bpr", {}, np.log(2)),
    ],
)
def test_the_trivial_loss_is_that_of_the_best_scores_that_know_popularity_alone(name, options, expected):
    shares = COUNTS / COUNTS.sum()
    if expected == "entropy":
        expected = -np.sum(shares[1:] * np.log(shares[1:]))
    elif expected == "columns":  # equal logits in all columns
        expected = np.log(BATCH_SIZE)
    objective = OBJECTIVES[name].create(TrainingRows(PAIRS, PAIRS, NUM_QUERIES, NUM_CANDIDATES), **options)
    stacked = batches(PAIRS, np.arange(1280), BATCH_SIZE)
    found = objective.trivial_loss(stacked, log_prior(COUNTS))
    assert found == pytest.approx(expected, rel=0.03)


def test_negatives_that_a_query_disliked_count_in_the_trivial_loss():
    rows = TrainingRows(PAIRS, PAIRS, NUM_QUERIES, NUM_CANDIDATES)
    objective = OBJECTIVES["in_batch_softmax"].create(rows, log_q=True)
    without, with_dislikes = (
        objective.trivial_loss(batches(PAIRS, np.arange(64), 64, sampler=Sampler(negatives)), log_prior(COUNTS))
        for negatives in (Negatives(COUNTS), Negatives(COUNTS, dislikes=2, disliked=DISLIKED))
    )
    assert with_dislikes > without


def test_a_small_last_batch_weighs_as_much_as_its_examples():
    rows = TrainingRows(PAIRS, PAIRS, NUM_QUERIES, NUM_CANDIDATES)
    objective = OBJECTIVES["in_batch_softmax"].create(rows, log_q=True)

    def loss(order):
        return objective.trivial_loss(batches(PAIRS, order, 64), log_prior(COUNTS))

    first, last = np.arange(64), np.arange(64, 70)
    expected = np.average([loss(first), loss(last)], weights=[PAIRS.weights[part].sum() for part in (first, last)])
    assert loss(np.arange(70)) == pytest.approx(expected, rel=1e-5) and loss(first) > loss(last) + 1
