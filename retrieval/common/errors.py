"""The error of everything that reads data."""


class DataError(ValueError):
    """Data that are missing, damaged or not of the form they should have; says where and what to do."""
