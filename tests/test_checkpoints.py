"""Does a checkpoint survive what disks do? Round trips, appended replay, damage, a full disk."""

import errno
import hashlib
import json
import os
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load as load_tensors

from crossq_wn.errors import UserError
from crossq_wn.learning.replay import Replay
from crossq_wn.learning.rows import Rows
from crossq_wn.runs import checkpoints, checksums, manifests
from crossq_wn.runs.checkpoints import SeedState
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.runs.writing import Writer

COMMON = {"decisions": 3, "logs": [[1, 2], [3]]}


def learner(offset=0.0):
    """A tree like a learner's: scalars, integers, nesting, an empty part."""
    return {
        "kernel": jnp.arange(6, dtype=jnp.float32).reshape(2, 3).T + offset,
        "log_temperature": jnp.float32(-4.6 + offset),
        "count": jnp.int32(7),
        "parts": [(jnp.ones(1), jnp.zeros((2, 0))), ()],
    }


def plain():
    """A tree like a seed's plain state."""
    return {
        "generator": np.random.default_rng(0).bit_generator.state,
        "observation": np.arange(3, dtype=np.float32),
        "environment": {"qpos": np.arange(4.0)[::2], "flag": np.array(True), "none": None, "deep": [[], {}]},
        "episodes": 3,
        "return": 1 / 3,
    }


def stepped(replay, count, start=0.0):
    """Adds transitions in episodes of ten."""
    for i in range(count):
        now = start + i
        replay.add(
            np.full(2, now), np.full(1, now), now, np.full(2, now + 1), terminated=False, last=i % 10 == 9
        )
    return replay


@cache
def writer(directory):
    """The one that a training process has for its run."""
    return Writer(directory)


def store(directory, frames, replay, keep=(), seeds=(0,)):
    states = {seed: SeedState(learner(frames), plain()) for seed in seeds}
    writer(directory).save(frames, COMMON, states, dict.fromkeys(seeds, replay), set(keep))
    return directory / f"{frames:09d}"


def segments(directory):
    return {path.name: path.read_bytes() for path in (directory / "replay").glob("*")}


