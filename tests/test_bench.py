"""Does the benchmark measure what it says? Counts of work, figures of a tiny run, bad input."""

import importlib.util
import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import crossq_wn
from crossq_wn import UserError
from crossq_wn.bench import figures, floor, loop, peers, process, updates
from crossq_wn.cli import main
from crossq_wn.learning import learner
from crossq_wn.learning.products import Product, counted, work_of_decision, work_of_update
from crossq_wn.runs.config import preset_settings
from crossq_wn.training import api, updating
from crossq_wn.training import loop as training_loop
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.stopwatch import PHASES
from crossq_wn.types import Spec
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass

CHEETAH = Spec(observation_size=17, action_size=6, discount=0.99)


def flops(name, spec):
    config = api.configure("cheetah-run", algorithm=name)
    algorithm = build_algorithm(config, spec)
    return 2 * work_of_update(algorithm, spec, config.settings.batch_size).multiply_adds


@pytest.mark.parametrize("spec", [CHEETAH, Spec(223, 38, 0.99)])
def test_the_matrix_products_of_an_update_are_those_of_the_equations(spec):
    """Multiply-adds of crossq-wn's layers, forward and backward, the actor's in a third of the updates."""
    observation, action, _ = spec
    d, batch, wide, narrow = observation + action, 256, 512, 256
    hidden, head = d * wide + wide * wide, wide
    online = 2 * batch * (hidden + head) * 3  # forward, gradients of weights, gradients of inputs
    target = 2 * batch * (hidden + head)
    act = batch * (observation * narrow + narrow * narrow + narrow * 2 * action)
    through_critics = 2 * batch * (hidden + head) * 2  # forward and gradients of inputs, both critics
    expected = 2 * (2 * online + 2 * target + act + (3 * act + through_critics) / 3)
    assert flops("crossq-wn", spec) == pytest.approx(expected, rel=1e-6)


def test_work_is_counted_in_loops_and_by_the_share_of_a_condition():
    def program(x, y):
        z, _ = jax.lax.scan(lambda carry, _: (carry @ y, None), x, None, length=4)
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ y, lambda: x * 2) + z

    x, y = np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)
    traced = counted(jax.make_jaxpr(program)(x, y), branch=0.25)
    (product,) = traced.products
    assert product.multiply_adds == 2 * 3 * 3
    assert traced.products[product] == 4 + 0.25
    assert traced.multiply_adds == 4.25 * 18
    assert traced.operations > 0
    assert traced.elements > 0


def test_planning_is_work_of_a_decision():
    """TD-MPC2 plans by rolling out hundreds of sequences; others act by one pass of the actor."""
    plain, planning = (
        work_of_decision(build_algorithm(api.configure("cheetah-run", algorithm=name), CHEETAH), CHEETAH)
        for name in ("sac", "tdmpc2")
    )
    assert 0 < plain.multiply_adds < 1e6 < 1e9 < planning.multiply_adds


def test_products_are_multiplied_as_jax_would(monkeypatch):
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((4, 2, 3)), generator.standard_normal((4, 5, 3))
    a, b = floor.as_matrices(left, right, (((2,), (2,)), ((0,), (0,))))
    np.testing.assert_allclose(a @ b, np.einsum("bik,bjk->bij", left, right))
    a, b = floor.as_matrices(left[0], left[1], (((0,), (0,)), ((), ())))
    np.testing.assert_allclose(a @ b, left[0].T @ left[1])


