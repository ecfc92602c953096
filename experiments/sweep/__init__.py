"""The search for the best settings of an experiment: trials of training, each chosen from the results before it."""
