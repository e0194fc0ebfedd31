"""Is the paper repeated as planned, no run twice, and judged by rules that can go either way?"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest

from crossq_wn import reproduce
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli import main
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.train import configured
from crossq_wn.environments import PAPER_GROUPS, PAPER_TASKS
from crossq_wn.learning.products import work_of_update
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import tied
from crossq_wn.reproduce import findings, look, pages, studies, swept, values
from crossq_wn.reproduce.claims import CLAIMS
from crossq_wn.reproduce.findings import judge
from crossq_wn.reproduce.measuring import Evidence
from crossq_wn.reproduce.studies import (
    BRO,
    BRO_FAST,
    LAPTOP,
    PAPER,
    SCALES,
    SIMBA,
    SMOKE,
    WORKSTATION,
    FigurePlan,
    Scale,
    ablations,
    crossq,
    plan,
    planned,
    wn,
)
from crossq_wn.results import reading
from crossq_wn.results.curves import Curves
from crossq_wn.results.records import CurveTable
from crossq_wn.runs import directory
from crossq_wn.runs.config import preset_settings
from crossq_wn.runs.seals import signed
from crossq_wn.sweeps import cost as costs
from crossq_wn.sweeps import history, simulations
from crossq_wn.sweeps.bills import spent
from crossq_wn.sweeps.cost import cost
from crossq_wn.sweeps.plans import command
from crossq_wn.sweeps.plans import plan as sweep_plan
from crossq_wn.sweeps.sheets import parse
from crossq_wn.training import api
from crossq_wn.types import Spec
from helpers import DAMAGE, environment_variables, rows

TASKS = ("walker-run", "cheetah-run")
HARD = {*PAPER_GROUPS["DMC dog & humanoid"], *PAPER_GROUPS["Myo hard"]}
FULL = "CrossQ + WN UTD 5"
WIDTHS = ("critic_width", "actor_width", "width")
# A cost is counted on any program; small ones are traced sooner.
SHALLOW = {
    "blocks": 1, "critic_blocks": 1, "hidden_layers": 2, "critics": 3, "value_functions": 2, "horizon": 2,
    "n_step": 2,
}  # fmt: skip


# --- What is planned, and what it costs


def test_figures_share_their_runs(tmp_path):
    norms, ladder, both = (
        plan(LAPTOP, figures, tmp_path) for figures in (["fig3"], ["fig4"], ["fig3", "fig4"])
    )
    assert (len(norms), len(ladder), len(both)) == (8, 8, 12)
    assert {run.path for run in both} == {run.path for run in norms + ladder}
    everything = plan(PAPER, PAPER.figures, tmp_path)
    kept = [(run.config.task, run.config.system.label) for run in everything]
    assert len(kept) == len(set(kept)) == len({run.path for run in everything})


def test_the_paper_scale_is_the_papers(tmp_path):
    ladder = {run for run in plan(PAPER, ["fig4"], tmp_path) if run.config.system.algorithm == "crossq-wn"}
    assert {run.config.settings.utd for run in ladder} == {1, 2, 5, 10, 20}
    assert {run.config.task for run in ladder} == set(PAPER_TASKS)
    norms = plan(PAPER, ["fig3"], tmp_path)
    assert {run.system.label for run in norms} == {"CrossQ UTD 1", "CrossQ UTD 5", "CrossQ + WN UTD 1", FULL}
    assert {run.config.task for run in norms} == HARD
    for run in plan(PAPER, PAPER.figures, tmp_path):
        config = run.config
        assert (len(config.options.seeds), config.options.eval_every, config.options.eval_episodes) == (
            10,
            25_000,
            5,
        )
        assert config.options.frames == (1_000_000 if config.task in HARD else 200_000)
    assert plan(PAPER, ["fig1"], tmp_path)[0].config.settings.critic_width == 512


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_command_of_each_run_means_its_configuration(scale, tmp_path):
    seen = {run.system.label: run for run in plan(scale, scale.figures, tmp_path)}
    for run in seen.values():
        verb, *arguments = command(run)
        assert configured(Parser(verb), arguments) == (run.config, run.path)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_runs_end_with_an_evaluation(scale, tmp_path):
    for run in plan(scale, scale.figures, tmp_path):
        assert run.config.options.frames % run.config.options.eval_every == 0
        assert run.config.options.eval_every % run.config.action_repeat == 0


# As if measured on one quiet core of an AMD EPYC.
QUIET = costs.Speed(multiply_add=2.17e-11, operation=2.2e-6, element=6.6e-11)


@pytest.fixture
def quiet(monkeypatch):
    """That machine, and tasks that all cost what a walker does."""
    monkeypatch.setattr(costs, "speed", lambda: QUIET)
    monkeypatch.setattr(costs, "simulation", lambda task: costs.Simulation((24, 6), 4e-4))


def test_cost_follows_the_speeds_measured_and_grows_with_utd(quiet, tmp_path):
    config = plan(PAPER, ["fig4"], tmp_path)[0].config
    for critic, actor, per_second in ((512, 256, 30), (256, 128, 90), (128, 64, 180)):
        settings = replace(config.settings, critic_width=critic, actor_width=actor)
        spent = cost(replace(config, task="walker-run", settings=settings))
        assert 1 / spent.update_seconds == pytest.approx(per_second, rel=0.1)
    by_utd = {run.config.settings.utd: cost(run.config) for run in plan(LAPTOP, ["fig4"], tmp_path)}
    assert [by_utd[utd].core_seconds for utd in (1, 2, 5, 10)] == sorted(
        c.core_seconds for c in by_utd.values()
    )
    assert by_utd[10].updates == 10 * by_utd[1].updates == 10 * 3 * 18_000
    start = costs._START_SECONDS
    assert 4 < (by_utd[10].core_seconds - start) / (by_utd[2].core_seconds - start) < 5


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_cost_and_wider_networks_cost_more(name, quiet):
    """Among them TD-MPC2, which plans at every decision."""
    config = api.configure("cheetah-run", algorithm=name)
    shallow = {
        key: min(n, getattr(config.settings, key))
        for key, n in SHALLOW.items()
        if hasattr(config.settings, key)
    }
    config = replace(config, settings=replace(config.settings, **shallow))
    widths = [setting for setting in WIDTHS if hasattr(config.settings, setting)]
    narrow, wide = (replace(config.settings, **dict.fromkeys(widths, units)) for units in (32, 128))
    plain, wide = cost(replace(config, settings=narrow)), cost(replace(config, settings=wide))
    assert 0 < plain.update_seconds < wide.update_seconds
    assert plain.core_seconds < wide.core_seconds
    assert 0 < plain.disk < wide.disk
    # The program is traced once for all UTD ratios: at this one it is what it would be of its own.
    often = replace(narrow, utd=7)
    built, spec = ALGORITHMS[name].build(Spec(24, 6, 0.99), often), Spec(24, 6, 0.99)
    assert costs.programs(name, often, (24, 6)).update == work_of_update(built, spec, often.batch_size)
    if name == "tdmpc2":
        acting = costs.programs(name, narrow, (24, 6)).decision
        assert QUIET.seconds(acting) > plain.update_seconds / 10


@pytest.mark.parametrize(  # the second draws by priorities, which take room
    ("name", "widths"), [("crossq-wn", ("critic_width", "actor_width")), ("drq", ("width", "encoder_width"))]
)
def test_disk_holds_no_more_rows_than_replay_does(name, widths, quiet):
    config = api.configure("walker-run", algorithm=name, frames=100_000, **dict.fromkeys(widths, 32))
    priorities = ALGORITHMS[name].build(Spec(24, 6, 0.99), config.settings).sampling.priorities
    assert (priorities is None) == (name == "crossq-wn")
    spent, held = {}, {}
    for size in (20_000, 50_000, 90_000):  # the run has 50,000 decisions
        spent[size] = cost(replace(config, settings=replace(config.settings, replay_size=size))).disk
        held[size] = Replay.bytes(size, 24, 6, priorities)
    assert spent[50_000] == spent[90_000]
    assert spent[50_000] - spent[20_000] == held[50_000] - held[20_000]


def test_stacked_observations_take_their_room(quiet):
    spent = {}
    for stack in (1, 3):
        config = api.configure(
            "walker-run", frames=100_000, frame_stack=stack, critic_width=32, actor_width=32
        )
        spent[stack] = cost(config).disk
    rows = Replay.bytes(50_000, 3 * 24, 6) - Replay.bytes(50_000, 24, 6)
    assert rows < spent[3] - spent[1] < 1.1 * rows  # the networks' first layers are larger, too


@pytest.mark.parametrize("name", ["redq", "droq"])
def test_an_actor_that_is_updated_once_per_decision_counts_once(name, quiet):
    config = api.configure("walker-run", algorithm=name, critic_width=32, actor_width=32)
    once, often = (cost(replace(config, settings=replace(config.settings, utd=utd))) for utd in (1, 20))
    assert often.update_seconds < 0.9 * once.update_seconds


def test_speeds_and_simulations_are_measured_here():
    found = costs.speed()
    assert all(value > 0 for value in found)
    assert found is costs.speed()  # once per process
    there = costs.simulation(costs._typical("walker-run"))
    assert there.sizes == (17, 6)  # cheetah-run's, the first of its group
    assert 0 < there.frame_seconds < 0.1
    assert "GFLOP/s" in costs.explain()


def test_tasks_that_fail_when_they_are_timed_cost_nothing_and_are_named(monkeypatch):
    """In whatever way: the process that plans a sweep goes on."""
    found = costs.untimed(["walker-run", "worlds:Aborting", "worlds:Nothing"])
    assert list(found) == ["worlds:Aborting", "worlds:Nothing"]
    assert "Nothing" in found["worlds:Nothing"]
    assert found["worlds:Aborting"] == "its process was killed by signal 6"
    assert costs.simulation("worlds:Aborting")[:2] == ((1, 1), 0.0)
    monkeypatch.setattr(simulations, "PATIENCE", 0.01)
    assert simulations.simulation("walker-run", "process_time").why == "it took over 0 s"


def test_what_times_an_environment_ends_with_whoever_started_it(monkeypatch):
    """However that ends, so that an environment that hangs is not left behind."""
    started = []

    def popen(words, **options):
        started.append(words)
        return Popen([sys.executable, "-c", "0"], **options)

    monkeypatch.setattr(simulations.subprocess, "Popen", popen)
    assert simulations.simulation("walker-run", "process_time").why == "its process ended with code 0"
    assert started[0][:4] == tied()


def test_the_papers_claims_are_tried_on_its_own_settings(tmp_path):
    """But for the temperature's and the sizes of a scale, whatever the default presets are."""
    temperature = {"initial_temperature": 0.1, "temperature_learning_rate": 3e-4}
    for scale in SCALES.values():
        for run in plan(scale, ["fig3", "fig4"], tmp_path):
            if run.system.algorithm not in ("crossq", "crossq-wn"):
                continue
            table = replace(
                preset_settings(run.system.algorithm, "paper-v2"), **temperature, utd=run.system.utd
            )
            ours = {name: getattr(table, name) for name in scale.changes}
            assert replace(run.config.settings, **ours, discount=None, action_repeat=None) == table


