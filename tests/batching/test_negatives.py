"""Negatives beyond the batch: what is drawn, how often, and that the correction for it is right."""

import jax
import numpy as np
import pytest

from retrieval.batching.assembly import batches, blocks, epoch_order
from retrieval.batching.batch import NO_ROW, Capacity
from retrieval.batching.device import device_blocks
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.batching.stream_frequencies import StreamFrequencies
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples

COUNTS = np.array([0, 40, 0, 10, 30, 15, 5], np.float32)
RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(1, 5, 100).astype(np.int32),
    RNG.permutation(np.repeat(np.arange(7), COUNTS.astype(int))).astype(np.int32),
    np.ones(100, np.float32),
)
DISLIKED = Lists.from_sequences([[], [3, 5], [], [1], [6, 2, 4]])


def rows_of(batch, indices):
    """Returns the candidate rows at indices of a batch; -1 stays."""
    return np.where(indices < 0, NO_ROW, batch.candidates.rows[np.maximum(indices, 0)])


def epoch_of(negatives, epoch=0, batch_size=10, seed=0, **options):
    order = epoch_order(100, seed=seed, epoch=epoch)
    found = batches(EXAMPLES, order, batch_size, sampler=Sampler(negatives, seed, epoch, **options))
    return order, [jax.tree.map(lambda column, i=i: column[i], found) for i in range(len(found.real))]


def test_draws_follow_their_distributions_and_never_name_a_candidate_without_a_count():
    def share(**options):
        negatives = Negatives(COUNTS, **options)
        drawn = [negatives.draw(np.random.default_rng(step)) for step in range(400)]
        return np.bincount(np.concatenate(drawn), minlength=7) / (400 * 50)

    near = {"abs": 5 * np.sqrt(0.25 / (400 * 50))}  # five standard errors
    assert share(uniform=50) == pytest.approx([0, 0.2, 0, 0.2, 0.2, 0.2, 0.2], **near)
    assert share(popular=50, power=1.0) == pytest.approx(COUNTS / 100, **near)
    powers = np.where(COUNTS > 0, COUNTS**0.5, 0)
    assert share(popular=50, power=0.5) == pytest.approx(powers / powers.sum(), **near)
    assert share(popular=50, power=0.0) == pytest.approx([0, 0.2, 0, 0.2, 0.2, 0.2, 0.2], **near)


@pytest.mark.parametrize("options", [{}, {"uniform": 7}, {"popular": 9, "power": 0.5}, {"uniform": 4, "queue": 15}])
def test_probabilities_are_the_mean_shares_of_the_columns_that_are_really_drawn(options):
    negatives = Negatives(COUNTS, **options)
    held, expected = np.zeros(7), np.zeros(7)
    for epoch in range(200):
        _, found = epoch_of(negatives, epoch)
        for batch in found:
            shared = rows_of(batch, batch.negatives.shared)
            columns = np.concatenate([batch.candidates.rows[batch.candidates.indices], shared[shared != NO_ROW]])
            held += np.bincount(columns, minlength=7)
            every = np.arange(7)
            num_random = negatives.uniform + negatives.popular
            expected += len(columns) * negatives.probabilities(every, negatives.frequencies, len(columns) - num_random)
            distinct = batch.candidates.rows[: len(np.unique(columns))]
            probabilities = negatives.probabilities(
                distinct, negatives.frequencies[distinct], len(columns) - num_random
            )
            assert np.array_equal(batch.probabilities[: len(distinct)], probabilities)
    assert held == pytest.approx(expected, rel=0.02, abs=1)


def test_the_corrected_columns_of_a_mixture_sum_to_the_sum_over_the_corpus():
    negatives = Negatives(COUNTS, uniform=5, popular=5, power=0.5)
    odds = np.array([0.0, 1.0, 0.0, 2.0, 4.0, 8.0, 16.0])  # exp(score)
    sums = []
    for epoch in range(300):
        for batch in epoch_of(negatives, epoch)[1]:
            probability = dict(zip(batch.candidates.rows.tolist(), batch.probabilities.tolist(), strict=True))
            columns = [*batch.candidates.rows[batch.candidates.indices], *rows_of(batch, batch.negatives.shared)]
            sums.append(np.mean([odds[row] / probability[row] for row in columns]))
    assert np.mean(sums) == pytest.approx(odds.sum(), rel=0.02)


