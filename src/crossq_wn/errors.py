"""What went wrong that the user can mend? One line: the wrong value, the valid ones, the fix; exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it without a traceback."""


def one_line(error: BaseException) -> str:
    """An exception as one line of text."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for the closest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}? " if found else ""
