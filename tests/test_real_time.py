"""Learning in real time: deadlines, the two processes' memory, the journal, and a whole run with a robot."""

import contextlib
import json
import math
import os
import pickle
import re
import resource
import runpy
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
import robots
from crossq_wn.acting.interface import in_units
from crossq_wn.acting.operations import Network, Op
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.environments import EnvironmentFaultError, Episode, Transition, make
from crossq_wn.environments.board import unnamed_file
from crossq_wn.environments.core import NoActionError
from crossq_wn.environments.interface import from_units
from crossq_wn.environments.layers import Layers
from crossq_wn.errors import UserError
from crossq_wn.learning.replay import Replay
from crossq_wn.real_time import hanging, side
from crossq_wn.real_time.acting import Evaluate, Setup, Side, Train, generator_from
from crossq_wn.real_time.hanging import Hanging
from crossq_wn.real_time.journal import Journal
from crossq_wn.real_time.memory import Shared, shape_for
from crossq_wn.real_time.pacing import Paced
from crossq_wn.real_time.playing import Timing, paced, tell_of_timing, timing_of
from crossq_wn.real_time.priority import favour_process, take_priority, what_is_denied
from crossq_wn.real_time.records import Decision, pack, record_type, unpack
from crossq_wn.real_time.robot import Robot
from crossq_wn.real_time.schedule import Clock, Schedule, following, schedule_of
from crossq_wn.real_time.side import Stand
from crossq_wn.real_time.watch import COLUMNS, Watch
from crossq_wn.runs.options import RunOptions
from crossq_wn.runs.protocol import protocol_conflicts, read_terms, terms_of
from crossq_wn.training import real_time, saving
from crossq_wn.training.arrivals import take
from crossq_wn.training.callbacks import Calls
from crossq_wn.training.course import finite, require_plain, served_by
from crossq_wn.training.real_time import due, tell_of_robot
from crossq_wn.training.seeds import Stream, new_seed, stream
from crossq_wn.types import Burst
from helpers import TESTS, TINY, TINY_SETTINGS, PointMass, call, replay_rows, rows, start_cli
from robots import HELP

PAGE = TESTS.parent / "docs" / "your-robot.md"
TIMES = st.floats(0, 100, allow_nan=False)
SIZES = {"observation_size": 3, "action_size": 2}
KIND = record_type(3, 2)
BOUNDS = np.full(2, -2.0), np.full(2, 3.0), np.dtype(np.float32)


# Deadlines


@given(TIMES, TIMES, st.floats(1, 1000))
def test_decisions_keep_to_the_grid_and_never_come_in_bursts(before, arrived, hertz):
    schedule = schedule_of(hertz)
    after = following(schedule, before, arrived, own_clock=False)
    assert after >= arrived
    assert after >= before + schedule.period
    if arrived <= before + schedule.period:
        assert after == before + schedule.period


@given(TIMES, TIMES, st.floats(1, 1000))
def test_a_clock_of_the_robots_own_is_followed_but_never_in_bursts(before, arrived, hertz):
    schedule = schedule_of(hertz)
    after = following(schedule, before, arrived, own_clock=True)
    assert after >= arrived
    assert after >= before + schedule.period / 2
    if arrived >= before + schedule.period / 2:
        assert after == arrived


class Time:
    """A clock that goes only when something takes time."""

    def __init__(self):
        self.seconds = 10.0

    def clock(self):
        return Clock(lambda: self.seconds, self.take)

    def take(self, seconds):
        self.seconds += seconds


def play(
    name="robots:Robot", *, computing=lambda number: 0.0, stepping=lambda number: 0.0, actions=None, **others
):
    """Plays an episode at 50 Hz by a clock that only these durations move: (moments, when each was given)."""
    time, robot, given, choices = Time(), Robot(make(name)), [], []
    step = robot.environment.simulator.step

    def timed_step(action):
        given.append(time.seconds)
        time.take(stepping(len(given) - 1))
        return step(action)

    def choose(observation):
        number = len(choices)
        time.take(computing(number))
        choices.append(actions[number] if actions else np.full(2, -0.2, np.float32))
        return choices[-1]

    robot.environment.simulator.step = timed_step
    first = robot.reset(0)
    going = others.get("going", lambda time: len(given) < 12)
    schedule = others.get("schedule", Schedule(0.02))
    moments = paced(robot, first, schedule, time.clock(), choose, lambda: going(time))
    return moments, given


def test_a_robot_without_a_clock_is_paced():
    moments, given = play(computing=lambda number: 0.001, stepping=lambda number: 0.004)
    found = list(moments)
    np.testing.assert_allclose(np.diff(given), 0.02)
    np.testing.assert_allclose([each.lateness for each in found], 0.001, atol=1e-9)
    np.testing.assert_allclose([each.busy for each in found], 0.004, atol=1e-9)
    assert not any(each.safe for each in found)


def test_no_action_comes_after_a_stop_that_was_asked_while_waiting():
    moments, given = play(going=lambda time: time.seconds < 10.03)
    assert len(list(moments)) == len(given) == 2  # at 10.00 and at 10.02; the next was due at 10.04
    slow, given = play(schedule=Schedule(50.0), going=lambda time: time.seconds < 11.0)
    assert len(list(slow)) == 1


def test_a_robot_that_keeps_its_own_slower_clock_makes_no_lateness():
    moments, given = play(stepping=lambda number: 0.03)
    assert all(each.lateness < 1e-9 for each in moments)
    np.testing.assert_allclose(np.diff(given), 0.03)


@pytest.mark.parametrize(("name", "after_it"), [("robots:OwnClock", 0.011), ("robots:Robot", 0.02)])
def test_a_tick_that_came_late_delays_no_later_action_of_a_robot_that_says_it_has_a_clock(name, after_it):
    moments, given = play(name, stepping=lambda number: {3: 0.029, 4: 0.011}.get(number, 0.02))
    assert all(each.lateness < 1e-9 for each in moments)
    np.testing.assert_allclose(np.diff(given)[:6], [0.02, 0.02, 0.02, 0.029, after_it, 0.02], atol=1e-9)


@pytest.mark.parametrize(("name", "wanted"), [("robots:OwnClock", 0.011), ("robots:Robot", 0.02)])
def test_a_trained_policy_follows_a_robots_own_clock(name, wanted):
    time, given = Time(), []
    robot = Paced(make(name), Schedule(0.02), time.clock())
    step = robot._environment.simulator.step

    def timed_step(action):
        given.append(time.seconds)
        time.take(0.011)
        return step(action)

    robot._environment.simulator.step = timed_step
    robot.reset(0)
    for _ in range(3):
        robot.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(np.diff(given), wanted, atol=1e-9)


def test_a_late_action_is_replaced_by_the_safe_one_and_the_rate_goes_on():
    moments, given = play(computing=lambda number: 0.015 if number == 3 else 0.0)
    found = list(moments)
    assert [each.safe for each in found] == [False] * 3 + [True] + [False] * 8
    assert found[3].lateness == pytest.approx(0.015)
    np.testing.assert_array_equal(found[3].action, [0, 0])  # SAFE is the middle of the bounds
    np.testing.assert_allclose(np.diff(given)[4:], 0.02)


def test_a_robot_without_a_safe_action_gets_the_late_one():
    moments, _ = play("helpers:PointMass", computing=lambda number: 0.015)
    assert [(each.safe, each.action[0]) for each in moments] == [(False, np.float32(-0.2))] * 12


