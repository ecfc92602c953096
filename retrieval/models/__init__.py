"""Flax NNX modules: arrays in, embeddings out. They know no config and no mesh."""
