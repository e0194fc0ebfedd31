"""What does a person at the keyboard meet? One line and exit code 2 for every mistake; verbs that work."""

import fcntl
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

import crossq_wn
import helpers
from crossq_wn.cli import doctor, main
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.cli.spinner import working
from crossq_wn.installation import MIXED, SIMULATOR_SETS, install_command, simulator_set
from crossq_wn.runs.config import read_config
from crossq_wn.runs.seals import signed
from crossq_wn.training.configuring import configure
from helpers import DAMAGE, TINY, TINY_OPTIONS, TINY_SETTINGS, cli, make_run


@pytest.fixture
def run_cli(monkeypatch, tmp_path, capsys):
    """(arguments) -> (exit code, stdout, stderr) of the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUJOCO_GL", raising=False)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


@pytest.fixture
def refused(run_cli):
    """(arguments) -> the one line with which the command line refuses them."""

    def check(*arguments):
        code, _, err = run_cli(*arguments)
        assert code == 2, err
        assert len(err.splitlines()) == 1, err
        assert err.startswith("crossq-wn: ")
        assert "Traceback" not in err
        return err

    return check


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny trained run of two seeds."""
    path = tmp_path_factory.mktemp("trained") / "run"
    return crossq_wn.train(
        helpers.PointMass, frames=200, seeds=(0, 4), out=path, **TINY_OPTIONS, **TINY_SETTINGS
    ).path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train cheeta-run", "did you mean 'cheetah-run'?"),
        ("train cheeta_run", "did you mean 'cheetah-run'?"),
        ("train myo-reach-hrd", "did you mean 'myo-reach-hard'?"),
        ("train myoFoo-v0", "unknown task"),
        ("train Hoper-v5", "did you mean 'Hopper-v5'?"),
        ("train Hopper-v99", "unknown task"),
        ("train nothing/like-this-v0", "nothing/like-this"),
        ("train Ant-v3", "Ant-v3"),
        ("train cheetah-run --algorithm crosq", "did you mean 'crossq'?"),
        ("train cheetah-run --preset defualt", "did you mean 'default'?"),
        ("train cheetah-run --algorithm sac --preset official", "sac has no preset"),
        ("train cheetah-run --algorithm", "--algorithm"),
        ("train cheetah-run --utd 0", "--utd is 0"),
        ("train cheetah-run --frames -5", "--frames is -5"),
        ("train cheetah-run --frames 1", "the frames of one decision"),
        ("train cheetah-run --frames 10000", "all 5,000 agent decisions fall into the warm-up of 5,000"),
        ("sweep --task cheetah-run --frames 4000 --out s", "shorten the warm-up, as by --warmup 500"),
        ("train cheetah-run --batch-size 0", "--batch-size is 0"),
        ("train cheetah-run --l2-scale 0.1", "must be left out unless --weight-norm is l2"),
        ("train cheetah-run --norm layer-norm --norm-momentum 0.9", "left out with --norm layer-norm"),
        ("train cheetah-run --weight-norm none --weight-norm-radius 2", "where nothing is held"),
        ("train cheetah-run --no-target-network --tau 0.01", "must be left out with --no-target-network"),
        ("train helpers:PointMass --real-time 20 --video", "--video is given: it must be left out"),
        ("sweep --task cheetah-run --target-network false --tau 0.01 --out s", "must be left out"),
        ("train cheetah-run --algorithm tdmpc2 --horizon 1", "a whole number of at least 2"),
        ("train cheetah-run --discount 1.5", "--discount is 1.5"),
        ("train cheetah-run --actor-learning-rate nan", "--actor-learning-rate is nan"),
        ("train pendulum-swingup --frames 100 --no-video --action-repeat 0", "--action-repeat is 0"),
        ("train pendulum-swingup --frames 100 --no-video --episode-frames 0", "--episode-frames is 0"),
        ("train pendulum-swingup --frames 100 --no-video --episode-frames -3", "--episode-frames is -3"),
        ("train cheetah-run --seeds a,b", "argument --seeds: 'a,b' is not a list of whole numbers"),
        ("train cheetah-run --seeds 0,0", "without repetition"),
        ("train cheetah-run --seeds -1", "--seeds"),
        ("train cheetah-run --seeds ,", "argument --seeds: ',' is not a list of whole numbers"),
        ("list bogus", "invalid choice: 'bogus'"),
        ("list runs nowhere", "nowhere is not a directory"),
        ("trian cheetah-run", "did you mean 'train'?"),
        ("resume nowhere", "nowhere is not a run directory"),
        ("eval nowhere", "nowhere is not a run directory"),
        ("video nowhere", "nowhere is not a run directory"),
        ("plot nowhere", "nowhere is not a run directory"),
        ("resume", "required: RUN;"),
        ("resume nowhere --bogus", "--bogus"),
        ("doctor now", "unrecognized arguments: now"),
        ("list /", "'/' is a folder: `crossq-wn list runs /` lists its runs"),
        ("resume x --utd 4", "`crossq-wn train --config RUN --utd ...` begins another one with it"),
        ("resume x --no-target-network", "--no-target-network is chosen when a run begins"),
        ("resume x --eval-every=4", "--eval-every is chosen when a run begins"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(arguments, says, refused):
    assert says in refused(*arguments.split())


def test_a_replay_too_small_for_one_transition_is_refused(refused):
    assert "--replay-size" in refused(
        "train", "helpers:PointMass", "--frames", 100, "--replay-size", 1, *TINY
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--frames 1.5", "'1.5' is not a whole number"),
        ("--utd x", "'x' is not a whole number"),
        ("--tau x", "'x' is not a number"),
        ("--utdd 2", "did you mean '--utd'?"),
        ("--norm batchnorm", "'batch-norm', 'batch-renorm', 'layer-norm'"),
        ("--no-such", "--no-such"),
        ("--seeds", "--seeds"),
        ("--log-std-min 5", "below 2"),
        ("--initial-temperature inf", "a finite number"),
    ],
)
def test_a_mistyped_flag_is_explained(flags, says, refused):
    said = refused("train", "cheetah-run", *flags.split())
    assert flags.split()[0] in said
    assert says in said


