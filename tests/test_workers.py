"""Environments in worker processes: the same numbers to the last bit, faults as here, nothing left over."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

import crossq_wn
import worlds
from crossq_wn.environments import crew as crew_module
from crossq_wn.environments import make, moving, worker
from crossq_wn.environments.core import EnvironmentFaultError
from crossq_wn.environments.crew import Crew, _Hand
from crossq_wn.environments.interface import describe
from crossq_wn.environments.moving import Move
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.remote import Remote
from crossq_wn.errors import UserError
from crossq_wn.training import building, deciding, updating
from helpers import (
    TINY_OPTIONS,
    TINY_SETTINGS,
    environment_variables,
    same_run,
    use_workers,
    wait_until,
)

# Two seeds, whose learning is of no interest here.
QUICK = TINY_OPTIONS | TINY_SETTINGS | {"algorithm": "sac", "diagnostics": False, "seeds": (0, 1)}


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    use_workers(monkeypatch)


@pytest.fixture
def crews():
    made = []

    def build(task, seeds=3, sets=1, workers=2, **options):
        made.append(Crew(partial(make, task, **options), seeds=seeds, sets=sets, workers=workers))
        return made[-1]

    yield build
    for crew in made:
        crew.close()


@pytest.fixture
def pools(crews):
    """A pool that has begun, and what it said."""
    made = []

    def build(task, seeds=3, workers=2, **options):
        said = []
        environments = [make(task, **options) for _ in range(seeds)]
        crew = crews(task, seeds, workers=workers, **options)
        made.append(Pool(environments, 1, crew, 0, said.append))
        made[-1].resets(range(seeds), [11 * k for k in range(seeds)])
        return made[-1], said

    yield build
    for pool in made:
        pool.close()


def drive(pool, decisions=1, seed=0, until=None):
    """Steps a pool with random actions, and resets what is over; everything that it returned."""
    generator, seen = np.random.default_rng(seed), []
    count, size = len(pool.environments), pool.environments[0].action_size
    end = time.monotonic() + 60
    while decisions > 0 if until is None else not until():
        results = pool.step(range(count), generator.uniform(-1, 1, (count, size)).astype(np.float32))
        over = [k for k, result in enumerate(results) if getattr(result, "episode", None) is not None]
        seen.append((results, pool.resets(over)))
        decisions -= 1
        assert time.monotonic() < end
    return seen


def moved(pool):
    drive(pool, until=lambda: pool._move.decided)
    return pool.way == "workers"


def assert_same(left, right):
    for (ours, began), (theirs, also_began) in zip(left, right, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.next_observation, other.next_observation)
            assert one[1:] == other[1:]
        np.testing.assert_array_equal(began, also_began)


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- the same numbers


@pytest.mark.parametrize(
    ("task", "limit"), [("worlds:Walk", None), ("cheetah-run", 60), ("myo-key-turn-hard", 30)]
)
def test_environments_go_on_in_workers_as_they_would_have_here(task, limit, pools):
    pool, said = pools(task, 2, episode_frames=limit)
    other = Pool([make(task, episode_frames=limit) for _ in range(2)], 1)
    other.resets(range(2), [0, 11])
    assert moved(pool), said
    states = [environment.snapshot() for environment in pool.environments]
    for environment, state in zip(other.environments, states, strict=True):
        assert isinstance(pool.environments[0], Remote)
        environment.restore(state)
        assert moving.same(environment.snapshot(), state)
    assert_same(drive(pool, 80, 1), drive(other, 80, 1))
    for there, here in zip(pool.environments, other.environments, strict=True):
        assert describe(there.simulator) == describe(here.simulator)
        assert moving.same(there.snapshot(), here.snapshot())
        assert (there.largest_reward, there.largest_observation) == (
            here.largest_reward, here.largest_observation,
        )  # fmt: skip
    other.close()
    assert said == [f"the environments of {task} are now stepped in 2 processes of their own"]


def test_a_run_is_the_same_in_workers_and_here_and_goes_on_in_the_other_way(tmp_path, monkeypatch):
    ways = []
    made = Move._decide

    def noting(self):
        made(self)
        ways.append(self.made)

    monkeypatch.setattr(Move, "_decide", noting)

    def run(folder, frames, task="worlds:Walk"):
        options = QUICK | {"warmup": 3000, "eval_episodes": 3}
        return crossq_wn.train(task, frames=frames, out=tmp_path / folder, **options).path

    def here(function, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(building, "processors", lambda: 1)
            return function(*arguments, **options)

    whole = here(run, "here", 500)
    first = here(run, "begun here", 270)
    assert ways == []
    crossq_wn.resume(first, frames=500)
    second = run("begun there", 270)
    assert ways == [True] * 4, "training and evaluation, twice"
    here(crossq_wn.resume, second, frames=500)
    for other in (first, second):
        same_run(whole, other, seeds=(0, 1))


def test_workers_step_while_this_process_does_something_else(crews):
    """They take a step that has begun by themselves, and the next one begins anew."""
    crew, other = crews("worlds:Walk", 4), crews("worlds:Walk", 4)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    for each in (crew, other):
        each.start(3, 2)
        assert each.ready()
        each.call([(seat, "reset", (seat,)) for seat in range(4)])
    before = crew.board.observations.copy()
    crew.begin(range(4), actions[0])
    wait_until(lambda: (crew.board.observations != before).any(axis=1).all())  # nobody waits for them
    assert_same([(crew.step(range(4), actions[0]), [])], [(other.step(range(4), actions[0]), [])])
    assert_same([(crew.step(range(4), actions[1]), [])], [(other.step(range(4), actions[1]), [])])
    crew.begin(range(4), actions[2])
    crew._hands[1]._process.send_signal(signal.SIGSEGV)
    results = crew.step(range(4), actions[2])
    assert [isinstance(result, EnvironmentFaultError) for result in results[::2]] == [False, False]


def test_with_processors_to_spare_workers_start_at_once_and_wait_without_sleeping(tmp_path, monkeypatch):
    options = QUICK | {"frames": 60, "eval_every": 1000}
    started, start = [], Crew.start

    def noting(crew, *sizes):
        started.append(crew.awake)
        start(crew, *sizes)

    asleep = crossq_wn.train("worlds:Walk", out=tmp_path / "asleep", **options).path
    monkeypatch.setattr(crew_module, "_SPARE", 0)
    monkeypatch.setattr(building, "Crew", lambda recipe, **given: Crew(recipe, **given | {"alone": True}))
    monkeypatch.setattr(Crew, "start", noting)
    awake = crossq_wn.train("worlds:Walk", out=tmp_path / "awake", **options).path
    assert started == [crew_module._AWAKE], "once, for training and evaluations"
    same_run(asleep, awake, seeds=(0, 1))


@pytest.mark.parametrize(("worth", "told"), [(1.0, 0), (0.0, 1)])
def test_of_workers_that_start_early_and_are_refused_only_slow_tasks_tell(worth, told, monkeypatch):
    monkeypatch.setattr(crew_module, "_SPARE", 0)
    monkeypatch.setattr(moving, "_WORTH_AWAKE", worth)
    said = []
    with closing(Crew(lambda: make("worlds:Walk"), seeds=2, sets=1, workers=2, alone=True)) as crew:
        crew.start(3, 2)  # a lambda cannot be sent to another process
        assert crew.refusal
        pool = Pool([make("worlds:Walk") for _ in range(2)], 1, crew, 0, said.append)
        pool.resets([0, 1], [0, 1])
        for _ in range(25):
            pool.step([0, 1], np.zeros((2, 2), np.float32))
        assert pool.decided
        pool.close()
    assert len(said) == told


@pytest.mark.parametrize("awake", [0.0, 1e-3])
def test_a_byte_is_waited_for_and_a_closed_pipe_has_none(awake):
    reading, writing = os.pipe()
    os.set_blocking(reading, not awake)
    for delay in (0.0, 0.05):
        Timer(delay, os.write, (writing, b"x")).start()
        assert worker.read_byte(reading, awake) == b"x"
    Timer(0.05, os.close, (writing,)).start()
    assert worker.read_byte(reading, awake) == b""
    os.close(reading)


def test_with_overlap_workers_step_while_updates_are_launched_and_change_nothing(tmp_path, monkeypatch):
    order, update_once, begin, await_ring = [], updating._update_once, Crew.begin, _Hand.await_ring

    def noting(name, function):
        def call(*arguments):
            order.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(updating, "_update_once", noting("update", update_once))
    monkeypatch.setattr(
        deciding, "settle", noting("settle", deciding.settle)
    )  # between the two, without overlap
    monkeypatch.setattr(Crew, "begin", noting("begin", begin))
    monkeypatch.setattr(_Hand, "await_ring", noting("wait", await_ring))

    def run(folder):
        options = QUICK | {"overlap": True, "eval_every": 1000}
        return crossq_wn.train("worlds:Walk", frames=100, out=tmp_path / folder, **options).path

    there = run("there")
    assert "".join(each[0] for each in order).count("ubww") > 40, "update, begin, wait for two workers"
    monkeypatch.setattr(building, "processors", lambda: 1)
    same_run(run("here"), there, seeds=(0, 1))


def test_what_wrappers_learn_and_a_worker_s_environment_are_there(crews):
    crew = crews("worlds:Telling", 1)
    here = make("worlds:Walk")
    crew.start(3, 2)
    assert crew.ready()
    remote = Remote(crew, 0, here)
    told = remote.snapshot()["simulator"]["own"]["dict"]
    assert told["process"] != os.getpid()
    assert told["jax"] is False
    state = np.random.get_state()[1]
    remote.reset(3)
    assert not np.array_equal(np.random.get_state()[1], state)  # as a reset here does
    assert remote.statistics() == {}
    remote.adopt({}, fixed=True)
    with pytest.raises(UserError, match="no method `render`"):
        remote.render(8, 8)


# --- faults


def test_a_fault_in_a_worker_is_the_same_and_shows_the_user_s_lines(crews):
    here, crew = make("worlds:Burning"), crews("worlds:Burning")
    crew.start(3, 2)
    assert crew.ready()
    faults = []
    for step, begin in (
        (lambda action: here.step(action[0]), here.reset),
        (lambda action: crew.step([1], action)[0], Remote(crew, 1, here).reset),
    ):
        begin(5)
        for _ in range(200):
            try:
                result = step(np.zeros((1, 2), np.float32))
            except EnvironmentFaultError as fault:
                result = fault
            if isinstance(result, EnvironmentFaultError):
                break
            if result.episode is not None:
                begin()
        faults.append(result)
    ours, theirs = faults
    assert str(ours) == str(theirs)
    assert type(ours.__cause__) is type(theirs.__cause__)
    told = "".join(traceback.format_exception(theirs.__cause__))
    assert "worlds.py" in told
    assert "raise " in told.partition("worlds.py")[2]


def test_a_worker_that_crashes_costs_its_own_seeds_and_is_replaced(crews):
    crew, here = crews("worlds:Walk", 4, sets=2), make("worlds:Walk")
    crew.start(3, 2)
    assert crew.ready()
    crew.call([(seat, "reset", (seat,)) for seat in range(8)])
    actions = np.zeros((4, 2), np.float32)
    crew.step(range(4), actions)
    crew._hands[1]._process.send_signal(signal.SIGSEGV)
    results = crew.step(range(4), actions)
    kinds = [isinstance(result, EnvironmentFaultError) for result in results]
    assert kinds == [False, True, False, True]
    assert "killed by signal 11" in str(results[1])
    first = crew.call([(1, "reset", (8,)), (3, "reset", (None,)), (5, "snapshot", ()), (2, "snapshot", ())])
    np.testing.assert_array_equal(first[0], here.reset(8))
    assert [isinstance(answer, EnvironmentFaultError) for answer in first] == [False, True, True, False]
    results = crew.step(range(4), actions)
    kinds = [isinstance(result, EnvironmentFaultError) for result in results]
    assert kinds == [False, False, False, True]
    crew._hands[0]._process.kill()  # as the kernel does where memory runs out, which costs no seed
    with pytest.raises(MemoryError, match="environments were stepped was killed by signal 9"):
        crew.step(range(4), actions)
    crew.close()
    assert all(ended(hand._process.pid) for hand in crew._hands)


@pytest.fixture
def kill(monkeypatch):
    """(signal, worker, seats, number of their steps in workers) -> that worker dies in the next one."""
    plans, steps, step = [], [], Crew.step

    def killing(crew, seats, actions):
        steps.extend([tuple(seats)] * crew.used)
        for plan in list(plans):
            number, worker, among, after = plan
            if steps.count(tuple(seats)) > after and tuple(seats) == among:
                plans.remove(plan)
                crew._hands[worker]._process.send_signal(number)
        return step(crew, seats, actions)

    def begin(*plan):
        assert not plans, "the one before has died"
        plans.append(plan)
        steps.clear()

    monkeypatch.setattr(Crew, "step", killing)
    yield begin
    assert not plans


CATCHING_UP = QUICK | {"warmup": 3000, "seeds": (4, 5, 6), "frames": 300, "eval_every": 120}
TRAINED, EVALUATED = (0, 1, 2), (3, 4, 5)  # seats


def test_a_seed_whose_worker_crashes_stops_alone_and_catches_up_in_a_worker(tmp_path, kill):
    whole = crossq_wn.train("worlds:Walk", out=tmp_path / "whole", **CATCHING_UP).path
    kill(signal.SIGSEGV, 1, TRAINED, 60)
    done = crossq_wn.train("worlds:Walk", out=tmp_path / "run", **CATCHING_UP)
    assert list(done.failed) == [5]
    assert "killed by signal 11" in done.failed[5]
    assert done.finished
    same_run(whole, done.path, tables=False, seeds=(4, 6))
    kill(signal.SIGKILL, 1, (1,), 30)
    with pytest.raises(MemoryError, match="killed by signal 9"):
        crossq_wn.resume(done.path)
    assert crossq_wn.resume(done.path).failed == {}
    same_run(whole, done.path, seeds=(4, 5, 6))


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "deaths",
    [
        [(signal.SIGKILL, 1, TRAINED, 130)],
        [(signal.SIGKILL, 1, EVALUATED, 5)],
        [(signal.SIGSEGV, 1, EVALUATED, 5)],
        [(signal.SIGSEGV, 1, TRAINED, 60), (signal.SIGSEGV, 1, (1,), 30)],
        [(signal.SIGSEGV, 1, TRAINED, 60), (signal.SIGKILL, 1, (4,), 5)],
    ],
    ids=[
        "in training",
        "in evaluation",
        "crashed in evaluation",
        "crashed twice",
        "in evaluation while behind",
    ],
)
def test_whenever_a_worker_dies_the_run_goes_on_bit_for_bit(deaths, overlap, tmp_path, kill):
    options = CATCHING_UP | {"overlap": overlap}
    whole = crossq_wn.train("worlds:Walk", out=tmp_path / "whole", **options).path
    run = tmp_path / "run"
    for death in deaths:
        kill(*death)
        with contextlib.suppress(MemoryError):
            if run.exists():
                crossq_wn.resume(run)
            else:
                crossq_wn.train("worlds:Walk", out=run, **options)
    assert crossq_wn.resume(run).failed == {}
    same_run(whole, run, seeds=(4, 5, 6))


# --- nothing is left

PROGRAM = """
import os, sys, time
from contextlib import closing
from functools import partial

