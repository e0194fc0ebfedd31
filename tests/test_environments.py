"""Is an environment what its suite says? Sizes, frames, endings, seeds, snapshots that continue exactly."""

import collections
import os
import random
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import helpers
from crossq_wn.acting.interface import Interface
from crossq_wn.cli.doctor import _rendering
from crossq_wn.environments import PAPER_TASKS, SUITES, lookup, make
from crossq_wn.environments.core import Environment, EnvironmentFaultError, Episode, Frame, Task
from crossq_wn.environments.interface import describe
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.errors import UserError
from crossq_wn.results.tables import episode_summary
from crossq_wn.runs.checks import check
from crossq_wn.runs.schema import InterfaceEntry
from crossq_wn.training.scoring import scores_of

# Observation and action sizes, as the suites define them.
DMC_SIZES = {
    "dog-stand": (223, 38), "dog-walk": (223, 38), "dog-trot": (223, 38), "dog-run": (223, 38),
    "humanoid-stand": (67, 21), "humanoid-walk": (67, 21), "humanoid-run": (67, 21),
    "cheetah-run": (17, 6), "walker-run": (24, 6), "hopper-stand": (15, 4), "hopper-hop": (15, 4),
    "finger-turn-hard": (12, 2), "quadruped-run": (78, 12), "fish-swim": (24, 5), "pendulum-swingup": (3, 1),
}  # fmt: skip
MYO_SIZES = {
    f"{name}{suffix}": (size, 39)
    for name, size in (("myo-reach", 115), ("myo-pose", 108), ("myo-pen-twirl", 83), ("myo-obj-hold", 91),
                       ("myo-key-turn", 93))
    for suffix in ("", "-hard")
}  # fmt: skip


@pytest.fixture
def made():
    """(what `make` takes) -> an environment that is closed at the end."""
    open_ones = []

    def build(*arguments, **options):
        open_ones.append(make(*arguments, **options))
        return open_ones[-1]

    yield build
    for environment in open_ones:
        environment.close()


def actions(environment, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, environment.action_size)).astype(np.float32)


def play(environment, chosen):
    """Decisions with resets at episode ends; all that they returned."""
    seen = []
    for action in chosen:
        result = environment.step(action)
        seen.append((result.next_observation.copy(), *result[1:]))
        if result.episode is not None:
            seen.append((environment.reset().copy(),))
    return seen


def assert_same(left, right):
    assert len(left) == len(right)
    for number, (ours, theirs) in enumerate(zip(left, right, strict=True)):
        np.testing.assert_array_equal(ours[0], theirs[0], err_msg=f"observation {number}")
        assert ours[1:] == theirs[1:], number


