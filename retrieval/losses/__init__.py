"""Losses of two-tower retrieval: pure functions of embeddings, each with a doctest and its source."""

from retrieval.losses.explanation import explain
from retrieval.losses.folded import OwnNegatives, folded_softmax
from retrieval.losses.pairwise import bpr, cosine_contrastive
from retrieval.losses.pointwise import log_loss, squared_error
from retrieval.losses.reduction import reduce
from retrieval.losses.softmax import sampled_softmax
from retrieval.losses.squared import implicit_squared

__all__ = [
    "OwnNegatives",
    "bpr",
    "cosine_contrastive",
    "explain",
    "folded_softmax",
    "implicit_squared",
    "log_loss",
    "reduce",
    "sampled_softmax",
    "squared_error",
]