def test_a_missing_task_is_named(refused):
    assert "TASK" in refused("train")


def test_your_own_algorithm_is_an_option(tmp_path):
    """The documented one, as `module:name`: processes that never imported it train and evaluate it."""
    page = (helpers.TESTS.parent / "docs" / "your-own-algorithm.md").read_text()
    (tmp_path / "my_algorithm.py").write_text(page.split("```python\n")[1].split("```")[0])
    chosen = ("--algorithm", "my_algorithm:layer-norm-sac")
    done = cli("train", "helpers:PointMass", *chosen, "--frames", 40, *TINY, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "layer-norm-sac UTD 1" in (tmp_path / "run" / "eval.csv").read_text()
    evaluated, wrong = helpers.clis(
        ("eval", "run", "--episodes", 1), ("train", "cheetah-run", "--algorithm", "my_algorithm:nope"),
        cwd=tmp_path,
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "unknown algorithm 'my_algorithm:nope'" in wrong.stderr


def test_a_number_of_the_wrong_kind_is_explained_in_words(refused, trained):
    said = refused("eval", trained, "--episodes", "x")
    assert "_positive" not in said  # not the name of a function


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("helpers:DiscretePoint", "discrete actions and dicts of actions are not supported"),
        ("helpers:PairPoint", "gymnasium.wrappers.FlattenObservation(env) makes one Box"),
        ("helpers:UnboundedPoint", "give the Box finite bounds"),
        ("helpers:NoSpaces", "has no observation_space: set it in the class"),
        ("helpers:NoActionSpace", "has no action_space: set it in the class"),
        ("helpers:PixelPoint", "pixel observations are not supported"),
        ("helpers:PointMas", "did you mean 'PointMass'?"),
        ("helpers:", "helpers"),
        ("helpers:NOT_CALLABLE", "helpers:NOT_CALLABLE"),
        ("helpers:no_environment", "returned a dict, not a gymnasium.Env"),
        ("helpers:needs_argument", "helpers:needs_argument"),
        ("helpers:broken_factory", "no licence found"),
        ("no_such_module:Point", "cannot import 'no_such_module'"),
        ("broken_module:Point", "broken_module"),
        ("myopic_module:Point", "myopic_module"),
    ],
)
def test_an_environment_that_cannot_be_trained_on_costs_one_line(task, says, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_module.py").write_text("def f(:\n")
    assert says in refused("train", task, "--frames", 100, *TINY)


@pytest.mark.parametrize(
    "arguments",
    [
        "helpers:DiscretePoint --frames 100",
        "Hoper-v5 --frames 100",
        "helpers:HugePoint",
        "helpers:PointMass --frames 100 --wandb project",
    ],
)
def test_a_refused_run_leaves_no_run_directory_behind(arguments, refused, tmp_path):
    if "--wandb" in arguments and importlib.util.find_spec("wandb") is not None:
        pytest.skip("W&B is installed")
    refused("train", *arguments.split(), *TINY)
    assert list(tmp_path.rglob("config.json")) == []


def test_a_factory_whose_module_begins_like_a_myosuite_task_is_still_a_factory(
    run_cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "myotoy.py").write_text("from helpers import PointMass\n")
    code, _, err = run_cli("train", "myotoy:PointMass", "--frames", 30, "--out", "run", *TINY)
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["action_repeat"] == 1


def test_replay_beyond_the_memory_is_refused_with_a_size_that_fits(refused):
    said = refused("train", "helpers:HugePoint", "--replay-size", 10**6, *TINY)
    assert "GiB" in said
    assert "--replay-size" in said


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="W&B is installed")
def test_wandb_without_its_package_is_refused_with_the_fix(refused):
    said = refused("train", "helpers:PointMass", "--frames", 100, "--wandb", "project", *TINY)
    assert re.search(r"pip install -e '.*\[wandb\]'", said)


def test_nothing_is_overwritten(refused, tmp_path, trained):
    assert "holds a run" in refused("train", "helpers:PointMass", "--out", trained)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "empty" in refused("train", "helpers:PointMass", "--out", "full")
    assert "empty" in refused("train", "helpers:PointMass", "--out", "full/thesis.tex")
    assert "cannot create" in refused("train", "helpers:PointMass", "--out", "full/thesis.tex/run")


def test_a_folder_that_cannot_be_made_is_refused(refused, tmp_path):
    (tmp_path / "runs").touch()
    assert "runs" in refused("train", "helpers:PointMass")


def test_a_run_in_use_is_refused(refused, trained):
    with open(trained / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "in use by another process" in refused("resume", trained)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"schema": 2', '"schema": 3'), "upgrade crossq-wn"),
        (lambda text: text[:-20], "copy` restores it"),
        (lambda text: text.replace('"algorithm": "', '"algorithm": "my-'), "altered"),
        (lambda text: text.replace('"schema": 2', '"schema": "x"'), "has no readable config.json"),
        (lambda text: text.replace('"utd"', '"utb"'), "altered"),
        (lambda text: text.replace('"critic_width": 8', '"critic_width": 9'), "altered"),
    ],
)
def test_an_altered_configuration_is_refused_by_eval_and_restored_by_resume(
    change, says, refused, trained, tmp_path
):
    run = shutil.copytree(trained, tmp_path / "copy")
    before = (run / "config.json").read_text()
    (run / "config.json").write_text(change(before))
    assert says in refused("eval", run)
    with pytest.raises(SystemExit) as ending:
        main(["resume", str(run)])
    assert ending.value.code == 0
    assert (run / "config.json").read_text() == before


