"""A robot: an environment with methods beyond Gymnasium's, all of which are optional.

    pause()        the robot gets no actions for a while: between episodes, and at the end
    resume()       the next action comes in a moment
    safe_action()  an action, in the units of the action space, for when the policy has none in time
    own_clock      True where `step` itself waits for the robot's next tick; it is an attribute

The `info` of a step may have an "intervention", an action that a person gave in place of the policy's.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition
from crossq_wn.environments.interface import from_units
from crossq_wn.environments.layers import Layers
from crossq_wn.errors import UserError, raised

METHODS = ("pause", "resume", "safe_action")
_EDGE = 1.0 + 1e-3  # the largest number of an action of the robot's, because rounding may exceed 1
_PERSONS_EDGE = 1.1  # of a person's, whose joystick may go somewhat beyond its end


class Robot:
    """An environment whose methods the acting side calls.

    Args:
        environment: of one training seed; nobody else may step it.
        note_call: is told the name of each method that is called, and "" when it has returned.

    Raises:
        UserError: one of its methods cannot be called without arguments, its safe action is none or has
            other units, or `own_clock` is neither true nor false.

    Attributes:
        environment: as given.
        methods: those of `METHODS` that it has, by name.
        own_clock: whether its steps wait for a clock of their own.
        acting: whether it is in an episode: it was told that actions come, and not yet that none does.
        note_call: as given.
    """

    def __init__(
        self, environment: Environment, note_call: Callable[[str], None] = lambda name: None
    ) -> None:
        self.environment, self._name, self.note_call = environment, environment.task.name, note_call
        self._layers: Layers = getattr(environment.simulator, "layers", Layers)()
        self.methods: dict[str, Callable[[], Any]] = {}
        for name in METHODS:
            if (method := self._layers.find(name)) is not None:
                _check_signature(method, f"{self._name}.{name}")
                self.methods[name] = method
        self.own_clock = _own_clock(self._layers.find("own_clock"), self._name)
        self.acting = self._resting = False
        if "safe_action" in self.methods:
            self._layers.check_units("safe_action", f"{self._name}.safe_action")
            self.safe_action()

    def pause(self) -> None:
        """Tells the robot that no action will come for a while."""
        self.acting = False
        self._call("pause")
        self._resting = True

    def resume(self) -> None:
        """Tells the robot that actions will come."""
        self._call("resume")
        self.acting = True

    def safe_action(self) -> np.ndarray | None:
        """The robot's safe action, float32 [action_size] in [-1, 1]; None if it has none."""
        if "safe_action" not in self.methods:
            return None
        value = self._call("safe_action")
        return self._as_action(value, f"{self._name}.safe_action returned {value!r}: it must return")

    def reset(self, seed: int | None) -> np.ndarray:
        """Starts an episode; as `Environment.reset`."""
        self._resting = False
        observation: np.ndarray = self._noted("reset", self.environment.reset, seed)
        return observation

    def step(self, action: np.ndarray) -> tuple[Transition, np.ndarray | None]:
        """Takes one decision; as `Environment.step`.

        Returns:
            The transition, and the action of a person who intervened, if one did.
        """
        transition: Transition = self._noted("step", self.environment.step, action)
        self.acting = self.acting and transition.episode is None
        given = self._layers.intervention(getattr(self.environment.simulator, "info", {}))
        if given is None:
            return transition, None
        told = f"{self._name}: info['intervention'] is {given!r}{self.environment.when()}: it must be"
        return transition, self._as_action(given, told, _PERSONS_EDGE)

    def rest(self) -> None:
        """Gives the safe action, if there is one, after a failure; a further fault is ignored."""
        self.acting = False
        with contextlib.suppress(Exception, KeyboardInterrupt):
            action = self.safe_action()
            if action is not None:
                self._noted("step", self.environment.step, action)

    def settle(self) -> None:
        """Pauses the robot unless it is paused, in an episode that is under way after its safe action."""
        if self.acting:
            self.rest()
        if not self._resting:
            self.pause()

    def _call(self, name: str) -> Any:
        if name not in self.methods:
            return None
        try:
            return self._noted(name, self.methods[name])
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # also SystemExit, which must not end learning in silence
            raise EnvironmentFaultError(f"{self._name}.{name} raised {raised(error)}") from error

    def _noted(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return noted(self.note_call, name, function, *arguments)

    def _as_action(self, value: Any, told: str, edge: float = _EDGE) -> np.ndarray:
        """Maps an action of the robot's own to [-1, 1], clipped if it lies within an edge.

        Args:
            value: in the units of the action space.
            told: the beginning of the message if it is none; "an action ..." follows.
            edge: the largest number.

        Raises:
            EnvironmentFaultError: it is no action, or beyond the edge.
        """
        simulator = self.environment.simulator
        low, high = simulator.action_low, simulator.action_high
        try:
            given = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            given = np.full(0, np.nan)
        if given.size != low.size:
            raise EnvironmentFaultError(f"{told} an action of shape {low.shape}")
        dtype = getattr(simulator, "action_dtype", np.dtype(np.float32))
        action = from_units(given.reshape(low.shape), low, high, dtype)
        if not np.abs(action).max() <= edge:  # true of NaN as well
            bounds = f"from {_shortest(low)} to {_shortest(high)}"
            raise EnvironmentFaultError(f"{told} an action within the bounds, {bounds}")
        clipped: np.ndarray = np.clip(action, -1.0, 1.0)
        return clipped


def noted(note_call: Callable[[str], None], name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that may never return.

    Args:
        note_call: is told its name, and "" when it has returned.
        name: of the function.
        function: of the robot.
        arguments: of the function.
    """
    note_call(name)
    try:
        return function(*arguments)
    finally:
        note_call("")


def _shortest(bound: np.ndarray) -> float | list[float]:
    """A bound of actions; as one number if all have the same."""
    values: list[float] = bound.ravel().tolist()
    return values[0] if len({*values}) == 1 else values


def _own_clock(value: Any, name: str) -> bool:
    if value is None or isinstance(value, bool | np.bool_):
        return bool(value)
    raise UserError(f"{name}.own_clock is {value!r}: make it True or False, or leave it out")


def _check_signature(method: Any, name: str) -> None:
    if not callable(method):
        raise UserError(f"{name} is {method!r}: make it a method without arguments, or leave it out")
    try:
        inspect.signature(method).bind()
    except TypeError as error:
        raise UserError(f"{name} must take no arguments: {error}") from None
    except ValueError:  # some builtins have no signature
        pass