def test_a_laptop_can_afford_the_laptop_scale(quiet, tmp_path):
    bill = reproduce.bill(plan(LAPTOP, ["fig3", "fig4"], tmp_path), jobs=2)
    assert bill.unfinished == 12
    assert 1.5 < bill.hours < 3.5
    assert bill.disk < 1
    many = reproduce.bill(plan(LAPTOP, ["fig3", "fig4"], tmp_path), jobs=1000)
    assert many.hours == many.longest < bill.hours
    assert reproduce.bill(plan(SMOKE, ["fig3", "fig4"], tmp_path), jobs=2).hours < 0.2


# --- What the claims say


def results_of(values, task_shift=0.1, seeds=5):
    """Curves by system and task; values: system -> one course [points] per run, or the same for all."""
    made = {}
    for system, courses in values.items():
        courses = np.array(courses, float)
        courses = np.tile(courses, (seeds, 1)) if courses.ndim == 1 else courses
        noise = 1 + 0.001 * np.arange(len(courses))[:, None]
        steps, names = np.arange(1, courses.shape[1] + 1) * 1000, tuple(map(str, range(len(courses))))
        made[system] = {task: Curves(steps, names, courses * noise) for task in TASKS}
    return made


def evidence(world, tasks=TASKS, planned=()):
    """Of systems that are all planned on these tasks, as are those named besides."""
    systems = [system for courses in world.values() for system in courses]
    every = dict.fromkeys([*systems, *planned], tasks)
    return Evidence(world.get("score", {}), lambda column: world.get(column, {}), tasks, every)