@pytest.mark.parametrize("left", ["", "{", None])
def test_a_lost_manifest_begins_anew(left, capsys, trained, tmp_path):
    """It is said, and what was there is kept: also where only its checksum is wrong."""
    run = shutil.copytree(trained, tmp_path / "copy")
    values = json.loads((run / "manifest.json").read_text())
    damaged = json.dumps(values | {"commands": [["forged"]]}) if left is None else left
    (run / "manifest.json").write_text(damaged)
    with pytest.raises(SystemExit) as ending:
        main(["resume", str(run)])
    assert ending.value.code == 0
    assert len(json.loads((run / "manifest.json").read_text())["commands"]) == 1
    said = capsys.readouterr()
    assert "earlier commands, versions and protocols are not known" in said.out + said.err
    assert "what was there is now manifest.json.damaged-1" in said.out + said.err
    assert (run / "manifest.json.damaged-1").read_text() == damaged


def test_a_resumption_notes_what_has_changed(capsys, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "copy")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["versions"]["jax"] = "0.0.1"
    (run / "manifest.json").write_text(json.dumps(signed(manifest)))
    with pytest.raises(SystemExit) as ending:
        main(["resume", str(run), "--frames", "250"])
    assert ending.value.code == 0
    said = capsys.readouterr()
    assert "versions have changed (jax 0.0.1, now " in said.out + said.err
    noted = json.loads((run / "manifest.json").read_text())
    assert len(noted["commands"]) == 2
    assert [versions["jax"] for versions in noted["earlier_versions"]] == ["0.0.1"]
    assert noted["versions"]["jax"] != "0.0.1"


