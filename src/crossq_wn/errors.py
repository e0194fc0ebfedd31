"""Errors that the user can mend: one line with the wrong value, the valid ones and the fix; exit code 2."""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake in a request of the user; the command line prints its message without a traceback."""


def one_line(error: BaseException) -> str:
    """An exception's message on one line, or the exception's name if it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def visible(text: object) -> str:
    """Returns text in which nothing acts on a terminal: control characters are written as their escapes.

    Names of files, tasks and systems may come from strangers; this is what they look like on a screen.
    """
    return "".join(map(_visible, str(text)))


def _visible(letter: str) -> str:
    # Not printable are controls, escapes, line breaks, changes of direction and halves of surrogate pairs.
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")


def fix_for(error: OSError) -> str:
    """What to do about an error of the file system, as an instruction within a sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (`ulimit -n`)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make it writable"
    if error.errno == errno.EFBIG:
        return "raise the limit of file sizes (`ulimit -f`)"
    return "mend that"


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name.

    Args:
        name: as the user wrote it.
        known: the valid names.

    Returns:
        `did you mean 'x'? ` with the closest valid name, or nothing if none is close.
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}? " if found else ""


def import_user_module(name: str, wanted: str) -> Any:
    """Imports a module of the user's, which may be in the current directory.

    Args:
        name: of the module.
        wanted: the purpose, in words for the error message.

    Raises:
        UserError: it cannot be imported.
    """
    # An installed command does not search the current directory, as `python` does.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        raise UserError(f"cannot import {name!r} for {wanted}: {type(error).__name__}: {error}") from None
