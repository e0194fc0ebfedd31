"""Start-up: what quick commands and the package itself load, seen in `sys.modules` and not by the clock."""

import json
import subprocess
import sys

import pytest

from helpers import TESTS, environment_variables
from house import PACKAGE, sources

SLOW = {"jax", "jaxlib", "optax", "mujoco", "dm_control", "gymnasium", "matplotlib", "myosuite", "scipy"}

# Prints the top-level modules that are loaded in the end, whatever the command prints itself.
REPORT = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded(program, *arguments):
    """(what a program prints, the exit code, the top-level modules that it leaves loaded)"""
    done = subprocess.run(
        [sys.executable, "-c", REPORT + program, *arguments], env=environment_variables(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    out, _, modules = done.stdout.rpartition("LOADED")
    return out + done.stderr, done.returncode, set(modules.split())


COMMAND = "from crossq_wn.cli import main; main(sys.argv[1:])"
# Several commands, one after the other: what one of them loads is there in the end.
COMMANDS = """
import contextlib, io, json
from crossq_wn.cli import main

def answer(words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as stop:
            return stop.code, said.getvalue(), sorted(name for name in sys.modules if "." not in name)

print(json.dumps([answer(line.split()) for line in sys.argv[1:]]))
"""
QUICK = {
    "--version": (0, "crossq-wn "),
    "--help": (0, "usage: crossq-wn COMMAND"),
    "trian cheetah-run": (2, "did you mean 'train'?"),
    "list algorithms": (0, "simba-v2"),
    "list presets": (0, "paper-v2"),
    "train --help": (0, "--critic-learning-rate"),
    "train cheetah-run --lerning-rate 1": (2, "--lerning-rate"),
    "train cheetah-run --utd x": (2, "'x' is not a whole number"),
    "train cheetah-run --utd 0": (2, "--utd is 0"),
    "train no-such-task --lerning-rate 1": (2, "--lerning-rate"),
    "bench cheetah-run --lerning-rate 1": (2, "--lerning-rate"),
    "bench --help": (0, "--against"),
}


def test_quick_commands_load_nothing_slow():
    said, code, _ = loaded(COMMANDS, *QUICK)
    assert code == 0, said
    for (command, (code, says)), (ended, answer, modules) in zip(
        QUICK.items(), json.loads(said), strict=True
    ):
        assert (ended, says in answer) == (code, True), (command, answer)
        assert set(modules) & SLOW == set(), command


def test_a_command_hardly_looks_for_unreachable_cycles():
    program = """
import atexit, gc
import crossq_wn.cli.dispatch
def collections(): return sum(each["collections"] for each in gc.get_stats())
begun = collections()
atexit.register(lambda: print("COLLECTIONS", collections() - begun))
"""
    said, code, _ = loaded(program + COMMAND, "list", "presets")
    assert code == 0, said
    assert int(said.rpartition("COLLECTIONS")[2]) < 5  # by default dozens


@pytest.mark.parametrize("asked", ["import crossq_wn.cli; crossq_wn.cli.main(['doctor'])", "crossq_wn.train"])
def test_windows_is_refused_in_one_line_before_what_it_lacks_is_imported(asked):
    windows = (
        "sys.platform = 'win32'; sys.modules['fcntl'] = sys.modules['resource'] = None; import crossq_wn; "
    )
    said, code, _ = loaded(windows + asked)
    last = said.splitlines()[-1]
    assert "crossq-wn does not run on Windows" in last
    assert "use Linux, for example Ubuntu in WSL 2" in last
    if "cli" in asked:
        assert (code, said.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["--version", "--help", "trian"])
def test_what_needs_no_numbers_does_not_load_numpy(command):
    _, _, modules = loaded(COMMAND, command)
    assert "numpy" not in modules


def test_a_paper_task_is_looked_up_without_its_simulator():
    program = "from crossq_wn.training.api import configure; print(configure('dog-run').episode_frames)"
    said, code, modules = loaded(program)
    assert (code, said.strip()) == (0, "1000"), said
    assert modules & SLOW == set()


@pytest.mark.parametrize("name", ["crossq_wn", "crossq_wn.errors", "crossq_wn.machine", "crossq_wn.lazy"])
def test_the_package_and_its_floor_load_nothing_slow_and_no_numpy(name):
    _, code, modules = loaded(f"import {name}")
    assert code == 0
    assert modules & (SLOW | {"numpy", "rich"}) == set()


# Whoever imports these wants the simulator.
ADAPTERS = {
    f"crossq_wn.environments.{name}"
    for name in ("dm_control", "factories", "gymnasium", "models", "myosuite", "myo_definitions", "physics")
}


def test_importing_a_file_of_ours_loads_no_simulator_and_no_jax():
    """All but the adapters, in one process; figures may load matplotlib."""
    names = []
    for file in sources():
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if name not in ADAPTERS and not name.endswith(("__main__", "run_sbx")):
            names.append(name)
    said, code, modules = loaded(f"import {', '.join(names)}")
    assert code == 0, said
    assert modules & SLOW <= {"matplotlib"}


# Of this package, what an action takes: no environments, no learner, no real time.
ROOMS_OF_ACTING = {
    "acting", "algorithms", "errors", "fences", "files", "installation", "lazy", "learning", "machine",
    "naming", "own_modules", "nets", "runs", "training", "types",
}  # fmt: skip


def test_a_trained_policy_acts_without_jax_and_without_a_simulator():
    run = TESTS / "data" / "run-schema-1"
    program = "import crossq_wn; print(crossq_wn.load(sys.argv[1]).act([0.1, -0.2, 0.5]).shape)"
    said, code, modules = loaded(program, str(run))
    assert (code, said.strip()) == (0, "(2,)"), said
    assert modules & SLOW == set()


def test_a_trained_policy_acts_without_what_plays_episodes_and_without_other_algorithms():
    """Which keeps the first action within 0.3 s of processor time (docs/export.md has the figures)."""
    program = """
import crossq_wn
crossq_wn.load(sys.argv[1]).act([0.1, -0.2, 0.5])
print(*[name for name in sys.modules if name.startswith("crossq_wn.")], "importlib.metadata" in sys.modules)
"""
    said, code, modules = loaded(program, str(TESTS / "data" / "run-schema-1"))
    assert code == 0, said
    *ours, metadata = said.split()
    assert metadata == "False"  # what is installed is of no interest
    assert {name.split(".")[1] for name in ours} == ROOMS_OF_ACTING
    pages = {name for name in ours if name.startswith("crossq_wn.algorithms.")}
    assert {"crossq_wn.algorithms.crossq"} <= pages
    assert not pages & {f"crossq_wn.algorithms.{name}" for name in ("sac", "bro", "tdmpc2", "drq", "simba")}
    assert modules & {"multiprocessing", "concurrent", "rich", "email"} == set()


def test_the_table_of_algorithms_reads_a_page_when_it_is_asked_for_it():
    program = """
import sys
from crossq_wn.algorithms import ALGORITHMS
print("simba" in ALGORITHMS, len(ALGORITHMS), [*ALGORITHMS][:2], "crossq_wn.algorithms.simba" in sys.modules)
print(ALGORITHMS["simba"].presets["default"].settings.utd > 0, "crossq_wn.algorithms.simba" in sys.modules)
"""
    said, code, _ = loaded(program)
    assert (code, said.split("\n")[:2]) == (0, ["True 14 ['crossq-wn', 'crossq'] False", "True True"]), said


def test_algorithms_are_built_without_jax():
    program = """
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.types import Spec
for recipe in ALGORITHMS.values():
    for preset in recipe.presets.values():
        recipe.build(Spec(5, 2, 0.99), preset.settings.for_run(100_000))
"""
    said, code, modules = loaded(program)
    assert code == 0, said
    assert modules & SLOW == set()
