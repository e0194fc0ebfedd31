"""What the agent observes: stacks of observations, and observations that running statistics normalise."""

import json
import pickle
import subprocess
import sys
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, NormalizeObservation
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
from crossq_wn.acting import policy as standalone
from crossq_wn.acting.interface import Stack
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.normalisers import add_sample, no_samples, normalise_observations, standardised
from crossq_wn.data import fitting, npz, replays, writing
from crossq_wn.data.recording import Recording
from crossq_wn.environments import EnvironmentFaultError, make
from crossq_wn.environments.interface import describe
from crossq_wn.errors import UserError
from crossq_wn.export import latency, onnx_model
from crossq_wn.export.api import export
from crossq_wn.learning.products import minibatch_shapes, state_shapes
from crossq_wn.learning.rows import Rows, with_stacks
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import read_config
from crossq_wn.runs.protocol import protocol_conflicts, read_terms
from crossq_wn.training import api, building
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.policy import TrainedPolicy, evaluate_policy
from crossq_wn.types import Batch, Spec, network_of
from helpers import TINY, TINY_OPTIONS, TINY_SETTINGS, DictPoint, PointMass, call, replay_rows, same_run
from test_acting import actor_of, disturbed, saved

NORMALISING = {"simba", "simba-v2"}  # by themselves
SPEC = Spec(observation_size=5, action_size=2, discount=0.9)
QUIET = TINY_OPTIONS | TINY_SETTINGS | {"diagnostics": False}


class Counter(gymnasium.Env):
    """Observes 10 k + t in step t of its episode k, and that squared; episodes last three steps."""

    observation_space = spaces.Box(0, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action):
        self.step_number += 1
        return self.observe(), 0.0, False, self.step_number == 3, {}

    def observe(self):
        now = 10 * self.episode + self.step_number
        return np.array([now, now**2], np.float32)


STILL = np.zeros(1, np.float32)


# Stacks


def test_a_stack_is_the_newest_observations_and_begins_anew_with_each_episode():
    environment = make(Counter, frame_stack=3)
    assert environment.observation_size == 6
    seen = [environment.reset(0)]
    for _ in range(3):
        transition = environment.step(STILL)
        seen.append(transition.next_observation)
    assert transition.episode is not None
    seen += [environment.reset(), environment.step(STILL).next_observation]
    np.testing.assert_array_equal(
        seen,
        [
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 1, 1],
            [0, 0, 1, 1, 2, 4],
            [1, 1, 2, 4, 3, 9],  # the last of the episode, before any reset
            [10, 100, 10, 100, 10, 100],
            [10, 100, 10, 100, 11, 121],
        ],
    )


def test_it_holds_one_observation_per_decision_however_many_frames_that_has():
    environment = make(Counter, frame_stack=2, action_repeat=2)
    environment.reset(0)
    np.testing.assert_array_equal(environment.step(STILL).next_observation, [0, 0, 2, 4])


def test_it_is_what_gymnasium_stacks():
    ours = make(PointMass, frame_stack=4)
    theirs = FrameStackObservation(PointMass(), 4)  # its default repeats the first observation, too
    np.testing.assert_array_equal(ours.reset(3), np.ravel(theirs.reset(seed=3)[0]))
    for k in range(10):
        action = np.full(2, k / 10, np.float32)
        (found, *_), simulator = ours.step(action), ours.simulator
        scaled = simulator.action_low + 0.5 * (action + 1.0) * (simulator.action_high - simulator.action_low)
        np.testing.assert_allclose(found, np.ravel(theirs.step(np.float32(scaled))[0]), atol=1e-6)


def test_a_snapshot_in_the_middle_of_an_episode_holds_the_stack():
    one, other = make(PointMass, frame_stack=3), make(PointMass, frame_stack=3)
    one.reset(1)
    one.step(np.ones(2, np.float32))
    other.reset(2)
    other.restore(one.snapshot())
    for _ in range(4):
        after = [each.step(np.ones(2, np.float32)).next_observation for each in (one, other)]
        np.testing.assert_array_equal(*after)


