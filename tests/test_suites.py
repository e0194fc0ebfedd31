"""Are the 25 tasks the suites' own, to the last bit? In play, and in states that are seldom visited."""

import gymnasium
import mujoco
import numpy as np
import pytest

from crossq_wn.environments import PAPER_TASKS, SUITES, lookup, make
from crossq_wn.environments.core import EnvironmentFaultError
from crossq_wn.environments.myo_definitions import look

MYO_IDS = SUITES["myosuite"].tasks
# With siblings of the paper's tasks that share their formulas.
DMC = [name for name in PAPER_TASKS if name not in MYO_IDS]
DMC += ["walker-stand", "walker-walk", "finger-turn-easy", "quadruped-walk"]


@pytest.fixture(scope="module")
def ours(request):
    """The simulator of a task, made once for all tests of it: making takes longer than playing."""
    simulator = make(request.param).simulator
    yield simulator
    simulator.close()


def named(names):
    """Parametrizes by tasks: their names, and `ours` of each."""
    return pytest.mark.parametrize(
        ("name", "ours"), [(name, name) for name in names], indirect=["ours"], ids=names
    )


def flat(observation):
    return np.concatenate([np.ravel(part) for part in observation.values()]).astype(np.float32)


def plain_dmc(name):
    """(reset, step) of the suite's own; step returns (reward, terminated, success) and the observation."""
    from dm_control import suite

    domain, task = lookup(name).identifier.split(":")
    plain = suite.load(domain, task, task_kwargs={"random": 5})
    bounds = plain.action_spec()

    def step(action):
        scaled = bounds.minimum + 0.5 * (action.astype(float) + 1) * (bounds.maximum - bounds.minimum)
        moment = plain.step(scaled)
        return (moment.reward, False, None), flat(moment.observation)  # it never says what success is

    return lambda: flat(plain.reset().observation), step


def plain_myo(name):
    plain = gymnasium.make(lookup(name).identifier, disable_env_checker=True)
    plain.unwrapped.seed(5)

    def step(action):
        observation, reward, terminated, _, info = plain.step(action)
        return (float(reward), terminated, bool(np.any(info["solved"]))), np.float32(observation)

    return lambda: np.float32(plain.reset()[0]), step


@named([*DMC, "humanoid-run-pure-state", "cartpole-swingup", *MYO_IDS])
def test_every_frame_is_the_suite_s_own(name, ours):
    plain_reset, plain_step = (plain_myo if name in MYO_IDS else plain_dmc)(name)
    generator = np.random.default_rng(0)
    for seed in (5, None):
        ours.reset(seed)
        np.testing.assert_array_equal(ours.observe(), plain_reset())
        for strength in np.linspace(0, 1, 40):  # from resting to thrashing
            action = (strength * generator.uniform(-1, 1, ours.action_size)).astype(np.float32)
            expected, seen = plain_step(action)
            frame = ours.step(action)
            assert (frame.reward, frame.terminated, frame.success) == expected
            assert not frame.truncated
            np.testing.assert_array_equal(ours.observe(), seen)


@named(DMC)
def test_a_deepmind_control_task_is_the_suite_s_own_in_any_state(name, ours):
    ours.reset(0)
    task, physics = ours._environment.task, ours._environment.physics
    generator, rewards = np.random.default_rng(1), set()
    for noise in np.repeat([0, 0.01, 0.1, 0.3, 1, 3], 15):  # from the model's own pose to contortions
        physics.data.qpos[:] = physics.model.qpos0 + noise * generator.standard_normal(physics.model.nq)
        physics.data.qvel[:] = 5 * noise * generator.standard_normal(physics.model.nv)
        physics.data.ctrl[:] = np.clip(noise * generator.standard_normal(physics.model.nu), -1, 1)
        mujoco.mj_forward(physics.model.ptr, physics.data.ptr)
        assert ours._definition.reward() == task.get_reward(physics)
        np.testing.assert_array_equal(ours.observe(), flat(task.get_observation(physics)))
        rewards.add(float(task.get_reward(physics)))
    assert len(rewards) > 1


@named(MYO_IDS)
def test_a_myosuite_task_is_the_suite_s_own_in_any_state(name, ours):
    ours.reset(0)
    task, generator, outcomes = ours._task, np.random.default_rng(1), set()
    at_rest = np.array(task.robot.mj_data.qpos)
    if "pose" in name:
        at_rest = np.array(task.target_jnt_value)
    for noise in np.repeat([0, 0.01, 0.03, 0.1, 0.3, 1], 15):
        data = task.robot.mj_data
        data.qpos[:] = at_rest + noise * generator.standard_normal(data.qpos.size)
        data.qvel[:], data.time = generator.standard_normal(data.qvel.size), 0.1 * noise
        data.act[:] = generator.uniform(size=data.act.size)
        if "key" in name:
            data.qpos[-1] = generator.uniform(-1, 7)
        look(task)
        reward, failed, solved = ours._definition.judge()
        seen = ours.observe()
        expected = type(task)._forward(task)
        np.testing.assert_array_equal(seen, expected[0])
        assert (reward, failed, solved) == (*expected[1:3], np.squeeze(expected[3]["solved"]))
        outcomes.add((bool(failed), bool(solved)))
    assert len(outcomes) > 1


def test_a_diverged_simulation_is_a_fault():
    environment = make("cheetah-run")
    environment.reset(0)
    environment.simulator._environment.physics.data.qvel[:] = 1e12
    with pytest.raises(EnvironmentFaultError, match=r"cheetah-run raised PhysicsError: .*mjWARN_BADQPOS"):
        environment.step(np.zeros(6, np.float32))
    environment.close()
