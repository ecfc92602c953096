"""An evaluation that asks for what training has seen fails, and says so."""

import numpy as np
import pytest

from retrieval.data import leakage
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.splits import Parts, split


def events(pairs, timestamps=None):
    queries, candidates = zip(*pairs, strict=True)
    return Interactions(list(queries), list(candidates), timestamps=timestamps)


TRAIN, VALIDATION, TEST = [(1, 10), (1, 11), (2, 10)], [(2, 11)], [(1, 12), (3, 10)]


def test_sound_parts_pass():
    parts = Parts(events(TRAIN, [1, 2, 3]), events(VALIDATION, [3]), events(TEST, [4, 5]))
    assert leakage.check_parts(parts, temporal=True) == 0


@pytest.mark.parametrize("names", [("train", "test"), ("validation", "test"), ("train", "validation")])
def test_a_pair_in_two_parts_is_refused_by_name(names):
    pairs = {"train": list(TRAIN), "validation": list(VALIDATION), "test": list(TEST)}
    pairs[names[1]].append(pairs[names[0]][-1])
    query, candidate = pairs[names[0]][-1]
    message = (
        f"1 interactions of {names[0]} are in {names[1]} too, the first of query {query} with candidate {candidate}"
    )
    with pytest.raises(leakage.LeakageError, match=message):
        leakage.check_parts(Parts(**{name: events(of) for name, of in pairs.items()}))


def test_repeats_that_are_meant_are_counted():
    parts = Parts(events([*TRAIN, (1, 12), (1, 12)]), None, events(TEST))
    assert leakage.check_parts(parts, repeats=True) == 2


def test_repeats_of_train_in_validation_may_be_meant_and_are_not_those_of_test():
    parts = Parts(events(TRAIN), events([*VALIDATION, TRAIN[0], TRAIN[1]]), events([*TEST, VALIDATION[0]]))
    assert leakage.check_parts(parts, repeats=True) == 1


def test_pairs_of_many_candidates_are_told_apart():
    many = 2**16 + 1
    test = Interactions([*[0] * many, 1], [*range(many), 5])
    assert leakage.check_parts(Parts(events([(1, 0), (1, 1)]), None, test)) == 0


def test_training_after_the_test_part_is_refused_in_a_temporal_split():
    parts = Parts(events(TRAIN, [1, 2, 9]), None, events(TEST, [4, 10]))
    assert leakage.check_parts(parts) == 0
    with pytest.raises(leakage.LeakageError, match="train has an interaction at 9, after the first of test at 4"):
        leakage.check_parts(parts, temporal=True)


def test_a_temporal_split_that_cannot_be_checked_is_refused():
    parts = Parts(events(TRAIN), None, events(TEST, [4, 10]))
    with pytest.raises(leakage.LeakageError, match="train or test has no timestamps"):
        leakage.check_parts(parts, temporal=True)


def test_text_ids_and_parts_without_anything_in_common_pass():
    parts = Parts(events([("a", "x")]), None, events([("b", "y")]))
    assert leakage.check_parts(parts) == 0


@pytest.mark.parametrize("strategy", ["random", "temporal", "leave_last_out", "cold_candidates"])
def test_our_own_splits_pass(strategy):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 30, (400, 2)), axis=0)
    whole = Interactions(pairs[:, 0], pairs[:, 1], timestamps=rng.integers(0, 50, len(pairs)))
    parts = split(whole, strategy, test_fraction=0.2, validation_fraction=0.2, seed=0)
    of_strategy = {name: strategy == name for name in ("temporal", "cold_candidates")}
    assert leakage.check_parts(parts, **of_strategy) == 0


@pytest.mark.parametrize("names", [("train", "test"), ("validation", "test"), ("train", "validation")])
def test_a_cold_candidate_that_is_known_before_is_refused_by_name(names):
    pairs = {"train": [(1, 10), (1, 11)], "validation": [(2, 12)], "test": [(1, 13), (2, 14)]}
    leakage.check_parts(Parts(**{name: events(of) for name, of in pairs.items()}), cold_candidates=True)
    pairs[names[0]].append((3, pairs[names[1]][0][1]))  # of another query: no pair is in two parts
    parts = Parts(**{name: events(of) for name, of in pairs.items()})
    assert leakage.check_parts(parts) == 0
    message = f"1 candidates of {names[1]} are in {names[0]} too, the first {pairs[names[1]][0][1]}"
    with pytest.raises(leakage.LeakageError, match=message):
        leakage.check_parts(parts, cold_candidates=True)


def encoded(known):
    train = events(TRAIN)
    encoding = Encoding.fit(known, Table([10, 11, 12]))
    return encoding, encoding.counts(encoding.examples(train)), train


def test_a_vocabulary_that_saw_test_is_refused_unless_it_is_meant():
    encoding, counts, train = encoded(events(TRAIN + TEST))
    with pytest.raises(leakage.LeakageError, match="1 query ids that are not in train, the first 3"):
        leakage.check_encoding(encoding, counts, train)
    leakage.check_encoding(encoding, counts, train, any_vocabulary=True)


def test_counts_that_saw_test_are_refused():
    encoding, counts, train = encoded(events(TRAIN))
    leakage.check_encoding(encoding, counts, train)
    counts[1] += 1
    with pytest.raises(leakage.LeakageError, match="row 1 of the candidates is counted 3 times, but occurs 2 times"):
        leakage.check_encoding(encoding, counts, train)
