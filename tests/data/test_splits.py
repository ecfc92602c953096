"""Splits cut interactions as their names say, lose nothing, and depend on nothing but their arguments."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.interactions import Interactions
from retrieval.data.splits import STRATEGIES, split


def numbered(query_ids, timestamps=None):
    """Returns events of the queries whose candidates are their numbers in file order."""
    return Interactions(query_ids, list(range(len(query_ids))), timestamps=timestamps)


def cut(interactions, strategy, *, test=0.2, validation=0.0, seed=42):
    return split(interactions, strategy, test_fraction=test, validation_fraction=validation, seed=seed)


def numbers(part):
    return None if part is None else part.candidate_ids.tolist()


def test_a_random_split_takes_the_first_of_a_permutation_for_train():
    parts = cut(numbered([0] * 50), "random", seed=7)
    order = np.random.default_rng(7).permutation(50).tolist()
    assert numbers(parts.train) == order[:40]
    assert numbers(parts.test) == order[40:]
    assert parts.validation is None


def test_the_random_validation_part_is_cut_from_train_with_the_next_seed():
    parts = cut(numbered([0] * 50), "random", validation=0.1, seed=7)
    train = np.random.default_rng(7).permutation(50)[:40]
    order = np.random.default_rng(8).permutation(40)
    assert numbers(parts.train) == train[order[:36]].tolist()
    assert numbers(parts.validation) == train[order[36:]].tolist()
    assert numbers(parts.test) == numbers(cut(numbered([0] * 50), "random", seed=7).test)


def test_the_last_events_in_time_are_test_and_those_before_validation():
    times = [50, 10, 40, 90, 20, 30, 80, 70, 60, 0]
    parts = cut(numbered([0] * 10, times), "temporal", test=0.3, validation=0.3)
    assert numbers(parts.train) == [9, 1, 4, 5, 2]
    assert numbers(parts.validation) == [0, 8]
    assert numbers(parts.test) == [7, 6, 3]


def test_equal_times_stay_in_file_order():
    times = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
    parts = cut(numbered([0] * 10, times), "temporal", test=0.3)
    assert numbers(parts.train) + numbers(parts.test) == [1, 4, 7, 0, 2, 3, 5, 6, 8, 9]


def test_a_query_gives_its_last_event_to_test_and_the_last_but_one_to_validation():
    #                          0    1    2    3    4    5
    parts = cut(numbered(["c", "a", "c", "b", "b", "c"]), "leave_last_out", validation=0.5)
    assert numbers(parts.test) == [4, 5]  # of b and c; the only event of a stays in train
    assert numbers(parts.validation) == [2]  # of c: b has but one event left
    assert numbers(parts.train) == [0, 1, 3]


def test_the_last_event_is_the_one_with_the_latest_timestamp():
    times = [30, 1, 10, 99, 98, 20]
    parts = cut(numbered(["c", "a", "c", "b", "b", "c"], times), "leave_last_out", validation=0.5)
    assert numbers(parts.test) == [0, 3]
    assert numbers(parts.validation) == [5]
    assert numbers(parts.train) == [1, 2, 4]


def test_of_equal_latest_timestamps_the_last_in_file_order_is_last():
    parts = cut(numbered([1, 1, 1, 1], [5, 9, 9, 2]), "leave_last_out", validation=0.5)
    assert (numbers(parts.test), numbers(parts.validation)) == ([2], [1])


@pytest.mark.parametrize("test_fraction", [0.01, 0.9])
def test_the_fractions_do_not_size_the_parts_of_leave_last_out(test_fraction):
    parts = cut(numbered([0, 0, 1, 1, 1]), "leave_last_out", test=test_fraction)
    assert numbers(parts.test) == [1, 4]
    assert parts.validation is None


def test_cold_candidates_are_the_last_of_a_permutation_with_all_their_events():
    candidates = [30, 10, 20, 10, 50, 40, 30, 10]
    interactions = Interactions(list(range(8)), candidates)
    parts = cut(interactions, "cold_candidates", test=0.4, validation=0.34, seed=7)
    ids = np.array([10, 20, 30, 40, 50])[np.random.default_rng(7).permutation(5)]
    rest = np.sort(ids[:3])[np.random.default_rng(8).permutation(3)]
    for part, expected in ((parts.test, ids[3:]), (parts.validation, rest[2:]), (parts.train, rest[:2])):
        assert part.query_ids.tolist() == [i for i, c in enumerate(candidates) if c in expected]  # in file order


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1), st.integers(0, 99), st.randoms())
def test_no_part_knows_the_candidates_of_the_next_whatever_the_order_of_events(pairs, seed, random):
    pairs += [(0, candidate) for candidate in range(6)]
    queries, candidates = zip(*pairs, strict=True)
    parts = cut(Interactions(list(queries), list(candidates)), "cold_candidates", test=0.3, validation=0.3, seed=seed)
    known = [set(part.candidate_ids.tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert list(map(len, known)) == [3, 1, 2] and len(set.union(*known)) == 6
    queries, candidates = zip(*random.sample(pairs, len(pairs)), strict=True)
    again = cut(Interactions(list(queries), list(candidates)), "cold_candidates", test=0.3, validation=0.3, seed=seed)
    assert set(again.test.candidate_ids.tolist()) == known[2]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("validation", [0.0, 0.4])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_event_is_in_exactly_one_part(strategy, validation, data):
    queries = [0, 0, 0] + data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=20))
    interactions = Interactions(
        queries,
        [0, 1, 2] + data.draw(st.lists(st.integers(0, 2), min_size=len(queries) - 3, max_size=len(queries) - 3)),
        timestamps=data.draw(st.lists(st.integers(0, 3), min_size=len(queries), max_size=len(queries))),
    )
    parts = cut(interactions, strategy, test=0.3, validation=validation, seed=data.draw(st.integers(0, 99)))
    present = [part for part in (parts.train, parts.validation, parts.test) if part is not None]
    assert len(present) == (3 if validation else 2)
    assert sum((events(part) for part in present), Counter()) == events(interactions)
    assert events(parts.all()) == events(interactions)
    assert events(parts.train_and_validation()) + events(parts.test) == events(interactions)


def events(interactions):
    return Counter(zip(*(column.tolist() for column in interactions.columns().values()), strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_split_repeats_itself_and_leaves_its_input_alone(strategy):
    interactions = numbered([0, 1, 0, 1, 0, 1, 0, 0], [5, 3, 8, 1, 2, 9, 4, 4])
    before = interactions.fingerprint()
    first, second = (cut(interactions, strategy, validation=0.3) for _ in range(2))
    assert interactions.fingerprint() == before
    for name in ("train", "validation", "test"):
        assert getattr(first, name).fingerprint() == getattr(second, name).fingerprint()


@pytest.mark.parametrize("strategy", ["random", "cold_candidates"])
def test_another_seed_gives_another_split(strategy):
    tests = {tuple(numbers(cut(numbered([0] * 50), strategy, seed=seed).test)) for seed in range(5)}
    assert len(tests) == 5


def test_without_a_validation_part_the_last_fit_takes_train():
    parts = cut(numbered([0] * 10), "random")
    assert parts.train_and_validation() is parts.train


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_test_fraction_outside_its_interval_is_named(fraction):
    with pytest.raises(ValueError, match=rf"test_fraction must be in \(0, 1\), got {fraction}"):
        cut(numbered([0] * 10), "random", test=float(fraction))


@pytest.mark.parametrize("fraction", [1, -0.1, float("nan")])
def test_a_validation_fraction_outside_its_interval_is_named(fraction):
    with pytest.raises(ValueError, match=rf"validation_fraction must be in \[0, 1\), got {fraction}"):
        cut(numbered([0] * 10), "random", validation=float(fraction))


def test_an_unknown_strategy_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match="one of 'random', 'temporal', .*'cold_candidates', got 'by_time'"):
        cut(numbered([0] * 10), "by_time")


def test_a_temporal_split_needs_timestamps():
    with pytest.raises(ValueError, match="a temporal split needs timestamps, and the interactions have none"):
        cut(numbered([0] * 10), "temporal")


@pytest.mark.parametrize(
    ("queries", "strategy", "fractions", "empty"),
    [
        ([0] * 3, "random", {"test": 0.9}, "train"),
        ([0] * 3, "random", {"test": 0.1}, "test"),
        ([0] * 4, "random", {"test": 0.3, "validation": 0.1}, "validation"),
        ([], "random", {}, "train"),
        ([0, 1, 2], "leave_last_out", {}, "test"),
        ([0, 0, 1, 1], "leave_last_out", {"validation": 0.1}, "validation"),
        ([], "leave_last_out", {}, "train"),
        ([0] * 4, "cold_candidates", {"test": 0.1}, "test"),
        ([0] * 4, "cold_candidates", {"test": 0.3, "validation": 0.1}, "validation"),
        ([], "cold_candidates", {}, "train"),
    ],
)
def test_an_empty_part_is_refused(queries, strategy, fractions, empty):
    with pytest.raises(ValueError, match=f"the {empty} part of the {strategy} split is empty") as error:
        cut(numbered(queries), strategy, **fractions)
    assert f"{len(queries)} interactions" in str(error.value)