def test_what_a_person_does_is_recorded_instead():
    moments, _ = play()
    found = list(moments)
    assert [each.intervened for each in found] == [False] * 4 + [True] + [False] * 7
    np.testing.assert_allclose(found[4].action, (np.array(HELP) - 0.5) / 2.5, rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_no_action_that_is_not_finite_reaches_a_robot(wrong, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    sound = np.zeros(2, np.float32)
    moments, _ = play(actions=[sound, np.array([0, wrong], np.float32)])
    with pytest.raises(EnvironmentFaultError, match="was not stepped: the policy chose"):
        list(moments)
    steps = [line.split()[2:] for line in (tmp_path / "log").read_text().splitlines() if " step " in line]
    assert steps == [["0.500000", "0.500000"]] * 2  # the sound one, then the safe one


def test_a_trained_policy_that_is_played_late_is_told_of():
    time, told = Time(), []
    robot = Paced(make("robots:OwnClock"), Schedule(0.02), time.clock())
    step = robot._environment.simulator.step
    stepping = {1: 0.03, 2: 0.019}

    def timed_step(action):
        time.take(stepping.get(robot.timing.decisions, 0.02))
        return step(action)

    robot._environment.simulator.step = timed_step
    robot.reset(0)
    for computing in (0.5, 0.009, 0.011, 0.0, 0.011):  # of the first one nobody says when it is due
        time.take(computing)
        robot.step(np.zeros(2, np.float32))
    robot.close()
    robot.tell(told.append)
    assert told == [
        "this evaluation of 5 decisions had 2 late actions, 1 safe action instead of such, and 1 overrun "
        "of the environment"
    ]  # a person acted in place of the other


def test_a_trained_policy_is_played_at_the_control_rate(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    time, given = Time(), []
    robot = Paced(make("robots:Robot", episode_frames=3), Schedule(0.02), time.clock())
    robot.reset(0)
    time.take(0.5)  # a person may take that long
    after = None
    while after is None or after.episode is None:
        after = robot.step(np.zeros(2, np.float32))
        given.append(time.seconds)
        time.take(0.004)
    assert robot.timing == (3, 0, 0, 0)
    assert robot.observation_size == 3
    assert robot.close() is None
    np.testing.assert_allclose(given, [10.5, 10.52, 10.54])
    log = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert log == ["reset", "resume", "step", "step", "step", "pause", "close"]


@pytest.mark.parametrize("end", [Paced.pause, Paced.close])
def test_an_episode_that_is_given_up_ends_with_the_safe_action(end, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    robot = Paced(make("robots:Robot"), Schedule(0.02), Time().clock())
    robot.reset(0)
    robot.step(np.full(2, -1, np.float32))
    end(robot)  # as after a policy that has no action, or Ctrl-C
    log = [line.split(maxsplit=1)[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert log[2:5] == ["step -2.000000 -2.000000", "step 0.500000 0.500000", "pause"]


def logged(folder):
    """What was done to a robot, word by word."""
    return [line.split(maxsplit=1)[1] for line in (folder / "log").read_text().splitlines()]


SENT, GIVEN_UP = "step -2.000000 -2.000000", ["step 0.500000 0.500000", "pause"]


@pytest.fixture
def robot_in_an_episode(tmp_path, monkeypatch):
    """One in this process, after a decision, and its clock."""
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    time = Time()
    robot = Paced(make("robots:Robot"), Schedule(0.02), time.clock())
    robot.reset(0)
    robot.step(np.full(2, -1, np.float32))
    yield robot, time
    robot.close()


def test_a_robot_gets_no_late_action_outside_of_training_either(robot_in_an_episode, tmp_path):
    robot, time = robot_in_an_episode
    for late in (0.031, 0.01):
        time.take(late)
        robot.step(np.full(2, -1, np.float32))
    assert logged(tmp_path)[2:] == [SENT, GIVEN_UP[0], SENT]
    assert robot.timing == (3, 1, 1, 0)


def test_a_robot_is_reset_at_rest(robot_in_an_episode, tmp_path):
    robot, _ = robot_in_an_episode
    robot.reset()
    assert logged(tmp_path)[2:] == [SENT, *GIVEN_UP, "reset", "resume"]


def test_a_robot_that_nobody_closes_comes_to_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    robot = Paced(make("robots:Robot"), Schedule(0.02), Time().clock())
    robot.reset(0)
    robot.step(np.full(2, -1, np.float32))
    del robot  # as at the end of the program
    assert logged(tmp_path)[2:] == [SENT, *GIVEN_UP]


def test_a_signal_that_would_end_the_program_lets_the_robot_come_to_rest_first(
    robot_in_an_episode, tmp_path, monkeypatch
):
    robot, strike = robot_in_an_episode[0], signal.raise_signal
    monkeypatch.setattr(signal, "raise_signal", lambda number: (tmp_path / "signal").write_text(str(number)))
    with pytest.raises(KeyboardInterrupt):
        strike(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the second one acts at once
    assert not (tmp_path / "signal").exists()
    robot.close()
    assert logged(tmp_path)[2:] == [SENT, *GIVEN_UP, "close"]
    assert (tmp_path / "signal").read_text() == str(int(signal.SIGTERM))


def test_an_episode_of_training_that_is_broken_off_ends_with_the_safe_action(ends, tmp_path, monkeypatch):
    learning, acting = ends
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    robot, numbers = Robot(make("robots:Robot")), stream(0, Stream.NOISE)
    setup = Setup(lambda: robot.environment, Schedule(0.02), 100, 100, numbers, numbers)
    side = Side(setup, robot, acting, threading.Event(), Time().clock())
    monkeypatch.setattr(side, "renew", learning.notes.ask_to_stop)  # as Ctrl-C does, after the first decision
    learning.notes.fields[2] = 0
    assert side.train(Train(0, 0, {})).whole is False
    assert logged(tmp_path)[-2:] == GIVEN_UP


# What does not return


@pytest.mark.parametrize(("deed", "end"), [
    ("raise", "the robot could not be closed: robots:Slow raised RuntimeError: the port is gone (at its "
              "beginning)"),
    ("hang", "the acting process is ended, because robots:Slow.close has not returned"),
])  # fmt: skip
def test_a_robot_that_hangs_before_and_after_its_episodes_is_told_of(deed, end, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_DEED", deed)
    for name in ("_MAKING", "_USUAL", "_PERIODS"):
        monkeypatch.setattr(hanging, name, 0.1)
    for name in ("_PATIENCE", "_LEAST", "_LOOK_SECONDS"):
        monkeypatch.setattr(side, name, 0.05)
    numbers, told = stream(0, Stream.NOISE), []
    setup = Setup(partial(make, "robots:Slow"), Schedule(0.02), 0, 0, numbers, numbers)
    process = side.ActingProcess(setup, Hanging(Schedule(0.02), "robots:Slow", told.append, "the run"))
    if deed == "raise":
        monkeypatch.setattr(side, "_PATIENCE", 10)
    process.close()
    process.close()
    found = [re.sub(r" \d+ s", " N s", line) for line in told]
    for name in ("__init__", "safe_action"):
        line = f"robots:Slow.{name} has not returned for N s: the run waits for it; Ctrl-C ends the run"
        assert found.count(line) >= 1  # again where it takes twice as long
    assert (found[-1], found.count(end)) == (end, 1)


def test_a_robot_that_hangs_outside_of_an_acting_process_is_told_of(monkeypatch):
    for name in ("_USUAL", "_PERIODS", "_LOOK_SECONDS"):
        monkeypatch.setattr(hanging, name, 0.01)
    told, said = [], threading.Event()

    def tell(text):
        told.append(text)
        said.set()

    lookout = hanging.Lookout(Hanging(Schedule(0.02), "arm", tell, "the program"))
    lookout.note_call("close")
    assert said.wait(60)
    lookout.end()
    assert told[0] == "arm.close has not returned for 0 s: the program waits for it; Ctrl-C ends the program"


# How soon the acting process runs


def in_a_thread(function):
    """What a function returns in a thread of its own, which is all that loses its priority."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_the_acting_thread_comes_before_every_ordinary_one_where_its_user_may_say_so():
    def ranks():
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.getpriority(os.PRIO_PROCESS, 0)

    def taken():
        favour_process()
        favoured, earlier = ranks()[1], in_a_thread(ranks)
        return favoured, earlier, take_priority(), ranks(), in_a_thread(ranks)

    favoured, earlier, got, own, later = in_a_thread(taken)
    real = got == "real-time"
    assert earlier == (os.SCHED_OTHER, favoured)  # as a driver that the robot starts when it is made
    assert own == (os.SCHED_FIFO if real else os.SCHED_OTHER, favoured)
    # What starts later: a driver that never sleeps must not keep others from running.
    assert later == (os.SCHED_OTHER, max(favoured, 0) if real else favoured)


USUAL = "the usual priority"
RAISED = "a raised priority but no real-time one"
NO_LIMIT = "because this user may not have one (`ulimit -r` is 0)"


@pytest.mark.parametrize(
    ("nice", "limit", "got", "has", "reason"),
    [
        (0, 0, None, USUAL, NO_LIMIT),
        (-10, 0, "raised", RAISED, NO_LIMIT),  # as root in a container
        (0, 5, None, USUAL, "because the system refuses one, although `ulimit -r` is 5"),
        (-10, -1, "raised", RAISED, "because the system refuses one, although `ulimit -r` is unlimited"),
        (0, None, None, USUAL, "as this system has none to give"),
    ],
)
def test_a_user_who_may_not_raise_priorities_is_told(nice, limit, got, has, reason, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "getpriority", lambda which, who: nice)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    if limit is None:
        monkeypatch.delattr(resource, "RLIMIT_RTPRIO")
    favour_process()
    assert take_priority() == got
    told = []
    described = SimpleNamespace(methods=("pause",), own_clock=True, priority=got)
    options = SimpleNamespace(real_time=50, eval_every=0)
    reporter = SimpleNamespace(message=told.append)
    session = SimpleNamespace(config=SimpleNamespace(options=options), reporter=reporter)
    tell_of_robot(SimpleNamespace(session=session, process=SimpleNamespace(description=described)))
    assert told[0] == (
        "real time: 50 decisions per second by its own clock, no evaluations; its methods pause are used"
    )
    assert told[1:] == [
        f"the acting process has {has}, {reason}: actions may come late while other programs are busy"
    ]
    assert what_is_denied("real-time") is None


@pytest.mark.parametrize(
    ("stolen", "overslept", "first", "stood"),
    [
        (0, 15, True, True),
        (0, 15, False, False),  # others may have had the plant's processor
        (11, 0, False, True),
        (9, 0, True, False),
    ],
)
def test_the_benchmark_tells_when_the_machine_itself_did_not_run(stolen, overslept, first, stood):
    """Of an action that came 20 ms late."""
    place = Path(__file__).parents[1] / "benchmarks" / "real_time.py"
    benchmark = SimpleNamespace(**runpy.run_path(str(place), run_name="benchmark"))
    assert benchmark.Late(20.0, 1.0, 1.0, stolen, overslept).stood(first=first) is stood
    counts = benchmark.Counts(first=first)
    counts.tick((), overslept / 1e3)
    assert (counts.idle, counts.stood) == (1, overslept > 10 and first)


# What a robot may have


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Demanding", "Demanding.safe_action must take no arguments: missing a required argument"),
        (
            "Unsafe",
            r"Unsafe.safe_action returned .*: it must return an action within the bounds, from -2\.0 to 3\.0",
        ),
        ("Idle", r"Idle.safe_action returned None: it must return an action of shape \(2,\)$"),
        ("Restless", "Restless.pause is True: make it a method without arguments"),
        ("Quitting", "Quitting.safe_action raised SystemExit: 3"),
        ("Timeless", "Timeless.own_clock is 'no': make it True or False, or leave it out"),
        ("turned", "turned.safe_action is inside the wrapper TransformAction, which changes actions"),
    ],
)
def test_wrong_methods_are_refused_in_one_line(name, told):
    with pytest.raises(UserError, match=told) as caught:
        Robot(make(f"robots:{name}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [np.zeros(3), [0.0, np.nan], "left", [4.0, 0.0]])
def test_wrong_interventions_are_faults(given):
    robot = Robot(make("robots:Robot"))
    robot.reset(0)
    inner = robot.environment.simulator._environment
    inner.step = lambda action: (inner.observe(), 0.0, False, False, {"intervention": given})
    told = r"robots:Robot: info\['intervention'\] is .* \(1 frame into the episode\): it must be an action "
    with pytest.raises(EnvironmentFaultError, match=told):
        robot.step(np.zeros(2, np.float32))


def test_a_joystick_may_go_somewhat_beyond_its_end():
    robot = Robot(make("robots:Robot"))  # actions in [-2, 3]
    robot.reset(0)
    inner = robot.environment.simulator._environment
    given = np.array([[3.2], [-2.1]])
    inner.step = lambda action: (inner.observe(), 0.0, False, False, {"intervention": given})
    assert robot.step(np.zeros(2, np.float32))[1].tolist() == [1, -1]


def test_what_a_robot_says_in_the_units_of_the_outermost_wrapper_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    robot = Robot(make("robots:corrected"))
    robot.reset(0)
    robot.step(robot.safe_action())
    assert (tmp_path / "log").read_text().split()[-2:] == ["1.000000", "0.000000"]  # what the motors got
    for _ in range(4):
        _, instead = robot.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(in_units(instead, *BOUNDS), [0.0, -1.5], atol=1e-7)


def test_an_intervention_in_units_that_nobody_knows_is_a_fault(monkeypatch):
    monkeypatch.delattr(robots.Robot, "safe_action")
    robot = Robot(make("robots:turned"))
    robot.reset(0)
    for _ in range(4):
        robot.step(np.zeros(2, np.float32))
    with pytest.raises(EnvironmentFaultError, match="comes from inside the wrapper TransformAction"):
        robot.step(np.zeros(2, np.float32))


class Smooth(gymnasium.ActionWrapper):
    """Changes actions, but not their units."""

    def action(self, action):
        return 0.5 * action


class Doubled(gymnasium.Wrapper):
    """Has actions of twice the size, and changes interventions to these where they are."""

    def __init__(self, inner):
        super().__init__(inner)
        self.action_space = gymnasium.spaces.Box(-4.0, 6.0, (2,))

    def step(self, action):
        outcome = self.env.step(action / 2)
        outcome[4]["intervention"] *= 2
        return outcome


@pytest.mark.parametrize(("wrapper", "wanted"), [(Smooth, [0.5, 0.0]), (Doubled, [1.0, 0.0])])
def test_interventions_come_through_wrappers_that_keep_their_units_or_change_them(wrapper, wanted):
    robot = robots.Robot()
    robot.step = lambda action: (action, 0.0, False, False, {"intervention": by_hand.copy()})
    layers = Layers(wrapper(robot), robot)
    for by_hand in (np.array([0.5, 0.0]), np.zeros(2)):
        *_, info = layers.find("step")(np.zeros(2))
        found = layers.intervention(info)
        assert found.tolist() == (wanted if by_hand.any() else [0.0, 0.0])


def test_a_safe_action_is_understood_behind_a_wrapper_that_keeps_its_units():
    robot = robots.Robot()
    Layers(Smooth(robot), robot).check_units("safe_action", "arm.safe_action")
    with pytest.raises(
        UserError, match=r"arm\.safe_action is inside the wrapper Doubled, which changes actions"
    ):
        Layers(Doubled(robot), robot).check_units("safe_action", "arm.safe_action")


@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_an_action_in_units_maps_back(action):
    action = np.array(action, np.float32)
    low, high = np.array([-2.0, 0, 5]), np.array([3.0, 1e-3, 900])
    back = from_units(in_units(action, low, high, np.dtype(np.float32)), low, high, np.dtype(np.float32))
    np.testing.assert_allclose(back, action, atol=1e-3)
    whole = in_units(action, np.zeros(3), np.full(3, 7.0), np.dtype(np.int64))
    again = from_units(whole, np.zeros(3), np.full(3, 7.0), np.dtype(np.int64))
    np.testing.assert_array_equal(in_units(again, np.zeros(3), np.full(3, 7.0), np.dtype(np.int64)), whole)


# The memory of the two processes


def decision(number, *, over=False, **others):
    episode = Episode(float(number), number, None) if over else None
    after = Transition(np.full(3, number + 1, np.float32), -0.1 * number, over, False, episode)
    there = {"lateness": 1e-4, "busy": 0.001, "learned": max(0, number - 3)} | others
    return Decision(number, np.full(3, number, np.float32), np.full(2, 0.5, np.float32), after, **there)


def same(one, other):
    return pack(KIND, one) == pack(KIND, other)


@given(st.integers(0, 2**40), st.booleans(), st.floats(width=64, allow_nan=False), st.booleans())
def test_records_return_what_they_were_given(number, over, reward, safe):
    before = decision(number, over=over, safe=safe)
    before = before._replace(transition=before.transition._replace(reward=reward))
    after = unpack(KIND, pack(KIND, before))
    assert same(before, after)
    assert (after.number, after.transition.reward, after.safe) == (number, reward, safe)
    assert after.transition.episode == before.transition.episode


@given(st.data())
def test_a_damaged_or_torn_record_is_none(data):
    content = bytearray(pack(KIND, decision(7)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assert unpack(KIND, bytes(content)) is None
    assert unpack(KIND, pack(KIND, decision(7))[:place]) is None


@pytest.fixture
def ends():
    """The two processes' mappings of one memory, with room for 4 decisions."""
    memory = unnamed_file()
    shape = shape_for(3, 2, 4, b"first")
    learning, acting = Shared(memory, shape), Shared(memory, shape)
    yield learning, acting
    learning.close()
    acting.close()
    os.close(memory)


def test_decisions_arrive_in_order_and_once_however_both_sides_take_turns(ends):
    learning, acting = ends
    learning.start_from(100)
    generator, number, found = np.random.default_rng(0), 100, []
    while number < 160:
        for _ in range(generator.integers(1, 6)):
            if acting.has_room(number):
                acting.put(decision(number))
                number += 1
        taking = learning.collect()
        for _ in range(generator.integers(0, 6)):  # it may stop in between
            found += [each.number for each in [next(taking, None)] if each]
    found += [each.number for each in learning.collect()]
    assert found == list(range(100, number))
    assert learning.received == number


def test_acting_is_at_most_so_many_decisions_ahead(ends):
    learning, acting = ends
    assert [acting.has_room(number) for number in range(6)] == [True] * 4 + [False] * 2
    acting.put(decision(0))
    assert len(list(learning.collect())) == 1
    assert [acting.has_room(number) for number in range(6)] == [True] * 5 + [False]


def test_weights_are_handed_over_whole_and_the_newest_count(ends):
    learning, acting = ends
    assert acting.newest(0) is None
    for number in range(1, 6):
        assert learning.publish(b"w" * number, 10 * number) == number
    found = acting.newest(2)
    assert (found.version, found.learned, found.content) == (5, 50, b"wwwww")
    assert acting.newest(5) is None


def test_half_a_write_of_weights_is_none(ends):
    learning, acting = ends
    learning.publish(b"old" * 100, 1)
    learning.publish(b"new" * 100, 2)
    place = learning._memory.find(b"newnew")
    learning._memory[place + 7] = 0  # as if the rest were still on its way
    assert acting.newest(1) is None
    with pytest.raises(ValueError, match="where there is room"):
        learning.publish(bytes(2**21), 3)


# What is counted


def test_misses_jitter_staleness_and_utd_are_counted():
    told = []
    watch = Watch(Schedule(0.02), "arm", told.append)
    for number in range(100):
        watch.add(decision(number, lateness=0.012 if number in (3, 4) else 0.001, safe=number == 3))
    found = watch.figures(decisions=90, updates=135)
    assert found.keys() == set(COLUMNS)
    assert (found["deadline_misses"], found["safe_actions"], found["interventions"]) == (2, 1, 0)
    assert (found["jitter_p50_ms"], found["jitter_max_ms"]) == (1.0, 12.0)
    assert found["jitter_p99_ms"] == pytest.approx(12.0, abs=0.2)
    assert (found["achieved_utd"], found["staleness_max"]) == (1.5, 3)
    assert found["staleness_mean"] == pytest.approx((0 + 1 + 2 + 97 * 3) / 100, abs=0.01)
    assert (watch.figures(90, 135), told) == ({}, [])


def test_an_environment_that_misses_its_clock_is_told_of_once_with_numbers():
    told = []
    watch = Watch(Schedule(0.02), "arm", told.append)
    for number in range(60):
        watch.add(decision(number, busy=0.0312 if number % 2 else 0.0205))
    assert watch.figures(1, 0)["environment_overruns"] == 30
    assert told == [
        "arm misses its clock: 10 of its first 20 steps took longer than the period of 20.0 ms, up to 31.2 "
        "ms; its own rate then holds instead of 50 Hz"
    ]


def test_episodes_that_do_not_end_are_told_of_once():
    told = []
    watch = Watch(Schedule(2.0), "arm", told.append)
    for number in range(299):
        watch.add(decision(number))
    assert told == []
    watch.add(decision(299))  # ten minutes
    watch.add(decision(300))
    watch.tell_of_endless_episode()
    assert told == [
        "arm: no episode has ended in 300 decisions, so the robot is neither reset nor evaluated, and there "
        "are no returns: return truncated=True from its step at a time limit, or train with episode_frames"
    ]
    later = Watch(Schedule(2.0), "arm", told.append)
    later.add(decision(0, over=True))
    later.tell_of_endless_episode()
    assert len(told) == 1


def test_a_call_that_does_not_return_is_told_of_once_and_then_only_of_longer_ones(ends):
    learning, acting = ends
    told = []
    hanging = Hanging(Schedule(0.02), "arm", told.append, "the run", " with a checkpoint")

    def hang(name, *seconds):
        acting.notes.note_call(name)
        for now in seconds:
            hanging.look(learning.notes.call, now)
        acting.notes.note_call("")
        hanging.look(learning.notes.call, seconds[-1])

    hang("step", 0, 4.9)
    hang("step", 4.9, 9.8)  # another one
    assert told == []
    hang("step", 100, 105.2, 107, 300)
    hang("step", 300, 310)
    assert told == [
        "arm.step has not returned for 5 s: until it does, no action reaches the robot, not even a safe one; "
        "Ctrl-C ends the run with a checkpoint"
    ]
    hang("step", 400, 411)
    assert told[1].startswith("arm.step has not returned for 11 s: until it does")
    hang("reset", 500, 559)
    hanging.look(learning.notes.call, 1000)  # nothing is under way
    hang("reset", 1000, 1060)
    assert told[2:] == [
        "arm.reset has not returned for 60 s: the run waits for it; Ctrl-C ends the run with a checkpoint"
    ]
    slow = Hanging(Schedule(2.0), "arm", told.append, "the run")
    acting.notes.note_call("step")
    for now in (0, 39):
        slow.look(learning.notes.call, now)
    assert len(told) == 3


def test_every_call_of_a_robot_is_noted_until_it_returns_or_raises(monkeypatch):
    noted = []
    robot = Robot(make("robots:Robot"), noted.append)
    robot.reset(0)
    robot.resume()
    robot.step(np.zeros(2, np.float32))
    robot.settle()
    robot.settle()
    calls = ["safe_action", "reset", "resume", "step", "safe_action", "step", "pause"]
    assert noted == [each for call in calls for each in (call, "")]
    monkeypatch.setattr(robot.environment.simulator, "step", lambda action: 1 / 0)
    with pytest.raises(EnvironmentFaultError):
        robot.step(np.zeros(2, np.float32))
    assert noted[-2:] == ["step", ""]


@pytest.mark.parametrize(("own_clock", "hertz", "warned"), [
    (True, 50, False), (True, 52, False), (True, 90, True), (True, 1000, True), (False, 90, False),
])  # fmt: skip
def test_a_clock_of_the_robots_own_that_is_faster_than_stated_is_told_of_once(own_clock, hertz, warned):
    told = []
    watch = Watch(Schedule(0.02), "arm", told.append, own_clock=own_clock)
    for number in range(250):
        late = 0.001 * (number % 3)
        watch.add(decision(number, lateness=late, busy=max(1 / hertz - late, 0)))
    line = (
        f"arm is faster than real_time says: half of its first 100 steps took less than {1e3 / hertz:.1f} "
        "ms, where the period is 20.0 ms; its decisions follow its own clock, up to 100 Hz: give its true "
        "rate"
    )
    assert told == [line] * warned


@pytest.mark.parametrize(
    ("before", "now", "every", "answer"),
    [
        (0, 99, 100, False),
        (0, 100, 100, True),
        (100, 199, 100, False),
        (150, 320, 100, True),
        (0, 9, 0, False),
    ],
)
def test_what_is_due_between_two_episodes(before, now, every, answer):
    assert due(before, now, every) is answer


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 200), st.none() | st.integers(1, 20))
def test_decisions_whose_updates_are_made_follow_from_the_updates(warmup, utd, more, every):
    """However far learning has come, a resumed run goes on with the next decision's updates."""
    burst, updates = Burst(more, every), 0
    assert served_by(0, warmup, utd, burst) == 0
    for number in range(warmup, warmup + 60):
        updates += utd * (1 + burst.at(number - warmup) // utd)
        assert served_by(updates, warmup, utd, burst) == number + 1


def test_weights_that_are_not_finite_are_known():
    sound = Op("dense", {"kernel": np.ones((2, 2)), "bias": np.zeros(2)})
    inner = Op("dense", {"kernel": np.array([[np.nan]])})
    assert finite([sound, Op("residual", inner=((sound,),))])
    assert not finite([sound, Op("residual", inner=((inner,),))])


def test_late_actions_of_an_evaluation_are_told_of():
    computing, stepping = {3: 0.015, 5: 0.015}, {7: 0.03}
    moments, _ = play(
        computing=lambda number: computing.get(number, 0), stepping=lambda number: stepping.get(number, 0)
    )
    timing, told = timing_of(list(moments), Schedule(0.02)), []
    tell_of_timing(told.append, timing)
    tell_of_timing(told.append, Timing(12))
    assert told == [
        "this evaluation of 12 decisions had 2 late actions, 2 safe actions instead of such, and 1 overrun "
        "of the environment"
    ]


# The journal


def test_a_journal_gives_each_decision_once_whatever_a_power_cut_leaves(tmp_path):
    journal = Journal(tmp_path, **SIZES)
    journal.begin(0, 0)
    for number in range(10):
        journal.append([decision(number)])
    journal.begin(10, 0)
    journal.append([decision(number) for number in range(10, 15)])
    newest = tmp_path / "journal" / "000000010.records"
    newest.write_bytes(newest.read_bytes()[:-5])  # half of the last one
    again, told = Journal(tmp_path, **SIZES), []
    assert [each.number for each in again.since(4, told.append)] == list(range(4, 14))
    assert [each.number for each in again.since(12, told.append)] == [12, 13]
    assert [*again.since(20, told.append), *told] == []
    again.begin(14, 10)  # the checkpoint at frame 0 is gone
    assert sorted(file.name for file in (tmp_path / "journal").iterdir()) == [
        "000000010.records", "000000014.records",
    ]  # fmt: skip


@pytest.mark.parametrize("written", [0, 7, KIND.itemsize + 7])
def test_decisions_that_a_full_disk_did_not_take_are_written_when_there_is_room(written, tmp_path):
    journal = Journal(tmp_path, **SIZES)
    journal.begin(0, 0)
    journal.append([decision(0)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (KIND.itemsize + written, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write"):
            journal.append([decision(1), decision(2), decision(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.append([])
    journal.append([decision(4)])
    assert [each.number for each in journal.since(0, pytest.fail)] == [0, 1, 2, 3, 4]


def test_a_damaged_journal_says_what_it_lost_and_an_unreadable_one_is_kept(tmp_path):
    journal, told = Journal(tmp_path, **SIZES), []
    journal.begin(0, 0)
    journal.append([decision(number) for number in range(10)])
    journal.begin(10, 0)
    journal.append([decision(number) for number in range(10, 15)])
    older = tmp_path / "journal" / "000000000.records"
    content = bytearray(older.read_bytes())
    content[3 * KIND.itemsize] ^= 1
    older.write_bytes(content)
    assert [each.number for each in journal.since(0, told.append)] == [0, 1, 2, *range(4, 15)]
    assert told == [
        "the journal lacks 1 decision, damaged on the disk (the first is number 3): the run goes on without"
    ]
    older.unlink()
    older.mkdir()
    with pytest.raises(UserError, match=r"cannot be read .* may hold decisions that no checkpoint has"):
        list(journal.since(0, told.append))


@pytest.fixture
def session_of_robot():
    """A session as far as decisions need one, its seed, and what was told."""
    seed, told = new_seed(0, 0, Replay(20, 3, 2), ()), []
    session = SimpleNamespace(
        seeds=[seed],
        learner=SimpleNamespace(observe=None),
        decisions=0,
        frames=0,
        config=SimpleNamespace(action_repeat=1, task="arm"),
        calls=Calls((), []),
        reporter=SimpleNamespace(message=told.append),
    )
    return session, seed, told


def course_of(session) -> Any:
    plain = {"observation_size": 3, "action_size": 2, "frame_seconds": None}
    described = SimpleNamespace(plain=plain, observation_size=3)
    stand = Stand(SimpleNamespace(description=described))
    return SimpleNamespace(session=session, stand=stand, told_wild=False)


def test_no_transition_leads_from_a_broken_off_episode_into_the_next(session_of_robot):
    session, seed, _ = session_of_robot
    course = course_of(session)
    for number in (0, 1, 2, 7, 8):  # each leads from its number to the next
        take(course, decision(number))
    stored = seed.replay.read(0, seed.replay.end)
    assert stored.observation[:, 0].tolist() == [0, 1, 2, 3, 7, 8]
    assert stored.final.tolist() == [False, False, False, True, False, False]
    assert session.decisions == 9  # those that are lost were made


def test_a_wild_reading_is_left_out_of_replay(session_of_robot):
    session, seed, told = session_of_robot
    course = course_of(session)
    for number in range(6):
        given = decision(number)
        if number == 2:
            given.transition.next_observation[1] = 1e30
        if number == 3:
            given.observation[1] = -1e30
        if number == 5:
            given = given._replace(transition=given.transition._replace(reward=1e20))
        take(course, given)
    stored = seed.replay.read(0, seed.replay.end)
    assert stored.observation[~stored.final, 0].tolist() == [0, 1, 4]
    assert stored.final.tolist() == [False, False, True, False, True]
    assert session.decisions == 6
    assert told == [
        "arm: decision 2 has 1e+30 in its observation: beyond 1e+15 it is taken for a fault of a sensor, so "
        "neither it nor others like it are learned from"
    ]
    assert course.stand.largest_observation == 5


@pytest.mark.parametrize(("what", "number"), [
    ("pressure, once the barometer is awake", 101_325.0), ("time, once the satellites are seen", 1.7e9)
])  # fmt: skip
def test_a_sensor_that_wakes_up_and_a_rare_large_reward_are_learned_from(what, number, session_of_robot):
    session, seed, told = session_of_robot
    course = course_of(session)
    for place in range(6):
        given = decision(place)
        given.observation[1] = number if place > 2 else 0.0
        given.transition.next_observation[1] = number if place > 1 else 0.0
        given = given._replace(transition=given.transition._replace(reward=1e6 if place == 4 else -0.01))
        take(course, given)
    assert (seed.replay.end, told) == (6, [])


def test_a_journal_that_was_not_begun_hides_no_cause(tmp_path):
    journal = Journal(tmp_path, 3, 2)
    journal.append([])
    journal.sync()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", [MemoryError(), KeyboardInterrupt(), UserError("the disk is full")])
def test_whatever_ends_learning_what_the_robot_did_is_kept(end, tmp_path, monkeypatch):
    journal, done = Journal(tmp_path, 3, 2), []
    journal.begin(0, 0)

    def fail(course):
        raise end

    process = SimpleNamespace(end=lambda: done.append("end"), rest=lambda: [decision(0), decision(1)])
    session = SimpleNamespace(
        stopwatch=SimpleNamespace(lap=str), pace=SimpleNamespace(begin_interval=max), frames=0, updates=0
    )
    monkeypatch.setattr(real_time, "_begin_next", fail)
    with pytest.raises(type(end)):
        real_time.learn(SimpleNamespace(session=session, process=process, journal=journal))
    assert done == ["end"]
    assert [each.number for each in journal.since(0, done.append)] == [0, 1]


def course_that_fails(monkeypatch, error, rest):
    """A course whose learning fails at once, and the list of what is done with it."""
    done: list[Any] = []

    def fail(course):
        raise error

    def append(decisions):
        if decisions:
            raise UserError("no space is left")

    monkeypatch.setattr(real_time, "_begin_next", fail)
    monkeypatch.setattr(real_time, "_receive", lambda course: 0)
    monkeypatch.setattr(real_time, "_checkpoint", lambda course, **options: done.append("checkpoint"))
    monkeypatch.setattr(real_time, "told", lambda session, number, fault: str(fault))
    monkeypatch.setattr(real_time.stopping, "drop", lambda session, reasons: done.append(reasons))
    monkeypatch.setattr(real_time, "conclude", lambda session: None)
    monkeypatch.setattr(real_time, "outcome", lambda session: None)
    session = SimpleNamespace(
        stopwatch=SimpleNamespace(lap=str), pace=SimpleNamespace(begin_interval=max), frames=0, updates=0,
        seeds=[SimpleNamespace(number=3)], finished=False, reporter=SimpleNamespace(message=done.append),
    )  # fmt: skip
    process = SimpleNamespace(end=lambda: None, rest=lambda: rest)
    journal = SimpleNamespace(append=append, sync=lambda: None)
    return SimpleNamespace(session=session, process=process, journal=journal), done


def test_what_ended_learning_is_not_hidden_by_a_journal_that_cannot_be_written(monkeypatch):
    course, done = course_that_fails(monkeypatch, KeyboardInterrupt(), [decision(0)])
    with pytest.raises(KeyboardInterrupt):
        real_time.learn(course)
    assert done == ["the newest decisions of the robot may be lost: no space is left"]


@pytest.mark.parametrize(("error", "wanted"), [
    (EnvironmentFaultError("it fell"), ["checkpoint", {3: "it fell"}]), (NoActionError("nan"), [{3: "nan"}]),
])  # fmt: skip
def test_what_a_robot_has_ended_is_saved_but_no_policy_without_an_action(error, wanted, monkeypatch):
    course, done = course_that_fails(monkeypatch, error, [])
    real_time.learn(course)
    assert done == wanted


def test_a_run_that_is_restored_to_its_end_still_says_what_its_journal_lacks(monkeypatch):
    told: list[str] = []
    session = SimpleNamespace(
        config=SimpleNamespace(settings=SimpleNamespace(warmup=0, utd=1)), run=None, decisions=0, updates=0,
        algorithm=SimpleNamespace(burst=None), reporter=SimpleNamespace(message=told.append), finished=True,
    )  # fmt: skip

    def since(number, tell):
        yield decision(number)
        tell("it lacks 1 decision")

    monkeypatch.setattr(real_time.restoring, "restore", lambda *given, **options: 0)
    for name in ("_last_scored", "served_by"):
        monkeypatch.setattr(real_time, name, lambda *given, **options: 0)
    journal = SimpleNamespace(since=since)
    real_time._restore(SimpleNamespace(session=session, journal=journal), without_damaged_replay=False)
    assert told == ["it lacks 1 decision"]


def test_a_resumed_run_has_random_numbers_of_its_own():
    whole = stream(3, Stream.NOISE)
    for first in (0, 40):
        wanted = np.random.default_rng(stream(3, Stream.NOISE, first)).uniform(size=4)
        np.testing.assert_array_equal(generator_from(whole, first).uniform(size=4), wanted)


def test_an_evaluation_changes_nothing_that_wrappers_have_learned(ends):
    learning, acting = ends
    head = Op("dense", {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(4, np.float32)})
    learning.publish(pickle.dumps(Network((head,), "clip", -5.0, 2.0)), 0)
    robot = Robot(make("robots:normalised"))
    numbers = stream(0, Stream.NOISE)
    setup = Setup(lambda: robot.environment, Schedule(0.02), 0, 100, numbers, numbers)
    robot.reset(0)
    known = robot.environment.statistics()
    side = Side(setup, robot, acting, threading.Event(), Time().clock())
    (episode,) = side.evaluate(Evaluate(1, 0, {})).episodes
    assert 0 < episode.frames <= PointMass.LIMIT
    assert repr(robot.environment.statistics()) == repr(known)
    assert len(known) == 1


def test_an_evaluation_is_of_one_policy_though_learning_goes_on(ends, tmp_path, monkeypatch):
    learning, acting = ends
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    robot = Robot(make("robots:Robot", episode_frames=2))
    reset = robot.reset

    def publish(mean):
        bias = np.array([mean, mean, 0, 0], np.float32)
        head = Op("dense", {"kernel": np.zeros((3, 4), np.float32), "bias": bias})
        learning.publish(pickle.dumps(Network((head,), "clip", -5.0, 2.0)), 0)

    def reset_and_learn(seed):
        publish(1.0)
        return reset(seed)

    publish(0.0)
    robot.reset = reset_and_learn
    numbers = stream(0, Stream.NOISE)
    setup = Setup(lambda: robot.environment, Schedule(0.02), 0, 100, numbers, numbers)
    side = Side(setup, robot, acting, threading.Event(), Time().clock())
    episodes, timing = side.evaluate(Evaluate(2, 0, {}))
    assert (len(episodes), timing) == (2, (4, 0, 0, 0))
    steps = [line.split()[2:] for line in (tmp_path / "log").read_text().splitlines() if " step " in line]
    assert steps == [["0.500000", "0.500000"]] * 4  # tanh(0) is the middle of [-2, 3]
    side.renew()
    assert side._actor.means(np.zeros(3, np.float32)).tolist() == [1.0, 1.0]  # it is there for training


# Options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"real_time": 0.0}, "real_time is 0.0: it must be decisions per second, above 0 and at most 1,000"),
        ({"real_time": -50}, "real_time is -50: it must be decisions per second"),
        ({"real_time": math.nan}, "real_time is nan"),
        ({"real_time": 50, "seeds": [0, 1]}, "seeds is .* a single one where real_time is given"),
        ({"real_time": 50, "q_bias": True}, "q_bias is True: it must be left out where real_time is given"),
        ({"real_time": 50, "overlap": True}, "overlap is True: it must be left out where real_time is given"),
        ({"real_time": 50, "eval_every": -1}, "eval_every is -1: it must be a whole number, or 0"),
        (
            {"eval_every": 0},
            "eval_every is 0: it must be at least 1; 0, for no evaluations, goes with real_time",
        ),
    ],
)
def test_what_makes_no_sense_with_one_robot_is_refused(options, told):
    with pytest.raises(UserError, match=told):
        RunOptions(**options)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["robots:Robot", "--real-time", "0"], "--real-time is 0.0: it must be decisions per second"),
        (["robots:Demanding", "--real-time", "50"], "safe_action must take no arguments"),
        (
            ["robots:Robot", "--real-time", "50", "--algorithm", "flashsac"],
            "by more than its policy",
        ),
        (["robots:Robot", "--real-time", "50", "--algorithm", "tdmpc2"], "by more than its policy"),
        (["robots:Robot", "--real-time", "50", "--algorithm", "bro"], "by more than its policy"),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments, told, tmp_path):
    done = call("train", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_class_that_another_process_cannot_import_is_refused(tmp_path):
    class Local(PointMass):
        pass

    with pytest.raises(UserError, match="in real time it must be a class or function of a module"):
        crossq_wn.train(Local, real_time=50, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Whole runs: one robot, 300 decisions of training


PLAIN = ["--algorithm", "sac", "--no-diagnostics"]
RUN = ["robots:Robot", "--real-time", "500", "--frames", "300", "--out", "run", *TINY, *PLAIN]


def unscored(arguments):
    """Options of a run without evaluations, which must not say how many episodes these have."""
    place = arguments.index("--eval-episodes")
    return [*arguments[:place], *arguments[place + 2 :], "--eval-every", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, what was printed, and what was done to the robot, line by line."""
    folder = tmp_path_factory.mktemp("robot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBOT_LOG", str(folder / "log"))
        done = call("train", *RUN, cwd=folder)
    return folder, done, [line.split()[1] for line in (folder / "log").read_text().splitlines()]


# What may be done to a robot after what, apart from its steps.
FOLLOWS = {"reset": {"resume"}, "resume": {"pause"}, "pause": {"reset", "close"}}


def learned_from(run):
    """How many transitions of a run's replay are for learning; the others end episodes."""
    return int((~replay_rows(run, 0)["final"]).sum())


def test_a_run_trains_and_stores_every_decision_once(trained):
    folder, done, _ = trained
    assert done.returncode == 0, done.stderr
    assert "real time: 500 decisions per second" in done.stdout
    assert "its methods pause, resume, safe_action are used" in done.stdout
    assert learned_from(folder / "run") == 300
    last = rows(folder / "run" / "metrics.csv")[-1]
    assert last["decisions"] == "300"
    assert 0 < int(last["updates"]) <= 280  # of the decisions after the warm-up, one each
    assert all(last[name] for name in COLUMNS)
    assert crossq_wn.load(folder / "run").act(np.zeros(3)).shape == (2,)


def test_random_actions_of_the_warm_up_are_those_of_a_run_that_waits(trained):
    folder, _, _ = trained
    generator = np.random.default_rng(stream(0, Stream.WARMUP))
    wanted = np.stack([generator.uniform(-1, 1, 2).astype(np.float32) for _ in range(20)])
    there = replay_rows(folder / "run", 0)
    found = there["action"][~there["final"]][:20]
    # On a busy machine some come late, and the robot gets its safe action; the fifth of an episode is taught.
    own = (found != 0).all(1) & (found != np.float32((np.array(HELP) - 0.5) / 2.5)).all(1)
    np.testing.assert_array_equal(found[own], wanted[own])


class AtOnce:
    """Ends the training after the first episode."""

    def on_episode(self, event):
        return True


def test_a_robot_begins_no_episode_that_a_callback_does_not_want(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    options = TINY_SETTINGS | {
        "real_time": 200,
        "frames": 300,
        "warmup": 200,
        "eval_every": 0,
        "video": False,
    }
    looked_at = []
    monkeypatch.setattr(saving, "holders_of", lambda environment: looked_at.append(environment) or [])
    done = crossq_wn.train("robots:Robot", out=tmp_path / "run", callbacks=[AtOnce()], **options)
    assert looked_at == []  # the classes that could change are in the acting process
    assert (done.stopped_by, done.signal, done.finished) == ("AtOnce.on_episode", None, False)
    words = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert [word for word in words if word != "step"] == ["reset", "resume", "pause", "close"]
    assert learned_from(tmp_path / "run") == done.frames == words.count("step")


def test_a_users_own_robot_is_paused_after_an_evaluation_that_breaks_off(trained, tmp_path, monkeypatch):
    folder, _, _ = trained
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    policy, robot = crossq_wn.load(folder / "run"), robots.Robot()
    monkeypatch.setattr(robots.Robot, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        policy.evaluate(robot, 1)
    assert (tmp_path / "log").read_text().split()[1::2] == ["reset", "resume", "pause"]


def stopped(robot, action):
    raise KeyboardInterrupt


def test_a_robot_is_evaluated_afterwards_as_in_training(trained, tmp_path, monkeypatch):
    """In an acting process, which has an eye on the program that it belongs to."""
    folder, _, _ = trained
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    told = []
    (episode,) = crossq_wn.load(folder / "run", warn=told.append).evaluate(episodes=1)
    words = [line.split()[0] for line in logged(tmp_path)]
    assert words == ["reset", "resume", *["step"] * episode.frames, "pause", "close"]
    assert f"{os.getpid()} " not in (tmp_path / "log").read_text()
    assert [line for line in told if not line.startswith(("the acting process has", "this evaluation"))] == []


def test_a_robot_that_is_evaluated_comes_to_rest_when_the_program_is_to_end(trained, tmp_path, monkeypatch):
    folder, _, _ = trained
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("ROBOT_DEED", "stop-parent:2")
    monkeypatch.setattr(robots.PointMass, "LIMIT", 10)
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            crossq_wn.load(folder / "run").evaluate(episodes=100_000)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]  # once the robot was at rest
    assert logged(tmp_path)[-2:] == ["pause", "close"]


def test_evaluating_afterwards_tells_of_a_robot_that_is_too_slow(trained, monkeypatch):
    folder, _, _ = trained
    step, told = robots.Robot.step, []

    def slow_step(robot, action):
        time.sleep(0.005)  # the period is 2 ms
        return step(robot, action)

    monkeypatch.setattr(robots.Robot, "step", slow_step)
    crossq_wn.load(folder / "run", warn=told.append).evaluate(robots.Robot(), 1)
    (line,) = told
    assert re.fullmatch(
        r"this evaluation of (\d+) decisions had .*, and \1 overruns of the environment", line
    )


def test_evaluating_and_exporting_know_the_rate(trained):
    folder, _, _ = trained
    assert isinstance(crossq_wn.load(folder / "run").environment(), Paced)
    done = call("export", "run", "--to", "numpy", "--out", "policy", cwd=folder)
    assert done.returncode == 0, done.stderr
    description = json.loads((folder / "policy" / "policy.json").read_text())
    assert description["control"]["decisions_per_second"] == 500
    assert description["observation"]["seen"]["in"] == "the replay of training"
    assert description["observation"]["low"] == [-10.0] * 3  # from the checkpoint: no robot is made


def test_the_robot_is_paused_between_episodes_and_in_the_end(trained):
    _, _, log = trained
    words = [word for word in log if word != "step"]
    assert words[:3] == ["reset", "resume", "pause"]
    assert words[-2:] == ["pause", "close"]
    for before, after in pairwise(words):
        assert after in FOLLOWS[before]


def test_interventions_are_in_replay(trained):
    folder, _, _ = trained
    found = Counter(map(tuple, replay_rows(folder / "run", 0)["action"].round(5).tolist()))
    wanted = tuple(((np.array(HELP, np.float64) - 0.5) / 2.5).astype(np.float32).round(5).tolist())
    metrics = rows(folder / "run" / "metrics.csv")
    assert found[wanted] == sum(int(row["interventions"]) for row in metrics) > 0


def test_evaluations_are_episodes_of_the_same_robot(trained):
    folder, _, log = trained
    scores = rows(folder / "run" / "eval.csv")
    frames = [int(row["env_step"]) for row in scores if row["metric"] == "return"]
    assert frames[0] >= 200
    assert frames[-1] == 300
    assert len([word for word in log if word == "step"]) > 300  # those of training, and the evaluations'


def test_a_run_in_real_time_does_not_pool_with_others(trained, tmp_path):
    folder, _, _ = trained
    assert json.loads((folder / "run" / "config.json").read_text())["options"]["real_time"] == 500
    (ours,) = read_terms([folder / "run"])
    # A run of an earlier version does not say that it is none.
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    del manifest["protocol"]["real_time"]
    other = terms_of(tmp_path, None, manifest)
    assert "real_time is 500.0" in " ".join(protocol_conflicts([ours, other]))


def test_resume_says_that_a_finished_run_is_done(trained):
    folder, _, _ = trained
    done = call("resume", "run", cwd=folder)
    assert done.returncode == 0
    assert "nothing to do" in done.stdout


def test_a_killed_acting_process_costs_nothing_that_was_stored(tmp_path, monkeypatch):
    """kill -9 of the acting side: what it had sent is in the journal, and a resumed run goes on."""
    monkeypatch.setenv("ROBOT_DEED", "die-and-leave-a-child:150")
    done = call("train", *unscored(RUN), cwd=tmp_path)
    assert done.returncode == 2
    assert "the acting process was killed by signal 9" in done.stderr
    monkeypatch.delenv("ROBOT_DEED")
    again = call("resume", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert learned_from(tmp_path / "run") == 300
    assert rows(tmp_path / "run" / "eval.csv") == []


def test_a_signal_breaks_off_the_episode_and_resume_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_DEED", "stop-parent:100")
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    done = call("train", *RUN, cwd=tmp_path)
    assert (done.returncode, "continue with `crossq-wn resume run`" in done.stdout) == (128 + 15, True)
    steps = (tmp_path / "log").read_text().count(" step ")
    kept = learned_from(tmp_path / "run")
    assert 100 <= steps < 300
    assert kept <= steps  # the others were of evaluations
    monkeypatch.delenv("ROBOT_DEED")
    again = call("resume", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert learned_from(tmp_path / "run") == 300


def test_an_exception_of_the_robot_stops_the_run_and_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOT_DEED", "raise:40")
    monkeypatch.setenv("ROBOT_LOG", str(tmp_path / "log"))
    done = call("train", *RUN, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("the motor is too hot") == 1
    assert "once that is mended, `crossq-wn resume run` goes on" in done.stderr
    assert crossq_wn.load(tmp_path / "run").frames == 39
    assert "in act_up" in (tmp_path / "run" / "errors" / "seed-0.txt").read_text()
    log = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    # After 39 steps one more, with the safe action.
    assert (log.count("step"), log[-3:]) == (40, ["step", "pause", "close"])
    assert " step 0.500000 0.500000\n" in (tmp_path / "log").read_text().splitlines(True)[-3]


def test_a_killed_learning_process_leaves_a_paused_robot_and_a_run_that_goes_on(tmp_path, monkeypatch):
    """kill -9 of the learning side, then a power cut's torn record and a damaged checkpoint."""
    log = tmp_path / "log"
    started = start_cli(
        "train", *RUN, cwd=tmp_path, env={"ROBOT_DEED": "kill-parent:150", "ROBOT_LOG": str(log)}
    )
    assert started.wait(120) == -9
    started.communicate()  # its pipes close when the acting process, too, has ended
    assert [line.split()[1] for line in log.read_text().splitlines()][-2:] == ["pause", "close"]
    journals = sorted((tmp_path / "run" / "journal").iterdir())
    content = b"".join(path.read_bytes() for path in journals)
    kept = np.frombuffer(content, KIND)["number"].tolist()
    with journals[-1].open("ab") as file:
        file.write(content[:100])
    newest = sorted((tmp_path / "run" / "checkpoints").glob("0*"))[-1]
    if len(journals) > 1:
        shutil.rmtree(newest)
    again = call("resume", "run", "--take-over", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert learned_from(tmp_path / "run") == 300
    assert rows(tmp_path / "run" / "metrics.csv")[-1]["decisions"] == "300"


def test_the_robot_of_the_documentation_trains(tmp_path):
    (program,) = re.findall(
        r"^```python\n(# my_robot.py\n.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "my_robot.py").write_text(program)
    options = ["--real-time", "500", "--out", "run", *unscored(TINY), "--frames", "80", "--log-every", "20"]
    done = call("train", "my_robot:Robot", *options, cwd=tmp_path)
    sys.modules.pop("my_robot")
    assert done.returncode == 0, done.stderr
    assert learned_from(tmp_path / "run") == 80


def test_the_documentation_names_the_algorithms_that_cannot_learn_in_real_time(algorithm):
    refused = []
    for name in ALGORITHMS:
        config = SimpleNamespace(system=SimpleNamespace(algorithm=name, label=name))
        with contextlib.suppress(UserError):
            require_plain(algorithm(name), config)
            continue
        refused.append(name)
    named = re.search(r"by more than their policy network \((.*?)\)", PAGE.read_text())[1]
    assert [f"`{name}`" for name in refused] == named.split(", ")


def test_the_documentation_explains_every_column():
    text = PAGE.read_text()
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []
