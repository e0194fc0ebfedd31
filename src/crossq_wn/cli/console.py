"""Lines of output and warnings."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from crossq_wn.errors import visible


def say(text: object) -> None:
    """Prints a line of output."""
    print(visible(text), flush=True)


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
