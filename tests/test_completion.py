"""`completion`: the scripts are what shells accept, and they know commands, options, tasks and files."""

import contextlib
import io
import shutil
import subprocess

import pytest

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli import main
from crossq_wn.cli.completion import whole_parser
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.environments import SUITES
from crossq_wn.runs.options import OPTION_NAMES


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, by the shell's name."""
    folder = tmp_path_factory.mktemp("completion")
    found = {}
    for shell in ("bash", "zsh", "fish"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
            main(["completion", shell])
        assert stop.value.code == 0
        found[shell] = folder / f"completion.{shell}"
        found[shell].write_text(out.getvalue())
    return found


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p crossq-wn | sed -E 's/.*-F ([^ ]+) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], {"train"}),
        (["train", "walker-r"], {"walker-run"}),
        (["train", "myo-pen-twirl"], {"myo-pen-twirl", "myo-pen-twirl-hard"}),
        (["train", "dog-run", "--see"], {"--seeds"}),
        (["train", "dog-run", "--encoder"], {"--encoder-width"}),  # only TD-MPC2 has it
        (["train", "dog-run", "--algorithm", "simba"], {"simba", "simba-v2"}),
        (["train", "dog-run", "--preset", "paper"], {"paper-v1", "paper-v2"}),
        (["train", "dog-run", "--matmul-precision", "b"], {"bfloat16"}),
        (["list", "al"], {"algorithms"}),
        (["completion", "f"], {"fish"}),
        (["resume", "notes"], {"notes.txt"}),
        (["train", "--config", "notes"], {"notes.txt"}),
    ],
)
def test_bash_completes(words, offered, scripts, tmp_path):
    (tmp_path / "notes.txt").touch()
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", scripts["bash"], "crossq-wn", *words],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert offered <= set(done.stdout.split()), done.stderr
    assert all(each.startswith(words[-1]) for each in done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_accept_their_script(shell, scripts):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", scripts[shell]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_option_hyperparameter_and_task_is_known():
    [commands] = [action for action in whole_parser()._actions if action.dest == "==SUPPRESS=="]
    assert list(commands.choices) == list(VERBS)
    arguments = {action.dest: action for action in commands.choices["train"]._actions}
    wanted = {"task", "algorithm", "preset", *OPTION_NAMES}
    for recipe in ALGORITHMS.values():
        wanted |= set(setting_names(recipe.settings))
    assert wanted <= set(arguments)
    for suite in SUITES.values():
        assert {suite.full_name(short) for short in suite.tasks} <= set(arguments["task"].choices)
