"""Observations and rewards of the paper's DeepMind Control tasks, computed on views of MuJoCo's memory.

The suite looks up every name again in every frame, which takes half of a dog's step and nine tenths of a
pendulum's. Here names are looked up once. The arithmetic follows the suite operation by operation, so that
results equal the suite's to the last bit (`tests/test_suites.py`). This is why there is `**` on NumPy
scalars, why norms use `dot`, and why sums are left to NumPy, which does not add from left to right.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Definition(NamedTuple):
    """One task's observation and reward in the current state of the physics."""

    observe: Callable[[], Sequence[Any]]  # the observation's parts, which are views and must be copied
    reward: Callable[[], Any]


def definition(domain: str, task: str, environment: Any) -> Definition:
    """The definition of a task.

    Args:
        domain: the suite's own name, such as finger.
        task: the suite's own name, such as turn_hard.
        environment: the suite's environment of the task.

    Returns:
        The definition in this file for the paper's tasks and their siblings; for all others the suite's own.
    """
    here = _TASKS.get(f"{domain}-{task}")
    if here is not None:
        return here(environment.physics.model.ptr, environment.physics.data.ptr, environment.task)
    suite, physics = environment.task, environment.physics
    return Definition(
        lambda: [np.ravel(part) for part in suite.get_observation(physics).values()],
        lambda: suite.get_reward(physics),
    )


# Terms of rewards. A term is 1 inside an interval and falls with the distance from it, in units of a margin.


def _distance(x: Any, lower: float, upper: float = np.inf) -> Any:
    """How far x is outside of [lower, upper]."""
    return 0.0 if lower <= x <= upper else lower - x if x < lower else x - upper


def _gaussian(distance: Any) -> Any:
    return np.exp(-0.5 * (np.float64(distance) * _GAUSSIAN_SCALE) ** 2)


def _linear(distance: Any, at_margin: float = 0.0) -> Any:
    fallen = distance * (1 - at_margin)
    return 1 - fallen if fallen < 1 else 0.0


def _small(control: np.ndarray) -> Any:
    """From 0.8 for full controls to 1 for none."""
    effortless = np.maximum(1 - control**2, 0.0)
    return (4 + np.add.reduce(effortless) / effortless.size) / 5


_GAUSSIAN_SCALE = np.sqrt(-2 * np.log(0.1))  # 0.1 at the margin


# One function per domain. `xmat` is a body's rotation matrix, row by row: its last row, [6:], holds the
# heights of the body's axes, and [8] says how upright the body is.


def _dog(model: Any, data: Any, task: Any) -> Definition:
    torso, pelvis, skull = (data.body(name) for name in ("torso", "pelvis", "skull"))
    heights, frame = (torso.xpos[2:], pelvis.xpos[2:]), torso.xmat.reshape(3, 3)
    axes = [body.xmat[6:] for body in (skull, torso, pelvis)]
    velocity, sensors = data.sensor("torso_linvel").data, data.sensordata
    # Accelerometer, velocimeter and gyroscope; the touch of four paws; the force on each of them
    inertial, touch, forces = sensors[0:9], sensors[15:19], sensors[19:31]
    angles, velocities, activation = data.qpos[7:], data.qvel[6:], data.act
    speed, upright = getattr(task, "_move_speed", None), np.cos(np.deg2rad(30))  # standing has no speed

    def observe() -> Sequence[Any]:
        moving = velocity.dot(frame)  # in the torso's own frame
        return (angles, velocities, *heights, *axes, moving, inertial, forces, touch, activation)

    def reward() -> Any:
        product = 1.0
        for height, standing in zip(heights, task._stand_height, strict=True):
            product *= _gaussian(_distance(height[0], standing) / standing)
        for axis in axes:
            product *= _linear(_distance(axis[2], upright) / (upright + 1))
        weight = task._body_weight
        product *= _linear(_distance(np.add.reduce(touch), weight) / weight, 0.9)
        if speed is not None:
            forward = _linear(_distance(velocity.dot(frame)[0], speed, 2 * speed) / max(1.0, speed))
            product *= (4 * forward + 1) / 5
        return product

    return Definition(observe, reward)


def _humanoid(model: Any, data: Any, task: Any) -> Definition:
    torso, head = data.body("torso"), data.body("head").xpos
    limbs = [data.body(name).xpos for name in ("left_hand", "left_foot", "right_hand", "right_foot")]
    place, orientation, frame = torso.xpos, torso.xmat, torso.xmat.reshape(3, 3)
    velocity, control = data.sensor("torso_subtreelinvel").data, data.ctrl
    angles, velocities, speed = data.qpos[7:], data.qvel, task._move_speed

    def observe() -> Sequence[Any]:
        extremities = [(limb - place).dot(frame) for limb in limbs]
        return (angles, head[2:], *extremities, orientation[6:], velocity, velocities)

    def reward() -> Any:
        standing = _gaussian(_distance(head[2], 1.4) / (1.4 / 4))
        stand = standing * _linear(_distance(orientation[8], 0.9) / 1.9)
        horizontal = velocity[:2]
        if speed == 0:
            still = np.exp(-0.5 * (np.abs(horizontal) / 2 * _GAUSSIAN_SCALE) ** 2)
            return _small(control) * stand * (np.add.reduce(still) / 2)  # humanoid-stand
        move = _linear(_distance(np.sqrt(horizontal.dot(horizontal)), speed) / speed)
        return _small(control) * stand * ((5 * move + 1) / 6)

    return Definition(observe, reward)