def test_faults_are_named_by_the_place_in_the_observation_itself():
    class Long(Counter):
        def observe(self):
            return np.zeros(3 if self.step_number else 2, np.float32)

    class Sick(Counter):
        def observe(self):
            return np.array([0, np.nan if self.step_number else 0.0], np.float32)

    environment = make(Sick, frame_stack=3)
    environment.reset(0)
    with pytest.raises(EnvironmentFaultError, match="nan at index 1 of the observation"):
        environment.step(STILL)
    environment = make(Long, frame_stack=3)
    environment.reset(0)
    with pytest.raises(EnvironmentFaultError, match=r"an observation of shape \(3,\), .* says \(2,\)"):
        environment.step(STILL)


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(LENGTHS, st.integers(1, 5))
def test_rows_of_data_are_stacked_as_environments_and_policies_stack(lengths, frames):
    rng, stack, wanted, single, final = np.random.default_rng(0), Stack(frames), [], [], []
    for length in lengths:
        stack.reset()
        seen = rng.standard_normal((length + 1, 2), np.float32)  # the last row is that of the episode's end
        for k, each in enumerate(seen):
            padded = np.concatenate([np.repeat(seen[:1], frames - 1, 0), seen[: k + 1]])
            wanted.append(padded[-frames:].ravel())
            rows = stack.act(each, lambda stacked: stacked)
            np.testing.assert_array_equal(rows, wanted[-1])
        single += list(seen)
        final += [False] * length + [True]
    column = np.zeros(len(final), np.float32)
    found = with_stacks(Rows(np.array(single), column[:, None], column, column, np.array(final)), frames)
    np.testing.assert_array_equal(found.observation, wanted)


# Statistics


