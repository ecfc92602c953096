"""Approximate search over a graph of hnswlib."""
