"""What is an environment to the training loop? Decisions in [-1, 1], float32 observations, honest endings."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.environments.snapshot import Snapshot, UnrestorableError, capture_attributes
from crossq_wn.errors import UserError, nearest


class Task(NamedTuple):
    """What a task name stands for, before anything is simulated."""

    name: str  # as results and run directories call it
    suite: str  # "dmc", "myosuite" or "gymnasium"
    identifier: str  # the suite's own name for it
    action_repeat: int  # frames per decision, by default
    episode_frames: int | None  # time limit in frames; None: the environment's own
    discount: float  # per decision
    metric: str  # what evaluation reports first: "return" or "success_rate"


class Frame(NamedTuple):
    """What one simulator frame leads to; `Simulator.observe` says what is seen then."""

    reward: float
    terminated: bool  # the task truly ended: no bootstrap
    truncated: bool  # the suite's own time limit
    success: bool


class Simulator(Protocol):
    """One adapted simulator: frames, not decisions."""

    observation_size: int
    action_size: int
    action_low: np.ndarray  # in the environment's own units and shape
    action_high: np.ndarray
    in_threads: bool  # whether several may step at once without sharing anything
    physics: Any  # of MuJoCo, an `environments.physics.Physics`; None where there is none

    def reset(self, seed: int | None) -> None:
        """Starts an episode, reseeding first if a seed is given."""

    def step(self, action: np.ndarray) -> Frame:
        """Advances one frame; action float32 [action_size] in [-1, 1]."""

    def observe(self) -> np.ndarray:
        """What is seen after the last reset or step, asked for at most once; float32 [observation_size].

        Apart from `step`, because the agent sees only the last frame of a decision.
        """

    def snapshot(self) -> Snapshot:
        """Everything a step depends on. Raises `UnrestorableError`."""

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""

    def render(self, height: int, width: int) -> np.ndarray:
        """The scene now, uint8 [height, width, 3]."""

    def close(self) -> None:
        """Frees what the simulator holds."""


class Episode(NamedTuple):
    """A finished episode."""

    total_reward: float  # the return, undiscounted
    frames: int
    success: bool  # in any of its frames


class Transition(NamedTuple):
    """What one decision led to."""

    next_observation: np.ndarray  # before any reset
    reward: float  # summed over the decision's frames
    terminated: bool
    truncated: bool
    episode: Episode | None  # set where the episode ended


class EnvironmentFaultError(UserError):
    """The environment itself misbehaved: NaN, or an exception of its own."""


def unknown_task(name: str, known: Iterable[str]) -> UserError:
    """The error for a task that nobody has, suggesting the nearest of the known names."""
    hint = nearest(name, known) or "`crossq-wn list tasks` names them; "
    return UserError(
        f"unknown task {name!r}: {hint}a task is a short name such as dog-run or myo-key-turn-hard, "
        "a registered Gymnasium id, or module:factory"
    )


class Environment:
    """A simulator with action repeat, a time limit and episode totals.

    Call `reset` once, then `step`; after an episode's last transition call `reset` again.
    """

    def __init__(
        self,
        simulator: Simulator,
        task: Task,
        *,
        action_repeat: int,
        episode_frames: int | None,
        terminations: bool,
    ) -> None:
        self.simulator, self.task = simulator, task
        self.action_repeat, self.episode_frames = action_repeat, episode_frames
        self.terminations = terminations
        self.observation_size, self.action_size = simulator.observation_size, simulator.action_size
        self.observation = np.zeros(self.observation_size, np.float32)
        self.total_reward, self.frames, self.success = 0.0, 0, False

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode; with a seed, from that seed. Returns float32 [observation_size]."""
        self._call(self.simulator.reset, seed)
        self.observation = self._observe("reset")
        self.total_reward, self.frames, self.success = 0.0, 0, False
        return self.observation

    def step(self, action: np.ndarray) -> Transition:
        """One agent decision: `action_repeat` frames, fewer where the episode ends within.

        Raises EnvironmentFaultError if the environment returns NaN or infinity, or raises.
        """
        reward, terminated, truncated = 0.0, False, False
        for _ in range(self.action_repeat):
            frame = self._call(self.simulator.step, action)
            if not math.isfinite(frame.reward):
                raise EnvironmentFaultError(
                    f"{self.task.name} returned the reward {frame.reward}{self._when()}"
                )
            self.frames += 1
            reward += frame.reward
            self.success |= frame.success
            terminated = frame.terminated and self.terminations
            truncated = frame.truncated or self.frames == self.episode_frames
            if terminated or truncated:
                break
        self.observation = self._observe("step")
        self.total_reward += reward
        over = terminated or truncated
        episode = Episode(self.total_reward, self.frames, self.success) if over else None
        return Transition(self.observation, reward, terminated, truncated, episode)

    def snapshot(self) -> Snapshot:
        """Everything that later transitions depend on. Raises `UnrestorableError`."""
        own = capture_attributes(self, ignore=(Task,), strict=False)
        return {"simulator": self.simulator.snapshot(), "episode": own}

    def restore(self, snapshot: Snapshot) -> None:
        """Continues mid-episode from a snapshot."""
        self.simulator.restore(snapshot["simulator"])
        own = snapshot["episode"]
        self.observation = np.array(own["observation"])
        self.total_reward, self.frames, self.success = own["total_reward"], own["frames"], own["success"]

    def render(self, height: int, width: int) -> np.ndarray:
        """The scene now, uint8 [height, width, 3]."""
        return self.simulator.render(height, width)

    def close(self) -> None:
        """Frees the simulator."""
        self.simulator.close()

    def _observe(self, call: str) -> np.ndarray:
        observation: np.ndarray = self._call(self.simulator.observe)
        if observation.shape != (self.observation_size,):
            raise EnvironmentFaultError(
                f"{self.task.name}: {call} returned an observation of shape {observation.shape}, "
                f"its observation space says {(self.observation_size,)}{self._when()}"
            )
        if not np.isfinite(observation).all():
            index = int(np.flatnonzero(~np.isfinite(observation))[0])
            raise EnvironmentFaultError(
                f"{self.task.name}: {call} returned {observation[index]} at index {index} of the "
                f"observation{self._when()}"
            )
        return observation

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UserError:
            raise
        except Exception as error:
            raise EnvironmentFaultError(
                f"{self.task.name} raised {type(error).__name__}: {error}{self._when()}"
            ) from error

    def _when(self) -> str:
        return f" ({self.frames} frames into the episode)"


__all__ = [
    "Environment",
    "EnvironmentFaultError",
    "Episode",
    "Frame",
    "Simulator",
    "Task",
    "Transition",
    "UnrestorableError",
    "unknown_task",
]