def world(seeds=5, **metrics):
    return {name: results_of(values, seeds=seeds) for name, values in metrics.items()}


def scores(ends):
    """Courses that end at these scores, by system."""
    return {"score": {system: [0.0, end / 2, end] for system, end in ends.items()}}


C1, C5, W1, W2, W5, W10 = crossq(1), crossq(5), wn(1), wn(2), wn(5), wn(10)
_, NO_WN, NO_TARGET, RESETS, L2 = ablations(50_000, (1e-3,))
FLAT_LINE, GROWS, FALLS, DROPS = [30, 30, 30], [30, 45, 60], [60, 45, 30], [60, 60, 10]

# By claim: what makes it hold, what makes it fail.
CASES = {
    "norms-grow": ({"critic_norm": {C1: GROWS, C5: GROWS}}, {"critic_norm": {C1: GROWS, C5: FALLS}}),
    "norms-grow-with-utd": (
        {"critic_norm": {C1: FLAT_LINE, C5: GROWS}}, {"critic_norm": {C1: GROWS, C5: FLAT_LINE}}),
    "elr-falls": ({"critic_elr": {C1: DROPS, C5: DROPS}}, {"critic_elr": {C1: GROWS, C5: GROWS}}),
    "neurons-die": ({"dead_neurons": {C5: [0, 0.1, 0.3]}}, {"dead_neurons": {C5: [0.3, 0.1, 0]}}),
    "crossq-does-not-gain": (scores({C1: 0.5, C5: 0.5}), scores({C1: 0.5, C5: 0.6})),
    "wn-norm-flat": (
        {"critic_norm": {W1: FLAT_LINE, W5: [30, 31, 33]}}, {"critic_norm": {W1: FLAT_LINE, W5: GROWS}}),
    "wn-elr-flat": (
        {"critic_elr": {W1: FLAT_LINE, W5: FALLS}}, {"critic_elr": {W1: FLAT_LINE, W5: [60, 60, 25]}}),
    "wn-elr-steadier": (
        {"critic_elr": {C5: FALLS, W5: FLAT_LINE}}, {"critic_elr": {C5: FLAT_LINE, W5: GROWS}}),
    "wn-learns-better": (
        scores({C1: 0.3, C5: 0.3, W1: 0.5, W5: 0.6}), scores({C1: 0.3, C5: 0.7, W1: 0.5, W5: 0.6})),
    "wn-never-loses": (
        scores({W1: 0.5, W2: 0.6, W5: 0.6, W10: 0.59}), scores({W1: 0.5, W2: 0.6, W5: 0.4, W10: 0.7})),
    "wn-scales": (scores({W1: 0.5, W10: 0.7}), scores({W1: 0.7, W10: 0.7 / 1.001**2 - 0.1})),
    "no-wn-hurts-most": (
        scores({W5: 0.8, NO_WN: 0.2, NO_TARGET: 0.4, L2: 0.5}),
        scores({W5: 0.8, NO_WN: 0.5, NO_TARGET: 0.4, L2: 0.6})),
    "no-target-hurts": (scores({W5: 0.8, NO_TARGET: 0.4}), scores({W5: 0.4, NO_TARGET: 0.8})),
    "l2-is-worse": (scores({W5: 0.8, L2: 0.4}), scores({W5: 0.4, L2: 0.8})),
    "resets-help": (scores({W5: 0.5, RESETS: 0.8}), scores({W5: 0.8, RESETS: 0.5})),
    "resets-change-nothing": (scores({W5: 0.5, RESETS: 0.5}), scores({W5: 0.5, RESETS: 0.6})),
    "wn-beats-rivals": (
        scores({W2: 0.8, SIMBA: 0.6, BRO_FAST: 0.6}),
        scores({W2: 0.8, SIMBA: 0.6, BRO_FAST: 0.9})),
    "wn-beats-crossq": (scores({W5: 0.8, C1: 0.5, C5: 0.5}), scores({W5: 0.8, C1: 0.5, C5: 0.9})),
    "wn-matches-bro": (scores({W5: 0.78, BRO: 0.8}), scores({W5: 0.7, BRO: 0.8})),
}  # fmt: skip
BY_NAME = {claim.name: claim for claim in CLAIMS}


