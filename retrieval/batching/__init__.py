"""Rows become batches on devices; every batch is a pure function of (seed, epoch, step)."""
