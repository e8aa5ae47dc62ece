"""The one exception type of this package, and how a misspelt word is answered."""
import difflib
from typing import Iterable


class DataError(Exception):
    """Say in one line what is wrong with an input: where, what was found, what was expected, what to do."""


def unknown(word: str, known: Iterable[str]) -> str:
    """Return what to say of a word that is none of the known ones: the nearest of them, and all."""
    names = list(known)
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], 1, 0.5)
    nearest = next((name for name in names if near and name.lower() == near[0]), "")
    return f"{word!r} is not known" + (f", did you mean {nearest}?" if nearest else "") + f" (known: {', '.join(names)})"