def test_every_claim_is_put_to_the_test():
    assert set(CASES) == set(BY_NAME)


@pytest.mark.parametrize("name", CASES)
def test_a_claim_can_hold_fail_and_stay_open(name):
    claim, (good, bad) = BY_NAME[name], CASES[name]
    holds, fails = (judge(claim, evidence(world(**case))) for case in (good, bad))
    assert (holds.verdict, fails.verdict) == ("holds", "does not hold")
    for number in holds.numbers:
        value, low, high = number.interval
        assert low <= value <= high
    few = judge(claim, evidence(world(seeds=2, **good)))
    assert few.verdict == "inconclusive"
    assert "2 runs per task" in few.why
    nothing = judge(claim, evidence({}))
    assert nothing.verdict == "inconclusive"
    assert nothing.why
    torn = {  # half of the runs as where it holds, half as where it fails
        metric: {
            label: np.repeat([course, bad[metric].get(label, course)], 3, axis=0)
            for label, course in values.items()
        }
        for metric, values in good.items()
    }
    assert judge(claim, evidence(world(**torn))).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("name", "metric", "verdict"),
    [
        ("norms-grow", {"critic_norm": {C1: [30, 31, 31.5], C5: GROWS}}, "does not hold"),  # 1.05 times
        ("wn-norm-flat", {"critic_norm": {W5: [30, 33, 37]}}, "holds"),  # 1.23 times, and so no growth
        ("elr-falls", {"critic_elr": {C5: FALLS}}, "does not hold"),  # to 2 / 3
        ("wn-elr-steadier", {"critic_elr": {C5: [60, 60, 3], W5: [60, 60, 4]}}, "holds"),
        ("wn-elr-flat", {"critic_elr": {W5: [60, 60, 4]}}, "does not hold"),
        ("neurons-die", {"dead_neurons": {C5: [0, 0, 0]}}, "does not hold"),
    ],
)
def test_flat_and_growing_exclude_each_other(name, metric, verdict):
    assert judge(BY_NAME[name], evidence(world(**metric))).verdict == verdict


def test_a_number_is_measured_as_it_says():
    found = judge(BY_NAME["norms-grow"], evidence(world(critic_norm={C1: GROWS, C5: [10, 20, 50]})))
    assert [number.interval[0] for number in found.numbers] == pytest.approx([2, 5])
    (gap,) = judge(BY_NAME["wn-scales"], evidence(world(**scores({W1: 0.4, W10: 0.8})))).numbers
    assert gap.interval[0] == pytest.approx(0.2, rel=0.01)  # means of 0, half and the end


def test_runs_that_died_do_not_count():
    alive = results_of({C1: GROWS, C5: GROWS})
    for task in TASKS:
        alive[C5][task].values[0, -1] = np.nan
    claim = BY_NAME["norms-grow"]
    assert judge(claim, evidence({"critic_norm": alive})).verdict == "holds"
    for task in TASKS:
        alive[C5][task].values[:3, -1] = np.nan
    assert judge(claim, evidence({"critic_norm": alive})).verdict == "inconclusive"


def test_a_claim_about_a_group_needs_all_of_its_tasks():
    partly = results_of({C1: GROWS, C5: GROWS})
    del partly[C5][TASKS[-1]]
    found = judge(BY_NAME["norms-grow"], evidence({"critic_norm": partly}))
    assert (found.verdict, found.numbers) == ("inconclusive", ())
    assert f"{C5.label} has not finished on {TASKS[-1]}" in found.why


@pytest.mark.parametrize("name", ["l2-is-worse", "no-wn-hurts-most"])
def test_a_claim_about_every_system_needs_all_that_are_planned(name):
    good = world(**CASES[name][0])
    found = judge(BY_NAME[name], evidence(good, planned=(wn(5, "L2 0.01", weight_norm="l2", l2_scale=0.01),)))
    assert found.verdict == "inconclusive"
    assert "L2 0.01 has not finished" in found.why


# --- What is trained


def test_settings_of_several_values_reach_the_command_line(tmp_path):
    bro = planned("BRO", "bro", 10, resets=(15_001, 50_001))
    (run,) = plan(
        toy("walker-run", figures={"fig7": FigurePlan(("walker-run",), (bro,))}), ["fig7"], tmp_path
    )
    config, _ = configured(Parser("train"), list(command(run)[1:]))
    assert config == run.config
    assert config.settings.resets == (15_001, 50_001)


def test_where_systems_differ_by_plan_is_said_once(tmp_path):
    repeat, discount = studies.unlike(plan(PAPER, ["fig1"], tmp_path))
    ours = "(CrossQ + WN UTD 2, SimBa UTD 2)"
    assert f"action_repeat is 2 {ours} but 1 (BRO UTD 2), on " in repeat
    assert f"discount is 0.95 {ours} but 0.99 (BRO UTD 2), on myo-" in discount
    assert all(task in repeat for task in PAPER_TASKS)
    assert studies.unlike(plan(PAPER, ["fig3"], tmp_path)) == []


def toy(*tasks, **changes):
    """A scale whose one figure takes seconds."""
    options = {"eval_every": 100, "eval_episodes": 1, "checkpoint_every": 50, "diagnostics": False}
    settings = {"warmup": 20, "batch_size": 8, "actor_width": 8, "critic_width": 8}
    study = {"fig4": FigurePlan(tasks, (wn(1),))}
    scale = Scale("toy", "a toy", True, (0,), lambda task: 200, settings, options, study)
    return replace(scale, **changes)


