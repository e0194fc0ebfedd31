"""What is said when something is wrong: in one place each, and in the words of whoever asked."""

import errno
import importlib.metadata
import os
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import helpers
from crossq_wn import UserError, errors, installation, load, machine, resume, train
from crossq_wn.cli import doctor, main
from crossq_wn.environments import SUITES
from crossq_wn.environments.factories import from_id
from crossq_wn.training.api import configure
from crossq_wn.training.video import _picture
from house import ROOT


def said(capsys, *arguments):
    """The one line with which the command line refuses these arguments."""
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    err = capsys.readouterr().err
    assert (stop.value.code, err.count("\n"), "Traceback" in err) == (2, 1, False), err
    return err


@pytest.mark.parametrize("number", [each for each in errno.errorcode if each > 0])
def test_every_error_of_the_file_system_is_one_line(number, capsys, monkeypatch, tmp_path):
    """Whichever call has it: here the one that makes a folder of runs."""

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number), "runs")

    if number in (errno.EINTR, errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY, errno.EPIPE, errno.ESHUTDOWN):
        pytest.skip("not of files, or a reader that has gone")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("crossq_wn.cli.lists.runs", fail)
    monkeypatch.setitem(sys.modules["crossq_wn.cli.lists"].LISTS, "runs", fail)
    told = said(capsys, "list", "runs")
    assert told.startswith(f"crossq-wn: runs: {os.strerror(number)}; ")


