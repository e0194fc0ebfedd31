"""Replay on disk: files of consecutive rows, which the checkpoints of a run share.

replay/
  seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from crossq_wn.learning.replay import Replay, Rows
from crossq_wn.runs import checksums
from crossq_wn.runs.checksums import DamagedError

Segment = dict[str, Any]  # a file's entry in the manifest: file, first and last row, sha256


class ReplayFiles:
    """Writes the replay of one run's seeds.

    It builds only on files that this process has itself written or verified. Each checkpoint reads one older
    file again, in turn, and a damaged one is written again from memory.

    Args:
        folder: holds the files.
        warn: told of each file that was damaged and written again.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self._warn, self._turn = folder, warn, 0
        self._segments: dict[int, list[Segment]] = {}  # by seed, oldest rows first

    def build_on(self, seed: int, segments: Iterable[Segment]) -> None:
        """Takes these verified files for a seed's oldest rows."""
        self._segments[seed] = list(segments)

    def append(self, seed: int, replay: Replay) -> list[Segment]:
        """Writes the rows since the last checkpoint; returns all files that are still needed."""
        segments = [each for each in self._segments.get(seed, []) if each["last"] > replay.begin]
        first = max(replay.begin, segments[-1]["last"] if segments else 0)
        if first < replay.end or not segments:
            segments.append(self._write(seed, replay, first, replay.end))
        self._segments[seed] = segments
        return segments

    def mend(self, replays: dict[int, Replay], *, thorough: bool) -> bool:
        """Reads older files again and writes the damaged ones anew.

        Args:
            replays: by seed.
            thorough: whether all files are read, not just the one whose turn it is.

        Returns:
            Whether a file has changed, so that manifests which name it are outdated.
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
            except DamagedError as damage:
                if first < segment["last"]:  # others are no longer needed
                    self._segments[seed][place] = self._write(seed, replay, first, segment["last"])
                    self._warn(f"replay on disk was damaged and is written again from memory: {damage}")
            changed = changed or segment != self._segments[seed][place]
        return changed

    def _write(self, seed: int, replay: Replay, first: int, last: int) -> Segment:
        name = f"seed-{seed}-{first:09d}-{last:09d}.safetensors"
        rows = replay.read(first, last)
        pending = replay.read(last, last + 1).observation[0]
        if len(rows.final) and rows.final[-1]:  # nothing leads from an episode's end to what comes next
            pending = np.zeros_like(pending)
        content = save_tensors({**rows._asdict(), "pending": pending})
        return {
            "file": name,
            "first": first,
            "last": last,
            "sha256": checksums.write(self.folder / name, content),
        }


def fill(replay: Replay, end: int, folder: Path, segments: list[Segment], lost: list[Segment]) -> None:
    """Fills a fresh replay from its files; lost rows become rows that start no transition.

    Args:
        replay: of one seed, empty.
        end: the number of rows that the seed had ever stored.
        folder: holds the files.
        segments: of the seed, oldest rows first.
        lost: those of them that are damaged.

    Raises:
        DamagedError: another file has been damaged since it was verified.
    """
    begin = max(0, end - replay.capacity)
    parts: list[Rows] = []
    pending: np.ndarray | None = None
    for segment in segments:
        skipped = max(0, begin - segment["first"])
        if segment in lost:
            if parts:  # the row before leads to one that is lost
                parts[-1].final[-1:] = True
            parts.append(_blank(replay, segment["last"] - segment["first"] - skipped))
            pending = np.zeros_like(replay.pending())
            continue
        tensors = checksums.read_tensors(folder / segment["file"], segment["sha256"])
        parts.append(Rows(*(tensors[name][skipped:].copy() for name in Rows._fields)))
        pending = tensors["pending"]  # only the last segment's counts
    if parts and pending is not None:
        replay.load(end, Rows(*(np.concatenate(column) for column in zip(*parts, strict=True))), pending)


def _blank(replay: Replay, count: int) -> Rows:
    """So many rows that start no transition."""
    columns = [np.zeros((count, *column.shape[1:]), column.dtype) for column in replay.read(0, 0)]
    return Rows(*columns)._replace(final=np.ones(count, bool))