def begun(run, *checkpoints, **changes):
    """A run directory as training leaves it when it is cut off."""
    directory.create(replace(run.config, **changes), run.path, ["crossq-wn"]).close()
    (run.path / "eval.csv").write_text("trained\n")
    for frames in checkpoints:
        (run.path / "checkpoints" / f"{frames:09d}").mkdir(parents=True)
    return run


@pytest.fixture
def reproduce_cli(quiet, monkeypatch, tmp_path, capsys):
    """(scale, arguments) -> (exit code, stdout, stderr) of `reproduce fig4`, with that scale known as toy."""
    monkeypatch.chdir(tmp_path)

    def call(scale, *arguments, env=None):
        monkeypatch.setitem(studies.SCALES, "toy", scale)
        for name, value in environment_variables(env).items():
            monkeypatch.setenv(name, value)
        if os.environ.get("MUJOCO_GL") == "disabled":  # training in this process chose that
            monkeypatch.delenv("MUJOCO_GL")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


def test_a_picture_of_another_origin_is_noticed_before_anything_is_trained(reproduce_cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fig4.png").write_bytes(b"holiday")
    command = ("fig4", "--scale", "toy", "--root", "r", "--out", "out")
    code, _, err = reproduce_cli(toy("helpers:PointMass"), *command)
    assert code == 2
    assert "out/fig4.png is not a figure of crossq-wn" in err
    assert not (tmp_path / "r").exists()


def test_it_goes_on_where_it_was_stopped_and_reports_what_fails(reproduce_cli, tmp_path):
    # A warm-up without an end: nothing need be compiled.
    still = {"changes": {"warmup": 1000, "batch_size": 8, "actor_width": 8, "critic_width": 8}}
    scale = toy("helpers:PointMass", "helpers:no_environment", **still)
    command = ("fig4", "--scale", "toy", "--root", "r", "--jobs", "1")
    path = tmp_path / "r" / "toy" / "helpers-pointmass" / "crossq-wn-utd-1"

    def stop():
        while not list(path.glob("checkpoints/0*")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    code, out, err = reproduce_cli(scale, *command, env={"HELPERS_SLEEP": "0.015"})
    assert code == 128 + signal.SIGTERM, err
    assert "stopped: the same command goes on" in out
    reached = look(plan(scale, ["fig4"], tmp_path / "r")[0])
    assert reached.kind == "cut off"

    code, out, err = reproduce_cli(scale, *command)
    assert f"resumes at {reached.frames} of 200 frames" in out
    assert (
        "helpers:no_environment, CrossQ + WN UTD 1: not tried again: failed (exit code 2): crossq-wn: " in out
    )
    assert code == 2
    assert "1 of 2 runs failed" in err
    assert look(plan(scale, ["fig4"], tmp_path / "r")[0]).kind == "finished"
    verdict = json.loads((tmp_path / "r" / "toy" / "results" / "verdict.json").read_text())
    assert any("1 of 2 runs have not finished" in note for note in verdict["notes"])
    assert {claim["verdict"] for claim in verdict["claims"]} == {"inconclusive"}

    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    code, out, _ = reproduce_cli(toy("helpers:PointMass", **still), *command)
    assert code == 0
    assert "0 of 1 run to train: nothing is left to do" in out
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


@pytest.mark.parametrize("options", [("--dry-run", "--so-far"), ("--values", "x.csv", "--so-far")])
def test_options_that_contradict_each_other_are_refused(options, reproduce_cli):
    code, _, err = reproduce_cli(toy("helpers:PointMass"), "fig4", "--scale", "toy", *options)
    assert (code, "are both given: leave one out" in err, "--so-far" in err) == (2, True, True)


# --- What is written


def finished(scale, root, task="walker-run", grow=2.0):
    """All runs of a scale, as if trained; CrossQ's norms grow, and scores with the UTD ratio."""
    return as_trained(plan(scale, scale.figures, root), grow)


def as_trained(planned, grow=2.0):
    """The same of runs that are planned."""
    for run in planned:
        begun(run, run.config.options.frames)
        ours = run.config.system.algorithm == "crossq-wn"
        lines, metrics = [], ["seed,frames,updates,critic_norm,critic_elr,dead_neurons"]
        for seed in run.config.options.seeds:
            for frames in (0, 100, 200):
                score = frames * (1 + 0.1 * run.config.settings.utd) + seed
                lines.append(f'"{run.config.system.label}",{run.config.task},{seed},return,{frames},{score}')
                norm = 30 * (1 if ours else grow ** (frames / 200))
                updates = frames * run.config.settings.utd // 2
                metrics.append(f"{seed},{frames},{updates},{norm},{1 / norm**2},0")
        (run.path / "eval.csv").write_text(
            "\n".join(["exp_name,env_name,seed,metric,env_step,value", *lines, ""])
        )
        (run.path / "metrics.csv").write_text("\n".join([*metrics, ""]))
    return planned


NORMS = (crossq(1), crossq(5), wn(1), wn(5))
NOTHING = values.Values({}, lambda column: {})


def test_verdicts_come_with_their_numbers(tmp_path):
    scale = toy(*TASKS, seeds=(0, 1, 2), figures={"fig3": FigurePlan(TASKS, NORMS)})
    done = finished(scale, tmp_path)
    found = {
        each.claim.name: each for each in findings.judge_all(scale, ["fig3"], values.of_runs(done, [].append))
    }
    assert found["norms-grow"].verdict == "holds"
    assert found["norms-grow"].group == "DMC medium & easy"
    assert found["wn-norm-flat"].verdict == "holds"
    assert found["neurons-die"].verdict == "does not hold"
    context = reproduce.Context(scale, done, ["a note"], "crossq-wn reproduce fig3")
    reproduce.write(list(found.values()), context, tmp_path / "out")
    page = (tmp_path / "out" / "verdict.md").read_text()
    said = "CrossQ's critic norm grows over training (beyond a factor of 1.25)"
    assert f"| {said} | section 3, Fig. 3 | DMC medium & easy | **holds** |" in page
    assert "critic norm, last / first, CrossQ UTD 1: 2 [2, 2], > 1.25" in page
    assert "a critic norm is flat within a factor of 1.25 and grows beyond it" in page
    assert "- a note" in page
    assert "Ratios compare geometric means. Scores: return / 1000 (DeepMind Control)." in page
    assert (
        "- settings: each algorithm's default preset (departures from Table 1: PAPER.md), but warmup 20"
        in page
    )
    data = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert [claim["claim"] for claim in data["claims"]] == list(found)
    table = (tmp_path / "out" / "verdict.csv").read_text().splitlines()
    assert len(table) == 1 + sum(len(each.numbers) for each in found.values())


def test_scores_are_named_by_the_record_of_each_suite(tmp_path):
    tasks = ("myo-reach", "walker-run", "myo-pose")
    runs = plan(toy(*tasks, figures={"fig7": FigurePlan(tasks, (NORMS[0],))}), ["fig7"], tmp_path)
    assert set(pages._units(runs).split(", ")) == {
        "success rate (MyoSuite)", "return / 1000 (DeepMind Control)",
    }  # fmt: skip


def test_verdicts_can_be_made_anew_from_the_values_written_beside_them(tmp_path):
    scale = toy(*TASKS, seeds=(0, 1, 2), figures={"fig3": FigurePlan(TASKS, NORMS)})
    done = finished(scale, tmp_path)
    first, written = reproduce.conclude(scale, ["fig3"], done, {}, tmp_path / "out", [].append)
    file = tmp_path / "out" / values.FILE
    assert file in written
    again = findings.judge_all(scale, ["fig3"], values.of_file(file, scale))
    assert [(each.claim, each.group, each.verdict, each.why) for each in again] == [
        (each.claim, each.group, each.verdict, each.why) for each in first
    ]
    for old, new in zip(first, again, strict=True):
        for one, other in zip(old.numbers, new.numbers, strict=True):
            assert other.interval == pytest.approx(one.interval, rel=1e-6)
    # Its scores are read as published curves are.
    published = reading.scores([CurveTable(file)])
    (there,) = [curves for system, curves in published.items() if system.label == C5.label]
    assert there["walker-run"].values.shape == (3, 3)
    before = file.read_bytes()
    reproduce.conclude(scale, ["fig3"], done, {}, tmp_path / "out", [].append)
    assert file.read_bytes() == before


def test_long_curves_are_thinned_where_they_are_written(tmp_path):
    long = Curves(np.arange(1001), ("0",), np.arange(1001.0)[None])
    values.write(tmp_path / values.FILE, values.Values({W1: {"walker-run": long}}, lambda column: {}))
    scale = toy("walker-run")
    kept = values.of_file(tmp_path / values.FILE, scale).scores[W1]["walker-run"]
    assert len(kept.env_steps) == values.MOST
    assert (kept.env_steps[0], kept.env_steps[-1]) == (0, 1000)
    np.testing.assert_allclose(kept.values[0], kept.env_steps)


def test_a_scale_that_proves_nothing_says_so(tmp_path):
    scale = toy(*TASKS, seeds=(0, 1, 2), decides=False, figures={"fig3": FigurePlan(TASKS, NORMS)})
    found = findings.judge_all(scale, ["fig3"], values.of_runs(finished(scale, tmp_path), [].append))
    assert {each.verdict for each in found} == {"inconclusive"}
    assert all("only shows that the machinery works" in each.why for each in found)
    assert any(each.numbers for each in found)
    assert not SMOKE.decides


def test_claims_speak_of_their_own_tasks(tmp_path):
    figure = {"fig5": FigurePlan(("dog-run", *TASKS, "myo-reach"), studies.ablations(100, (1e-3,)))}
    found = findings.judge_all(toy(figures=figure), ["fig5"], NOTHING)
    heard = {}
    for each in found:
        heard.setdefault(each.claim.name, []).append(each.group)
    assert heard["resets-help"] == ["DMC dog & humanoid"]
    assert heard["resets-change-nothing"] == ["DMC medium & easy", "Myo easy"]
    assert heard["no-target-hurts"] == ["DMC dog & humanoid", "DMC medium & easy"]
    assert heard["no-wn-hurts-most"] == ["DMC dog & humanoid", "DMC medium & easy", "Myo easy"]
    easy = findings.judge_all(
        toy(figures={"fig5": FigurePlan(TASKS, studies.ablations(100, (1e-3,)))}), ["fig5"], NOTHING
    )
    (resets,) = [each for each in easy if each.claim.name == "resets-help"]
    assert resets.why == "none of DMC dog & humanoid is run at this scale"


@pytest.fixture
def concluded(tmp_path):
    """(what happens to the run of CrossQ at UTD 5) -> (that run, findings by claim, notes, warnings)."""

    def conclude(damage):
        scale = toy("walker-run", seeds=(0, 1, 2), figures={"fig3": FigurePlan(("walker-run",), NORMS)})
        done = finished(scale, tmp_path)
        run = next(run for run in done if run.system == C5)
        damage(run.path)
        said = []
        _, written = reproduce.conclude(scale, ["fig3"], done, {}, tmp_path / "out", said.append)
        assert tmp_path / "out" / "fig3.png" in written
        page = json.loads((tmp_path / "out" / "verdict.json").read_text())
        return run, {each["claim"]: each for each in page["claims"]}, page["notes"], said

    return conclude


@pytest.mark.parametrize(
    "kind", ["no manifest", "no configuration", "junk for scores", "junk for diagnostics"]
)
def test_a_damaged_run_costs_the_claims_that_need_it_alone(kind, concluded):
    junk = (
        lambda run: (run / "metrics.csv").write_text("seed,frames,critic_norm\n0,100,junk\n"),
        "not a number",
    )
    damage, why = (DAMAGE | {"junk for diagnostics": junk})[kind]
    run, claims, notes, said = concluded(damage)
    assert claims["wn-norm-flat"]["verdict"] == "holds"
    assert claims["norms-grow"]["verdict"] == "inconclusive"
    assert f"{C5.label} has not finished on walker-run" in claims["norms-grow"]["why"]
    if kind == "no configuration":  # training it again has said why
        assert "1 of 4 runs have not finished and do not count" in notes
    else:
        (note,) = (note for note in notes if str(run.path) in note)
        assert why in note
        assert note in said


def test_runs_of_different_simulators_are_judged_with_a_warning(concluded):
    def older(run):
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["protocol"]["mujoco"] = "2.0"
        (run / "manifest.json").write_text(json.dumps(signed(manifest)))

    run, claims, (note,), said = concluded(older)
    assert note.startswith("different simulators, so runs may not be comparable: simulators: mujoco is ")
    assert f"2.0 in {run.path}" in note
    assert note in said
    assert claims["norms-grow"]["verdict"] == "holds"


@pytest.mark.parametrize(
    ("name", "count"), [("smoke", 1), ("laptop", 2), ("workstation", None), ("paper", 5)]
)
def test_a_sweep_trains_what_is_reproduced(name, count, tmp_path):
    scale = SCALES[name]
    runs = plan(scale, scale.figures, tmp_path)
    text = swept.written(scale, runs, count, "fig3 --scale x")
    planned_there = sweep_plan(parse(text, "the file"), tmp_path)
    history.keep_plan(tmp_path, text)
    wanted = {run.path: run.config for run in swept.trained(runs, tmp_path)}
    assert {run.path: run.config for run in planned_there} == wanted
    assert len(wanted) == len(runs) * -(-len(scale.seeds) // (count or 10))


def test_what_a_sweep_has_trained_is_judged(reproduce_cli, tmp_path):
    scale = toy(*TASKS, seeds=(0, 1, 2), figures={"fig3": FigurePlan(TASKS, NORMS)})
    asked = "fig3", "--scale", "toy"
    code, out, err = reproduce_cli(scale, *asked, "--plan", "p.toml", "--seeds-per-process", "1")
    assert (code, err) == (0, "")
    assert "`crossq-wn sweep p.toml --out DIR` trains these runs" in out
    code, _, err = reproduce_cli(scale, *asked, "--runs", "s")
    assert code == 2
    assert "s holds no sweep: start one with" in err
    (tmp_path / "s").mkdir()
    text = (tmp_path / "p.toml").read_text()
    history.keep_plan(tmp_path / "s", text)
    parts = swept.trained(plan(scale, ["fig3"], tmp_path), Path("s"))
    assert len(parts) == len(TASKS) * len(NORMS) * 3
    as_trained(parts[:-1])
    code, out, err = reproduce_cli(scale, *asked, "--runs", "s")
    assert code == 0, err
    assert "holds: CrossQ's critic norm grows over training" in out
    page = (tmp_path / "s" / "results" / "verdict.md").read_text()
    assert "1 of 24 runs have not finished and do not count" in page
    # Only a file that was written here is replaced.
    assert reproduce_cli(scale, *asked, "--plan", "p.toml")[0] == 0
    (tmp_path / "p.toml").write_text("# mine")
    code, _, err = reproduce_cli(scale, *asked, "--plan", "p.toml")
    assert code == 2
    assert "--plan p.toml: another file is there: choose another name" in err
    code, _, err = reproduce_cli(scale, *asked, "--seeds-per-process", "1")
    assert code == 2
    assert "--seeds-per-process goes with --plan FILE" in err


def test_what_is_there_so_far_is_drawn_over_updates_and_not_judged(reproduce_cli, tmp_path):
    scale = toy("walker-run", seeds=(0, 1, 2), figures={"fig3": FigurePlan(("walker-run",), NORMS)})
    scale = replace(scale, along="updates")
    runs = finished(scale, tmp_path / "r")
    half = next(run for run in runs if run.system == C5)
    (half.path / "checkpoints" / "000000200").rename(half.path / "checkpoints" / "000000100")
    for name, end in (("eval.csv", "return,200"), ("metrics.csv", ",200,")):
        lines = (half.path / name).read_text().splitlines()
        (half.path / name).write_text("\n".join([line for line in lines if end not in line] + [""]))
    code, out, err = reproduce_cli(scale, "fig3", "--scale", "toy", "--root", "r", "--so-far")
    assert code == 0, err
    assert "holds: WN keeps the critic norm flat" in out
    assert "inconclusive: CrossQ's critic norm grows over training" in out
    page = (tmp_path / "r" / "toy" / "results" / "verdict.md").read_text()
    assert "1 of 4 runs have not finished and do not count" in page
    drawn = rows(tmp_path / "r" / "toy" / "results" / "fig3.csv")
    ends = {}
    for row in drawn:
        if row["system"].startswith("crossq UTD 5") and row["quantity"] == "critic_norm":
            ends[int(row["frames"])] = float(row["updates"])
    assert ends == {0: 0, 100: 5 * 100 / 2}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "eval.csv").unlink(), "{} is not drawn: there is no eval.csv"),
        (lambda run: (run / "eval.csv").write_text("junk\n"), "{} is not drawn: "),
        (lambda run: (run / "config.json").write_text("junk"), "{} has no readable config.json"),
    ],
)
def test_what_is_left_out_so_far_is_told_once_with_the_reason(damage, says, tmp_path, monkeypatch):
    scale = toy("walker-run", seeds=(0, 1, 2), figures={"fig3": FigurePlan(("walker-run",), NORMS)})
    runs, said, seen = finished(scale, tmp_path), [], []
    half = runs[0].path
    (half / "checkpoints" / "000000200").rename(half / "checkpoints" / "000000100")
    damage(half)
    look = reproduce.look
    monkeypatch.setattr(reproduce, "look", lambda run: seen.append(run) or look(run))
    reproduce.conclude(scale, ["fig3"], runs, {}, tmp_path / "out", said.append, ("finished", "cut off"))
    page = json.loads((tmp_path / "out" / "verdict.json").read_text())["notes"]
    (line,) = [line for line in said if str(half) in line]
    assert line.startswith(says.format(half))
    assert line in page
    assert "1 of 4 runs have not finished and do not count" in page
    assert seen == runs