def usable(directory):
    """The newest usable checkpoint and what was said about the others."""
    said = []
    return checkpoints.newest(directory, said.append), said


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_saved_is_loaded(tmp_path):
    replay = stepped(Replay(50, 2, 1), 25)
    store(tmp_path, 100, replay, seeds=(0, 3))
    found, said = usable(tmp_path)
    assert (found.frames, found.common, found.seeds, said) == (100, COMMON, [0, 3], [])
    state = found.state(3, learner())
    np.testing.assert_equal(state.plain, plain())
    for key, value in learner(100).items():
        if key != "parts":
            assert state.learner[key].dtype == value.dtype
            assert state.learner[key].shape == value.shape
            np.testing.assert_array_equal(state.learner[key], value)
    assert state.learner["parts"][1] == ()
    copy = Replay(50, 2, 1)
    found.fill(3, copy)
    for ours, theirs in zip(copy.read(0, copy.end), replay.read(0, replay.end), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_file_is_a_pickle(tmp_path):
    store(tmp_path, 100, stepped(Replay(50, 2, 1), 25))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not [path for path in files if path.name.startswith(".")]


def test_a_checkpoint_writes_only_the_rows_since_the_one_before(tmp_path):
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "replay").glob("*")}
    contents = segments(tmp_path)
    stepped(replay, 7, 500.0)
    store(tmp_path, 200, replay)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    added = segments(tmp_path).keys() - contents.keys()
    assert len(added) == 1
    (name,) = added
    assert load_tensors((tmp_path / "replay" / name).read_bytes())["reward"].shape == (7,)
    found, _ = usable(tmp_path)
    copy = Replay(1000, 2, 1)
    found.fill(0, copy)
    for ours, theirs in zip(copy.read(0, copy.end), replay.read(0, replay.end), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(copy.pending(), replay.pending())


def test_two_checkpoints_are_kept_and_no_segment_that_none_needs(tmp_path):
    replay = Replay(30, 2, 1)
    for frames in range(1, 9):
        store(tmp_path, frames, stepped(replay, 10, 100.0 * frames), keep={2} if frames < 8 else ())
        names = [int(path.name) for path in checkpoints.available(tmp_path)]
        kept = [f for f in range(1, frames + 1) if f > frames - 2 or (f == 2 and frames < 8)]
        assert names == kept
        needed = {
            segment["file"]
            for name in names
            for segment in json.loads((tmp_path / f"{name:09d}" / "manifest.json").read_text())["checkpoint"][
                "seeds"
            ]["0"]["replay"]["segments"]
        }
        assert segments(tmp_path).keys() == needed
    assert len(segments(tmp_path)) <= 5
    found, _ = usable(tmp_path)
    copy = Replay(30, 2, 1)
    found.fill(0, copy)
    assert len(copy) == len(replay)
    for ours, theirs in zip(
        copy.sample(np.random.default_rng(0), 1, 99), replay.sample(np.random.default_rng(0), 1, 99),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("how", ["altered", "truncated", "emptied", "removed"])
@pytest.mark.parametrize("what", ["manifest.json", "seed-0.safetensors", "segment"])
def test_damage_is_named_and_the_checkpoint_before_it_is_used(what, how, tmp_path):
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    old = segments(tmp_path).keys()
    newest = store(tmp_path, 200, stepped(replay, 7))
    if what == "segment":
        (name,) = segments(tmp_path).keys() - old
        path = tmp_path / "replay" / name
    else:
        path = newest / what
    if how == "altered":
        flip(path)
    elif how == "removed":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if how == "truncated" else 0)
    found, said = usable(tmp_path)
    assert found.frames == 100
    assert len(said) == 1
    assert "000000200 is damaged" in said[0]
    assert path.name in said[0]
    copy = Replay(1000, 2, 1)
    found.fill(0, copy)
    assert len(copy) == 25


def test_an_altered_but_valid_manifest_is_detected(tmp_path):
    store(tmp_path, 100, stepped(Replay(50, 2, 1), 5))
    path = store(tmp_path, 200, stepped(Replay(50, 2, 1), 6)) / "manifest.json"
    path.write_text(path.read_text().replace('"decisions": 3', '"decisions": 4'))
    found, said = usable(tmp_path)
    assert (found.frames, len(said)) == (100, 1)
    assert "altered" in said[0]


def test_a_manifest_of_another_kind_is_damage_and_no_accident(tmp_path):
    store(tmp_path, 100, stepped(Replay(50, 2, 1), 5))
    for frames, text in ((200, "[]"), (300, "null"), (400, '{"checkpoint": {}, "sha256": ""}')):
        folder = tmp_path / f"{frames:09d}"
        folder.mkdir()
        (folder / "manifest.json").write_text(text)
    found, said = usable(tmp_path)
    assert (found.frames, len(said)) == (100, 3)
    store(tmp_path, 500, stepped(Replay(50, 2, 1), 6))  # and saving goes on
    assert usable(tmp_path)[0].frames == 500


def test_a_copy_beside_a_checkpoint_is_left_alone(tmp_path):
    (tmp_path / "000000100-backup").mkdir()
    (tmp_path / "000000100").mkdir()
    assert [path.name for path in checkpoints.available(tmp_path)] == ["000000100"]


def test_no_usable_checkpoint_is_a_user_error_that_says_what_to_do(tmp_path):
    lacking = tmp_path / "run" / "checkpoints"
    lacking.mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"checkpoints: `crossq-wn resume .*run` trains it from its beginning$"
    ):
        usable(lacking)
    (tmp_path / "run" / "metrics.csv").write_text("seed,frames\n0,100\n")  # which would be lost
    with pytest.raises(UserError, match=r"checkpoints: start again with `crossq-wn train`$"):
        usable(lacking)
    path = store(tmp_path, 100, stepped(Replay(50, 2, 1), 5))
    flip(path / "seed-0.safetensors")
    with pytest.raises(UserError, match="start again"):
        usable(tmp_path)


def test_a_checkpoint_of_a_newer_version_is_refused_and_not_taken_for_damage(tmp_path):
    path = store(tmp_path, 100, stepped(Replay(50, 2, 1), 5)) / "manifest.json"
    body = json.loads(path.read_text())["checkpoint"] | {"schema": manifests.SCHEMA + 1}
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": digest, "checkpoint": body}))
    with pytest.raises(UserError, match="upgrade crossq-wn"):
        usable(tmp_path)


def test_a_learner_of_another_shape_is_refused(tmp_path):
    store(tmp_path, 100, stepped(Replay(50, 2, 1), 5))
    found, _ = usable(tmp_path)
    for changes in ({"kernel": jnp.zeros((2, 3))}, {"count": jnp.float32(0)}, {"extra": jnp.zeros(1)}):
        with pytest.raises(UserError, match="does not fit"):
            found.state(0, learner() | changes)


@pytest.mark.parametrize("call", range(8))
def test_a_full_disk_costs_nothing_that_was_there(call, tmp_path, monkeypatch):
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    stepped(replay, 5)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    if call < 6:  # seed, segment, manifest, three folders
        with pytest.raises(UserError, match=r"No space left on device.*resume"):
            store(tmp_path, 200, replay)
    else:
        store(tmp_path, 200, replay)
    monkeypatch.undo()
    assert all(path.read_bytes() == content for path, content in before.items())
    found, said = usable(tmp_path)
    assert said == []
    assert found.frames in ((100,) if call < 5 else (100, 200))
    partial = [path for path in tmp_path.rglob("*") if ".partial" in path.name]
    assert partial == []
    store(tmp_path, 200, replay)
    store(tmp_path, 300, stepped(replay, 5))
    assert usable(tmp_path)[0].frames == 300
    assert len(checkpoints.available(tmp_path)) == 2


