"""Environments as the training loop sees them.

Actions lie in [-1, 1], observations are flat float32 arrays, and termination is kept apart from truncation.
The adapter of a suite implements `Simulator`, which counts in environment frames; `Environment` adds agent
decisions, the time limit and episode totals.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.interface import stacked
from crossq_wn.acting.readings import reading, why_no_action
from crossq_wn.environments.interface import parts_of
from crossq_wn.environments.snapshot import Snapshot, capture_attributes
from crossq_wn.environments.streams import seed_shared
from crossq_wn.errors import UserError, counted

_LARGEST = float(np.finfo(np.float32).max)  # the largest number that replay and networks can hold
_EDGE = 1.0 + 1e-5  # the largest action, because rounding may exceed 1


class Task(NamedTuple):
    """A task with its suite's protocol."""

    name: str  # as results and run directories call it
    suite: str  # the suite's key in `SUITES`
    identifier: str  # the suite's own name for the task
    action_repeat: int  # environment frames per agent decision
    episode_frames: int | None  # time limit in environment frames; None: the environment's own
    discount: float  # per agent decision
    metric: str  # the metric that results are about: "return" or "success_rate"


class Frame(NamedTuple):
    """The outcome of one environment frame, without the observation, which `Simulator.observe` makes."""

    reward: float
    terminated: bool  # the task truly ended, so that no value is bootstrapped from here
    truncated: bool  # the simulator's own time limit was reached
    success: bool | None  # whether the task is solved in this frame; None: it does not say what that is


class Simulator(Protocol):
    """One simulated task, implemented by the adapter of a suite."""

    observation_size: int
    action_size: int
    action_low: np.ndarray  # float64, in the environment's own units and shape
    action_high: np.ndarray
    in_threads: bool  # whether several such simulators may step at the same time
    physics: Any  # MuJoCo's, as an `environments.physics.Physics`; None without MuJoCo

    def reset(self, seed: int | None) -> None:
        """Starts an episode.

        Args:
            seed: restarts the random stream; None continues it.
        """

    def step(self, action: np.ndarray) -> Frame:
        """Advances by one environment frame.

        Args:
            action: float32 [action_size] in [-1, 1].
        """

    def observe(self) -> np.ndarray:
        """Makes the observation after the last reset or step, once at most: agents see no frame in between.

        Returns:
            float32 [observation_size].
        """

    def snapshot(self) -> Snapshot:
        """Copies everything that later steps depend on.

        Raises:
            UnrestorableError: part of it cannot be captured.
        """

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot.

        Args:
            snapshot: what `snapshot` returned, perhaps of another simulator of the same task.
        """

    def render(self, height: int, width: int) -> np.ndarray:
        """Draws the current scene.

        Args:
            height: in pixels; a simulator may draw in another size.
            width: in pixels.

        Returns:
            uint8 [height, width, 3].
        """

    def close(self) -> None:
        """Frees the simulator's resources."""


class Episode(NamedTuple):
    """A finished episode."""

    total_reward: float  # the undiscounted return
    frames: int  # its length in environment frames
    success: bool | None  # whether the task was solved in any of its frames; None: it never said


class Transition(NamedTuple):
    """The outcome of one agent decision."""

    next_observation: np.ndarray  # float32 [observation_size], from before any reset
    reward: float  # summed over the decision's frames
    terminated: bool  # the task truly ended
    truncated: bool  # a time limit was reached
    episode: Episode | None  # set where the episode has ended


class EnvironmentFaultError(UserError):
    """A fault that stops one seed: its environment returned NaN or a wrong shape, or raised an exception."""


class NoActionError(EnvironmentFaultError):
    """A policy chose an action that is not a number, which stops its seed before the environment gets it."""


Result = Transition | EnvironmentFaultError  # of one seed's decision


def _either(one: bool | None, other: bool | None) -> bool | None:
    """Whether one of two frames is a success; None if neither says."""
    return one or other if other is not None else one