def test_a_resumption_that_fails_notes_nothing(refused, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "copy")
    for path in (run / "checkpoints" / "replay").iterdir():
        path.write_bytes(b"")
    before = [(run / name).read_bytes() for name in ("manifest.json", "config.json")]
    refused("resume", run, "--frames", 100_000)
    assert [(run / name).read_bytes() for name in ("manifest.json", "config.json")] == before


def test_a_seed_that_the_run_does_not_have_is_refused(refused, trained):
    for verb in ("eval", "video"):
        said = refused(verb, trained, "--seed", 9)
        assert "has no seed 9" in said
        assert "it has 0, 4" in said


def test_a_video_overwrites_nothing_and_is_an_mp4(refused, trained, tmp_path):
    (tmp_path / "mine.mp4").write_text("precious")
    assert "nothing is overwritten" in refused("video", trained, "--out", tmp_path / "mine.mp4")
    assert "must end in .mp4" in refused("video", trained, "--out", tmp_path / "mine.txt")
    assert (tmp_path / "mine.mp4").read_text() == "precious"


def test_verdicts_of_another_origin_are_not_replaced(refused, tmp_path):
    (tmp_path / "verdict.md").write_text("precious")
    said = refused("reproduce", "fig3", "--scale", "smoke", "--dry-run", "--out", tmp_path)
    assert "verdict.md that reproduce did not write" in said


def test_a_reader_that_goes_away_is_no_mistake(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m crossq_wn train --help | true", shell=True, capture_output=True, text=True,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_explains_itself(verb, run_cli):
    code, out, err = run_cli(*verb.split(), "--help")
    assert code == 0
    assert "usage: crossq-wn" in out
    assert err == ""


def test_no_arguments_and_version(run_cli):
    assert run_cli()[0] == 0
    first, packages, simulators = run_cli("--version")[1].splitlines()
    assert first == f"crossq-wn {crossq_wn.__version__}"
    assert f"python {platform.python_version()}, jax {version('jax')}, " in packages
    assert simulators.startswith(f"simulators: {simulator_set()} (mujoco {version('mujoco')}, dm_control ")


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("tasks", ["dog-run", "myo-key-turn-hard", "Ant-v5", "finger-turn-hard"]),
        ("algorithms", ["crossq-wn", "crossq", "sac"]),
        ("presets", ["paper-v2", "official"]),
    ],
)
def test_lists_name_what_there_is(what, names, run_cli):
    code, out, err = run_cli("list", what)
    assert (code, err) == (0, "")
    for name in names:
        assert name in out


def test_list_runs_names_runs_and_survives_strange_ones(run_cli, tmp_path, trained):
    code, out, err = run_cli("list", "runs", trained.parent)
    assert (code, err) == (0, "")
    assert "helpers:PointMass" in out
    fresh = tmp_path / "runs" / "fresh"
    fresh.mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        (fresh / name).write_bytes((trained / name).read_bytes())
    (fresh / "eval.csv").write_text("exp_name,env_name,seed,metric,env_step,value\n")
    code, out, err = run_cli("list", "runs")
    assert code == 0
    assert "is skipped" in err


