"""How does any Gymnasium environment become a simulator? Box observations flattened, Box actions rescaled."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from crossq_wn.environments.core import Frame, unknown_task
from crossq_wn.environments.snapshot import (
    Snapshot,
    UnrestorableError,
    capture_attributes,
    capture_generator,
    decode,
    encode,
    restore_attributes,
    restore_generator,
)
from crossq_wn.errors import UserError, import_user_module, nearest

gymnasium.logger.min_level = gymnasium.logger.ERROR

# Descriptions of an environment, which no step changes.
_DESCRIPTIONS = (spaces.Space, gymnasium.envs.registration.EnvSpec)


def from_id(name: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """A registered Gymnasium environment. Raises UserError naming the nearest id."""
    try:
        return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.UnregisteredEnv:
        raise unknown_task(name, map(str, gymnasium.registry)) from None
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"Gymnasium cannot make {name!r}: {error}") from None


def from_factory(path: str) -> gymnasium.Env[Any, Any]:
    """The environment that `module:factory` returns; the module may lie in the current directory."""
    module_name, _, attribute = path.partition(":")
    if module_name == "__main__":
        raise UserError(
            f"{path!r} was defined in a script, which nobody else can import: in that script, call "
            "crossq_wn.resume(run, task=...), or move the class to a module"
        )
    value = import_user_module(module_name, f"the task {path!r}")
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [name for name in dir(value) if not name.startswith("_")]
            raise UserError(f"{module_name!r} has no {part!r}: {nearest(part, known)}the task is {path!r}")
        value = getattr(value, part)
    return from_callable(value, path)


def from_callable(factory: Callable[[], Any], name: str) -> gymnasium.Env[Any, Any]:
    """The environment that a class or function of no arguments returns."""
    if not callable(factory):
        raise UserError(f"the task {name!r} is neither a class nor a function that makes a gymnasium.Env")
    try:
        environment = factory()
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"{name!r} raised {type(error).__name__}: {error}; it is called without arguments"
        ) from None
    if not isinstance(environment, gymnasium.Env):
        raise UserError(f"{name!r} returned a {type(environment).__name__}, not a gymnasium.Env")
    return environment


class Gymnasium:
    """One Gymnasium environment.

    Raises UserError for spaces that this package does not learn on.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], name: str) -> None:
        self._environment = environment
        self._check_observations(environment.observation_space, name)
        action = environment.action_space
        if not isinstance(action, spaces.Box):
            raise UserError(
                f"{name} has the action space {action}: actions must be a bounded Box; discrete actions are "
                "not supported"
            )
        if not action.is_bounded("both"):
            raise UserError(
                f"{name} has the unbounded action space {action}: give the Box finite bounds, or wrap the "
                "environment in gymnasium.wrappers.RescaleAction"
            )
        self.action_low = action.low.astype(np.float64)
        self.action_high = action.high.astype(np.float64)
        self._range = self.action_high - self.action_low
        self._dtype, self._shape = action.dtype, action.shape
        self.action_size = int(np.prod(action.shape))
        self.observation_size = int(spaces.flatdim(environment.observation_space))
        if not self.action_size or not self.observation_size:
            raise UserError(f"{name} has an empty observation or action space")
        self._observation: Any = None  # the last one, not yet flattened
        self.physics: Any = None
        unwrapped: Any = environment.unwrapped
        if type(getattr(unwrapped, "model", None)).__name__ == "MjModel":
            from crossq_wn.environments.physics import Physics

            self.physics = Physics(unwrapped.model, unwrapped.data, getattr(unwrapped, "frame_skip", 1))
        self.in_threads = self.physics is not None and type(unwrapped).__module__.startswith("gymnasium.")

    def reset(self, seed: int | None) -> None:
        """Starts an episode."""
        self._observation = self._environment.reset(seed=seed)[0]

    def step(self, action: np.ndarray) -> Frame:
        """One environment step; [-1, 1] is mapped to the action space's bounds."""
        scaled = self.action_low + 0.5 * (action.reshape(self._shape).astype(np.float64) + 1.0) * self._range
        # Rounding may leave the bounds by a bit.
        bounded = np.clip(scaled, self.action_low, self.action_high).astype(self._dtype)
        outcome = self._environment.step(bounded)
        self._observation, reward, terminated, truncated, info = outcome
        success = bool(np.any(info.get("is_success", info.get("success", False))))
        return Frame(float(reward), bool(terminated), bool(truncated), success)

    def observe(self) -> np.ndarray:
        """The last observation, flattened as Gymnasium does."""
        flat = spaces.flatten(self._environment.observation_space, self._observation)
        return np.asarray(flat, np.float32)

    def snapshot(self) -> Snapshot:
        """The environment's own `snapshot()`, or else all attributes of it and its wrappers."""
        unwrapped: Any = self._environment.unwrapped
        if hasattr(unwrapped, "snapshot") and hasattr(unwrapped, "restore"):
            inner = {"own": encode(unwrapped.snapshot())}
        else:
            inner = {"attributes": self._attributes(unwrapped)}
        if self.physics is not None:
            inner["physics"] = self.physics.capture()
        if unwrapped._np_random is not None:
            inner["random"] = capture_generator(unwrapped._np_random)
        ignore = (*_DESCRIPTIONS, gymnasium.Env)  # what it wraps
        return inner | {"wrappers": [capture_attributes(w, ignore=ignore) for w in self._wrappers()]}

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""
        unwrapped: Any = self._environment.unwrapped
        self._environment.reset(seed=0)  # builds what only a first reset builds
        if "own" in snapshot:
            unwrapped.restore(decode(snapshot["own"]))
        else:
            restore_attributes(unwrapped, snapshot["attributes"])
        if self.physics is not None:
            self.physics.restore(snapshot["physics"])
        if "random" in snapshot:
            restore_generator(unwrapped.np_random, snapshot["random"])
        for wrapper, saved in zip(self._wrappers(), snapshot["wrappers"], strict=True):
            restore_attributes(wrapper, saved)

    def render(self, height: int, width: int) -> np.ndarray:
        """What the environment's `render_mode="rgb_array"` shows, at its own size."""
        image: Any = self._environment.render()
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise UserError("the environment renders no images: it must support render_mode='rgb_array'")
        return np.asarray(image)

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _wrappers(self) -> list[gymnasium.Env[Any, Any]]:
        found: list[gymnasium.Env[Any, Any]] = []
        current = self._environment
        while isinstance(current, gymnasium.Wrapper):
            found.append(current)
            current = current.env
        return found

    def _attributes(self, unwrapped: Any) -> Snapshot:
        ignore: tuple[type, ...] = _DESCRIPTIONS
        if self.physics is not None:
            ignore += (type(unwrapped.model), type(unwrapped.data), type(unwrapped.mujoco_renderer))
        saved = capture_attributes(unwrapped, ignore=ignore)
        saved.pop("_np_random", None)  # Gymnasium's own, which has its place in the snapshot
        for name, item in saved.items():
            if isinstance(item, dict) and "generator" in item:
                raise UnrestorableError(f"{type(unwrapped).__name__}.{name} is a random generator of its own")
        return saved

    @staticmethod
    def _check_observations(space: spaces.Space[Any], name: str) -> None:
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
        for key, part in parts:
            what = f"{name} has the observation space {part}" + (f" at {key!r}" if key else "")
            if isinstance(part, spaces.Dict):
                Gymnasium._check_observations(part, name)
            elif not isinstance(part, spaces.Box):
                raise UserError(f"{what}: observations must be a Box or a Dict of Box")
            elif part.dtype == np.uint8 and len(part.shape) >= 2:
                raise UserError(
                    f"{what}: pixel observations are not supported; give the environment a state observation"
                )
