"""A user's own modules: what is said where a name leads nowhere."""

import sys

import pytest

from crossq_wn import UserError
from crossq_wn.environments import lookup, make
from crossq_wn.errors import closest
from crossq_wn.own_modules import import_user_module, missing

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


def test_case_and_version_do_not_hide_the_nearest_name():
    assert closest("CHEETAH-RUN", ["cheetah-run", "dog-run"]) == "cheetah-run"
    assert closest("hopper-v3", ["Hopper-v4", "Hopper-v5"]) == "Hopper-v5"
    known = ["HalfCheetah-v10", "HalfCheetah-v9", "halfcheetah-v11"]
    assert closest("HalfCheeta-v4", known) == "HalfCheetah-v10"
    assert closest("PPO", ["sac"]) is None