import numpy as np

from crossq_wn.environments import make
from crossq_wn.environments.crew import Crew
from crossq_wn.signals import collected_signals

task, end = sys.argv[1:]
with collected_signals() as received:
    crew = Crew(partial(make, task), seeds=2, sets=1, workers=1)
    crew.start(3, 2)
    while not crew.ready():
        time.sleep(0.01)
    crew.call([(0, "reset", (0,)), (1, "reset", (1,))])
    print(*[hand._process.pid for hand in crew._hands], flush=True)
    if end == "forgotten":
        sys.exit()
    with closing(crew):
        if end == "raised":
            raise RuntimeError
        while not received:
            crew.step([0, 1], np.zeros((2, 2), np.float32))
        saved = crew.call([(0, "snapshot", ()), (1, "snapshot", ())])
    print(all(isinstance(each, dict) for each in saved), flush=True)
"""

GROUP = [signal.SIGINT, signal.SIGTERM]  # sent to all processes of the group


@pytest.fixture
def parent():
    started = []

    def start(task, end):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, task, end],
                env=environment_variables(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_no_end_of_the_parent_leaves_a_process(parent):
    running = {}
    for end in (*GROUP, "forgotten", "raised", "killed", "killed in a step"):
        task = "worlds:Hanging" if end == "killed in a step" else "worlds:Walk"
        running[end] = parent(task, str(end))
    for end, process in running.items():
        worker = int(process.stdout.readline())
        if end in GROUP:
            os.killpg(process.pid, end)
        elif end in ("killed", "killed in a step"):
            assert "/memfd:crossq-wn (deleted)" in Path(f"/proc/{worker}/maps").read_text()
            process.kill()
        assert process.wait(60) == {"forgotten": 0, "raised": 1}.get(end, 0 if end in GROUP else -9)
        assert process.stdout.read().strip() == ("True" if end in GROUP else ""), process.stderr.read()
        wait_until(lambda worker=worker: ended(worker))


# --- staying here


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (lambda: worlds.Walk(), "pickle"),
        ("worlds:Drawing", "draws from `random` or `numpy.random`"),
        ("worlds:Counting", "changes Counting.taken"),
        ("worlds:Open", "Open.file is a _io.TextIOWrapper"),
        ("worlds:Elsewhere", "does not do the same"),
        ("worlds:Refusing", "the licence is for one process"),
        ("worlds:WithJax", "imports JAX"),
        ("worlds:NotThere", "the only robot is taken"),
    ],
)
def test_what_cannot_be_moved_stays_here_and_says_why(task, why, pools):
    if callable(task):
        task.__name__ = "mine"  # its name in messages
    pool, said = pools(task, 2, workers=1)
    assert not moved(pool)
    drive(pool, 50)
    assert len(said) == 1
    assert why in said[0]
    assert "\n" not in said[0]
    assert not pool._crew.started
