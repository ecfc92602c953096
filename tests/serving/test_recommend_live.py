"""Recommendations from a live index: what came, changed and went since the export, by ids and titles."""

import numpy as np
import pytest
from bundle_cases import EVERYBODY, save

from retrieval.index import ExactIndex, Filter, LiveIndex
from retrieval.serving import bundle
from retrieval.serving.recommender import Recommender

COMEDIES = Filter(one_of={"genres": ["Comedy"]})
NEW = {
    **{"title": ["fifty"], "genres": ["Comedy"], "year": [2020]},
    **{"in_stock": [True], "seller": [2**53 + 3], "tags": [["d|e"]]},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Recommender:
    return bundle.load(save(tmp_path_factory.mktemp("bundles") / "bundle"))


@pytest.fixture
def live(served) -> LiveIndex:
    return served.live_index()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"exclude_seen": False},
        {"exclude": [[30], [], [10, 12345], [99, 40], [30]]},
        {"filter": COMEDIES},
        {"filter": Filter(between={"year": (1980, None)}, deny=[30]), "exclude": [[10]] * 5, "exclude_seen": False},
    ],
)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_unchanged_it_answers_as_the_bundle_does(served, live, asked, k):
    live_answer, plain_answer = (
        served.recommend(EVERYBODY, k, index=live, **asked),
        served.recommend(EVERYBODY, k, **asked),
    )
    for name in ("ids", "titles", "scores", "known", "positions"):
        np.testing.assert_array_equal(getattr(live_answer, name), getattr(plain_answer, name), err_msg=name)
    one = served.recommend("ann", k, index=live)
    np.testing.assert_array_equal(one.ids, served.recommend("ann", k).ids)
    assert served.recommend([], k, index=live).ids.shape == (0, k)


def test_what_came_is_recommended_by_its_title_and_what_went_is_not(served, live):
    best = served.recommend("ann", 1, exclude_seen=False)
    vector = 2 * served.embed_queries("ann")[None]
    live.add([50], vector, NEW)
    live.remove(best.ids)
    found = served.recommend("ann", 5, exclude_seen=False, index=live)
    assert found.ids[0] == 50 and found.titles[0] == "fifty" and found.positions[0] == -1
    assert best.ids[0] not in found.ids and (found.scores > -np.inf).sum() == 5
    assert served.recommend("ann", 5, exclude=[50], index=live).ids.tolist().count(50) == 0
    assert 50 in served.recommend("ann", 5, filter=COMEDIES, index=live).ids
    seen = served.seen_ids("ann")
    assert len(seen) and not np.isin(seen, served.recommend("ann", 5, index=live).ids).any()
    live.rebuild()
    again = served.recommend("ann", 5, exclude_seen=False, index=live)
    assert again.ids.tolist() == found.ids.tolist() and again.titles.tolist() == found.titles.tolist()


def test_attributes_of_answers_are_those_of_the_time_of_the_search(served, live):
    answers = live.search(served.embed_queries(["ann", "bob"]), 7)
    before, titles = answers.attribute("year"), answers.titles
    live.add([50], np.ones((1, 5)), NEW | {"title": ["a title longer than all that are there"]})
    live.remove([10])
    live.rebuild()
    np.testing.assert_array_equal(answers.attribute("year"), before)
    np.testing.assert_array_equal(answers.titles, titles)
    assert answers.titles[0, -1] == "" and answers.attribute("nothing") is None
    later = live.search(served.embed_queries(["ann"]), 7)
    assert "a title longer than all that are there" in later.titles


def test_without_titles_ids_are_shown():
    live = LiveIndex.build([7, 8], ExactIndex.build([[1.0], [2.0]]))
    assert live.search([[1.0]], 3).titles.tolist() == [["8", "7", ""]]
    blank = LiveIndex.build([7, 8], ExactIndex.build([[1.0], [2.0]]), {"title": ["Brazil", ""]})
    assert blank.search([[1.0]], 3).titles.tolist() == [["8", "Brazil", ""]]


def test_attributes_that_are_vectors_are_those_of_the_answers():
    live = LiveIndex.build([7, 8], ExactIndex.build([[1.0], [2.0]]), {"colour": np.eye(2, dtype=np.float32)})
    live.add([9], [[3.0]], {"colour": np.full((1, 2), 0.5, np.float32)})
    assert live.search([[1.0]], 4).attribute("colour").tolist() == [[[0.5, 0.5], [0, 1], [1, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": ["x"]}, "exclude: ids are"),
        ({"filter": Filter(one_of={"genre": ["War"]})}, "no attribute 'genre' to filter by"),
        ({"k": 0}, "k must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(served, live, arguments, message):
    with pytest.raises(ValueError, match=message):
        served.recommend("ann", **{"index": live} | arguments)
