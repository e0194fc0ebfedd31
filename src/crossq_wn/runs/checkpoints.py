"""Checkpoints: atomic and checksummed, with replay appended rather than copied.

checkpoints/
  000025000/               one checkpoint, named by environment frames per seed
    manifest.json          schema, counters, plain state, a checksum of every file it needs
    seed-0.safetensors     learner, environment
  replay/
    seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before

Nothing is pickled: arrays are safetensors, everything else is JSON. A checkpoint appears by a single rename
once all of its files are on disk, so after a crash or a power cut the previous one is still there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from safetensors.numpy import save as save_tensors

from crossq_wn import fences, files
from crossq_wn.errors import UserError, fix_for
from crossq_wn.files import to_disk
from crossq_wn.lazy import jax
from crossq_wn.runs import checksums
from crossq_wn.runs.checks import check
from crossq_wn.runs.checksums import DamagedError, DamagedPrefillError, DamagedReplayError
from crossq_wn.runs.manifests import SCHEMA, available, malformed, read_manifest, write_manifest
from crossq_wn.runs.replay_files import ReplayFiles, fill, pin
from crossq_wn.runs.schema import Common
from crossq_wn.runs.tensors import NamedTree, give_arrays, named_leaves, take_arrays
from crossq_wn.types import Tree

if TYPE_CHECKING:
    from crossq_wn.learning.replay import Replay

_KEPT = 2  # checkpoints to keep; the older one serves if the newer one is damaged


class SeedState(NamedTuple):
    """The state of one seed's training, without replay."""

    learner: Tree
    plain: dict[str, Any]  # nested JSON values and NumPy arrays


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
        self.present: int | None = None  # frames of the newest checkpoint written or resumed from

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Continues after a verified checkpoint; a replay with lost rows will be written anew."""
        for seed in checkpoint.seeds:
            self._replay.build_on(seed, [] if checkpoint.lost[seed] else checkpoint.segments(seed))
            self._replay.build_on_pinned(checkpoint.pinned(seed))
        self.present = checkpoint.frames

    def save(
        self,
        frames: int,
        common: dict[str, Any],
        states: dict[int, SeedState],
        replays: dict[int, Replay],
        keep: set[int],
        *,
        thorough: bool = False,
    ) -> None:
        """Writes a checkpoint, unless there is one at these frames, and removes what is no longer needed.

        Args:
            frames: environment frames per seed so far, which name the checkpoint.
            common: JSON values that all seeds share.
            states: by seed.
            replays: by seed.
            keep: frames of older checkpoints that must stay.
            thorough: whether to verify all files of replay, as at the end of training, and not just the next
                one.

        Raises:
            UserError: it cannot be written, for example on a full disk; earlier checkpoints are untouched.
        """
        if frames == self.present and not thorough:
            return
        place = fences.workplace(self.directory)
        partial = place / f".{frames:09d}.partial"
        run = self.directory.parent
        try:
            self._make_room(partial)
            changed = self._replay.mend(replays, thorough=thorough)
            if frames == self.present and not changed:
                return
            files.make_folder(partial, within=place)
            seeds = {}
            for seed, state in states.items():
                seeds[str(seed)] = self._save_seed(partial, seed, state, replays[seed])
            write_manifest(partial, {"schema": SCHEMA, "frames": frames, "common": common, "seeds": seeds})
            self._publish(partial, frames)
        except OSError as error:
            with contextlib.suppress(OSError):
                files.remove(partial, within=run)
            raise self._cannot_write(frames, error) from None
        self.present = frames
        _prune(self.directory, keep)

    def _make_room(self, partial: Path) -> None:
        """Removes what an interrupted checkpoint left, and makes the folders that are missing."""
        run = self.directory.parent
        if "replay" not in files.folders(self.directory, within=run):
            files.make_folder(self.directory / "replay", within=run)
            to_disk(run)  # so that the new folder's name survives a power cut
        for left in {partial, self.directory / partial.name}:  # the second by an earlier version
            files.remove(left, within=run)

    def _publish(self, partial: Path, frames: int) -> None:
        """Gives a complete checkpoint its name, and removes obsolete ones."""
        run = self.directory.parent
        # Everything that the checkpoint names must be on disk before the rename makes it visible.
        to_disk(self.directory / "replay")
        to_disk(partial)
        for path in available(self.directory):  # left from before the run was resumed at an earlier one
            if int(path.name) >= frames:
                files.remove(path, within=run)
        files.remove(self.directory / f"{frames:09d}", within=run)  # a link or a file, if it is there
        files.move(partial, self.directory / f"{frames:09d}", within=run)
        to_disk(self.directory)

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


def newest(
    directory: Path,
    warn: Callable[[str], None],
    *,
    with_replay: bool = True,
    without_damaged_replay: bool = False,
) -> Checkpoint:
    """The newest usable checkpoint.

    Args:
        directory: the folder of checkpoints.
        warn: is told of each damaged checkpoint that is passed over.
        with_replay: whether the files of replay must be intact too.
        without_damaged_replay: whether, failing all else, a checkpoint will do in which only rows of replay
            are damaged.

    Raises:
        UserError: there is no usable checkpoint, or a newer version wrote it.
    """
    nearly, ways = [], []  # checkpoints in which only replay is damaged, newest first; and ways to go on
    for path in reversed(available(directory)):
        try:
            return Checkpoint(path, with_replay=with_replay)
        except DamagedError as damage:
            warn(f"checkpoint {path.name} is damaged ({damage}): trying the one before it")
            ways.append(damage.way_on(directory.parent))
            if isinstance(damage, DamagedReplayError):
                nearly.append(path)
    if nearly and without_damaged_replay:
        return Checkpoint(nearly[0], without_damaged_replay=True)
    fences.require(directory)  # who takes a run over removes checkpoints that another was about to read
    way = next(filter(None, ways), "")
    raise UserError(f"no usable checkpoint in {directory}: {way}start again with `crossq-wn train`")


class Checkpoint:
    """A checkpoint whose files have all been verified.

    Attributes:
        lost: by seed, the entries of its damaged files of replay, where those are tolerated.

    Raises:
        DamagedError: a file is missing or altered.
        UserError: a newer version wrote it.
    """

    def __init__(self, path: Path, *, with_replay: bool = True, without_damaged_replay: bool = False) -> None:
        self.path = path
        body = read_manifest(path)
        self.frames: int = body["frames"]
        self.common: dict[str, Any] = body["common"]
        self._seeds = body["seeds"]
        self._tensors = {}
        for seed, entry in self._seeds.items():
            self._tensors[int(seed)] = checksums.read_tensors(path / entry["file"], entry["sha256"])
        self.lost: dict[int, list[dict[str, Any]]] = {seed: [] for seed in self.seeds}
        if with_replay:
            self._verify_replay(without_damaged_replay)

    def _verify_replay(self, without_damaged_replay: bool) -> None:
        sound: set[str] = set()  # files that are verified; seeds share what they began with
        for seed in self.seeds:
            pinned = self.pinned(seed)
            # First what cannot be left out, so that nobody is advised to leave out the rest.
            for segment in (*([pinned] if pinned else []), *self.segments(seed)):
                if segment["file"] in sound:
                    continue
                try:
                    checksums.read(self.path.parent / "replay" / segment["file"], segment["sha256"])
                except DamagedError as damage:
                    if segment is pinned:
                        raise DamagedPrefillError(str(damage)) from None
                    if not without_damaged_replay:
                        raise DamagedReplayError(str(damage)) from None
                    self.lost[seed].append(segment)
                else:
                    sound.add(segment["file"])

    @property
    def training(self) -> Common:
        """What all seeds share, as training wrote it. Raises UserError if it is something else."""
        try:
            check(self.common, Common, "checkpoint.common")
        except UserError as error:
            raise UserError(f"{self.path / 'manifest.json'}: {error}") from None
        return cast(Common, self.common)

    @property
    def seeds(self) -> list[int]:
        """The seeds that it holds."""
        return list(self._tensors)

    def segments(self, seed: int) -> list[dict[str, Any]]:
        """The manifest's entries for the files of a seed's replay, oldest rows first."""
        segments: list[dict[str, Any]] = self._seeds[str(seed)]["replay"]["segments"]
        return segments

    def pinned(self, seed: int) -> dict[str, Any] | None:
        """The manifest's entry for the file of the rows behind a seed's ring; None without such rows."""
        found: dict[str, Any] | None = self._seeds[str(seed)]["replay"].get("pinned")
        return found

    def state(self, seed: int, like: Tree) -> SeedState:
        """The state of one seed.

        Args:
            seed: one of `seeds`.
            like: a freshly initialised learner, whose structure, shapes and types the saved one must have.

        Raises:
            UserError: it does not have them.
        """
        arrays = self._tensors[seed]
        leaves = []
        for name, leaf in named_leaves(like):
            stored = arrays.get(f"learner/{name}")
            if stored is None or stored.shape != leaf.shape or stored.dtype != leaf.dtype:
                raise self.misfit(f"{name} differs")
            leaves.append(jax.numpy.asarray(stored))  # on the device, as a fresh state is
        learner = jax.tree.unflatten(jax.tree.structure(like), leaves)
        with malformed(self.path):
            return SeedState(learner, give_arrays(self._seeds[str(seed)]["plain"], arrays))

    def misfit(self, reason: str) -> UserError:
        """Makes the error for a state that is not one of the run's algorithm."""
        return UserError(
            f"{self.path} does not fit this run's algorithm ({reason}): use the version of crossq-wn that "
            "wrote it (manifest.json names it), or train again"
        )

    def tree(self, seed: int) -> NamedTree:
        """Returns the state of a seed's learner by names alone, which takes neither its algorithm nor JAX."""
        return NamedTree(self._tensors[seed], "learner/state")

    def statistics(self, seed: int) -> dict[str, Any]:
        """What the wrappers of a seed's environment had learned; empty if they learn nothing."""
        with malformed(self.path):
            found: dict[str, Any] = give_arrays(
                self._seeds[str(seed)]["plain"].get("statistics", {}), self._tensors[seed]
            )
        return found

    def fill(self, seed: int, replay: Replay) -> None:
        """Fills an empty replay.

        Args:
            seed: whose rows.
            replay: empty; lost rows become rows from which no transition starts.
        """
        end = self._seeds[str(seed)]["replay"]["end"]
        with malformed(self.path):
            fill(replay, end, self.path.parent / "replay", self.segments(seed), self.lost[seed])
            pin(replay, self.path.parent / "replay", self.pinned(seed))


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
