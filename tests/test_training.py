"""In which order does a decision happen, and where does its time go?"""

import importlib.util
import json
import os
import warnings
from threading import Barrier
from types import SimpleNamespace

import gymnasium
import jax
import numpy as np
import pytest

import crossq_wn
from crossq_wn import UserError, environments
from crossq_wn.cli import train as cli_train
from crossq_wn.environments import pictures
from crossq_wn.environments.core import EnvironmentFaultError
from crossq_wn.environments.pool import Pool
from crossq_wn.learning import learner
from crossq_wn.runs.manifests import trained_frames
from crossq_wn.runs.options import RunOptions
from crossq_wn.training import deciding, film, loop, reporting, saving, video
from crossq_wn.training.progress import Outcome
from crossq_wn.training.seeds import Stream, integer, stream
from crossq_wn.training.stopwatch import PHASES, Stopwatch
from helpers import (
    TESTS,
    TINY_OPTIONS,
    TINY_SETTINGS,
    Listener,
    NanForSeedOne,
    PointMass,
    StartFault,
    Unending,
    call,
    make_run,
    replay_rows,
    rows,
    same_run,
)


@pytest.fixture
def calls(monkeypatch):
    """What the training loop asks of learner and environments, in order."""
    called, make, step = [], learner.make, Pool.step

    def noting(name, function):
        def call(*arguments):
            called.append(name)
            return function(*arguments)

        return call

    def noting_learner(*arguments, **options):
        made = make(*arguments, **options)
        return made._replace(explore=noting("act", made.explore), update=noting("update", made.update))

    monkeypatch.setattr(learner, "make", noting_learner)
    monkeypatch.setattr(Pool, "step", noting("environment", step))
    return called


def test_actions_that_cannot_vary_are_told_of():
    simulator = SimpleNamespace(action_low=np.array([0.5, -1]), action_high=np.array([0.5, 1]), action_size=2)
    pool = SimpleNamespace(environments=[SimpleNamespace(simulator=simulator)])
    listener = Listener()
    session = SimpleNamespace(config=SimpleNamespace(task="arm"), reporter=listener, training=pool)
    reporting._tell_of_fixed_actions(session)
    (said,) = listener.messages
    assert said.startswith("arm has actions of 2 numbers, of which those at 0 cannot vary")
    simulator.action_low = np.array([-1, -1])
    reporting._tell_of_fixed_actions(session)
    assert listener.messages == [said]


def test_a_precision_that_cpus_do_not_have_is_told_of():
    listener, config = Listener(), SimpleNamespace(options=RunOptions(matmul_precision="bfloat16"))
    session = SimpleNamespace(config=config, reporter=listener)
    reporting.tell_of_device(session)
    told = "matmul_precision is 'bfloat16', which has no effect on a CPU: it computes in float32"
    on_cpu = jax.default_backend() == "cpu"
    assert listener.messages == ([told] if on_cpu else [])
    config.options = RunOptions()
    reporting.tell_of_device(session)
    assert len(listener.messages) == on_cpu


def test_before_training_it_is_said_that_a_video_will_be_missing():
    simulator, options = SimpleNamespace(no_pictures="has no method `render`: give it one"), RunOptions()
    listener, pool = Listener(), SimpleNamespace(environments=[SimpleNamespace(simulator=simulator)])
    config = SimpleNamespace(task="arm", options=options)
    session = SimpleNamespace(config=config, reporter=listener, training=pool)
    reporting._tell_of_missing_render(session)
    (said,) = listener.messages
    assert said == (
        "there will be no video when training is over, because arm has no method `render`: give it one, or "
        "leave the video out with video=False"
    )
    for config.options in (RunOptions(video=False), RunOptions(real_time=20.0)):
        reporting._tell_of_missing_render(session)
    config.options, simulator.no_pictures = options, ""
    reporting._tell_of_missing_render(session)
    assert listener.messages == [said]


def test_no_video_is_tried_of_what_nothing_renders(tmp_path, monkeypatch, capsys):
    run, tried = make_run(tmp_path / "run", video=True), []
    monkeypatch.setattr(cli_train, "_draw", lambda path: None)
    ran = SimpleNamespace(returncode=0, stdout="", stderr="")
    monkeypatch.setattr(film.subprocess, "run", lambda command, **_: tried.append(command) or ran)
    done = Outcome(run, 100, finished=True, signal=None, failed={})
    for outcome in (done._replace(renders=False), done):
        assert cli_train._follow(lambda shown, outcome=outcome: outcome) == 0
    assert len(tried) == 1
    assert capsys.readouterr().out.count("recording a video") == 1


