"""What `experiments.benchmark` measures, by part of the system."""
