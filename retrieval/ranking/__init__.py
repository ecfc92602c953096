"""Exact ranks, exact top-k and rankings of a whole corpus, with one tie rule: equal scores by ascending row."""