def test_a_name_that_is_too_long_is_named_with_what_helps(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = said(capsys, "train", "helpers:PointMass", "--frames", 100, "--out", 300 * "x")
    assert "choose a shorter name (255 bytes at most)" in told


def test_messages_speak_of_options_on_the_command_line_and_of_arguments_in_python(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert "--eval-every is 0" in said(capsys, "train", "cheetah-run", "--eval-every", "0")
    with pytest.raises(UserError, match=r"^eval_every is 0"):
        configure("cheetah-run", eval_every=0)
    assert (errors.option("video", False), errors.option("norm", "none")) == ("video=False", "norm='none'")
    assert errors.stated("seeds", (0, 1)) == "seeds is (0, 1)"
    assert [errors.shown(value) for value in (True, False, None, (), [0, 1], 0.5)] == [
        "yes", "no", "none", "none", "0,1", "0.5"
    ]  # fmt: skip
    with errors.naming_options():
        assert errors.option("video", False) == "--no-video"
        assert errors.option("norm", "none") == "--norm none"
        assert errors.stated("seeds", (0, 1)) == "--seeds is 0,1"
        assert errors.stated("prefill", ("a.npz", "b")) == "--prefill is a.npz b"
        assert errors.stated("q_bias", True) == "--q-bias is given"
        assert errors.stated("terminations", False) == "--no-terminations is given"
        assert errors.stated("norm", "") == "--norm is ''"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UserError, match=r"^out='taken' is not an empty directory"):
        train(helpers.PointMass, frames=10, out="taken")


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"gamma": 0.9}, "did you mean 'discount'?"),
        ({"eval_freq": 1}, "did you mean 'eval_every'?"),
        ({"evalevery": 1}, "did you mean 'eval_every'?"),
        ({"reporters": 1}, "did you mean 'reporter'?"),
        ({"qwertz": 1}, "'qwertz': `crossq-wn train --help` lists all"),
        ({"seed": 1, "seeds": [1]}, "give one of them"),
    ],
)
def test_a_wrong_keyword_is_answered_with_a_right_one(choices, says):
    with pytest.raises(UserError, match=re.escape(says)):
        configure("cheetah-run", **choices)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (None, "the task is None: it must be a name such as 'cheetah-run', or a class or function"),
        (3, "the task is 3: it must be"),
        (helpers.PointMass(), "give the class, or a function that makes one"),
        ("helpers:PointMass()", "is named without brackets: helpers:PointMass"),
    ],
)
def test_what_is_no_task_is_answered_with_what_is(task, says, tmp_path):
    with pytest.raises(UserError, match=re.escape(says)):
        train(task, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_users_own_code_raises_is_said_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = "class Broken:", "    def __init__(self):", "        {}['goal']", "def lacking(size):", "    pass"
    (tmp_path / "their_module.py").write_text("\n".join(lines))
    (tmp_path / "their_other_module.py").write_text("import math\nmath.nothing\n")
    for task, says in (
        ("their_module:Broken", "raised KeyError: 'goal' (their_module.py, line 3)"),
        ("their_module:lacking", "argument: 'size'; it is called without arguments"),
        ("their_other_module:x", "has no attribute 'nothing' (their_other_module.py, line 2)"),
        ("no_module_of_theirs:x", "PYTHONPATH, or install it"),
    ):
        with pytest.raises(UserError) as refusal:
            train(task, out=tmp_path / "run")
        assert str(refusal.value).endswith(says)


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ask in (lambda: load(""), lambda: resume(""), lambda: train(helpers.PointMass, frames=10, out="")):
        with pytest.raises(UserError, match="is '': a folder has a name, and this folder is called"):
            ask()


def test_one_number_of_seeds_is_answered_with_both_that_may_be_meant():
    with pytest.raises(UserError, match=r"seeds is 3: .* \[3\] for seed 3 or range\(3\) for three seeds"):
        configure("cheetah-run", seeds=3)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"tau": 10**400}, "tau is 1000"),
        ({"tau": float("nan")}, "tau is nan: it must be a finite number"),
        ({"utd": 10**5000}, "utd is a number of thousands of digits: it must be a whole number below 2**63"),
        ({"frames": 10**23}, "frames is 100000000000000000000000: it must be a whole number below 2**63"),
        ({"frames": 10**12}, "frames is 1000000000000: it must be at most "),
        ({"seeds": range(2000)}, "at most 1,000 of them"),
        ({"critics": 10**6}, "critics is 1000000: it must be at most 100"),
        ({"frames": 1e300}, "it must be a whole number below 2**63"),
        ({"frames": float("inf")}, "frames is inf: it must be a whole number below 2**63"),
        ({"utd": 0.5}, "utd is 0.5: it must be a whole number, such as 1"),
        ({"critic_width": [16, 16]}, "critic_width is [16, 16]: it must be one whole number, not several"),
        ({"action_repeat": 1.5}, "it must be a whole number, such as 2 or None"),
    ],
)
def test_numbers_beyond_all_bounds_are_named_in_a_short_line(choices, says):
    with pytest.raises(UserError, match=re.escape(says)) as refusal:
        configure("cheetah-run", **choices)
    assert len(str(refusal.value)) < 250


def test_numbers_of_numpy_are_numbers():
    plain = configure("cheetah-run", frames=2000, seeds=[1, 2], utd=3)
    numpy = configure(
        "cheetah-run", frames=np.int64(2000), seeds=np.arange(1, 3),
        utd=np.int32(3),
    )  # fmt: skip
    assert numpy == plain
    assert type(numpy.options.frames) is type(numpy.options.seeds[0]) is int
    assert configure("cheetah-run", frames=np.array(2000), seeds=np.array([1, 2]), utd=np.array(3)) == plain


def test_whole_numbers_may_be_written_as_floats():
    plain = configure("cheetah-run", frames=2000, seeds=[1, 2], utd=3, discount=0.5)
    config = configure("cheetah-run", frames=2e3, seeds=[1.0, 2.0], utd=3.0, discount=0.5)
    assert (config, config.system.label) == (plain, plain.system.label)
    numbers = config.options.frames, *config.options.seeds, config.settings.utd
    assert {*map(type, numbers)} == {int}


