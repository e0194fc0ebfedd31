"""The layers of a Gymnasium environment, and which of them change the actions that pass through."""

from __future__ import annotations  # Gymnasium's types are not loaded with this file

from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from crossq_wn.environments.attributes import attribute
from crossq_wn.environments.core import EnvironmentFaultError
from crossq_wn.errors import UserError

if TYPE_CHECKING:
    import gymnasium

_WAY_OUT = (
    "leave that wrapper out, because actions are scaled to the bounds of the action space anyway, or let the "
    "outermost wrapper"
)


class Layers:
    """An environment and its wrappers, as a robot's own methods and interventions come from them.

    Args:
        layers: the outermost wrapper first and the environment itself last; there may be none.
    """

    def __init__(self, *layers: gymnasium.Env[Any, Any]) -> None:
        self._layers = layers
        changer: Any = next(filter(changes_actions, layers), None)
        self._changer = changer
        self._within: Any = None  # the intervention of the last step as it came to that wrapper
        self._before: Any = None  # its numbers at that time
        self._in_place = False  # whether some wrapper changes interventions where they are
        if changer is not None:
            self._note_interventions(changer.env)

    def find(self, name: str) -> Any:
        """The attribute of the outermost layer that has it; None without."""
        for layer in self._layers:
            if (found := attribute(layer, name, type(layer).__name__)) is not None:
                return found
        return None

    def check_units(self, name: str, what: str) -> None:
        """Raises UserError if a wrapper outside the layer with a method changes the actions it returns.

        Args:
            name: of the method, which there is.
            what: how messages call it.
        """
        for layer in self._outside_of(name):
            if changes_actions(layer):
                raise UserError(
                    f"{what} is inside the wrapper {type(layer).__name__}, which changes actions, so its "
                    f"units are others than those of the action space, {self._layers[0].action_space}: "
                    f"{_WAY_OUT} have the method {name}"
                )

    def intervention(self, info: dict[str, Any]) -> Any:
        """A person's action in a step's info, in the units of the action space; None without.

        Raises:
            EnvironmentFaultError: it comes from inside a wrapper that changes actions.
        """
        given, within, self._within = info.get("intervention"), self._within, None
        if given is None or given is not within:
            return given
        # Once seen, it counts for good: 0 is the same in many units.
        self._in_place = self._in_place or not np.array_equal(_numbers(given), self._before)
        if not self._in_place:
            raise EnvironmentFaultError(
                f"info['intervention'] comes from inside the wrapper {type(self._changer).__name__}, which "
                "changes actions, so its units are others than those of the action space, "
                f"{self._layers[0].action_space}: {_WAY_OUT} put it into info"
            )
        return given

    def _outside_of(self, name: str) -> tuple[gymnasium.Env[Any, Any], ...]:
        """The layers outside the one whose method `find` returns."""
        found = [attribute(layer, name, type(layer).__name__) for layer in self._layers]
        first = next(number for number, method in enumerate(found) if method is not None)
        # A wrapper may pass on what belongs to a layer inside it.
        owner = found[first].__self__ if isinstance(found[first], MethodType) else None
        within = [number for number, layer in enumerate(self._layers) if layer is owner]
        return self._layers[: max([first, *within])]

    def _note_interventions(self, inner: gymnasium.Env[Any, Any]) -> None:
        """Lets a layer's step note the intervention in its info, which wrappers outside of it may replace."""
        step = inner.step

        def noting(action: Any) -> Any:
            outcome: Any = step(action)
            info = outcome[-1] if isinstance(outcome, tuple) else None
            self._within = info.get("intervention") if isinstance(info, dict) else None
            self._before = _numbers(self._within)
            return outcome

        inner.step = noting  # type: ignore[method-assign]


def changes_actions(layer: gymnasium.Env[Any, Any]) -> bool:
    """Whether a layer is a wrapper with units of its own for actions, as far as it says so.

    Others may hand on other actions in the same units, as those do that log, smooth, repeat or add noise.
    """
    import gymnasium

    if not isinstance(layer, gymnasium.Wrapper):
        return False
    transforms = isinstance(layer, gymnasium.wrappers.TransformAction)
    return transforms or layer.action_space != layer.env.action_space


def _numbers(value: Any) -> np.ndarray:
    """A copy of an intervention's numbers; NaN where it is none, which is refused elsewhere."""
    try:
        return np.array(value, np.float64)
    except Exception:  # a user's class may do anything
        return np.array(np.nan)


def wrappers_of(environment: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """An environment's wrappers, from the outermost to the innermost."""
    import gymnasium

    found: list[gymnasium.Env[Any, Any]] = []
    while isinstance(environment, gymnasium.Wrapper):
        found.append(environment)
        environment = environment.env
    return found
