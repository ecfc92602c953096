"""What a notebook shows of the public objects: a few lines, never arrays; and answers as rows without padding."""

import numpy as np
import pandas as pd
import pytest
from bundle_cases import CORPUS, EVERYBODY, TRAIN, save

from retrieval.config.schema import Data
from retrieval.data.dataset import load
from retrieval.evaluation.protocol import Evaluation
from retrieval.index import Filter
from retrieval.pipeline.evaluate_trained import evaluate_popularity
from retrieval.serving import bundle


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return bundle.load(save(tmp_path_factory.mktemp("reprs") / "bundle"))


@pytest.fixture(scope="module")
def evaluated():
    dataset = load(Data(dataset="synthetic"))
    before = dataset.parts.train_and_validation()
    evaluation = Evaluation.of(before, dataset.parts.test, dataset.corpus, dataset.queries, ks=(5, 10))
    return dataset, evaluate_popularity(evaluation)


def test_objects_are_shown_in_five_lines(loaded, evaluated):
    dataset, result = evaluated
    answers = (loaded.recommend(EVERYBODY, 4), loaded.recommend("ann"), loaded.similar(10), loaded.similar_users("ann"))
    for value in (TRAIN, CORPUS, dataset, loaded, *answers, result, result.per_query, Filter({"genres": ["War"]})):
        text = repr(value)
        assert text.count("\n") < 5 and len(text) < 800 and "array" not in text, text
    assert repr(TRAIN) == "Interactions(5 events: query ids text, candidate ids integers)"
    assert "genres (text)" in repr(CORPUS) and "5 ids" in repr(CORPUS)
    assert "excluding_seen/ndcg_at_10 0." in repr(result) and "[" in repr(result)
    assert "5 candidates for 3 known queries" in repr(loaded)


def test_rows_leave_padding_out(loaded):
    answer = loaded.recommend(EVERYBODY, 50)
    rows = answer.rows()
    assert len(rows) == (answer.scores > -np.inf).sum() < answer.scores.size
    assert rows[0] == {
        "query": 0,
        "rank": 1,
        "id": answer.ids[0, 0],
        "title": answer.titles[0, 0],
        "score": answer.scores[0, 0],
    }
    assert {row["id"] for row in rows} <= set(CORPUS.ids.tolist()) and [row["rank"] for row in rows[:2]] == [1, 2]
    single = loaded.recommend("ann", 2)
    assert [row["id"] for row in single.rows()] == single.ids.tolist()
    assert loaded.recommend([], 2).rows() == []


def test_frames_have_the_same_columns_whatever_was_found(loaded):
    frame = loaded.recommend(EVERYBODY, 2).to_pandas()
    assert (
        list(frame.columns)
        == ["query", "rank", "id", "title", "score"]
        == list(loaded.recommend([], 2).to_pandas().columns)
    )
    assert isinstance(frame, pd.DataFrame) and frame["rank"].max() == 2
    assert list(loaded.similar_users("ann", 2).to_pandas().columns) == ["query", "rank", "id", "score"]


def test_what_was_added_to_a_live_index_is_no_padding(loaded):
    live = loaded.live_index()
    columns = {
        "title": ["new"],
        "genres": ["War"],
        "year": [2001.0],
        "in_stock": [True],
        "seller": [1],
        "tags": [["a"]],
    }
    live.add([77], 9 * loaded.embed_queries(["ann"]), columns)
    (first, *_) = loaded.recommend("ann", 2, index=live).rows()
    assert first["id"] == 77 and first["title"] == "new"
