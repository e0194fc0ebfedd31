"""A recording: transitions as a file holds them, before it is known what task they are for."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.interface import WILD
from crossq_wn.errors import UserError
from crossq_wn.learning.rows import Rows
from crossq_wn.machine import available_memory

Observations = Any  # float32 [n, ...], or nested dicts of them


class Recording(NamedTuple):
    """Transitions in the order in which they were made, where that is known."""

    observation: Observations  # [n, ...], on which an action was chosen
    action: np.ndarray  # [n, ...], in the environment's own units
    reward: np.ndarray  # float32 [n], of the whole decision
    terminated: np.ndarray  # bool [n], whether the task truly ended
    truncated: np.ndarray  # bool [n], whether the episode ended otherwise, as by a time limit
    next_observation: Observations | None  # [n, ...], from before any reset; None: not recorded
    # What else is known of their making.
    agent_action: np.ndarray | None = None  # float32 [n, action_size], the same actions in [-1, 1]
    action_low: np.ndarray | None = None  # the bounds that the actions had, in the environment's own shape
    action_high: np.ndarray | None = None
    frames_per_decision: int | None = None
    decision_seconds: float | None = None
    task: str | None = None  # of ours, whose rewards these are


class UnusableError(UserError):
    """A recording that cannot be used; the message says why, without the name of its file."""


def checked(recording: Recording) -> Recording:
    """A recording of which the lengths agree and all numbers are finite.

    Raises:
        UnusableError: it is not one.
    """
    if not len(recording.reward):
        raise UnusableError("it holds no transitions")
    for name, each in _columns(recording):
        _check_column(name, each, len(recording.reward))
    after = _shapes(recording.next_observation)
    if after and after != _shapes(recording.observation):
        raise UnusableError("observation and next_observation have different shapes")
    if not starts(recording).any():
        raise UnusableError("none of its transitions has a next observation: add next_observation")
    _check_rates(recording)
    return recording


def _check_rates(recording: Recording) -> None:
    for name in ("frames_per_decision", "decision_seconds"):
        value = getattr(recording, name)
        if value is not None and not (0 < value < np.inf):  # true of NaN as well
            raise UnusableError(f"{name} is {value}: it must be a number above 0")
    if recording.frames_per_decision is not None and recording.frames_per_decision % 1:
        raise UnusableError(
            f"frames_per_decision is {recording.frames_per_decision}: it must be a whole number"
        )


def _shapes(observation: Observations | None) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in leaves(observation)]


def _columns(recording: Recording) -> list[tuple[str, np.ndarray]]:
    """The arrays that have an entry for each transition, by the names of their fields."""
    found = [(name, getattr(recording, name)) for name in ("action", "reward", "terminated", "truncated")]
    if recording.agent_action is not None:
        found.append(("agent_action", recording.agent_action))
    for name in ("observation", "next_observation"):
        found += [(name, leaf) for leaf in leaves(getattr(recording, name))]
    return found


def _check_column(name: str, values: np.ndarray, count: int) -> None:
    if values.ndim == 0 or len(values) != count:
        there = len(values) if values.ndim else "no"
        raise UnusableError(f"it has {there} rows of {name} and {count} of reward")
    _require_finite(name, values)


def _require_finite(name: str, values: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    sound = np.abs(values) <= WILD  # false of NaN
    if sound.all():
        return
    place = tuple(int(each[0]) for each in np.nonzero(~sound))
    what = f"{name} is {values[place]:g} in row {place[0]}, beyond {WILD:g}, as a faulty sensor says"
    if not np.isfinite(values[place]):
        what = f"{name} is not finite in row {place[0]} (or beyond float32)"
    raise UnusableError(f"{what}: leave such episodes out")


def leaves(observation: Observations | None) -> list[np.ndarray]:
    """The arrays of observations, in the order of their keys."""
    if observation is None:
        return []
    if isinstance(observation, Mapping):
        found = []
        for key in sorted(observation):
            found += leaves(observation[key])
        return found
    return [observation]


def ends(recording: Recording) -> np.ndarray:
    """Where the next row, if any, is not what followed: bool [n]."""
    found = recording.terminated | recording.truncated
    found[-1] = True  # nothing follows on the last row
    if recording.next_observation is not None:
        for now, after in zip(leaves(recording.observation), leaves(recording.next_observation), strict=True):
            # An episode may also be cut without a mark; the next row then begins elsewhere.
            differs = now[1:] != after[:-1]
            found[:-1] |= differs.any(axis=tuple(range(1, differs.ndim)))
    return np.asarray(found)


def starts(recording: Recording) -> np.ndarray:
    """Which rows start a transition, bool [n]: the others lack the observation that followed."""
    if recording.next_observation is not None:
        return np.ones(len(recording.reward), bool)
    return np.asarray(~ends(recording) | recording.terminated)


def count_rows(recording: Recording) -> int:
    """The rows of replay that a recording takes."""
    return int(len(recording.reward) + (ends(recording) & starts(recording)).sum())


def as_rows(recording: Recording, flat: Sequence[np.ndarray], action: np.ndarray) -> Rows:
    """A recording in the form in which replay stores it; the last row is that of an episode's end.

    Args:
        recording: what was recorded.
        flat: its observations, float32 [n, observation_size], and its next observations, if it has them.
        action: float32 [n, action_size] in [-1, 1].
    """
    over, whole = ends(recording), starts(recording)
    extra = over & whole  # after these comes a row that only holds what they led to
    places = np.arange(len(over)) + np.cumsum(extra) - extra
    total = len(over) + int(extra.sum())
    behind = places[extra] + 1
    observation = np.zeros((total, flat[0].shape[1]), np.float32)
    # Without next observations `flat[-1]` is `flat[0]`: what a termination led to is taken to be its last
    # observation.
    observation[places], observation[behind] = flat[0], flat[-1][extra]
    actions = np.zeros((total, action.shape[1]), np.float32)
    reward, mask = np.zeros(total, np.float32), np.zeros(total, np.float32)
    kept = places[whole]
    actions[kept], reward[kept], mask[kept] = (
        action[whole],
        recording.reward[whole],
        ~recording.terminated[whole],
    )
    final = np.ones(total, bool)
    final[kept] = False
    return Rows(observation, actions, reward, mask, final)


def digest(recording: Recording) -> str:
    """A checksum of what a recording holds, whichever kind of file it is in."""
    found = hashlib.sha256()
    columns = [*leaves(recording.observation), *leaves(recording.next_observation)]
    # In one type, because files of different kinds keep actions in different ones.
    columns += [recording.action.astype(np.float64), recording.reward]
    columns += [recording.terminated, recording.truncated]
    for column in columns:
        found.update(f"{column.dtype.str}{column.shape}".encode())
        found.update(np.ascontiguousarray(column).data)
    return found.hexdigest()


def joined(recordings: Sequence[Recording]) -> Recording:
    """Recordings with the same fields, one behind the other."""
    if len(recordings) == 1:
        return recordings[0]
    columns: dict[str, Any] = {}
    for name in ("observation", "action", "reward", "terminated", "truncated", "next_observation"):
        columns[name] = concatenated([getattr(each, name) for each in recordings])
    if all(each.agent_action is not None for each in recordings):
        columns["agent_action"] = concatenated([each.agent_action for each in recordings])
    return recordings[0]._replace(**columns)


def concatenated(parts: Sequence[Any]) -> Any:
    """Arrays, or nested dicts of them, one behind the other.

    Raises:
        UnusableError: they have other keys or shapes.
    """
    first = parts[0]
    if first is None:
        return None
    try:
        if isinstance(first, Mapping):
            found = {}
            for key in first:
                found[key] = concatenated([each[key] for each in parts])
            return found
        return np.concatenate(parts)
    except (KeyError, ValueError, TypeError):
        raise UnusableError("its episodes differ in the parts or shapes of their observations") from None


def number(values: Any, name: str, kind: Any = np.float32) -> np.ndarray:
    """A column as an array of a type.

    Args:
        values: anything that NumPy makes an array of.
        name: of the column, for messages.
        kind: the type to convert to.

    Raises:
        UnusableError: it is no array of numbers, or has others than the type can hold: no flag is 0.5.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UnusableError(f"{name} has the type {array.dtype}: it must be numbers")
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused later
        found = np.asarray(array, kind)
    if found.dtype.kind != "f" and (changed := found != array).any():
        wanted = "0 or 1" if found.dtype.kind == "b" else "whole numbers"
        raise UnusableError(f"{name} has {array[changed].flat[0]}: it must be {wanted}")
    return found


