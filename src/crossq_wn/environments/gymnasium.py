"""The adapter of Gymnasium, which flattens Box and Dict observations and rescales Box actions."""

import contextlib
import copy
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from crossq_wn.acting.interface import in_units
from crossq_wn.acting.readings import reading
from crossq_wn.environments.attributes import attribute, attribute_by_now, attributes_of, result_of
from crossq_wn.environments.core import EnvironmentFaultError, Frame
from crossq_wn.environments.interface import check_bounds, success_of
from crossq_wn.environments.layers import Layers, wrappers_of
from crossq_wn.environments.parts import kinds_of, layout_of, numbers_of, shown_value, wrong_part
from crossq_wn.environments.pictures import why_none
from crossq_wn.environments.snapshot import (
    Snapshot,
    UnrestorableError,
    capture_attributes,
    capture_generator,
    decode,
    encode,
    has_spawned,
    restore_attributes,
    restore_generator,
)
from crossq_wn.errors import UserError

# Attributes of these types describe an environment and never change.
_DESCRIPTIONS = (spaces.Space, gymnasium.envs.registration.EnvSpec)


class Gymnasium:
    """One Gymnasium environment.

    Args:
        environment: one step of it is one environment frame.
        name: its name in messages.

    Raises:
        UserError: it lacks a space, its observations are not a Box or a Dict of Box, or its actions are not a
            bounded Box.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], name: str) -> None:
        self._environment, self._name = environment, name
        _check_spaces(environment, name)
        self._spaces = _own_spaces(environment.unwrapped, name)
        _check_observations(environment.observation_space, name)
        action = environment.action_space
        if not isinstance(action, spaces.Box):
            raise UserError(
                f"{name} has the action space {action}: actions must be one bounded Box; discrete actions "
                "and dicts of actions are not supported"
            )
        if not action.is_bounded("both"):
            raise UserError(
                f"{name} has the unbounded action space {action}: give the Box finite bounds in the "
                "environment's __init__, or with gymnasium.wrappers.TransformAction(env, lambda action: "
                f"action, gymnasium.spaces.Box(-1.0, 1.0, {action.shape}))"
            )
        self.action_low = action.low.astype(np.float64)
        self.action_high = action.high.astype(np.float64)
        self.action_dtype = np.dtype(action.dtype)
        check_bounds(self.action_low, self.action_high, self.action_dtype, name)
        self.action_size = int(np.prod(action.shape))
        self.layout = layout_of(environment.observation_space)
        self.observation_size = int(spaces.flatdim(environment.observation_space))
        if not self.action_size or not self.observation_size:
            raise UserError(f"{name} has an empty observation or action space")
        flat: Any = spaces.flatten_space(environment.observation_space)
        # Flattening casts to the types of the parts, and so would round to whole numbers.
        self._whole = any(kind != "f" for kind in kinds_of(environment.observation_space))
        self.observation_low, self.observation_high = flat.low, flat.high
        # Seconds per step, as Gymnasium's own MuJoCo tasks call them.
        dt = attribute_by_now(environment.unwrapped, "dt", name)
        self.frame_seconds = float(dt) if isinstance(dt, int | float) and dt > 0 else None
        self.no_pictures = why_none(type(environment.unwrapped), gymnasium.Env)  # empty: some can be made
        self._observation: Any = None  # the last observation, not yet flattened
        self.info: dict[str, Any] = {}  # of the last step
        self.physics: Any = None
        unwrapped: Any = environment.unwrapped
        if type(attribute_by_now(unwrapped, "model", name)).__name__ == "MjModel":
            from crossq_wn.environments.physics import Physics

            frame_skip = attribute_by_now(unwrapped, "frame_skip", name, 1)
            self.physics = Physics(unwrapped.model, unwrapped.data, frame_skip)
        # Only of Gymnasium's own MuJoCo tasks is it known that they share nothing.
        self.in_threads = self.physics is not None and type(unwrapped).__module__.startswith("gymnasium.")

    def reset(self, seed: int | None) -> None:
        """Starts an episode, after seeding the environment and its spaces if there is a seed.

        Raises:
            EnvironmentFaultError: the environment did not return (observation, info).
        """
        if seed is not None:
            for space in self._spaces:
                space.seed(seed)
        outcome: Any = self._environment.reset(seed=seed)
        self._check_values(outcome, "reset", ("observation", "info"))
        self._observation = outcome[0]

    def step(self, action: np.ndarray) -> Frame:
        """Takes one environment step; maps [-1, 1] to the bounds of the action space.

        Args:
            action: float32 [action_size] in [-1, 1].

        Raises:
            EnvironmentFaultError: the environment did not return Gymnasium's five values, or a reward or a
                flag is no single number.
        """
        scaled = in_units(action, self.action_low, self.action_high, self.action_dtype)
        outcome: Any = self._environment.step(scaled)
        self._check_values(outcome, "step", ("observation", "reward", "terminated", "truncated", "info"))
        self._observation, reward, terminated, truncated, info = outcome
        self.info = info
        # Gymnasium has no name for it; these two are usual.
        said = info.get("is_success", info.get("success"))
        return Frame(
            self._number(reward, "reward"),
            self._flag(terminated, "terminated"),
            self._flag(truncated, "truncated"),
            success_of(said),
        )

    def observe(self) -> np.ndarray:
        """The last observation, flattened in Gymnasium's order.

        Returns:
            float32 [observation_size].

        Raises:
            EnvironmentFaultError: the observation is not one of its space.
        """
        space = self._environment.observation_space
        if (wrong := wrong_part(space, self._observation)) is not None:
            raise EnvironmentFaultError(f"{self._name}: {wrong}")
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # which the comparison finds
                flat: Any = spaces.flatten(space, self._observation)
                exact = numbers_of(space, self._observation) if self._whole else flat
        except (KeyError, TypeError, ValueError) as error:
            raise EnvironmentFaultError(
                f"{self._name}: the observation is {shown_value(self._observation)}, its observation space "
                f"says {space} ({type(error).__name__}: {error})"
            ) from None
        if self._whole and flat.shape == exact.shape:
            # NaN in a part of floats is NaN on both sides, and `core.Environment` reports it.
            changed = (flat != exact) & ~(np.isnan(flat) & np.isnan(exact))
            if changed.any():
                index = int(np.flatnonzero(changed)[0])
                raise EnvironmentFaultError(
                    f"{self._name} returned {reading(exact[index], index, self.layout)}, and its observation "
                    f"space, {space}, holds whole numbers there: give that part the dtype float32"
                )
        return np.asarray(flat, np.float32)

    def snapshot(self) -> Snapshot:
        """Copies the state of environment and wrappers.

        For the environment it takes what its own `snapshot()` returns, or else its attributes.
        """
        unwrapped: Any = self._environment.unwrapped
        own = [attribute(unwrapped, each, self._name) for each in ("snapshot", "restore")]
        if all(map(callable, own)):
            inner = {"own": encode(result_of(own[0], f"{self._name}: snapshot"))}
        else:
            inner = {"attributes": self._attributes(unwrapped)}
        if self.physics is not None:
            inner["physics"] = self.physics.capture()
        # Not `np_random`: to read that would make one.
        if unwrapped._np_random is not None:
            if has_spawned(unwrapped._np_random):
                raise UnrestorableError("np_random has spawned generators, whose number is not in its state")
            inner["random"] = capture_generator(unwrapped._np_random)
        # The environment inside a wrapper is captured separately, and so are its running means.
        ignore = (*_DESCRIPTIONS, gymnasium.Env, *(type(value) for _, value in self._learned()))
        wrappers = [capture_attributes(each, ignore=ignore) for each in wrappers_of(self._environment)]
        sampling = [capture_generator(space.np_random) for space in _leaves(self._spaces)]
        return inner | {"wrappers": wrappers, "statistics": self.statistics(), "spaces": sampling}

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""
        unwrapped: Any = self._environment.unwrapped
        self._environment.reset(seed=0)  # some environments build parts in their first reset
        if "own" in snapshot:
            result_of(unwrapped.restore, f"{self._name}: restore", decode(snapshot["own"]))
        else:
            restore_attributes(unwrapped, snapshot["attributes"])
        if self.physics is not None:
            self.physics.restore(snapshot["physics"])
        if "random" in snapshot:
            restore_generator(unwrapped.np_random, snapshot["random"])
        for wrapper, saved in zip(wrappers_of(self._environment), snapshot["wrappers"], strict=True):
            restore_attributes(wrapper, saved)
        self.adopt(snapshot.get("statistics", {}), fixed=False)
        for space, state in zip(_leaves(self._spaces), snapshot.get("spaces", ()), strict=False):
            restore_generator(space.np_random, state)

    def layers(self) -> Layers:
        """The environment and its wrappers, which note interventions from now on."""
        return Layers(*wrappers_of(self._environment), self._environment.unwrapped)

    def statistics(self) -> Snapshot:
        """Copies what environment and wrappers have learned, such as Gymnasium's running means."""
        return {name: capture_attributes(value) for name, value in self._learned()}

    def adopt(self, statistics: Snapshot, *, fixed: bool) -> None:
        """Takes over what another environment has learned; if `fixed`, its own wrappers stop learning."""
        for name, value in self._learned():
            if name in statistics:
                restore_attributes(value, statistics[name])
        for wrapper in wrappers_of(self._environment) if fixed else ():
            if attribute(wrapper, "update_running_mean", self._name) is not None:
                wrapper.update_running_mean = False  # type: ignore[attr-defined]

    def _learned(self) -> list[tuple[str, Any]]:
        """The running means and variances in the environment and its wrappers, by place and name."""
        found = []
        for number, owner in enumerate([*wrappers_of(self._environment), self._environment.unwrapped]):
            for name, value in attributes_of(owner).items():
                if attributes_of(value).keys() >= {"mean", "var", "count"}:
                    found.append((f"{number}.{name}", value))
        return found

    def render(self, height: int, width: int) -> np.ndarray:
        """The picture of `render_mode="rgb_array"`, at the environment's own size.

        Raises:
            UserError: the environment cannot render, or renders no pictures.
        """
        if self.no_pictures:
            raise UserError(f"{self._name} {self.no_pictures}")
        image: Any = self._environment.render()
        if image is None:
            raise UserError(
                f"{self._name} renders no pictures with render_mode={self._environment.render_mode!r}: its "
                "class or factory needs a parameter render_mode, which is then 'rgb_array'"
            )
        picture: np.ndarray = image  # `core.Environment` checks it
        return picture

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _check_values(self, outcome: Any, call: str, names: tuple[str, ...]) -> None:
        """Raises EnvironmentFaultError unless a call returned the values of these names, info as the last."""
        if not isinstance(outcome, tuple) or len(outcome) != len(names):
            raise EnvironmentFaultError(
                f"{self._name}: {call} returned {shown_value(outcome)}; it must return "
                f"({', '.join(names)}), as Gymnasium has it since 0.26"
            )
        if not isinstance(outcome[-1], dict):
            raise EnvironmentFaultError(
                f"{self._name}: {call} returned {shown_value(outcome[-1])} as info: it must be a dict, "
                "such as {}"
            )

    def _number(self, value: Any, name: str) -> float:
        """A reward or a flag as a number; arrays with one entry are accepted."""
        # The usual case, quickly.
        if isinstance(value, float | bool | np.floating | np.bool_):
            return float(value)
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise EnvironmentFaultError(
                f"{self._name}: step returned {shown_value(value)} as {name}: it must be a single number"
            )
        return float(array.item())

    def _flag(self, value: Any, name: str) -> bool:
        """A flag; numbers stand for one if they are 0 or 1."""
        if isinstance(value, bool | np.bool_):
            return bool(value)
        number = self._number(value, name)
        if number not in (0, 1):  # NaN is neither
            raise EnvironmentFaultError(f"{self._name}: step returned {value!r} as {name}: it must be a flag")
        return bool(number)

    def _attributes(self, unwrapped: Any) -> Snapshot:
        """All attributes of the environment itself; raises UnrestorableError like `capture_attributes`."""
        ignore = (*_DESCRIPTIONS, *(type(value) for _, value in self._learned()))
        if self.physics is not None:
            ignore += (type(unwrapped.model), type(unwrapped.data), type(unwrapped.mujoco_renderer))
        saved = capture_attributes(unwrapped, ignore=ignore)
        saved.pop("_np_random", None)  # the snapshot stores Gymnasium's own generator elsewhere
        for name, item in saved.items():
            if isinstance(item, dict) and "generator" in item:
                raise UnrestorableError(f"{type(unwrapped).__name__}.{name} is a random generator of its own")
        return saved


