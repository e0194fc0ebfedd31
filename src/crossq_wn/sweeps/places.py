"""The place of a sweep's folder: whether it can be made there, and how much room there is."""

import shutil
import tempfile
from pathlib import Path

from crossq_wn.errors import UserError, not_made


def check(out: Path) -> None:
    """Raises UserError if nothing can be made in a folder, or the folder cannot be made itself."""
    there = _existing(out)
    if not there.is_dir():
        raise UserError(f"--out {out}: {there} is a file, where a folder belongs; choose another place")
    try:
        with tempfile.TemporaryDirectory(prefix=".crossq-wn-", dir=there):
            pass
    except OSError as error:
        raise UserError(f"--out {out}: {not_made(error, there / out.name)}") from None


def free(out: Path) -> int | None:
    """The bytes that are free where a folder is or will be; None where the system does not say."""
    try:
        return shutil.disk_usage(_existing(out)).free
    except OSError:
        return None


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    whole = path.absolute()
    for each in (whole, *whole.parents):
        if each.exists():
            return each
    return whole