def assert_plain(tree):
    """Asserts that a tree holds what JSON and numpy can, and no object of any other kind."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            assert type(key) is str
            assert_plain(value)
    elif isinstance(tree, list):
        for value in tree:
            assert_plain(value)
    elif isinstance(tree, np.ndarray):
        assert tree.dtype.kind in "biuf", tree.dtype
    else:
        assert tree is None or type(tree) in (bool, int, float, str), type(tree)


def assert_continues(build, before, after, *, seed=3):
    """Asserts that a fresh environment continues from a snapshot as the original does."""
    original = build()
    original.reset(seed)
    chosen = actions(original, before + after)
    play(original, chosen[:before])
    saved = original.snapshot()
    assert_plain(saved)
    fresh = build()
    fresh.reset(seed + 1)
    play(fresh, actions(fresh, 3, seed=9))
    fresh.restore(saved)
    np.testing.assert_array_equal(fresh.observation, original.observation)
    assert_same(play(original, chosen[before:]), play(fresh, chosen[before:]))
    return original, fresh


class Stub:
    """A simulator that plays a list of (observation, frame)."""

    observation_size, action_size = 1, 1
    action_low, action_high = -np.ones(1), np.ones(1)

    def __init__(self, frames):
        self.frames, self.resets = list(frames), 0

    def reset(self, seed):
        self.resets += 1
        self.observation = np.full(1, -1, np.float32)

    def step(self, action):
        self.observation, outcome = self.frames.pop(0)
        return outcome

    def observe(self):
        return self.observation


def frame(number, reward=1.0, terminated=False, truncated=False, success=False):
    return np.full(1, number, np.float32), Frame(reward, terminated, truncated, success)


def stub(frames, *, action_repeat=2, episode_frames=None, terminations=True):
    environment = Environment(
        Stub(frames), Task("stub", "stub", "stub", 1, None, 0.99, "return"), action_repeat=action_repeat,
        episode_frames=episode_frames, terminations=terminations,
    )  # fmt: skip
    environment.reset(0)
    return environment


ACTION = np.zeros(1, np.float32)


# Names


def test_the_record_has_every_task_of_the_installed_deepmind_control():
    from dm_control import suite

    theirs = {f"{domain}:{task}" for domain, task in suite.ALL_TASKS}
    assert set(SUITES["dmc"].tasks.values()) == theirs


def test_the_record_s_gymnasium_tasks_are_registered():
    assert set(SUITES["gymnasium"].tasks.values()) <= set(gymnasium.registry)


def test_the_paper_s_25_tasks_have_their_names_and_protocol():
    assert len(PAPER_TASKS) == len(set(PAPER_TASKS)) == 25
    assert set(PAPER_TASKS) == DMC_SIZES.keys() | MYO_SIZES.keys()
    for name in PAPER_TASKS:
        task = lookup(name)
        myo = name in SUITES["myosuite"].tasks
        assert (task.name, task.suite, task.action_repeat) == (name, "myosuite" if myo else "dmc", 2)
        assert (task.episode_frames, task.discount) == ((100, 0.95) if myo else (1000, 0.99))
        assert task.metric == ("success_rate" if myo else "return")


def test_other_spellings_mean_the_same_task():
    assert lookup("finger-turn_hard") == lookup("finger-turn-hard")
    assert lookup("myoHandKeyTurnRandom-v0") == lookup("myo-key-turn-hard")
    assert lookup(helpers.PointMass).name == "helpers:PointMass"
    assert lookup("helpers:PointMass") == lookup(helpers.PointMass)


def test_names_and_results_need_no_simulator():
    script = """if True:
        import sys
        from crossq_wn.environments import PAPER_TASKS, SUITES, lookup, suite_of
        from crossq_wn.environments.groups import tasks_and_groups
        for task in (*PAPER_TASKS, "walker-walk", "Ant-v5", "helpers:PointMass"):
            suite_of(task).unit
        assert [lookup(task).name for task in PAPER_TASKS] == list(PAPER_TASKS)
        assert sum(map(len, tasks_and_groups(PAPER_TASKS).values())) == 25 + 25 + 25
        loaded = {"mujoco", "dm_control", "myosuite", "gymnasium", "jax", "helpers"} & set(sys.modules)
        assert not loaded, loaded
    """
    done = subprocess.run(
        [sys.executable, "-c", script], env=helpers.environment_variables(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# Sizes


@pytest.mark.parametrize("name", DMC_SIZES)
def test_deepmind_control_sizes(name, made):
    environment = made(name)
    assert (environment.observation_size, environment.action_size) == DMC_SIZES[name]
    first = environment.reset(0)
    assert (first.shape, first.dtype) == (DMC_SIZES[name][:1], np.float32)


@pytest.mark.parametrize("name", MYO_SIZES)
def test_myosuite_sizes(name, made):
    environment = made(name)
    assert (environment.observation_size, environment.action_size) == MYO_SIZES[name]
    first = environment.reset(0)
    assert (first.shape, first.dtype) == (MYO_SIZES[name][:1], np.float32)


# The suites themselves


@pytest.mark.parametrize("name", ["cheetah-run", "quadruped-run", "finger-turn-hard", "fish-swim", "dog-run"])
def test_a_deepmind_control_decision_is_the_suite_s_own_frames(name, made):
    from dm_control import suite

    environment = made(name)
    domain, task = lookup(name).identifier.split(":")
    plain = suite.load(domain, task, task_kwargs={"random": 5})
    bounds = plain.action_spec()

    def flat(moment):
        return np.concatenate([np.ravel(part) for part in moment.observation.values()]).astype(np.float32)

    np.testing.assert_array_equal(environment.reset(5), flat(plain.reset()))
    for action in actions(environment, 20):
        scaled = bounds.minimum + 0.5 * (action.astype(float) + 1) * (bounds.maximum - bounds.minimum)
        moments = [plain.step(scaled), plain.step(scaled)]
        result = environment.step(action)
        assert result.reward == sum(moment.reward for moment in moments)
        np.testing.assert_array_equal(result.next_observation, flat(moments[-1]))
    plain.close()


def test_quadruped_actions_fill_the_task_s_own_bounds(made):
    environment = made("quadruped-run")
    environment.reset(0)
    plain = environment.simulator._environment
    environment.step(np.full(12, -1, np.float32))
    np.testing.assert_array_equal(plain.physics.control(), plain.action_spec().minimum)
    environment.step(np.ones(12, np.float32))
    np.testing.assert_allclose(plain.physics.control(), plain.action_spec().maximum, rtol=1e-15)
    assert plain.physics.control().max() == pytest.approx(1.1)


@pytest.mark.parametrize("name", ["myo-key-turn-hard", "myo-pose"])
def test_a_myosuite_decision_is_the_suite_s_own_frames(name, made):
    environment = made(name)
    plain = gymnasium.make(lookup(name).identifier, max_episode_steps=100, disable_env_checker=True)
    plain.unwrapped.seed(5)
    np.testing.assert_array_equal(environment.reset(5), np.float32(plain.reset()[0]))
    solved = False
    for action in actions(environment, 20):
        frames = [plain.step(action), plain.step(action)]
        result = environment.step(action)
        solved |= any(bool(info["solved"]) for *_, info in frames)
        assert result.reward == sum(float(reward) for _, reward, *_ in frames)
        np.testing.assert_array_equal(result.next_observation, np.float32(frames[-1][0]))
        assert environment.success == solved
        if result.episode is not None:
            break
    plain.close()


def test_gymnasium_observations_and_rewards_are_the_environment_s_own(made):
    environment = made("Hopper-v5")
    plain = gymnasium.make("Hopper-v5")
    np.testing.assert_array_equal(environment.reset(5), np.float32(plain.reset(seed=5)[0]))
    for action in actions(environment, 30):
        observation, reward, terminated, *_ = plain.step(action)
        result = environment.step(action)
        assert (result.reward, result.terminated) == (reward, terminated)
        np.testing.assert_array_equal(result.next_observation, np.float32(observation))
        if terminated:
            break
    plain.close()


# Seeds


@pytest.mark.parametrize("name", ["cheetah-run", "myo-reach-hard", "Pendulum-v1", "helpers:PointMass"])
def test_a_seed_fixes_the_trajectory_over_episodes(name, made):
    first, second = made(name, episode_frames=30), made(name, episode_frames=30)
    chosen = actions(first, 40)
    second.reset(2)
    play(second, chosen[:5])
    np.testing.assert_array_equal(first.reset(7), second.reset(7))
    assert_same(play(first, chosen), play(second, chosen))
    assert not np.array_equal(first.reset(7), second.reset(8))
    third, fourth = first.reset(7).copy(), first.reset().copy()
    assert not np.array_equal(third, fourth)  # the stream goes on


# Endings


def test_a_deepmind_control_episode_is_truncated_after_500_decisions(made):
    environment = made("pendulum-swingup")
    environment.reset(0)
    for number, action in enumerate(actions(environment, 500), start=1):
        result = environment.step(action)
        assert (result.episode is not None) == (number == 500)
    assert (result.terminated, result.truncated, result.episode.frames) == (False, True, 1000)


@pytest.mark.parametrize(("name", "own"), [("pendulum-swingup", 1000), ("Pendulum-v1", 200)])
def test_a_time_limit_beyond_the_suite_s_own_holds(name, own, made):
    environment = made(name, action_repeat=1, episode_frames=own + 50)
    environment.reset(0)
    ends = [result.episode for result in (environment.step(np.zeros(1, np.float32)) for _ in range(own + 50))]
    assert ends.count(None) == own + 49
    assert ends[-1].frames == own + 50


def test_a_myosuite_episode_is_truncated_after_50_decisions(made):
    environment = made("myo-key-turn", terminations=False)  # its own limit is 200 frames
    for _ in range(2):
        environment.reset(0)
        for number in range(1, 51):
            result = environment.step(np.zeros(39, np.float32))
            assert (result.episode is not None) == (number == 50)
        assert (result.terminated, result.truncated, result.episode.frames) == (False, True, 100)


def test_termination_ends_a_myosuite_episode_unless_it_may_not(made):
    ending, running = made("myo-reach-hard"), made("myo-reach-hard", terminations=False)
    ending.reset(0), running.reset(0)
    over = None
    for action in actions(ending, 50):
        if over is None:
            result = ending.step(action)
            over = result if result.episode is not None else None
        last = running.step(action)
    assert over is not None
    assert (over.terminated, over.truncated) == (True, False)
    assert over.episode.frames < 100
    assert (last.terminated, last.truncated, last.episode.frames) == (False, True, 100)


def test_a_native_time_limit_truncates(made):
    environment = made("helpers:PointMass")
    environment.reset(0)
    results = [environment.step(np.full(2, -0.4, np.float32)) for _ in range(helpers.PointMass.LIMIT)]
    assert [r.episode is not None for r in results] == [False] * 36 + [True]
    assert (results[-1].terminated, results[-1].truncated) == (False, True)
    environment = made("Pendulum-v1")
    environment.reset(0)
    results = [environment.step(np.zeros(1, np.float32)) for _ in range(200)]
    assert (results[-1].truncated, results[-2].truncated) == (True, False)


def test_our_time_limit_truncates_within_a_decision():
    environment = stub([frame(n) for n in range(9)], action_repeat=2, episode_frames=3)
    assert environment.step(ACTION).episode is None
    result = environment.step(ACTION)
    assert (result.truncated, result.terminated, result.reward) == (True, False, 1.0)
    assert (result.episode.frames, result.episode.total_reward) == (3, 3.0)


def test_action_repeat_stops_where_the_episode_ends():
    environment = stub([frame(0), frame(1, terminated=True), frame(2)], action_repeat=3)
    result = environment.step(ACTION)
    assert (result.reward, result.terminated, result.truncated) == (2.0, True, False)
    assert result.next_observation[0] == 1  # where it ended, before any reset
    assert (result.episode.frames, environment.simulator.resets) == (2, 1)
    assert len(environment.simulator.frames) == 1
    environment.reset()
    assert environment.simulator.resets == 2


def test_termination_on_the_last_frame_is_both():
    result = stub([frame(0), frame(1, terminated=True, truncated=True)]).step(ACTION)
    assert (result.terminated, result.truncated) == (True, True)


def test_without_terminations_only_the_limit_ends_an_episode():
    frames = [frame(n, terminated=True) for n in range(9)]
    environment = stub(frames, terminations=False, episode_frames=4)
    assert environment.step(ACTION).episode is None
    result = environment.step(ACTION)
    assert (result.terminated, result.truncated, result.episode.frames) == (False, True, 4)


def test_success_in_any_frame_is_a_success_of_the_episode():
    frames = [frame(0, success=True), frame(1), frame(2), frame(3, truncated=True), frame(4), frame(5)]
    environment = stub(frames)
    assert environment.step(ACTION).episode is None
    assert environment.step(ACTION).episode.success
    environment.reset()
    environment.step(ACTION)
    assert not environment.success  # forgotten at the reset


def test_a_fault_at_a_reset_is_not_said_to_be_late_in_the_episode_before():
    environment = stub([frame(n) for n in range(4)], episode_frames=2)
    environment.step(ACTION)
    assert environment.frames == 2
    environment.simulator.observe = lambda: np.full(1, np.nan, np.float32)
    with pytest.raises(EnvironmentFaultError, match=r"index 0 of the observation \(at its beginning\)"):
        environment.reset()
    environment.frames = 1
    assert environment.when() == " (1 frame into the episode)"


class Scalar(gymnasium.Env):
    """Observations and actions without an axis."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, ())
    action_space = gymnasium.spaces.Box(-0.5, 0.5, ())

    def step(self, action):
        assert self.action_space.contains(action)
        return np.float32(action), float(action), False, False, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.float32(0.25), {}


