"""Observations and rewards of the paper's MyoSuite tasks, computed on views of MuJoCo's memory.

MyoSuite solves for all forces only to know where the fingertips are, and passes everything through
dictionaries of arrays with two more dimensions. Here only positions are computed, and an observation is made
only on request. The arithmetic follows the suite operation by operation, so that results equal the suite's to
the last bit (`tests/test_suites.py`). This is why sums are left to NumPy, which does not add from left to
right.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np


class Judgement(NamedTuple):
    """The outcome of a frame."""

    reward: Any
    failed: Any  # whether the episode terminates
    solved: Any


class Definition(NamedTuple):
    """One task's observation and outcome, for the positions that `look` computed last."""

    observe: Callable[[], Sequence[Any]]  # the observation's parts, which are views and must be copied
    judge: Callable[[], Judgement]


def definition(task: Any) -> Definition | None:
    """The definition of a task.

    Args:
        task: an unwrapped MyoSuite environment.

    Returns:
        The definition in this file for the paper's hand tasks; None for all others.
    """
    here = _TASKS.get(type(task).__name__) if str(task.spec.id).startswith("myoHand") else None
    return here(task, task.obsd_mj_model, task.obsd_mj_data) if here else None


def look(task: Any) -> None:
    """Copies the simulated hand's state to the observed model, and computes positions there."""
    simulated, observed = task.robot.mj_data, task.obsd_mj_data
    observed.time = simulated.time
    observed.qpos[:], observed.qvel[:], observed.act[:] = simulated.qpos, simulated.qvel, simulated.act
    mujoco.mj_kinematics(task.obsd_mj_model, observed)


def _norm(x: np.ndarray) -> Any:
    return np.sqrt(np.add.reduce(x * x))


def _effort(activation: np.ndarray) -> Any:
    return _norm(activation) / activation.size


def _weighted(task: Any, **terms: Any) -> Any:
    """The reward: the sum of these terms with the task's own weights, in the task's own order."""
    return np.add.reduce([weight * terms[name] for name, weight in task.rwd_keys_wt.items()])


def _reach(task: Any, model: Any, data: Any) -> Definition:
    sites, tips, targets = data.site_xpos, task.tip_sids, task.target_sids
    position, velocity, activation = data.qpos, data.qvel, data.act
    near, far = len(tips) * 0.0125, task.far_th * len(tips)

    def observe() -> Sequence[Any]:
        tip = sites[tips].ravel()
        return (position, velocity * task.dt, tip, sites[targets].ravel() - tip, activation)

    def judge() -> Judgement:
        distance = _norm(sites[targets].ravel() - sites[tips].ravel())
        lost = distance > far and data.time > 2 * task.dt
        bonus = 1.0 * (distance < 2 * near) + 1.0 * (distance < near)
        reward = _weighted(task, reach=-distance, bonus=bonus, penalty=-1.0 * lost)
        return Judgement(reward, lost, distance < near)

    return Definition(observe, judge)


def _pose(task: Any, model: Any, data: Any) -> Definition:
    position, velocity, activation, close = data.qpos, data.qvel, data.act, task.pose_thd

    def observe() -> Sequence[Any]:
        return (position, velocity * task.dt, task.target_jnt_value - position, activation)

    def judge() -> Judgement:
        distance = _norm(task.target_jnt_value - position)
        lost = distance > 4 * np.pi / 2
        bonus = 1.0 * (distance < close) + 1.0 * (distance < 1.5 * close)
        reward = _weighted(
            task, pose=-distance, bonus=bonus, penalty=-1.0 * lost, act_reg=-_effort(activation)
        )
        return Judgement(reward, lost, distance < close)

    return Definition(observe, judge)


def _key_turn(task: Any, model: Any, data: Any) -> Definition:
    head, finger, thumb = (data.site(name).xpos for name in ("keyhead", "IFtip", "THtip"))
    position, velocity, activation, goal, far = data.qpos, data.qvel, data.act, task.goal_th, 0.1

    def observe() -> Sequence[Any]:
        # The key is the last joint; all others are the hand's.
        speeds = velocity * task.dt
        return (
            position[:-1],
            speeds[:-1],
            position[-1:],
            speeds[-1:],
            head - finger,
            head - thumb,
            activation,
        )

    def judge() -> Judgement:
        key = position[-1]
        gaps = abs(_norm(head - finger) - 0.030), abs(_norm(head - thumb) - 0.030)
        reward = _weighted(
            task,
            key_turn=key,
            IFtip_approach=-gaps[0],
            THtip_approach=-gaps[1],
            act_reg=-_effort(activation),
            bonus=1.0 * (key > np.pi / 2) + 1.0 * (key > np.pi),
            penalty=-1.0 * (gaps[0] > far / 2) - 1.0 * (gaps[1] > far / 2),
        )
        return Judgement(reward, gaps[0] > far or gaps[1] > far, key > goal)

    return Definition(observe, judge)


def _hold(task: Any, model: Any, data: Any) -> Definition:
    thing, goal = data.site("object").xpos, data.site("goal").xpos
    # Without the object's free joint, of 7 numbers of position and 6 of velocity.
    position, velocity, activation = data.qpos[:-7], data.qvel[:-6], data.act

    def observe() -> Sequence[Any]:
        return (position, velocity * task.dt, thing, goal - thing, activation)

    def judge() -> Judgement:
        distance, close = _norm(goal - thing), 0.010
        dropped = distance > 0.300
        bonus = 1.0 * (distance < 2 * close) + 1.0 * (distance < close)
        reward = _weighted(task, goal_dist=-distance, bonus=bonus, penalty=-1.0 * dropped)
        return Judgement(reward, dropped, distance < close)

    return Definition(observe, judge)


def _pen_twirl(task: Any, model: Any, data: Any) -> Definition:
    pen, goal = data.body("Object").xpos, data.site("eps_ball").xpos
    ends = [data.site(name).xpos for name in ("object_top", "object_bottom", "target_top", "target_bottom")]
    # The hand's positions, and the velocities of the pen, whose six joints come last.
    position, velocity, activation = data.qpos[:-6], data.qvel[-6:], data.act

    def directions() -> tuple[Any, Any]:
        return (ends[0] - ends[1]) / task.pen_length, (ends[2] - ends[3]) / task.tar_length

    def observe() -> Sequence[Any]:
        now, desired = directions()
        return (position, pen, velocity * task.dt, now, desired, pen - goal, now - desired, activation)

    def judge() -> Judgement:
        now, desired = directions()
        distance = _norm(pen - goal)
        aligned = np.einsum("...i,...i", now, desired) / (_norm(now) * _norm(desired))
        dropped, held = distance > 0.075, distance < 0.075
        reward = _weighted(
            task,
            pos_align=-distance,
            rot_align=aligned,
            act_reg=-_effort(activation),
            drop=-1.0 * dropped,
            bonus=1.0 * (aligned > 0.9) * held + 5.0 * (aligned > 0.95) * held,
        )
        return Judgement(reward, dropped, aligned > 0.95 and not dropped)

    return Definition(observe, judge)


_TASKS: dict[str, Callable[[Any, Any, Any], Definition]] = {
    "ReachEnvV0": _reach, "PoseEnvV0": _pose, "KeyTurnEnvV0": _key_turn, "ObjHoldFixedEnvV0": _hold,
    "ObjHoldRandomEnvV0": _hold, "PenTwirlFixedEnvV0": _pen_twirl, "PenTwirlRandomEnvV0": _pen_twirl,
}  # fmt: skip