def test_a_benchmark_writes_its_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(process, "_BUDGET", 600.0)  # however busy the machine is
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as stop:
        main(
            ["bench", "pendulum-swingup", "--algorithm", "sac", "--seeds", "0,1", "--critic-width", "8",
             "--actor-width", "8", "--batch-size", "4", "--critics", "1", "--seconds", "0.01",
             "--out", str(out)]
        )  # fmt: skip
    assert stop.value.code == 0
    found = json.loads(out.read_text())
    assert found["not_measured"] == []
    assert found["seeds"] == 2
    assert found["settings"]["critic_width"] == 8
    for name in (
        "update_ms", "floor_ms", "update_over_floor", "frames_per_s", "loop_over_updates",
        "environment_frames_per_s", "physics_frames_per_s", "first_update_cold_s", "first_update_cached_s",
        "loop_overhead_ms", "launches_per_decision", "transfers_per_decision", "diagnostics_share",
    ):  # fmt: skip
        # A busy machine may disturb what so short a benchmark measures, which is then said.
        assert (found[name] is None and found["disturbed"]) or found[name] > 0, name
    assert found["seed_updates_per_s"] == pytest.approx(2 * found["updates_per_s"])
    assert found["seed_updates_per_s"] == pytest.approx(1e3 / found["update_ms"])
    assert found["frames_per_s"] == pytest.approx(1e3 * 2 * 2 / found["decision_ms"])  # seeds, repeat
    assert set(found["split"]) == {f"{phase}_ms" for phase in PHASES}
    assert all(value > 0 for value in found["split"].values())
    assert found["replay_mib"] == pytest.approx(2 * 1_000_001 * (4 * (3 + 1 + 2) + 9) / 2**20)
    assert 100 < found["host_memory_mib"] < 10_000
    assert found["versions"]["jax"] == jax.__version__
    assert found["device"]["platform"] == "cpu"
    assert 0 <= found["locked_share"] <= 1
    assert found["launches_per_decision"] == int(found["launches_per_decision"])
    assert 0 < found["launches_per_decision"] <= found["transfers_per_decision"]
    printed = capsys.readouterr().out
    assert "update_ms" in printed
    assert "split.update_ms" in printed


def test_updates_are_measured_on_every_kind_of_learner(algorithm, monkeypatch):
    """Also where replay lies on the device, as on accelerators."""
    config = api.configure("pendulum-swingup", seeds=(0, 1))
    made = algorithm("sac", critics=1)  # which compiles sooner
    config = replace(config, settings=replace(config.settings, batch_size=8))
    for learn in (
        learner.one_by_one(made),
        learner.vectorised(made),
        learner.vectorised(made, replay_on_device=True),
    ):
        monkeypatch.setattr(learner, "make", lambda *arguments, learn=learn, **options: learn)
        trained = updates.trainee(made, config, Spec(5, 2, 0.99))
        for measure in (updates.updates, updates.fed_updates, updates.diagnosis):
            assert measure(trained)(0.0) > 0


def test_a_ratio_to_the_floor_is_of_one_seeds_update_whatever_the_seeds(monkeypatch):
    """Calls take a second each: an update of every seed two, its one product, which counts thrice, one."""
    monkeypatch.setattr(floor, "seconds_per_call", lambda *arguments, **options: 1.0)
    product = Product((2, 3), (3, 4), (((1,), (0,)), ((), ())))
    assert floor.floor({product: 3.0}, seeds=5)(1.0) == 3.0
    assert floor.by_device(product, 5)(1.0) == 0.2


TELLS = "import json, os, sys, time; print(json.dumps({'figures': {'update_ms': 1.0}}), flush=True); "


def test_what_a_process_has_told_counts_when_its_time_is_over_and_nothing_of_it_goes_on(tmp_path):
    """It has started another one, which would write a file."""
    left = tmp_path / "left"
    starts = f"os.system('(sleep 4; touch {left}) &'); time.sleep(60)"
    began = time.monotonic()
    told = list(process.told([sys.executable, "-c", TELLS + starts], tmp_path, 3.0))
    assert told == [("figures", {"update_ms": 1.0})]
    assert time.monotonic() - began < 30
    time.sleep(max(0, 5 - (time.monotonic() - began)))
    assert not left.exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "print('warned', file=sys.stderr); sys.exit('no such thing')",
            "the measuring process failed: no such",
        ),
        ("print('too large', file=sys.stderr); sys.exit(2)", "^too large$"),
    ],
)
def test_a_process_that_fails_is_one_line(script, says, tmp_path):
    with pytest.raises(UserError, match=says):
        list(process.told([sys.executable, "-c", TELLS + script], tmp_path, 60.0))