def test_what_a_power_cut_left_half_done_is_ignored_and_cleared(tmp_path):
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    half = tmp_path / ".000000200.partial"
    half.mkdir()
    (half / "seed-0.safetensors").write_bytes(b"half")
    (tmp_path / "replay" / "seed-0-000000027-000000030.safetensors").write_bytes(b"half")
    (tmp_path / "replay" / ".seed-0-000000027-000000030.safetensors.partial").write_bytes(b"half")
    assert usable(tmp_path)[0].frames == 100
    store(tmp_path, 200, stepped(replay, 3))
    assert usable(tmp_path)[0].frames == 200
    assert not half.exists()
    assert not list((tmp_path / "replay").glob("*.partial")) + list((tmp_path / "replay").glob(".*"))


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    """It is said and nothing is passed over or written again, while training goes on."""
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    before = segments(tmp_path)
    monkeypatch.setattr(checksums, "available_memory", lambda: 10)
    with pytest.raises(
        UserError, match=r"seed-0.safetensors takes .* bytes and only 10 bytes are free: free"
    ):
        usable(tmp_path)
    store(tmp_path, 200, stepped(replay, 5))  # which looks after the file of the rows before
    assert before.items() <= segments(tmp_path).items()
    monkeypatch.undo()
    found, said = usable(tmp_path)
    assert (found.frames, said) == (200, [])


def test_a_damaged_segment_is_not_built_upon(tmp_path):
    replay = stepped(Replay(1000, 2, 1), 25)
    store(tmp_path, 100, replay)
    old = segments(tmp_path).keys()
    stepped(replay, 7)
    store(tmp_path, 200, replay)
    (name,) = segments(tmp_path).keys() - old
    flip(tmp_path / "replay" / name)
    # Training went back to 100 frames and came to 200 and 300 once more.
    found, _ = usable(tmp_path)
    again = Replay(1000, 2, 1)
    found.fill(0, again)
    writer(tmp_path).continue_from(found)
    store(tmp_path, 200, stepped(again, 7))
    store(tmp_path, 300, stepped(again, 7))
    found, said = usable(tmp_path)
    assert (found.frames, said) == (300, [])
    assert found.path.parent == tmp_path


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            DamagedError("seed-0.safetensors is lost"),
            r"^run is damaged \(seed-0\.safetensors is lost\): restore",
        ),
        (
            KeyError("decisions"),
            r"^run is malformed, though its checksums are right \(KeyError: 'decisions'\)",
        ),
        (UserError("upgrade crossq-wn"), "^upgrade crossq-wn$"),
    ],
)
def test_a_damaged_checkpoint_and_a_malformed_one_are_told_apart(error, says):
    with pytest.raises(UserError, match=says), manifests.malformed(Path("run")):
        raise error


def test_damaged_rows_that_every_minibatch_needs_are_named_with_the_way_on(tmp_path):
    ones = np.ones(15, np.float32)
    rows = Rows(ones[:, None], ones[:, None], ones, ones, np.arange(15) == 14)
    replay = Replay(20, 1, 1, pinned=15)
    replay.pin(rows)
    replay.add(np.ones(1), np.ones(1), 1.0, np.ones(1), terminated=False, last=True)
    states = {0: SeedState({"kernel": np.ones(2, np.float32)}, {})}
    folder = tmp_path / "checkpoints"
    Writer(folder).save(100, {"decisions": 1}, states, {0: replay}, set())
    (file,) = (folder / "replay").glob("prefill-*")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    for without in (False, True):
        told = []
        with pytest.raises(UserError) as refused:
            checkpoints.newest(folder, told.append, without_damaged_replay=without)
        assert file.name in told[0]
        assert "put back the file of prefilled rows" in str(refused.value)
        assert "without_damaged_replay=True cannot leave them out" in str(refused.value)
        assert "resume" not in str(refused.value)  # which would not help
    (other,) = set((folder / "replay").iterdir()) - {file}
    sound = other.read_bytes()
    other.write_bytes(sound[:-1] + b"x")
    for without in (False, True):  # also where other rows are damaged, which could be left out
        with pytest.raises(UserError, match="put back the file of prefilled rows"):
            checkpoints.newest(folder, [].append, without_damaged_replay=without)
    other.write_bytes(sound)
    file.write_bytes(content)
    assert checkpoints.newest(folder, pytest.fail).frames == 100
