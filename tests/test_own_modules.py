"""A user's own modules: what is said where a name leads nowhere."""

import sys
import types
from functools import partial

import gymnasium
import pytest

import crossq_wn
from crossq_wn import UserError
from crossq_wn.cli import main
from crossq_wn.environments import lookup, make
from crossq_wn.errors import closest
from crossq_wn.naming import name_of
from crossq_wn.own_modules import import_user_module, missing
from helpers import TINY_OPTIONS, TINY_SETTINGS

MODULE = """
import math as maths
from pathlib import Path

LIMIT = 3

class Reach:
    speed = 1

def make_push():
    return None
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module, a package and a folder of modules, in which commands are run."""
    for place in ("arm_task.py", "arms/lift.py", "suite/__init__.py", "suite/slide.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(MODULE)
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield
    for name in ("arm_task", "suite", "suite.slide", "needs", "arms", "arms.lift"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("arm_task.py:Reach", "write a module's name, not its file: arm_task:Reach"),
        ("arms/lift.py:Reach", "write a module's name, not its file: arms.lift:Reach"),
        ("./arm_task:Reach", "write a module's name, not its file: arm_task:Reach"),
        ("../far/off.py:Reach", "write a module's name, not its file: off:Reach, with ../far in PYTHONPATH"),
        ("/opt/off.py:Reach", "write a module's name, not its file: off:Reach, with /opt in PYTHONPATH"),
        ("arm_tsk:Reach", "there is no such module here; did you mean 'arm_task'? run this in the folder of"),
        ("suite.slid:Reach", "there is no such module here; did you mean 'slide'? "),
        ("lift:Reach", "no such module here, but one in arms/: write arms.lift:Reach"),
        ("off:Reach", "here; run this in the folder of off.py, add that folder to PYTHONPATH, or install it"),
        ("a**[:Reach", "there is no such module here; run this in the folder of a**[.py"),
        ("a\0b.c:Reach", "cannot import 'a\\x00b.c'"),
        (300 * "a" + ":Reach", "there is no such module here; run this in the folder of aaa"),
        (300 * "a", "unknown task"),
        ("needs:Reach", "ModuleNotFoundError: No module named 'no_such_library' (needs.py, line 1)"),
        ("arm_task:Rech", "'arm_task' has no 'Rech'; did you mean 'Reach'?"),
        ("arm_task:REACH", "'arm_task' has no 'REACH'; did you mean 'Reach'?"),
        ("arm_task:Walk", "'arm_task' has no 'Walk'; it has Reach, make_push"),
        ("arm_task:", "'arm_task' has no ''; it has Reach, make_push"),
        ("arm_task:Reach.sped", "'Reach' has no 'sped'; did you mean 'speed'?"),
        ("arm_task", "name the class or function in arm_task.py too, as in arm_task:Reach; "),
        ("arm_task.py", "name the class or function in arm_task.py too, as in arm_task:Reach; "),
        ("arms/lift.py", "name the class or function in arms/lift.py too, as in arms.lift:Reach; "),
    ],
)
def test_a_task_whose_module_or_name_is_not_found(task, says, here):
    with pytest.raises(UserError) as refusal:
        make(lookup(task).name)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_written_instead_is_found(here):
    for path in ("arm_task:Reach", "arms.lift:Reach", "suite.slide:Reach"):
        assert import_user_module(path, "a test").Reach.speed == 1
    assert "did you mean 'arm_task'" in missing("arm_tasks:Reach")


SCRIPT = """
import crossq_wn
import helpers

class Reach(helpers.PointMass):
    class Inner(helpers.PointMass):
        pass

def make_reach(speed=1):
    return Reach()
"""
UNGUARDED = SCRIPT + "crossq_wn.train(Reach, frames=10)"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """(source, name of the file) -> the module as which Python runs a script, in the script's folder."""
    monkeypatch.chdir(tmp_path)

    def run(source, name="my_script.py"):
        (tmp_path / name).write_text(source)
        main = types.ModuleType("__main__")
        main.__file__ = name  # as Python has it
        monkeypatch.setitem(sys.modules, "__main__", main)
        exec(source, vars(main))
        return main

    yield run
    sys.modules.pop("my_script", None)