def test_what_was_not_measured_is_named(monkeypatch):
    told = [("say", "hello"), ("figures", {"update_ms": 1.0, "locked_share": None})]
    monkeypatch.setattr(process, "told", lambda *arguments: iter(told))
    said, shown = [], []
    found = process.bench(api.configure("pendulum-swingup"), said.append, shown.append)
    assert (said, shown) == (["hello"], [told[1][1]])
    assert {"floor_ms", "frames_per_s", "loop_overhead_ms"} < set(found["not_measured"])
    assert not {"update_ms", "locked_share", "sbx_update_ms"} & set(found["not_measured"])
    assert [row[0] for row in figures.rows(found)] == ["update_ms"]


@pytest.mark.parametrize(("value", "written"), [(12345.6, "12,346"), (1234.56, "1235"), (0.01234, "0.01234")])
def test_figures_are_written_without_powers_of_ten(value, written):
    assert [row[1] for row in figures.rows({"frames_per_s": value})] == [written]


@pytest.mark.parametrize(
    ("make", "launches", "transfers"),
    [
        # Observation and counter to act, minibatches and counter to update: once for all seeds, or for each.
        (partial(learner.vectorised, replay_on_device=True), 2, 4),
        (learner.one_by_one, 6, 24),  # here minibatches are five arrays
    ],
)
def test_what_a_decision_asks_of_the_device_is_counted(make, launches, transfers, monkeypatch):
    monkeypatch.setattr(learner, "make", lambda algorithm, *arguments, **options: make(algorithm))
    monkeypatch.setattr(loop, "_WARMUP", 20)
    task = loop.free_task()
    config = api.configure(
        task, algorithm="sac", seeds=(0, 1, 2), critic_width=8, actor_width=8, batch_size=8, utd=1
    )
    traced = loop.train(config, 40, task).traced
    assert traced == {"launches_per_decision": launches, "transfers_per_decision": transfers}


