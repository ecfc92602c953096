"""From raw rows to integer columns."""
