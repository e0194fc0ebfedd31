"""Files that may come from a stranger: regular ones, within bounds, and never by way of a link.

A run directory is data, and may have been unpacked from anywhere. All files of runs are opened, written,
renamed and deleted here, which keeps three promises: no link inside a run is followed, so that nothing
outside is read, changed or deleted; only regular files are opened, so that no pipe and no device can hang;
and sizes are known before anything is read.

Paths are what the user named, plus names inside a run. `within` is the folder from which on no link counts;
by default it is the folder that holds the file, which may itself be reached by links.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from crossq_wn.errors import UserError
from crossq_wn.machine import available_memory

# The most bytes that a file may have before it is read, by its kind; the largest ever seen are far smaller.
MOST_JSON = 16 * 2**20  # config.json and manifest.json of a run
MOST_MANIFEST = 256 * 2**20  # of a checkpoint: it keeps eval.csv and the environments' plain state
MOST_TABLE = 2**30  # a CSV file, unpacked
MOST_VIDEO = 20 * 2**20  # that a report looks at
MOST_TENSORS = 2**38  # and never more than memory has room for

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class RefusedError(UserError, OSError):
    """A file that is not opened because of what it is; `strerror` says what."""

    def __init__(self, path: Path, reason: str) -> None:
        OSError.__init__(self, errno.EINVAL, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


def read(path: Path, most: int, *, within: Path | None = None) -> bytes:
    """Reads a file.

    Args:
        path: of a regular file.
        most: bytes that it may have.
        within: see above.

    Raises:
        RefusedError: it is a link, no regular file, or larger than that.
        OSError: it is not there or cannot be read.
    """
    with opened(path, within=within) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise RefusedError(path, f"has {_size(size)}, where at most {_size(most)} are read")
        return file.read(size)  # and no more if it grows meanwhile


def read_start(path: Path, count: int) -> bytes:
    """Reads the first bytes of a file that the user named, which may be reached by links."""
    with opened(path.resolve()) as file:
        return file.read(count)


def read_tensors(path: Path, *, within: Path | None = None) -> bytes:
    """Reads a file of arrays, of which memory must have room for; otherwise as `read`."""
    free = available_memory()
    return read(path, MOST_TENSORS if free is None else min(MOST_TENSORS, free), within=within)


def read_json(path: Path, most: int, *, within: Path | None = None, constants: bool = False) -> Any:
    """Reads a JSON file.

    Args:
        path: of a regular file.
        most: bytes that it may have.
        within: see above.
        constants: whether NaN and infinities may be in it.

    Raises:
        RefusedError: as `read`; or it is no JSON, names a key twice or is nested too deeply.
        OSError: it is not there or cannot be read.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    content = read(path, most, within=within)
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_once, parse_constant=None if constants else refuse
        )
    except RecursionError:
        raise RefusedError(path, "is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are among these
        raise RefusedError(path, f"is no JSON that can be read: {' '.join(str(error).split())}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


@contextlib.contextmanager
def opened(path: Path, *, within: Path | None = None) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; raises as `read` does."""
    with _parent(path, within) as folder:
        handle = _checked(path, _READ, folder)
    with os.fdopen(handle, "rb") as file:
        yield file


def append(path: Path, content: bytes, *, within: Path | None = None) -> None:
    """Appends to a regular file that is there and has no other name."""
    with _parent(path, within) as folder:
        handle = _checked(path, _APPEND, folder)
    with os.fdopen(handle, "ab") as file:
        if os.fstat(handle).st_nlink > 1:
            raise RefusedError(path, "is a file with several names (a hard link), which are not written to")
        file.write(content)


def open_log(path: Path) -> BinaryIO:
    """Opens a file to append to, which is made if it is not there."""
    with _parent(path, None) as folder:
        return os.fdopen(_checked(path, _APPEND | os.O_CREAT, folder), "ab")


def open_lock(path: Path) -> BinaryIO:
    """Opens a file to be locked, which is made if it is not there; what is in it stays."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _parent(path, None) as folder:
        return os.fdopen(_checked(path, flags, folder), "r+b", buffering=0)


def write_atomically(
    path: Path, content: str | bytes | Callable[[BinaryIO], object], *, within: Path | None = None
) -> None:
    """Writes a file, or replaces it, in one step; a link in its place is replaced and not followed.

    Whoever reads it finds the old content or all of the new one, also after a crash or a power cut.

    Args:
        path: the file, in a folder that exists.
        content: text (UTF-8), bytes, or a function that writes to the file that it is given.
        within: see above.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    partial = f".{path.name}.partial"
    with _parent(path, within) as folder:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, 0o666, dir_fd=folder), "w+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial, dir_fd=folder)
            raise


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk and would survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(path: Path, name: str, *, within: Path | None = None) -> None:
    """Gives a file or folder another name in the same folder, in place of what has it."""
    with _parent(path, within) as folder:
        os.replace(path.name, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove(path: Path, *, within: Path | None = None) -> None:
    """Removes a file, or a link itself, if it is there; a folder with all that is in it, but no link's."""
    with contextlib.suppress(FileNotFoundError), _parent(path, within) as folder:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path.name, dir_fd=folder)
        else:
            os.unlink(path.name, dir_fd=folder)


def make_folder(path: Path, *, within: Path) -> None:
    """Makes a folder inside another one, and those between them; each is a folder, and no link to one.

    Raises:
        RefusedError: something else is there.
    """
    below = path.relative_to(within)
    for part in (*reversed(below.parents[:-1]), *([below] if below.parts else [])):
        with _parent(within / part, within) as folder:
            try:
                os.mkdir(part.name, dir_fd=folder)
            except FileExistsError:
                require_folder(within / part)


def require_folder(path: Path) -> None:
    """Raises RefusedError if something else than a folder, such as a link to one, lies where one belongs."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise RefusedError(path, f"is {_kind(found)}, where a folder belongs")


def names(folder: Path, *, within: Path | None = None) -> list[str]:
    """Lists what is in a folder, in order; nothing if it is not there or is no folder.

    Raises:
        RefusedError: it is a link.
    """
    try:
        with _parent(folder / "_", folder if within is None else within) as handle:
            return sorted(os.listdir(handle))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_folder(path: Path) -> bool:
    """Whether a folder is there, and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields every folder from a root down, with the names of what is in it that is no folder.

    Links to folders are not followed, except the root; folders that cannot be read are passed over.
    """
    waiting = [root]
    while waiting:
        folder, others = waiting.pop(), []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(folder / entry.name)
                    else:
                        others.append(entry.name)
        except OSError:
            continue
        yield folder, others


@contextlib.contextmanager
def _parent(path: Path, within: Path | None) -> Iterator[int]:
    """Opens the folder that holds a path, step by step from `within` on and without following a link."""
    top = path.parent if within is None else within
    handle = os.open(top, _FOLDER)
    try:
        there = top
        if ".." in path.parts[len(top.parts) :]:
            raise RefusedError(path, "is named by a way out of its folder")
        for name in path.parent.relative_to(top).parts:
            there = there / name
            try:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as error:
                raise _explained(error, there) from None
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _checked(path: Path, flags: int, folder: int) -> int:
    """Opens a regular file in a folder."""
    try:
        handle = os.open(path.name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        raise _explained(error, path) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise RefusedError(path, f"is {_kind(found)}, not a regular file")
    return handle


def _explained(error: OSError, path: Path) -> OSError:
    """The same error about the whole path, or a refusal if it is about what kind of thing is there."""
    if path.is_symlink():
        return RefusedError(path, "is a link: links inside a run are not followed")
    if error.errno == errno.ENXIO:  # a pipe or a socket to which nobody listens
        return RefusedError(path, "is a pipe, a socket or a device, not a regular file")
    return OSError(error.errno, error.strerror, str(path))


def _kind(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "a file")


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count:,} bytes"
