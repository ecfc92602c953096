"""Turns rows into batches on devices; each batch is a pure function of (seed, epoch, step)."""
