"""Command-line programs over the library; run them as `python -m experiments.<name>`."""
