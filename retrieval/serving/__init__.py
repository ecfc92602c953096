"""Bundles, recommendations and exports: everything that leaves the lab. No model code."""