def test_a_smaller_last_batch_has_the_shares_of_its_own_columns():
    _, found = epoch_of(Negatives(COUNTS, uniform=30), batch_size=70)
    row = found[1].candidates.rows.tolist().index(1)
    assert found[1].real.sum() == 30
    assert found[1].probabilities[row] == pytest.approx((30 * 0.4 + 30 * 0.2) / 60)


def test_the_queue_holds_the_positives_right_before_the_batch_and_starts_empty():
    negatives = Negatives(COUNTS, queue=15)
    order, found = epoch_of(negatives)
    assert rows_of(found[0], found[0].negatives.shared).tolist() == [NO_ROW] * 15
    first = EXAMPLES.candidate_rows[order[:10]].tolist()
    assert rows_of(found[1], found[1].negatives.shared).tolist() == [NO_ROW] * 5 + first
    assert rows_of(found[4], found[4].negatives.shared).tolist() == EXAMPLES.candidate_rows[order[25:40]].tolist()


def test_the_queue_goes_on_from_the_epoch_before():
    before = epoch_order(100, seed=0, epoch=0)[-15:]
    order, found = epoch_of(Negatives(COUNTS, queue=15), epoch=1, before=before)
    expected = np.concatenate([EXAMPLES.candidate_rows[before[10:]], EXAMPLES.candidate_rows[order[:10]]])
    assert rows_of(found[0], found[0].negatives.shared).tolist() == EXAMPLES.candidate_rows[before].tolist()
    assert rows_of(found[1], found[1].negatives.shared).tolist() == expected.tolist()


@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("num_before", range(5))
def test_the_queue_is_the_end_of_all_that_came_before(start, num_before):
    before, order = np.arange(100, 100 + num_before), np.arange(5)
    sampler = Sampler(Negatives(COUNTS, queue=3), before=before)
    came = [*before.tolist(), *order[:start].tolist()]
    assert sampler.queue(order, start).tolist() == came[-3:]


def test_each_example_draws_from_what_its_own_query_disliked():
    negatives = Negatives(COUNTS, disliked=DISLIKED, dislikes=3)
    seen = {query: set() for query in range(1, 5)}
    for epoch in range(20):
        for batch in epoch_of(negatives, epoch)[1]:
            queries = batch.queries.rows[batch.queries.indices]
            numbers, own = batch.negatives.num_disliked.tolist(), rows_of(batch, batch.negatives.own)
            for query, number, rows in zip(queries.tolist(), numbers, own, strict=True):
                assert number == len(DISLIKED[query])
                seen[query] |= set(rows.tolist())
    assert seen == {1: {3, 5}, 2: {NO_ROW}, 3: {1}, 4: {2, 4, 6}}


def test_what_fills_up_the_last_batch_draws_nothing():
    _, found = epoch_of(Negatives(COUNTS, disliked=Lists.from_sequences([[1]] * 5), dislikes=2), batch_size=70)
    assert np.all(found[1].negatives.own[30:] == NO_ROW) and np.all(found[1].negatives.own[:30] != NO_ROW)
    assert np.all(found[1].negatives.num_disliked == np.where(found[1].real, 1, 0))


@pytest.mark.parametrize("estimated", [False, True])
def test_negatives_are_the_same_in_blocks_and_wherever_a_run_starts(estimated):
    negatives = Negatives(COUNTS, 3, 4, queue=12, disliked=DISLIKED, dislikes=2, estimated=estimated)

    def steps(first, placement):
        found = device_blocks(
            EXAMPLES, batch_size=10, epochs=range(first, 3), seed=0, placement=placement, negatives=negatives
        )
        return [
            jax.tree.map(lambda column, i=i: np.asarray(column[i]), block)
            for block in found
            for i in range(len(block.real))
        ]

    whole = steps(0, "device")
    for found, expected in ((steps(0, "stream"), whole), (steps(2, "device"), whole[20:])):
        assert len(found) == len(expected)
        for actual, desired in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert np.array_equal(actual, desired)


