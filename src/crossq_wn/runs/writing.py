"""Writes the checkpoints of a run; `checkpoints` says what they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save as save_tensors

from crossq_wn import fences, files
from crossq_wn.errors import UserError, fix_for
from crossq_wn.files import to_disk
from crossq_wn.runs import checksums
from crossq_wn.runs.checkpoints import Checkpoint, SeedState
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.runs.manifests import (
    SCHEMA,
    available,
    free_folder,
    kept_folder,
    read_manifest,
    write_manifest,
)
from crossq_wn.runs.replay_files import ReplayFiles
from crossq_wn.runs.tensors import named_leaves, take_arrays

if TYPE_CHECKING:
    from crossq_wn.learning.replay import Replay

_KEPT = 2  # checkpoints to keep; the older one serves if the newer one is damaged


class Writer:
    """Writes one run's checkpoints.

    Checkpoints newer than the one that a run resumed from are obsolete, and the next `save` removes them.

    Args:
        directory: the folder of checkpoints.
        warn: is told of each file of replay that was damaged and written again.
    """

    def __init__(self, directory: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self.directory = directory
        self._replay = ReplayFiles(directory / "replay", warn)
        self.newest: Path | None = None  # the newest checkpoint written or resumed from
        self.stage: tuple[int, int] | None = None  # these frames, and the stage of its seeds

    @property
    def present(self) -> int | None:
        """The environment frames of the newest checkpoint written or resumed from."""
        return None if self.newest is None else int(self.newest.name)

    def outdate(self) -> None:
        """Lets the next checkpoint replace one at the same stage."""
        self.stage = None

    def continue_from(self, checkpoint: Checkpoint, stage: int = 0) -> None:
        """Continues after a verified checkpoint; a replay with lost rows will be written anew.

        Args:
            checkpoint: which one.
            stage: as in `save`.
        """
        for seed in checkpoint.seeds:
            self._replay.build_on(seed, [] if checkpoint.lost[seed] else checkpoint.segments(seed))
            self._replay.build_on_pinned(checkpoint.pinned(seed))
        self.newest, self.stage = checkpoint.path, (checkpoint.frames, stage)

    def save(
        self,
        frames: int,
        common: dict[str, Any],
        states: dict[int, SeedState],
        replays: dict[int, Replay],
        keep: set[int],
        *,
        stage: int = 0,
        thorough: bool = False,
    ) -> None:
        """Writes a checkpoint, unless there is one of this stage, and removes what is no longer needed.

        Args:
            frames: environment frames per seed so far, which name the checkpoint.
            common: JSON values that all seeds share.
            states: by seed.
            replays: by seed.
            keep: frames of other checkpoints that must stay; one that this replaces is copied.
            stage: agent decisions of the seeds that train now, which may be behind those of others.
            thorough: whether to verify all files of replay, as at the end of training, and not just the next
                one.

        Raises:
            UserError: it cannot be written, for example on a full disk; earlier checkpoints are untouched.
        """
        there = (frames, stage) == self.stage
        if there and not thorough:
            return
        place = fences.workplace(self.directory)
        partial = place / f".{frames:09d}.partial"
        run = self.directory.parent
        try:
            self._make_room(partial)
            changed = self._replay.mend(replays, thorough=thorough)
            if there and not changed:
                return
            files.make_folder(partial, within=place)
            seeds = {}
            for seed, state in states.items():
                seeds[str(seed)] = self._save_seed(partial, seed, state, replays[seed])
            write_manifest(partial, {"schema": SCHEMA, "frames": frames, "common": common, "seeds": seeds})
            keep = keep - self._copy_replaced(frames, keep)
            self.newest = self._publish(partial, frames)
        except OSError as error:
            with contextlib.suppress(OSError):
                files.remove(partial, within=run)
            raise self._cannot_write(frames, error) from None
        self.stage = (frames, stage)
        _prune(self.directory, keep)

    def _make_room(self, partial: Path) -> None:
        """Removes what an interrupted checkpoint left, and makes the folders that are missing."""
        run = self.directory.parent
        if "replay" not in files.folders(self.directory, within=run):
            files.make_folder(self.directory / "replay", within=run)
            to_disk(run)  # so that the new folder's name survives a power cut
        for left in {partial, self.directory / partial.name}:  # the second by an earlier version
            files.remove(left, within=run)

    def _copy_replaced(self, frames: int, keep: set[int]) -> set[int]:
        """Copies those to keep that a checkpoint at these frames replaces; returns all with copies."""
        run, place = self.directory.parent, fences.workplace(self.directory)
        names = files.folders(self.directory, within=run)
        copied = {each for each in keep if kept_folder(self.directory, each).name in names}
        for path in available(self.directory):
            number = int(path.name)
            if number < frames or number not in keep - copied:
                continue
            kept = kept_folder(self.directory, number)
            partial = place / f".{kept.name}.partial"
            files.remove(partial, within=run)
            files.make_folder(partial, within=place)
            for name in files.names(path, within=run):
                content = files.read(path / name, (path / name).stat().st_size, within=run)
                checksums.write(partial / name, content)
            to_disk(partial)
            files.move(partial, kept, within=run)
            copied.add(number)
        return copied

    def _publish(self, partial: Path, frames: int) -> Path:
        """Gives a complete checkpoint its name, which is returned, and removes obsolete ones."""
        run = self.directory.parent
        # Everything that the checkpoint names must be on disk before the rename makes it visible.
        to_disk(self.directory / "replay")
        to_disk(partial)
        for path in available(self.directory):  # left from before the run was resumed at an earlier one
            if int(path.name) > frames:
                files.remove(path, within=run)
        target = free_folder(self.directory, frames)
        files.remove(target, within=run)  # a link or a file, if it is there
        files.move(partial, target, within=run)
        to_disk(self.directory)
        for path in available(self.directory):  # only now, since it may be the only one
            if int(path.name) == frames and path != target:
                files.remove(path, within=run)
        return target

    def _save_seed(self, folder: Path, seed: int, state: SeedState, replay: Replay) -> dict[str, Any]:
        """Writes a seed's state and its new rows of replay; returns its entry in the manifest."""
        arrays = {f"learner/{name}": leaf for name, leaf in named_leaves(state.learner)}
        plain = take_arrays(state.plain, "plain", arrays)
        name = f"seed-{seed}.safetensors"
        return {
            "file": name,
            "sha256": checksums.write(folder / name, save_tensors(arrays)),
            "plain": plain,
            "replay": self._save_replay(seed, replay),
        }

    def _save_replay(self, seed: int, replay: Replay) -> dict[str, Any]:
        entry = {"end": replay.end, "segments": self._replay.append(seed, replay)}
        return entry | ({"pinned": self._replay.pinned(replay)} if replay.pinned else {})

    def _cannot_write(self, frames: int, error: OSError) -> UserError:
        fix = f"{fix_for(error)}, then start again"
        if self.present is not None:
            fix = f"the checkpoint before it is intact: {fix_for(error)}, then `crossq-wn resume`"
        return UserError(
            f"cannot write the checkpoint at {frames} frames to {self.directory}: "
            f"{error.strerror or error}; {fix}"
        )


def _files_of(replay: dict[str, Any]) -> set[str]:
    """The names of the files of a seed's replay, from its entry in a manifest."""
    pinned = [replay["pinned"]] if "pinned" in replay else []
    return {segment["file"] for segment in (*replay["segments"], *pinned)}


def _prune(directory: Path, keep: set[int]) -> None:
    """Removes old checkpoints, and the files of replay that none of the remaining ones needs."""
    there = available(directory)
    kept = []
    for path in there:
        if path in there[-_KEPT:] or int(path.name) in keep:
            kept.append(path)
        else:
            files.remove(path, within=directory.parent)
    needed = set()
    for path in kept:
        try:
            seeds = read_manifest(path)["seeds"]
        except (DamagedError, UserError):
            return  # remove nothing while something is unreadable
        for entry in seeds.values():
            needed |= _files_of(entry["replay"])
    for name in files.names(directory / "replay", within=directory.parent):
        if name not in needed:
            files.remove(directory / "replay" / name, within=directory.parent)
