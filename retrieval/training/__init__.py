"""The state, one pure step, the loop over epochs, and checkpoints. It knows no config."""
