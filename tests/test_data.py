"""Data from elsewhere: what is read, what is refused, what it does to a run, and what is written out."""

import contextlib
import importlib
import json
import os
import resource
import shutil
import warnings
import zipfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
import helpers
from crossq_wn import UserError
from crossq_wn.acting.interface import in_units
from crossq_wn.data import fitting, lerobot, minari, npz, recording, replays, sources, writing
from crossq_wn.data.recording import Recording, as_rows, count_rows, starts
from crossq_wn.environments.interface import describe, from_units
from crossq_wn.learning import learner, minibatches
from crossq_wn.learning.replay import Replay
from crossq_wn.learning.rows import Rows
from crossq_wn.runs import checkpoints, protocol
from crossq_wn.runs.config import read_config
from crossq_wn.runs.writing import Writer
from crossq_wn.sweeps import plans, sheets
from crossq_wn.training import api, building, prefilling
from crossq_wn.types import Sampling, Spec
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener, call, same_run

QUIET = TINY_OPTIONS | TINY_SETTINGS | {"diagnostics": False}
LOW, HIGH = -2.0, 3.0  # the bounds of PointMass


def train(out, task=helpers.PointMass, *, frames=300, **choices):
    listener = Listener()
    crossq_wn.train(task, frames=frames, out=out, reporter=listener, **(QUIET | choices))
    return out, listener.messages


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, and its replay as npz: `run`, `npz/transitions.npz`."""
    root = tmp_path_factory.mktemp("data")
    train(root / "run")
    writing.write(root / "run", "npz", root / "npz")
    return root


@pytest.fixture(scope="module")
def written(place):
    """The replay of the run as a data set of Minari's; without the extra `data` its tests are skipped."""
    pytest.importorskip("minari")
    pytest.importorskip("h5py")
    with warnings.catch_warnings(action="error"):
        writing.write(place / "run", "minari", place / "minari")
    return place / "minari"


@pytest.fixture(scope="module")
def problem():
    config = api.configure(helpers.PointMass)
    environment = building.make_environment(config, helpers.PointMass)
    return fitting.Problem(config.task, describe(environment.simulator), config.action_repeat, 0.05)


