"""Are the runs of a sweep planned as its file says, none lost and none done twice, whatever happens?"""

import errno
import fcntl
import itertools
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from crossq_wn import files
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli import requests
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.console import tell
from crossq_wn.cli.requests import divided
from crossq_wn.cli.sweep import _agree
from crossq_wn.cli.train import configured
from crossq_wn.errors import UserError
from crossq_wn.fences import LostLeaseError
from crossq_wn.machine import gpus, memory_of_session
from crossq_wn.runs import leases
from crossq_wn.runs.seals import signed
from crossq_wn.sweeps import bills, driver, driving, engines, history, local, scheduling, states, status
from crossq_wn.sweeps.driver import Need, Sweep
from crossq_wn.sweeps.driving import drive
from crossq_wn.sweeps.history import RETRIES, Attempt
from crossq_wn.sweeps.outages import Outage
from crossq_wn.sweeps.plans import Run, command, flat_name, folder_of, plan, seed_range
from crossq_wn.sweeps.scheduling import Going, Outlook, Room, Start, Waiting, next_jobs, outlook
from crossq_wn.sweeps.sheets import MOST_RUNS, parse, seed_numbers, written
from crossq_wn.sweeps.states import State, state_of
from crossq_wn.sweeps.watching import Watch
from crossq_wn.training import api
from helpers import rows
from hostile import command as command_line
from house import ROOT

# --- What a file says

PAPER = """
# Comments survive.
seeds_per_process = 2
[defaults]
frames = 1_000_000
seeds = "0:5"            # without 5
[grid]
task = ["dog-run", "humanoid-run"]
utd = [1, 2]
[[list]]
algorithm = "crossq-wn"
weight-norm = "none"
[[list]]
algorithm = "bro"
resets = [15001, 50001]
[group.easy.defaults]
frames = 200_000
[group.easy.grid]
task = ["walker-run"]
"""


def test_a_file_describes_a_grid_a_list_and_groups(tmp_path):
    runs = plan(parse(PAPER, "file"), tmp_path)
    assert len(runs) == (2 * 2 * 2 + 1) * 3
    found = {(run.config.task, run.config.system.label, run.config.options.seeds) for run in runs}
    labels = ["crossq-wn UTD 1 (weight_norm=none)", "crossq-wn UTD 2 (weight_norm=none)"]
    labels += [f"bro UTD {utd} (resets=(15001, 50001))" for utd in (1, 2)]
    wanted = set(itertools.product(("dog-run", "humanoid-run"), labels, ((0, 1), (2, 3), (4,))))
    assert found == wanted | {("walker-run", "crossq-wn UTD 2", seeds) for seeds in ((0, 1), (2, 3), (4,))}
    assert {run.config.options.frames for run in runs if run.config.task == "walker-run"} == {200_000}
    assert runs[0].path == tmp_path / "dog-run" / "crossq-wn-utd-1-weight-norm-none" / "seeds-0-1"
    assert not any(run.config.options.video or run.config.options.tensorboard for run in runs)


