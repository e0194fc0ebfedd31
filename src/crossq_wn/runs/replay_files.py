"""Replay on disk: files of consecutive rows, which the checkpoints of a run share.

replay/
  seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before
  prefill-000020000.safetensors              rows that were recorded elsewhere, the same for all seeds
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as save_tensors

from crossq_wn.errors import UserError
from crossq_wn.learning.rows import Rows
from crossq_wn.runs import checksums
from crossq_wn.runs.checksums import DamagedError

if TYPE_CHECKING:
    from crossq_wn.learning.replay import Replay

Segment = dict[str, Any]  # a file's entry in the manifest: file, first and last row, sha256


class ReplayFiles:
    """Writes the replay of one run's seeds.

    It only builds on files that this process has written or verified. Each checkpoint reads one of the older
    files again, in turn, and if that is damaged writes it anew from memory.

    Args:
        folder: holds the files.
        warn: is told of each file that was damaged and written again.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self._warn, self._turn = folder, warn, 0
        self._segments: dict[int, list[Segment]] = {}  # by seed, oldest rows first
        self._prefill: Segment | None = None  # the file that all seeds share
        self._pinned = False  # whether its rows are those behind the rings, and not the first ones

    def build_on(self, seed: int, segments: Iterable[Segment]) -> None:
        """Takes verified files as those of a seed's oldest rows.

        Args:
            seed: whose rows.
            segments: the entries of the files, oldest rows first.
        """
        self._segments[seed] = list(segments)
        for each in self._segments[seed][:1]:
            if each["file"].startswith("prefill-"):
                self._prefill = each

    def build_on_pinned(self, segment: Segment | None) -> None:
        """Takes a verified file as that of the rows behind every ring, if there is one."""
        if segment is not None:
            self._prefill, self._pinned = segment, True

    def pinned(self, replay: Replay) -> Segment:
        """The entry of the file of the rows behind a replay's ring, which is written if there is none."""
        if self._prefill is None:
            self._prefill, self._pinned = self._write_prefill(replay.pinned_rows()), True
        return self._prefill

    def append(self, seed: int, replay: Replay) -> list[Segment]:
        """Writes the rows since the last checkpoint.

        Args:
            seed: whose rows.
            replay: of the seed.

        Returns:
            The entries of all files that are still needed, oldest rows first.
        """
        # Files whose rows have all been dropped from replay are no longer needed.
        segments = [each for each in self._segments.get(seed, []) if each["last"] > replay.begin]
        first = max(replay.begin, segments[-1]["last"] if segments else 0)
        if not segments and first == 0 < replay.common:  # what all seeds begin with
            if self._prefill is None:
                self._prefill = self._write_prefill(replay.read(0, replay.common))
            segments, first = [self._prefill], replay.common
        if first < replay.end or not segments:
            segments.append(self._write(seed, replay, first, replay.end))
        self._segments[seed] = segments
        return segments

    def mend(self, replays: dict[int, Replay], *, thorough: bool) -> bool:
        """Reads older files again, and writes damaged ones anew.

        Args:
            replays: by seed.
            thorough: whether to read all files, and not just the next one.

        Returns:
            Whether the entry of a file has changed, so that manifests with the old one are outdated.
        """
        there = [(seed, place) for seed in replays for place in range(len(self._segments.get(seed, [])))]
        count = len(there)
        if there and not thorough:
            self._turn += 1
            there = [there[self._turn % count]]
        if self._pinned and (thorough or self._turn % (count + 1) == 0):
            self._mend_pinned(next(iter(replays.values())))
        changed = False
        for seed, place in there:
            changed = self._mend_one(seed, place, replays[seed]) or changed
        return changed

    def _mend_one(self, seed: int, place: int, replay: Replay) -> bool:
        """Mends one of a seed's files; returns whether its entry has changed."""
        segment = self._segments[seed][place]
        first = max(replay.begin, segment["first"])
        damage = self._damage(segment)
        if damage is not None and first < segment["last"]:  # otherwise replay has dropped all of its rows
            self._segments[seed][place] = self._again(seed, replay, first, segment)
            self._warn(f"replay on disk was damaged and is written again from memory: {damage}")
        return segment != self._segments[seed][place]

    def _damage(self, segment: Segment) -> DamagedError | None:
        """What is wrong with a file; None if it is sound, or if memory is too short to read it just now."""
        try:
            checksums.read(self.folder / segment["file"], segment["sha256"])
        except UserError:
            return None
        except DamagedError as damage:
            return damage
        return None

    def _again(self, seed: int, replay: Replay, first: int, segment: Segment) -> Segment:
        """Writes a damaged file from memory; one that all seeds share keeps its name and its contents."""
        if segment == self._prefill and first == 0:
            return self._write_prefill(replay.read(0, segment["last"]))
        return self._write(seed, replay, first, segment["last"])

    def _mend_pinned(self, replay: Replay) -> None:
        assert self._prefill is not None
        if (damage := self._damage(self._prefill)) is not None:
            self._write_prefill(replay.pinned_rows())  # to the same contents, so all manifests stay right
            self._warn(f"replay on disk was damaged and is written again from memory: {damage}")

    def _write_prefill(self, rows: Rows) -> Segment:
        """Writes the file of rows that all seeds share; its last row is that of an episode's end."""
        count = len(rows.reward)
        name = f"prefill-{count:09d}.safetensors"
        content = save_tensors({**rows._asdict(), "pending": np.zeros_like(rows.observation[0])})
        checksum = checksums.write(self.folder / name, content)
        return {"file": name, "first": 0, "last": count, "sha256": checksum}

    def _write(self, seed: int, replay: Replay, first: int, last: int) -> Segment:
        name = f"seed-{seed}-{first:09d}-{last:09d}.safetensors"
        rows = replay.read(first, last)
        pending = replay.read(last, last + 1).observation[0]  # the next observation of the last row
        if len(rows.final) and rows.final[-1]:  # no transition leads from an episode's end to the next row
            pending = np.zeros_like(pending)
        content = save_tensors({**rows._asdict(), "pending": pending})
        return {
            "file": name,
            "first": first,
            "last": last,
            "sha256": checksums.write(self.folder / name, content),
        }