def test_statistics_are_numpys_and_scale_as_gymnasium_does():
    algorithm = normalise_observations(SPEC)(ALGORITHMS["sac"].build(SPEC, settings_of("sac")))
    rows = np.random.default_rng(0).normal([-3, 0, 1, 50, 1e-3], [1, 2, 0.1, 5, 1e-4], (400, 5))
    rows = rows.astype(np.float32)
    state = algorithm.init(np.random.default_rng(1))
    theirs = NormalizeObservation(PointMass()).obs_rms.__class__(shape=(5,))
    observe = jax.jit(algorithm.observe)
    for row in rows:
        state = observe(state, row, np.float32(0), np.bool_(False))
        theirs.update(row[None].astype(np.float64))
    running = state.statistics
    assert float(running.samples) == pytest.approx(400)
    np.testing.assert_allclose(running.mean, rows.mean(0), rtol=1e-4, atol=1e-4)
    # Both begin with 1e-4 samples of variance 1, which a very quiet feature still shows.
    np.testing.assert_allclose(running.variance, rows.var(0), rtol=2e-3, atol=1e-4 / 400)
    np.testing.assert_allclose(running.mean, theirs.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(running.variance, theirs.var, rtol=2e-3)
    scaled = (rows[7] - theirs.mean) / np.sqrt(theirs.var + 1e-8)
    ones = np.ones(len(rows), np.float32)
    batch = Batch(rows, np.zeros((len(rows), 2), np.float32), 3 * ones, ones, rows)
    prepared = []
    inner = ALGORITHMS["sac"].build(SPEC, settings_of("sac"))
    spying = inner._replace(update=lambda state, batch, count: (prepared.append(batch), (state, {}))[1])
    normalise_observations(SPEC)(spying).update(state, batch, np.int32(0))
    np.testing.assert_allclose(prepared[0].observation[7], scaled, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(prepared[0].next_observation, prepared[0].observation)
    np.testing.assert_array_equal(prepared[0].reward, batch.reward)  # rewards stay as they are


def test_targets_depend_on_units_and_offsets_unless_statistics_normalise(small_settings):
    algorithm = ALGORITHMS["crossq-wn"].build(SPEC, small_settings("crossq-wn"))
    state, rows = algorithm.init(np.random.default_rng(1)), np.random.default_rng(0).standard_normal((200, 5))
    actions, column = np.ones((64, 2), np.float32), np.ones(64, np.float32)

    @jax.jit
    def targets(rows, normalised):
        start = no_samples(5, prior=0.0)
        running, _ = jax.lax.scan(lambda running, row: (add_sample(running, row), None), start, rows)
        rows = jnp.where(normalised, standardised(running, rows), rows)
        return algorithm.view(state, Batch(rows[:64], actions, column, column, rows[64:128]), 0).target

    def at(unit, offset, normalised):
        return np.asarray(targets((unit * rows + offset).astype(np.float32), normalised))

    usual = at(1.0, 0.0, True)
    for unit, offset in ((1e6, 0), (1e12, 0), (1e-3, 0), (1, 1e4), (1e6, 1e9), (1e-3, 1)):
        np.testing.assert_allclose(at(unit, offset, True), usual, rtol=0.01, atol=0.01)
    # Where batch norm's running statistics begin at 0 and 1, the first actions are saturated; their density
    # grows with the observations, and with it the bonus for entropy.
    sizes = [np.abs(at(*scale, False)).mean() for scale in ((1, 0), (1, 1e3), (1e3, 0), (1e6, 0))]
    assert sizes[0] < 2 < 50 < min(sizes[1:])
    assert sizes[3] / sizes[2] == pytest.approx(1000, rel=0.2)


def settings_of(name):
    return ALGORITHMS[name].presets["default"].settings


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - NORMALISING))
def test_every_algorithm_without_statistics_takes_them(name, small_settings):
    small = {key: value for key, value in vars(small_settings(name)).items() if key != "resets"}
    config = api.configure(PointMass, algorithm=name, normalise_observations=True, **small)
    algorithm = build_algorithm(config, SPEC)
    state, batch = state_shapes(algorithm), minibatch_shapes(algorithm, SPEC, 8)
    new, metrics = jax.eval_shape(algorithm.update, state, batch, np.int32(0))
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert metrics
    assert state.statistics.mean.shape == (5,)
    state = algorithm.init(np.random.default_rng(0))
    assert state.statistics.samples == 0  # SimBa's count 1e-4 that nobody has seen
    state = disturbed(state, seed=1)
    seen = np.random.default_rng(2).standard_normal((8, 5)).astype(np.float32)
    acts = algorithm.prior or algorithm.exploit
    expected = jax.jit(jax.vmap(lambda row: acts(state, algorithm.memory, row)[0]))(seen)
    actor = actor_of(network_of(algorithm, saved(state)))
    np.testing.assert_allclose(actor.choose(seen), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NORMALISING))
