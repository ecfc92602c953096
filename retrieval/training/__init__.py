"""Trains a model: the state, one pure step, the loop over epochs, checkpoints. This room knows no config."""
