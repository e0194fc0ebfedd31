"""Whether an environment keeps to itself, so that it is the same in any process."""

import math
import sys
from typing import Any

import numpy as np

from crossq_wn.environments.attributes import written_by_user
from crossq_wn.environments.core import Environment
from crossq_wn.environments.holders import changes, holders_of
from crossq_wn.environments.reach import reach_of
from crossq_wn.environments.streams import capture_shared, drawn_since, kept_shared

_DRAWS = (
    "it draws from `random` or `numpy.random`, or from a generator of its class or module, which a process "
    "shares"
)
_DECISIONS = 5  # agent decisions that an environment is watched for


class SharedStateError(Exception):
    """An environment shares something with others in its process; the message says what."""


def check_isolated(environment: Environment) -> None:
    """Checks that an environment, which is reset and stepped, uses nothing that its process shares.

    Environments of the suites are known to share nothing. A user's may draw from `random`, count its objects
    in its class, or keep a generator in its module: in several processes these would be several.

    Raises:
        SharedStateError: it shares something, or its process has loaded JAX, which would compete for the
            accelerator.
        UnrestorableError: its state cannot be captured.
    """
    _check_modules()
    environment.reset(0)
    environment.snapshot()
    if environment.simulator.in_threads:
        return
    user = written_by_user(environment.simulator)
    with kept_shared():
        _act(environment, 1)  # makes what is made on first use
        if reach_of(user).drawn:  # perhaps only now and then
            raise SharedStateError(_DRAWS)
        before, changed = capture_shared(), changes(holders_of(user), math.inf)
        environment.reset()
        _act(environment, _DECISIONS)
        if drawn_since(before):
            raise SharedStateError(_DRAWS)
        names = changed()
    if names:
        raise SharedStateError(f"it changes {', '.join(names)}, which a process shares")
    _check_modules()


def _act(environment: Environment, decisions: int) -> None:
    for _ in range(decisions):
        if environment.step(np.zeros(environment.action_size, np.float32)).episode is not None:
            environment.reset()


def _check_modules() -> None:
    if "jax" in sys.modules:
        raise SharedStateError("its module imports JAX, which only one process should start")


def same(left: Any, right: Any) -> bool:
    """Whether two snapshots are equal to the last bit.

    Args:
        left: plain data: nested dicts, lists and tuples of arrays and scalars.
        right: likewise.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray | np.generic | float):  # zero has two signs, and NaN is not itself
        one, other = np.asarray(left), np.asarray(right)
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return bool(left == right)
