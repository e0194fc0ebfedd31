"""Errors that the user can mend: one line with the wrong value, the valid ones and the fix; exit code 2."""

import contextlib
import difflib
import errno
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SEEDS_FAILED = 3  # the exit code of training where some of a run's seeds failed, and the others are trained
AT_FIRST_RESET = "at its first reset, "  # before what an environment raised there, as it will again


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


def require_system() -> None:
    """Raises UserError on Windows, before anything that it lacks is imported."""
    if sys.platform == "win32":
        raise UserError(
            "crossq-wn does not run on Windows, where runs cannot be locked as they are on POSIX systems: "
            "use Linux, for example Ubuntu in WSL 2 (docs/faq.md)"
        )


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
    errno.ENOTCONN: "mount the file system again",
    errno.ESHUTDOWN: "mount the file system again",
    errno.EBUSY: "wait until nothing else uses it",
    errno.ETXTBSY: "wait until nothing else uses it",
}


# Errors that come from the state of the machine, and not from what was asked of it.
_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO,
    errno.ESTALE, errno.EBUSY, errno.ETXTBSY, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EROFS,
)  # fmt: skip
OUT_OF_MEMORY = "out of memory"
_EXHAUSTED = "RESOURCE_EXHAUSTED"  # how XLA names too little memory
NOT_FREE = "are free"  # how messages about too little memory put it
NOT_MOUNTED = "mount the sweep's folder"  # how messages about a folder that a machine does not have put it
_OF_MEMORY = (OUT_OF_MEMORY, NOT_FREE, os.strerror(errno.ENOMEM))
_OF_MACHINES = (*_OF_MEMORY, NOT_MOUNTED, *map(os.strerror, _PASSING))


_USERS_OWN = re.compile(r" raised \w+: |\bcannot import ")  # the text of a user's own exception follows
# Those of them that concern more than a device or a connection of the user's own.
_OUTAGES = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.ESTALE)


def may_pass(message: str) -> bool:
    """Whether a message tells of the state of the machine, which may be better when it is tried again."""
    return _tells(message, _OF_MACHINES, _PASSING)


def tells_of_outage(message: str) -> bool:
    """Whether a message tells of memory, a disk or a mount, for which no single run is to blame."""
    return _tells(message, _OF_MACHINES, _OUTAGES)


def tells_of_memory(message: str) -> bool:
    """Whether a message tells of too little memory."""
    return _tells(message, _OF_MEMORY, (errno.ENOMEM,))


def _tells(message: str, ours: Sequence[str], theirs: Sequence[int]) -> bool:
    """Whether a message tells of memory or of some errors of the system.

    Args:
        message: an error, perhaps with what a user's own code raised, whose words may mean anything.
        ours: what counts in our own words.
        theirs: numbers of errors that count in what a user's own code raised.
    """
    own, *rest = _USERS_OWN.split(message, maxsplit=1)
    if any(word in own for word in ours):
        return True
    return any(f"[Errno {number}]" in text for text in rest for number in theirs)


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
    """The valid name that is nearest to a misspelt one, if one is; versions and case do not count."""
    plain: dict[str, list[str]] = {}
    for each in known:
        plain.setdefault(_plain(each), []).append(each)
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
    if not found:
        return None
    stem = _unversioned(name)
    # Of several, the last version of what is nearest as it is written.
    return max(plain[found[0]], key=lambda each: (_ratio(stem, _unversioned(each)), _version(each)))


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


def _plain(name: str) -> str:
    return _unversioned(name).lower()


def _unversioned(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _version(name: str) -> int:
    found = re.search(r"-v(\d+)$", name)
    return int(found[1]) if found else -1


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


_LONG = 80  # characters of a value in messages
_commanded = False  # whether the command line is being used, rather than Python


@contextlib.contextmanager
def naming_options(*, flags: bool = True) -> Iterator[None]:
    """Messages name options as the command line does, `--eval-every`; otherwise as Python, `eval_every`."""
    global _commanded
    before, _commanded = _commanded, flags
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
    return _flag(name) if value is None else " ".join(words(name, value))


def stated(name: str, value: object) -> str:
    """An option with the value that it has, to begin a sentence: `--seeds is 0,1`, or `seeds is (0, 1)`."""
    if _commanded and isinstance(value, bool):
        return f"{option(name, value)} is given"
    try:
        text = " ".join(words(name, value)[1:]) if _commanded and isinstance(value, tuple) else repr(value)
    except ValueError:  # Python writes no number of so many digits
        text = "a number of thousands of digits"
    return f"{option(name)} is {text if len(text) <= _LONG else f'{text[:_LONG]}...'}"


def shown(value: object) -> str:
    """A value as tables and messages about runs have it: `yes`, `none`, `0,1`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(shown, value)) or "none"
    return "none" if value is None else str(value)


def words(name: str, value: object) -> list[str]:
    """An option and its value as words of a command line.

    Args:
        name: in Python, such as `eval_every`.
        value: that it is given.
    """
    if isinstance(value, bool):
        return [_flag(name) if value else _flag(f"no_{name}")]
    if not isinstance(value, tuple):
        return [_flag(name), str(value)]
    if all(isinstance(each, int | float) for each in value):
        return [_flag(name), ",".join(map(str, value))] if value else [_flag(name)]
    return [_flag(name), *map(str, value)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