def test_spaces_without_an_axis_are_like_those_of_one_number(made):
    environment = made(Scalar)
    assert (environment.observation_size, environment.action_size) == (1, 1)
    np.testing.assert_array_equal(environment.reset(0), np.float32([0.25]))
    transition = environment.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(transition.next_observation, np.float32([0.5]))
    interface = describe(environment.simulator)
    check(interface, InterfaceEntry, "interface")
    policy = Interface(interface)
    assert policy.in_units(np.ones(1, np.float32)) == np.float32(0.5)
    for observation in (np.float32(0.25), 0.25, [0.25], np.full(1, 0.25)):
        np.testing.assert_array_equal(policy.flatten(observation), np.float32([0.25]))


def test_actions_that_cannot_vary_are_refused_if_all_are_so(made):
    class Held(helpers.PointMass):
        action_space = gymnasium.spaces.Box(np.float32([0.5, -1]), np.float32([0.5, 1]))

    environment = made(Held)
    assert environment.action_size == 2  # which training tells of

    class Stuck(helpers.PointMass):
        action_space = gymnasium.spaces.Box(np.float32([0.5, -1]), np.float32([0.5, -1]))

    with pytest.raises(UserError, match="actions that cannot vary"):
        made(Stuck)


def test_a_task_that_does_not_say_what_success_is_has_none(made):
    silent = stub([frame(n, success=None) for n in range(4)], episode_frames=2)
    assert silent.step(ACTION).episode.success is None
    late = stub([frame(0, success=None), frame(1, success=True), frame(2, success=None)], episode_frames=2)
    assert late.step(ACTION).episode.success is True
    played = Episode(3.0, 10, None), Episode(5.0, 20, None)
    assert scores_of(played, "return") == {"return": 4.0}
    assert scores_of(played, "success_rate") == {"return": 4.0, "success_rate": 0.0}  # it is what counts
    assert episode_summary(played) == (4.0, pytest.approx(2**0.5), None, 15.0)
    # An environment may speak of success only when there is one.
    once = (*played, Episode(4.0, 10, True), Episode(4.0, 10, None))
    assert scores_of(once, "return")["success_rate"] == episode_summary(once).success == 0.25
    for task, known in (("helpers:PointMass", True), ("helpers:Unending", False), ("cheetah-run", False)):
        environment = made(task)
        environment.reset(0)
        environment.step(np.zeros(environment.action_size, np.float32))
        assert (environment.success is not None) == known