def test_blocks_draw_what_batches_draw():
    sampler = Sampler(Negatives(COUNTS, 3, queue=12, disliked=DISLIKED, dislikes=2), seed=4, epoch=2)
    order = epoch_order(100, seed=4, epoch=2)
    whole = batches(EXAMPLES, order, 10, Capacity(5, 30, 10), sampler)
    pieces = list(blocks(EXAMPLES, order, 10, Capacity(5, 30, 10), 3, sampler))
    joined = jax.tree.map(lambda *columns: np.concatenate(columns), *pieces)
    assert jax.tree.all(jax.tree.map(np.array_equal, joined, whole))


@pytest.mark.parametrize("name", ["uniform", "popular", "queue", "dislikes"])
def test_numbers_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be 0 or more, got -1"):
        Negatives(COUNTS, **{name: -1})


def test_dislikes_without_knowing_them_are_refused():
    with pytest.raises(ValueError, match="dislikes is 1, and disliked is None"):
        Negatives(COUNTS, dislikes=1)


def stream(shares, batch_size, num_batches, estimate=None, seed=0):
    rng = np.random.default_rng(seed)
    estimate = estimate or StreamFrequencies(len(shares))
    for _ in range(num_batches):
        rows = rng.choice(len(shares), batch_size, p=shares)
        estimate.update(*np.unique(rows, return_counts=True), batch_size)
    return estimate


def test_frequencies_of_a_stream_approach_the_shares_of_rare_and_of_frequent_candidates():
    shares = np.array([0.5, 0.3, 0.15, 0.04, 0.01])
    estimates = [stream(shares, 64, 2000, seed=seed).frequencies(np.arange(5)) for seed in range(5)]
    assert np.mean(estimates, axis=0) == pytest.approx(shares, rel=0.15)


def test_frequencies_follow_a_stream_that_changes():
    before, after = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    changed = stream(after, 8, 500, stream(before, 8, 500)).frequencies(np.arange(2))
    assert changed == pytest.approx(after, rel=0.3)


def test_an_interval_is_counted_in_examples_from_the_occurrence_before():
    estimate = StreamFrequencies(3)
    estimate.update(np.array([1]), np.array([1]), 10)
    assert estimate.frequencies(np.array([1, 2])).tolist() == [0.1, 0.0]  # once in 10
    estimate.update(np.array([1]), np.array([3]), 30)
    # the next interval was 10, three times; the newest of n occurrences weighs 1 / n while that is above the rate
    assert estimate.frequencies(np.array([1]))[0] == pytest.approx(0.1)


@pytest.mark.parametrize("estimated", [False, True])
def test_a_candidate_that_train_does_not_know_has_the_probability_of_the_unknown_one(estimated):
    counts = COUNTS + np.eye(7, dtype=np.float32)[0]
    sampler = Sampler(Negatives(counts, uniform=3, popular=2, estimated=estimated))
    known, other = (sampler.probabilities(rows, rows, rows[:0])[1:] for rows in (np.array([1, 0]), np.array([1, 9])))
    assert known == other if not estimated else other > 0


def test_an_estimate_takes_the_place_of_the_counts():
    negatives = Negatives(COUNTS, estimated=True)
    estimate = StreamFrequencies(7)
    _, found = epoch_of(negatives, estimate=estimate)
    last = found[-1]
    rows = last.candidates.rows[: len(np.unique(last.candidates.indices))]
    assert last.probabilities[: len(rows)] == pytest.approx(estimate.frequencies(rows), rel=1e-6)
    assert not np.allclose(last.probabilities[: len(rows)], COUNTS[rows] / 100, rtol=1e-3)
