"""Lists, files, choices, errors and facts of the environment; knows nothing of retrieval."""