def test_what_cannot_be_closed_is_told_and_costs_nothing():
    class Stubborn(helpers.PointMass):
        def close(self):
            raise RuntimeError("the robot does not answer")

    environment = make(Stubborn)
    fault = environment.close()
    assert "raised RuntimeError: the robot does not answer" in str(fault)
    assert [str(each) for each in Pool([environment, make(helpers.PointMass)], 1).close()] == [str(fault)]


def test_an_observation_is_the_transition_s_own(made):
    environment = made("helpers:PointMass")
    environment.reset(0)
    first = environment.step(np.zeros(2, np.float32)).next_observation
    kept = first.copy()
    environment.step(np.ones(2, np.float32))
    np.testing.assert_array_equal(first, kept)


# Faults


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NanObservation", "nan at index 1 of the observation"),
        ("Raising", "RuntimeError: the motor"),
    ],
)
def test_a_fault_of_the_environment_is_named(name, says, made):
    environment = made(f"helpers:{name}")
    environment.reset(0)
    with pytest.raises(EnvironmentFaultError, match=says) as fault:
        play(environment, actions(environment, 70))
    assert f"helpers:{name}" in str(fault.value)
    assert "frames into the episode" in str(fault.value)


def test_an_observation_of_another_shape_is_a_fault():
    environment = stub([frame(0), (np.zeros(2, np.float32), frame(1)[1])], action_repeat=1)
    environment.step(ACTION)
    with pytest.raises(EnvironmentFaultError, match="shape"):
        environment.step(ACTION)