def test_every_option_is_a_keyword_and_seed_is_one_seed():
    config = configure("cheetah-run", seed=3, eval_every=7, preset="code", utd=4)
    assert (config.options.seeds, config.options.eval_every) == ((3,), 7)
    assert (config.system.preset, config.settings.utd) == ("code", 4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("FetchReach-v2", "`crossq-wn list tasks` names them"),  # not Reacher-v2, which Gymnasium refuses
        ("Hoper-v2", "did you mean 'Hopper-v5'?"),
        ("BipedalWalkr-v3", "`crossq-wn list tasks` names them"),  # needs a package that is not here
        ("Pendulm-v1", "did you mean 'Pendulum-v1'?"),
    ],
)
def test_only_what_exists_here_and_is_near_is_suggested(name, says):
    with pytest.raises(UserError, match=re.escape(says)):
        from_id(name)


def test_tasks_of_a_suite_that_is_not_installed_are_not_suggested(capsys, monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(type(SUITES["myosuite"]), "installed", there)
        assert ("did you mean 'myo-reach-hard'?" in said(capsys, "train", "myo-reach-hrd")) == there


class Distribution:
    def __init__(self, origin):
        self.origin = origin
        self.requires = ["numpy>=2", "wandb>=0.18; extra == 'wandb'", 'ray>=2; extra == "ray"']

    def read_text(self, name):
        return self.origin


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'wandb>=0.18'"),  # from an index, or what is like it
        ('{"url": "file:///gone/crossq_wn-0.1.0.whl", "archive_info": {}}', "pip install 'wandb>=0.18'"),
        ('{"url": "file:///WHEEL", "archive_info": {}}', "pip install '/WHEEL[wandb]'"),
        (
            '{"url": "https://a.b/c", "vcs_info": {"vcs": "git", "commit_id": "0abc"}}',
            "pip install 'crossq-wn[wandb] @ git+https://a.b/c@0abc'",
        ),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came_from(origin, command, monkeypatch, tmp_path):
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    place = str(tmp_path / "some.whl")
    (tmp_path / "some.whl").touch()
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "lib" / "crossq_wn" / "installation.py"))
    found = Distribution(origin and origin.replace("/WHEEL", place))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)
    assert installation.install_command("wandb") == command.replace("/WHEEL", place)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))  # where pip could not build labmaze
    assert installation.install_command("wandb") == "pip install 'wandb>=0.18'"
    assert installation.install_command("ray,wandb") == "pip install 'wandb>=0.18' 'ray>=2'"
    found.requires += ["dm_control>=1.0; extra == 'published'"]
    for extra, what in (("published", "'dm_control>=1.0'"), ("", "'numpy>=2'")):
        if origin and "gone" not in origin:
            what = command.removeprefix("pip install ").replace("/WHEEL", place)
            what = what.replace("[wandb]", f"[{extra}]" if extra else "")
        said = installation.install_command(extra)
        assert said.startswith(f"uv pip install --override overrides.txt {what}, where overrides.txt has ")


