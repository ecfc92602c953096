"""Recommendations answer raw ids with raw ids, titles and scores."""

import dataclasses
import functools

import numpy as np
import pytest

from retrieval.common.lists import Lists
from retrieval.data.interactions import Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import ExactIndex, Filter
from retrieval.serving.recommender import Recommender

TITLES = np.array(["Brazil", "Alien", "", "Diva"])
CANDIDATES = np.eye(4, dtype=np.float32)  # the query's embedding is then its scores
SCORES = np.array(
    [
        [1, 2, 3, 4],  # the unknown query's
        [9, 8, 7, 6],  # ann's
        [5, 9, 1, 7],  # bob's
    ],
    np.float32,
)
SEEN = Lists.from_sequences([[], [0], [3, 1, 2]])
IDS = ["B", "A", "C", "D"]


def recommender(ids=IDS, queries=("ann", "bob"), titles=TITLES):
    columns = {} if titles is None else {"title": titles}
    return Recommender(
        encode=functools.partial(np.take, SCORES, axis=0),
        index=ExactIndex.build(CANDIDATES),
        encode_candidates=lambda rows: np.concatenate([np.zeros((1, 4), np.float32), CANDIDATES])[rows],
        queries=Vocabulary(queries),
        candidates=Vocabulary(ids),
        corpus=Table(ids, columns),
        seen=SEEN,
    )


def test_the_best_candidates_come_with_their_ids_titles_and_scores():
    got = recommender().recommend(["bob", "ann"], 2, exclude_seen=False)
    assert got.positions.tolist() == [[1, 3], [0, 1]]
    assert got.ids.tolist() == [["A", "D"], ["B", "A"]]
    assert got.titles.tolist() == [["Alien", "Diva"], ["Brazil", "Alien"]]
    assert got.scores.tolist() == [[9, 7], [9, 8]]
    assert got.known.tolist() == [True, True]


def test_seen_candidates_are_left_out_unless_asked_for():
    assert recommender().recommend(["ann"], 2).ids.tolist() == [["A", "C"]]
    assert recommender().recommend(["ann"], 2, exclude_seen=False).ids.tolist() == [["B", "A"]]


def test_candidates_are_excluded_by_raw_id_for_each_query():
    exclude = [["A"], [], ["D", "A", "not in the corpus", "D"]]
    got = recommender().recommend(["ann", "ann", "bob"], 2, exclude_seen=False, exclude=exclude)
    assert got.ids.tolist() == [["B", "C"], ["B", "A"], ["B", "C"]]


def test_excluded_candidates_are_left_out_beside_the_seen_ones():
    got = recommender().recommend(["ann", "nobody"], 2, exclude=[["A", "B"], ["C"]])
    assert got.ids.tolist() == [["C", "D"], ["D", "A"]]


def test_exclusions_may_be_arrays():
    got = recommender().recommend(["ann"], 1, exclude=[np.array(["A", "C"])])
    assert got.ids.tolist() == [["D"]]


def test_an_unknown_query_gets_the_answer_of_the_unknown_row_and_a_flag():
    got = recommender().recommend(["ann", "nobody"], 4)
    assert got.known.tolist() == [True, False]
    assert got.ids[1].tolist() == ["D", "C", "A", "B"]


def test_k_beyond_what_is_left_is_padded():
    got = recommender().recommend(["bob"], 6)  # bob has seen all but one
    assert got.positions.tolist() == [[0, -1, -1, -1, -1, -1]]
    assert got.ids.tolist() == [["B", "", "", "", "", ""]]
    assert got.titles.tolist() == [["Brazil", "", "", "", "", ""]]
    assert got.scores.tolist() == [[5] + [-np.inf] * 5]


def test_integer_ids_are_padded_with_zero():
    got = recommender(ids=[11, 12, 13, 14], queries=[7, 8]).recommend([8], 2)
    assert got.ids.tolist() == [[11, 0]]
    assert got.titles.tolist() == [["Brazil", ""]]


@pytest.mark.parametrize(("ids", "expected"), [(IDS, [["B", "A", "C"]]), ([11, 12, 13, 14], [["11", "12", "13"]])])
def test_ids_stand_for_titles_where_there_are_none(ids, expected):
    got = recommender(ids=ids, titles=None).recommend(["ann"], 3, exclude_seen=False)
    assert got.titles.tolist() == expected


def test_the_id_stands_for_a_title_that_is_blank():
    got = recommender().recommend(["ann"], 3)
    assert got.ids.tolist() == [["A", "C", "D"]] and got.titles.tolist() == [["Alien", "C", "Diva"]]


def test_no_queries_get_no_answers():
    got = recommender().recommend([], 3, exclude=[])
    assert got.ids.shape == got.titles.shape == got.scores.shape == (0, 3)
    assert got.known.tolist() == []


def test_every_query_needs_its_own_exclusions():
    with pytest.raises(ValueError, match="exclude needs one list per query, got 1 for 2 queries"):
        recommender().recommend(["ann", "bob"], 1, exclude=[["A"]])


