"""Checkpoints: atomic and checksummed, with replay appended rather than copied.

checkpoints/
  000025000/               one checkpoint, named by environment frames per seed
    manifest.json          schema, counters, plain state, a checksum of every file it needs
    seed-0.safetensors     learner, environment
  kept-000025000/          one that a later one has replaced, with the last policy of a seed that has diverged
  replay/
    seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before

Nothing is pickled: arrays are safetensors, everything else is JSON. A checkpoint appears by a single rename
once all of its files are on disk, so after a crash or a power cut the previous one is still there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from crossq_wn import fences
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.runs import checksums
from crossq_wn.runs.beginnings import begun
from crossq_wn.runs.checks import check
from crossq_wn.runs.checksums import DamagedError, DamagedPrefillError, DamagedReplayError
from crossq_wn.runs.manifests import available, malformed, read_manifest
from crossq_wn.runs.replay_files import fill, pin
from crossq_wn.runs.schema import Common, SeedNumber
from crossq_wn.runs.tensors import NamedTree, give_arrays, named_leaves
from crossq_wn.types import Tree

if TYPE_CHECKING:
    from crossq_wn.learning.replay import Replay


class SeedState(NamedTuple):
    """The state of one seed's training, without replay."""

    learner: Tree
    plain: dict[str, Any]  # nested JSON values and NumPy arrays


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
    there = available(directory)
    for path in reversed(there):
        try:
            return Checkpoint(path, with_replay=with_replay)
        except DamagedError as damage:
            before = "" if path == there[0] else ": trying the one before it"
            warn(f"checkpoint {path.name} is damaged ({damage}){before}")
            ways.append(damage.way_on(directory.parent))
            if isinstance(damage, DamagedReplayError):
                nearly.append(path)
    if nearly and without_damaged_replay:
        return Checkpoint(nearly[0], without_damaged_replay=True)
    fences.require(directory)  # who takes a run over removes checkpoints that another was about to read
    if ways or begun(directory.parent):
        way = next(filter(None, ways), "") + "start again with `crossq-wn train`"
    else:
        way = f"`crossq-wn resume {directory.parent}` trains it from its beginning"
    raise UserError(f"no usable checkpoint in {directory}: {way}")


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
        """The seeds that it holds, also those that stopped and can be trained on."""
        return list(self._tensors)

    def progress(self, seed: int) -> tuple[int, int]:
        """Environment frames and gradient updates of the state of a seed, which may be behind others."""
        failure = self.training["failed"].get(SeedNumber(seed))
        if failure is None or failure.get("updates") is None:
            return self.frames, self.training["updates"]
        return failure["good"] or 0, failure["updates"] or 0

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
        return SeedState(learner, self.plain(seed))

    def misfit(self, reason: str) -> UserError:
        """Makes the error for a state that is not one of the run's algorithm."""
        return UserError(
            f"{self.path} does not fit this run's algorithm ({reason}): use the version of crossq-wn that "
            "wrote it (manifest.json names it), or train again"
        )

    def tree(self, seed: int) -> NamedTree:
        """Returns the state of a seed's learner by names alone, which takes neither its algorithm nor JAX."""
        return NamedTree(self._tensors[seed], "learner/state")

    def plain(self, seed: int) -> dict[str, Any]:
        """The state of one seed besides its learner and replay."""
        with malformed(self.path):
            found: dict[str, Any] = give_arrays(self._seeds[str(seed)]["plain"], self._tensors[seed])
        return found

    def statistics(self, seed: int) -> dict[str, Any]:
        """What the wrappers of a seed's environment had learned; empty if they learn nothing."""
        found: dict[str, Any] = self.plain(seed).get("statistics", {})
        return found

    def end(self, seed: int) -> int:
        """The rows of replay that a seed had written."""
        count: int = self._seeds[str(seed)]["replay"]["end"]
        return count

    def fill(self, seed: int, replay: Replay) -> None:
        """Fills an empty replay.

        Args:
            seed: whose rows.
            replay: empty; lost rows become rows from which no transition starts.
        """
        with malformed(self.path):
            fill(replay, self.end(seed), self.path.parent / "replay", self.segments(seed), self.lost[seed])
            pin(replay, self.path.parent / "replay", self.pinned(seed))
