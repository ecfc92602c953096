"""The error of everything that reads data."""


class DataError(ValueError):
    """Data that are missing, damaged or not of the form they should have; says where and what to do.

    Attributes:
      needed: the input that would mend it, as "timestamps", if it is a missing one. A caller that knows where the user
        provides this input adds that to the message, see `retrieval.config.remedies`.
    """

    def __init__(self, message: str, needed: str = ""):
        super().__init__(message)
        self.needed = needed