def test_a_larger_sweep_keeps_the_folders_of_its_runs(tmp_path):
    """Whatever else varies, and however long the runs become."""
    small = plan(parse('[defaults]\ntask = "dog-run"\nseeds = "0:2"', "file"), tmp_path)
    text = '[defaults]\nseeds = "0:2"\nframes = 3_000_000\n[grid]\ntask = ["dog-run", "cat"]\nutd = [2, 5]'
    large = plan(parse(text.replace("cat", "walker-run"), "file"), tmp_path)
    assert {run.path for run in small} < {run.path for run in large}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[grid", "file is not TOML: "),
        ("[gird]\ntask = ['dog-run']", "unknown key 'gird': did you mean 'grid'?"),
        ("frames = 3", "unknown key 'frames': options belong in [defaults]"),
        ("sweep = 2", "sweep is 2, and this version reads 1: upgrade"),
        ("sweep = 0", "sweep is 0: it is the format of the file, which is 1"),
        ("sweep = true", "sweep is True: it is the format of the file, which is 1"),
        ("seeds_per_process = 1\n[defaults]\ntask = 'dog-run'\nseeds = '0:100000'\n"
         "[grid]\nutd = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "describes 1,000,000 runs, and at most 100,000"),
        ("", "file names no task"),
        ("[grid]\ntask = []", "grid.task is []: it takes a list of at least one value"),
        ("[grid]\ntask = 'dog-run'", 'grid.task is "dog-run": it takes a list'),
        ("[grid]\nseeds = [0, 1]\ntask = ['dog-run']", "seeds belong to [defaults]"),
        ("grid = 3", "grid is 3: write it as a table, [grid]"),
        ("list = []", "list is not a list of tables"),
        ("[list]\ntask = 'dog-run'", "write [[list]] above each"),
        ("[group]\nx = 3", "group.x is 3: it takes tables"),
        ("[group.x]\nseeds = 3", "group.x: unknown key 'seeds'"),
        ("[defaults]\ntask = 'dog-run'\nutd = 1\n[grid]\nutd = [1, 2]", "utd is in the grid and is given"),
        ("[[list]]\nutd = 1\n[grid]\nutd = [1]\ntask = ['dog-run']", "utd is in the grid and is given"),
        ("[defaults]\ntask = 'dog-run'\nbatch-size = 1\nbatch_size = 2", "batch_size is there twice"),
        ("[defaults.task]\nx = 1", "defaults.task is a table"),
        ("seeds_per_process = 0\n[defaults]\ntask = 'dog-run'", "seeds_per_process is 0"),
        ("[defaults]\ntask = 'dog-run'\nseeds = '3:3'", 'seeds is "3:3": a range goes upwards'),
        ("[defaults]\ntask = 'dog-run'\nseeds = [0, 0]", "none twice"),
        ("[defaults]\ntask = 'dog-run'\nseeds = 1.5", "seeds is 1.5: give numbers"),
        ("[defaults]\ntask = 'dog-run'\nseeds = true", "seeds is true"),
        ("[defaults]\ntask = 'dog-run'\nseed = 1\nseeds = 2", "leave one out"),
        ("[defaults]\ntask = 'dog-rn'", "did you mean 'dog-run'?"),
        ("[defaults]\ntask = 'dog-run'\nut = 3", "no option or hyperparameter 'ut': did you mean 'utd'?"),
        ("[defaults]\ntask = 'dog-run'\nutd = 'x'", "utd is 'x'"),
        ("[defaults]\ntask = 3", "task"),
        ("[defaults]\ntask = 'dog-run'\nalgorithm = 'crosq'", "did you mean 'crossq"),
        ("[defaults]\ntask = 'dog-run'\n[grid]\nframes = [10, 20]", "described twice, with different frames"),
        ("[defaults]\ntask = 'dog-run'\n[grid]\ntarget_entropy_scale = [0.25, -0.25]", "have one folder, "),
        (f"[grid]\ntask = ['dog-run']\nutd = {list(range(1000))}\nbatch_size = {list(range(1001))}",
         "describes 1,001,000 runs, and at most 100,000"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(text, says, tmp_path):
    with pytest.raises(UserError) as error:
        plan(parse(text, "file"), tmp_path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


VALUES = st.one_of(
    st.integers(0, 10**6),
    st.booleans(),
    st.text(min_size=1),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.dictionaries(st.sampled_from(["utd", "x", "batch_size"]), st.lists(VALUES, min_size=1, max_size=3)))
def test_options_are_written_as_a_file_that_says_the_same(options):
    options = {"task": ["a", "b"], **options}
    (section,) = parse(written(options, 3, "a 'note'"), "file").sections
    assert dict(section.grid) == {name: values for name, values in options.items() if len(values) > 1}
    assert dict(section.defaults) == {name: values[0] for name, values in options.items() if len(values) == 1}
    assert len(list(section.assignments())) == section.size


def test_options_of_the_command_line_may_have_several_values(tmp_path):
    line = "--task dog-run,humanoid-run --algorithm crossq-wn,simba --utd=1,2,5 --seeds 0:10 --frames 1e6 "
    own, options = divided(_parser(), (line + "--no-diagnostics --out x --dry-run").split())
    assert own == ["--out", "x", "--dry-run"]
    assert options == {
        "task": ["dog-run", "humanoid-run"], "algorithm": ["crossq-wn", "simba"], "utd": [1, 2, 5],
        "seeds": ["0:10"], "frames": [1_000_000], "diagnostics": [False],
    }  # fmt: skip
    runs = plan(parse(written(options, 5, "note"), "the command line"), tmp_path)
    assert len(runs) == 2 * 2 * 3 * 2
    assert {run.config.options.seeds for run in runs} == {tuple(range(5)), tuple(range(5, 10))}


def _parser():
    from crossq_wn.cli.sweep import _add_arguments

    parser = Parser("sweep")
    _add_arguments(parser)
    return parser


@given(st.integers(0, 50), st.integers(1, 20))
def test_seeds_have_several_spellings(first, count):
    wanted = list(range(first, first + count))
    for spelling in (
        wanted,
        f"{first}:{first + count}",
        f"{first}-{first + count - 1}",
        ",".join(map(str, wanted)),
    ):
        assert seed_numbers(spelling) == wanted
    assert seed_numbers(first) == [first]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_command_of_each_run_means_its_configuration(name, tmp_path):
    for preset in ALGORITHMS[name].presets:
        options = {
            "frames": 5000,
            "seeds": (3, 7),
            "terminations": False,
            "episode_frames": 50,
            "overlap": True,
        }
        config = api.configure("cheetah-run", algorithm=name, preset=preset, utd=3, batch_size=17, **options)
        run = Run(tmp_path / folder_of(config), config)
        verb, *arguments = command(run)
        assert configured(Parser(verb), arguments) == (config, run.path)


def test_a_folder_names_what_changes_the_agent_once(tmp_path):
    config = api.configure("cheetah-run", frame_stack=3, normalise_observations=True)
    folder = str(folder_of(config))
    assert folder == "cheetah-run/crossq-wn-utd-2-frame-stack-3-normalise-observations-true/seed-0"


def test_values_of_every_kind_reach_the_command_line(tmp_path):
    for changes in ({"resets": (15_001, 50_001)}, {"resets": ()}, {"discount": None}, {"tau": 1e-7}):
        config = api.configure("cheetah-run", algorithm="bro", **changes)
        verb, *arguments = command(Run(tmp_path, config))
        assert configured(Parser(verb), arguments) == (config, tmp_path)


# --- How far runs have come


def tiny(seed=0, frames=200, **changes):
    values = {**helpers.TINY_SETTINGS, **helpers.TINY_OPTIONS, **changes}
    return api.configure("helpers:PointMass", seeds=[seed], frames=frames, **values)


@pytest.fixture
def run(tmp_path):
    config = tiny()
    return Run(tmp_path / folder_of(config), config)


def begun(run, *checkpoints, config=None):
    """A run directory as training leaves it when it is cut off."""
    run.path.mkdir(parents=True, exist_ok=True)
    (run.path / "config.json").write_text(json.dumps(signed((config or run.config).to_json())))
    (run.path / "eval.csv").write_text("trained\n")
    for frames in checkpoints:
        (run.path / "checkpoints" / f"{frames:09d}").mkdir(parents=True, exist_ok=True)
    return run


def stands(run):
    return state_of(run)[:2]


def test_what_is_there_decides_what_is_done(run):
    assert stands(run) == ("missing", 0)
    run.path.mkdir(parents=True)
    for name in (".lock", ".config.json.partial", ".lease-000003"):
        (run.path / name).touch()
        assert stands(run) == ("missing", 0)
    begun(run)
    assert stands(run) == ("without a checkpoint", 0)
    begun(run, 150)
    assert stands(run) == ("cut off", 150)
    begun(run, 200)
    assert stands(run) == ("finished", 200)


def test_a_last_evaluation_that_is_missing_is_still_to_be_made(tmp_path):
    config = tiny(frames=250)  # evaluations every 200 frames, and one at the end, after the last checkpoint
    run = begun(Run(tmp_path / "run", config), 250)
    assert stands(run) == ("cut off", 250)
    (run.path / "eval.csv").write_text(f"{helpers.EVAL_HEADER}x,y,0,return,250,1.0\n")
    assert stands(run) == ("finished", 250)


def test_a_finished_run_whose_checkpoints_were_deleted_stays_finished(run, monkeypatch):
    """It would be set aside and trained from zero."""
    begun(run)
    (run.path / "eval.csv").write_text(f"{helpers.EVAL_HEADER}x,y,0,return,200,1.0\n")
    assert stands(run) == ("without a checkpoint", 0)  # nothing says that training has ended
    monkeypatch.setattr(states, "read_manifest", lambda path: {"logs": {"eval.csv": {}}})
    assert stands(run) == ("finished", 200)
    (run.path / "checkpoints").mkdir()
    assert stands(run) == ("finished", 200)
    longer = Run(run.path, replace(run.config, options=replace(run.config.options, frames=400)))
    assert stands(longer) == ("cut off", 0)


def test_a_shorter_run_is_cut_off_and_a_longer_one_has_finished(run):
    begun(run, 100, config=tiny(frames=100))
    assert stands(run) == ("cut off", 100)
    begun(run, 400)
    assert stands(run) == ("finished", 400)


def test_a_run_without_its_configuration_fails_alone(run):
    begun(run, 200)
    (run.path / "config.json").write_text("{")
    state = state_of(run)
    assert state.kind == "damaged"
    assert "no readable config.json: put it back, or move the folder away" in state.why
    assert outlook(state, (), alive=False) == Outlook("failed", why=state.why)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_run_that_cannot_be_read_now_is_tried_again(number, run, monkeypatch):
    def fail(path):
        raise OSError(number, os.strerror(number))

    begun(run, 200)
    monkeypatch.setattr("crossq_wn.sweeps.states.files.names", fail)
    state = state_of(run)
    assert os.strerror(number) in state.why
    assert outlook(state, (), alive=False).standing == "waiting"
    attempts = [Attempt("run", float(i), 0, 0, f"failed: {state.why}", False) for i in range(4)]
    assert outlook(state, attempts[:1], alive=False, retries=3) == Outlook("waiting", 10.0, attempts[0].cause)
    assert outlook(state, attempts, alive=False, retries=3).standing == "failed"
    passing = [attempt._replace(passing=True) for attempt in attempts] * 300
    assert outlook(state, passing, alive=False, retries=3) == Outlook("waiting", 603.0, attempts[0].cause)


def test_a_run_without_evaluations_has_finished_with_its_last_checkpoint(run):
    config = replace(run.config, options=replace(run.config.options, eval_every=0, real_time=9.0))
    robot = run._replace(config=config)
    begun(robot, 200)
    assert stands(robot) == ("finished", 200)


def test_a_configuration_that_a_checkpoint_still_has_is_not_missed(run, monkeypatch):
    begun(run, 100)
    (run.path / "config.json").write_text("{")
    kept = json.loads(json.dumps(run.config.to_json()))
    monkeypatch.setattr(states, "newest_common", lambda folder: {"config": kept})
    assert stands(run) == ("cut off", 100)


@pytest.mark.parametrize(
    "change", [{"critic_width": 16}, {"eval_episodes": 2}, {"discount": 0.5}, {"utd": 3}]
)
def test_another_run_in_its_place_is_noticed(change, run):
    begun(run, config=tiny(**change))
    state = state_of(run)
    ((name, value),) = change.items()
    assert state.kind == "another run"
    assert f"{name} is {value}, not " in state.why
    begun(run, config=tiny(log_every=7, checkpoint_every=9, video=True))  # that changes no number
    assert state_of(run).kind == "without a checkpoint"


def test_a_run_of_an_earlier_schema_is_known(run):
    begun(run, 200)
    values = run.config.to_json()
    flat = {"schema": 1, "system": run.config.system.label, "algorithm": "crossq-wn", "preset": "default"}
    old = values | values["options"] | {"episode_frames": values["episode_frames"]} | flat
    del old["options"]
    (run.path / "config.json").write_text(json.dumps(old))
    assert state_of(run).kind in ("finished", "another run")


# --- What happens next

ATTEMPTS = st.lists(
    st.builds(
        Attempt, st.just("run"), st.floats(0, 1e6), st.integers(0, 3), st.integers(0, 3),
        st.sampled_from(["", "killed", "disk full"]), st.just(False),
        anew=st.sampled_from([False] * 5 + [True]),
    ).map(lambda each: each._replace(cause="") if each.anew else each),
    max_size=8,
)  # fmt: skip


def test_a_failure_says_when_the_run_is_tried_again():
    assert Outlook("waiting", 40.0, "no licence").next_try(10.0) == "tried again in 30 s: "
    assert Outlook("waiting", 40.0, "no licence").next_try(41.0) == "tried again as soon as there is room: "
    assert Outlook("failed", why="no licence").next_try(10.0) == "not tried again: "
    assert Outlook("waiting").next_try(10.0) == ""


@given(ATTEMPTS, st.integers(0, 3), st.integers(0, 4))
def test_a_run_is_tried_a_bounded_number_of_times_with_growing_pauses(attempts, frames, retries):
    state = State("cut off", frames)
    found = outlook(state, attempts, alive=False, retries=retries)
    inarow, to_blame, last = 0, 0, None
    for attempt in reversed(attempts):
        if attempt.anew:
            break
        if not attempt.cause:
            continue
        if attempt.after != frames:
            break
        last = last or attempt
        inarow += 1
        to_blame += not attempt.passing
        if attempt.after > attempt.before:
            break
    if to_blame > retries:
        assert found == Outlook("failed", why=last.cause)
    elif inarow:
        assert found == Outlook("waiting", last.ended + min(10 * 4 ** (inarow - 1), 600), last.cause)
    else:
        assert found == Outlook("waiting")
    assert outlook(state, attempts, alive=True).standing == "running"
    assert outlook(State("finished", frames), attempts, alive=False) == Outlook("done")


def test_what_would_only_fail_again_is_not_tried_again():
    assert engines.is_final("failed (exit code 2): every seed failed: nan", 2, State("cut off", 300))
    assert engines.is_final("failed (exit code 2): no such task", 2, State("missing", 0))
    first = "every seed failed: seed 0: at its first reset, helpers:Raising raised RuntimeError: no port"
    assert engines.is_final(f"failed (exit code 2): {first}", 2, State("missing", 0))
    some = "crossq-wn: seed 1 of x failed: helpers:Raising raised RuntimeError: no port"
    assert not engines.is_final(f"failed (exit code 3): {some}", 3, State("seeds stopped", 100))
    some = "crossq-wn: seed 1 of x failed: helpers:Raising returned the reward nan"
    assert engines.is_final(f"failed (exit code 3): {some}", 3, State("seeds stopped", 100))
    assert not engines.is_final("failed (exit code 2): cannot write: disk full", 2, State("cut off", 300))
    assert not engines.is_final("failed (killed by signal 9)", -9, State("missing", 0))
    crashed = "every seed failed: seed 0: the acting process was killed by signal 9"
    assert not engines.is_final(f"failed (exit code 2): {crashed}", 2, State("cut off", 300))
    for theirs in (leases.in_use(Path("run"), None), LostLeaseError(Path("run"))):
        assert not engines.is_final(str(theirs), 2, State("missing", 0))
    attempt = Attempt("run", 5.0, 0, 0, "no such task", final=True)
    assert outlook(State("missing", 0), [attempt], alive=False).standing == "failed"


WAITING = st.lists(
    st.builds(Waiting, st.just(0), st.floats(0, 100), st.floats(0, 100), st.integers(0, 100)), max_size=10
).map(lambda found: [each._replace(number=number) for number, each in enumerate(found)])


@given(
    WAITING,
    st.lists(st.integers(0, 9), unique=True),
    st.none() | st.integers(0, 200),
    st.booleans(),
    st.floats(0, 100),
)
def test_runs_are_started_longest_first_within_slots_and_memory(waiting, slots, memory, idle, now):
    starts = next_jobs(waiting, Room(slots, memory, idle), now)
    assert [start.slot for start in starts] == slots[: len(starts)]
    chosen = [waiting[start.number] for start in starts]
    assert len({run.number for run in chosen}) == len(chosen)
    assert all(run.ready <= now for run in chosen)
    assert [run.seconds for run in chosen] == sorted((run.seconds for run in chosen), reverse=True)
    if memory is not None and not (idle and len(chosen) == 1):
        assert sum(run.memory for run in chosen) <= memory or not chosen or chosen[0].memory > memory
    ready = [run for run in waiting if run.ready <= now]
    if slots and ready and idle:
        assert starts  # nothing waits for ever
    if memory is None:
        assert len(starts) == min(len(slots), len(ready))


def test_memory_is_kept_for_a_run_that_has_waited():
    """But not against runs that end before it is free, or fit beside it."""
    large = Waiting(0, 0.0, 9000.0, 12, short=0.0)
    going = [Going(1000.0 * (1 + number), 2) for number in range(8)]
    # 12 are free in 5000 s, and no more.
    small = [Waiting(1, 0.0, 6000.0, 2), Waiting(2, 0.0, 5000.0, 2)]
    room = Room([0, 1], 2, idle=False, going=going)
    assert next_jobs([large, *small], room, 700.0) == [Start(2, 0)]
    assert next_jobs([large._replace(short=200.0), *small], room, 700.0) == [Start(1, 0)]  # not for long
    assert next_jobs([large._replace(ready=800.0), *small], room, 700.0) == [Start(1, 0)]
    assert next_jobs([large._replace(memory=20), *small], room, 700.0) == [Start(1, 0)]  # it will never fit
    # Now 13 are free then.
    spare = room._replace(memory=3)
    assert next_jobs([large, *small, Waiting(3, 0.0, 8000.0, 1)], spare, 700.0) == [Start(3, 0), Start(2, 1)]


# --- Whole sweeps, with processes and a clock of straw


class Clock:
    """Seconds that pass when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.25)


class Straw:
    """Stands for processes: trains by making checkpoints, evaluates by a row, and has accidents.

    Args:
        clock: its time.
        accident: given a random number generator, what happens in this second, if anything.
    """

    def __init__(self, clock, accident=lambda dice: None, seed=0):
        self.clock, self.accident, self.dice = clock, accident, random.Random(seed)
        self.working, self.started, self.node = {}, [], platform.node()

    def places(self):
        return 1000

    def free_memory(self):
        return None

    def free(self, slots, others):
        return slots[len(others) :]

    def start(self, run, state, slot, memory):
        self.started.append((run.path, state.kind))
        return StrawProcess(self, run)


class StrawProcess:
    def __init__(self, straw, run):
        self.straw, self.run, self.since, self.why, self.stopping = straw, run, straw.clock(), None, False
        run.path.mkdir(parents=True, exist_ok=True)
        try:
            self.lease, _ = leases.take(run.path)
        except UserError as reason:
            self.why = f"failed (exit code 2): {reason}", 2
            return
        assert run.path not in straw.working
        straw.working[run.path] = self
        if not (run.path / "config.json").exists():
            begun(run, 0)
        checkpoint = state_of(run).frames
        content = (run.path / "eval.csv").read_text().splitlines()
        kept = [line for line in content if line.isdigit() and int(line) <= checkpoint]
        files.write_atomically(run.path / "eval.csv", "".join(f"{line}\n" for line in kept))
        self.frames = checkpoint

    def ended(self):
        while self.why is None and self.straw.clock() - self.since >= 1:
            self.since += 1
            self.second()
        return self.why is not None

    def second(self):
        happened = self.straw.accident(self.straw.dice)
        if happened is not None:
            return self.end(*happened)
        self.frames += 50
        files.append(self.run.path / "eval.csv", f"{self.frames}\n".encode())
        if self.frames % 100 == 0:
            (self.run.path / "checkpoints" / f"{self.frames:09d}").mkdir()
        if self.frames >= self.run.config.options.frames:
            return self.end("", 0)
        if self.stopping:
            return self.end("stopped", 143)

    def end(self, why, code):
        self.why = why, code
        del self.straw.working[self.run.path]
        if code == -9:  # nothing is given back
            self.lease._ended.set()
            self.lease._lock.close()
            leases.fences.open_up(self.run.path)
        else:
            self.lease.end()

    def stop(self):
        self.stopping = True

    def memory(self):
        return 5

    def worked(self):
        return None

    def node(self):
        return self.straw.node

    def failure(self):
        return self.why


def swept(tmp_path, straw, clock, count=6, slots=3, **options):
    configs = [tiny(seed) for seed in range(count)]
    runs = [Run(tmp_path / folder_of(config), config) for config in configs]
    history.logs(tmp_path)
    said = []
    sweep = Sweep(
        runs, tmp_path, straw, slots, lambda run: Need(10.0, 100), said.append, clock=clock,
        watch=Watch(clock), **options,
    )  # fmt: skip
    return sweep, runs, said


def evaluations(run):
    return (run.path / "eval.csv").read_text().split()


ALL = ["50", "100", "150", "200"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_every_evaluation_is_there_exactly_once(seed, tmp_path):
    def accident(dice):
        return dice.choice([None] * 6 + [("failed (killed by signal 9)", -9), ("failed (exit code 1)", 1)])

    clock = Clock()
    straw = Straw(clock, accident, seed)
    sweep, runs, said = swept(tmp_path, straw, clock, retries=20)
    assert drive(sweep, clock.sleep) == (None, {})
    assert [evaluations(run) for run in runs] == [ALL] * len(runs)
    tries = [len(sweep.history.of(sweep.key(run))) for run in runs]
    assert sum(tries) == len(straw.started) > len(runs)
    assert sum(line.endswith(": finished") for line in said) == len(runs)
    # Started again, there is nothing to do.
    again, _, _ = swept(tmp_path, straw, clock)
    assert drive(again, clock.sleep) == (None, {})
    assert len(straw.started) == sum(tries)


def test_a_run_that_cannot_be_trained_fails_alone_with_its_cause(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    submitted = time.time()
    sweep, runs, _ = swept(tmp_path, straw, clock)
    bad = runs[2].path

    def accident(dice):
        return ("failed (exit code 1): boom", 1) if bad in straw.working else None

    straw.accident = lambda dice: None
    original = StrawProcess.second

    def second(self):
        return self.end("failed (exit code 1): boom", 1) if self.run.path == bad else original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrawProcess, "second", second)
        begin = clock.now
        assert drive(sweep, clock.sleep) == (None, {bad: "failed (exit code 1): boom"})
    assert clock.now - begin > 10 + 40 + 160
    assert sum(path == bad for path, _ in straw.started) == 1 + 3
    assert [evaluations(run) == ALL for run in runs] == [True, True, False, True, True, True]
    found = {line.run: line for line in status.lines(runs, tmp_path)}
    assert (found[bad].standing, found[bad].why) == ("failed", "failed (exit code 1): boom")
    # A worker of the same array that begins later, or was requeued, leaves it at that.
    later, _, _ = swept(tmp_path, straw, clock, since=submitted)
    assert drive(later, clock.sleep) == (None, {bad: "failed (exit code 1): boom"})
    assert sum(path == bad for path, _ in straw.started) == 1 + 3
    assert standing_of(bad, runs, tmp_path) == "failed"
    # Started again, it is tried again.
    again, _, _ = swept(tmp_path, straw, clock)
    assert standing_of(bad, runs, tmp_path) == "waiting"
    assert drive(again, clock.sleep) == (None, {})
    assert evaluations(runs[2]) == ALL


def standing_of(run, runs, out):
    return next(line.standing for line in status.lines(runs, out) if line.run == run)


def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    sweeps = [swept(tmp_path, straw, clock, count=8, slots=2)[0] for _ in range(2)]
    runs = sweeps[0].runs
    for _ in range(2000):
        for sweep in sweeps:
            sweep.collect([])
            sweep.fill()
        if all(sweep.over for sweep in sweeps):
            break
        clock.sleep(0.1)
    assert all(sweep.over and not sweep.failed for sweep in sweeps)
    assert [evaluations(run) for run in runs] == [ALL] * 8
    done = [
        sum(not each.cause for each in sweep.history.of(sweep.key(run)))
        for run in runs
        for sweep in sweeps[:1]
    ]
    assert max(done) <= 2


def test_sweeps_on_one_folder_count_failures_together(tmp_path):
    clock = Clock()
    first, second = (swept(tmp_path, Straw(clock), clock, count=2)[0] for _ in range(2))
    bad, worse = (run.path for run in first.runs)
    missing = State("missing", 0)
    first._record(0, missing, "failed: no such task", "here", final=True)
    for sweep in (first, second):
        for _ in range(2):
            sweep._record(1, missing, "failed (exit code 1)", "here", final=False)
            sweep._record(1, missing, "", "here", final=False)  # it was stopped, which is no success
    for sweep in (first, second):
        sweep.look()
        assert sweep.failed == {bad: "failed: no such task", worse: "failed (exit code 1)"}
        sweep.look()
        assert [len(sweep.tried.of(sweep.key(run))) for run in first.runs] == [1, 1 + RETRIES]
        assert len(sweep.history.of(sweep.key(first.runs[1]))) == 8
    assert [line.standing for line in status.lines(first.runs, tmp_path)] == ["failed", "failed"]
    again, _, _ = swept(tmp_path, Straw(clock), clock, count=2)
    again.look()
    assert (again.failed, len(again.waiting)) == ({}, 2)  # started again, everything is tried again


def test_sweeps_on_one_folder_leave_each_other_their_places(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    first = swept(tmp_path, straw, clock, count=5, slots=2)[0]
    states = list(first.states)
    first.fill()
    second = swept(tmp_path, straw, clock, count=5, slots=3, states=states)[0]  # a plan made before
    second.fill()
    assert (len(first.workers), len(second.workers)) == (2, 1)  # three places on this machine, all told
    clock.sleep(10)
    second.fill()
    assert len(second.workers) == 1
    first.collect([])  # its runs have ended
    first.slots = 0
    clock.sleep(10)
    second.fill()
    assert len(second.workers) == 3
    # One that need not wait is in a place of its own, as a scheduler gave it.
    third = swept(tmp_path, straw, clock, count=6, slots=1, waits=False)[0]
    third.fill()
    assert len(third.workers) == 1
    # What trains on another machine takes no place here.
    for number in range(3):
        path = second.runs[second.workers[number].number].path
        (file,) = path.glob(".lease-*/holder.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | {"boot": "another"}))
    fourth = swept(tmp_path, straw, clock, count=7, slots=2)[0]
    fourth.fill()
    assert (len(fourth.elsewhere), len(fourth._others()), len(fourth.workers)) == (4, 1, 1)
    clock.sleep(10)
    for sweep in (second, third, fourth):
        sweep.collect([])
    assert not straw.working


def test_a_sweep_need_not_wait_for_others(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    first, second = (
        swept(tmp_path, straw, clock, count=2, slots=2, waits=waits)[0] for waits in (True, False)
    )
    first.fill()
    second.fill()
    assert (len(first.workers), len(second.workers), sorted(second.elsewhere)) == (2, 0, [0, 1])
    assert second.over
    second.waits = True
    assert not second.over
    first.collect([])
    assert drive(first, clock.sleep).failed == {}


def test_a_signal_stops_all_and_the_next_sweep_goes_on(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, said = swept(tmp_path, straw, clock)

    def sleep(seconds):
        clock.sleep(seconds)
        if clock.now > 1002.5 and not sleep.sent:
            sleep.sent = True
            os.kill(os.getpid(), signal.SIGTERM)

    sleep.sent = False
    result = drive(sweep, sleep)
    assert result.signal == signal.SIGTERM
    assert not straw.working
    assert any("stopped at " in line for line in said)
    assert sum(line.endswith("runs at a checkpoint; asked again, without one") for line in said) == 1
    again, _, _ = swept(tmp_path, straw, clock)
    assert drive(again, clock.sleep) == (None, {})
    assert [evaluations(run) for run in runs] == [ALL] * len(runs)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_costs_nothing(jump, tmp_path):
    clock = Clock()
    straw = Straw(clock, lambda dice: ("failed (exit code 1)", 1) if dice.random() < 0.2 else None)
    sweep, runs, _ = swept(tmp_path, straw, clock, retries=50)
    sweep.wall = lambda: clock.now + (jump if clock.now > 1003 else 0)
    assert drive(sweep, clock.sleep).failed == {}
    assert clock.now < 10_000
    assert [evaluations(run) for run in runs] == [ALL] * len(runs)


def test_a_holder_on_another_machine_is_watched_before_it_counts_as_gone(run, monkeypatch):
    clock = Clock()
    watch = Watch(clock)
    seen = leases.Seen(1, leases.Holder("elsewhere", "another boot", 7, True), 1)
    run.path.mkdir(parents=True)
    assert watch.alive(run.path, seen)
    clock.sleep(leases.PATIENCE - 1)
    assert watch.alive(run.path, seen._replace(sign=2))
    clock.sleep(leases.PATIENCE - 1)
    assert watch.alive(run.path, seen._replace(sign=2))
    clock.sleep(2)
    assert not watch.alive(run.path, seen._replace(sign=2))
    assert not watch.alive(run.path, seen._replace(holder=None))


def test_a_holder_that_has_shown_no_sign_of_life_yet_is_no_certain_one(run):
    clock = Clock()
    watch = Watch(clock)
    seen = leases.Seen(1, leases.Holder("elsewhere", "another boot", 7, True), 1)
    run.path.mkdir(parents=True)
    assert not watch.unsure(run.path)
    for wait, sign, wanted in ((0, 1, (True, True)), (9, 1, (True, True)), (9, 2, (True, False)),
                               (9, 2, (True, False)), (leases.PATIENCE, 2, (False, False))):  # fmt: skip
        clock.now += wait
        assert (watch.alive(run.path, seen._replace(sign=sign)), watch.unsure(run.path)) == wanted
    other = Watch(clock)
    assert (other.alive(run.path, seen), other.unsure(run.path)) == (True, True)
    clock.now += leases.PATIENCE
    assert (other.alive(run.path, seen), other.unsure(run.path)) == (False, False)  # it is gone
    assert not other.alive(run.path, seen._replace(holder=None))


def held_elsewhere(run):
    """Leaves a run as a process on another machine has it; returns the file that shows its life."""
    begun(run, 100)
    (run.path / ".lease-000001").mkdir()
    file = run.path / ".lease-000001" / "holder.json"
    file.write_text(json.dumps(leases.Holder("elsewhere", "another boot", 7, True)._asdict()))
    return file


def test_a_run_of_a_machine_that_was_lost_goes_on_here(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, _ = swept(tmp_path, straw, clock, count=2)
    held_elsewhere(runs[1])
    sweep.states = [state_of(run) for run in runs]
    assert drive(sweep, clock.sleep) == (None, {})
    assert [evaluations(run)[-2:] for run in runs] == [ALL[-2:]] * 2


def test_a_run_that_lives_on_another_machine_is_left_to_it(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, _ = swept(tmp_path, straw, clock, count=2)
    life = held_elsewhere(runs[1])
    sweep.states = [state_of(run) for run in runs]

    def sleep(seconds):
        clock.sleep(10.0)
        if clock.now <= 2000:
            os.utime(life, (clock.now, clock.now))
        elif life.exists():  # it finishes
            begun(runs[1], 200)
            life.unlink()

    assert drive(sweep, sleep) == (None, {})
    assert clock.now > 2000
    assert [path for path, _ in straw.started] == [runs[0].path]


@pytest.mark.parametrize("dies", [True, False])
def test_a_sweep_that_need_not_wait_still_takes_the_runs_of_those_that_are_gone(dies, tmp_path, monkeypatch):
    """Its job may have been the last one: nobody else would come back for them."""
    clock = Clock()
    straw = Straw(clock)
    sweep, (run,), _ = swept(tmp_path, straw, clock, count=1, waits=False)
    life = held_elsewhere(run)
    sweep.states = [state_of(run)]
    begin, patience = clock.now, leases.PATIENCE

    def sleep(seconds):
        clock.sleep(1.0)
        if not dies:
            os.utime(life, (clock.now, clock.now))
        elif clock.now - begin >= patience:
            monkeypatch.setattr(leases, "PATIENCE", 0.0)  # of the run itself, by the true clock

    assert drive(sweep, sleep) == (None, {})
    assert state_of(run).kind == ("finished" if dies else "cut off")
    assert (clock.now - begin < patience) != dies


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (("failed (killed by signal 9)", -9), "failed (killed by signal 9)"),
        (
            ("failed, as its node or the agent there is lost", -1),
            "failed, as its node or the agent there is lost",
        ),
        ((f"failed (exit code 2): {leases.in_use(Path('run'), None)}", 2), ""),
    ],
)
def test_a_crash_on_another_node_is_a_failure_although_its_lease_is_left(failure, cause, tmp_path):
    clock = Clock()
    sweep, (run,), said = swept(tmp_path, Straw(clock), clock, count=1)
    held_elsewhere(run)
    process = SimpleNamespace(failure=lambda: failure, worked=lambda: 3.0, node=lambda: "elsewhere")
    sweep._note(driver.Worker(0, process, sweep.states[0], 0.0), [])
    counted = [cause] if cause else []  # nothing was tried where another has the run
    assert [each.cause for each in sweep.history.of(sweep.key(run))] == counted
    assert [each.cause for each in sweep.tried.of(sweep.key(run))] == counted
    assert said == [f"{run.name}: {cause or 'is left to the process that has it'}"]


def test_memory_that_was_measured_replaces_the_estimate(tmp_path):
    clock = Clock()
    sweep, runs, _ = swept(tmp_path, Straw(clock), clock)
    assert sweep._waiting(0, 0.0).memory == 100
    sweep.history.add(Attempt(sweep.key(runs[0]), 0.0, 0, 100, "killed", memory=77))
    assert sweep._waiting(0, 0.0).memory == 77
    again = history.History(tmp_path)
    assert [each.memory for each in again.of(sweep.key(runs[0]))] == [77]
    assert sweep._waiting(1, 0.0).memory == 77  # it differs in its seed alone


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, monkeypatch):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, said = swept(tmp_path, straw, clock, count=3)
    real, begin = straw.start, clock.now

    def start(run, state, slot, memory):
        if clock.now < begin + 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(run, state, slot, memory)

    def open_log(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    straw.start = start
    monkeypatch.setattr(files, "open_log", open_log)
    assert drive(sweep, clock.sleep) == (None, {})
    assert [evaluations(run) for run in runs] == [ALL] * 3
    assert any("cannot start: [Errno 28] No space left" in line for line in said)


def full_until(end, straw, clock, monkeypatch):
    """Lets the disk be full until a time; returns the times at which runs were started."""
    real, started = straw.start, []

    def start(run, state, slot, memory):
        started.append(clock.now)
        if clock.now < end:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(run, state, slot, memory)

    monkeypatch.setattr(straw, "start", start)
    return started


def test_an_outage_of_hours_gives_up_no_run(tmp_path, monkeypatch):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, _ = swept(tmp_path, straw, clock, count=8, slots=8)
    begin, hours = clock.now, 5 * 3600.0
    started = full_until(begin + hours, straw, clock, monkeypatch)
    assert drive(sweep, lambda seconds: clock.sleep(10 if clock.now < begin + hours else 1)) == (None, {})
    assert [evaluations(run) for run in runs] == [ALL] * 8
    tries = [now for now in started if now < begin + hours]
    assert 8 + 30 < len(tries) < 8 + 60  # all at first, then one at a time, with up to ten minutes between
    assert clock.now < begin + hours + 600 + 150
    attempts = sweep.history.of(sweep.key(runs[0]))
    assert [each.passing for each in attempts] == [True] * (len(attempts) - 1) + [False]


def test_a_sweep_ends_when_nothing_gets_further_for_a_day(tmp_path, monkeypatch):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, _ = swept(tmp_path, straw, clock, count=3, slots=1)
    begin = clock.now
    started = full_until(float("inf"), straw, clock, monkeypatch)
    said = r"No space left on device\): 3 of 3 runs still wait; mend that and start again"
    with pytest.raises(UserError, match=said):
        drive(sweep, lambda seconds: clock.sleep(60))
    assert (sweep.failed, len(sweep.waiting)) == ({}, 3)
    assert {line.standing for line in status.lines(runs, tmp_path)} == {"waiting"}
    assert 24 * 3600 < clock.now - begin < 25 * 3600
    assert len(started) < 200


def test_an_outage_is_hopeless_after_a_day_of_failures_and_not_after_days_without_a_checkpoint():
    hour = 3600.0
    outage = Outage()
    outage.fail("the disk is full", 45 * hour)  # the first, of a run that trains for days to a checkpoint
    assert not outage.hopeless
    outage.fail("the disk is full", 80 * hour)  # another one, after a day and more of training
    assert not outage.hopeless
    for tenth in range(1, 242):
        outage.fail("the disk is full", (80 + tenth / 10) * hour)
        assert outage.hopeless == (tenth > 240)
    outage.advance(0, 105 * hour, "here")
    outage.fail("the disk is full", 106 * hour)
    assert not outage.hopeless


def test_who_waits_for_others_goes_on_trying(tmp_path):
    clock = Clock()
    straw = Straw(clock)
    sweep, runs, _ = swept(tmp_path, straw, clock, count=2)
    life = held_elsewhere(runs[1])
    sweep.states = [state_of(run) for run in runs]
    sweep.look()
    for hours in range(30):
        clock.now = 1000.0 + 3600 * hours
        sweep.outage.fail("the disk is full", clock.now)
    assert (sweep.outage.hopeless, sweep.gives_up, sweep.elsewhere) == (True, False, [1])
    sweep.elsewhere = []
    assert sweep.gives_up
    sweep.elsewhere = [1]
    clock.sleep(700)
    os.utime(life, (1, 1))
    sweep.fill()
    assert len(sweep.workers) == 1
    sweep.collect([])


def test_what_trains_on_another_machine_proves_nothing_here():
    outage = Outage()
    outage.advance(1, 10.0, "here")
    assert outage.spares_others(0, 9.0, "here")
    assert not outage.spares_others(0, 10.0, "here")  # not since then
    assert not outage.spares_others(1, 9.0, "here")  # it is the same run
    assert not outage.spares_others(0, 9.0, "there")
    outage.advance(2, 10.0, "")
    assert not outage.spares_others(0, 9.0, "")  # which may be any two


@pytest.mark.parametrize("engine", ["another sweep", "the same sweep"])
def test_a_machine_with_an_outage_of_its_own_gives_up_no_run(engine, tmp_path, monkeypatch):
    """Although it is always free, so that every run that waits is tried there."""
    monkeypatch.setattr(scheduling, "_GROWTH", 1.0)  # of the pauses between tries
    clock = Clock()
    straw = Straw(clock)
    sweeps = [swept(tmp_path, straw, clock, count=4, slots=1)[0]]

    def full(run, state, slot, memory):
        starts.append(run.path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    starts = []
    if engine == "another sweep":
        sweeps.append(
            swept(tmp_path, SimpleNamespace(**{**vars_of(straw), "start": full}), clock, count=4)[0]
        )
    else:  # whose second slot is on another machine

        def start(run, state, slot, memory):
            return good(run, state, slot, memory) if slot == 0 else Ended(starts, run)

        good, straw.start, sweeps[0].slots = straw.start, start, 2
    for sweep in sweeps:
        for number, run in enumerate(sweep.runs):
            sweep.replace(number, Run(run.path, tiny(number, frames=2000)))  # 40 seconds each
    while not all(sweep.over for sweep in sweeps):
        for sweep in sweeps:
            sweep.collect([])
            sweep.fill()
        clock.sleep(2)
        assert clock.now < 1300
    assert [sweep.failed for sweep in sweeps] == [{}] * len(sweeps)
    assert {state_of(run).kind for run in sweeps[0].runs} == {"finished"}
    assert len(starts) > 4


def vars_of(straw):
    return {name: getattr(straw, name) for name in ("places", "free_memory", "free")}


class Ended:
    """A process on another machine, of which the disk is full."""

    def __init__(self, starts, run):
        starts.append(run.path)

    def ended(self):
        return True

    def memory(self):
        return 0

    def worked(self):
        return 0.1

    def node(self):
        return "there"

    def failure(self):
        return "failed (exit code 2): /tmp/x: No space left on device (on there)", 2


def test_a_mount_that_is_gone_for_a_while_costs_nothing(tmp_path):
    """An empty folder is left in its place, in which nothing may begin anew."""
    clock, out, aside = Clock(), tmp_path / "sweep", tmp_path / "aside"
    straw = Straw(clock)
    sweep, runs, said = swept(out, straw, clock, count=3, slots=2)
    begin = clock.now

    def sleep(seconds):
        clock.sleep(1)
        if clock.now < begin + 3 or clock.now > begin + 2000:
            return
        if not aside.exists() and clock.now < begin + 1500:
            for process in list(straw.working.values()):
                process.end(f"failed (exit code 2): {LostLeaseError(process.run.path)}", 2)
            out.rename(aside)
            out.mkdir()
        elif aside.exists() and clock.now > begin + 1500:
            assert not list(out.iterdir())
            out.rmdir()
            aside.rename(out)

    assert drive(sweep, sleep) == (None, {})
    assert [evaluations(run) for run in runs] == [ALL] * 3
    assert any(f"cannot start: {out}/ is gone: mount the sweep's folder again" in line for line in said)
    assert [kind for _, kind in straw.started].count("missing") == 3


def test_a_run_that_cannot_be_read_now_is_not_begun_anew(tmp_path, monkeypatch):
    clock = Clock()
    straw = Straw(clock)
    sweep, (run,), _ = swept(tmp_path, straw, clock, count=1)
    begun(run, 100)
    sweep.look()
    real, begin = states.files.names, clock.now

    def names(folder, **options):
        if clock.now < begin + 400 and folder == run.path:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(folder, **options)

    monkeypatch.setattr(states.files, "names", names)
    assert drive(sweep, clock.sleep) == (None, {})
    assert straw.started == [(run.path, "cut off")]
    tries = sweep.history.of(sweep.key(run))
    assert len(tries) > 3
    assert all(each.passing and "Stale file handle" in each.cause for each in tries[:-1])


def test_a_failure_of_days_ago_does_not_make_an_outage_the_fault_of_a_run(tmp_path):
    clock = Clock()
    sweep, (run, _), _ = swept(tmp_path, Straw(clock), clock, count=2)
    sweep._record(0, State("missing", 0), "failed (exit code 1)", "here", final=False)
    clock.now += 100
    begun(run, 100)
    sweep._see(0)
    sweep.outage.advance(1, clock.now, "here")
    clock.now += 100
    assert sweep._blameless(0, "failed (exit code 2): No space left on device", "here")


def test_a_run_that_lacks_memory_although_it_is_alone_is_to_blame(tmp_path):
    clock = Clock()
    sweep, _, _ = swept(tmp_path, Straw(clock), clock)
    cause = "failed (exit code 2): training would take about 9.0 GiB and only 2.0 GiB are free"
    assert not sweep._blameless(0, cause, "here")
    assert sweep._blameless(0, "failed (exit code 2): Input/output error", "here")
    sweep.workers[0] = driver.Worker(1, None, State("missing", 0), 0.0)
    assert sweep._blameless(0, cause, "here")
    for _ in range(20):  # as on another node, on which nothing else runs
        sweep._record(0, State("missing", 0), cause, "here", final=False)
    failures = sweep.tried.in_a_row(sweep.key(sweep.runs[0]), State("missing", 0))
    assert [each.passing for each in failures] == [True] * 8 + [False] * 12
    assert sweep.outlook(0).standing == "failed"
    sweep.retries = 0
    assert not sweep._blameless(0, cause, "here")


@pytest.mark.parametrize(
    "cause",
    [
        "every seed failed: seed 0: reach:Arm raised OSError: [Errno 16] Device or resource busy: 'camera'",
        "every seed failed: seed 0: reach:Arm raised RuntimeError: only 2 grippers are free",
        "runs/x: No space left on device",  # a disk of its own
    ],
)
def test_a_run_that_fails_while_another_gets_further_is_to_blame(cause, tmp_path, monkeypatch):
    clock, original = Clock(), StrawProcess.second
    straw = Straw(clock)
    sweep, (bad, good), _ = swept(tmp_path, straw, clock, count=2, slots=2, retries=1)
    sweep.replace(1, Run(good.path, tiny(1, frames=50_000)))
    said = f"failed (exit code 2): {cause}"

    def second(self):
        return self.end(said, 2) if self.run.path == bad.path else original(self)

    monkeypatch.setattr(StrawProcess, "second", second)
    assert drive(sweep, lambda seconds: clock.sleep(2)) == (None, {bad.path: said})
    assert clock.now < 2000 + 1100
    assert sum(path == bad.path for path, _ in straw.started) <= 5


def test_a_sweep_keeps_memory_for_a_run_that_has_waited_and_no_sooner(tmp_path):
    """Also on a machine that is up for days, by whose clock runs that were never tried are ready for days."""
    clock = Clock()
    straw = Straw(clock)
    clock.now = begin = 1e6
    sweep, (first, *_), _ = swept(tmp_path, straw, clock, count=5, slots=2)
    sweep.replace(0, Run(first.path, tiny(0, frames=50_000)))  # for 1000 seconds
    needs = [Need(seconds, 2) for seconds in (1001.0, 1000.5, 1000.0, 999.0, 300.0)] + [Need(9000.0, 13)]
    sweep.needs = lambda run: needs[run.config.options.seeds[0]]
    straw.free_memory = lambda: 14 - 2 * len(straw.working)

    def working_at(seconds):
        clock.now = begin + seconds
        sweep.collect([])
        sweep.fill()
        return {worker.number for worker in sweep.workers.values()}

    assert working_at(0) == {0, 1}
    large = tiny(5, critic_width=16)
    sweep.add(Run(tmp_path / folder_of(large), large))
    assert working_at(5) == {0, 2}
    assert working_at(610) == {0, 4}  # and not 3, which would take longer than until memory is free
    assert working_at(1010) == {5}


def test_a_folder_that_cannot_be_read_fails_alone(run, monkeypatch):
    def names(folder, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files, "names", names)
    assert state_of(run).kind == "damaged"
    assert "cannot be read: Permission denied; make it" in state_of(run).why


def test_who_may_only_read_still_sees_where_a_sweep_stands(run, monkeypatch):
    def open_lock(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    begun(run, 100)
    monkeypatch.setattr(files, "open_lock", open_lock)
    assert leases.is_used(run.path, leases.seen(run.path)) is False
    held = leases.Seen(1, leases.Holder("here", "boot", 3, True), 1)
    assert leases.is_used(run.path, held) is None


def test_ten_thousand_runs_take_a_few_files_each(tmp_path, monkeypatch):
    text = "seeds_per_process = 1\n[defaults]\nseeds = '0:100'\ntask = 'dog-run'\n[grid]\n"
    text += f"utd = {list(range(1, 101))}"
    runs = plan(parse(text, "file"), tmp_path)
    assert len(runs) == 10_000 <= MOST_RUNS
    for run in runs[:50]:
        begun(run, 100)
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args, **kw: (opened.append(str(path)), real(path, *args, **kw))[1]
    )
    states = [state_of(run) for run in runs[:100]]
    assert [state.kind for state in states] == ["cut off"] * 50 + ["missing"] * 50
    regular = [path for path in opened if path.endswith((".json", ".csv"))]
    assert len(regular) == 50  # config.json alone
    assert len(opened) <= 50 * 6  # with the folders that are listed


def test_the_benchmark_of_many_runs_goes_through():
    """But for the step that measures this machine."""
    script = [sys.executable, str(ROOT / "benchmarks" / "sweep_scale.py"), "--runs", "200"]
    done = subprocess.run(
        [*script, "--only", "plan", "look", "choose", "start", "status", "list"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, env=helpers.environment_variables(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rpartition("  ")[0].strip() for line in done.stdout.splitlines()] == [
        "plan", "look at every run, as a sweep begins", "choose what to start", "start and end 100 runs",
        "--status", "list runs",
    ]  # fmt: skip


def test_a_disk_that_is_gone_ends_no_look_at_it(run, monkeypatch):
    def fail(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    life = held_elsewhere(run)
    with open(run.path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(leases, "_now", fail)
        assert leases.is_used(run.path, leases.seen(run.path)) is None
    life.unlink()
    monkeypatch.setattr(os, "listdir", fail)
    assert memory_of_session(os.getpid()) > 0


# --- Processes of this machine


def test_what_has_no_checkpoint_is_set_aside_unless_it_is_in_use(run):
    begun(run)
    with open(run.path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another process"):
            engines.set_aside(run.path)
    aside = engines.set_aside(run.path)
    assert not run.path.exists()
    assert (aside / "eval.csv").read_text() == "trained\n"
    begun(run)
    assert engines.set_aside(run.path) != aside


def test_what_was_watched_already_is_set_aside_at_once(run, monkeypatch):
    """The driver of a sweep must not wait for a minute with everything else."""

    def sleep(seconds):
        raise AssertionError("it waits for a sign of life")

    monkeypatch.setattr(leases.time, "sleep", sleep)
    held_elsewhere(run)
    with pytest.raises(AssertionError, match="a sign of life"):
        engines.set_aside(run.path)
    aside = engines.set_aside(run.path, watched=True)
    assert not run.path.exists()
    assert (aside / "eval.csv").read_text() == "trained\n"


def test_places_whose_processors_others_use_are_left_out(tmp_path, monkeypatch):
    used = {0: {0, 1, 2, 3}, 11: {1}, 12: {0, 1, 2, 3}, 13: {7}, 14: {0}}

    def affinity(process):
        if process not in used:
            raise ProcessLookupError
        return used[process]

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    engine = local.LocalEngine(4, tmp_path, {})
    assert engine.free([0, 1, 2, 3], []) == [0, 1, 2, 3]
    assert engine.free([0, 1, 2, 3], [11, 99]) == [0, 2, 3]  # 99 has ended
    assert len(engine.free([0, 1, 2, 3], [11, 12])) == 2  # 12 may run anywhere
    assert engine.free([2, 3], [14, 13]) == [2, 3]  # on processors of a slot that is not free, and others
    assert engine.free([1], [11, 11]) == []


def test_each_job_has_processors_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert [local.processors_of(slot, 2) for slot in range(2)] == [[0, 2], [1, 3]]
    assert [local.processors_of(slot, 6) for slot in range(6)] == [[0], [1], [2], [3], [0], [1]]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (2, "failed (exit code 2): the last line; see"),
        (-9, "failed (killed by signal 9, as for lack of memory): the last line; see"),
        (0, "failed (exit code 0)"),  # it says that it is done, but is not
    ],
)
def test_why_a_run_has_not_finished(code, says, tmp_path):
    log = tmp_path / "log"
    log.write_text("the first line\nthe last line\n\n")
    process = local.LocalProcess(SimpleNamespace(returncode=code), log)
    why, number = process.failure()
    assert why.startswith(says)
    assert number == code


def test_a_process_is_told_of_each_signal_once(tmp_path):
    told = []
    process = SimpleNamespace(stop=lambda: told.append(1), memory=lambda: 0, ended=lambda: False)
    clock = Clock()
    sweep, _, _ = swept(tmp_path, Straw(clock), clock)
    sweep.workers[0] = driver.Worker(0, process, State("missing", 0), 0.0)
    for received in ([], [2], [2], [2, 2], [2, 2]):
        sweep.collect(received)
    assert len(told) == 2


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with driving._signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# --- The command


def test_two_runs_from_beginning_to_end(tmp_path, monkeypatch):
    still = helpers.TINY_SETTINGS | {"warmup": 1000}  # so that nothing need be compiled for updates
    text = [f"--{name.replace('_', '-')}={value}" for name, value in still.items()]
    line = ["sweep", "--task", "helpers:PointMass", "--algorithm", "sac", "--frames", 100, "--seeds", "0:2",
            "--eval-every", 50, "--eval-episodes", 1, "--no-diagnostics", "--out", "s", "--jobs", 2,
            "--seeds-per-process", 1, *text]  # fmt: skip
    for name, value in helpers.environment_variables().items():  # for the processes that train
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    dry = helpers.call(*line, "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert re.search(r"2 of 2 runs to train: about \d+ core-(second|minute)s?, .* \d+ MB in s", dry.stdout)
    assert "learning nothing, since they end within their warm-up: 2 runs" in dry.stdout
    assert not (tmp_path / "s").exists()
    done = helpers.call(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    found = sorted((tmp_path / "s" / "helpers-pointmass").glob("*/seed-*"))
    assert [path.name for path in found] == ["seed-0", "seed-1"]
    for path in found:
        assert {row["env_step"] for row in rows(path / "eval.csv")} == {"0", "50", "100"}
    kept = (tmp_path / "s" / ".sweep" / "plan-001.toml").read_text()
    assert kept.startswith("# crossq-wn sweep --task helpers:PointMass")
    assert all(seconds > 0 for seconds in history.estimates(tmp_path / "s").values())
    assert set(history.estimates(tmp_path / "s")) == set(found)
    shown = json.loads(helpers.call("sweep", "--status", "s", "--json", cwd=tmp_path).stdout)
    assert [(line["state"], line["frames"], line["seeds"]) for line in shown] == [
        ("done", 100, [0]),
        ("done", 100, [1]),
    ]
    assert (
        "2 runs: 0 running, 0 waiting, 2 done, 0 failed"
        in helpers.call("sweep", "--status", "s", cwd=tmp_path).stdout
    )
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "s").rglob("*") if file.is_file()}
    again = helpers.call("sweep", "s", cwd=tmp_path)
    assert again.returncode == 0
    assert "0 of 2 runs to train: nothing is left to do" in again.stdout
    assert "GFLOP" not in again.stdout  # nothing is measured for it
    for file, when in before.items():
        assert file.stat().st_mtime_ns == when
    assert {file for file in (tmp_path / "s").rglob("*") if file.is_file()} == before.keys()
    assert "sac UTD 1" in helpers.call("compare", "s", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("hours", "words"),
    [(1234.5, "1,234.5 core-hours"), (1.0, "1.0 core-hours"), (0.5, "30 core-minutes"),
     (1 / 60, "1 core-minute"), (0.005, "18 core-seconds"), (0.0, "0 core-seconds")],
)  # fmt: skip
def test_a_time_has_the_unit_that_suits_it(hours, words):
    assert bills.spent(hours, "core-") == words


def test_seeds_that_are_divided_anew_are_not_trained_twice(tmp_path):
    whole, parts = (
        plan(parse(f"{count}[defaults]\ntask = 'dog-run'\nseeds = '0:4'", "file"), tmp_path)
        for count in ("", "seeds_per_process = 2\n")
    )
    begun(whole[0], 100)
    states.refuse_overlap(whole)
    with pytest.raises(UserError, match=r"seeds-0-3 already has seed \d, which .*seeds-(0-1|2-3) would"):
        states.refuse_overlap(parts)
    engines.set_aside(whole[0].path)
    states.refuse_overlap(parts)
    (more,) = plan(parse("[defaults]\ntask = 'dog-run'\nseeds = [0, 3]", "file"), tmp_path)
    assert more.path.name == "seeds-0-and-3"  # and not that of 0, 1, 2 and 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["sweep"], "name the sweep's file, or give options"),
        (["sweep", "nothing.toml"], "nothing.toml: no such file or folder: name a sweep's file"),
        (["sweep", "fil.toml"], "fil.toml: no such file or folder: did you mean 'file.toml'?"),
        (
            ["sweep", "--task", "dog-run", "Ant-v5", "--out", "x"],
            "Ant-v5 belongs to no option",
        ),
        (["sweep", "--task", "dog-run", "--out", "x", "--retries", "-1"], "whole number of at least 0"),
        (
            ["sweep", "--task", "dog-run", "--out", "file.toml", "--dry-run"],
            "file.toml is a file, where",
        ),
        (["sweep", "--task", "dog-run", "--out", "/proc/x", "--dry-run"], "nothing can be made in /proc"),
        (["sweep", "--task", "dog-run", "--out", "x", "--batchsize", "3"], "did you mean '--batch-size'?"),
        (["sweep", "worse.toml"], "option or hyperparameter 'batchsize': did you mean 'batch_size'?"),
        (["sweep", "."], ". holds no sweep"),
        (["sweep", "--status", "."], ". holds no sweep"),
        (["sweep", "--status", ".", "--gpus", "1"], "--gpus goes with --on ray or --on slurm"),
        (
            ["sweep", "--status", ".", "--on", "ray"],
            "--status shows the sweep in .: leave out everything else",
        ),
        (
            ["sweep", "--status", ".", "--jobs", "3"],
            "--status shows the sweep in .: leave out everything else",
        ),
        (["sweep", "--task", "dog-run"], "--out is missing"),
        (["sweep", "--task", "dog-rn", "--out", "x"], "did you mean 'dog-run'?"),
        (["sweep", "--task", "helpers:Poin,dog-run", "--out", "x", "--dry-run"], "'helpers' has no 'Poin'; "),
        (["sweep", "--task", "dog-run", "--out", "x", "--utd", "1", "--utd", "2"], "--utd is given twice"),
        (["sweep", "--tsk", "dog-run", "--out", "x"], "unrecognized arguments: --tsk"),
        (["sweep", "--utd", "3", "--out", "x"], "names no task"),
        (["sweep", "file.toml", "--utd", "3"], "--utd and file.toml are both given"),
        (["sweep", "--out", "x", "--task", "dog-run", "--json"], "add --dry-run"),
        (["sweep", "--out", "x", "--task", "dog-run", "--real-time", "50"], "a robot trains in one run at a"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(line, says, tmp_path):
    (tmp_path / "file.toml").write_text("[defaults]\ntask = 'dog-run'")
    (tmp_path / "worse.toml").write_text("[defaults]\ntask = 'dog-run'\nbatchsize = 3")
    said = helpers.call(*line, cwd=tmp_path)
    assert said.returncode == 2
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file.toml", "worse.toml"}


@st.composite
def written_plans(draw):
    """A file of defaults, a grid, a list and a group; and its assignments, by loops that know no sheet."""
    values = {
        "utd": [1, 2, 3],
        "batch_size": [16, 32],
        "eval_every": [5000, 10_000],
        "diagnostics": [True, False],
    }
    places = {name: draw(st.sampled_from(["out", "defaults", "grid", "list"])) for name in values}
    seeds, count = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    text = f"seeds_per_process = {count}\n[defaults]\ntask = 'dog-run'\nseeds = '0:{seeds}'\n"
    wanted, grid, entries = [{}], "[grid]\n", [f"eval_episodes = {number}" for number in (1, 2)]
    for name, choices in values.items():
        some = draw(st.lists(st.sampled_from(choices), min_size=1, unique=True))
        if places[name] == "grid":
            grid += f"{name} = {json.dumps(some)}\n"
            wanted = [each | {name: value} for each in wanted for value in some]
        elif places[name] != "out":
            wanted = [each | {name: some[0]} for each in wanted]
        if places[name] == "defaults":
            text += f"{name} = {json.dumps(some[0])}\n"
        elif places[name] == "list":
            entries = [f"{entry}\n{name} = {json.dumps(some[0])}" for entry in entries]
    text += grid + "".join(f"[[list]]\n{entry}\n" for entry in entries)
    wanted = [each | {"eval_episodes": number} for each in wanted for number in (1, 2)]
    groups = [tuple(range(first, min(first + count, seeds))) for first in range(0, seeds, count)]
    return text, [each | {"seeds": group} for each in wanted for group in groups]


@given(written_plans())
def test_a_plan_has_exactly_the_runs_that_its_file_asks_for(case):
    text, wanted = case
    runs = plan(parse(text, "file"), Path("out"))
    assert len({run.path for run in runs}) == len(runs) == len(wanted)
    usual = api.configure("dog-run")
    for each in wanted:
        found = []
        for run in runs:
            there = vars(run.config.settings) | vars(run.config.options)
            asked = vars(usual.settings) | vars(usual.options) | each
            found.append(
                all(there[name] == asked[name] for name in (*each, "utd", "batch_size", "eval_every"))
            )
        assert found.count(True) == 1


WRONG = [
    "[defaults]\nutd = 'x'", "[defaults]\nutd = -1", "[defaults]\nut = 1", "[grid]\nutd = []",
    f"[grid]\nutd = {list(range(1, 1001))}\nbatch_size = {list(range(1, 1001))}",
    "[gird]", "[[list]]\ntask = 3",
    "[defaults]\nutd = 1\n[grid]\nutd = [1, 2]", "[group.a]\nx = 1", "[defaults]\nseeds = '5:1'",
    "seeds_per_process = 0", "[defaults]\nbatch-size = 8\nbatch_size = 8", "[[list]]\nutd = {}", "\x00",
]  # fmt: skip


@given(st.sampled_from(WRONG), st.sampled_from(["utd", "task", "frames"]), st.text(max_size=8))
def test_any_fault_in_a_file_is_one_line_and_writes_nothing(fault, name, word):
    for text in (fault, f"[defaults]\n{name} = {json.dumps(word)}\n[list]"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "plan.toml")
            file.write_text(text)
            said = command_line("sweep", file, "--out", Path(folder, "out"), "--yes")
            assert (said.code, said.err.rstrip().count("\n")) == (2, 0), said
            assert [path.name for path in Path(folder).iterdir()] == ["plan.toml"]


@pytest.mark.parametrize(
    ("jobs", "says"), [(None, "core-hours, as the cluster has room"), (7, "with 7 side by side")]
)
def test_the_room_of_a_cluster_is_not_told_before_it_is_known(jobs, says, tmp_path):
    words = ["--on", "ray", "--dry-run", *(["--jobs", str(jobs)] if jobs else [])]
    said = command_line("sweep", "--task", "Pendulum-v1", "--out", tmp_path, *words)
    assert (said.code, says in said.out) == (0, True), said


def test_comments_survive(tmp_path):
    history.keep_plan(tmp_path, PAPER)
    history.keep_plan(tmp_path, PAPER)
    history.keep_plan(tmp_path, PAPER + "# and grow\n")
    kept = sorted((tmp_path / ".sweep").glob("*.toml"))
    assert [path.read_text() for path in kept] == [PAPER, PAPER + "# and grow\n"]
    assert history.kept_plan(tmp_path) == parse(PAPER, "file") or len(kept) == 2


def test_a_new_plan_is_the_newest_and_replaces_none(tmp_path):
    for text in ("# 1", "# 2"):
        history.keep_plan(tmp_path, text)
    (tmp_path / ".sweep" / "plan-001.toml").unlink()
    history.keep_plan(tmp_path, "# 3")
    assert {path.name: path.read_text() for path in (tmp_path / ".sweep").glob("*.toml")} == {
        "plan-002.toml": "# 2", "plan-003.toml": "# 3"
    }  # fmt: skip
    (tmp_path / ".sweep" / "plan-999.toml").write_text("# 999")
    history.keep_plan(tmp_path, "# 1000")
    assert history.newest_plan(tmp_path).name == "plan-1000.toml"
    assert history.keeps(tmp_path, "# 1000")
    assert not history.keeps(tmp_path, "# 999")


def test_what_a_sweep_says_is_kept_although_nobody_reads_it(tmp_path, monkeypatch):
    history.logs(tmp_path)
    events = history.recorded(tmp_path, tell)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        for line in ("one", "two"):
            events(line)
        monkeypatch.undo()
    kept = (tmp_path / ".sweep" / "sweep.log").read_text().splitlines()
    assert [line.split()[-1] for line in kept] == ["one", "two"]
    monkeypatch.setattr(files, "open_log", lambda path: (tmp_path / "missing" / "log").open("ab"))
    history.recorded(tmp_path, kept.append)("three")
    assert kept[-1] == "three"


def test_the_command_that_goes_on_has_the_options_that_were_given(tmp_path):
    line = "plan.toml --jobs 3 --on ray --gpus 0.5 --retries 0 --yes --no-wait --out x"
    parser = _parser()
    given = requests.again(parser, parser.parse_args(line.split()), Path("x y"))
    assert given == "crossq-wn sweep 'x y' --jobs 3 --retries 0 --no-wait --on ray --gpus 0.5"
    slurm = parser.parse_args(["--on", "slurm", "--slurm", "partition=long", "--slurm", "a=b"])
    wanted = "crossq-wn sweep d --on slurm --slurm partition=long --slurm a=b"
    assert requests.again(parser, slurm, Path("d")) == wanted


def test_a_plan_that_was_agreed_to_is_not_asked_for_again(tmp_path, monkeypatch):
    long = bills.Bill([], 100.0, 100.0, 100.0, 1, 1.0, "")
    monkeypatch.setattr("crossq_wn.cli.sweep._show_plan", lambda *arguments: long)
    monkeypatch.setattr(bills, "crowded", lambda *arguments: "")
    parser, sheet = _parser(), parse(PAPER, "file")
    request = requests.Request(sheet, PAPER, tmp_path)
    with pytest.raises(UserError, match="about 4 days here: --yes starts it"):
        _agree(request, [], [], parser.parse_args([]))
    _agree(request, [], [], parser.parse_args(["--yes"]))
    _agree(request, [], [], parser.parse_args([]))
    monkeypatch.setattr("crossq_wn.cli.sweep._show_plan", lambda *arguments: long._replace(hours=1.0))
    monkeypatch.setattr(bills, "crowded", lambda *arguments: "these runs take more")
    with pytest.raises(UserError, match="these runs take more: free some, choose another folder, or start"):
        _agree(requests.Request(sheet, "# another", tmp_path), [], [], parser.parse_args([]))


@pytest.mark.parametrize(("seeds", "cpus", "frame", "workers"), [
    (10, 4, 1e-3, 4), (2, 4, 1e-3, 2), (10, 1, 1e-3, 0), (1, 4, 1e-3, 0), (10, 4, 1e-5, 0)
])  # fmt: skip
def test_the_memory_of_workers_is_planned_for(seeds, cpus, frame, workers, monkeypatch):
    config = api.configure("dog-run", seeds=range(seeds))
    monkeypatch.setattr(bills.costs, "simulation", lambda task: bills.costs.Simulation((3, 2), frame))
    monkeypatch.setattr(bills.costs, "cost", lambda config: bills.costs.Cost(1, 1.0, 7.0, 1, 1000))
    assert bills.need(Run(Path("r"), config), cpus) == Need(7.0, 1000 + workers * 155 * 2**20)


def test_a_plan_says_if_seeds_would_be_done_sooner_apart(monkeypatch):
    seconds = {2: 36_000.0, 1: 18_000.0}  # ten hours
    monkeypatch.setattr(
        bills.costs, "cost",
        lambda config: bills.costs.Cost(1, 1.0, seconds[len(config.options.seeds)], 1, 1),
    )  # fmt: skip
    monkeypatch.setattr(bills.costs, "explain", lambda: "")
    both = replace(tiny(), options=replace(tiny().options, seeds=(0, 1)))
    together = [Run(Path(f"r{number}"), both) for number in range(2)]

    def hint(runs, jobs, *kinds):
        found = [State(kind, 0) for kind in kinds]
        return bills.sooner_apart(runs, found, bills.bill(runs, found, jobs, lambda run: "x"), jobs)

    assert hint(together, 4, "missing", "missing") == (
        "up to 2 seeds share a process, which takes one core for all of them: "
        "with --seeds-per-process 1 it would be 5.0 hours"
    )
    assert hint(together, 4, "missing", "finished")
    assert not hint(together, 2, "missing", "missing")  # all cores are used as it is
    assert not hint(together, 4, "missing", "cut off")  # too late
    assert not hint([Run(Path("r"), tiny())], 4, "missing")


def test_a_disk_without_room_for_what_is_left_is_noticed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(bills.costs, "cost", lambda config: bills.costs.Cost(1, 1.0, 1.0, 8 * 10**9, 1))
    monkeypatch.setattr(bills.places, "free", lambda out: 5 * 10**9)
    states = [State("missing", 0), State("cut off", 150), State("finished", 200)]
    said = bills.crowded([run] * 3, states, tmp_path)
    assert said == f"these runs take about 10.0 GB more, and 5.0 GB are free in {tmp_path}"
    assert bills.crowded([run] * 2, states[1:], tmp_path) == ""
    monkeypatch.undo()
    assert 0 < bills.places.free(tmp_path / "not" / "there") < 10**18


def test_attempts_that_a_crash_cut_off_are_passed_over(tmp_path):
    history.logs(tmp_path)
    whole = Attempt("run", 1.0, 0, 100, "boom", True, 5, 2.0)
    history.History(tmp_path).add(whole)
    with open(tmp_path / ".sweep" / "attempts.jsonl", "a") as file:
        file.write('[]\n{"run": 3}\n{"run": "ru')
    assert list(history.History(tmp_path).of("run")) == [whole]


def test_an_attempt_that_another_sweep_notes_is_news_once_it_is_whole(tmp_path):
    history.logs(tmp_path)
    ours, theirs = history.History(tmp_path), history.History(tmp_path)
    ours.add(Attempt("run", 1.0, 0, 100, "boom"))
    wanted = Attempt("run", 2.0, 100, 100, "boom", True, 5, 2.0, 7)
    line = json.dumps(wanted._asdict()) + "\n"
    with open(tmp_path / ".sweep" / "attempts.jsonl", "a", buffering=1) as file:
        file.write(line[:30])
        file.flush()
        assert ours.news() == []
        file.write(line[30:])
    assert (ours.news(), ours.news()) == ([wanted], [])
    assert theirs.news() == list(ours.of("run")) == [Attempt("run", 1.0, 0, 100, "boom"), wanted]


@pytest.mark.parametrize(("retries", "standing"), [(0, "failed"), (1, "waiting"), (None, "waiting")])
def test_status_counts_failures_as_the_sweep_was_told(retries, standing, run, tmp_path):
    begun(run, 100)
    history.logs(tmp_path)
    failed = Attempt(str(run.path.relative_to(tmp_path)), 1.0, 100, 100, "boom")
    values = failed._asdict() if retries is None else failed._replace(retries=retries)._asdict()
    if retries is None:  # of a version that recorded none
        del values["retries"]
    (tmp_path / ".sweep" / "attempts.jsonl").write_text(json.dumps(values) + "\n")
    (line,) = status.lines([run], tmp_path)
    assert line.standing == standing
    assert line.why.endswith("boom")


def test_logs_of_runs_with_long_names_fit_into_a_file_system(tmp_path):
    parts = [letter * 128 for letter in "abc"]
    runs = [Run(tmp_path.joinpath(*parts[:2], parts[2] + end), tiny()) for end in ("", "d")]
    names = {f"{flat_name(run.path)}.log" for run in runs}
    assert len(names) == 2
    for name in names:
        (tmp_path / name).touch()
    assert flat_name(Path("s/dog-run/sac/seed-0")) == "dog-run--sac--seed-0"


@pytest.mark.parametrize(
    ("seeds", "words"), [((3,), "3"), ((0, 1), "0-1"), ((2, 3, 4), "2-4"), ((0, 2), "0,2"), ((2, 1), "2,1")]
)
def test_seeds_are_written_as_a_range_or_one_by_one(seeds, words):
    assert seed_range(seeds) == words


def test_time_left_follows_from_the_speeds_measured():
    line = status.Line(None, "t", "s", (0,), "running", 50, 100, 10.0, None, "")
    waiting = line._replace(standing="waiting", frames=0, speed=None)
    done = line._replace(standing="done", frames=100, speed=None)
    found = status.summary([line, waiting, done])
    assert found.standings == {"running": 1, "waiting": 1, "done": 1, "failed": 0}
    assert found.hours == pytest.approx((5 + 10) / 3600)
    assert status.summary([waiting, done]).hours is None


def test_the_environment_of_a_process_is_the_users_but_for_its_threads(run, tmp_path, monkeypatch):
    started, own = {}, [{0, 1, 2, 3}]

    def popen(arguments, **options):
        started.update(options, arguments=arguments, own=own[-1])
        return SimpleNamespace(pid=os.getpid(), poll=lambda: None)

    monkeypatch.setattr(engines.subprocess, "Popen", popen)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, chosen: own.append(chosen), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    engine = local.LocalEngine(2, tmp_path, {"MUJOCO_GL": "egl", "OMP_NUM_THREADS": "7"})
    engine.start(run, State("missing", 0), 1, 0)
    assert started["env"] == {
        "MUJOCO_GL": "egl", "OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2",
    }  # fmt: skip
    assert started["own"] == [1, 3]  # from its first moment on
    assert own[-1] == {0, 1, 2, 3}
    assert started["arguments"][3:] == list(command(run))
    engine.start(run, State("cut off", 100), 1, 0)
    assert started["arguments"][3:] == ["resume", str(run.path), "--frames", "200"]


def test_processes_share_the_gpus(tmp_path):
    assert [local.gpu_of(slot, 2, ["3", "5"])["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["3", "5"]
    shared = [local.gpu_of(slot, 3, ["0", "1"]) for slot in range(3)]
    assert [each.get("XLA_PYTHON_CLIENT_MEM_FRACTION") for each in shared] == ["0.45", None, "0.45"]
    assert local.gpu_of(0, 4, []) == {}
    (tmp_path / "proc/driver/nvidia/gpus/0000:01").mkdir(parents=True)
    assert gpus({}, tmp_path) == ["0"]
    assert gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-7"}, tmp_path) == ["2", "GPU-7"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == gpus({}, tmp_path / "nowhere") == []


def test_a_longer_sweep_trains_its_runs_further(run):
    begun(run, 200)
    longer = Run(run.path, replace(run.config, options=replace(run.config.options, frames=400)))
    assert state_of(longer)[:2] == ("cut off", 200)
