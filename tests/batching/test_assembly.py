"""Batches hold every example once an epoch, in an order that a resumed run sees again, with repeated rows folded."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.batching.assembly import batch_bytes, batches, blocks, epoch_order, measure_capacity
from retrieval.batching.batch import Batch, Capacity, Distinct, Drawn
from retrieval.batching.folding import num_batches
from retrieval.data.encoding import Examples


def make_examples(query_rows, candidate_rows, weights=None):
    weights = np.ones(len(query_rows)) if weights is None else weights
    return Examples(
        np.asarray(query_rows, np.int32), np.asarray(candidate_rows, np.int32), np.asarray(weights, np.float32)
    )


def plain_batch(examples, indices, batch_size, num_queries, num_candidates):
    """Returns one batch, folded by `np.unique`."""
    filling = [(0, batch_size - len(indices))]
    distinct = []
    for rows, size in ((examples.query_rows, num_queries), (examples.candidate_rows, num_candidates)):
        found, inverse = np.unique(rows[indices], return_inverse=True)
        distinct.append(Distinct(np.pad(found, (0, size - len(found))), np.pad(inverse, filling)))
    shares = np.bincount(examples.candidate_rows)[distinct[1].rows] / len(examples.weights)
    probabilities = np.where(np.arange(num_candidates) < len(found), shares, 1.0).astype(np.float32)
    nothing = Drawn(np.zeros(0), np.zeros((batch_size, 0)), np.zeros(batch_size))
    real = np.arange(batch_size) < len(indices)
    return Batch(*distinct, np.pad(examples.weights[indices], filling), real, nothing, probabilities, {}, {})


def unfold(epoch):
    """Returns the examples of an epoch of batches in their order, each a tuple of its two rows and its weight."""
    query_rows = np.take_along_axis(epoch.queries.rows, epoch.queries.indices, axis=1)
    candidate_rows = np.take_along_axis(epoch.candidates.rows, epoch.candidates.indices, axis=1)
    columns = (query_rows, candidate_rows, epoch.weights)
    return list(zip(*(column[epoch.real].tolist() for column in columns), strict=True))


@pytest.mark.parametrize("n", [1, 2, 50])
def test_an_order_names_every_example_once(n):
    assert sorted(epoch_order(n, seed=0, epoch=0).tolist()) == list(range(n))


def test_an_order_depends_on_seed_and_epoch_alone():
    first = epoch_order(100, seed=3, epoch=5)
    epoch_order(100, seed=3, epoch=6)
    assert np.array_equal(epoch_order(100, seed=3, epoch=5), first)


def test_another_epoch_and_another_seed_have_another_order():
    orders = [epoch_order(100, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 70_000])
def test_an_order_is_the_permutation_of_numpy(n):
    order = epoch_order(n, seed=3, epoch=5)
    assert order.dtype == np.int32
    assert np.array_equal(order, np.random.default_rng((3, 5)).permutation(n))


def test_batches_follow_the_order():
    examples = make_examples([1, 2, 3, 1], [9, 8, 9, 7], [1, 2, 3, 4])
    epoch = batches(examples, np.array([2, 0, 3, 1]), 2)
    assert unfold(epoch) == [(3, 9, 3.0), (1, 9, 1.0), (1, 7, 4.0), (2, 8, 2.0)]


def test_a_batch_names_each_distinct_row_once():
    epoch = batches(make_examples([5, 5, 2, 5], [1, 3, 3, 3]), np.arange(4), 4)
    assert epoch.queries.rows[0, :2].tolist() == [2, 5] and epoch.queries.indices[0].tolist() == [1, 1, 0, 1]
    assert epoch.candidates.rows[0, :2].tolist() == [1, 3] and epoch.candidates.indices[0].tolist() == [0, 1, 1, 1]


def test_the_last_batch_takes_what_is_left_and_is_filled_up_without_weight():
    epoch = batches(make_examples([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]), np.arange(5), 3)
    assert num_batches(5, 3) == 2
    assert epoch.real.tolist() == [[True, True, True], [True, True, False]]
    assert epoch.weights.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_what_fills_up_the_last_batch_adds_no_distinct_row():
    epoch = batches(make_examples([1, 2, 3, 4, 5], [4, 4, 4, 4, 7]), np.arange(5), 4)
    assert epoch.queries.indices[1].tolist() == [0, 0, 0, 0]
    assert epoch.queries.rows[1].tolist() == [5, 0, 0, 0]
    assert epoch.candidates.rows[1].tolist() == [7, 0, 0, 0]


def test_an_example_of_weight_zero_is_a_real_one():
    assert batches(make_examples([1, 2], [1, 2], [0, 1]), np.arange(2), 2).real.all()


def test_one_batch_can_hold_all_examples():
    epoch = batches(make_examples([1, 2, 3], [3, 2, 1]), np.arange(3), 3)
    assert len(epoch.weights) == num_batches(3, 3) == 1
    assert unfold(epoch) == [(1, 3, 1.0), (2, 2, 1.0), (3, 1, 1.0)]


def test_distinct_rows_have_the_given_room():
    epoch = batches(make_examples([1, 2, 1, 2], [1, 2, 3, 3]), np.arange(4), 4, Capacity(2, 4, 4))
    assert epoch.queries.rows.tolist() == [[1, 2]]
    assert epoch.candidates.rows.tolist() == [[1, 2, 3, 0]]


def test_distinct_rows_that_overflow_the_given_room_are_all_there():
    epoch = batches(make_examples([1, 2, 3, 3], [1, 2, 3, 4]), np.arange(4), 4, Capacity(2, 9, 4))
    assert epoch.queries.rows[0, :3].tolist() == [1, 2, 3]
    assert epoch.candidates.rows.shape == (1, 9)


def test_later_epochs_of_many_examples_fit_into_the_room_of_the_first():
    rng = np.random.default_rng(0)
    examples = make_examples(rng.integers(1, 901, 20_000), rng.integers(1, 1201, 20_000))
    first = batches(examples, epoch_order(20_000, seed=0, epoch=0), 2048)
    room = first.queries.rows.shape[1], first.candidates.rows.shape[1]
    assert room[0] < 900 and room[1] < 1200
    for epoch in range(1, 6):
        later = batches(examples, epoch_order(20_000, seed=0, epoch=epoch), 2048, Capacity(*room, 2048))
        assert (later.queries.rows.shape[1], later.candidates.rows.shape[1]) == room


@settings(deadline=None, max_examples=100)
@given(
    pairs=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40)), min_size=1, max_size=40),
    batch_size=st.integers(1, 45),
    capacity=st.tuples(st.integers(0, 8), st.integers(0, 50)),
    seed=st.integers(0, 1000),
)
def test_places_lead_back_to_every_example_whatever_the_size_of_batch_and_room(pairs, batch_size, capacity, seed):
    examples = make_examples(*zip(*pairs, strict=True), weights=np.arange(len(pairs)))  # a weight names its example
    order = epoch_order(len(pairs), seed=seed, epoch=0)
    found = unfold(batches(examples, order, batch_size, Capacity(*capacity, batch_size)))
    assert found == [(*pairs[i], float(i)) for i in order]


def steps_of(stacked):
    return [
        Batch(*(jax.tree.map(lambda column, i=i: column[i], part) for part in stacked))
        for i in range(len(stacked.real))
    ]


def assert_equal(actual, desired):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert np.array_equal(a, b)


SKEWED = st.lists(st.tuples(st.integers(1, 5), st.one_of(st.just(3), st.integers(1, 60))), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(
    pairs=SKEWED,
    batch_size=st.integers(1, 62),
    capacity=st.tuples(st.integers(1, 8), st.integers(1, 62)),
    steps=st.integers(1, 70),
)
def test_blocks_hold_the_batches_of_the_plain_form_in_order_whatever_their_length(pairs, batch_size, capacity, steps):
    examples = make_examples(*zip(*pairs, strict=True), weights=np.arange(len(pairs)))
    order = epoch_order(len(pairs), seed=0, epoch=0)
    found = list(blocks(examples, order, batch_size, Capacity(*capacity, batch_size), steps))
    assert all(1 <= len(block.real) <= steps for block in found)
    batches_ = [batch for block in found for batch in steps_of(block)]
    assert len(batches_) == num_batches(len(pairs), batch_size)
    for i, batch in enumerate(batches_):
        indices = order[i * batch_size : (i + 1) * batch_size]
        numbers = [len(np.unique(rows[indices])) for rows in examples[:2]]
        sizes = [own if n <= own else batch_size for n, own in zip(numbers, capacity, strict=True)]
        assert_equal(batch, plain_batch(examples, indices, batch_size, *sizes))


@pytest.mark.parametrize(
    ("total", "steps", "lengths"), [(7, 3, [2, 2, 3]), (4, 3, [2, 2]), (6, 3, [3, 3]), (2, 9, [2])]
)
def test_blocks_are_of_equal_lengths_up_to_one(total, steps, lengths):
    examples = make_examples(np.ones(2 * total), np.ones(2 * total))
    found = blocks(examples, np.arange(2 * total), 2, Capacity(1, 1, 2), steps)
    assert [len(block.real) for block in found] == lengths


def test_a_batch_that_overflows_is_a_block_of_its_own():
    examples = make_examples([1, 1, 1, 1, 1, 2, 1, 1], np.ones(8))
    found = list(blocks(examples, np.arange(8), 2, Capacity(1, 1, 2), 4))
    assert [block.queries.rows.tolist() for block in found] == [[[1], [1]], [[1, 2]], [[1]]]
    assert [block.candidates.rows.shape for block in found] == [(2, 1), (1, 1), (1, 1)]


def test_the_room_is_that_of_the_fullest_of_the_first_batches_and_more():
    distinct = np.arange(1, 1001)
    examples = make_examples(
        np.tile(np.ones(1000), 70), np.concatenate([np.tile(distinct // 2, 64), np.tile(distinct, 6)])
    )
    assert measure_capacity(examples, np.arange(70_000), 1000) == (1 + 8, 501 + 501 // 20, 1000)


def test_the_room_never_exceeds_the_batch():
    assert measure_capacity(make_examples([1, 2, 3], [4, 4, 4]), np.arange(3), 3) == (3, 3, 3)


def test_the_bytes_of_a_batch_are_those_of_its_arrays():
    examples = make_examples(np.arange(9), np.ones(9))
    block = next(blocks(examples, np.arange(9), 5, Capacity(5, 2, 5), 2))
    assert sum(column.nbytes for column in jax.tree.leaves(block)) == 2 * batch_bytes(examples, 5, Capacity(5, 2, 5))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(1, 14), st.integers(1, 5), st.integers(0, 9))
def test_each_target_of_windows_is_an_example_once_and_its_place_is_where_it_stands(sizes, batch_size, steps, seed):
    random, n, length = np.random.default_rng(seed), len(sizes), 4
    is_target = np.arange(length) >= length - np.array(sizes)[:, None]
    targets = np.where(is_target, random.integers(1, 9, (n, length)), -1).astype(np.int32)
    weights = np.where(is_target, random.random((n, length)), 0).astype(np.float32)
    names = np.arange(n * length, dtype=np.float32).reshape(n, length)
    examples = Examples(np.arange(1, n + 1, dtype=np.int32), targets, weights, {"history": targets}, {"name": names})
    order = epoch_order(n, seed=seed, epoch=0)
    capacity = measure_capacity(examples, order, batch_size)
    found = list(blocks(examples, order, batch_size, capacity, steps))
    seen = []
    for batch in (batch for block in found for batch in steps_of(block)):
        assert len(batch.real) <= batch_size * length and not batch.weights[~batch.real].any()
        windows, indices = np.divmod(batch.queries.indices[batch.real], length)
        rows = batch.queries.rows[windows] - 1
        assert np.array_equal(batch.candidates.rows[batch.candidates.indices[batch.real]], targets[rows, indices])
        assert np.array_equal(batch.weights[batch.real], weights[rows, indices])
        assert np.array_equal(batch.context["history"][windows, indices], targets[rows, indices])
        assert np.array_equal(batch.labels["name"][batch.real], names[rows, indices])
        seen += batch.labels["name"][batch.real].tolist()
    assert sorted(seen) == names[is_target].tolist()