class Drawing(PointMass):
    def render(self):
        raise AssertionError("nobody has asked for pictures yet")


def test_a_video_is_recorded_for_scripts_that_ask_for_one(tmp_path, monkeypatch):
    """Also by `resume`; what goes wrong is told, without a reporter as a warning of Python."""
    ran, tried = SimpleNamespace(returncode=0, stdout="a.mp4: one episode\n", stderr=""), []

    def run_process(command, **given):
        tried.append((command, given["env"]))
        return ran

    monkeypatch.setattr(film.subprocess, "run", run_process)
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    run, said = tmp_path / "run", Listener()
    options = TINY_OPTIONS | TINY_SETTINGS | {"frames": 30, "video": True}
    outcome = crossq_wn.train(Drawing, out=run, reporter=said, **options)
    ((command, variables),) = tried
    assert command[-3:] == ["video", str(outcome.path), "--trust"]
    assert "MUJOCO_GL" not in variables
    assert str(TESTS) in variables["PYTHONPATH"].split(os.pathsep)
    assert said.messages[-2:] == ["recording a video", "a.mp4: one episode"]
    crossq_wn.resume(run, reporter=said)
    assert len(tried) == 1  # it had been trained to its end
    ran.returncode, ran.stderr = 1, "crossq-wn: no driver\n"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        crossq_wn.resume(run, frames=40)
    told = ["no driver", "the video could not be made; the trained policy is saved all the same"]
    assert [str(each.message) for each in warned if each.category is UserWarning] == told
    assert len(tried) == 2


def test_a_size_that_an_environment_does_not_draw_in_is_told_of():
    said = []
    policy = SimpleNamespace(config=SimpleNamespace(task="arm"), warn=said.append)
    video._tell_of_size(policy, np.zeros((480, 640, 3)), None, 320)
    assert said == ["width is 320, which has no effect: arm draws pictures of its own size, 640 x 480 pixels"]
    video._tell_of_size(policy, np.zeros((480, 640, 3)), 480, 640)
    video._tell_of_size(policy, np.zeros((480, 640, 3)), None, None)
    assert len(said) == 1


