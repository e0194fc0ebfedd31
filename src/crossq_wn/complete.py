"""Folders that are written completely, or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossq_wn.errors import UserError, fix_for, option
from crossq_wn.files import to_disk

T = TypeVar("T")
_PARTIAL = ".partial"


def check_free(out: Path) -> None:
    """Raises UserError if something is already there that writing would replace."""
    if not os.path.lexists(out):
        return
    if not out.is_dir() or any(path.name != _PARTIAL for path in out.iterdir()):
        raise UserError(
            f"{option('out', str(out))} is not an empty folder: nothing is overwritten; choose another"
        )


def write_complete(out: Path, write: Callable[[Path], T]) -> T:
    """Writes a folder, which appears by one rename once everything is in it.

    One that exists is filled by a rename for each file: it may be a mount, or where the user stands.

    Args:
        out: a folder that is new or empty; those around it are made.
        write: fills the folder that it is given; if it raises, nothing is left of it.

    Returns:
        What `write` returned.

    Raises:
        UserError: the file system refuses.
    """
    there = out.is_dir()
    partial = out / _PARTIAL if there else out.with_name(f".{out.name}{_PARTIAL}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            done = write(partial)
            for path in (*partial.rglob("*"), partial):
                to_disk(path)
            check_free(out)
            for path in partial.iterdir() if there else [partial]:
                os.replace(path, out / path.name if there else out)
            to_disk(partial.parent)
            return done
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {option('out', str(out))}: {error.strerror or error}; {fix_for(error)}"
        ) from None