def test_list_runs_names_all_that_is_left_of_runs_and_why_it_is_not_listed(run_cli, tmp_path):
    make_run(tmp_path / "runs" / "sound", eval_rows=[(100, 50.0)])
    for kind, (damage, _) in DAMAGE.items():
        damage(make_run(tmp_path / "runs" / kind))
    code, out, err = run_cli("list", "runs")
    assert (code, "runs/sound" in out, "  50\n" in out) == (0, True, True)  # the return as it was logged
    told = {line.split(" is skipped: ")[0]: line for line in err.splitlines()}
    for kind, (_, why) in DAMAGE.items():
        assert why in told[f"crossq-wn: runs/{kind}"]


def test_the_score_in_a_list_of_runs_is_of_the_seeds_that_got_there(run_cli, tmp_path):
    run = make_run(tmp_path / "runs" / "late", eval_rows=[(0, 10.0), (100, 50.0)])
    helpers.alter_config(run, lambda values: values["options"].update(seeds=[0, 1]))
    with open(run / "eval.csv", "a") as file:
        file.write(f'"{read_config(run).system.label}",cheetah-run,1,return,0,20\n')
    code, out, err = run_cli("list", "runs", "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert (row["evaluated"], row["scored"], row["score"]) == (100, 1, 50.0)


def test_lists_are_sorted_by_any_column(run_cli, tmp_path):
    for name, task, value in (("a", "walker-run", 5.0), ("b", "cheetah-run", 50.0), ("c", "dog-run", 500.0)):
        make_run(tmp_path / "runs" / name, task=task, eval_rows=[(100, value)])
    by = {}
    for column in ("task", "score"):
        code, out, _ = run_cli("list", "runs", "--sort", column)
        assert code == 0
        by[column] = [line.split()[1] for line in out.splitlines() if "-run" in line]
    assert by["task"] == sorted(by["task"])
    assert by["score"] == ["dog-run", "cheetah-run", "walker-run"]
    code, _, err = run_cli("list", "tasks", "--sort", "colour")
    assert code == 2
    assert "the columns of tasks are name, suite" in err


def test_doctor_finds_nothing_essential(run_cli):
    code, out, _ = run_cli("doctor")
    assert code == 0, out
    for what in ("mujoco", "rendering", "device"):
        assert what in out


@pytest.mark.parametrize(
    ("title", "explained", "wrong"),
    [
        ("published", "published: scores compare with the literature's", False),
        ("current", "current: scores compare with runs of this set alone, and MyoSuite is not in it", False),
        (MIXED, "a mix of the sets published and current: scores compare with neither's", True),
    ],
)
def test_doctor_explains_the_set_of_simulators(title, explained, wrong, monkeypatch):
    monkeypatch.setattr(doctor, "simulator_set", lambda: title)
    finding = doctor._simulators()[0]
    assert (finding.what, finding.state) == ("simulators", explained)
    assert finding.fix == (install_command("published") if wrong else "")
    assert not finding.essential
    assert doctor._SETS.keys() == {*SIMULATOR_SETS, MIXED}


def test_eval_and_plot_of_a_trained_run(run_cli, trained, tmp_path):
    code, out, err = run_cli("eval", trained, "--episodes", 2)
    assert (code, err) == (0, "")
    again = run_cli("eval", trained, "--episodes", 2)[1]
    assert out == again  # its episodes have seeds of their own
    code, out, err = run_cli("plot", trained, "--out", tmp_path / "curve")
    assert (code, err) == (0, "")
    for suffix in (".png", ".svg", ".csv"):
        assert (tmp_path / f"curve{suffix}").stat().st_size > 100


def test_the_installed_command_and_the_module_are_the_same(tmp_path):
    for command in (["crossq-wn"], [sys.executable, "-m", "crossq_wn"]):
        where = sys.executable.rsplit("/", 1)[0]
        environment = helpers.environment_variables() | {"PATH": where}
        done = subprocess.run(
            [*command, "trian"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("crossq-wn: unknown command 'trian': did you mean 'train'?")


def test_a_closed_pipe_is_no_accident(tmp_path):
    command = f"{sys.executable} -m crossq_wn list tasks | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=helpers.environment_variables(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_a_trained_policy_acts_within_its_bounds(trained):
    policy = crossq_wn.load(trained)
    assert (policy.seed, policy.frames, policy.observation_size) == (0, 200, 3)
    space = helpers.PointMass.action_space
    one = policy.act(np.array([0.1, 0.2, 0.5]))
    assert space.contains(one)
    many = policy.act(np.random.default_rng(0).normal(0, 100, (50, 3)))
    assert many.shape == (50, 2)
    assert all(space.contains(action) for action in many)
    np.testing.assert_allclose(policy.act([[0.1, 0.2, 0.5]])[0], one, rtol=1e-6)
    other = crossq_wn.load(trained, seed=4).act(np.array([0.1, 0.2, 0.5]))
    assert not np.array_equal(one, other)
    for wrong in (np.zeros(4), np.zeros((2, 2)), np.zeros((1, 1, 3)), 0.5):
        with pytest.raises(crossq_wn.UserError, match="trained on"):
            policy.act(wrong)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_long_is_shown_on_a_terminal_only(terminal, monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream := Stream())
    with working("seed 0: playing 2 episodes of [bold]"):
        pass
    assert ("seed 0: playing 2 episodes of [bold]" in stream.getvalue()) == terminal
    assert terminal or not stream.getvalue()


def test_python_mistakes_are_user_errors(tmp_path):
    with pytest.raises(crossq_wn.UserError, match="did you mean 'batch_size'"):
        crossq_wn.train(helpers.PointMass, frames=10, out=tmp_path / "a", batchsize=3)
    with pytest.raises(crossq_wn.UserError, match="did you mean 'crossq'"):
        crossq_wn.train(helpers.PointMass, frames=10, out=tmp_path / "a", algorithm="crosq")
    with pytest.raises(crossq_wn.UserError, match="it is an argument of `train`"):
        configure(helpers.PointMass, out=tmp_path / "a")
    with pytest.raises(crossq_wn.UserError, match="utd is 0"):
        crossq_wn.train(helpers.PointMass, frames=10, out=tmp_path / "a", utd=0)
    with pytest.raises(crossq_wn.UserError, match="discrete actions"):
        crossq_wn.train(helpers.DiscretePoint, out=tmp_path / "a")
    with pytest.raises(crossq_wn.UserError, match="not a run directory"):
        crossq_wn.load(tmp_path)
    with pytest.raises(crossq_wn.UserError, match="not a run directory"):
        crossq_wn.resume(tmp_path)


def test_a_class_defined_in_a_function_trains_and_resumes(tmp_path):
    class Local(helpers.PointMass):
        pass

    options = {"frames": 40, "out": tmp_path / "run", **TINY_OPTIONS}
    assert crossq_wn.train(Local, **options, **TINY_SETTINGS).finished
    assert crossq_wn.resume(tmp_path / "run", frames=60, task=Local).frames == 60
    with pytest.raises(crossq_wn.UserError):
        crossq_wn.resume(tmp_path / "run", frames=80)  # it has no name to import


def test_training_ends_with_a_video_that_shows_something(tmp_path, monkeypatch):
    if os.environ.get("MUJOCO_GL") == "disabled":  # training in this process chose that
        monkeypatch.delenv("MUJOCO_GL")
    if doctor._rendering().fix:
        pytest.skip("nothing renders here")
    import av

    flags = [*(flag for flag in TINY if flag != "--no-video"), "--algorithm", "sac", "--no-diagnostics"]
    flags += ["--warmup", "1000"]  # nothing need be compiled for updates
    done = cli(
        "train", "pendulum-swingup", "--frames", 60, "--episode-frames", 40, "--out", "run", *flags,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("\n") == done.stderr.count("is untrained") == 1  # as is said of the video
    (path,) = (tmp_path / "run" / "videos").glob("*.mp4")
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 21  # the start and one per decision
    assert pictures[0].shape == (240, 320, 3)
    assert pictures[0].std() > 5
    assert not np.array_equal(pictures[0], pictures[-1])
