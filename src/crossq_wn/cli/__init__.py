"""The command line: one verb, one function; the only room that prints."""

import sys
from collections.abc import Sequence

from crossq_wn.errors import UserError, require_system

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: after the program's name; None: those that this process was started with.
    """
    try:
        require_system()
    except UserError as error:
        print(f"crossq-wn: {error}", file=sys.stderr)
        sys.exit(2)
    from crossq_wn.cli import dispatch

    dispatch.main(arguments)
