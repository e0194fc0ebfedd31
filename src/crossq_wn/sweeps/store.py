"""Run directories in a store such as a bucket, for nodes that share no folder; any file system of fsspec.

STORE/RUN/
  000002-5be1c03a/    what one attempt stored: nobody else writes there
    sign              changes while it lives, and says `ended` once it has ended
    files/SHA256      contents of files
    000000003.json    what the run directory held: path -> checksum

The newest list of the highest attempt that has one is the run. So what an old attempt still stores is not
looked at once a newer one has stored anything: there are no locks, no renames and no clocks to agree on.
"""

import contextlib
import hashlib
import importlib.util
import json
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from crossq_wn.errors import UserError, one_line
from crossq_wn.fences import LostLeaseError
from crossq_wn.files import names as names_in
from crossq_wn.files import opened
from crossq_wn.installation import install_command
from crossq_wn.lazy import fsspec
from crossq_wn.runs import leases

RENEWED = 10.0  # seconds between signs of life
_LOOK = 1.0  # seconds between looks at another's
_TRIES = 5  # at reading what others may be replacing
_ATTEMPT = re.compile(r"\d{6}-[0-9a-f]{8}")
_LIST = re.compile(r"\d{9}\.json")
_OWN = re.compile(r"\.lock|\.lease-\d+|.*\.partial")  # of the process that has the folder open
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r".*\.(csv|jsonl)")
_CHUNK = 2**20  # bytes
_ENDED = b"ended"


