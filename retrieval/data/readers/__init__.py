"""Files become columns: delimited text and Parquet, checked, with errors that name the place; downloads, verified."""
