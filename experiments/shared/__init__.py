"""What several programs share: console, flags, the folder of a run, tables."""