def test_an_infinite_reward_is_a_fault():
    with pytest.raises(EnvironmentFaultError, match="inf"):
        stub([frame(0), frame(1, reward=float("inf"))]).step(ACTION)


@pytest.mark.parametrize("name", ["DiscretePoint", "UnboundedPoint", "PixelPoint"])
def test_spaces_that_are_not_supported_are_refused(name, made):
    with pytest.raises(UserError, match=f"helpers:{name} has the"):
        made(f"helpers:{name}")


# Gymnasium spaces


def test_actions_are_rescaled_to_the_space_s_bounds(made):
    environment = made(helpers.PointMass)
    seen = []
    toy = environment.simulator._environment
    real = toy.step
    toy.step = lambda action: seen.append(action.copy()) or real(action)
    environment.reset(0)
    for value in (-1, 0, 1):
        environment.step(np.full(2, value, np.float32))
    np.testing.assert_array_equal(np.stack(seen), np.float32([[-2, -2], [0.5, 0.5], [3, 3]]))
    assert seen[0].dtype == np.float32


def test_a_dict_of_observations_is_flattened_in_sorted_order(made):
    flat, nested = made("helpers:PointMass"), made("helpers:DictPoint")
    assert flat.observation_size == nested.observation_size == 3
    chosen = actions(flat, 10)
    x, y, clock = flat.reset(4)
    np.testing.assert_array_equal(nested.reset(4), [clock, x, y])
    for ours, theirs in zip(play(flat, chosen), play(nested, chosen), strict=True):
        np.testing.assert_array_equal(ours[0][[2, 0, 1]], theirs[0])


