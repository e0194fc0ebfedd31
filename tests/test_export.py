"""Exports: do they act as the policy does, by themselves, and is what cannot be exported refused?"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import save

import crossq_wn
import helpers
import hostile
from crossq_wn import complete
from crossq_wn.acting import policy as standalone
from crossq_wn.algorithms import ALGORITHMS, Recipe
from crossq_wn.cli import main
from crossq_wn.environments import make
from crossq_wn.environments.interface import describe
from crossq_wn.errors import UserError
from crossq_wn.export import latency, observations, onnx_model, parity
from crossq_wn.export.api import export
from crossq_wn.learning.replay import Replay
from crossq_wn.runs import checksums, directory
from crossq_wn.runs.checkpoints import SeedState
from crossq_wn.runs.trust import remember
from crossq_wn.runs.writing import Writer
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.api import configure
from crossq_wn.training.policy import evaluate_policy
from crossq_wn.types import Spec
from helpers import PointMass
from test_acting import disturbed


class Typed(PointMass):
    """Takes whole numbers in a column."""

    action_space = spaces.Box(-2, 3, (2, 1), np.int32)

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self.observe(), 0.0, False, self.steps >= self.LIMIT, {}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(latency, "measure", partial(latency.measure, calls=20))


@pytest.fixture(scope="module")
def planted(tmp_path_factory, small_settings):
    """(algorithm, task, frames, updates, change of the state) -> a run whose checkpoint is disturbed."""

    def plant(name="crossq-wn", task=PointMass, frames=100, updates=80, change=lambda state: state):
        small = {key: value for key, value in vars(small_settings(name)).items() if key != "resets"}
        config = configure(task, algorithm=name, frames=100, tensorboard=False, **small)
        path = tmp_path_factory.mktemp("planted") / "run"
        remember(config)
        run = directory.create(config, path, ["crossq-wn", "train"])
        environment = make(task, action_repeat=config.action_repeat)
        interface = describe(environment.simulator)
        spec = Spec(environment.observation_size, environment.action_size, config.discount)
        algorithm = build_algorithm(config, spec)
        state = change(disturbed(algorithm.init(np.random.default_rng(0)), seed=1))
        replay = Replay(50, spec.observation_size, spec.action_size)
        rng = np.random.default_rng(2)
        for _ in range(20):
            seen, after = rng.standard_normal((2, spec.observation_size)).astype(np.float32)
            replay.add(seen, np.zeros(spec.action_size), 0.0, after, terminated=False, last=False)
        common = {"config": config.to_json(), "interface": interface}
        common |= {"failed": {}, "decisions": 0, "updates": updates, "logs": []}
        states = {0: SeedState({"state": state, "memory": algorithm.memory}, {"statistics": {}})}
        Writer(run.checkpoints).save(frames, common, states, {0: replay}, set())
        run.close()
        return path

    return plant


@pytest.fixture(scope="module")
def run(planted):
    return planted()


def seen_by(policy, count=32):
    return np.random.default_rng(5).standard_normal((count, policy.interface.size)).astype(np.float32)


# What acts


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_leaves_the_package_and_acts_the_same(name, planted, tmp_path):
    path, told = planted(name), []
    loaded = crossq_wn.load(path)
    written = export(path, "numpy", out=tmp_path / "numpy", warn=told.append)
    alone = standalone.Policy(written.path)
    rows = seen_by(loaded)
    expected = parity.reference(loaded, rows)
    np.testing.assert_allclose(alone.choose(rows), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone.act(rows), loaded.interface.in_units(expected), rtol=0, atol=5e-5)
    assert written.description["parity"]["largest_difference"] <= 1e-5
    assert set(written.seconds) == {"p50", "p99", "max"}
    assert any("plans every action" in text for text in told) == (name == "tdmpc2")
    if name != "tdmpc2":  # which searches
        np.testing.assert_array_equal(loaded.act(rows), alone.act(rows))
    if name in (
        "crossq-wn",
        "simba-v2",
        "tdmpc2",
        "simba",
        "bro",
        "flashsac",
        "drq",
    ):  # all kinds of operations
        pytest.importorskip("onnxruntime")
        model = export(path, "onnx", out=tmp_path / "onnx")
        chosen, actions = onnx_model.act(model.path, rows, model.description["observation"])
        np.testing.assert_allclose(chosen, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(actions, alone.act(rows), rtol=0, atol=5e-5)


@pytest.mark.parametrize("task", [helpers.DictPoint, Typed])
def test_dicts_and_whole_numbers_are_exported_as_the_environment_has_them(task, planted, tmp_path):
    path = planted(task=task)
    loaded, alone = crossq_wn.load(path), standalone.Policy(export(path, out=tmp_path / "numpy").path)
    environment = task()
    observation, _ = environment.reset(seed=0)
    action = alone.act(observation)
    assert environment.action_space.contains(action)
    np.testing.assert_array_equal(action, loaded.act(observation))
    assert alone.act([observation] * 3).shape[0] == 3
    pytest.importorskip("onnxruntime")
    model = export(path, "onnx", out=tmp_path / "onnx")
    rows, told = seen_by(loaded), model.description["observation"]
    names = ["observation.clock", "observation.place"] if task is helpers.DictPoint else ["observation"]
    assert [part["name"] for part in told["parts"]] == names
    _, actions = onnx_model.act(model.path, rows, told)
    np.testing.assert_allclose(actions, alone.act(rows), rtol=0, atol=5e-5)
    assert (actions.dtype, actions.shape[1:]) == (action.dtype, action.shape)


@pytest.mark.parametrize("task", [PointMass, Typed])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_model_says_which_of_its_actions_are_sound(task, wrong, planted, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = export(planted(task=task), "onnx", out=tmp_path / "onnx")
    session = runtime.InferenceSession(str(model.path / "policy.onnx"), providers=["CPUExecutionProvider"])
    rows = np.zeros((4, 3), np.float32)
    expected, sound = session.run(["action", "sound"], {"observation": rows})
    assert sound.tolist() == [[True]] * 4
    rows[1, 2] = wrong
    actions, sound, *gaussian = session.run(["action", "sound", "mean", "log_std"], {"observation": rows})
    assert sound.tolist() == [[True], [False], [True], [True]]
    for values in gaussian:
        assert np.isnan(values).all(1).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(actions[[0, 2, 3]], expected[[0, 2, 3]])
    assert task is Typed or np.isnan(actions[1]).all()


def test_numpy_and_onnx_refuse_the_same_observations(planted, tmp_path):
    """A network that overflows has no action, though tanh would make 1 or -1 of it."""
    runtime = pytest.importorskip("onnxruntime")
    path = planted()
    alone = standalone.Policy(export(path, out=tmp_path / "numpy").path)
    model = export(path, "onnx", out=tmp_path / "onnx")
    session = runtime.InferenceSession(str(model.path / "policy.onnx"), providers=["CPUExecutionProvider"])
    rows = np.outer(10.0 ** np.linspace(30, 38.4, 60), [1, -1, 1]).astype(np.float32)
    (sound,) = session.run(["sound"], {"observation": rows})
    assert 0 < sound.sum() < len(rows)
    assert np.isfinite(alone.compute(rows)).all(1).tolist() == sound[:, 0].tolist()


ALONE = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "crossq_wn", "optax", "safetensors", "gymnasium"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
from policy import Policy, PolicyError
policy = Policy(sys.argv[1], seed=3)
rows = json.loads(sys.argv[2])
try:
    policy.act([0.0, float("nan"), 0.0])
except PolicyError as error:
    refusal = str(error)
print(json.dumps([policy.act(rows).tolist(), policy.act(rows[0]).tolist(),
                  policy.act(rows, deterministic=False).tolist(), refusal]))
"""


