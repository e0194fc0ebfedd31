"""Whether a recording fits a task: spaces, bounds, rates; and its rows of replay if it does."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import Interface, PolicyError
from crossq_wn.data.recording import Recording, UnusableError, as_rows, ends
from crossq_wn.environments.interface import from_units
from crossq_wn.errors import option
from crossq_wn.learning.rows import Rows, with_stacks

_SLACK = 1e-3  # of the width between two bounds, by which an action may exceed them through rounding
_SAME = 1e-5  # of that width, by which two records of one action may differ
_CLOSE = 0.02  # by how much two clocks may differ


class Problem(NamedTuple):
    """The task of a run, as far as recordings must agree with it."""

    task: str
    interface: Mapping[str, Any]  # of `environments.interface.describe`
    action_repeat: int  # environment frames per agent decision
    decision_seconds: float | None  # None: not known
    frame_stack: int = 1  # observations that make one


def rows(recording: Recording, problem: Problem) -> Rows:
    """A recording as rows of replay for a task.

    Args:
        recording: sound, as `recording.checked` returns it.
        problem: the task.

    Raises:
        UnusableError: it does not fit.
    """
    _check_making(recording, problem)
    interface = Interface(problem.interface)
    flat = [_flat(recording.observation, interface, problem)]
    if recording.next_observation is not None:
        flat.append(_flat(recording.next_observation, interface, problem))
    found = as_rows(recording, flat, _actions(recording, interface, problem))
    if problem.frame_stack > 1:
        _check_order(recording)
    return with_stacks(found, problem.frame_stack)


def _check_order(recording: Recording) -> None:
    """Raises UnusableError if most of its transitions are not followed by the next one of their episode."""
    torn = ends(recording) & ~(recording.terminated | recording.truncated)
    if 2 * torn.sum() > len(torn):
        raise UnusableError(
            f"its transitions are in no order, and {option('frame_stack')} takes the observations before each"
        )


def _check_making(recording: Recording, problem: Problem) -> None:
    """Checks task and rates, as far as they are known."""
    if recording.task not in (None, problem.task):
        raise UnusableError(
            f"it was recorded on {recording.task}, whose rewards are not those of {problem.task}"
        )
    frames = recording.frames_per_decision
    if frames not in (None, problem.action_repeat):
        raise UnusableError(
            f"its decisions last {frames} environment frames and this run's {problem.action_repeat}: "
            f"train with {option('action_repeat', frames)}"
        )
    there, here = recording.decision_seconds, problem.decision_seconds
    if there is not None and here is not None and abs(there - here) > _CLOSE * here:
        raise UnusableError(
            f"its decisions are {there:.4g} s apart and those of {problem.task} {here:.4g} s: "
            "data of another control rate show other dynamics"
        )


def _flat(observation: Any, interface: Interface, problem: Problem) -> np.ndarray:
    """Observations [n, ...] as float32 [n, observation_size]."""
    try:
        flat = interface.flatten(observation)
    except (PolicyError, KeyError) as error:
        raise UnusableError(f"its observations are not those of {problem.task}: {_shape(observation)}"
                            f", where the task has {_wanted(interface)}") from error  # fmt: skip
    if flat.ndim != 2:  # a single row of as many numbers
        flat = flat[None]
    return flat


def _shape(observation: Any) -> str:
    if isinstance(observation, Mapping):
        return f"parts {', '.join(map(str, observation))}"
    return f"shape {list(observation.shape[1:])}"


def _wanted(interface: Interface) -> str:
    if interface.parts is None or len(interface.parts) == 1:
        return f"{[interface.size]}"
    return f"the parts {', '.join('.'.join(keys) for keys, _ in interface.parts)} ({interface.size} numbers)"


def _actions(recording: Recording, interface: Interface, problem: Problem) -> np.ndarray:
    """Actions in [-1, 1], float32 [n, action_size]."""
    size, count = int(interface.low.size), len(recording.action)
    found = recording.action.reshape(count, -1)
    if found.shape[1] != size:
        raise UnusableError(
            f"its actions have {found.shape[1]} numbers, where those of {problem.task} have {size}"
        )
    low, high = (np.asarray(each, np.float64).ravel() for each in (interface.low, interface.high))
    stated = recording.action_low is not None and recording.action_high is not None
    if stated:
        _check_bounds(recording, low, high, problem)
    width = high - low
    # Beyond the bounds an action is of other units, and to clip it would hide that.
    outside = (found < low - _SLACK * width) | (found > high + _SLACK * width)
    if outside.any():
        row, index = (int(each[0]) for each in np.nonzero(outside))
        raise UnusableError(
            f"its action in row {row} has {found[row, index]:g} at index {index}, beyond the bounds "
            f"{low[index]:g} to {high[index]:g} of {problem.task}: bring the actions to the task's units"
        )
    own = _unrounded(recording, interface, found, width) if stated else None
    return np.asarray(np.clip(from_units(found, low, high, interface.dtype) if own is None else own, -1, 1))


def _unrounded(
    recording: Recording, interface: Interface, found: np.ndarray, width: np.ndarray
) -> np.ndarray | None:
    """The agent's own actions, if rounding has made the recorded ones of them; else None.

    Only the recorded ones are part of the checksum, so others are not believed.
    """
    own = recording.agent_action
    if own is None or own.shape != found.shape:
        return None
    given = np.asarray(interface.in_units(np.clip(own, -1, 1))).reshape(found.shape)
    return own if (np.abs(given - found) <= _SAME * width).all() else None


def _check_bounds(recording: Recording, low: np.ndarray, high: np.ndarray, problem: Problem) -> None:
    for name, here in (("action_low", low), ("action_high", high)):
        there = np.ravel(getattr(recording, name))
        if there.shape != here.shape or not np.allclose(there, here, rtol=1e-5, atol=1e-8):
            raise UnusableError(
                f"its actions have the {name} {_short(there)}, those of {problem.task} {_short(here)}: bring "
                "the actions to the task's units"
            )


def _short(bounds: np.ndarray) -> str:
    text = str(bounds.tolist())
    return text if len(text) <= 60 else f"{text[:60]}..."