def test_a_script_is_told_what_would_have_no_effect(tmp_path):
    class Local(Drawing):
        pass

    with pytest.raises(UserError, match="video=True: another process records it, which could not import "):
        crossq_wn.train(Local, video=True, out=tmp_path / "local", **TINY_SETTINGS)
    with pytest.raises(UserError, match="beside a reporter"):
        crossq_wn.train(PointMass, reporter=Listener(), progress=True, out=tmp_path / "both", **TINY_SETTINGS)
    run = make_run(tmp_path / "run")
    with pytest.raises(UserError, match="task is 'walker-run': a run goes on with its own, "):
        crossq_wn.resume(run, task="walker-run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_whether_an_environment_can_render_is_known_before_it_does():
    assert environments.make(PointMass).simulator.no_pictures == "has no method `render`: give it one"
    assert environments.make(Drawing).simulator.no_pictures == ""


def test_what_an_environment_cannot_be_drawn_without_is_known_before_it_is(monkeypatch):
    pendulum, find = gymnasium.make("Pendulum-v1"), importlib.util.find_spec
    for spec, why in (
        (None, "cannot be drawn without pygame, which is not installed: install it"),
        (find("json"), ""),
    ):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert pictures.why_none(type(pendulum.unwrapped), gymnasium.Env) == why


def train(path, frames=40, settings=None, **options):
    options = TINY_OPTIONS | {"eval_every": 1000, "log_every": 20} | options
    crossq_wn.train(PointMass, frames=frames, out=path, **options, **(TINY_SETTINGS | (settings or {})))
    return path


def test_updates_follow_on_the_environment_s_step(calls, tmp_path):
    train(tmp_path / "run")
    first = calls.index("act")
    assert calls[first - 20 : first] == ["environment"] * 20  # warm-up
    assert calls[first : first + 60] == ["act", "environment", "update"] * 20
    last = [call for call in calls[first:] if call != "environment"].count("act")
    assert last == calls.count("update") == 20


def test_with_overlap_the_environment_steps_while_updates_are_launched(monkeypatch, tmp_path):
    """Each waits here until the other has begun, which ends only if they run side by side."""
    both, make, decisions, met = Barrier(2, timeout=60), learner.make, [], []

    def meeting(name, function):
        def call(*arguments):
            if len(decisions) > 1:  # the first update is waited for, because it is compiled
                both.wait()
                met.append(name)
            return function(*arguments)

        return call

    def noting_learner(*arguments, **options):
        made = make(*arguments, **options)

        def explore(*given):
            decisions.append(given)
            return made.explore(*given)

        return made._replace(explore=explore, update=meeting("update", made.update))

    monkeypatch.setattr(learner, "make", noting_learner)
    monkeypatch.setattr(deciding, "step", meeting("environment", deciding.step))
    monkeypatch.setattr(loop, "launches_aside", lambda: True)  # as on a GPU
    train(tmp_path / "run", overlap=True)
    assert met.count("update") == met.count("environment") == 19


def test_the_thread_that_launches_updates_changes_no_number(monkeypatch, tmp_path):
    here = train(tmp_path / "here", overlap=True, seeds=(0, 1))
    monkeypatch.setattr(loop, "launches_aside", lambda: True)
    same_run(here, train(tmp_path / "aside", overlap=True, seeds=(0, 1)), seeds=(0, 1))


def test_overlap_changes_what_is_learned_from_and_nothing_before(tmp_path):
    """The action after the first update differs: that update missed the newest transition.

    SAC's, because all of its updates change the actor.
    """
    plain, overlapped = (
        replay_rows(train(tmp_path / str(overlap), algorithm="sac", overlap=overlap), 0)["action"]
        for overlap in (False, True)
    )
    np.testing.assert_array_equal(plain[:21], overlapped[:21])
    assert not np.array_equal(plain[21], overlapped[21])


def test_every_phase_of_a_decision_is_timed(tmp_path):
    table = rows(train(tmp_path / "run") / "timing.csv")
    assert [int(row["frames"]) for row in table] == [20, 40]
    for phase in PHASES:
        assert all(float(row[f"{phase}_ms"]) >= 0 for row in table)
    assert float(table[0]["transfer_ms"]) == 0 < float(table[1]["transfer_ms"])  # no update in the warm-up


def test_a_stopwatch_charges_each_lap_to_its_phase(monkeypatch):
    clock = iter([10.0, 10.0, 11.0, 13.0, 13.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch()
    watch.next_decision()
    watch.lap("act")
    watch.lap("update")
    watch.next_decision()
    watch.lap("environment")
    watch.lap("update")
    times = watch.per_decision()
    expected = {"act_ms": 0.0, "update_ms": 750.0, "environment_ms": 1000.0}
    assert times == dict.fromkeys((f"{phase}_ms" for phase in PHASES), 0.0) | expected
    assert set(watch.per_decision().values()) == {0.0}


def test_an_evaluation_without_end_is_a_fault_of_its_environment(monkeypatch, tmp_path):
    monkeypatch.setattr("crossq_wn.learning.evaluation._ENDLESS", 50)
    says = r"seed 0: in evaluation, \S*:Unending: an evaluation episode has not ended after 50 decisions: .* "
    with pytest.raises(UserError, match=f"{says}truncated=True .* episode_frames; once that is mended"):
        crossq_wn.train(Unending, frames=40, out=tmp_path / "run", **TINY_OPTIONS, **TINY_SETTINGS)
    limited = TINY_OPTIONS | {"episode_frames": 20}
    assert crossq_wn.train(Unending, frames=40, out=tmp_path / "b", **limited, **TINY_SETTINGS).finished


def test_a_seed_whose_environment_cannot_begin_stops_alone(tmp_path):
    StartFault.made = 0
    done = crossq_wn.train(
        StartFault, frames=40, seeds=(0, 1, 2), out=tmp_path / "run", **TINY_OPTIONS,
        **TINY_SETTINGS,
    )  # fmt: skip
    assert done.finished
    assert list(done.failed) == [1]
    assert "no signal from [/dev/motor]" in done.failed[1]
    played = call("eval", "run", "--episodes", 1, "--json", cwd=tmp_path)
    assert [row["seed"] for row in json.loads(played.stdout)] == [0, 1, 2]  # seed 1 is not trained
    assert crossq_wn.load(done.path, seed=1).frames == 0


class NanForOthers(NanForSeedOne):
    """Training seeds 1 and 2 fail in the same decision."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if seed is not None:
            self.failing = seed in [integer(stream(other, Stream.ENVIRONMENT)) for other in (1, 2)]
        return result


def test_seeds_that_fail_in_the_same_decision_leave_the_others_bit_for_bit(tmp_path):
    options = TINY_OPTIONS | TINY_SETTINGS
    done = crossq_wn.train(NanForOthers, frames=200, seeds=(1, 0, 2), out=tmp_path / "run", **options)
    assert sorted(done.failed) == [1, 2]
    alone = crossq_wn.train(NanForOthers, frames=200, seeds=(0,), out=tmp_path / "alone", **options)
    same_run(alone.path, done.path, tables=False)
    for seed in (1, 2):
        assert crossq_wn.load(done.path, seed=seed).frames == 120


def test_the_random_streams_keep_their_numbers():
    """They enter every random number: another number is another run, and no old run could be resumed."""
    known = {
        "ENVIRONMENT": 0,
        "WARMUP": 1,
        "REPLAY": 2,
        "EVALUATION": 3,
        "LEARNER": 4,
        "FRESH": 5,
        "Q_BIAS": 6,
        "NOISE": 7,
        "MAKING": 8,
    }
    assert {name: int(value) for name, value in Stream.__members__.items()} == known
    assert stream(3, Stream.Q_BIAS, 7).spawn_key == (6, 7)
    assert stream(3, Stream.Q_BIAS, 7).entropy == 3


@pytest.mark.parametrize("on_device", [False, True])
def test_a_learner_of_all_seeds_at_once_trains_resumes_and_goes_on_without_a_failed_seed(
    on_device, monkeypatch, tmp_path
):
    """As on accelerators."""
    made = {}  # one for all runs of the test, which share its compiled programs

    def make(algorithm, *_, **options):
        return made.setdefault(id(algorithm), learner.vectorised(algorithm, replay_on_device=on_device))

    monkeypatch.setattr(learner, "make", make)

    def run(folder, frames):
        return crossq_wn.train(
            NanForSeedOne, algorithm="sac", frames=frames, seeds=(0, 1), out=tmp_path / folder,
            diagnostics=on_device, critics=1, **TINY_OPTIONS, **TINY_SETTINGS,
        )  # fmt: skip

    whole = run("whole", 200)
    assert list(whole.failed) == [1]
    table = rows(whole.path / "metrics.csv")
    assert [row["seed"] for row in table if row["frames"] == "100"] == ["0", "1"]
    assert [row["seed"] for row in table if row["frames"] == "200"] == ["0"]
    assert all(np.isfinite(float(row["critic_loss"])) for row in table if int(row["updates"]))
    half = run("half", 110)
    crossq_wn.resume(half.path, frames=200)
    same_run(whole.path, half.path)


def test_work_that_the_policy_delay_skips_is_skipped_also_where_seeds_are_mapped(algorithm, batch):
    made = algorithm("crossq-wn")
    learn = learner.vectorised(made)
    states = learn.join([made.init(np.random.default_rng(seed)) for seed in (0, 1)])
    batches = learn.join([batch(seed, 2, 8) for seed in (0, 1)])
    program = str(jax.make_jaxpr(lambda states, fed: learn.update(states, fed, 0))(states, batches))
    assert program.count("cond[") == 1


def test_an_environment_lost_at_a_checkpoint_costs_its_own_seed(tmp_path, monkeypatch):
    snapshot = saving.snapshot

    def lost(session, environment):
        if session.frames >= 60 and environment is session.training.environments[1]:
            raise EnvironmentFaultError("the process in which its environment was stepped was killed")
        return snapshot(session, environment)

    monkeypatch.setattr(saving, "snapshot", lost)
    choices = {"frames": 120, "checkpoint_every": 60, "out": tmp_path / "run"}
    outcome = crossq_wn.train(PointMass, seeds=[0, 1], **(TINY_OPTIONS | TINY_SETTINGS | choices))
    assert outcome.finished
    assert list(outcome.failed) == [1]
    assert "was killed" in outcome.failed[1]
    assert trained_frames(tmp_path / "run" / "checkpoints") == 120
