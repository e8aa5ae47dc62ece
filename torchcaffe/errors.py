"""The one exception of this package, and how an error is said in one line."""

LONGEST = 1500  # characters of an error's line


class CaffeError(RuntimeError):
    """What real Caffe would abort on (a failed CHECK), or what torchcaffe does not support, in one line."""


class UnknownLayerError(CaffeError, ValueError):
    """A name that no layer of a net has; pycaffe raises ValueError."""


STRAY = (UnicodeEncodeError, RecursionError)  # what names can cause anywhere


def sentence(error: Exception) -> str:
    """Return what an error says as a line that any terminal shows."""
    if isinstance(error, UnicodeEncodeError):
        return one_line(f"{error.object}: no name in UTF-8, in which nets and solvers are written; rename it, or choose another")
    return one_line(f"nested too deeply ({error}); choose another name" if isinstance(error, RecursionError) else str(error))


def one_line(text: str) -> str:
    """Return a text that may hold anything as a line of bounded length that any terminal shows."""
    text = text if len(text) < LONGEST else f"{text[:LONGEST - 300]} ... {text[-300:]}"  # it ends with what to do
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
