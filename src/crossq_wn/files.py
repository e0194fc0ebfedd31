"""Files that may come from a stranger, handled so that they can do no harm.

A run directory is data, and may have been unpacked from anywhere. All files of runs are opened, written,
renamed and deleted here, under three rules. No link inside a run is followed, so nothing outside is read,
changed or deleted. Only regular files are opened, so no pipe or device can hang the program. Sizes are
checked before anything is read. Whatever changes a run that is open here takes its lease (`fences`).

A path consists of what the user named and of names inside a run. `within` is the folder below which no link
is followed; by default it is the folder that holds the file, which may itself be reached through links.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from crossq_wn import fences
from crossq_wn.errors import UserError, sized
from crossq_wn.machine import resolved

# The most bytes that a file of each kind may have to be read; real ones are far smaller.
MOST_JSON = 16 * 2**20  # config.json and manifest.json of a run
MOST_MANIFEST = 256 * 2**20  # of a checkpoint: it keeps eval.csv and the environments' plain state
MOST_TABLE = 2**30  # a CSV file, unpacked
MOST_VIDEO = 20 * 2**20  # that a report looks at
_AT_ONCE = 2**30  # bytes that every system reads in one call

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}  # fmt: skip


class RefusedError(UserError, OSError):
    """A file is not opened because of what it is; `strerror` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        OSError.__init__(self, errno.EOPNOTSUPP, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


def read(path: Path, most: int, *, within: Path | None = None) -> bytes:
    """Reads a file.

    Args:
        path: of a regular file.
        most: bytes that it may have at most.
        within: the folder below which no link is followed.

    Raises:
        RefusedError: it is a link, not a regular file, or too large.
        OSError: it is missing or cannot be read.
    """
    handle, found = _opened(path, within)  # without a file object: sweeps have tens of thousands of files
    size = found.st_size
    try:
        if size > most:
            raise RefusedError(path, f"has {sized(size)}, where at most {sized(most)} are read")
        if size <= _AT_ONCE and len(content := os.pread(handle, size, 0)) == size:
            return content  # no more than that, even if the file is growing
        with os.fdopen(handle, "rb", closefd=False) as file:  # in no more memory than the size
            return file.read(size)
    finally:
        os.close(handle)


def read_named(path: Path, most: int) -> bytes:
    """Reads a file that the user named, which may be reached through links; otherwise like `read`.

    It may also be a pipe that the shell has opened for this process, as `<(zcat curves.csv.gz)` does.
    """
    pipe = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,6})", str(path))
    if pipe is None or not stat.S_ISFIFO(os.fstat(int(pipe[1])).st_mode):
        return read(resolved(path), most)
    with os.fdopen(os.dup(int(pipe[1])), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise RefusedError(path, f"has more than the {sized(most)} that are read")
    return content


def read_start(path: Path, count: int) -> bytes:
    """Reads the first bytes of a file that the user named, which may be reached through links."""
    with opened(resolved(path)) as file:
        return file.read(count)


def read_json(path: Path, most: int, *, within: Path | None = None, constants: bool = False) -> Any:
    """Reads a JSON file.

    Args:
        path: of a regular file.
        most: bytes that it may have at most.
        within: the folder below which no link is followed.
        constants: whether it may contain NaN and infinities.

    Raises:
        RefusedError: as in `read`; or it is not JSON, repeats a key, or is nested too deeply.
        OSError: it is missing or cannot be read.
    """
    return parsed(path, read(path, most, within=within), constants=constants)


def parsed(path: Path, content: bytes, *, constants: bool = False) -> Any:
    """What a JSON file holds, of which the content has been read; otherwise as `read_json`."""
    try:
        return (_LENIENT if constants else _STRICT).decode(content.decode())
    except RecursionError:
        raise RefusedError(path, "is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are among these
        raise RefusedError(path, f"is no JSON that can be read: {' '.join(str(error).split())}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} is there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse)
_LENIENT = json.JSONDecoder(object_pairs_hook=_once)


def opened(path: Path, *, within: Path | None = None) -> BinaryIO:
    """Opens a regular file for reading; raises as `read` does."""
    return os.fdopen(_opened(path, within)[0], "rb")


def append(path: Path, content: bytes, *, within: Path | None = None) -> None:
    """Appends all of a content, or nothing, to an existing regular file without a second name (hard link)."""
    handle, found = _opened(path, within, _APPEND)
    # Once the file is open: who takes the run over replaces it, and later rows go to a file without a name.
    with os.fdopen(handle, "ab", buffering=0) as file, fences.held(path):
        if found.st_nlink > 1:
            raise RefusedError(path, "is a file with several names (a hard link), which are not written to")
        try:
            while content:
                content = content[file.write(content) :]
        except BaseException:
            file.truncate(found.st_size)
            raise


def open_log(path: Path) -> BinaryIO:
    """Opens a file for appending, and creates it if it is missing."""
    return os.fdopen(_opened(path, None, _APPEND | os.O_CREAT)[0], "ab")


def open_lock(path: Path) -> BinaryIO:
    """Opens a file to be locked, and creates it if it is missing; leaves its content alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(_opened(path, None, flags)[0], "r+b", buffering=0)


def write_atomically(
    path: Path, content: str | bytes | Callable[[BinaryIO], object], *, within: Path | None = None
) -> None:
    """Writes a file, or replaces it, in one step; a link in its place is replaced and not followed.

    Readers see either the old content or all of the new one, even after a crash or a power cut.

    Args:
        path: the file, in a folder that exists.
        content: text (UTF-8), bytes, or a function that writes to the file that it is given.
        within: the folder below which no link is followed.

    Raises:
        OSError: it cannot be written; the old content is untouched.
    """
    partial = f".{path.name}.partial"
    with fences.held(path) as lease, _parent(path, within) as folder:
        place = folder if lease is None else lease
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=place)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, 0o666, dir_fd=place), "w+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path.name, src_dir_fd=place, dst_dir_fd=folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial, dir_fd=place)
            raise


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk and would survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        raise _explained(error, path) from None
    finally:
        os.close(handle)


def move(path: Path, target: Path, *, within: Path | None = None) -> None:
    """Renames a file or folder within a file system, and replaces whatever has the new name."""
    name = path.name
    with fences.held(path) as lease, _parent(path, within) as source, _parent(target, within) as folder:
        if lease is not None and path.parent != fences.lease_over(path):
            source, name = lease, fences.take_in(path.name, source, lease)
        os.replace(name, target.name, src_dir_fd=source, dst_dir_fd=folder)


def set_aside(path: Path) -> Path | None:
    """Renames a damaged file, if there is one, to the next free `NAME.damaged-N`; returns its new path."""
    if not os.path.lexists(path):
        return None
    number, aside = 1, path.with_name(f"{path.name}.damaged-1")
    while os.path.lexists(aside):  # true of dangling links as well
        number, aside = number + 1, path.with_name(f"{path.name}.damaged-{number + 1}")
    move(path, aside)
    return aside


def remove(path: Path, *, within: Path | None = None) -> None:
    """Removes a file, a link or a folder with its contents, if it exists; never what a link points to."""
    name, missing = path.name, contextlib.suppress(FileNotFoundError)
    with fences.held(path) as lease, missing, _parent(path, within) as folder:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if lease is not None:
            folder, name = lease, fences.take_in(path.name, folder, lease)
        erase = shutil.rmtree if stat.S_ISDIR(found.st_mode) else os.unlink
        erase(name, dir_fd=folder)


def make_folder(path: Path, *, within: Path) -> None:
    """Creates a folder inside another one, with the missing folders between them; follows no link.

    Raises:
        RefusedError: something other than a folder is there.
    """
    fences.require(path)
    below = path.relative_to(within)
    for part in (*reversed(below.parents[:-1]), *([below] if below.parts else [])):
        with _parent(within / part, within) as folder:
            try:
                os.mkdir(part.name, dir_fd=folder)
            except FileExistsError:
                require_folder(within / part)


def require_folder(path: Path) -> None:
    """Raises RefusedError if something other than a folder is there, such as a link to one."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise RefusedError(path, f"is {_kind(found)}, where a folder belongs")


def names(folder: Path, *, within: Path | None = None) -> list[str]:
    """The names in a folder, sorted; none if it does not exist or is not a folder.

    Raises:
        RefusedError: it is a link.
    """
    try:
        with _parent(folder / "_", within) as handle:
            return sorted(os.listdir(handle))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folders(folder: Path, *, within: Path) -> list[str]:
    """The names of the folders in a folder, in no order and without links; otherwise like `names`."""
    try:
        with _parent(folder / "_", within) as handle, os.scandir(handle) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def _parent(path: Path, within: Path | None) -> Iterator[int]:
    """Opens the folder that holds a path, from `within` on, without following a link; names it in errors."""
    there = path.parent if within is None else within
    rest = path.parts[len(there.parts) :]
    handle = os.open(there, _FOLDER)
    try:
        if ".." in rest or there.parts + rest != path.parts:
            raise RefusedError(path, "is named by a way out of its folder")
        for name in rest[:-1]:
            there = there / name
            try:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as error:
                raise _explained(error, there) from None
            os.close(handle)
            handle = below
        yield handle
    except OSError as error:
        raise _explained(error, path) from None
    finally:
        os.close(handle)


def _opened(path: Path, within: Path | None, flags: int = _READ) -> tuple[int, os.stat_result]:
    if within is None:
        return _checked(path, flags)
    with _parent(path, within) as folder:
        return _checked(path, flags, folder)


def _checked(path: Path, flags: int, folder: int | None = None) -> tuple[int, os.stat_result]:
    """Opens a regular file, in an open folder or by its whole path; returns its status too."""
    try:
        handle = os.open(path if folder is None else path.name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        raise _explained(error, path) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise RefusedError(path, f"is {_kind(found)}, not a regular file")
    return handle, found


def _explained(error: OSError, path: Path) -> OSError:
    """The same error for the whole path, or a refusal if the kind of file is the reason."""
    if path.is_symlink():
        return RefusedError(path, "is a link: links inside a run are not followed")
    if error.errno == errno.ENXIO:  # a pipe or a socket without a reader
        return RefusedError(path, "is a pipe, a socket or a device, not a regular file")
    named = isinstance(error, RefusedError) or os.sep in str(error.filename)
    return error if named else OSError(error.errno, error.strerror, str(path))


def _kind(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "a file")