@pytest.fixture(scope="module")
def gpu():
    """The report on accelerators, `benchmarks/gpu.py`."""
    place = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu", place)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_report_on_accelerators_times_a_start(gpu, monkeypatch):
    train = crossq_wn.train
    tiny = TINY_OPTIONS | TINY_SETTINGS | {"algorithm": "sac", "frames": 60}
    monkeypatch.setattr(crossq_wn, "train", lambda task, **given: train(task, **given | tiny))
    for module, name in ((training_loop, "decide"), (updating, "_update_once")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that what it puts there is undone
    [seen] = gpu.start(PointMass, 2, "cached")
    assert 0 < seen["first_decision_s"] < seen["first_update_s"]


def test_the_report_on_accelerators_keeps_what_it_has(gpu, tmp_path, capsys):
    """The smallest phase; the next one has no time at all."""
    assert sum(gpu.SHARES.values()) == pytest.approx(1)
    asked = [{"phase": phase} | about for phase in gpu.SHARES for about in gpu._parts(phase, on_cpu=False)]
    assert len(asked) == len({json.dumps(about, sort_keys=True) for about in asked})
    assert [about["graphs"] for about in asked if "graphs" in about] == list(gpu.GRAPHS)
    assert sum(about.get("overlap", False) for about in asked) == 2
    out = tmp_path / "gpu.json"
    found = gpu.measure(["environments"], 60.0, out)
    assert json.loads(out.read_text()) == found
    assert found["device"]["platform"] == "cpu"
    assert found["environment_frames_per_s hopper-stand 2"] > 0
    assert found["physics_frames_per_s hopper-stand 2"] > 0
    about = {"precision": "float32", "utd": 2, "seeds": 2}
    assert dict(gpu._child("updates", about, 0.0)) == {"stopped": "after 0 s"}
    assert "| environment_frames_per_s hopper-stand 2 |" in gpu.table(found)


QUIET = {"floor": [1.0, 1.1, 1.0, 0.9], "physics": [2.0, 2.0, 2.1, 2.0]}


@pytest.mark.parametrize(
    ("ratios", "taken", "gone", "says"),
    [
        ({"update_over_floor": 1.4, "environment_over_physics": 0.97}, QUIET, [], []),
        (
            {"update_over_floor": 0.017, "loop_over_updates": 1.1},
            QUIET,
            ["update_over_floor"],
            ["an update took 0.017 of the time of its own matrix products"],
        ),
        (
            {"environment_over_physics": 0.5, "loop_over_updates": 0.2},
            QUIET,
            ["environment_over_physics", "loop_over_updates"],
            ["the environments took 0.5 of", "the training loop took 0.2 of"],
        ),
        (
            {"update_over_floor": 2.0},
            {"floor": [1.0, 9.0, 1.0, 9.0]},
            [],
            ["measurements of floor spreads over"],
        ),
    ],
)
def test_a_disturbed_floor_is_noticed_and_no_impossible_ratio_is_printed(ratios, taken, gone, says):
    found = figures.doubts(ratios, taken, on_cpu=True)
    assert [name for name in ratios if found.get(name, 1) is None] == gone
    assert len(found["disturbed"]) == len(says)
    for sentence, part in zip(found["disturbed"], says, strict=True):
        assert part in sentence
    assert sorted(row[0] for row in figures.rows(ratios | found)) == sorted(set(ratios) - set(gone))


PEER = """
import sys, time
print("cpu", flush=True)
for line in sys.stdin:
    {answer}
"""


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """A stand-in for a rival package: what it does when its turn comes -> its measurement."""
    monkeypatch.setattr(peers, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = tmp_path / "crossq-wn" / "peers" / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)

    def start(script):
        (tmp_path / "run_sbx.py").write_text(script)
        return peers.start("sbx", preset_settings("crossq", "default"), Spec(3, 1, 0.99))

    return start


def test_a_peer_is_told_its_budget_and_answers(peer):
    with peer(PEER.format(answer="print(2 * float(line), flush=True)")) as rival:
        assert rival.device == "cpu"
        assert [rival.measure(budget) for budget in (0.5, 2.0)] == [1.0, 4.0]


@pytest.mark.parametrize(
    "script", ["import nothing_there", PEER.format(answer="sys.exit(3)"), "print('cpu')"]
)
def test_a_peer_that_stops_is_one_line(peer, script):
    def measure():
        with peer(script) as rival:
            time.sleep(0.3)
            rival.measure(1.0)

    with pytest.raises(UserError, match="sbx has stopped; remove"):
        measure()


def test_a_peers_environment_is_built_again_when_its_versions_change(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        peers.venv, "create", lambda folder, **options: folder.mkdir(parents=True, exist_ok=True)
    )
    installed = []

    def run(command, **options):
        installed.append(command[-1])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(peers.subprocess, "run", run)
    for requirement in ("a==1", "a==1", "a==2"):
        monkeypatch.setitem(peers.REQUIREMENTS, "sbx", [requirement])
        peers.prepare("sbx", print)
    assert installed == ["a==1", "a==2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench"], "TASK"),
        (["bench", "nothing-run"], "unknown task"),
        (["bench", "cheetah-run", "--seconds", "0"], "--seconds is 0.0"),
        (["bench", "cheetah-run", "--out", "pyproject.toml"], "nothing is overwritten"),
        (["bench", "cheetah-run", "--json", "new.json"], "--out new.json writes the figures to one"),
        (["bench", "cheetah-run", "--against", "torchrl"], "sbx"),
    ],
)
def test_bad_input_is_refused(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert says in printed.out + printed.err