def test_success_comes_from_info(made):
    environment = made("helpers:PointMass")
    environment.reset(0)
    result = environment.step(np.ones(2, np.float32))
    while result.episode is None:
        result = environment.step(np.ones(2, np.float32))
    assert (result.terminated, result.episode.success) == (True, True)


def test_resets_happen_when_asked_and_not_otherwise(made):
    helpers.CountingPoint.resets = 0
    environment = made("helpers:CountingPoint")
    assert helpers.CountingPoint.resets == 0
    environment.reset(0)
    ends = sum(len(entry) == 1 for entry in play(environment, actions(environment, 100)))
    assert helpers.CountingPoint.resets == 1 + ends


# Snapshots


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("pendulum-swingup", 60), ("cheetah-run", 60), ("finger-turn-hard", 60), ("hopper-hop", 60),
        ("walker-run", 60), ("fish-swim", 60), ("humanoid-run", 60), ("quadruped-run", 100), ("dog-run", 60),
        ("myo-key-turn-hard", 40), ("myo-pen-twirl-hard", None), ("myo-pose-hard", 40),
        ("myoFatiHandReachRandom-v0", 40),
        ("Ant-v5", 40), ("Hopper-v5", None), ("Pendulum-v1", None), ("helpers:PointMass", None),
        ("helpers:DictPoint", None),
    ],
)  # fmt: skip
def test_a_fresh_environment_continues_a_snapshot_bit_for_bit(name, frames, made):
    after = 210 if name == "Pendulum-v1" else 60  # across the end of an episode
    original, _ = assert_continues(lambda: made(name, episode_frames=frames), 17, after)
    assert original.frames < 77 * original.action_repeat


def test_a_snapshot_at_the_start_and_at_the_end_of_an_episode_continues(made):
    for before in (0, 30):
        assert_continues(lambda: made("cheetah-run", episode_frames=60), before, 40)
    assert_continues(lambda: made("helpers:PointMass"), 36, 40)


def test_a_snapshot_is_a_copy(made):
    environment = made("cheetah-run")
    environment.reset(0)
    play(environment, actions(environment, 5))
    saved = environment.snapshot()
    chosen = actions(environment, 10, seed=1)
    first = play(environment, chosen)
    environment.restore(saved)
    assert_same(first, play(environment, chosen))
    environment.restore(saved)  # and restoring does not use it up
    assert_same(first, play(environment, chosen))


@pytest.mark.parametrize("name", ["myo-obj-hold-hard", "dog-run", "Hopper-v5"])
def test_what_was_restored_is_captured_as_it_was(name, made):
    original, fresh = made(name), made(name)
    for seed, environment in enumerate((original, fresh)):
        environment.reset(seed)
        play(environment, actions(environment, 10, seed=seed))
    saved = original.snapshot()
    fresh.restore(saved)
    np.testing.assert_equal(fresh.snapshot(), saved)


def test_a_state_that_cannot_be_captured_is_named(made):
    environment = made("helpers:Strange")
    environment.reset(0)
    with pytest.raises(UnrestorableError, match=r"Strange\.wind is a builtins\.callable_iterator"):
        environment.snapshot()