def test_an_extra_of_a_checkout_is_installed_from_it(monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    monkeypatch.chdir(ROOT)
    assert installation.install_command("wandb") == "pip install -e '.[wandb]'"
    assert SUITES["myosuite"].install_command == "pip install -e '.[published,myosuite]'"
    monkeypatch.chdir("/")
    assert installation.install_command() == f"pip install -e '{ROOT}'"
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert installation.install_command("ray") == f"uv --directory '{ROOT}' pip install -e '.[ray]'"
    monkeypatch.chdir(ROOT)
    assert installation.install_command("ray") == "uv pip install -e '.[ray]'"
    for elsewhere in (None, "/other/environment"):  # the shell is in none, or in another one
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        if elsewhere:
            monkeypatch.setenv("VIRTUAL_ENV", elsewhere)
        monkeypatch.setattr(sys, "executable", "/my tools/bin/python")
        assert installation.install_command("ray") == "'/my tools/bin/python' -m uv pip install -e '.[ray]'"
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    for said in (SUITES["myosuite"].install_command, installation.install_command("published")):
        assert said.startswith("make install SIMULATORS=published, since MuJoCo 3.6 has no wheel")
    monkeypatch.setattr(installation, "__file__", "/lib/site-packages/crossq_wn/installation.py")
    assert installation.install_command("published").startswith("install anew with Python 3.13, since MuJoCo")


@pytest.mark.parametrize(
    "error", [AssertionError(), RuntimeError("Unable to initialize backend 'tpu': no\nlib")]
)
def test_a_device_that_is_not_there_is_said_by_training_and_doctor(error, monkeypatch, tmp_path):
    def fail():
        raise error

    monkeypatch.setattr(machine.jax, "devices", fail, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(
        UserError, match=r"JAX_PLATFORMS is 'cuda', and JAX finds no such device.*unset"
    ) as refusal:
        train(helpers.PointMass, out=tmp_path / "run")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
    found = doctor._device()
    assert "JAX finds no such device" in found.state
    assert found.fix.startswith("unset JAX_PLATFORMS")
    assert found.essential


def test_no_accelerator_is_one_line_in_a_process_of_its_own(tmp_path):
    for verb in ("train", "bench"):
        done = helpers.cli(
            verb, "helpers:PointMass", "--seeds", 1, cwd=tmp_path, env={"JAX_PLATFORMS": "cuda"}
        )
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert done.stderr.splitlines()[-1].startswith("crossq-wn: JAX_PLATFORMS is 'cuda'")


def test_without_a_home_directory_programs_are_not_kept_and_nothing_else_changes(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(machine.Path, "home", nowhere)
    with pytest.raises(UserError, match="set HOME or XDG_CACHE_HOME"):
        machine.cache_folder()
    machine.use_jax()


@pytest.mark.parametrize(
    ("wanted", "broken", "state", "fix"),
    [
        (None, {}, "works with MUJOCO_GL=egl", ""),
        (None, {"egl": "no libEGL"}, "works with MUJOCO_GL=osmesa", ""),
        (
            "glfw",
            {"glfw": "no display"},
            "fails with MUJOCO_GL=glfw (no display), works with MUJOCO_GL=egl",
            "unset",
        ),
        (
            "egl",
            dict.fromkeys(("egl", "osmesa", "glfw"), "no driver"),
            "no OpenGL backend works (no driver)",
            "apt",
        ),
    ],
)
def test_doctor_finds_why_nothing_renders(wanted, broken, state, fix, monkeypatch):
    monkeypatch.setattr(doctor, "why_not", broken.get)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if wanted:
        monkeypatch.setenv("MUJOCO_GL", wanted)
    found = doctor._rendering()
    assert found.state.startswith(state)
    assert found.fix.startswith(fix)
    assert bool(found.fix) == bool(fix)
    assert not found.essential or not fix


def test_a_backend_that_is_none_is_told_by_its_own_words():
    assert "nonsense" in doctor.why_not("nonsense")


@pytest.mark.parametrize("physics", [None, "MuJoCo's"])
def test_only_where_doctor_can_help_it_is_named(physics):
    def render(height, width):
        raise RuntimeError("pygame is not\ninstalled")

    task, simulator = SimpleNamespace(name="Pendulum-v1"), SimpleNamespace(physics=physics)
    with pytest.raises(UserError) as refusal:
        _picture(SimpleNamespace(render=render, task=task, simulator=simulator), (16, 16))
    said = "Pendulum-v1 cannot be rendered here (RuntimeError: pygame is not installed)"
    assert str(refusal.value) == said + (": `crossq-wn doctor` names the fix" if physics else "")


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [
        (1, "frame", "1 frame"),
        (2_000, "frame", "2,000 frames"),
        (1, "run directory", "1 run directory"),
        (6, "run directory", "6 run directories"),
        (0, "seed", "0 seeds"),
    ],
)
def test_numbers_of_things_read_as_english(number, unit, words):
    assert errors.counted(number, unit) == words
