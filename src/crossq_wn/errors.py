"""Errors that the user can mend: one line with the wrong value, the valid ones and the fix; exit code 2."""

import contextlib
import difflib
import errno
import importlib
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in a request of the user; the command line prints its message without a traceback."""


def one_line(error: BaseException) -> str:
    """An exception's message on one line, or the exception's name if it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


_LIBRARIES = ("importlib", f"{os.sep}jax{os.sep}")  # which call a user's code, or are called by it


def raised(error: BaseException) -> str:
    """What a user's own code raised and where: `KeyError: 'x' (my_module.py, line 12)`."""
    frames = []
    for frame in traceback.extract_tb(error.__traceback__):
        if not any(part in frame.filename for part in _LIBRARIES):
            frames.append(frame)
    # The first frame is the one that called the user's code.
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def counted(number: int, unit: str) -> str:
    """A number of things in words: `1 frame`, `2,000 frames`, `3 directories`."""
    several = f"{unit[:-1]}ies" if unit.endswith("ry") else f"{unit}s"
    return f"{number:,} {unit if number == 1 else several}"


def sized(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count:,} bytes"


def visible(text: object) -> str:
    """Returns text in which nothing acts on a terminal: control characters are written as their escapes.

    Names of files, tasks and systems may come from strangers; this is what they look like on a screen.
    """
    words = str(text)
    return words if words.isprintable() else "".join(map(_visible, words))


def _visible(letter: str) -> str:
    # Not printable are controls, escapes, line breaks, changes of direction and halves of surrogate pairs.
    if letter.isprintable() or unicodedata.category(letter) == "Zs":  # blanks of all widths
        return letter
    return letter.encode("unicode_escape").decode("ascii")


# What helps against an error of the file system, by its number.
_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the limit of open files (`ulimit -n`)",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`)",
    errno.ENOMEM: "free some memory",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EROFS: "make it writable",
    errno.ENAMETOOLONG: "choose a shorter name (255 bytes at most)",
    errno.EINVAL: "choose a name that this file system takes",
    errno.EILSEQ: "choose a name that this file system takes",
    errno.ENOENT: "choose a folder that exists",
    errno.ENOTDIR: "choose another place",
    errno.EISDIR: "choose another place",
    errno.EEXIST: "choose another place",
    errno.ENXIO: "choose another place",
    errno.ELOOP: "mend the symbolic links, which lead in a circle",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount the file system again",
    errno.EBUSY: "wait until nothing else uses it",
    errno.ETXTBSY: "wait until nothing else uses it",
}


# Errors that come from the state of the machine, and not from what was asked of it.
_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO,
    errno.ESTALE, errno.EBUSY, errno.ETXTBSY, errno.ETIMEDOUT,
)  # fmt: skip
OUT_OF_MEMORY = "out of memory"
_EXHAUSTED = "RESOURCE_EXHAUSTED"  # how XLA names too little memory
NOT_FREE = "are free"  # how messages about too little memory put it


def may_pass(message: str) -> bool:
    """Whether a message tells of memory, a disk or a mount, which may be better when it is tried again."""
    return any(word in message for word in (OUT_OF_MEMORY, NOT_FREE, *map(os.strerror, _PASSING)))


def lacks_memory(error: Exception) -> bool:
    """Whether an error is that Python or XLA had too little memory."""
    return isinstance(error, MemoryError) or _EXHAUSTED in str(error)


def fix_for(error: OSError) -> str:
    """What to do about an error of the file system, as an instruction within a sentence."""
    return _FIXES.get(error.errno or 0, "mend that")


def explained(error: OSError) -> str:
    """What went wrong in the file system and what to do about it: `Is a directory; choose another place`."""
    return f"{error.strerror or one_line(error)}; {fix_for(error)}"


def not_made(error: OSError, path: Path) -> str:
    """What went wrong when a file or folder was to be made at a path, and what to do about it."""
    if error.errno == errno.ENOENT and path.parent.is_dir():  # of the kernel's, such as /proc
        return f"nothing can be made in {path.parent}; choose another place"
    return explained(error)


_NEAR = 0.7  # of 1 for equal names


def closest(name: str, known: Iterable[str]) -> str | None:
    """The valid name that is nearest to a misspelt one, or None if none is near; versions do not count."""
    plain: dict[str, str] = {}
    for each in known:
        plain[_without_version(each)] = each  # of several versions the last counts
    found = difflib.get_close_matches(_without_version(name), plain, n=1, cutoff=_NEAR)
    return plain[found[0]] if found else None


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name.

    Args:
        name: as the user wrote it.
        known: the valid names.

    Returns:
        `did you mean 'x'? ` with the nearest valid name, or nothing if none is near.
    """
    found = closest(name, known)
    return f"did you mean {found!r}? " if found else ""


def _without_version(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


_commanded = False  # whether the command line is being used, rather than Python


@contextlib.contextmanager
def naming_options() -> Iterator[None]:
    """Messages name options as the command line does, `--eval-every`; otherwise as Python, `eval_every`."""
    global _commanded
    before, _commanded = _commanded, True
    try:
        yield
    finally:
        _commanded = before


def option(name: str, value: object = None) -> str:
    """An option or hyperparameter as the user writes it, on the command line or in Python.

    Args:
        name: in Python, such as `eval_every`.
        value: that it is given, if the message says so.
    """
    if not _commanded:
        return name if value is None else f"{name}={value!r}"
    flag = name.replace("_", "-")
    if value is False:
        return f"--no-{flag}"
    return f"--{flag}" if value in (None, True) else f"--{flag} {value}"


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
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UserError(f"cannot import {name!r} for {wanted}: {raised(error)}") from None
