"""Scores become exact ranks and the exact top-k of a whole corpus, under one rule for equal scores."""
