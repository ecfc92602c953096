"""Exact search over the whole corpus."""