def test_an_algorithm_that_has_them_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} normalises observations by running statistics of its own"):
        api.configure(PointMass, algorithm=name, normalise_observations=True)
    done = call("train", "helpers:PointMass", "--algorithm", name, "--normalise-observations", cwd=tmp_path)
    assert done.returncode == 2
    assert "leave out --normalise-observations" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--frame-stack", "0"], "--frame-stack is 0: it must be a whole number from 1 to 100"),
        (["--frame-stack", "101"], "--frame-stack is 101: it must be a whole number from 1 to 100"),
        (["--frame-stack", "2.5"], "'2.5' is not a whole number"),
        (["--n-stack", "4"], "--frame-stack"),
        (["--norm-obs"], "--normalise-observations"),
    ],
)
def test_wrong_values_are_refused_in_one_line(given, told, tmp_path):
    done = call("train", "helpers:PointMass", *given, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert told in done.stderr
    assert not any(tmp_path.iterdir())


# A run with both


BOTH = {"frame_stack": 3, "normalise_observations": True, "algorithm": "sac", **QUIET}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """200 decisions of a Dict task, with evaluations at 0 and 200 frames."""
    folder = tmp_path_factory.mktemp("observations") / "run"
    crossq_wn.train(DictPoint, frames=200, out=folder, **BOTH)
    return folder


def statistics_of(run):
    return checkpoints.newest(run / "checkpoints", print).tree(0).statistics


def test_statistics_are_of_all_decisions_of_training_and_of_nothing_else(trained):
    rows = replay_rows(trained, 0)
    decided = rows["observation"][~rows["final"]]
    assert decided.shape == (200, 9)
    running = statistics_of(trained)
    assert float(running.samples) == pytest.approx(200)  # not those of evaluations
    np.testing.assert_allclose(running.mean, decided.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(running.variance, decided.var(0), rtol=1e-3)


def test_replay_holds_stacks_of_the_environments_own_numbers(trained):
    rows = replay_rows(trained, 0)
    seen, final = rows["observation"], rows["final"]
    follows = ~final[:-1]
    np.testing.assert_array_equal(seen[1:, :6][follows], seen[:-1, 3:][follows])
    begins = np.flatnonzero(final[:-1]) + 1
    assert len(begins) >= 3
    for first in (0, *begins):
        np.testing.assert_array_equal(seen[first], np.tile(seen[first, :3], 3))
    assert seen[1, 6] == pytest.approx(1 / PointMass.LIMIT)  # the clock, which nothing has scaled


def test_evaluations_change_nothing(trained, tmp_path):
    crossq_wn.train(DictPoint, frames=200, out=tmp_path / "run", **(BOTH | {"eval_every": 40}))
    same_run(trained, tmp_path / "run", tables=False)
    policy = crossq_wn.load(trained, trust=True)
    before = policy.act({"place": [0.1, 0.2], "clock": [0.0]})
    assert len(evaluate_policy(policy, 2, DictPoint)) == 2
    policy.reset()
    np.testing.assert_array_equal(policy.act({"place": [0.1, 0.2], "clock": [0.0]}), before)


def test_a_resumed_run_is_the_same_bit_for_bit(trained, tmp_path):
    crossq_wn.train(DictPoint, frames=110, out=tmp_path / "run", **BOTH)  # in the middle of an episode
    crossq_wn.resume(tmp_path / "run", frames=200, task=DictPoint)
    same_run(trained, tmp_path / "run", tables=False)


def test_it_is_a_system_of_its_own_under_the_same_protocol(trained, tmp_path):
    crossq_wn.train(DictPoint, frames=60, out=tmp_path / "plain", algorithm="sac", **QUIET)
    ours, theirs = read_config(trained), read_config(tmp_path / "plain")
    assert "frame_stack=3, normalise_observations=True" in ours.system.label
    assert ours.system != theirs.system
    assert not protocol_conflicts(read_terms([trained, tmp_path / "plain"]))
    values = json.loads((tmp_path / "plain" / "config.json").read_text())
    for name in ("frame_stack", "normalise_observations"):  # as an earlier version wrote it
        del values["options"][name]
    del values["sha256"]
    (tmp_path / "plain" / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path / "plain") == theirs


# Acting


def episode(environment, choose, count=12):
    """Plays single observations: (what was observed, the actions in the environment's units)."""
    seen, actions = [environment.reset(seed=5)[0]], []
    for _ in range(count):
        actions.append(choose(seen[-1]))
        seen.append(environment.step(actions[-1])[0])
    return seen[:-1], np.array(actions)


def test_act_takes_the_environments_observations_and_remembers_the_episode(trained):
    policy = crossq_wn.load(trained, trust=True)
    assert policy.observation_size == 3
    seen, actions = episode(DictPoint(), policy.act)
    stacked = building.make_environment(policy.config, DictPoint)
    observation = stacked.reset(5)
    for k in range(len(seen)):
        chosen = policy.choose(observation)
        np.testing.assert_allclose(actions[k], policy.interface.in_units(chosen), atol=1e-6)
        observation = stacked.step(chosen).next_observation
    again = policy.act(seen[0])
    assert not np.allclose(again, actions[0], atol=1e-7)  # it counts as the next observation of that episode
    policy.reset()
    np.testing.assert_array_equal(policy.act(seen[0]), actions[0])


def test_several_episodes_are_acted_in_side_by_side(trained):
    policy = crossq_wn.load(trained, trust=True)
    seen, actions = episode(DictPoint(), policy.act)
    policy.reset()
    for k, each in enumerate(seen):
        both = policy.act([each, seen[0]])
        np.testing.assert_allclose(both[0], actions[k], atol=1e-5)
        np.testing.assert_allclose(both[1], actions[0], atol=1e-5)
    with pytest.raises(
        UserError, match=r"got an array of 2 before and now gets a single observation: .* call `reset\(\)`"
    ):
        policy.act(seen[0])
    policy.reset()
    policy.act(seen[0])
    with pytest.raises(UserError, match=r"got a single observation before and now gets an array of 1: "):
        policy.act([seen[0]])
    policy.reset()
    sick = seen[0] | {"place": np.array([0.0, np.nan])}  # among 3 stacked ones
    with pytest.raises(
        UserError, match=r"no action: it got nan at index 1 of the observation's 'place'; mend"
    ):
        policy.act(sick)
    with pytest.raises(UserError, match=r"no action in row 1: it got nan at index 1 of the .*'place'; mend"):
        policy.act([seen[0], sick])


def test_what_cannot_be_acted_on_is_not_remembered(trained):
    policy = crossq_wn.load(trained, trust=True)
    seen, actions = episode(DictPoint(), policy.act, count=2)
    policy.reset()
    policy.act(seen[0])
    with pytest.raises(UserError, match="has no action"):
        policy.act({"place": [np.nan, 0.0], "clock": [0.0]})
    np.testing.assert_array_equal(policy.act(seen[1]), actions[1])


@pytest.fixture
def few_calls(monkeypatch):
    monkeypatch.setattr(latency, "measure", partial(latency.measure, calls=20))


ALONE = """
import json, sys
sys.modules["jax"] = sys.modules["crossq_wn"] = None
from policy import Policy
policy, observations = Policy("."), json.load(sys.stdin)
found = []
for _ in range(2):
    policy.reset()
    found.append([policy.act(each).tolist() for each in observations])
print(json.dumps(found))
"""


def test_an_export_for_numpy_acts_as_the_policy_does(trained, tmp_path, few_calls):
    policy = crossq_wn.load(trained, trust=True)
    seen, actions = episode(DictPoint(), policy.act)
    written = export(trained, out=tmp_path / "numpy", trust=True)
    told = json.loads((written.path / "policy.json").read_text())["observation"]
    assert (told["size"], told["frame_stack"], len(told["seen"]["low"])) == (3, 3, 3)
    alone = standalone.Policy(written.path)
    np.testing.assert_array_equal(episode(DictPoint(), alone.act)[1], actions)
    plain = json.dumps([{key: value.tolist() for key, value in each.items()} for each in seen])
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=written.path, input=plain, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for found in json.loads(done.stdout):
        np.testing.assert_allclose(found, actions, atol=1e-6)


def test_a_model_is_given_the_stack_that_it_returned(trained, tmp_path, few_calls):
    runtime = pytest.importorskip("onnxruntime")
    policy = crossq_wn.load(trained, trust=True)
    seen, actions = episode(DictPoint(), policy.act)
    written = export(trained, "onnx", out=tmp_path / "onnx", trust=True)
    session = runtime.InferenceSession(str(written.path / "policy.onnx"), providers=["CPUExecutionProvider"])
    shapes = {each.name: each.shape[1:] for each in session.get_inputs()}
    assert shapes == {"observation.clock": [1], "observation.place": [2], "stack": [2, 3], "begin": [1]}
    # Programs may take them by their places, so newer ones come last.
    outputs = [each.name for each in session.get_outputs()]
    assert outputs == ["action", "mean", "log_std", "next_stack", "sound"]
    stack = np.full((1, 2, 3), 7, np.float32)  # which does not count at the beginning
    for k, each in enumerate(seen):
        given = {f"observation.{key}": np.float32(value)[None] for key, value in each.items()}
        given |= {"stack": stack, "begin": np.array([[k == 0]])}
        name = list(each)[k % 2]
        ill = given | {f"observation.{name}": given[f"observation.{name}"] + np.nan}
        # What is refused leaves no trace, as in `act`.
        np.testing.assert_array_equal(session.run(["next_stack"], ill)[0], stack)
        action, stack = session.run(["action", "next_stack"], given)
        np.testing.assert_allclose(action[0], actions[k], atol=5e-5)
    rows = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    chosen, _ = onnx_model.act(written.path, rows, written.description["observation"])
    np.testing.assert_allclose(chosen, policy.choose(rows), atol=1e-5)


def test_without_its_environment_an_export_is_checked_on_stacks_in_replay(
    trained, tmp_path, few_calls, monkeypatch
):
    def broken(*arguments, **options):
        raise UserError("no licence found")

    told = []
    monkeypatch.setattr(TrainedPolicy, "environment", broken)
    written = export(trained, out=tmp_path / "numpy", warn=told.append)
    assert any("checked on the replay" in each for each in told)
    assert written.description["parity"]["largest_difference"] <= 1e-5


# Data


def problem(frames):
    environment = make(DictPoint)
    return fitting.Problem(environment.task.name, describe(environment.simulator), 1, None, frames)


def test_data_of_a_run_is_single_observations_and_becomes_the_same_stacks(trained, tmp_path):
    recording = replays.read(trained)
    rows = fitting.rows(recording, problem(3))
    kept = replay_rows(trained, 0)
    np.testing.assert_array_equal(rows.observation[: len(kept["final"])], kept["observation"])
    assert fitting.rows(recording, problem(1)).observation.shape[1] == 3
    writing.write(trained, "npz", tmp_path / "npz")
    np.testing.assert_array_equal(
        fitting.rows(npz.read(tmp_path / "npz" / "transitions.npz"), problem(3)).observation, rows.observation
    )


def test_a_run_with_stacks_begins_with_data_of_another_and_its_statistics_count_it(trained, tmp_path):
    choices = BOTH | {"frame_stack": 2, "prefill": [trained]}
    crossq_wn.train(DictPoint, frames=50, out=tmp_path / "run", **choices)
    running = statistics_of(tmp_path / "run")
    assert running.mean.shape == (6,)
    assert float(running.samples) == pytest.approx(250)


def test_transitions_in_no_order_cannot_be_stacked():
    rng, no = np.random.default_rng(0), np.zeros(20, bool)
    shuffled = Recording(
        rng.uniform(-1, 1, (20, 3)).astype(np.float32), rng.uniform(-1, 1, (20, 2)), np.zeros(20, np.float32),
        no, no, rng.uniform(-1, 1, (20, 3)).astype(np.float32),
    )  # fmt: skip
    assert len(fitting.rows(shuffled, problem(1)).reward) == 40
    with pytest.raises(UserError, match="its transitions are in no order, and frame_stack takes"):
        fitting.rows(shuffled, problem(2))


# A robot


def test_a_robot_learns_with_both(tmp_path):
    more = ["--algorithm", "sac", "--frame-stack", "2", "--normalize-observations"]
    run = tmp_path / "run"
    line = ["robots:Robot", "--real-time", "500", "--frames", "120", "--out", run, *TINY, *more]
    done = call("train", *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = replay_rows(run, 0)
    follows = ~rows["final"][:-1]
    np.testing.assert_array_equal(rows["observation"][1:, :3][follows], rows["observation"][:-1, 3:][follows])
    decided = rows["observation"][~rows["final"]]
    running = statistics_of(run)
    assert decided.shape == (120, 6)
    assert float(running.samples) == pytest.approx(120)
    np.testing.assert_allclose(running.mean, decided.mean(0), rtol=1e-4, atol=1e-5)


def test_worker_processes_make_the_same_environments(trained):
    made = pickle.loads(pickle.dumps(building.recipe_for(read_config(trained), DictPoint)))()
    assert made.observation_size == 9
