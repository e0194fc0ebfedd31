"""The journal: every decision on disk as it arrives, so that a power cut costs none of a robot's time.

journal/
  000025000.records      the decisions since the checkpoint at 25,000 environment frames

A file begins with each checkpoint. Decisions are numbered, so however many checkpoints and files survive,
each decision is restored once. A record that is torn or damaged does not count, and those behind it do.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from crossq_wn import files
from crossq_wn.errors import UserError, counted, one_line
from crossq_wn.real_time.records import Decision, pack, record_type, unpack
from crossq_wn.runs.tables import cannot_write

_SYNC_SECONDS = 1.0  # between calls that wait for the disk


class Journal:
    """The journal of a run.

    Args:
        run: the run directory.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
    """

    def __init__(self, run: Path, observation_size: int, action_size: int) -> None:
        self._run, self.folder = run, run / "journal"
        self._kind: np.dtype[np.void] = record_type(observation_size, action_size)
        self._path: Path | None = None
        self._waiting = b""  # records that could not be written yet
        self._synced = time.monotonic()

    def begin(self, frames: int, oldest: int) -> None:
        """Begins the file that follows on a checkpoint, and removes what no checkpoint needs any more.

        Args:
            frames: environment frames of the checkpoint.
            oldest: those of the oldest checkpoint that is kept.

        Raises:
            UserError: it cannot be written.
        """
        path = self.folder / f"{frames:09d}.records"
        if path == self._path:
            return  # nothing new was saved, and decisions since then may be in it
        try:
            files.make_folder(self.folder, within=self._run)
            files.write_atomically(path, b"", within=self._run)
            files.to_disk(self.folder)
            for each in self._there():
                if not oldest <= int(each.stem) <= frames:
                    files.remove(each, within=self._run)
        except OSError as error:
            raise cannot_write(path, error) from None
        self._path = path

    def append(self, decisions: Sequence[Decision]) -> None:
        """Writes decisions; about once a second also waits until they are on disk.

        Raises:
            UserError: they cannot be written; the next call tries these again, too.
        """
        self._waiting += b"".join([pack(self._kind, decision) for decision in decisions])
        if not self._waiting:
            return
        assert self._path is not None
        try:
            files.append(self._path, self._waiting, within=self._run)
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._waiting = b""
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Waits until everything is on disk. Raises UserError if it cannot get there."""
        if self._path is None:  # where training could not begin
            return
        try:
            files.to_disk(self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._synced = time.monotonic()

    def since(self, number: int, tell: Callable[[str], None]) -> Iterator[Decision]:
        """Yields the decisions from a number on, in order and each of them once.

        Args:
            number: of the first decision that a checkpoint lacks.
            tell: is told in one line of decisions that are lost, because their records are damaged.

        Raises:
            UserError: a file cannot be read, which may pass.
        """
        lost, first = 0, number
        for path in self._there():
            for decision in self._read(path):
                if decision.number < number:
                    continue
                first = first if lost else number
                lost += decision.number - number
                yield decision
                number = decision.number + 1
        if lost:
            tell(
                f"the journal lacks {counted(lost, 'decision')}, damaged on the disk (the first is number "
                f"{first:,}): the run goes on without"
            )

    def _read(self, path: Path) -> Iterator[Decision]:
        """Yields the sound decisions in a file."""
        try:
            with files.opened(path, within=self._run) as file:
                while content := file.read(self._kind.itemsize):
                    if (decision := unpack(self._kind, content)) is not None:
                        yield decision
        except FileNotFoundError:
            return
        except OSError as error:
            why = error.strerror or one_line(error)
            raise UserError(
                f"{path} cannot be read ({why}), and it may hold decisions that no checkpoint has: make it "
                "readable, or remove it to go on without them"
            ) from None

    def _there(self) -> list[Path]:
        """The files, oldest first."""
        found = []
        with contextlib.suppress(OSError):
            for name in files.names(self.folder, within=self._run):
                if re.fullmatch(r"[0-9]{9,18}\.records", name):
                    found.append(self.folder / name)
        return sorted(found, key=lambda path: int(path.stem))
