"""Ranks become metrics of each query, and those become means, intervals, slices and paired tests."""
