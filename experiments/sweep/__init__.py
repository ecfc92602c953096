"""A search for the best settings of an experiment: trials of training, chosen by what the earlier ones showed."""
