"""The interface between a policy and an environment: units of actions, and layout of observations."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import Layout
from crossq_wn.acting.readings import reading
from crossq_wn.errors import UserError

WILD = 1e15  # beyond it, in absolute value, a number is taken for a fault of its sensor
# What of a simulator is plain, and is still asked for where another process has it.
_PLAIN = ("observation_size", "observation_low", "observation_high", "action_size", "action_low",
          "action_high", "action_dtype", "layout", "in_threads", "frame_seconds", "no_pictures")  # fmt: skip
_INTEGERS = 2.0**53  # float64 represents all integers up to this exactly


def check_bounds(low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any], name: str) -> None:
    """Checks that `in_units` can map to these bounds.

    Args:
        low: lower bounds, float64.
        high: upper bounds, float64.
        dtype: of the environment's actions.
        name: of the environment, for the message.

    Raises:
        UserError: the bounds leave no choice or are too far apart for float64 arithmetic, or the type is not
            numeric.
    """
    if (low == high).all():
        raise UserError(
            f"{name} has actions that cannot vary, since their lower bounds equal their upper ones: there is "
            "nothing to learn"
        )
    if dtype.kind not in "fiub":
        raise UserError(f"{name} has actions of type {dtype}: they must be numbers")
    with np.errstate(over="ignore"):
        width = float(np.max(high - low))
    limit = np.finfo(np.float64).max if dtype.kind == "f" else _INTEGERS
    if not width <= limit:
        raise UserError(f"{name} has action bounds {width:g} apart: actions of type {dtype} need closer ones")


def from_units(action: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The inverse of `acting.interface.in_units`: actions in the environment's units, in [-1, 1].

    Args:
        action: in the environment's own shape, or several, [n, *shape].
        low: lower bounds, float64 in that shape.
        high: upper bounds, likewise.
        dtype: of the environment's actions.

    Returns:
        float32 [action_size] or [n, action_size]; 0 where the bounds are equal, and beyond [-1, 1] where the
        action exceeds them.
    """
    width, offset = high - low, action.astype(np.float64) - low
    if dtype.kind != "f":  # the middle of an integer's part
        width, offset = width + 1.0, offset + 0.5
    share = np.divide(offset, width, out=np.full(offset.shape, 0.5), where=width > 0)
    several = action.shape[: action.ndim - low.ndim]
    return np.asarray(2.0 * share - 1.0, np.float32).reshape(*several, -1)


def success_of(said: Any) -> bool | None:
    """Whether an entry of `info` says that the task is solved; None if it says neither, as a text or NaN."""
    if said is None or isinstance(said, bool):
        return said
    array = np.asarray(said)
    if not array.size or array.dtype.kind not in "biuf" or np.isnan(array).any():
        return None
    return bool(array.any())


def parts_of(simulator: Any) -> Layout:
    """The keys and shape of each part of a simulator's observations."""
    layout: Layout = getattr(simulator, "layout", [[[], [int(simulator.observation_size)]]])
    return layout


def plain_of(simulator: Any) -> dict[str, Any]:
    """What other processes know of a simulator: its plain attributes, by name."""
    return {name: getattr(simulator, name) for name in _PLAIN if hasattr(simulator, name)}


class Outside(NamedTuple):
    """Observations that lie far outside their space."""

    rows: int  # observations
    example: str  # the first number that does, with its place and the bounds


def far_outside(observations: np.ndarray, simulator: Any) -> Outside | None:
    """Finds observations farther outside their space than it is wide: bounds are often somewhat sloppy.

    Args:
        observations: float32 [n, frame_stack * observation_size]; of stacked ones the newest is looked at.
        simulator: whose space it is; those of the suites have no bounds.

    Returns:
        None if there are none.
    """
    if not hasattr(simulator, "observation_low"):
        return None
    newest = observations[:, -simulator.observation_size :]
    low, high = (getattr(simulator, f"observation_{end}").astype(np.float64) for end in ("low", "high"))
    with np.errstate(over="ignore"):
        width = high - low
    below, above = (np.where(np.isfinite(width), width, np.abs(bound)) + 1e-3 for bound in (low, high))
    outside = (newest < low - below) | (newest > high + above)
    rows, indices = np.nonzero(outside)
    if not len(rows):
        return None
    index = int(indices[0])
    what = reading(newest[rows[0], index], index, parts_of(simulator))
    return Outside(len(np.unique(rows)), f"{what}, where its space has {low[index]:g} to {high[index]:g}")


def bounds_of(simulator: Any) -> dict[str, list[float | None]] | None:
    """The bounds of observations as JSON values, which have no infinity; None if there are none."""
    if not hasattr(simulator, "observation_low"):
        return None
    found: dict[str, list[float | None]] = {}
    for end in ("low", "high"):
        bounds = getattr(simulator, f"observation_{end}").tolist()
        found[end] = [float(bound) if np.isfinite(bound) else None for bound in bounds]
    return found


def describe(simulator: Any) -> dict[str, Any]:
    """The description of a simulator that a policy needs, as JSON values; checkpoints store it."""
    return {
        "observation_size": int(simulator.observation_size),
        "observation": parts_of(simulator),
        "action_low": simulator.action_low.tolist(),
        "action_high": simulator.action_high.tolist(),
        "action_dtype": str(getattr(simulator, "action_dtype", "float32")),
    }


def check_unchanged(saved: Mapping[str, Any], present: Mapping[str, Any], task: str) -> None:
    """Checks that an environment still has the interface that a policy was trained with.

    Args:
        saved: what `describe` returned in training; earlier versions stored only sizes and bounds.
        present: what it returns now.
        task: its name.

    Raises:
        UserError: they differ; the message says how.
    """
    for name, was in saved.items():
        now = present.get(name, was)
        if was != now:
            what = name.replace("_", " ")
            raise UserError(
                f"{task} has changed since this run was trained: its {what} was {_short(was)} and is now "
                f"{_short(now)}; use the environment as it was, or train a new policy"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}..."
