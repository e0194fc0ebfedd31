"""Lines of output and warnings."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from crossq_wn.errors import UserError, one_line, visible

T = TypeVar("T")
Result = TypeVar("Result")


def say(text: object) -> None:
    """Prints a line of output."""
    print(visible(text), flush=True)


def tell(text: object) -> None:
    """Prints a line of output; from the first that cannot be written on, none, and the work goes on."""
    try:
        say(text)
    except OSError:  # the disk is full, or whoever read it has gone
        discard_output()


def discard_output() -> None:
    """Sends to nowhere what is printed from now on, and what Python would write once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(text: str) -> None:
    """Prints a warning."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"crossq-wn: {visible(text)}", file=sys.stderr)


@contextlib.contextmanager
def telling_of_folders(out: Path | None) -> Iterator[None]:
    """Says afterwards if the folder of a file was made for it.

    Args:
        out: the file that is written inside the context; None: one whose place was not chosen.
    """
    new = out is not None and not out.parent.exists()
    yield
    if new and out is not None and out.parent.exists():
        warn(f"made the folder {out.parent}")


def each(parts: Iterable[T], work: Callable[[T], Result]) -> list[Result]:
    """Calls `work` for each part, and goes on where it refuses one.

    Args:
        parts: such as the seeds of a run.
        work: raises UserError for a part that it refuses, of which the user is warned.

    Returns:
        The results of the others, in order.

    Raises:
        UserError: all parts were refused; the last one's.
    """
    done: list[Result] = []
    failures: dict[str, UserError] = {}  # by message: what all parts have is told once
    for part in parts:
        try:
            done.append(work(part))
        except UserError as error:
            failures[one_line(error)] = error
    last = None if done or not failures else failures.popitem()[1]
    for line in failures:
        warn(line)
    if last is not None:
        raise last
    return done
