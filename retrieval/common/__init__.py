"""Lists, files, choices, errors and facts of the environment: what every room needs. It knows nothing of retrieval."""