def test_the_workstation_reaches_the_papers_number_of_updates(quiet, tmp_path):
    """UTD 5 on 1M frames; and each ablation stands beside CrossQ + WN at its own UTD ratio."""
    runs = plan(WORKSTATION, WORKSTATION.figures, tmp_path)
    one_of_each = {run.system.utd: run for run in runs}.values()
    updates = {
        run.system.utd: cost(run.config).updates / len(run.config.options.seeds) for run in one_of_each
    }
    assert updates[20] == pytest.approx(2.475e6, rel=0.05)
    assert updates == {utd: 120_000 * utd for utd in (2, 10, 20)}
    whole, *less = WORKSTATION.figures["fig5"].systems
    assert whole in WORKSTATION.figures["fig3"].systems
    world_of = scores({whole: 0.8, **{each: 0.4 + 0.01 * i for i, each in enumerate(less)}})
    found = judge(BY_NAME["no-wn-hurts-most"], evidence(world(**world_of)))
    assert found.verdict == "holds"
    assert judge(BY_NAME["l2-is-worse"], evidence(world(**world_of))).verdict == "holds"


def test_seeds_that_failed_are_named(tmp_path):
    scale = toy("walker-run", seeds=(0, 1, 2))
    (done,) = finished(scale, tmp_path)
    evaluations = done.path / "eval.csv"
    lines = evaluations.read_text().splitlines()
    evaluations.write_text("\n".join(line for line in lines if ",1,return,200," not in line) + "\n")
    assert findings.ended_early([done], values.of_runs([done], [].append)) == [
        "walker-run, CrossQ + WN UTD 1: seed 1 failed before the end"
    ]


