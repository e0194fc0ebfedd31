"""How does training survive a power cut? Atomic, checksummed checkpoints to which replay is appended.

    checkpoints/
      000025000/               one checkpoint, named by environment frames
        manifest.json          schema, counters, plain state, a checksum of every file it needs
        seed-0.safetensors     learner, environment
      replay/
        seed-0-000000000-000012510.safetensors     rows of replay since the checkpoint before

No pickle: arrays are safetensors, everything else JSON. A checkpoint appears by one rename, after all that it
names is on disk.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning.replay import Replay, Rows
from crossq_wn.machine import to_disk, write_atomically
from crossq_wn.types import Tree

SCHEMA = 1
_KEPT = 2  # whole checkpoints; the older one is there for when the newer is damaged


class SeedState(NamedTuple):
    """What one seed's training carries, apart from replay."""

    learner: Tree
    plain: dict[str, Any]  # JSON values and numpy arrays, nested


class DamagedError(Exception):
    """A checkpoint that cannot be used; the message names the file and what is wrong with it."""


class Writer:
    """Writes one run's checkpoints.

    Segments of replay are shared between checkpoints, so it builds only on what this process has itself
    written or verified; anything newer than the present is obsolete and goes with the next checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segments: dict[int, list[dict[str, Any]]] = {}
        self.present: int | None = None  # frames of the newest checkpoint written or resumed from

    def continue_from(self, checkpoint: "Checkpoint") -> None:
        """Builds on a verified checkpoint."""
        self._segments = {seed: list(checkpoint.segments(seed)) for seed in checkpoint.seeds}
        self.present = checkpoint.frames

    def save(
        self,
        frames: int,
        common: dict[str, Any],
        states: dict[int, SeedState],
        replays: dict[int, Replay],
        keep: set[int],
    ) -> None:
        """Writes a checkpoint, unless there is one at these frames, and removes what is no longer needed.

        Args:
            frames: environment frames trained, the checkpoint's name.
            common: JSON values that all seeds share.
            states: by seed.
            replays: by seed.
            keep: frames of older checkpoints that must stay.

        Raises:
            UserError: it cannot be written (a full disk, say); what was there before is untouched.
        """
        if frames == self.present:
            return
        directory = self.directory
        final, temporary = directory / f"{frames:09d}", directory / f".{frames:09d}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            (directory / "replay").mkdir(exist_ok=True)
            seeds = {}
            for seed, state in states.items():
                arrays = {f"learner/{path}": leaf for path, leaf in _leaves(state.learner)}
                plain = _take_arrays(state.plain, "plain", arrays)
                name = f"seed-{seed}.safetensors"
                seeds[str(seed)] = {
                    "file": name,
                    "sha256": _write(temporary / name, save_tensors(arrays)),
                    "plain": plain,
                    "replay": {"end": replays[seed].end, "segments": self._append(seed, replays[seed])},
                }
            body = {"schema": SCHEMA, "frames": frames, "common": common, "seeds": seeds}
            text = json.dumps(body)
            envelope = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "checkpoint": body}
            _write(temporary / "manifest.json", json.dumps(envelope).encode())
            to_disk(directory / "replay")
            to_disk(temporary)
            for path in available(directory):  # damaged ones that training has now caught up with
                if int(path.name) >= frames:
                    shutil.rmtree(path)
            os.replace(temporary, final)
            to_disk(directory)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            fix = "free some space, then start anew with another --out"
            if self.present is not None:
                fix = "the checkpoint before it is intact: free some space, then `crossq-wn resume`"
            raise UserError(
                f"cannot write the checkpoint at {frames} frames to {directory}: {error.strerror or error}; "
                f"{fix}"
            ) from None
        self.present = frames
        _prune(directory, keep)

    def _append(self, seed: int, replay: Replay) -> list[dict[str, Any]]:
        """Writes the rows since the last checkpoint; returns all segments still needed."""
        segments = [s for s in self._segments.get(seed, []) if s["last"] > replay.begin]
        first = max(replay.begin, segments[-1]["last"] if segments else 0)
        if first < replay.end or not segments:
            name = f"seed-{seed}-{first:09d}-{replay.end:09d}.safetensors"
            tensors = {**replay.read(first, replay.end)._asdict(), "pending": replay.pending()}
            checksum = _write(self.directory / "replay" / name, save_tensors(tensors))
            segments.append({"file": name, "first": first, "last": replay.end, "sha256": checksum})
        self._segments[seed] = segments
        return segments


def newest(directory: Path, warn: Callable[[str], None], *, with_replay: bool = True) -> "Checkpoint":
    """The newest usable checkpoint; each damaged one is named to `warn` and the one before it tried.

    Raises UserError if there is none, or if it was written by a newer version.
    """
    for path in reversed(available(directory)):
        try:
            return Checkpoint(path, with_replay=with_replay)
        except DamagedError as damage:
            warn(f"checkpoint {path.name} is damaged ({damage}): trying the one before it")
    raise UserError(f"no usable checkpoint in {directory}: start again with `crossq-wn train`")


def available(directory: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted(path for path in directory.glob("[0-9]*") if path.is_dir() and path.name.isdecimal())


class Checkpoint:
    """A checkpoint whose every file has been verified."""

    def __init__(self, path: Path, *, with_replay: bool = True) -> None:
        self.path = path
        try:
            envelope = json.loads((path / "manifest.json").read_bytes())
            body, checksum = envelope["checkpoint"], envelope["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"manifest.json cannot be read: {type(error).__name__}") from None
        if hashlib.sha256(json.dumps(body).encode()).hexdigest() != checksum:
            raise DamagedError("manifest.json has been altered")
        if body["schema"] > SCHEMA:
            raise UserError(
                f"{path} has checkpoint schema {body['schema']}, this version reads up to {SCHEMA}: "
                "upgrade crossq-wn"
            )
        self.frames: int = body["frames"]
        self.common: dict[str, Any] = body["common"]
        self._seeds = body["seeds"]
        self._tensors = {
            int(seed): _read(path / entry["file"], entry["sha256"]) for seed, entry in self._seeds.items()
        }
        if with_replay:
            for segment in (segment for seed in self.seeds for segment in self.segments(seed)):
                _verify(path.parent / "replay" / segment["file"], segment["sha256"])

    @property
    def seeds(self) -> list[int]:
        """The seeds whose state it holds."""
        return list(self._tensors)

    def segments(self, seed: int) -> list[dict[str, Any]]:
        """The files of a seed's replay, oldest rows first."""
        segments: list[dict[str, Any]] = self._seeds[str(seed)]["replay"]["segments"]
        return segments

    def state(self, seed: int, like: Tree) -> SeedState:
        """A seed's state, its learner arranged like the freshly initialised `like`."""
        arrays = self._tensors[seed]
        treedef = jax.tree.structure(like)
        leaves = []
        for path, leaf in _leaves(like):
            stored = arrays.get(f"learner/{path}")
            if stored is None or stored.shape != leaf.shape or stored.dtype != leaf.dtype:
                raise UserError(
                    f"{self.path} does not fit this run's algorithm ({path} differs): use the version of "
                    "crossq-wn that wrote it (manifest.json names it), or train again"
                )
            leaves.append(jax.numpy.asarray(stored))
        plain = _give_arrays(self._seeds[str(seed)]["plain"], "plain", arrays)
        return SeedState(jax.tree.unflatten(treedef, leaves), plain)

    def fill(self, seed: int, replay: Replay) -> None:
        """Refills a fresh replay."""
        saved = self._seeds[str(seed)]["replay"]
        end, begin = saved["end"], max(0, saved["end"] - replay.capacity)
        parts, pending = [], None
        for segment in self.segments(seed):
            tensors = _read(self.path.parent / "replay" / segment["file"], segment["sha256"])
            keep = slice(max(0, begin - segment["first"]), None)
            parts.append(Rows(*(tensors[name][keep] for name in Rows._fields)))
            pending = tensors["pending"]
        if parts and pending is not None:
            replay.load(end, Rows(*(np.concatenate(column) for column in zip(*parts, strict=True))), pending)