def _own_spaces(unwrapped: Any, what: str) -> list[spaces.Space[Any]]:
    """The spaces among an environment's attributes, from which it may draw.

    Spaces that belong to the class are shared by all of its objects, so each object gets its own copies.
    """
    for name in ("action_space", "observation_space"):
        if name not in attributes_of(unwrapped):
            with contextlib.suppress(AttributeError):  # there is none, or a property provides it
                setattr(unwrapped, name, copy.deepcopy(attribute(unwrapped, name, what)))
    return [value for value in attributes_of(unwrapped).values() if isinstance(value, spaces.Space)]


def _leaves(owned: Iterable[spaces.Space[Any]]) -> list[spaces.Space[Any]]:
    """These spaces, and all spaces inside them."""
    found = []
    for space in owned:
        parts: Any = getattr(space, "spaces", ())
        found += [space, *_leaves(parts.values() if isinstance(parts, Mapping) else parts)]
    return found


def _check_spaces(environment: gymnasium.Env[Any, Any], name: str) -> None:
    for which in ("observation_space", "action_space"):
        space = attribute(environment, which, name)
        if not isinstance(space, spaces.Space):
            is_now = "has no" if space is None else f"has {space!r} as its"
            raise UserError(
                f"{name} {is_now} {which}: set it in the class or its __init__, for instance to "
                "gymnasium.spaces.Box(-1.0, 1.0, (2,))"
            )


def _check_observations(space: spaces.Space[Any], name: str) -> None:
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
    for key, part in parts:
        what = f"{name} has the observation space {part}" + (f" at {key!r}" if key else "")
        if isinstance(part, spaces.Dict):
            _check_observations(part, name)
        elif not isinstance(part, spaces.Box):
            raise UserError(
                f"{what}: observations must be a Box or a Dict of Box; "
                "gymnasium.wrappers.FlattenObservation(env) makes one Box of any other space"
            )
        elif part.dtype == np.uint8 and len(part.shape) >= 2:
            raise UserError(
                f"{what}: pixel observations are not supported; give the environment a state observation"
            )