# --- What a person at the keyboard meets


def test_the_plan_and_its_cost_come_first(reproduce_cli, tmp_path):
    code, out, _ = reproduce_cli(toy(), "fig3", "fig4", "--scale", "laptop", "--jobs", "2", "--dry-run")
    assert code == 0
    assert "12 of 12 runs to train: about 4" in out
    longest = reproduce.bill(plan(LAPTOP, ["fig3", "fig4"], tmp_path), jobs=2).longest
    assert f" hours with 2 side by side (the longest run {spent(longest)});" in out
    assert "CrossQ + WN UTD 10" in out
    apart = "with `--plan FILE --seeds-per-process 1` and `crossq-wn sweep FILE` it would be"
    assert apart not in out
    code, out, _ = reproduce_cli(toy(), "fig3", "fig4", "--scale", "laptop", "--jobs", "64", "--dry-run")
    assert (code, apart in out) == (0, True)
    assert not list(tmp_path.iterdir())


def test_verdicts_are_made_anew_from_values_on_request(reproduce_cli, tmp_path):
    scale = toy(*TASKS, seeds=(0, 1, 2), figures={"fig3": FigurePlan(TASKS, NORMS)})
    reproduce.conclude(scale, ["fig3"], finished(scale, tmp_path / "r"), {}, tmp_path / "first", [].append)
    command = ("fig3", "--scale", "toy", "--root", "none", "--out", "again", "--values")
    code, out, err = reproduce_cli(scale, *command, "first/values.csv.gz")
    assert code == 0, err
    assert "holds: CrossQ's critic norm grows over training" in out
    first, again = (tmp_path / folder / "verdict.csv" for folder in ("first", "again"))
    assert again.read_text() == first.read_text()
    assert not (tmp_path / "none").exists()
    code, _, err = reproduce_cli(scale, *command, "nothing.csv.gz")
    assert code == 2
    assert "nothing.csv.gz" in err


def test_weeks_of_training_need_a_yes(reproduce_cli, tmp_path):
    code, _, err = reproduce_cli(toy(), "fig3", "--scale", "paper", "--jobs", "2")
    assert code == 2
    assert "--yes starts it" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("fig44 --scale smoke", "did you mean 'fig4'?"),
        ("fig4 --scale smoky", "did you mean 'smoke'?"),
        ("fig4 --scale smoke --jobs 0", "'0' is not a whole number of at least 1"),
        ("fig4", "--scale"),
        ("--scale smoke", "FIGURE"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, says, reproduce_cli, tmp_path):
    code, _, err = reproduce_cli(toy(), *arguments.split())
    assert code == 2
    assert len(err.splitlines()) == 1
    assert says in err
    assert not list(tmp_path.iterdir())
