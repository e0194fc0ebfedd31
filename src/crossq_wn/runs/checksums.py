"""Files with checksums, which are read exactly as they were written or not at all."""

import hashlib
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from crossq_wn import files
from crossq_wn.errors import UserError, option, sized
from crossq_wn.machine import available_memory

_MOST = 2**38  # bytes of a file of arrays that are read, and never more than memory has room for


class DamagedError(Exception):
    """A file of a checkpoint cannot be used; the message names it and says what is wrong."""

    def way_on(self, run: Path) -> str:
        """How a run can go on without that file, with a comma after it; empty if there is no way."""
        return ""


class DamagedReplayError(DamagedError):
    """A checkpoint in which only rows of replay are damaged."""

    def way_on(self, run: Path) -> str:
        """As above: without these rows."""
        return f"`crossq-wn resume {run} --without-damaged-replay` goes on without the damaged rows, or "


class DamagedPrefillError(DamagedError):
    """Rows of prefill that stay apart from the others are damaged."""

    def way_on(self, run: Path) -> str:
        """As above: only with these rows."""
        return (
            "put back the file of prefilled rows from a copy of the run, because every minibatch needs them "
            f"and {option('without_damaged_replay', True)} cannot leave them out, or "
        )


def checksum_of(content: bytes) -> str:
    """The checksum of a file with this content."""
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> str:
    """Writes a file atomically; returns its checksum.

    Args:
        path: in a folder that exists.
        content: all of the file.
    """
    files.write_atomically(path, content, within=run_of(path))
    return checksum_of(content)


def run_of(path: Path) -> Path:
    """The run directory of a file of a checkpoint or of replay; no link below it is followed."""
    return path.parents[2]


def read(path: Path, checksum: str) -> bytes:
    """Reads and verifies a file of a checkpoint or of replay.

    Args:
        path: of the file.
        checksum: that it must have.

    Raises:
        DamagedError: it cannot be read, or has another checksum.
        UserError: there is too little free memory for it.
    """
    try:
        content = _read_if_it_fits(path)
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read: {error.strerror}") from None
    if checksum_of(content) != checksum:
        raise DamagedError(f"{path.name} is truncated or altered")
    return content


def _read_if_it_fits(path: Path) -> bytes:
    """Reads a file of arrays; raises UserError if there is too little free memory for it."""
    free = available_memory()
    if free is not None and free < _MOST:
        with files.opened(path, within=run_of(path)) as file:
            size = os.fstat(file.fileno()).st_size
        if free < size <= _MOST:
            takes, only = map(sized, (size, free))
            raise UserError(f"{path} takes {takes} and only {only} are free: free some memory")
    return files.read(path, _MOST, within=run_of(path))


def read_tensors(path: Path, checksum: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file, by name.

    Raises:
        DamagedError: it cannot be read, has another checksum, or holds something else.
    """
    try:
        tensors: dict[str, np.ndarray] = load_tensors(read(path, checksum))
        return tensors
    except SafetensorError as error:
        raise DamagedError(f"{path.name} is not a safetensors file: {error}") from None
