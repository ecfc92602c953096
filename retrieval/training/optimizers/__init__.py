"""Optimizers by name, and what goes with them: schedules, touched-row updates, parameter averages, penalties."""
