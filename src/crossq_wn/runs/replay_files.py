"""Replay on disk: files of consecutive rows, which the checkpoints of a run share.

replay/
  seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from crossq_wn.errors import UserError
from crossq_wn.learning.replay import Replay, Rows
from crossq_wn.runs import checksums
from crossq_wn.runs.checksums import DamagedError

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

    def build_on(self, seed: int, segments: Iterable[Segment]) -> None:
        """Takes verified files as those of a seed's oldest rows.

        Args:
            seed: whose rows.
            segments: the entries of the files, oldest rows first.
        """
        self._segments[seed] = list(segments)

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
        if there and not thorough:
            self._turn += 1
            there = [there[self._turn % len(there)]]
        changed = False
        for seed, place in there:
            segment, replay = self._segments[seed][place], replays[seed]
            first = max(replay.begin, segment["first"])
            try:
                checksums.read(self.folder / segment["file"], segment["sha256"])
            except UserError:  # too little memory to read it just now
                continue
            except DamagedError as damage:
                if first < segment["last"]:  # otherwise replay has dropped all of its rows
                    self._segments[seed][place] = self._write(seed, replay, first, segment["last"])
                    self._warn(f"replay on disk was damaged and is written again from memory: {damage}")
            changed = changed or segment != self._segments[seed][place]
        return changed

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
