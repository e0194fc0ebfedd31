"""Lines of output and warnings."""

import contextlib
import sys

from crossq_wn.errors import visible


def say(text: object) -> None:
    """Prints a line of output."""
    print(visible(text), flush=True)


def warn(text: str) -> None:
    """Prints a warning."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"crossq-wn: {visible(text)}", file=sys.stderr)
