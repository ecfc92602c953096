"""Helpers that several programs use: console, flags, the folder of a run, labels, tables."""