class Environment:
    """A simulator with action repeat, a time limit and episode totals.

    Call `reset` first, then `step` until a transition has an `episode`, then `reset` again.

    Args:
        simulator: advances the task by single environment frames.
        task: names the environment in error messages.
        action_repeat: environment frames per agent decision.
        episode_frames: time limit in environment frames; None: the simulator's own.
        terminations: whether an episode ends when its task terminates; if not, it runs to the time limit.
        frame_stack: observations that make one; see `acting.interface.stacked`.
    """

    def __init__(
        self,
        simulator: Simulator,
        task: Task,
        *,
        action_repeat: int,
        episode_frames: int | None,
        terminations: bool,
        frame_stack: int = 1,
    ) -> None:
        self.simulator, self.task = simulator, task
        self.action_repeat, self.episode_frames = action_repeat, episode_frames
        self.terminations, self.frame_stack = terminations, frame_stack
        self.observation_size = frame_stack * simulator.observation_size
        self.action_size = simulator.action_size
        self.observation = np.zeros(self.observation_size, np.float32)
        self.total_reward, self.frames = 0.0, 0
        self.success: bool | None = None
        self.largest_observation = self.largest_reward = 0.0  # so far, in absolute value

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode.

        Args:
            seed: restarts the environment's random stream, and those that the process shares; None continues
                them.

        Returns:
            The first observation, float32 [observation_size].

        Raises:
            EnvironmentFaultError: the environment raised an exception or returned a faulty observation.
        """
        if seed is not None:
            seed_shared(seed)
        # First, because faults say where they are.
        self.total_reward, self.frames, self.success = 0.0, 0, None
        self._call(self.simulator.reset, seed)
        self.observation = self._observe("reset", None)
        return self.observation

    def step(self, action: np.ndarray) -> Transition:
        """Takes one agent decision: `action_repeat` frames, or fewer where the episode ends before.

        Args:
            action: float32 [action_size] in [-1, 1], repeated in every frame.

        Raises:
            EnvironmentFaultError: the action is not in [-1, 1], or the environment returned NaN or infinity
                or raised an exception.
        """
        if not np.abs(action).max() <= _EDGE:  # true of NaN as well
            raise self._no_action(action)
        reward, terminated, truncated = 0.0, False, False
        for _ in range(self.action_repeat):
            frame = self._call(self.simulator.step, action)
            self.frames += 1
            reward += frame.reward
            if not abs(reward) <= _LARGEST:
                raise self._no_reward(frame.reward)
            self.success = _either(self.success, frame.success)
            terminated = frame.terminated and self.terminations
            truncated = frame.truncated or self.frames == self.episode_frames
            if terminated or truncated:
                break
        self.observation = self._observe("step", self.observation)
        self.total_reward += reward
        self.largest_reward = max(self.largest_reward, abs(reward))
        over = terminated or truncated
        episode = Episode(self.total_reward, self.frames, self.success) if over else None
        return Transition(self.observation, reward, terminated, truncated, episode)

    def _no_reward(self, reward: float) -> EnvironmentFaultError:
        beyond = ", beyond float32" if math.isfinite(reward) else ""
        return EnvironmentFaultError(f"{self.task.name} returned the reward {reward}{beyond}{self.when()}")

    def snapshot(self) -> Snapshot:
        """Copies everything that later transitions depend on.

        Raises:
            UnrestorableError: the simulator's state cannot be captured.
        """
        own = capture_attributes(self, ignore=(Task,), strict=False)
        return {"simulator": self.simulator.snapshot(), "episode": own}

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot, in the middle of its episode.

        Args:
            snapshot: what `snapshot` returned.
        """
        self.simulator.restore(snapshot["simulator"])
        own = snapshot["episode"]
        self.observation = np.array(own["observation"])
        self.total_reward, self.frames, self.success = own["total_reward"], own["frames"], own["success"]
        # Checkpoints of earlier versions lack these.
        self.largest_observation = own.get("largest_observation", 0.0)
        self.largest_reward = own.get("largest_reward", 0.0)

    @property
    def frame_seconds(self) -> float | None:
        """Seconds that a frame takes in the simulated world, or of a real one's clock; None: not known."""
        own: float | None = getattr(self.simulator, "frame_seconds", None)
        return own if self.simulator.physics is None else self.simulator.physics.seconds

    def statistics(self) -> Snapshot:
        """Copies what wrappers have learned, such as means of observations; empty if they learn nothing."""
        found: Snapshot = getattr(self.simulator, "statistics", dict)()
        return found

    def adopt(self, statistics: Snapshot, *, fixed: bool) -> None:
        """Takes over what the wrappers of another environment have learned.

        Args:
            statistics: what `statistics` returned.
            fixed: whether this environment's own wrappers stop learning.
        """
        if statistics:
            self.simulator.adopt(statistics, fixed=fixed)  # type: ignore[attr-defined]

    def render(self, height: int, width: int) -> np.ndarray:
        """Draws the current scene, uint8 [height, width, 3].

        Args:
            height: in pixels; a simulator may draw in another size.
            width: in pixels.

        Raises:
            UserError: the environment draws nothing, or something else.
        """
        picture: Any = self.simulator.render(height, width)
        shape, kind = np.shape(picture), getattr(picture, "dtype", type(picture).__name__)
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise UserError(
                f"{self.task.name} renders pictures of type {kind} and shape {shape}: they must be uint8 "
                "[height, width, 3], red, green and blue from 0 to 255"
            )
        return np.asarray(picture)

    def close(self) -> EnvironmentFaultError | None:
        """Frees the simulator; returns the fault if that fails, which must not cost what was done before."""
        try:
            self._call(self.simulator.close)
        except EnvironmentFaultError as fault:
            return fault
        return None

    def _observe(self, call: str, before: np.ndarray | None) -> np.ndarray:
        with np.errstate(over="ignore"):
            observation = np.asarray(self._call(self.simulator.observe), np.float32)
        if observation.shape != (self.simulator.observation_size,):
            raise EnvironmentFaultError(
                f"{self.task.name}: {call} returned an observation of shape {observation.shape}, "
                f"its observation space says {(self.simulator.observation_size,)}{self.when()}"
            )
        largest = float(np.abs(observation).max())
        if not largest <= _LARGEST:
            index = int(np.flatnonzero(~np.isfinite(observation))[0])
            what = reading(observation[index], index, parts_of(self.simulator))
            raise EnvironmentFaultError(f"{self.task.name}: {call} returned {what}{self.when()}")
        self.largest_observation = max(self.largest_observation, largest)
        return stacked(before, observation, self.frame_stack)

    def _no_action(self, action: np.ndarray) -> NoActionError:
        index = int(np.flatnonzero(~(np.abs(action) <= _EDGE))[0])
        why = "actions must lie in [-1, 1]"
        if not np.isfinite(action).all():
            why = why_no_action(self.observation, parts_of(self.simulator))
        return NoActionError(
            f"{self.task.name} was not stepped: the policy chose {action[index]} at index {index} of its "
            f"action, and {why}{self.when()}"
        )

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (UserError, KeyboardInterrupt, MemoryError):  # not of this seed alone
            raise
        except BaseException as error:  # also SystemExit, which must not end the other seeds
            what = f"raised {type(error).__name__}: {error}"
            raise EnvironmentFaultError(f"{self.task.name} {what}{self.when()}") from error

    def when(self) -> str:
        """How far the episode has come, in brackets, for the end of a message about a fault."""
        when = f"{counted(self.frames, 'frame')} into the episode" if self.frames else "at its beginning"
        return f" ({when})"


__all__ = [
    "Environment",
    "EnvironmentFaultError",
    "Episode",
    "Frame",
    "Simulator",
    "Task",
    "Transition",
]