def column(values: Any, name: str, kind: Any = np.float32) -> np.ndarray:
    """One number per transition, [n] or [n, 1], as an array [n]; takes and raises what `number` does."""
    array = number(values, name, kind)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UnusableError(f"{name} has the shape {list(array.shape)}: it must be one number per transition")
    return array


def require(found: Iterable[str], wanted: Iterable[str]) -> None:
    """Raises UnusableError if a file lacks columns.

    Args:
        found: the names of its columns.
        wanted: those that it must have.
    """
    there = [*found]
    if missing := [name for name in wanted if name not in there]:
        raise UnusableError(f"it lacks {', '.join(missing)}; it has {', '.join(there) or 'nothing'}")


def bytes_of(count: int, dtype: np.dtype[Any], name: str, kind: int = 4) -> int:
    """The memory in bytes that a column takes once it is read.

    Args:
        count: its numbers.
        dtype: of the file.
        name: of the column.
        kind: bytes of the numbers that are made of it.

    Raises:
        UnusableError: it does not hold numbers.
    """
    if dtype.kind not in "biuf":
        raise UnusableError(f"{name} has the type {dtype}: it must be numbers")
    return count * max(dtype.itemsize, kind)


def require_room(path: Path, size: int) -> None:
    """Raises UserError if the arrays of a file would not fit into memory.

    Args:
        path: of the file.
        size: bytes of its arrays, which the file says without being read.
    """
    free = available_memory()
    if free is not None and 2 * size > free:  # once as it is, once as rows of replay
        raise UserError(
            f"{path} holds {size / 2**30:,.1f} GiB, needs twice that in memory, and {free / 2**30:,.1f} GiB "
            "are free: use part of the data"
        )
