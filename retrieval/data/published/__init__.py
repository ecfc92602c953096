"""Data sets that need no file of the user: MovieLens in its published releases, and a synthetic one."""