def test_queries_of_another_type_than_the_known_ones_are_refused():
    with pytest.raises(ValueError, match="ids are int64.*known ids are <U3"):
        recommender().recommend([7], 1)


def test_excluded_ids_of_another_type_than_the_corpus_are_refused():
    with pytest.raises(ValueError, match="ids are int64.*known ids are <U1"):
        recommender().recommend(["ann"], 1, exclude=[[11]])
    with pytest.raises(ValueError, match="candidate ids must be all integers or all strings, got lists of both"):
        recommender().recommend(["ann", "bob"], 1, exclude=[["A"], [11]])


def test_a_single_query_gets_an_answer_of_one_dimension():
    one, many = recommender().recommend("ann", 2), recommender().recommend(["ann"], 2)
    assert one.ids.tolist() == ["A", "C"] and one.titles.shape == one.scores.shape == one.positions.shape == (2,)
    assert one.known.shape == () and bool(one.known)
    for name in ("ids", "titles", "scores", "positions", "known"):
        assert np.array_equal(getattr(one, name), getattr(many, name)[0])
    assert recommender().recommend("ann", 2, exclude=["C", "not there"]).ids.tolist() == ["A", "D"]
    assert recommender().recommend("ann", 2, exclude="C").ids.tolist() == ["A", "D"]
    assert recommender(ids=[11, 12, 13, 14], queries=[7, 8]).recommend(np.int64(8), 2).ids.tolist() == [11, 0]


def test_embeddings_are_those_of_the_towers():
    assert recommender().embed_queries("bob").tolist() == SCORES[2].tolist()
    assert recommender().embed_queries(["nobody", "bob"]).tolist() == SCORES[[0, 2]].tolist()
    got = recommender().embed_candidates(["C", "not there"])  # rows are those of sorted ids
    assert got.tolist() == [CANDIDATES[2].tolist(), [0] * 4]


def test_scores_are_of_pairs():
    assert recommender().score("bob", ["D", "A", "D"]).tolist() == [7, 9, 7]
    assert recommender().score("bob", "D").tolist() == [7]
    assert recommender().score(["bob", "ann"], [["D", "A"], ["B", "C"]]).tolist() == [[7, 9], [9, 7]]
    assert recommender().score([], []).shape == (0, 0) and recommender().score("bob", []).shape == (0,)
    with pytest.raises(ValueError, match="candidate_ids must be equally many for each query, got .2, 1."):
        recommender().score(["bob", "ann"], [["D", "A"], ["B"]])
    with pytest.raises(ValueError, match="candidate_ids needs one list per query, got 1 for 2 queries"):
        recommender().score(["bob", "ann"], [["D", "A"]])


VECTORS = np.array([[3, 4, 9], [0, 0, 9], [6, 8, -9], [4, 3, 0], [-3, -4, 0]], np.float32)  # B A C D E
CLOSEST = {"B": ["C", "D", "E", ""], "D": ["B", "C", "E", ""], "A": ["", "", "", ""]}


def with_vectors(ids="BACDE"):
    """Candidates with these vectors, of which the last dimension tells popularity."""
    vocabulary = Vocabulary(list("ABCDE"))
    of_rows = np.concatenate([np.zeros((1, 3), np.float32), VECTORS[[1, 0, 2, 3, 4]]])
    return Recommender(
        encode=lambda rows: np.array([[0, 0, 1], [1, 0, 1], [2, 0.1, 9], [0, 3, 1], [9, 0, 1]], np.float32)[rows],
        index=ExactIndex.build(VECTORS),
        queries=Vocabulary([1, 2, 3], others=[4]),
        candidates=vocabulary,
        corpus=Table(list(ids), {}),
        seen=Lists.empty(5),
        encode_candidates=lambda rows: of_rows[rows],
        similarity_dimension=2,
    )


