"""How does a DeepMind Control task become a simulator? In float32, native key order, with exact snapshots."""

from typing import Any

import numpy as np
from dm_control import suite

from crossq_wn.environments.core import Frame
from crossq_wn.environments.physics import Physics
from crossq_wn.environments.snapshot import Snapshot, capture_attributes, restore_attributes


class DMControl:
    """One task of the dm_control suite."""

    def __init__(self, domain: str, task: str) -> None:
        self._environment = suite.load(domain, task, task_kwargs={"random": 0})
        action = self._environment.action_spec()
        self.action_low, self.action_high = action.minimum, action.maximum
        self._range = action.maximum - action.minimum
        physics = self._environment.physics
        self._physics = Physics(physics.model.ptr, physics.data.ptr)
        self.action_size = int(np.prod(action.shape))
        specification = self._environment.observation_spec()
        self.observation_size = sum(int(np.prod(part.shape)) for part in specification.values())
        self._camera = 2 if domain == "quadruped" else 0

    def reset(self, seed: int | None) -> np.ndarray:
        """Starts an episode."""
        if seed is not None:
            self._environment.task._random = np.random.RandomState(seed)
        return _flat(self._environment.reset().observation)

    def step(self, action: np.ndarray) -> Frame:
        """One control step; [-1, 1] is mapped to the task's own bounds."""
        scaled = self.action_low + 0.5 * (action.astype(np.float64) + 1.0) * self._range
        moment = self._environment.step(scaled)
        last, terminated = moment.last(), moment.last() and moment.discount == 0
        observation = _flat(moment.observation)
        return Frame(observation, float(moment.reward), terminated, last and not terminated, False)

    def snapshot(self) -> Snapshot:
        """Physics, the task's attributes and random stream, the step counter."""
        environment = self._environment
        return {
            "physics": self._physics.capture(),
            "task": capture_attributes(environment.task, strict=False),
            "step_count": environment._step_count,
            "reset_next_step": environment._reset_next_step,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""
        environment = self._environment
        if environment._reset_next_step:
            environment.reset()  # tasks build per-episode objects here
        self._physics.restore(snapshot["physics"])
        restore_attributes(environment.task, snapshot["task"])
        environment._step_count = snapshot["step_count"]
        environment._reset_next_step = snapshot["reset_next_step"]

    def render(self, height: int, width: int) -> np.ndarray:
        """The scene from the task's own camera."""
        return np.asarray(self._environment.physics.render(height, width, camera_id=self._camera))

    def close(self) -> None:
        """Frees the physics."""
        self._environment.close()


def _flat(observation: Any) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in observation.values()]).astype(np.float32)