def arrays(count=60, **changes):
    """What an npz file of PointMass holds; of None, nothing."""
    rng = np.random.default_rng(0)
    made = {
        "observation": rng.standard_normal((count, 3), np.float32),
        "action": rng.uniform(LOW, HIGH, (count, 2)),
        "reward": rng.standard_normal(count),
        "terminated": np.arange(count) % 20 == 19,
        "truncated": np.arange(count) % 20 == 9,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def saved(folder, **changes):
    np.savez(folder / "mine.npz", **arrays(**changes))
    return folder / "mine.npz"


def transitions(rows):
    """The transitions among rows of replay: (observation, action, reward, mask, next observation)."""
    found = np.flatnonzero(~rows.final)
    return *(column[found] for column in rows[:4]), rows.observation[found + 1]


# What becomes of a recording.


@given(st.integers(0, 10_000), st.integers(1, 40), st.booleans())
def test_rows_of_replay_hold_every_transition_whose_end_is_known(seed, count, known):
    rng = np.random.default_rng(seed)
    observation = rng.standard_normal((count, 2), np.float32)
    terminated = rng.random(count) < 0.15
    truncated = ~terminated & (rng.random(count) < 0.15)
    after = np.concatenate([observation[1:], rng.standard_normal((1, 2), np.float32)])
    gap = terminated | truncated | (rng.random(count) < 0.1)  # others are not consecutive, as if shuffled
    after[gap] = rng.standard_normal((gap.sum(), 2))
    action, reward = rng.uniform(-1, 1, (count, 1)).astype(np.float32), np.arange(count, dtype=np.float32)
    made = Recording(observation, action, reward, terminated, truncated, after if known else None)
    rows = as_rows(made, [observation, after] if known else [observation], action)
    assert len(rows.reward) == count_rows(made)
    assert rows.final[-1]
    whole = starts(made)
    seen, acted, got, mask, following = transitions(rows)
    np.testing.assert_array_equal(got, reward[whole])
    np.testing.assert_array_equal(seen, observation[whole])
    np.testing.assert_array_equal(acted, action[whole])
    np.testing.assert_array_equal(mask, ~terminated[whole])
    truth = after if known else np.concatenate([observation[1:], observation[-1:]])
    counts = mask.astype(bool)  # after a termination the next observation has no effect
    np.testing.assert_array_equal(following[counts], truth[whole][counts])


@given(st.integers(0, 10_000), st.sampled_from(["float32", "float64", "int32"]))
def test_actions_map_to_the_agents_units_and_back(seed, kind):
    rng = np.random.default_rng(seed)
    low = rng.integers(-9, 3, 3).astype(np.float64)
    high = low + rng.integers(0, 7, 3)
    dtype = np.dtype(kind)
    own = in_units(rng.uniform(-1, 1, (20, 3)).astype(np.float32), low, high, dtype)
    again = in_units(from_units(own.astype(np.float64), low, high, dtype), low, high, dtype)
    np.testing.assert_allclose(again, own, rtol=0, atol=0 if kind == "int32" else 1e-5)


def test_a_file_and_the_run_that_it_is_from_give_the_same_rows(place, problem):
    names = ("run", "npz/transitions.npz", "npz")  # the last is the folder that `crossq-wn data` wrote
    read = {name: sources.describe_all([str(place / name)])[0] for name in names}
    one, *others = (sources.rows_of(str(place / name), source, problem) for name, source in read.items())
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({source.sha256 for source in read.values()}) == 1
    assert {source.rows for source in read.values()} == {len(one.reward)}
    # And they are those that the run itself learned from.
    kept = checkpoints.newest(place / "run" / "checkpoints", print)
    replay = Replay(10_000, 3, 2)
    kept.fill(0, replay)
    own = replay.read(0, replay.end)
    for a, b in zip(one, own, strict=True):
        np.testing.assert_array_equal(a[: len(own.reward)], b)


@contextlib.contextmanager
def no_file_beyond(size):
    """Within it no file may grow beyond so many bytes, as on a file system that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["npz", "minari"])
def test_what_cannot_be_written_whole_is_not_there(kind, place, tmp_path, capfd, request):
    if kind == "minari":
        request.getfixturevalue("written")  # where it can be written
    for out, size in ((tmp_path / "new", 4096), (tmp_path / "empty", 8192)):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with no_file_beyond(size), pytest.raises(UserError, match=rf"cannot write .*{out.name}.*: File too"):
            writing.write(place / "run", kind, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert capfd.readouterr().err == ""


def test_a_minari_data_set_that_we_wrote_is_sound_for_minari_and_for_us(place, written, problem):
    data = importlib.import_module("minari").MinariDataset(written / "data")
    same = npz.read(place / "npz" / "transitions.npz")
    assert data.total_steps == len(same.reward)
    first = next(iter(data.iterate_episodes()))
    size = len(first.rewards)
    np.testing.assert_array_equal(first.observations[:-1], same.observation[:size])
    assert first.terminations[-1] or first.truncations[-1]
    rows = fitting.rows(minari.read(written), problem)
    for a, b in zip(rows, fitting.rows(same, problem), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_downloaded_data_set_is_found_by_its_name(written, tmp_path, monkeypatch):
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "expert-v0").symlink_to(written)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    (found,) = sources.describe_all(["point/expert-v0"])
    assert (found.name, found.kind) == ("point/expert-v0", "minari")
    with pytest.raises(UserError, match="`minari download no-such/data-v1` would fetch"):
        sources.describe_all(["no-such/data-v1"])


@pytest.mark.parametrize(("frames", "whole"), [(1.5, False), (2.0, True), (2, True)])
def test_metadata_of_minari_say_whole_frames_per_decision(frames, whole, written, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(written, folder)
    place = folder / "data" / "metadata.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"frames_per_decision": frames}))
    if whole:
        assert sources.read(str(folder), *sources.find(str(folder))).frames_per_decision == frames
        return
    with pytest.raises(UserError, match=r"frames_per_decision is 1\.5: it must be a whole number"):
        sources.read(str(folder), *sources.find(str(folder)))


def test_dict_observations_are_flattened_in_the_order_of_the_task():
    task = helpers.DictPoint
    config = api.configure(task)
    environment = building.make_environment(config, task)
    there = fitting.Problem(config.task, describe(environment.simulator), 1, None)
    count = 7
    rng = np.random.default_rng(1)
    parts = {
        "place": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "clock": rng.uniform(0, 1, (count, 1)).astype(np.float32),
    }
    over = np.zeros(count, bool)
    made = Recording(parts, np.zeros((count, 2)), np.zeros(count, np.float32), over, over, None)
    rows = fitting.rows(recording.checked(made), there)
    np.testing.assert_array_equal(
        rows.observation[:count], np.concatenate([parts["clock"], parts["place"]], 1)
    )
    with pytest.raises(UserError, match=r"parts place, where the task has the parts clock, place"):
        fitting.rows(made._replace(observation={"place": parts["place"]}), there)


def parquet(folder, count=30, **changes):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    columns = {
        "observation.state": rng.standard_normal((count, 3)).tolist(),
        "action": rng.uniform(LOW, HIGH, (count, 2)).tolist(),
        "episode_index": np.arange(count) // 10,
        "timestamp": (np.arange(count) % 10) * 0.05,
        "next.reward": rng.standard_normal(count),
        "next.done": np.arange(count) % 10 == 9,
        "next.success": np.arange(count) == 19,
    } | changes
    (folder / "data" / "chunk-000").mkdir(parents=True, exist_ok=True)
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text("{}")
    path = folder / "data" / "chunk-000" / "episodes.parquet"
    pq.write_table(pa.table({name: value for name, value in columns.items() if value is not None}), path)
    return path


def test_lerobots_parquet_maps_where_it_says_when_a_task_was_solved(tmp_path, problem):
    pytest.importorskip("pyarrow")
    path = parquet(tmp_path)
    made = sources.read(str(tmp_path), *sources.find(str(tmp_path)))
    assert made.decision_seconds == pytest.approx(0.05)
    assert np.flatnonzero(made.terminated).tolist() == [19]
    assert np.flatnonzero(made.truncated).tolist() == [9, 29]
    rows = fitting.rows(made, problem)
    assert (~rows.final).sum() == 28  # of the two time limits the next observation is not recorded
    assert lerobot.read(path).reward.tolist() == made.reward.tolist()
    parquet(tmp_path, timestamp=np.zeros(30))  # as writers without a clock leave it
    assert sources.read(str(tmp_path), *sources.find(str(tmp_path))).decision_seconds is None
    parquet(tmp_path)
    with pytest.raises(UserError, match=r"decisions are 0\.05 s apart and those of .*PointMass 0\.02 s"):
        fitting.rows(made, problem._replace(decision_seconds=0.02))


# What is refused.

WRONG = [
    ({"observation": np.zeros((60, 4), np.float32)}, r"not those of helpers:PointMass: shape \[4\].* \[3\]"),
    ({"action": np.zeros((60, 3))}, r"actions have 3 numbers, where those of helpers:PointMass have 2"),
    ({"action": np.full((60, 2), 4.0)}, r"row 0 has 4 at index 0, beyond the bounds -2 to 3"),
    ({"action_low": [-1.0, -1.0], "action_high": [1.0, 1.0]}, r"action_low \[-1\.0, -1\.0\].*task's units"),
    ({"reward": np.full(60, np.nan)}, r"reward is not finite in row 0"),
    ({"observation": np.full((60, 3), 1e300)}, r"observation is not finite in row 0 \(or beyond float32\)"),
    ({"reward": np.zeros(59)}, r"60 rows of action and 59 of reward"),
    ({"terminated": None}, r"it lacks terminated; it has observation, action, reward, truncated"),
    ({"frames_per_decision": 2}, r"decisions last 2 environment frames and this run's 1: .*action_repeat"),
    ({"decision_seconds": 0.5}, None),  # of a task whose clock is not known
    ({"task": "walker-walk"}, r"recorded on walker-walk, whose rewards are not those of helpers:PointMass"),
    ({"reward": np.array([["x"]] * 60)}, r"reward has the type <U1: it must be numbers"),
    ({"reward": np.array([object()] * 60)}, r"reward has the type object: it must be numbers"),
    ({"action": np.float64(1)}, r"it has no rows of action and 60 of reward"),
    ({"next_observation": np.zeros((60, 4))}, r"observation and next_observation have different shapes"),
    ({"next_observation": np.zeros((60, 1))}, r"observation and next_observation have different shapes"),
    ({"frames_per_decision": np.inf}, r"frames_per_decision has inf: it must be whole numbers"),
    ({"frames_per_decision": 1.5}, r"frames_per_decision has 1.5: it must be whole numbers"),
    ({"frames_per_decision": -1}, r"frames_per_decision is -1: it must be a number above 0"),
    ({"frames_per_decision": 1.0}, None),
    ({"decision_seconds": "fast"}, r"decision_seconds has the type <U4: it must be numbers"),
    ({"decision_seconds": [0.1, 0.2]}, r"decision_seconds has the shape \[2\]: it must be a single number"),
    ({"decision_seconds": np.nan}, r"decision_seconds is nan: it must be a number above 0"),
    ({"terminated": np.full(60, 0.5)}, r"terminated has 0.5: it must be 0 or 1"),
    ({"truncated": np.full(60, np.nan)}, r"truncated has nan: it must be 0 or 1"),
    ({"truncated": np.full(60, 2)}, r"truncated has 2: it must be 0 or 1"),
    ({"observation": np.full((60, 3), 1e30)}, r"observation is 1e\+30 in row 0, beyond 1e\+15, as a faulty"),
    ({"reward": np.full(60, -1e16)}, r"reward is -1e\+16 in row 0, beyond 1e\+15, as a faulty sensor says"),
    ({"reward": np.zeros((60, 2))}, r"reward has the shape \[60, 2\]: it must be one number per"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_does_not_fit_is_refused_before_anything_starts(changes, message, tmp_path):
    path, out = saved(tmp_path, **changes), tmp_path / "run"
    if message is None:
        assert api.configure(helpers.PointMass, prefill=[path]).prefilled_rows == 63
        return
    with pytest.raises(UserError, match=f"mine.npz.* cannot be used: .*{message}") as error:
        train(out, prefill=[path])
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_options_that_mean_nothing_are_refused(tmp_path):
    path = saved(tmp_path)
    (tmp_path / "empty").mkdir()
    for choices, message in (
        ({"prefill_share": 0.5}, "left out without prefill"),
        ({"prefill": path, "prefill_share": 1.0}, "above 0 and below 1"),
        ({"prefill": path, "prefill_share": 0.01, "batch_size": 8}, "both some of 8 samples"),
        ({"prefill": path, "replay_size": 50}, "at least 63, the rows of prefill"),
        ({"prefill": [3]}, "prefill is"),
        ({"prefill": tmp_path}, "of no known kind: name the .npz files in it, such as .*mine.npz"),
        ({"prefill": [path, tmp_path / "empty"]}, "of no known kind: give a .npz"),
        ({"prefill": tmp_path / "none.npz"}, "does not exist: give a .npz"),
    ):
        with pytest.raises(UserError, match=message):
            api.configure(helpers.PointMass, **choices)


def test_a_link_in_a_minari_data_set_is_not_followed(tmp_path, written):
    h5py, folder = importlib.import_module("h5py"), tmp_path / "data"
    folder.mkdir()
    for name in ("metadata.json", "main_data.hdf5"):
        (folder / name).write_bytes((written / "data" / name).read_bytes())
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_0"]["rewards"]
        file["episode_0"]["rewards"] = h5py.ExternalLink(str(tmp_path / "elsewhere.hdf5"), "/x")
    with pytest.raises(UserError, match="rewards is a link to another place or file"):
        sources.describe_all([str(tmp_path)])


def test_nothing_outside_a_file_is_read_and_nothing_too_large(tmp_path, place, monkeypatch):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UserError, match="is a pipe, not a regular file"):
        sources.describe_all([str(tmp_path / "pipe.npz")])
    with zipfile.ZipFile(tmp_path / "no.npz", "w") as archive:
        for name in ("observation", "action", "reward", "terminated", "truncated"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY no array")
    with pytest.raises(UserError, match=r"no\.npz' cannot be used: it is no sound"):
        sources.describe_all([str(tmp_path / "no.npz")])
    path = saved(tmp_path)
    damaged = bytearray(path.read_bytes())
    np.savez_compressed(path, **arrays())
    packed = bytearray(path.read_bytes())
    packed[200:260] = bytes(60)
    damaged[damaged.index(b"NUMPY") + 1] ^= 255
    for content in (packed, damaged):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mine\.npz.*no sound .npz"):
            sources.describe_all([str(path)])
    path = saved(tmp_path)
    monkeypatch.setattr(recording, "available_memory", lambda: 1000)
    for each, kind in ((path, "npz"), (place / "run", "run")):
        with pytest.raises(UserError, match="needs twice that in memory"):
            sources.read(str(each), each, kind)


def test_memory_is_that_of_what_a_file_becomes(tmp_path, monkeypatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    asked = []
    count = 5000
    bytes_long = {"observation": np.zeros((count, 3), np.uint8), "action": np.zeros((count, 2), np.int8)}
    monkeypatch.setattr(npz, "require_room", lambda path, size: asked.append(size))
    sources.read("mine.npz", saved(tmp_path, count=count, **bytes_long), "npz")
    # Observations in four bytes and actions in eight; rewards are eight, and ends four, once read.
    assert asked == [count * (3 * 4 + 2 * 8 + 8 + 4 + 4)]
    asked.clear()
    others = {"infos": np.array([object()]), "pictures": np.zeros((count, 50))}  # which are not read
    sources.read("mine.npz", saved(tmp_path, count=count, **bytes_long, **others), "npz")
    assert asked == [count * (3 * 4 + 2 * 8 + 8 + 4 + 4)]
    asked.clear()
    columns = {"observation.state": [[0.0] * 3] * count, "action": [[0.0] * 2] * count}
    columns |= {"episode_index": [0] * count, "next.reward": [1.0] * count, "next.done": [False] * count}
    columns |= {"picture": [[0] * 50] * count}  # which is not read
    folder = tmp_path / "robot"
    (folder / "data").mkdir(parents=True)
    for name in ("a", "b"):
        parquet.write_table(pyarrow.table(columns), folder / "data" / f"{name}.parquet")
    monkeypatch.setattr(lerobot, "require_room", lambda path, size: asked.append(size))
    lerobot.read(folder)
    assert asked == [2 * count * 8 * (3 + 2 + 1 + 1 + 1)]
    assert asked[0] > 20 * sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def test_the_checksum_is_of_the_actions_that_are_learned_from(tmp_path, problem):
    bounds = {"action_low": [LOW] * 2, "action_high": [HIGH] * 2}
    plain = sources.rows_of(*described(saved(tmp_path, **bounds)), problem)
    others = np.full((60, 2), 0.5, np.float32)
    false = sources.rows_of(*described(saved(tmp_path, agent_action=others, **bounds)), problem)
    np.testing.assert_array_equal(plain.action, false.action)


def described(path):
    return str(path), sources.describe_all([str(path)])[0]


def test_a_missing_package_is_named_with_its_fix(place, tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    (tmp_path / "metadata.json").write_text("{}")
    monkeypatch.setattr(minari.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"needs h5py .*pip install .*\[data\]"):
        minari.read(tmp_path)
    with pytest.raises(UserError, match=r"needs minari.* .*pip install .*\[data\]"):
        writing.write(place / "run", "minari", place / "not-made")
    assert not (place / "not-made").exists()


# What it does to replay and minibatches.


def numbered(count, episode=6):
    """Rows whose observations and rewards are their numbers, negative, in episodes."""
    number = -1.0 - np.arange(count, dtype=np.float32)
    final = np.arange(count) % episode == episode - 1
    final[-1] = True
    return Rows(number[:, None], number[:, None] / count, number, np.ones(count, np.float32), final)


def test_data_without_a_long_enough_episode_is_refused_before_anything_is_collected():
    replay = Replay(20, 1, 1, pinned=15)
    replay.pin(numbered(15))
    session = SimpleNamespace(algorithm=SimpleNamespace(sampling=Sampling(6)))
    with pytest.raises(UserError, match=r"^prefill: no episode has 6 decisions in a row"):
        prefilling._check_long_enough(session, replay)
    session.algorithm.sampling = Sampling(5)
    prefilling._check_long_enough(session, replay)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 60))
def test_pinned_rows_stay_while_the_ring_turns(seed, horizon, steps):
    rng = np.random.default_rng(seed)
    replay = Replay(20, 1, 1, pinned=15)
    replay.pin(numbered(15))
    for step in range(steps + 8):
        now, after = np.float32([step]), np.float32([step + 1])
        replay.add(now, np.zeros(1), step, after, terminated=False, last=False)
    sampling = Sampling(horizon)
    places = replay.draw(rng, 2, 8, sampling, pinned=3)
    batch = replay.take(places, sampling)
    reward = batch.reward.reshape(2, 8, horizon)
    after = batch.next_observation.reshape(2, 8, horizon)
    assert (reward[:, :5] >= 0).all()
    assert (reward[:, 5:] < 0).all()
    np.testing.assert_array_equal(after[:, :5], reward[:, :5] + 1)
    np.testing.assert_array_equal(after[:, 5:], reward[:, 5:] - 1)
    np.testing.assert_array_equal(replay.pinned_rows().reward, numbered(15).reward)


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_device_holds_pinned_rows_too(horizon):
    def put(trees):
        return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *trees)

    def zeros(seeds, like):
        return jax.tree.map(lambda leaf: jax.numpy.zeros((seeds, *leaf.shape), leaf.dtype), like)

    sampling = Sampling(horizon)
    fed = minibatches.resident(put, zeros, sampling, 15)
    replay, rng = Replay(20, 1, 1, pinned=15), np.random.default_rng(0)
    replay.pin(numbered(15))
    for step in range(45):
        replay.add(
            np.float32([step]), np.zeros(1), step, np.float32([step + 1]), terminated=False, last=False
        )
    places = replay.draw(rng, 2, 64, sampling, pinned=32)
    loaded = minibatches.on_device(fed.load(None, fed.pack([replay], [places])))
    rows, batch = fed.batches(jax.tree.map(lambda leaf: leaf[0], loaded))
    for got, want in zip(batch(rows), replay.take(places, sampling), strict=True):
        np.testing.assert_array_equal(got, want)


def test_without_pinned_rows_the_same_numbers_are_drawn_as_ever():
    replays_ = [Replay(20, 1, 1), Replay(20, 1, 1)]
    for step in range(30):
        for replay in replays_:
            replay.add(
                np.float32([step]), np.zeros(1), step, np.float32([step]), terminated=False, last=False
            )
    rng = np.random.default_rng(3)
    drawn = replays_[0].draw(np.random.default_rng(3), 2, 8)
    oldest = 10  # the ring holds rows 10 to 29, at their numbers' places in a ring of 21
    np.testing.assert_array_equal(drawn, (oldest + rng.integers(20, size=(2, 8))) % 21)


def test_learners_with_running_statistics_are_shown_the_data(algorithm):
    made = algorithm("simba")
    learn = learner.one_by_one(made)
    rng = np.random.default_rng(0)
    seen, reward = rng.standard_normal((5, 5), np.float32), rng.standard_normal(5).astype(np.float32)
    ended = np.array([False, True, False, False, True])
    first = [made.init(np.random.default_rng(seed)) for seed in range(2)]
    one = learn.observe_rows(learn.states(first), *(np.stack([each] * 2) for each in (seen, reward, ended)))
    other = learn.states(first)
    for i in range(5):
        other = learn.observe(other, *(np.stack([each[i]] * 2) for each in (seen, reward, ended)))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one[0]), jax.tree.leaves(first[0]), strict=True)
    )


# What it does to a run.


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_prefilled_run_resumes_bit_for_bit_without_its_file(share, place, tmp_path):
    (tmp_path / "once").mkdir()
    path = tmp_path / "once" / "recorded.npz"
    path.write_bytes((place / "npz" / "transitions.npz").read_bytes())
    choices = {"prefill": [path], "seeds": [0, 1]} | ({} if share is None else {"prefill_share": share})
    whole, said = train(tmp_path / "whole", frames=200, **choices)
    half, _ = train(tmp_path / "half", frames=130, **choices)
    path.unlink()
    crossq_wn.resume(half, frames=200)
    same_run(whole, half)
    assert "prefill: 300 transitions from recorded.npz (npz)" in said
    # Every seed begins with the data, and it is on disk once.
    config, kept = read_config(half), checkpoints.newest(half / "checkpoints", print)
    files = sorted((half / "checkpoints" / "replay").glob("prefill-*"))
    assert [file.name for file in files] == ["prefill-000000312.safetensors"]
    source = npz.read(place / "npz" / "transitions.npz")
    for seed in (0, 1):
        replay = building.make_replay(config, Spec(3, 2, 0.99), None)
        kept.fill(seed, replay)
        rows = replay.read(0, 312) if share is None else replay.pinned_rows()
        np.testing.assert_array_equal(rows.reward[~rows.final], source.reward)
        assert len(replay) == (500 if share is None else 200)
    assert config.pinned_samples == (0 if share is None else 4)


@pytest.mark.parametrize("share", [None, 0.5])
def test_the_file_of_the_data_is_mended_from_memory(share, place, tmp_path):
    choices = {"seeds": [0, 1]} | ({} if share is None else {"prefill_share": share})
    config = api.configure(helpers.PointMass, prefill=[place / "run"], **QUIET | choices)
    spec = Spec(3, 2, 0.99)
    rows = fitting.rows(
        replays.read(place / "run"),
        fitting.Problem(
            config.task, describe(building.make_environment(config, helpers.PointMass).simulator), 1, None
        ),
    )
    there = {seed: building.make_replay(config, spec, None) for seed in (0, 1)}
    for replay in there.values():
        replay.pin(rows) if share else replay.begin_with(rows)
    said = []
    writer = Writer(tmp_path / "run" / "checkpoints", said.append)
    (tmp_path / "run").mkdir()
    states = dict.fromkeys(there, checkpoints.SeedState({"x": np.zeros(1)}, {}))
    writer.save(0, {}, states, there, set())
    (file,) = (tmp_path / "run" / "checkpoints" / "replay").glob("prefill-*")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    writer.save(100, {}, states, there, set(), thorough=True)
    assert file.read_bytes() == content
    assert [each.startswith("replay on disk was damaged") for each in said] == [True]
    checkpoints.Checkpoint(tmp_path / "run" / "checkpoints" / "000000100")


def test_prefilled_runs_are_not_pooled_with_others(place, tmp_path):
    run, _ = train(tmp_path / "prefilled", prefill=place / "run", frames=200)
    (source,) = read_config(run).prefilled
    assert (source.name, source.kind) == ("run", "run")
    told = protocol.read_terms([place / "run", run])
    assert [len(group) for group in protocol.alike(told)] == [1, 1]
    named = f"prefill is none in {place / 'run'} and run@{source.sha256[:8]} in {run}"
    assert any(named in line for line in protocol.conflicts(told))
    apart = protocol.distinctions([[each] for each in told])
    assert apart[1].startswith(f"prefill run@{source.sha256[:8]}")
    labels = {terms.system.label for terms in told}
    assert any(f"prefill=run@{source.sha256[:8]}" in label for label in labels)
    assert len(labels) == 2
    manifest = json.loads((run / "manifest.json").read_text())["protocol"]
    assert manifest["prefill"] == source.sha256[:16]
    # Runs without data say nothing of it, as those of earlier versions.
    assert "prefill" not in json.loads((place / "run" / "manifest.json").read_text())["protocol"]
    compared = call("compare", place / "run", "--against", run, cwd=tmp_path)
    assert (compared.returncode, "prefill" in compared.stdout + compared.stderr) == (2, True)


def test_a_configuration_with_data_survives_its_file_and_a_sweeps_command_line(place, tmp_path):
    out, _ = train(tmp_path / "run", prefill=[place / "run"], prefill_share=0.25, frames=100)
    config = read_config(out)
    assert config == api.configure(
        helpers.PointMass, frames=100, prefill=place / "run", prefill_share=0.25, **QUIET
    )
    words = plans.command(plans.Run(tmp_path / "again", config))
    assert words.count("--prefill") == words.count("--prefill-share") == 1
    assert words[words.index("--prefill") + 1] == str(place / "run")


def test_a_plan_reads_its_data_once_for_all_runs(tmp_path, monkeypatch):
    path, read, real = saved(tmp_path), [], sources.read
    monkeypatch.setattr(sources, "read", lambda *found: (read.append(found[0]), real(*found))[1])
    text = "seeds_per_process = 1\n[defaults]\ntask = 'helpers:PointMass'\nseeds = '0:3'\n"
    text += f"prefill = ['{path}']\n"
    runs = plans.plan(sheets.parse(text + "[grid]\nutd = [1, 2, 3]", "file"), tmp_path / "out")
    assert len(runs) == 9
    assert read == [str(path)]


def test_data_that_changed_before_a_run_began_are_noticed(tmp_path, problem):
    path = saved(tmp_path)
    (source,) = sources.describe_all([str(path)])
    saved(tmp_path, reward=np.ones(60))
    with pytest.raises(UserError, match="has changed since the run was configured"):
        sources.rows_of(str(path), source, problem)


def test_replay_is_written_out_from_the_command_line(place, tmp_path):
    done = call("data", place / "run", "--to", "npz", "--out", tmp_path / "out", "--seed", "0", cwd=tmp_path)
    assert (done.returncode, "300 transitions" in done.stdout) == (0, True)
    for words, message in (
        (["--to", "csv", "--out", "x"], "--to csv is unknown: choose from minari, npz"),
        (["--to", "npz", "--out", tmp_path / "out"], "is not an empty folder: nothing is overwritten"),
        (["--to", "npz", "--out", "x", "--seed", "7"], "it has no seed 7: its seeds are 0"),
    ):
        refused = call("data", place / "run", *words, cwd=tmp_path)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


def test_an_npz_file_may_be_named_itself(place, tmp_path):
    file, folder = tmp_path / "deep" / "x.npz", tmp_path / "a.npz"
    assert writing.write(place / "run", "npz", file) == (file, 300)
    digests = {recording.digest(npz.read(each)) for each in (file, place / "npz" / "transitions.npz")}
    assert len(digests) == 1
    folder.mkdir()
    for there in (file, folder):
        with pytest.raises(UserError, match=rf"{there.name}.* exists: nothing is overwritten; choose"):
            writing.write(place / "run", "npz", there)
    with pytest.raises(UserError, match=r"cannot write out=.*y.npz"):
        writing.write(place / "run", "npz", file / "y.npz")


@pytest.mark.parametrize(("kind", "file"), [("npz", "out/transitions.npz"), ("minari", "out")])
def test_replay_is_written_to_a_folder_of_any_name_and_read_from_there(
    kind, file, place, problem, tmp_path, monkeypatch
):
    if kind == "minari":
        pytest.importorskip("minari")
        pytest.importorskip("h5py")
    done = call("data", place / "run", "--to", kind, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)  # where the name is relative to
    read = []
    for name in (file, str(place / "run")):
        (source,) = sources.describe_all([name])
        read.append(sources.rows_of(name, source, problem))
    rows, own = read
    np.testing.assert_array_equal(rows.observation, own.observation)
    np.testing.assert_allclose(rows.action, own.action, rtol=0, atol=1e-6)


def test_in_real_time_the_control_rate_is_that_of_the_clock(tmp_path):
    environment = building.make_environment(api.configure(helpers.PointMass), helpers.PointMass)
    path, said = saved(tmp_path, decision_seconds=0.05), []
    fits, other = (api.configure(helpers.PointMass, prefill=path, real_time=rate) for rate in (20, 50))
    rows = prefilling.rows_for(fits, environment, said.append)
    assert said == [f"prefill: {(~rows.final).sum()} transitions from mine.npz (npz)"]
    with pytest.raises(UserError, match=r"decisions are 0\.05 s apart and those of .*PointMass 0\.02 s"):
        prefilling.rows_for(other, environment, said.append)


def test_data_in_which_no_episode_ends_are_told_of_once(tmp_path):
    environment = building.make_environment(api.configure(helpers.PointMass), helpers.PointMass)
    path, said = saved(tmp_path, terminated=np.zeros(60, bool), truncated=np.zeros(60, bool)), []
    prefilling.rows_for(api.configure(helpers.PointMass, prefill=path), environment, said.append)
    assert said[0].startswith("prefill: no episode ends in mine.npz: unless all of it is one episode, mark ")
    assert said[1:] == ["prefill: 59 transitions from mine.npz (npz)"]


def test_data_far_outside_the_observation_space_are_told_of(tmp_path):
    environment = building.make_environment(api.configure(helpers.PointMass), helpers.PointMass)
    path, said = saved(tmp_path, observation=np.full((60, 3), 31.0)), []  # where the space ends at 10
    prefilling.rows_for(api.configure(helpers.PointMass, prefill=path), environment, said.append)
    assert said[1:] == [
        "prefill: 63 of 63 observations in mine.npz lie far outside the observation space, such as 31 at "
        "index 0 of the observation, where its space has -10 to 10: check the units"
    ]