def test_the_folder_acts_where_nothing_but_numpy_can_be_imported(run, tmp_path):
    folder = export(run, out=tmp_path / "policy").path
    assert sorted(file.name for file in folder.iterdir()) == ["policy.json", "policy.py", "weights.npz"]
    loaded = crossq_wn.load(run)
    rows = seen_by(loaded, 4)
    command = [sys.executable, "-I", "-c", ALONE, str(folder), json.dumps(rows.tolist())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    many, one, drawn, refusal = json.loads(done.stdout)
    np.testing.assert_allclose(many, loaded.act(rows), rtol=1e-6)
    np.testing.assert_allclose(one, loaded.act(rows[0]), rtol=1e-6)
    np.testing.assert_allclose(
        drawn, loaded.act(rows, deterministic=False, generator=np.random.default_rng(3)), rtol=1e-5
    )
    assert "nan at index 1 of the observation; mend the sensor" in refusal


def test_the_description_names_what_goes_in_and_out(run, tmp_path):
    folder = export(run, out=tmp_path / "policy").path
    said = json.loads((folder / "policy.json").read_text())
    assert said["task"] == "helpers:PointMass"
    assert said["observation"]["parts"] == [{"name": "observation", "keys": [], "shape": [3], "first": 0}]
    assert said["observation"]["low"] == [-10.0] * 3
    seen = said["observation"]["seen"]
    assert seen["decisions"] == 256
    assert 0 <= seen["low"][2] < seen["high"][2] <= 1  # the share of the episode that has passed
    assert (said["action"]["low"], said["action"]["high"]) == ([-2.0, -2.0], [3.0, 3.0])
    assert (said["action"]["dtype"], said["action"]["shape"]) == ("float32", [2])
    assert said["control"] == {
        "frames_per_decision": 1, "seconds_per_frame": None, "decisions_per_second": None
    }  # fmt: skip
    assert said["protocol"] == json.loads((run / "manifest.json").read_text())["protocol"]
    assert said["parity"]["observations"] == 256
    assert said["parity"]["largest_difference"] <= said["parity"]["tolerance"] == 1e-5
    assert (said["trained_frames"], said["gradient_updates"]) == (100, 80)
    assert said["finished"]
    (folder / "weights.npz").write_bytes((folder / "weights.npz").read_bytes()[:-9])
    with pytest.raises(standalone.PolicyError, match="truncated or altered"):
        standalone.Policy(folder)


def test_weights_that_unpack_to_more_than_is_read_are_refused(run, tmp_path, monkeypatch):
    folder = export(run, out=tmp_path / "policy").path
    place, said = folder / "weights.npz", json.loads((folder / "policy.json").read_text())
    np.savez_compressed(place, **np.load(place), more=np.zeros(2**20))
    said["sha256"]["weights.npz"] = hashlib.sha256(place.read_bytes()).hexdigest()
    (folder / "policy.json").write_text(json.dumps(said))
    assert acts(folder)  # arrays that no layer has are harmless
    monkeypatch.setattr(standalone, "_MOST_WEIGHTS", 2**20)
    assert place.stat().st_size < 2**20
    with pytest.raises(
        standalone.PolicyError, match=r"weights.npz unpacks to 8,\d+,\d+ bytes, where at most"
    ):
        standalone.Policy(folder)


def test_what_weights_take_follows_from_their_entries_and_their_headers():
    def taken(shape, count):
        file, array = io.BytesIO(), io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(array, header)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", array.getvalue() + bytes(4 * count))
        return standalone._unpacked(file.getvalue())

    assert taken((1000,), 1000) == 4 * 1000 + 128  # with the header
    assert taken((10**15,), 10) == 4 * 10**15
    assert taken((10,), 10**6) == 4 * 10**6 + 128


def test_memory_that_runs_short_is_no_fault_of_an_export(run, tmp_path, monkeypatch):
    folder = export(run, out=tmp_path / "policy").path

    def short(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(standalone.np, "load", short)
    with pytest.raises(MemoryError):
        standalone.Policy(folder)


def acts(folder):
    """Whether an exported folder makes a policy; then its action must be sound."""
    try:
        action, said = standalone.Policy(folder).act([0.1, 0.2, 0.3]), ""
    except standalone.PolicyError as error:
        action, said = np.zeros(2), str(error)
    assert np.isfinite(action).all()
    assert "\n" not in said
    return not said


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_strangers_folder_is_a_policy_or_refused_in_one_line(step, run, tmp_path):
    folder = export(run, out=tmp_path / "policy").path
    place = folder / "policy.json"
    said = json.loads(place.read_text())
    wrong = [json.dumps(each).encode() for _, each in hostile.mutations(said)]
    refused = 0
    for content in [*hostile.BYTES.values(), *wrong[::step]]:
        place.write_bytes(content)
        refused += not acts(folder)
    assert refused > len(hostile.BYTES)
    place.write_text(json.dumps(said))
    assert acts(folder)


@pytest.mark.parametrize("name", ["policy.json", "weights.npz"])
def test_nothing_but_a_file_of_bounded_size_is_read_of_a_strangers_folder(name, run, tmp_path):
    folder = export(run, out=tmp_path / "policy").path
    content = (folder / name).read_bytes()
    for kind in (hostile.endless, hostile.loop, hostile.pipe, hostile.unix_socket, hostile.folder,
                 hostile.sparse, hostile.dangling):  # fmt: skip
        kind(folder / name, tmp_path)
        assert not acts(folder), kind
        shutil.rmtree(folder / name) if kind is hostile.folder else (folder / name).unlink()
    (folder / name).write_bytes(content)
    assert acts(folder)


def test_how_often_a_simulated_robot_decides_is_known():
    assert make("walker-run").frame_seconds == pytest.approx(0.025)
    assert make(PointMass).frame_seconds is None

    class Robot(PointMass):
        dt = 0.02

    assert make(Robot).frame_seconds == 0.02


# `load`


def test_random_actions_are_drawn_by_the_given_generator(run):
    policy = crossq_wn.load(run)
    seen = seen_by(policy, 200)
    first, again, other = (
        policy.act(seen, deterministic=False, generator=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (200, 2)
    assert first.dtype == np.float32
    assert (first >= -2).all()
    assert (first <= 3).all()
    assert not np.array_equal(policy.act(seen, False), policy.act(seen, False))


class Closing(PointMass):
    closed = 0

    def close(self):
        type(self).closed += 1


def test_a_policy_is_evaluated_on_the_caller_s_own_environment(run):
    policy, own = crossq_wn.load(run), Closing()
    played = policy.evaluate(own, episodes=3)
    assert len(played) == 3
    assert (
        played == policy.evaluate(PointMass, 3) == policy.evaluate(episodes=3) == evaluate_policy(policy, 3)
    )
    assert Closing.closed == 0  # it stays the caller's
    with pytest.raises(UserError, match="has changed since this run was trained"):
        policy.evaluate(helpers.DictPoint())
    with pytest.raises(UserError, match=r"not a gymnasium\.Env"):
        policy.evaluate(object())


def test_an_environment_s_steps_take_what_choose_returns(run):
    policy = crossq_wn.load(run)
    environment = policy.environment()
    seen = environment.reset(0)
    chosen = policy.choose(seen)
    np.testing.assert_array_equal(policy.interface.in_units(chosen), policy.act(seen))
    assert environment.step(chosen).next_observation.shape == (3,)


# What is refused


def nothing_written(path, folder):
    return not folder.exists() and not (path / "exports").exists() and not list(folder.parent.glob(".*"))


def poisoned(state):
    kernel = state.actor.params[-1]["kernel"].at[0, 0].set(jnp.nan)
    return state._replace(actor=state.actor._replace(params=(*state.actor.params[:-1], {
        **state.actor.params[-1], "kernel": kernel
    })))  # fmt: skip


def refusal(capsys, *arguments):
    """What the command line says, in one line, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.startswith("crossq-wn: checkpoint ")]
    assert (ended.value.code, len(lines)) == (2, 1), said
    return lines[0]


def test_what_cannot_be_exported_is_refused_in_one_line(run, planted, tmp_path, capsys):
    out = tmp_path / "out"
    diverged, damaged, taken = planted(change=poisoned), planted(), tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    (damaged / "checkpoints" / "000000100" / "seed-0.safetensors").write_bytes(b"")
    for arguments, says in (
        ((diverged, "--to", "numpy"), "weights of seed 0 .* are not finite"),
        ((damaged, "--to", "numpy"), "no usable checkpoint"),
        ((run, "--to", "numpy", "--seed", 7), "has no seed 7: it has 0"),
        ((run, "--to", "tflite"), "--to is 'tflite'.*choose from numpy, onnx"),
        ((tmp_path, "--to", "numpy"), "not a run directory"),
    ):
        said = refusal(capsys, *arguments, "--out", out)
        assert re.search(says, said), said
        assert nothing_written(arguments[0], out)
    assert "is not an empty folder" in refusal(capsys, run, "--to", "numpy", "--out", taken)
    assert [file.name for file in taken.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_empty_is_filled_where_it_is(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    assert export(run, out=".").path == Path()
    assert sorted(file.name for file in Path().iterdir()) == ["policy.json", "policy.py", "weights.npz"]
    assert tmp_path.stat().st_ino == before  # of a shell that stands in it
    with pytest.raises(UserError, match="is not an empty folder"):
        export(run, out="..")


def test_a_folder_that_cannot_be_filled_stays_empty_and_can_be_filled_later(tmp_path, monkeypatch):
    def fill(folder):
        for name in ("weights", "policy"):
            (folder / name).mkdir()

    def refuse(source, target):
        if len(list(tmp_path.iterdir())) > 1:  # the second one
            monkeypatch.undo()
            raise OSError(errno.EIO, "Input/output error")
        moved(source, target)

    moved = os.replace
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match="Input/output error"):
        complete.write_complete(tmp_path, fill)
    assert list(tmp_path.iterdir()) == []
    complete.write_complete(tmp_path, fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy", "weights"]


@pytest.mark.parametrize("there", ["out/.partial", "out/.crossq-wn-partial", ".new.crossq-wn-partial"])
def test_no_folder_of_the_users_is_removed_where_another_is_written(there, tmp_path):
    (tmp_path / there).mkdir(parents=True)
    with pytest.raises(UserError, match=r"is there: remove it if|is not an empty folder"):
        complete.write_complete(tmp_path / ("out" if there[0] == "o" else "new"), pytest.fail)
    assert (tmp_path / there).is_dir()


def test_replay_of_several_files_is_what_an_export_is_checked_on(tmp_path):
    (tmp_path / "replay").mkdir()
    segments = []
    for number, count in enumerate((300, 100, 0, 150, 3)):
        rows = np.full((count, 2), number, np.float32)
        checksum = checksums.write(tmp_path / "replay" / str(number), save({"observation": rows}))
        segments.append({"file": str(number), "sha256": checksum})
    saved = SimpleNamespace(path=tmp_path / "000", segments=lambda seed: segments)
    policy = SimpleNamespace(saved=saved, seed=0, spec=Spec(2, 1, 0.99), path=Path("run"))
    seen = observations.observe(policy, None, None).rows[:, 0].tolist()
    assert seen == [0] * 3 + [1] * 100 + [3] * 150 + [4] * 3
    del segments[3:], segments[:2]
    with pytest.raises(UserError, match="and its replay is empty: train it further"):
        observations.observe(policy, None, None)


def test_what_would_act_differently_is_not_written(run, tmp_path, monkeypatch):
    exact = parity.reference
    monkeypatch.setattr(parity, "reference", lambda policy, rows: exact(policy, rows) + np.float32(2e-5))
    with pytest.raises(UserError, match="nothing is written: the export's action differs by 2e-05"):
        export(run, out=tmp_path / "out")
    assert nothing_written(run, tmp_path / "out")


def test_onnx_names_the_fix_where_it_is_missing(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs onnx .*pip install .*\[onnx\]'"):
        export(run, "onnx", out=tmp_path / "out")
    assert nothing_written(run, tmp_path / "out")


def test_an_algorithm_that_is_not_described_acts_by_jax_and_is_not_exported(planted, monkeypatch, tmp_path):
    path = planted("sac")
    described = crossq_wn.load(path)
    sac = ALGORITHMS["sac"]

    def build(spec, settings):
        made = sac.build(spec, settings)
        return made._replace(exploit=lambda *arguments: made.exploit(*arguments))

    monkeypatch.setitem(ALGORITHMS, "sac", Recipe("mine", sac.settings, sac.presets, build))
    policy = crossq_wn.load(path)
    rows = seen_by(policy, 5)
    np.testing.assert_allclose(policy.act(rows), described.act(rows), rtol=0, atol=5e-5)
    assert policy.act(rows[0], deterministic=False).shape == (2,)
    with pytest.raises(UserError, match="does not say what its network computes without JAX"):
        export(path, out=tmp_path / "out")


def test_an_unfinished_run_is_exported_with_a_word(planted, tmp_path):
    told = []
    written = export(planted(frames=40), out=tmp_path / "out", warn=told.append)
    assert not written.description["finished"]
    assert any("is not finished: 40 of 100 frames" in text for text in told)


def test_where_the_environment_cannot_be_made_replay_has_to_do(planted, tmp_path, monkeypatch):
    class Local(PointMass):
        pass

    told = []
    written = export(planted(task=Local), out=tmp_path / "out", warn=told.append)
    assert written.description["observation"]["seen"]["in"] == "the replay of training"
    assert any("checked on the replay of training" in text for text in told)


def test_the_command_prints_what_was_written_and_how_fast_it_is(planted, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", str(planted(updates=0)), "--to", "numpy", "--out", str(tmp_path / "out"), "--json"])
    said = capsys.readouterr()
    assert ended.value.code in (None, 0)
    (record,) = json.loads(said.out)
    assert 0 < record["p50_us"] <= record["p99_us"] <= record["max_us"]
    assert "differ from the JAX policy's by at most" in said.err
    assert Path(record["folder"]) == tmp_path / "out"
    assert record["gradient_updates"] == 0
    assert "is untrained: it has made no gradient update in 100 frames" in said.err