def fill(replay: Replay, end: int, folder: Path, segments: list[Segment], lost: list[Segment]) -> None:
    """Fills an empty replay from its files; lost rows become rows from which no transition starts.

    Args:
        replay: of one seed, empty.
        end: rows that the seed had written since training began.
        folder: holds the files.
        segments: entries of the seed's files, oldest rows first.
        lost: those of them that are damaged.

    Raises:
        DamagedError: another file has been damaged since it was verified.
    """
    _check(segments, end)
    begin = max(0, end - replay.capacity)
    parts: list[Rows] = []
    pending: np.ndarray | None = None
    for segment in segments:
        skipped = max(0, begin - segment["first"])
        if segment in lost:
            if parts:  # the transition from the row before leads to a lost row
                parts[-1].final[-1:] = True
            parts.append(_blank(replay, segment["last"] - segment["first"] - skipped))
            pending = np.zeros_like(replay.pending())
            continue
        tensors = checksums.read_tensors(folder / segment["file"], segment["sha256"])
        _check_rows(replay, segment, tensors)
        parts.append(Rows(*(tensors[name][skipped:].copy() for name in Rows._fields)))
        pending = tensors["pending"]  # that of the last segment remains
    if parts and pending is not None:
        replay.load(end, Rows(*(np.concatenate(column) for column in zip(*parts, strict=True))), pending)


def pin(replay: Replay, folder: Path, segment: Segment | None) -> None:
    """Reads the rows behind a replay's ring from their file.

    Args:
        replay: of one seed.
        folder: holds the file.
        segment: its entry; None: there are no such rows.

    Raises:
        DamagedError: it has been damaged since it was verified, or does not hold them.
    """
    if (0 if segment is None else segment["last"]) != replay.pinned:
        raise DamagedError(f"the checkpoint does not have the {replay.pinned} rows of prefilled data")
    if segment is not None:
        tensors = checksums.read_tensors(folder / segment["file"], segment["sha256"])
        _check_rows(replay, segment, tensors)
        replay.pin(Rows(*(tensors[name] for name in Rows._fields)))


def _check(segments: list[Segment], end: int) -> None:
    """Raises DamagedError unless the files follow each other up to the end."""
    last = segments[0]["first"] if segments else end
    for segment in segments:
        if segment["first"] != last or segment["last"] < last:
            raise DamagedError(f"replay has no rows from {last} on in {segment['file']}")
        last = segment["last"]
    if last != end:
        raise DamagedError(f"replay ends at row {last}, not {end}")


def _check_rows(replay: Replay, segment: Segment, tensors: Mapping[str, np.ndarray]) -> None:
    """Raises DamagedError unless a file has the rows that it is named for, of the replay's shapes."""
    count = segment["last"] - segment["first"]
    wanted = {"pending": replay.pending()}
    for name, column in replay.read(0, 0)._asdict().items():
        wanted[name] = np.broadcast_to(np.zeros((), column.dtype), (count, *column.shape[1:]))
    for name, column in wanted.items():
        found = tensors.get(name)
        if found is None or (found.shape, found.dtype) != (column.shape, column.dtype):
            raise DamagedError(f"{segment['file']} has no {name} of shape {list(column.shape)}")


def _blank(replay: Replay, count: int) -> Rows:
    """The given number of rows, from none of which a transition starts."""
    columns = [np.zeros((count, *column.shape[1:]), column.dtype) for column in replay.read(0, 0)]
    return Rows(*columns)._replace(final=np.ones(count, bool))
