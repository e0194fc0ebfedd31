"""Folders and files that are written completely, or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from crossq_wn.errors import UserError, fix_for, option
from crossq_wn.files import to_disk, write_atomically

T = TypeVar("T")
_PARTIAL = ".crossq-wn-partial"


def check_free(out: Path) -> None:
    """Raises UserError if something is already there that writing would replace."""
    partial = _partial(out)
    if os.path.lexists(partial):
        raise UserError(
            f"{partial} is there: remove it if it was left by a command that was cut off; while another one "
            f"writes there, choose another {option('out')}"
        )
    _check_empty(out)


def write_complete(out: Path, write: Callable[[Path], T]) -> T:
    """Writes a folder, which appears by one rename once everything is in it.

    One that exists is filled by a rename for each file: it may be a mount, or where the user stands.

    Args:
        out: a folder that is new or empty; those around it are made.
        write: fills the folder that it is given; if it raises, nothing is left of it.

    Returns:
        What `write` returned.

    Raises:
        UserError: something is there, or the file system refuses.
    """
    partial = _partial(out)
    try:
        check_free(out)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            done = write(partial)
            for path in (*partial.rglob("*"), partial):
                to_disk(path)
            _check_empty(out)
            if partial.parent == out:
                _move_content(partial, out)
            else:
                os.replace(partial, out)
            to_disk(partial.parent)
            return done
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise _unwritable(out, error) from None


def check_new(out: Path) -> None:
    """Raises UserError if a file is already there that writing would replace."""
    if os.path.lexists(out):
        raise UserError(f"{option('out', str(out))} exists: nothing is overwritten; choose another")


def write_new(out: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file completely, or not at all.

    Args:
        out: a file that is new; the folders around it are made.
        write: writes to the file that it is given.

    Raises:
        UserError: something is there, or the file system refuses.
    """
    check_new(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, write)
    except OSError as error:
        raise _unwritable(out, error) from None


def _unwritable(out: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {option('out', str(out))}: {error.strerror or error}; {fix_for(error)}")


def _partial(out: Path) -> Path:
    """Where a folder is written, on its own file system."""
    return out / _PARTIAL if out.is_dir() else out.with_name(f".{out.name}{_PARTIAL}")


def _check_empty(out: Path) -> None:
    """Raises UserError unless a folder is new, or empty but for what is being written."""
    if not os.path.lexists(out):
        return
    if not out.is_dir() or any(path.name != _PARTIAL for path in out.iterdir()):
        raise UserError(
            f"{option('out', str(out))} is not an empty folder: nothing is overwritten; choose another"
        )


def _move_content(folder: Path, out: Path) -> None:
    """Moves everything in a folder to another one, or nothing."""
    moved: list[Path] = []
    try:
        for path in list(folder.iterdir()):
            os.replace(path, out / path.name)
            moved.append(path)
    except BaseException:
        for path in moved:
            os.replace(out / path.name, path)
        raise
