"""Benchmarks of `experiments.benchmark`: each measures the library beside a plain reference in the same run."""
