"""Does damage to a run's files pass unseen, end the run or change its numbers?"""

import contextlib
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import crossq_wn
import helpers
from crossq_wn import files
from crossq_wn.errors import UserError, fix_for
from crossq_wn.learning.replay import Replay
from crossq_wn.runs.checkpoints import Checkpoint, SeedState, newest
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.runs.config import read_json
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.manifests import newest_common
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.runs.recovery import of_length, recover_config
from crossq_wn.runs.seals import signed
from crossq_wn.runs.tables import EVAL_COLUMNS, Table
from crossq_wn.runs.writing import Writer
from crossq_wn.signals import collected_signals
from crossq_wn.training import api, restoring
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener, same_run


def train(out, frames=300, seeds=(0, 1), **options):
    return crossq_wn.train(
        "helpers:PointMass",
        algorithm="sac",
        frames=frames,
        seeds=seeds,
        out=out,
        **(TINY_OPTIONS | options),
        **TINY_SETTINGS,
    )


def resume(run, frames=350, **options):
    """Resumes and returns what was said."""
    listener = Listener()
    assert crossq_wn.resume(run, frames=frames, reporter=listener, **options).finished
    return listener.messages


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds to 300 frames, not to be changed."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(path)
    return path


@pytest.fixture(scope="module")
def longer(trained, tmp_path_factory):
    """The same, resumed to 350 frames undisturbed."""
    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("longer") / "run"))
    resume(path)
    return path


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def flips(path, count):
    """Every bit of a file, or so many drawn at random, as (position, bit)."""
    everywhere = [(position, bit) for position in range(path.stat().st_size) for bit in range(8)]
    if count is None or count >= len(everywhere):
        return everywhere
    return random.Random(0).sample(everywhere, count)


# --- config.json


def unseen_flips_of_the_configuration(run, count):
    path, before, missed = run / "config.json", recover_config(run, print), []
    content = path.read_bytes()
    for position, bit in flips(path, count):
        flip(path, position, bit)
        said = []
        assert recover_config(run, said.append) == before
        same = json.loads(content) == _parsed(path)  # as 1E-8 is 1e-8
        if not said and not same:
            missed.append((position, bit))
        path.write_bytes(content)
    return missed