@pytest.mark.parametrize(
    "attribute",
    [
        "file", "stream", "method", "thing", "set", "ordered", "integers", "generator", "generators", "inner",
        "words",
    ],
)  # fmt: skip
def test_no_state_is_silently_left_out(attribute, tmp_path, made):
    class Holder(helpers.PointMass):
        def __init__(self):
            super().__init__()
            self.held = {
                "file": lambda: open(os.devnull),  # noqa: SIM115
                "stream": lambda: random.Random(3),
                "method": lambda: np.random.default_rng(3).normal,  # a random stream behind a bound method
                "thing": lambda: type("Body", (), {"speed": 1.0})(),
                "set": lambda: {1, 2},
                "ordered": lambda: collections.OrderedDict(speed=1.0),
                "integers": lambda: {0: 1.0},
                "generator": lambda: np.random.default_rng(3),
                "generators": lambda: [np.random.default_rng(3)],
                "inner": helpers.PointMass,
                "words": lambda: np.array(["left", "right"]),
            }[attribute]()

    environment = made(Holder)
    environment.reset(0)
    with pytest.raises(UnrestorableError, match="held"):
        environment.snapshot()
    if attribute == "file":
        environment.simulator._environment.held.close()


def test_two_names_for_one_array_are_not_restored_as_two_arrays(made):
    class Aliased(helpers.PointMass):
        def reset(self, **options):
            result = super().reset(**options)
            self.trail = [self.position]
            return result

    environment = made(Aliased)
    environment.reset(0)
    with pytest.raises(UnrestorableError, match="the same object as another attribute"):
        environment.snapshot()


def test_an_environment_s_own_snapshot_is_preferred(made):
    class Own(helpers.Strange):
        def snapshot(self):
            return {"position": self.position.copy(), "steps": self.steps}

        def restore(self, saved):
            self.position, self.steps = np.array(saved["position"]), saved["steps"]

    assert_continues(lambda: made(Own), 17, 60)
    environment = made(Own)
    del environment.simulator._environment.position
    with pytest.raises(UserError, match=r"snapshot raised AttributeError: .* \(test_environments\.py, line"):
        environment.snapshot()


@pytest.mark.parametrize(
    "name",
    [task for task in sorted(SUITES["dmc"].tasks) if task not in DMC_SIZES and task != "quadruped-escape"],
)
def test_every_other_task_of_the_deepmind_control_suite_trains_and_continues(name, made):
    assert_continues(lambda: made(name, episode_frames=20), 4, 9)


def test_a_task_that_needs_opengl_gets_it(monkeypatch):
    if os.environ.get("MUJOCO_GL") == "disabled":  # this process chose that
        monkeypatch.delenv("MUJOCO_GL")
    if _rendering().fix:
        pytest.skip("nothing renders here")
    script = """if True:
        from crossq_wn.environments import make
        make("quadruped-escape").close()
        from test_environments import assert_continues
        assert_continues(lambda: make("quadruped-escape", episode_frames=20), 4, 9)
    """
    # MuJoCo takes its OpenGL backend when it is first imported, so this is a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", script], env=helpers.environment_variables(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_environments_share_a_model_only_where_no_task_changes_it():
    """All tasks of the domains that are said never to change theirs, and some of the others."""
    from dm_control import suite

    from crossq_wn.environments.dm_control import CONSTANT, DMControl

    for domain, task in suite.ALL_TASKS:
        if domain not in (*CONSTANT, "finger", "swimmer"):
            continue
        one, other = DMControl(domain, task), DMControl(domain, task)
        # What the adapter leaves out, or does itself:
        assert type(one._environment.task).before_step is suite.base.Task.before_step
        assert type(one._environment.task).after_step is suite.base.Task.after_step
        shared = one.physics.model is other.physics.model
        assert shared == (domain in CONSTANT), domain
        flags, changed = one.physics.model.opt.disableflags, {}
        for seed in range(2):
            one.reset(seed)
            for _ in range(3):
                one.step(np.ones(one.action_size, np.float32))
            changed |= one.physics.capture()["model"]
        assert one.physics.model.opt.disableflags == flags
        assert not (shared and changed), domain
        if shared:
            with pytest.raises(ValueError, match="never changes, and body_mass did"):
                other.physics.restore(one.physics.capture() | {"model": {"body_mass": np.zeros(1)}})
