"""The one exception type of this package."""


class DataError(Exception):
    """Say in one line what is wrong with an input: where, what was found, what was expected, what to do."""
