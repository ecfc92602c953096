"""The length k of ranked lists, checked at one place: an answer has k entries, padding included."""

from __future__ import annotations

import operator
from typing import Any

LARGEST_K = 1 << 20  # a list of more is a ranking of the corpus, and its padding alone would fill the memory


def check_k(k: Any) -> int:
    """Returns the length of lists as an int.

    Raises:
      ValueError: it is no integer, below 1, or above `LARGEST_K`.
    """
    try:
        length = operator.index(k)
    except TypeError:
        length = None
    if length is None or isinstance(k, bool):
        raise ValueError(f"k must be an integer, got {k!r:.80}")
    if not 1 <= length <= LARGEST_K:
        limit = "at least 1" if length < 1 else f"at most {LARGEST_K:,}"
        raise ValueError(f"k must be {limit}, got {str(length):.80}")
    return length
