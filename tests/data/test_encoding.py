"""Raw interactions become rows of the training part's vocabularies and positions in the whole corpus."""

import numpy as np
import pytest

from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table

# The corpus stands in an order of its own; 25 is in no training event, 5 in none at all.
CORPUS = Table([30, 5, 10, 25, 20])
TRAIN = Interactions(["b", "a", "b", "c"], [30, 10, 20, 10])
HELD_OUT = Interactions(["z", "b", "a", "b", "a"], [25, 25, 30, 10, 5])


@pytest.fixture
def encoding():
    return Encoding.fit(TRAIN, CORPUS)


def contents(lists):
    return [lists[i].tolist() for i in range(len(lists))]


def test_rows_are_given_to_the_ids_of_the_training_part_alone(encoding):
    assert encoding.queries.ids.tolist() == ["a", "b", "c"]
    assert encoding.candidates.ids.tolist() == [10, 20, 30]


def test_candidates_unknown_in_train_stay_in_the_corpus_with_row_zero(encoding):
    assert encoding.corpus.ids.tolist() == [30, 5, 10, 25, 20]
    assert encoding.corpus_rows.tolist() == [3, 0, 1, 0, 2]


def test_examples_are_pairs_of_rows_of_weight_one(encoding):
    examples = encoding.examples(TRAIN)
    assert examples.query_rows.tolist() == [2, 1, 2, 3]
    assert examples.candidate_rows.tolist() == [3, 1, 2, 1]
    assert examples.weights.tolist() == [1, 1, 1, 1]


def test_examples_of_unknown_ids_have_row_zero(encoding):
    examples = encoding.examples(HELD_OUT)
    assert examples.query_rows.tolist() == [0, 2, 1, 2, 1]
    assert examples.candidate_rows.tolist() == [0, 0, 3, 1, 0]


def test_counts_are_occurrences_by_candidate_row(encoding):
    assert encoding.counts(encoding.examples(TRAIN)).tolist() == [0, 2, 1, 1]
    assert encoding.counts(encoding.examples(TRAIN.take(slice(1, 2)))).tolist() == [0, 1, 0, 0]


def test_positions_are_places_in_the_corpus(encoding):
    assert encoding.positions(np.array([10, 25, 30])).tolist() == [2, 3, 0]


def test_a_candidate_outside_the_corpus_is_named(encoding):
    with pytest.raises(ValueError, match="candidate id 99 is not in the corpus"):
        encoding.positions(np.array([10, 99, 98]))


def test_each_held_out_query_asks_once_for_all_its_candidates(encoding):
    targets = encoding.targets(HELD_OUT, None)
    assert targets.query_ids.tolist() == ["a", "b", "z"]
    assert targets.query_rows.tolist() == [1, 2, 0]
    assert contents(targets.relevant) == [[0, 1], [3, 2], [3]]
    assert targets.seen is None


def test_seen_is_what_each_held_out_query_has_in_train(encoding):
    assert contents(encoding.targets(HELD_OUT, TRAIN).seen) == [[2], [0, 4], []]


def test_a_held_out_candidate_outside_the_corpus_is_named(encoding):
    with pytest.raises(ValueError, match="candidate id 11 is not in the corpus"):
        encoding.targets(Interactions(["a"], [11]), None)


def test_seen_by_row_has_a_list_for_every_row_and_none_for_the_unknown(encoding):
    both = Interactions(["b", "z", "a", "b"], [30, 5, 5, 25])
    assert contents(encoding.seen_by_row(both)) == [[], [1], [0, 3], []]


def test_events_of_unknown_queries_may_name_candidates_outside_the_corpus(encoding):
    assert contents(encoding.seen_by_row(Interactions(["z", "a"], [99, 5]))) == [[], [1], [], []]
    assert contents(encoding.lists_of(np.array(["a", "c"]), Interactions(["z", "c"], [99, 5]))) == [[], [1]]


def test_dislikes_are_no_examples_and_not_relevant_but_seen():
    train = Interactions([7, 7, 8], [1, 2, 2], ratings=[5.0, 2.0, 1.0])
    test = Interactions([7, 8], [3, 1], ratings=[2.0, 4.0])
    encoding = Encoding.fit(train, Table(np.array([1, 2, 3])), dislike_at_most=2.0)
    assert len(encoding.examples(train).weights) == 1
    disliked = encoding.disliked(train)
    assert [disliked[row].tolist() for row in encoding.queries.rows(np.array([7, 8])).tolist()] == [[2], [2]]
    targets = encoding.targets(test, train)
    assert targets.query_ids.tolist() == [8] and targets.relevant[0].tolist() == [0]
    assert targets.seen[0].tolist() == [1]


def test_dislikes_without_ratings_are_refused():
    events = Interactions([7], [1])
    with pytest.raises(ValueError, match="dislike_at_most is .*no ratings"):
        Encoding.fit(events, Table(np.array([1])), dislike_at_most=2.0).examples(events)


def test_candidates_that_only_features_tell_of_are_cold():
    train, test = Interactions(["a", "b"], [10, 30]), Interactions(["a", "b", "b", "b"], [20, 10, 40, 5])
    corpus = Table(np.array([40, 30, 20, 10, 5]))
    for has_features in (False, True):
        encoding = Encoding.fit(train, corpus, has_features=has_features)
        assert encoding.is_known.tolist() == [False, True, False, True, False]
        assert encoding.of_corpus(np.array([7, 8, 9])).tolist() == [7, 9, 7, 8, 7]
        targets = encoding.targets(test, train)
        assert targets.cold.positions.tolist() == [0, 2, 4]
        assert contents(targets.cold.relevant) == [[1], [0, 2]]
    assert encoding.targets(train, None).cold is None
