"""Numbers of an observation for which a policy has no action, and what to do about them."""

from __future__ import annotations

import numpy as np

from crossq_wn.acting.interface import LARGE, Layout, PolicyError

_MEND = "mend the sensor or the environment that it comes from"
_SCALE = "if that is no fault, train on observations that the environment scales to about [-10, 10]"


def reading(value: float, index: int, layout: Layout) -> str:
    """A number in an observation and its place: `nan at index 1 of the observation's 'arm.angles'`.

    Args:
        value: the number.
        index: of it in the flat observation.
        layout: of the observation.
    """
    beyond = " (infinite, or beyond float32)" if np.isinf(value) else ""
    return f"{value:g}{beyond} {_place(index, layout)}"


def _place(index: int, layout: Layout) -> str:
    for keys, shape in layout:
        size = int(np.prod(shape))
        if index < size:
            within = [int(each) for each in np.unravel_index(index, tuple(shape))]
            at = f"at index {within[0] if len(within) == 1 else within} of" if within else "as"
            return f"{at} the observation" + (f"'s {'.'.join(keys)!r}" if keys else "")
        index -= size
    return "in the observation"


def why_no_action(observation: np.ndarray, layout: Layout) -> str:
    """The likely reason why a policy's action is not a number: an extreme observation, or its parameters.

    Args:
        observation: on which it decided, [frame_stack * observation_size].
        layout: of an observation of the environment.
    """
    ordinary = np.isfinite(observation) & (np.abs(observation) <= LARGE)
    if ordinary.all():
        return (
            "its observation is ordinary, so its parameters are no longer sound: training diverged; "
            "try a lower learning rate"
        )
    largest = int(np.argmax(np.where(np.isfinite(observation), np.abs(observation), np.inf)))
    size = sum(int(np.prod(shape)) for _, shape in layout)
    advice = _SCALE if np.isfinite(observation[largest]) else _MEND
    return f"it got {reading(observation[largest], largest % size, layout)}; {advice}"


def check_sound(observation: np.ndarray, action: np.ndarray, name: str, layout: Layout) -> None:
    """Raises PolicyError unless observations [..., observation_size] and the actions for them are finite.

    Args:
        observation: for which a policy chose.
        action: [..., action_size].
        name: how messages call the policy.
        layout: as in `why_no_action`.
    """
    if np.isfinite(action).all() and np.isfinite(observation).all():
        return
    rows, chosen = np.atleast_2d(observation), np.atleast_2d(action)
    # The first row that is not sound, which argmin finds, is named.
    sound = np.isfinite(rows).all(-1) & np.isfinite(chosen).all(-1)
    row = int(np.argmin(sound))
    where = f" in row {row}" if len(rows) > 1 else ""
    raise PolicyError(f"the policy of {name} has no action{where}: {why_no_action(rows[row], layout)}")