def _parsed(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


@pytest.mark.parametrize("count", [300, pytest.param(None, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_the_configuration_changes_the_run_unseen(count, copy, capsys):
    assert unseen_flips_of_the_configuration(copy, count) == []
    tell_of_flips(capsys, copy / "config.json", count, "resume")


@pytest.mark.parametrize("count", [300, pytest.param(None, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_a_manifest_passes_unseen(count, copy, capsys):
    path = copy / "manifest.json"
    before, content = read_manifest(copy), path.read_bytes()
    for position, bit in flips(path, count):
        flip(path, position, bit)
        with contextlib.suppress(UserError):
            assert read_manifest(copy) == before  # as it is where a blank becomes another
        path.write_bytes(content)
    tell_of_flips(capsys, path, count, "read_manifest")


def test_checksums_of_earlier_versions_hold(copy):
    """They were of the values, whatever the text."""
    for name, read in (("config.json", read_json), ("manifest.json", read_manifest)):
        values = read(copy)
        (copy / name).write_text(json.dumps(signed(values)))
        assert read(copy) == signed(values) != values
        (copy / name).write_text(json.dumps(values))
        with pytest.raises(UserError, match="altered"):
            read(copy)


def tell_of_flips(capsys, path, count, by):
    with capsys.disabled():
        print(f"\nbits flipped in {path.name}: {len(flips(path, count)):,}, passed unseen by {by}: 0")


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_a_checkpoint_passes_unseen(count, copy, capsys):
    folder = copy / "checkpoints" / "000000300"
    before = Checkpoint(folder)
    state = before.frames, before.common, [before.statistics(seed) for seed in before.seeds]
    for path in (*folder.iterdir(), *(folder.parent / "replay").iterdir()):
        content = path.read_bytes()
        for position, bit in flips(path, count):
            flip(path, position, bit)
            with contextlib.suppress(DamagedError):  # an equal manifest may be written in other letters
                found = Checkpoint(folder)
                there = found.frames, found.common, [found.statistics(seed) for seed in found.seeds]
                assert path.name == "manifest.json", (position, bit)
                assert there == state, (position, bit)
            path.write_bytes(content)
        tell_of_flips(capsys, path, count, "resume")


def altered(change):
    """By hand: the checksum stays as it was."""

    def alter(path):
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return alter


ALTERATIONS = {
    "lost": (Path.unlink, "is lost or damaged: restored"),
    "a seed removed": (
        altered(lambda v: v["options"].update(seeds=[0])),
        "has been altered (seeds (0,), was (0, 1)): restored",
    ),
    "a key renamed": (altered(lambda v: v.update(tusk=v.pop("task"))), "is lost or damaged: restored"),
    "unsigned, a seed removed": (
        altered(lambda v: (v.pop("sha256"), v["options"].update(seeds=[0]))),
        "has been altered (seeds (0,), was (0, 1)): restored",
    ),
    "unsigned, a seed added": (
        altered(lambda v: (v.pop("sha256"), v["options"].update(seeds=[0, 1, 2]))),
        "has been altered (seeds (0, 1, 2), was (0, 1)): restored",
    ),
    "unsigned, fewer frames": (
        altered(lambda v: (v.pop("sha256"), v["options"].update(frames=200))),
        "has been altered (frames 200, was 300): restored",
    ),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_an_altered_configuration_is_restored_with_a_line(what, copy, longer):
    alter, says = ALTERATIONS[what]
    alter(copy / "config.json")
    said = resume(copy)
    assert sum(says in line for line in said) == 1, said
    same_run(longer, copy, seeds=(0, 1))
    assert json.loads((copy / "config.json").read_text()) == json.loads((longer / "config.json").read_text())


def test_frames_that_resume_wrote_outlive_a_crash_before_the_next_checkpoint(copy):
    helpers.alter_config(copy, lambda values: values["options"].update(frames=350))
    said = []
    assert recover_config(copy, said.append).options.frames == 350
    assert said == []


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_other_seeds_than_an_older_checkpoint_has_are_refused(seeds, copy, monkeypatch):
    monkeypatch.setattr("crossq_wn.runs.recovery.newest_common", lambda directory: {})  # none keeps a config
    helpers.alter_config(copy, lambda values: values["options"].update(seeds=list(seeds)))
    with pytest.raises(crossq_wn.UserError, match=r"names the seeds .* the checkpoint has \[0, 1\]"):
        resume(copy)


# --- before the first checkpoint


def interrupted(path, monkeypatch, where):
    """A run whose process ended before its first checkpoint."""

    class PowerCutError(BaseException):
        pass

    def cut(*arguments, **options):
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(where, cut)
        with pytest.raises(PowerCutError):
            train(path)
    return path


WHERE = ["crossq_wn.training.loop.begin", "crossq_wn.training.loop.save"]


@pytest.mark.parametrize("how", ["resume", "train"])
@pytest.mark.parametrize("where", WHERE)
def test_before_the_first_checkpoint_both_commands_just_start(where, how, trained, tmp_path, monkeypatch):
    run = interrupted(tmp_path / "run", monkeypatch, where)
    if how == "resume":
        resume(run, frames=None)
    else:
        train(run)
    same_run(trained, run, seeds=(0, 1))


def test_a_run_that_has_not_begun_is_not_taken_over_by_another(tmp_path, monkeypatch):
    run = interrupted(tmp_path / "run", monkeypatch, WHERE[0])
    with pytest.raises(crossq_wn.UserError, match="holds a run: nothing is overwritten"):
        train(run, seeds=(5,))


def test_a_run_without_its_checkpoints_is_not_started_again(copy):
    shutil.rmtree(copy / "checkpoints")
    before = (copy / "eval.csv").read_bytes()
    for attempt in (resume, train):
        with pytest.raises(crossq_wn.UserError):
            attempt(copy)
    assert (copy / "eval.csv").read_bytes() == before


@pytest.mark.parametrize(
    "left", [[], [".lock"], [".lock", ".config.json.partial"], [".lock", "manifest.json"]]
)
def test_what_a_kill_left_of_a_directory_is_taken_over(left, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()
    interrupted(tmp_path / "run", monkeypatch, WHERE[0])
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("where", WHERE)
def test_what_cannot_start_leaves_no_directory(where, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise crossq_wn.UserError("no")

    monkeypatch.setattr(where, refuse)
    with pytest.raises(crossq_wn.UserError):
        train(tmp_path / "some" / "where" / "run")
    assert list(tmp_path.iterdir()) == []


# --- logs

LOGS = ("metrics.csv", "metrics.jsonl", "eval.csv")


def as_a_spreadsheet(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def digit(path):
    """Changes one digit in the middle."""
    content = bytearray(path.read_bytes())
    place = next(i for i in range(len(content) // 2, len(content)) if content[i] in b"012345678")
    content[place] += 1
    path.write_bytes(content)


LOG_DAMAGE = {
    "lost": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut in mid-row": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a digit changed": digit,
    "CRLF": as_a_spreadsheet,
    "junk": lambda path: path.write_bytes(b"\xff\x00junk\n" * 500),
}


@pytest.mark.parametrize("how", LOG_DAMAGE)
@pytest.mark.parametrize("name", LOGS)
def test_a_damaged_log_is_written_again_as_it_was(name, how, copy, longer):
    LOG_DAMAGE[how](copy / name)
    said = resume(copy)
    assert sum(f"{name} was missing or altered: written again" in line for line in said) == 1, said
    same_run(longer, copy, seeds=(0, 1))
    for each in LOGS:
        assert (copy / each).read_bytes() == (longer / each).read_bytes(), each


@pytest.mark.parametrize("how", LOG_DAMAGE)
def test_metrics_that_nothing_can_mend_are_set_aside(how, copy):
    for name in LOGS[:2]:
        digit(copy / name)
    LOG_DAMAGE[how](copy / "metrics.csv")
    damaged = (copy / "metrics.csv").read_bytes() if how != "lost" else None
    said = resume(copy)
    assert damaged is None or (copy / "metrics.csv.damaged-1").read_bytes() == damaged
    assert any("set aside as" in line for line in said)
    assert {int(row["frames"]) for row in helpers.rows(copy / "metrics.csv")} == {350}


def unseen_flips_of_a_log(run, name, count):
    """The bits of rows that the checkpoint remembers after whose flip the log is not as it was, or unsaid."""
    metrics, evaluations = newest_common(run / "checkpoints")["logs"]
    if name == "eval.csv":
        table, positions = Table(run / name, EVAL_COLUMNS, kept=True), evaluations
    else:
        columns = (run / "metrics.csv").read_text().split("\n")[0].split(",")
        table, positions = Table(run / "metrics.csv", columns, lines=True), metrics
    table.resume(positions, print)  # rows of later evaluations go
    whole, missed = (run / name).read_bytes(), []
    for place, bit in flips(run / name, count):
        said = []
        flip(run / name, place, bit)
        table.resume(positions, said.append)
        if len(said) != 1 or (run / name).read_bytes() != whole:
            missed.append((place, bit))
    return missed


@pytest.mark.parametrize(
    "count",
    [150, pytest.param(10_000, marks=pytest.mark.slow), pytest.param(None, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", LOGS)
def test_no_flipped_bit_in_a_log_passes_unseen(name, count, copy, capsys):
    assert unseen_flips_of_a_log(copy, name, count) == []
    tell_of_flips(capsys, copy / name, count, "resume")


def test_the_sizes_that_older_checkpoints_keep_never_cut_a_row(tmp_path):
    table = Table(tmp_path / "eval.csv", ("a", "b"))
    table.begin()
    table.append([{"a": 1, "b": 2}])
    (size,) = (file["size"] for file in table.position())
    table.append([{"a": 3, "b": 4}])
    as_a_spreadsheet(table.path)
    said = []
    table.resume([size], said.append)
    assert table.path.read_text() == "a,b\n1,2\n"
    assert len(said) == 1
    table.path.write_text("a,b\n10,2\n")
    table.resume([size], said.append)
    assert table.path.read_text() == "a,b\n"
    assert (tmp_path / "eval.csv.damaged-1").read_text() == "a,b\n10,2\n"


def test_a_lost_table_beside_lines_that_are_no_json_begins_anew(tmp_path):
    """Checkpoints of earlier versions know sizes alone, so that damaged lines look sound."""
    table = Table(tmp_path / "metrics.csv", ("a", "b"), lines=True)
    table.begin()
    table.append([{"a": 1, "b": 2}])
    sizes = [position["size"] for position in table.position()]
    table.path.unlink()
    lines = tmp_path / "metrics.jsonl"
    lines.write_bytes(b"?" + lines.read_bytes()[1:])
    said = []
    table.resume(sizes, said.append)
    assert table.path.read_text() == "a,b\n"
    assert len(said) == 1
    assert "set aside as metrics.jsonl.damaged-1" in said[0]


def test_a_torn_row_of_timing_is_dropped(copy):
    with open(copy / "timing.csv", "a") as file:
        file.write("300,1")
    resume(copy)
    assert all(row["act_ms"] for row in helpers.rows(copy / "timing.csv"))


# --- signals, foreign exceptions, lost output


@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM", "SIGXCPU", "SIGTERM", "SIGINT"])
def test_a_deadly_signal_is_collected_once_and_then_deadly_again(name):
    number = getattr(signal, name)
    outside = signal.getsignal(number)
    if outside == signal.SIG_IGN:  # as under nohup
        signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    try:
        with collected_signals() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
            assert signal.getsignal(number) == before
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, outside)


def test_a_signal_that_is_ignored_or_handled_stays_so(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collected_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


class Faulty(helpers.PointMass):
    """After 60 steps of its second object it raises what the test chose."""

    error: BaseException = SystemExit(3)
    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.failing, self.lifetime = type(self).made == 2, 0

    def step(self, action):
        self.lifetime += 1
        if self.failing and self.lifetime > 60:
            raise self.error
        return super().step(action)

    def close(self):
        if self.failing:
            raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyError("knee")])
def test_any_exception_of_an_environment_stops_its_seed_alone(error, tmp_path, monkeypatch):
    monkeypatch.setattr(Faulty, "error", error)
    monkeypatch.setattr(Faulty, "made", 0)
    listener = Listener()
    outcome = crossq_wn.train(
        Faulty, algorithm="sac", frames=100, seeds=(0, 1), out=tmp_path / "run", reporter=listener,
        **TINY_OPTIONS, **TINY_SETTINGS,
    )  # fmt: skip
    assert outcome.finished
    assert outcome.failed.keys() == {1}
    assert f"raised {type(error).__name__}" in outcome.failed[1]
    kept = tmp_path / "run" / "errors" / "seed-1.txt"
    assert f"traceback: {kept}" in outcome.failed[1]
    assert "in step\n    raise self.error" in kept.read_text()
    assert sum("could not be closed" in line for line in listener.messages) == 1


@pytest.mark.parametrize("where", ["/dev/full", "a pipe that nobody reads"])
def test_a_run_whose_output_is_lost_trains_to_its_end(where, tmp_path):
    if where == "/dev/full":
        output = os.open(where, os.O_WRONLY)
    else:
        reading, output = os.pipe()
        os.close(reading)
    command = [
        sys.executable,
        "-m",
        "crossq_wn",
        "train",
        "helpers:PointMass",
        "--frames",
        "100",
        "--out",
        "run",
    ]
    done = subprocess.run(
        [*command, *helpers.TINY, "--algorithm", "sac", "--no-diagnostics", "--warmup", "1000"],
        cwd=tmp_path, stdout=output, stderr=subprocess.PIPE, text=True,
        env=helpers.environment_variables(), check=False,
    )  # fmt: skip
    os.close(output)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "checkpoints" / "000000100").exists()
    assert list((tmp_path / "run" / "plots").iterdir())


# --- the file system


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EMFILE, "raise the limit of open files"),
        (errno.EACCES, "make it writable"),
        (errno.EFBIG, "raise the limit of file sizes"),
        (errno.EIO, "check the disk"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.ENOSYS, "mend that"),
    ],
)
def test_the_fix_fits_the_error(number, fix):
    assert fix in fix_for(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EACCES])
def test_an_error_names_the_whole_path(number, tmp_path, monkeypatch):
    """Of which the system says the last part alone, or nothing."""

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    run = RunDirectory(tmp_path)
    monkeypatch.setattr(files.os, "fsync" if number == errno.EFBIG else "replace", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        run.write_json("config.json", {})
    assert error.value.filename == str(tmp_path / "config.json")
    monkeypatch.undo()
    run.close()


def test_a_run_that_was_moved_is_not_said_to_be_taken_over(tmp_path):
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(crossq_wn.UserError, match="run was moved or removed while it was in use: "):
        run.write_json("config.json", {})
    run.close()


def test_a_run_that_is_to_be_shorter_than_planned_says_so(tmp_path):
    said, planned = [], api.configure("cheetah-run", frames=300)
    for frames in (300, None, 400, 200):
        of_length(tmp_path, planned, frames, said.append)
    assert said == [f"{tmp_path} was to train for 300 frames, and now ends at 200"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EAGAIN])
def test_only_a_lock_that_is_held_means_another_process(number, tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if number == errno.EAGAIN:
        with pytest.raises(crossq_wn.UserError, match="in use by another process"):
            RunDirectory(tmp_path)
    else:
        assert RunDirectory(tmp_path).unlocked == os.strerror(number)


# --- replay


def segments(run, seed=0):
    return sorted((run / "checkpoints" / "replay").glob(f"seed-{seed}-*"))


def test_a_damaged_segment_is_written_again_from_memory_while_training_goes_on(copy, longer, monkeypatch):
    (oldest, *_) = segments(copy)
    content = oldest.read_bytes()
    real = restoring.restore

    def restore_then_damage(session, *tried, **options):
        real(session, *tried, **options)
        flip(oldest, len(content) // 2, 3)

    monkeypatch.setattr("crossq_wn.training.loop.restore", restore_then_damage)
    said = resume(copy)
    assert sum("written again from memory" in line and oldest.name in line for line in said) == 1, said
    assert oldest.read_bytes() == content
    monkeypatch.undo()
    same_run(longer, copy, seeds=(0, 1))
    resume(copy, frames=360)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_run_goes_on_without_damaged_replay_if_asked_to(which, copy):
    path = segments(copy, 1)[which]
    flip(path, path.stat().st_size // 2, 3)
    older = copy / "checkpoints" / "000000200"
    if which == -1:
        shutil.rmtree(older)  # which is sound
    with pytest.raises(crossq_wn.UserError, match=r"resume .* --without-damaged-replay"):
        resume(copy)
    said = resume(copy, without_damaged_replay=True)
    first, last = (int(part) for part in path.stem.split("-")[2:])
    assert any(f"seed 1 goes on without {last - first} rows of replay" in line for line in said), said
    (noted,) = json.loads((copy / "manifest.json").read_text())["lost_replay"]
    assert noted == {"frames": 300, "seed": 1, "rows": last - first}
    replay = Replay(1000, 3, 2)
    newest(copy / "checkpoints", print).fill(1, replay)
    rows = replay.read(0, replay.end)
    assert rows.final[first:last].all()  # no transition starts there
    assert first == 0 or rows.final[first - 1]  # nor leads there
    assert not rows.observation[first:last].any()
    assert rows.observation[last:].any(axis=1).all()
    resume(copy, frames=360)  # and the next time nothing is missing
    assert len(json.loads((copy / "manifest.json").read_text())["lost_replay"]) == 1


def test_nothing_left_of_replay_is_said(copy):
    for path in segments(copy):
        path.write_bytes(b"")
    with pytest.raises(crossq_wn.UserError, match="nothing is left of the replay of seed 0"):
        resume(copy, without_damaged_replay=True)


def test_the_end_of_training_verifies_all_of_replay(tmp_path):
    replay, said = Replay(1000, 2, 1), []
    writer = Writer(tmp_path / "checkpoints", said.append)
    state = {0: SeedState({}, {})}
    for frames in (100, 200, 300, 400):
        for i in range(10):
            replay.add(np.full(2, i), np.zeros(1), 0.0, np.full(2, i + 1), terminated=False, last=i == 9)
        writer.save(frames, {}, state, {0: replay}, set())
    whole = {path: path.read_bytes() for path in segments(tmp_path)}
    for path in whole:
        flip(path, 200, 1)
    writer.save(400, {}, state, {0: replay}, set(), thorough=True)
    assert len(said) == len(whole) == 4
    assert {path: path.read_bytes() for path in segments(tmp_path)} == whole
    assert newest(tmp_path / "checkpoints", print).frames == 400


def test_what_a_full_ring_still_holds_of_a_damaged_segment_is_saved(tmp_path):
    replay, said = Replay(25, 2, 1), []
    writer = Writer(tmp_path / "checkpoints", said.append)
    state = {0: SeedState({}, {})}
    for frames in (100, 200, 300):
        for i in range(10):
            replay.add(np.full(2, i), np.zeros(1), 0.0, np.full(2, i + 1), terminated=False, last=False)
        writer.save(frames, {}, state, {0: replay}, set())
    flip(segments(tmp_path)[0], 200, 1)
    writer.save(300, {}, state, {0: replay}, set(), thorough=True)
    assert len(said) == 1
    again = Replay(25, 2, 1)
    newest(tmp_path / "checkpoints", print).fill(0, again)
    for ours, theirs in zip(again.read(5, 30), replay.read(5, 30), strict=True):
        np.testing.assert_array_equal(ours, theirs)