def test_similar_candidates_are_those_of_the_largest_cosine_without_popularity():
    served = with_vectors()
    got = served.similar(list(CLOSEST), 4)
    assert got.ids.tolist() == list(CLOSEST.values())
    np.testing.assert_allclose(got.scores[0], [1.0, 0.96, -1.0, -np.inf], atol=1e-6)
    one = served.similar("B", 2, exclude=["C"])
    assert one.ids.tolist() == ["D", "E"] and one.titles.tolist() == ["D", "E"]
    assert served.similar("B", 7).ids.tolist() == ["C", "D", "E", "", "", "", ""]
    assert served.similar([], 3).ids.shape == (0, 3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        served.similar("B", 0)


def test_the_live_index_answers_alike_zero_vectors_too_and_takes_new_candidates():
    served = with_vectors()
    index = served.live_index()
    assert index.search(served.embed_queries([1, 2]), 6).ids.tolist() == served.recommend([1, 2], 6).ids.tolist()
    index.add(["F"], [[9, 9, 9]])
    assert index.search(served.embed_queries([1]), 1).ids.tolist() == [["F"]]
    with pytest.raises(ValueError, match="'A' is zero"):
        index.add(["A"], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user_id": 7}, "^user_id: ids are int64"),
        (
            {"user_id": ["ann"], "exclude": ["A"]},
            "^exclude: each entry must be a list or an array of ids.* got 'A'",
        ),
        ({"user_id": "ann", "exclude": [7]}, "^exclude: ids are int64"),
        ({"user_id": [[1], [1, 2]]}, "^user_id must be one-dimensional"),
        ({"user_id": "ann", "exclude": [["A"], ["B", "C"]]}, "^exclude: each entry must be one-dimensional"),
        ({"user_id": ["ann"], "exclude": np.array("A")}, "^exclude must be a list of ids, or a list of such lists"),
        ({"user_id": "ann", "times": [[1], [1, 2]]}, "^times, row 0: a timestamp must be a time"),
        ({"history": "ABC"}, "^history must be a list of ids, or a list of such lists, got 'ABC'"),
    ],
)
def test_an_argument_of_another_form_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        recommender().recommend(**arguments)


def test_what_is_seen_is_told_by_raw_id():
    served = recommender()
    assert served.seen_ids("bob").tolist() == ["D", "A", "C"]
    assert [ids.tolist() for ids in served.seen_ids(["bob", "nobody", "ann"])] == [["D", "A", "C"], [], ["B"]]
    assert served.seen_ids([]) == []
    live = served.live_index().search(served.embed_queries(["bob"]), 4, exclude=[served.seen_ids("bob")])
    assert live.ids.tolist() == served.recommend(["bob"], 4).ids.tolist()


def test_similar_queries_are_those_of_train_of_the_largest_cosine():
    served = with_vectors()
    got = served.similar_users([1, 3, 4, 99], 3)
    assert got.ids.tolist() == [[2, 3, 0], [2, 1, 0], [0, 0, 0], [0, 0, 0]]  # of 4 and 99 nothing is known
    assert np.isneginf(got.scores[0, 2]) and np.isneginf(got.scores[2:]).all()
    assert got.known.tolist() == [True, True, False, False]
    assert served.similar_users(1, 1).ids.tolist() == [2]


def test_nothing_is_similar_to_what_nothing_is_known_of():
    """A zero vector, and the vector of the unknown row, whatever it is, have no neighbours and are none."""
    served = with_vectors()
    trained_unknown = np.array([[3, 4, 1], [1, 0, 1], [2, 0.1, 9], [0, 3, 1], [9, 0, 1]], np.float32)
    for recommender in (served, dataclasses.replace(served, encode=lambda rows: trained_unknown[rows])):
        one, many = recommender.similar_users(99, 3), recommender.similar_users([99, 1], 3)
        assert one.ids.tolist() == many.ids[0].tolist() == [0, 0, 0] and not one.known
        assert np.isneginf(one.scores).all() and many.ids[1].tolist() == [2, 3, 0]
    for vectors in (VECTORS, np.where(VECTORS == 0, -0.0, VECTORS)):
        zeros = dataclasses.replace(served, index=ExactIndex.build(vectors))
        got = zeros.similar("A", 5, filter=Filter(deny=["B"]))
        assert np.isneginf(got.scores).all() and (got.positions == -1).all() and set(got.titles) == {""}
        assert "A" not in zeros.similar("E", 5, filter=Filter(allow=["A", "B"])).ids
    untrained = dataclasses.replace(
        served, candidates=Vocabulary(list("ABDE")), encode_candidates=lambda rows: VECTORS[rows]
    )
    assert untrained.similar("C", 2).ids.tolist() == ["", ""]  # in the corpus, of the unknown row


def test_a_filter_leaves_what_it_says():
    columns = {"genres": np.array(["War|Comedy", "Comedy", "", "War"]), "year": np.array([1990, 1995, 1999, np.nan])}
    served = dataclasses.replace(recommender(), corpus=Table(IDS, {"title": TITLES, **columns}))
    war = Filter(one_of={"genres": ["War"]})
    got = served.recommend(["ann", "nobody"], 3, exclude_seen=False, filter=war)
    assert got.ids.tolist() == [["B", "D", ""], ["D", "B", ""]]
    assert served.recommend("ann", 2, filter=war).ids.tolist() == ["D", ""]  # B is seen
    years = Filter(between={"year": (1991, None)}, deny=["A"])
    assert served.recommend("ann", 2, exclude_seen=False, filter=years).ids.tolist() == ["C", ""]
    with pytest.raises(ValueError, match="no attribute 'genre' to filter by.*did you mean 'genres'"):
        served.recommend("ann", filter=Filter(one_of={"genre": ["War"]}))
    similar = dataclasses.replace(with_vectors(), corpus=Table(list("BACDE"), {"group": np.arange(5) % 2}))
    assert similar.similar("B", 3, filter=Filter(one_of={"group": [0]})).ids.tolist() == ["C", "E", ""]