def _cheetah(model: Any, data: Any, task: Any) -> Definition:
    velocity, seen = data.sensor("torso_subtreelinvel").data, (data.qpos[1:], data.qvel)
    return Definition(lambda: seen, lambda: _linear(_distance(velocity[0], 10) / 10))


def _walker(model: Any, data: Any, task: Any) -> Definition:
    torso, velocity, speed = data.body("torso"), data.sensor("torso_subtreelinvel").data, task._move_speed
    # Of every body but the world: the xx and xz entries of its rotation
    height, orientation, orientations = torso.xpos[2:], torso.xmat, data.xmat[1:, 0:3:2]
    velocities = data.qvel

    def reward() -> Any:
        standing = _gaussian(_distance(height[0], 1.2) / (1.2 / 2))
        stand = (3 * standing + (1 + orientation[8]) / 2) / 4
        if speed == 0:
            return stand  # walker-stand
        return stand * (5 * _linear(_distance(velocity[0], speed) / (speed / 2), 0.5) + 1) / 6

    return Definition(lambda: (orientations.ravel(), height, velocities), reward)


def _hopper(model: Any, data: Any, task: Any) -> Definition:
    torso, foot = data.body("torso").xipos, data.body("foot").xipos
    velocity, touch = data.sensor("torso_subtreelinvel").data, data.sensordata[3:5]  # toe, heel
    position, velocities, control, hopping = data.qpos[1:], data.qvel, data.ctrl, task._hopping

    def reward() -> Any:
        standing = 1.0 if 0.6 <= torso[2] - foot[2] <= 2 else 0.0
        return standing * (_linear(_distance(velocity[0], 2), 0.5) if hopping else _small(control))

    return Definition(lambda: (position, velocities, np.log1p(touch)), reward)


def _finger_turn(model: Any, data: Any, task: Any) -> Definition:
    # The finger moves in a plane, whose coordinates are x and z.
    tip, target, spinner = (data.sensor(name).data[::2] for name in ("tip", "target", "spinner"))
    sensors, radius = data.sensordata, model.site("target").size
    # Two joints; these and the spinner's hinge; the fingertip's top and bottom
    angles, velocities, touch = sensors[0:2], sensors[2:5], sensors[14:16]

    def distance() -> Any:
        between = (target - spinner) - (tip - spinner)
        return np.sqrt(between.dot(between)) - radius[0]

    def observe() -> Sequence[Any]:
        return (angles, tip - spinner, velocities, np.log1p(touch), target - spinner, [distance()])

    return Definition(observe, lambda: distance() <= 0)


def _quadruped(model: Any, data: Any, task: Any) -> Definition:
    orientation, velocity = data.body("torso").xmat, data.sensor("velocimeter").data
    imu, forces = data.sensordata[0:6], data.sensordata[9:33]  # with the torques on the toes
    state, speed = (data.qpos[7:], data.qvel[6:], data.act), task._desired_speed

    def observe() -> Sequence[Any]:
        return (*state, velocity, orientation[8:], imu, np.arcsinh(forces))

    def reward() -> Any:
        return _linear(_distance(orientation[8], 1) / 2) * _linear(_distance(velocity[0], speed) / speed, 0.5)

    return Definition(observe, reward)


def _fish_swim(model: Any, data: Any, task: Any) -> Definition:
    orientation, mouth, target = data.body("torso").xmat, data.geom("mouth"), data.geom("target").xpos
    place, frame = mouth.xpos, mouth.xmat.reshape(3, 3)
    # The sizes of mouth and target stay what the model says.
    radii = model.geom("mouth").size[0] + model.geom("target").size[0]
    angles, velocities = data.qpos[7:], data.qvel

    def towards() -> Any:
        return (target - place).dot(frame)

    def reward() -> Any:
        way = towards()
        there = _gaussian(_distance(np.sqrt(way.dot(way)), 0, radii) / (2 * radii))
        return (7 * there + 0.5 * (orientation[8] + 1)) / 8

    return Definition(lambda: (angles, orientation[8:], towards(), velocities), reward)


def _pendulum(model: Any, data: Any, task: Any) -> Definition:
    pole, velocity, upright = data.body("pole").xmat, data.qvel, np.cos(np.deg2rad(8))
    return Definition(lambda: (pole[8:], pole[2:3], velocity), lambda: upright <= pole[8] <= 1)


_TASKS: dict[str, Callable[[Any, Any, Any], Definition]] = {
    "dog-stand": _dog, "dog-walk": _dog, "dog-trot": _dog, "dog-run": _dog,
    "humanoid-stand": _humanoid, "humanoid-walk": _humanoid, "humanoid-run": _humanoid,
    "cheetah-run": _cheetah, "walker-stand": _walker, "walker-walk": _walker, "walker-run": _walker,
    "hopper-stand": _hopper, "hopper-hop": _hopper,
    "finger-turn_easy": _finger_turn, "finger-turn_hard": _finger_turn,
    "quadruped-walk": _quadruped, "quadruped-run": _quadruped, "fish-swim": _fish_swim,
    "pendulum-swingup": _pendulum,
}  # fmt: skip
