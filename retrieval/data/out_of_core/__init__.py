"""Interactions that outgrow memory: encoded into memory-mapped files."""
