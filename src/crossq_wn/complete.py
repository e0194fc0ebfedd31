"""The folder of an export: new, complete, or not there at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from crossq_wn.errors import UserError, fix_for, option
from crossq_wn.files import to_disk

T = TypeVar("T")


def check_free(out: Path) -> None:
    """Raises UserError if something is already there that writing would replace."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(
            f"{option('out', str(out))} exists: nothing is overwritten; choose another, or remove it"
        )


def write_complete(out: Path, write: Callable[[Path], T]) -> T:
    """Writes a folder, which appears by one rename once everything is in it.

    Args:
        out: the folder; those around it are made.
        write: fills the folder that it is given; if it raises, nothing is left of it.

    Returns:
        What `write` returned.

    Raises:
        UserError: the file system refuses.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            done = write(partial)
            for file in partial.iterdir():
                to_disk(file)
            to_disk(partial)
            check_free(out)
            os.replace(partial, out)
            to_disk(out.parent)
            return done
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {option('out', str(out))}: {error.strerror or error}; {fix_for(error)}"
        ) from None


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Writes policy.json."""
    text = json.dumps(description, indent=1, allow_nan=False)
    (folder / "policy.json").write_text(text + "\n", encoding="utf-8")
