"""A filter that leaves nothing says why: once, with the nearest value."""

import logging

import numpy as np
import pytest
from bundle_cases import save

from retrieval.data.interactions import Table
from retrieval.index import ExactIndex, Filter, LiveIndex
from retrieval.index.filter_hints import unmatched
from retrieval.serving import bundle

TABLE = Table(
    np.array([1, 2, 3]),
    {
        "genres": np.array(["Comedy|War", "", "Drama"]),
        "tags": [["a|b"], [], ["c"]],
        "year": np.array([1990.0, np.nan, 2000.0]),
        "stock": [True, None, True],
        "seller": [2**60, None, 7],
    },
)


@pytest.mark.parametrize(
    "wanted, told",
    [
        (Filter({"genres": ["comedy"]}), ["filter: no candidate has genres 'comedy'; did you mean 'Comedy'?"]),
        (Filter({"genres": ["War", "Drame"]}), ["filter: no candidate has genres 'Drame'; did you mean 'Drama'?"]),
        (Filter({"genres": ["Comedy|War"]}), []),
        (Filter({"tags": ["a"]}), ["filter: no candidate has tags 'a'"]),
        (Filter({"tags": ["a|b"]}), []),
        (Filter({"stock": [False]}), ["filter: no candidate has stock False"]),
        (Filter({"seller": [2**60 + 1]}), [f"filter: no candidate has seller {2**60 + 1}"]),
        (
            Filter(between={"year": (2001, None)}),
            ["filter: no candidate has year of at least 2001; the values are from 1990.0 to 2000.0"],
        ),
        (Filter(between={"seller": (8, 9)}), [f"of at least 8 and of at most 9; the values are from 7 to {2**60}"]),
        (Filter(allow=[8, 9]), ["filter: none of the 2 allowed ids is in the corpus"]),
        (Filter({"genres": ["War"]}, {"year": (1995, None)}), ["each condition holds for some candidates"]),
        (Filter({"genres": ["War"]}, deny=[1]), []),
        (Filter(deny=[9]), []),
    ],
)
def test_what_no_candidate_fulfils_is_told_with_the_nearest_value(wanted, told):
    hints = unmatched(wanted, TABLE)
    assert len(hints) == len(told) and all(text in hint for text, hint in zip(told, hints, strict=True)), hints


@pytest.mark.parametrize("bounds", [(2, 1), (1.5, 1), ("b", "a"), (np.int64(3), np.int64(2))])
def test_bounds_in_the_wrong_order_are_refused(bounds):
    with pytest.raises(ValueError, match=r"must be \(least, greatest\)"):
        Filter(between={"year": bounds})


def test_a_bundle_tells_it_once_for_each_filter(tmp_path, caplog):
    loaded = bundle.load(save(tmp_path / "bundle"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            answer = loaded.recommend("ann", 2, filter=Filter({"genres": ["comedy"]}))
            loaded.recommend("ann", 2, filter=Filter({"genres": ["Comedy"]}))
    assert (answer.positions < 0).all()
    assert caplog.messages == ["filter: no candidate has genres 'comedy'; did you mean 'Comedy'?"]


def test_a_live_index_tells_what_neither_old_nor_new_candidates_have(caplog):
    vectors = np.eye(3, dtype=np.float32)
    live = LiveIndex.build(TABLE.ids, ExactIndex.build(vectors), TABLE.columns)
    columns = {"genres": ["Noir"], "tags": [["z"]], "year": [2020.0], "stock": [False], "seller": [5]}
    live.add([4], vectors[:1], columns)
    with caplog.at_level(logging.WARNING):
        assert live.search(vectors[:1], 1, filter=Filter({"genres": ["Noir"]})).ids.tolist() == [[4]]
        assert caplog.messages == []
        live.search(vectors[:1], 1, filter=Filter({"genres": ["noir"]}))
    assert [message for message in caplog.messages if "noir" in message]
