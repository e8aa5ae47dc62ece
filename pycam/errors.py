"""The one exception type of this package."""


class CamError(Exception):
    """Say in one line what is wrong: where, what was found, what was expected, what to do."""
