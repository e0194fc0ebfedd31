"""The adapter of MyoSuite, which makes tasks obey their seeds and takes success from `solved`."""

import contextlib
import io
import os
from typing import Any

import mujoco
import numpy as np

from crossq_wn.environments.core import Frame
from crossq_wn.environments.factories import from_id
from crossq_wn.environments.layers import wrappers_of
from crossq_wn.environments.myo_definitions import definition, look
from crossq_wn.environments.physics import Physics
from crossq_wn.environments.snapshot import Snapshot, capture_attributes, restore_attributes

with contextlib.redirect_stdout(io.StringIO()):  # MyoSuite prints on import and when it makes its first task
    os.environ.setdefault("ROBOHIVE_VERBOSITY", "SILENT")
    import myosuite  # noqa: F401


class MyoSuite:
    """One MyoSuite environment.

    MyoSuite 2 ignores `reset(seed=)`, so the task is seeded through its own method.

    Args:
        identifier: the environment's Gymnasium id.
        episode_frames: the time limit that `core.Environment` enforces, in environment frames; None leaves
            MyoSuite its own.
    """

    in_threads = True

    def __init__(self, identifier: str, episode_frames: int | None) -> None:
        options = {} if episode_frames is None else {"max_episode_steps": episode_frames}
        with contextlib.redirect_stdout(io.StringIO()):
            self._environment = from_id(identifier, **options)
        unwrapped: Any = self._environment.unwrapped
        self._task = unwrapped
        # The descriptions from which the models were compiled are larger than these, and of no further use.
        self._task.mj_spec = self._task.obsd_mj_spec = None
        space: Any = self._environment.observation_space
        self.observation_size, self.action_size = int(np.prod(space.shape)), self._task.mj_model.nu
        self.action_high = np.ones(self.action_size)
        self.action_low = -self.action_high
        self._fatigue: Any = getattr(unwrapped, "muscle_fatigue", None)  # only the myoFati tasks have it
        robot = self._task.robot
        self.physics = Physics(robot.mj_model, robot.mj_data, self._task.frame_skip)
        self._observed = Physics(self._task.obsd_mj_model, self._task.obsd_mj_data)
        # MyoSuite enforces its own time limit in its `step`, which a definition would bypass.
        self._definition = None if episode_frames is None else definition(self._task)
        self._observation: Any = None  # the last observation of MyoSuite's own `step`, if that is used

    def reset(self, seed: int | None) -> None:
        """Starts an episode, after seeding the task if there is a seed."""
        if seed is not None:
            self._task.seed(seed)
        self._observation = self._environment.reset()[0]

    def step(self, action: np.ndarray) -> Frame:
        """Takes one control step; a logistic function maps [-1, 1] to muscle activations."""
        if self._definition is None:
            self._observation, reward, terminated, truncated, info = self._environment.step(action)
            # `solved` is a number in some tasks and an array with one entry in others.
            return Frame(float(reward), bool(terminated), truncated, bool(np.any(info["solved"])))
        robot = self._task.robot
        robot.mj_data.ctrl[:] = 1.0 / (1.0 + np.exp(-5.0 * (action - 0.5)))
        mujoco.mj_step(robot.mj_model, robot.mj_data, self._task.frame_skip)
        look(self._task)
        judgement = self._definition.judge()
        return Frame(float(judgement.reward), bool(judgement.failed), False, bool(judgement.solved))

    def observe(self) -> np.ndarray:
        """The task's observation."""
        if self._definition is None:
            return np.asarray(self._observation, np.float32)
        return np.concatenate(self._definition.observe(), dtype=np.float32, casting="unsafe")

    def snapshot(self) -> Snapshot:
        """Copies the simulated and the observed physics, the attributes of task and wrappers, and fatigue."""
        return {
            "simulated": self.physics.capture(),
            "observed": self._observed.capture(),
            "task": capture_attributes(self._task, strict=False),
            "fatigue": capture_attributes(self._fatigue, strict=False) if self._fatigue else None,
            "wrappers": [capture_attributes(each, strict=False) for each in wrappers_of(self._environment)],
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""
        self._environment.reset()
        restore_attributes(self._task, snapshot["task"])
        if self._fatigue:
            restore_attributes(self._fatigue, snapshot["fatigue"])
        self.physics.restore(snapshot["simulated"])
        self._observed.restore(snapshot["observed"])
        for wrapper, saved in zip(wrappers_of(self._environment), snapshot["wrappers"], strict=True):
            restore_attributes(wrapper, saved)

    def render(self, height: int, width: int) -> np.ndarray:
        """Draws a hand from the side, and any other body from MuJoCo's free camera."""
        model, data = self._task.obsd_mj_model, self._task.obsd_mj_data
        if self._definition is not None:
            mujoco.mj_forward(model, data)  # rendering needs more than the positions that `look` computes
        if not hasattr(self, "_renderer"):
            model.vis.global_.offheight = max(height, model.vis.global_.offheight)
            model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
            self._renderer = mujoco.Renderer(model, height, width)
        names = [model.camera(i).name for i in range(model.ncam)]
        camera = "hand_side_inter" if "hand_side_inter" in names else -1
        self._renderer.update_scene(data, camera=camera)
        return np.asarray(self._renderer.render())

    def close(self) -> None:
        """Frees the simulation and the renderer."""
        if hasattr(self, "_renderer"):
            self._renderer.close()
        self._environment.close()
