"""The content baseline beside a plain form of it."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.baselines import content
from retrieval.baselines.base import Training
from retrieval.common.lists import Lists
from retrieval.data.interactions import Interactions, Table


def training_of(columns, pairs=((0, 0),)):
    queries, candidates = zip(*pairs, strict=True)
    corpus = Table(np.arange(len(next(iter(columns.values())))), columns)
    return Training.of(Interactions(list(queries), list(candidates)), corpus)


def plain_vectors(titles, genres, years, title_weight):
    """Returns the vector of each candidate as a dictionary, one attribute after the other."""
    terms = []
    for title, of_genres, year in zip(titles, genres, years, strict=True):
        found = {("title", word) for word in re.findall(r"\w+", title.lower())}
        found |= {("genres", genre.strip()) for genre in of_genres.split("|") if genre.strip()}
        terms.append(found | {("year", str(year))})
    vectors = []
    for found in terms:
        weights = {t: math.log(len(terms) / sum(t in other for other in terms)) for t in found}
        weights = {t: w * (title_weight if t[0] == "title" else 1) for t, w in weights.items()}
        length = math.sqrt(sum(w * w for w in weights.values()))
        vectors.append({t: w / length for t, w in weights.items()} if length else {})
    return vectors


def plain_score(history, candidate):
    profile = {}
    for vector in history:
        for term, weight in vector.items():
            profile[term] = profile.get(term, 0) + weight
    length = math.sqrt(sum(w * w for w in profile.values()))
    return sum(w * candidate.get(t, 0) for t, w in profile.items()) / length if length else 0.0


texts = st.sampled_from(["", "Up", "UP and down", "down down", "Alien 3", "é"])
genres = st.sampled_from(["", "War", "War|Drama", "Drama | War|War", "|Comedy|"])
candidates = st.lists(st.tuples(texts, genres, st.integers(1990, 1992)), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(candidates, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.data())
def test_scores_are_those_of_plain_loops(rows, title_weight, data):
    columns = dict(zip(("title", "genres", "year"), map(np.array, zip(*rows, strict=True)), strict=True))
    history = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    scorer = content.tf_idf(training_of(columns), title_weight=title_weight)
    vectors = plain_vectors(*columns.values(), title_weight)
    expected = [plain_score([vectors[c] for c in set(history)], vector) for vector in vectors]
    found = scorer(Lists.from_sequences([history, history]))
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


def test_a_candidate_that_train_does_not_know_is_ranked_by_its_attributes():
    kinds = np.array(["War|x", "War|y", "Drama|x", "Comedy|y"])
    training = training_of({"kinds": kinds}, [(0, 0), (1, 2)])
    scores = content.tf_idf(training, title_weight=1.0)(Lists.from_sequences([[0], [2]]))
    assert scores[:, [1, 3]].argmax(axis=1).tolist() == [0, 0] and scores[0, 1] > scores[1, 1] == scores[1, 3] == 0


def test_a_query_without_history_gets_the_most_popular():
    training = training_of({"kind": np.array([1, 1, 2])}, [(0, 2), (1, 2), (1, 0)])
    scores = content.tf_idf(training, title_weight=1.0)(Lists.empty(1))
    assert scores.tolist() == [[1, 0, 2]]


def test_numbers_with_fractions_and_vectors_are_not_read():
    columns = {"price": np.array([1.5, 2.0]), "vector": np.eye(2), "is_new": np.array([True, False])}
    assert content.attributes(Table([1, 2], columns)) == ["is_new"]


@pytest.mark.parametrize("columns", [{}, {"price": np.array([1.5, 2.0])}])
def test_a_corpus_without_attributes_is_refused(columns):
    training = Training.of(Interactions([1], [1]), Table([1, 2], columns))
    with pytest.raises(ValueError, match=r"needs attributes of the candidates, and the corpus has none"):
        content.tf_idf(training, title_weight=1.0)