def test_what_a_script_defines_is_named_as_it_can_be_imported(script, monkeypatch):
    program = script(SCRIPT)
    names = {
        program.Reach: "my_script:Reach",
        program.Reach.Inner: "my_script:Reach.Inner",
        program.make_reach: "my_script:make_reach",
        partial(program.make_reach, speed=program.Reach): "my_script:make_reach(speed=my_script:Reach)",
        crossq_wn.train: "crossq_wn.training.api:train",
    }
    assert list(map(name_of, names)) == list(names.values())
    assert import_user_module("my_script:Reach", "a test") is program  # and not run again


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("my.script.py", "no name of a module"),
        ("json.py", "that of another module, which is loaded"),
        ("sub/my_script.py", "that of another module, which comes first"),
        (None, "as at a prompt or in a notebook"),
    ],
)
def test_what_no_import_would_find_keeps_the_name_of_the_program(file, reason, script, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "my_script.py").touch()
    program = script(SCRIPT, file or "my_script.py")
    if file is None:
        del program.__file__
    assert name_of(program.Reach) == "__main__:Reach", reason
    with pytest.raises(UserError, match=r"give it again from Python, as in .*load\(run\)\.evaluate\("):
        make("__main__:Reach")


def test_programs_that_python_finds_as_modules_are_named_by_them(script):
    program = script(SCRIPT)
    program.__spec__ = types.SimpleNamespace(name="arms.lift")  # of `python -m arms.lift`
    assert name_of(program.Reach) == "arms.lift:Reach"
    program.Reach.__module__ = program.Other = "__mp_main__"  # in a process of multiprocessing
    assert name_of(program.Reach) == "arms.lift:Reach"
    del program.Reach.Inner, program.__dict__["make_reach"]
    elsewhere = type("Elsewhere", (gymnasium.Env,), {"__module__": "__main__"})  # as under a profiler
    assert name_of(elsewhere).startswith("__main__:Elsewhere")


def test_a_task_of_a_script_is_evaluated_by_its_name(script, monkeypatch, tmp_path, capsys):
    program = script(SCRIPT)
    small = TINY_OPTIONS | TINY_SETTINGS
    run = crossq_wn.train(program.Reach, frames=40, out=tmp_path / "run", **small).path
    policy = crossq_wn.load(run)
    assert policy.config.task == "my_script:Reach"
    assert len(policy.evaluate(episodes=1)) == 1  # in the script itself
    monkeypatch.delitem(sys.modules, "__main__")

    def evaluated():
        sys.modules.pop("my_script", None)
        with pytest.raises(SystemExit) as ending:
            main(["eval", str(run), "--episodes", "1"])
        return ending.value.code, capsys.readouterr().err

    assert evaluated() == (0, "")
    (tmp_path / "my_script.py").write_text(UNGUARDED)
    code, said = evaluated()
    assert code == 2
    assert (
        "cannot import 'my_script' for the task 'my_script:Reach': to import it calls crossq_wn.train, which "
        "would train again: put whatever my_script does, except for its definitions, under `if __name__ =="
    ) in said
    assert not (tmp_path / "runs").exists()
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    code, said = evaluated()
    assert code == 2
    assert "there is no such module here; run this in the folder of my_script.py, add that folder" in said


def test_case_and_version_do_not_hide_the_nearest_name():
    assert closest("CHEETAH-RUN", ["cheetah-run", "dog-run"]) == "cheetah-run"
    assert closest("hopper-v3", ["Hopper-v4", "Hopper-v5"]) == "Hopper-v5"
    known = ["HalfCheetah-v10", "HalfCheetah-v9", "halfcheetah-v11"]
    assert closest("HalfCheeta-v4", known) == "HalfCheetah-v10"
    assert closest("PPO", ["sac"]) is None
