"""Features: from the columns of a table to what towers look up."""
