"""Optimizers by name, learning-rate schedules, touched-row updates, EMA of the parameters, penalties on rows."""
