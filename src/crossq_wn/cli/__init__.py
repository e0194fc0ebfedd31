"""The command line: one verb, one function; the only room that prints."""

from crossq_wn.cli.dispatch import main

__all__ = ["main"]