def _prune(directory: Path, keep: set[int]) -> None:
    kept = available(directory)[-_KEPT:]
    for path in available(directory):
        if path not in kept and int(path.name) not in keep:
            shutil.rmtree(path)
        elif path not in kept:
            kept.append(path)
    needed = set()
    for path in kept:
        try:
            seeds = json.loads((path / "manifest.json").read_bytes())["checkpoint"]["seeds"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # nothing is removed while something is unreadable
        needed |= {s["file"] for entry in seeds.values() for s in entry["replay"]["segments"]}
    for path in (directory / "replay").glob("*"):
        if path.name not in needed:
            path.unlink()


def _leaves(tree: Tree) -> list[tuple[str, np.ndarray]]:
    """Leaves in order, under names such as `critic.params.0.1.kernel`."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path]
        found.append((".".join(parts), np.asarray(leaf, order="C")))
    return found


def _take_arrays(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """Moves the arrays of a plain tree into `arrays`; what is left is JSON."""
    if isinstance(value, np.ndarray):
        arrays[where] = np.array(value, copy=True, order="C")
        return {"$array": where, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {key: _take_arrays(item, f"{where}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_arrays(item, f"{where}/{i}", arrays) for i, item in enumerate(value)]
    return value


def _give_arrays(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict) and "$array" in value:
        return arrays[value["$array"]].reshape(value["shape"])
    if isinstance(value, dict):
        return {key: _give_arrays(item, f"{where}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_give_arrays(item, f"{where}/{i}", arrays) for i, item in enumerate(value)]
    return value


def _write(path: Path, content: bytes) -> str:
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _verify(path: Path, checksum: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != checksum:
        raise DamagedError(f"{path.name} is truncated or altered")
    return content


def _read(path: Path, checksum: str) -> dict[str, np.ndarray]:
    try:
        tensors: dict[str, np.ndarray] = load_tensors(_verify(path, checksum))
        return tensors
    except SafetensorError as error:
        raise DamagedError(f"{path.name} is not a safetensors file: {error}") from None