class Snapshot(NamedTuple):
    """What a run directory held at one time."""

    attempt: str
    number: int  # of the attempt's lists
    files: Mapping[str, str]  # path within the run -> SHA-256

    @property
    def name(self) -> str:
        """Tells snapshots of a run apart."""
        return f"{self.attempt}/{self.number}"

    @property
    def trained(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(path.startswith("checkpoints/") for path in self.files)


class Store:
    """A store of run directories.

    Args:
        url: of its folder, such as `s3://bucket/paper` or `file:///mnt/paper`.

    Raises:
        UserError: fsspec or what it needs for this kind of store is missing, or the store cannot be reached.
    """

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("fsspec") is None:
            raise UserError(f"--store needs fsspec: {install_command('store')}")
        if "://" not in url:
            raise UserError(f"--store is {url!r}: give a URL, such as s3://bucket/paper or file:///mnt/paper")
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
            self._system.makedirs(self._root, exist_ok=True)
            self._system.ls(self._root)
        except Exception as error:  # each kind of store has errors of its own
            raise unusable(url, error) from None

    def newest(self, run: str) -> Snapshot | None:
        """What a run directory held when it was last stored; None: it never was."""
        return next(self._snapshots(run), None)

    def fetch(self, run: str, folder: Path) -> Snapshot | None:
        """Writes a run directory as it was last stored whole; returns what that was.

        Args:
            run: its name in the store.
            folder: what is in it is removed.

        Raises:
            UserError: all that is stored of it is damaged.
        """
        for _ in range(_TRIES):  # while it is read, its owner may store it anew and remove what was there
            found = False
            for snapshot in self._snapshots(run):
                found = True
                shutil.rmtree(folder, ignore_errors=True)
                if self._fetched(run, snapshot, folder):
                    return snapshot
            if not found:
                return None
        raise UserError(f"{run} is damaged in the store: every copy of it lacks a file")

    def _snapshots(self, run: str) -> Iterator[Snapshot]:
        """All snapshots of a run, the newest first; lists that were cut off are passed over."""
        for attempt in reversed(self.attempts(run)):
            for name in reversed(self.names(f"{run}/{attempt}", _LIST)):
                with contextlib.suppress(ValueError, FileNotFoundError, AttributeError, RecursionError):
                    files = json.loads(self.read(f"{run}/{attempt}/{name}"))
                    yield Snapshot(attempt, int(name.removesuffix(".json")), dict(files.items()))

    def _fetched(self, run: str, snapshot: Snapshot, folder: Path) -> bool:
        for path, checksum in snapshot.files.items():
            parts = PurePosixPath(path).parts
            if path.startswith("/") or ".." in parts or not _CHECKSUM.fullmatch(str(checksum)):
                raise UserError(f"{run} in the store has a file {path!r}, which is none of a run's")
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._system.get_file(self._path(f"{run}/{snapshot.attempt}/files/{checksum}"), str(target))
            except FileNotFoundError:
                return False
            if _checksum(target) != checksum:
                return False
        return True

    def attempts(self, run: str) -> list[str]:
        """The names of all attempts at a run, the newest last."""
        return self.names(run, _ATTEMPT)

    def names(self, folder: str, pattern: "re.Pattern[str]") -> list[str]:
        """The names of some kind in a folder, sorted."""
        self._system.invalidate_cache()
        try:
            paths = self._system.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        found = [str(path).rstrip("/").rpartition("/")[2] for path in paths]
        return sorted(name for name in found if pattern.fullmatch(name))

    def read(self, path: str) -> bytes:
        """The content of a file."""
        content: bytes = self._system.cat_file(self._path(path))
        return content

    def write(self, path: str, content: bytes) -> None:
        """Writes a file whole."""
        self._system.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(self._path(path), content)

    def put(self, local: Path, path: str) -> None:
        """Stores a local file."""
        self._system.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
        self._system.put_file(str(local), self._path(path))

    def remove(self, path: str) -> None:
        """Removes a file or folder, if it is there."""
        with contextlib.suppress(OSError):
            self._system.rm(self._path(path), recursive=True)

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


class Claim:
    """An attempt's hold on a run in a store: what it stores counts until there is a newer attempt.

    Args:
        store: that has the run.
        run: its name there.

    Raises:
        UserError: another attempt at it is alive.
    """

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run, self._number, self._signs = store, run, 0, 0
        self._known: dict[str, tuple[tuple[int, int], str]] = {}  # path -> size and time of change, checksum
        before = store.attempts(run)
        if before:
            _wait(store, run, before[-1])
        self.name = f"{int(before[-1][:6]) + 1 if before else 1:06d}-{secrets.token_hex(4)}"
        self._sign()
        if store.attempts(run)[-1] != self.name:
            raise _in_use(run)
        self._ended = threading.Event()
        self._life = threading.Thread(target=self._live, daemon=True)
        self._life.start()

    def require(self) -> None:
        """Raises LostLeaseError if there is a newer attempt."""
        if self.store.attempts(self.run)[-1:] != [self.name]:
            raise LostLeaseError(Path(self.run))

    def save(self, folder: Path) -> None:
        """Stores a run directory, in which a process may be training.

        Raises:
            LostLeaseError: there is a newer attempt.
            OSError: the store cannot be reached, or too much changes.
        """
        self.require()
        for _ in range(_TRIES):
            before = _checkpoints(folder)
            try:
                found = self._stored(folder)
            except FileNotFoundError:  # an old checkpoint was removed meanwhile
                continue
            if _checkpoints(folder) == before:
                self._write(found)
                self._clear(found)
                return
        raise OSError(f"{folder} changes faster than it is stored")

    def end(self) -> None:
        """Gives the run back; if the store cannot be told, it is found out by the missing signs of life."""
        self._ended.set()
        self._life.join()
        with contextlib.suppress(Exception):  # each kind of store has errors of its own
            self.store.write(f"{self.run}/{self.name}/sign", _ENDED)

    def _stored(self, folder: Path) -> dict[str, str]:
        """Stores the files of a folder that have changed; returns the checksums of all."""
        found: dict[str, str] = {}
        for path in _in_order(folder):
            status = path.stat()
            name, mark = path.relative_to(folder).as_posix(), (status.st_size, status.st_mtime_ns)
            if name not in self._known or self._known[name][0] != mark:
                self._known[name] = mark, self._put(path)
            found[name] = self._known[name][1]
        return found

    def _put(self, path: Path) -> str:
        """Stores a file as it is now, by way of a copy, since it may be growing; returns its checksum."""
        with tempfile.NamedTemporaryFile() as copy:
            with opened(path) as file:
                shutil.copyfileobj(file, copy, _CHUNK)
            copy.flush()
            checksum = _checksum(Path(copy.name))
            self.store.put(Path(copy.name), f"{self.run}/{self.name}/files/{checksum}")
        return checksum

    def _write(self, files: Mapping[str, str]) -> None:
        content = json.dumps(files).encode()
        self.store.write(f"{self.run}/{self.name}/{self._number:09d}.json", content)
        self._number += 1

    def _clear(self, files: Mapping[str, str]) -> None:
        """Removes what this attempt's newest list does not name, and earlier attempts.

        An attempt that was cut off may still do so: its own newest list stays whole, so there always is one.
        """
        own, needed = f"{self.run}/{self.name}", {*files.values()}
        for name in self.store.names(own, _LIST)[:-1]:
            self.store.remove(f"{own}/{name}")
        for name in self.store.names(f"{own}/files", _CHECKSUM):
            if name not in needed:
                self.store.remove(f"{own}/files/{name}")
        for attempt in self.store.attempts(self.run):
            if attempt < self.name:
                self.store.remove(f"{self.run}/{attempt}")

    def _sign(self) -> None:
        self._signs += 1
        self.store.write(f"{self.run}/{self.name}/sign", str(self._signs).encode())

    def _live(self) -> None:
        while not self._ended.wait(RENEWED):
            with contextlib.suppress(Exception):  # the next sign may get through
                self._sign()


def _wait(store: Store, run: str, attempt: str) -> None:
    """Waits until the newest attempt at a run is known to be over; raises UserError if it is alive."""
    before = _sign_of(store, run, attempt)
    end = time.monotonic() + leases.PATIENCE
    while before != _ENDED and time.monotonic() < end:
        time.sleep(_LOOK)
        now = _sign_of(store, run, attempt)
        if now == _ENDED:
            return
        if now != before:
            raise _in_use(run)


def _sign_of(store: Store, run: str, attempt: str) -> bytes:
    try:
        return store.read(f"{run}/{attempt}/sign")
    except FileNotFoundError:
        return b""


def unusable(url: str, error: Exception) -> UserError:
    """The error for a store that cannot be used, whatever its kind of store raises."""
    return UserError(f"--store {url} cannot be used: {one_line(error)[:200]}")


def _in_use(run: str) -> UserError:
    return UserError(f"{run} in the store is in use by another process: wait for it, or stop it")


def _checkpoints(folder: Path) -> list[str]:
    return names_in(folder / "checkpoints", within=folder)


def _in_order(folder: Path) -> Iterator[Path]:
    """The files of a run directory: the logs last, which then have the rows that checkpoints vouch for.

    Links are left out, as those that W&B makes: what they lead to is no part of the run.
    """
    last = []
    for path in sorted(folder.rglob("*")):
        ours = any(_OWN.fullmatch(part) for part in path.relative_to(folder).parts)
        if ours or path.is_symlink() or not path.is_file():
            continue
        if _LOG.fullmatch(path.name):
            last.append(path)
        else:
            yield path
    yield from last


def _checksum(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
