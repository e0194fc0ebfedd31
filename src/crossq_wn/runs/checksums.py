"""Files with checksums: what was written is read again unaltered, or not at all."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from crossq_wn.machine import write_atomically


class DamagedError(Exception):
    """A checkpoint that cannot be used; the message names the file and what is wrong with it."""


def checksum_of(content: bytes) -> str:
    """Returns the checksum of a file with this content."""
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> str:
    """Writes a file atomically and returns its checksum."""
    write_atomically(path, content)
    return checksum_of(content)


def read(path: Path, checksum: str) -> bytes:
    """Reads a file.

    Raises:
        DamagedError: it cannot be read, or has another checksum.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read: {error.strerror}") from None
    if checksum_of(content) != checksum:
        raise DamagedError(f"{path.name} is truncated or altered")
    return content


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
