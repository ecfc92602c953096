"""Bundles in the formats of other systems."""
