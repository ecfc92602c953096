"""Content: candidates whose attributes are like those of the history, known in train or not."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from jaxtyping import Float32

from retrieval.baselines.base import Scorer, Training, matrix, or_popularity
from retrieval.common.errors import DataError
from retrieval.common.lists import Lists
from retrieval.data.columns import type_of
from retrieval.data.interactions import Table
from retrieval.data.joined_values import split_values
from retrieval.features.categories import tokenize, words
from retrieval.features.values import to_texts

READ = ("text", "lists of text", "integers", "booleans")
TITLE = "title"  # the column that is read by its words


def tf_idf(training: Training, *, title_weight: float) -> Scorer:
    """Scores a candidate by the cosine of its attributes to those of the history (Pazzani and Billsus 2007).

    The attributes of a candidate are the values of each column of text, lists, integers or booleans, several of a text
    joined by "|", and the words of its title. An attribute of n of the N candidates weighs log(N / n), vectors have
    length 1 (Salton and Buckley 1988), and the profile of a history is the sum of those in it. Nothing is learnt from
    interactions. Columns of other numbers and of vectors are left out.

    Takes O(m) time to fit for m attributes of all candidates, and O(q A) time a query for a profile of A attributes
    that q candidates have on average.

    Args:
      training: its corpus has the attributes.
      title_weight: of a word of the title; other attributes weigh 1.

    Raises:
      ValueError: the corpus has no such columns.
    """
    if not attributes(training.corpus):
        raise DataError("content needs attributes of the candidates, and the corpus has none", needed="attributes")
    vectors = _vectors(training.corpus, title_weight)
    by_attribute = vectors.T.tocsr()

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        profiles = matrix(histories, training.num_candidates) @ vectors
        lengths = np.maximum(scipy.sparse.linalg.norm(profiles, axis=1), np.finfo(np.float32).tiny)
        return (profiles @ by_attribute).toarray() / lengths.astype(np.float32)[:, None]

    return or_popularity(scores, training)


def attributes(corpus: Table) -> list[str]:
    """Returns the columns that `tf_idf` reads."""
    return [name for name, values in corpus.columns.items() if type_of(values) in READ]


def _vectors(corpus: Table, title_weight: float) -> scipy.sparse.csr_array:
    """Returns the TF-IDF vector of each candidate [N, attributes], of length 1, or 0 where it has no attributes."""
    blocks = [_weigh_column(corpus, name) * (title_weight if name == TITLE else 1.0) for name in attributes(corpus)]
    vectors = scipy.sparse.hstack(blocks, format="csr")
    lengths = scipy.sparse.linalg.norm(vectors, axis=1)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return (scipy.sparse.diags_array(scale) @ vectors).astype(np.float32).tocsr()


def _weigh_column(corpus: Table, name: str) -> scipy.sparse.csr_array:
    """Returns the weight log(N / n) of each value of a column, or word, where a candidate has it [N, values]."""
    tokens = tokenize(to_texts(corpus.columns[name], name), words if name == TITLE else split_values)
    pairs = np.unique(np.stack([tokens.owners, tokens.codes]), axis=1)  # a value that is there twice counts once
    owners, codes = pairs[:, tokens.distinct[pairs[1]] != ""]
    numbers = np.bincount(codes, minlength=len(tokens.distinct))
    weights = np.log(len(corpus) / np.maximum(numbers, 1)).astype(np.float32)
    return scipy.sparse.csr_array((weights[codes], (owners, codes)), (len(corpus), len(tokens.distinct)))
