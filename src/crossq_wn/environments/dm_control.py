"""The adapter of DeepMind Control.

Observations are float32 and in the suite's own order of keys; frames equal the suite's to the last bit.
"""

import threading

import mujoco
import numpy as np
from dm_control import suite
from dm_control.rl.control import PhysicsError

from crossq_wn.acting.interface import in_units
from crossq_wn.environments.core import Frame
from crossq_wn.environments.dmc_definitions import definition
from crossq_wn.environments.models import compiled_once
from crossq_wn.environments.physics import Physics
from crossq_wn.environments.snapshot import Snapshot, capture_attributes, restore_attributes

# Tasks of these domains never change their model, so that all environments of one task share it.
CONSTANT = ("acrobot", "ball_in_cup", "cartpole", "cheetah", "dog", "hopper", "humanoid", "humanoid_CMU",
            "pendulum", "walker")  # fmt: skip

# dm_control's resets switch actuators off in the model for a moment; so one environment resets at a time.
_resets = threading.RLock()


class DMControl:
    """One task of the dm_control suite.

    Args:
        domain: the suite's own name for it, such as finger.
        task: the suite's own name for it, such as turn_hard.
    """

    in_threads = True

    def __init__(self, domain: str, task: str) -> None:
        shared = domain in CONSTANT
        with _resets, compiled_once(shared=shared):
            self._environment = suite.load(domain, task, task_kwargs={"random": 0})  # `reset` seeds it
        action = self._environment.action_spec()
        self.action_low, self.action_high = action.minimum, action.maximum
        self.action_dtype = np.dtype(np.float64)
        physics = self._environment.physics
        self.physics = Physics(
            physics.model.ptr, physics.data.ptr, self._environment._n_sub_steps, constant=shared
        )
        self._definition = definition(domain, task, self._environment)
        # Views of MuJoCo's memory, because dm_control's own take a while.
        self._warnings = physics.data.warning.number  # its count of each warning
        self._control = self.physics.data.ctrl
        self._explicit = self.physics.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4.value
        self.action_size = int(np.prod(action.shape))
        specification = self._environment.observation_spec()
        self.layout = [[[key], list(part.shape)] for key, part in specification.items()]
        self.observation_size = sum(int(np.prod(part.shape)) for part in specification.values())
        self._camera = 2 if domain == "quadruped" else 0

    def reset(self, seed: int | None) -> None:
        """Starts an episode, after seeding the task if there is a seed."""
        if seed is not None:
            self._environment.task._random = np.random.RandomState(seed)
        with _resets:
            self._environment.reset()

    def step(self, action: np.ndarray) -> Frame:
        """Takes one control step; maps [-1, 1] to the task's own bounds.

        This does what the suite's own `step` does, except that it makes no observation and leaves the time
        limit to `core.Environment`.
        """
        environment = self._environment
        # The suite's `before_step` does this, and its `after_step` only colours what is rendered.
        self._control[:] = in_units(action, self.action_low, self.action_high, self.action_dtype)
        self._advance()
        reward = float(self._definition.reward())
        # None: the episode goes on; 0: it has terminated
        discount = environment.task.get_termination(environment.physics)
        environment._reset_next_step = discount is not None
        terminated = discount == 0
        return Frame(reward, terminated, discount is not None and not terminated, success=None)

    def observe(self) -> np.ndarray:
        """The task's observation, flattened in the suite's order of keys."""
        parts = self._definition.observe()
        return np.concatenate(parts, dtype=np.float32, casting="unsafe")

    def snapshot(self) -> Snapshot:
        """Copies the physics, and the task's attributes and random stream."""
        environment = self._environment
        return {
            "physics": self.physics.capture(),
            "task": capture_attributes(environment.task, strict=False),
            "reset_next_step": environment._reset_next_step,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot."""
        environment = self._environment
        with _resets:
            if environment._reset_next_step:
                environment.reset()  # some tasks build objects in it that live as long as an episode
            self.physics.restore(snapshot["physics"])
        restore_attributes(environment.task, snapshot["task"])
        environment._reset_next_step = snapshot["reset_next_step"]

    def render(self, height: int, width: int) -> np.ndarray:
        """Draws the scene from the task's own camera."""
        return np.asarray(self._environment.physics.render(height, width, camera_id=self._camera))

    def close(self) -> None:
        """Frees the physics."""
        self._environment.close()

    def _advance(self) -> None:
        """Steps the physics; raises PhysicsError on divergence, where MuJoCo itself only warns and resets."""
        model, data, substeps = self.physics.model, self.physics.data, self._environment._n_sub_steps
        before = self._warnings.tolist()
        # As dm_control does it: positions and velocities are up to date before and after.
        if self._explicit:
            mujoco.mj_step(model, data, substeps)
        else:
            mujoco.mj_step2(model, data)
            if substeps > 1:
                mujoco.mj_step(model, data, substeps - 1)
        mujoco.mj_step1(model, data)
        after = self._warnings.tolist()
        if after != before:
            names = mujoco.mjtWarning.__members__
            new = [name for name, was, now in zip(names, before, after, strict=False) if was != now]
            raise PhysicsError(f"the simulation is no longer valid: {', '.join(new)}")
