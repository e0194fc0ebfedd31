"""Command lines by the hundred: none ends in a traceback or hangs, and what is wrong is named in one line.

Every command and every option is tried, as the parsers themselves declare them. What would train, draw or
measure is stopped where it would begin.
"""

import argparse
import functools
import importlib
import random
import shutil
import signal
from collections import Counter

import pytest

import crossq_wn
import helpers
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli import arguments, doctor, main
from crossq_wn.cli import diagnose as diagnose_verb
from crossq_wn.cli import reproduce as reproduce_verb
from crossq_wn.cli import results as results_verbs
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.training import api
from helpers import TINY_OPTIONS, TINY_SETTINGS

_SECONDS = 120  # for one command line, on a busy machine

VALID = {
    "train": ["cheetah-run"],
    "resume": ["run"],
    "sweep": ["--task", "cheetah-run", "--out", "of-runs", "--dry-run"],
    "eval": ["run"],
    "video": ["run"],
    "export": ["run", "--to", "numpy"],
    "data": ["run", "--to", "npz", "--out", "of-data"],
    "plot": ["run"],
    "figure": ["fig1", "run"],
    "compare": ["run"],
    "curves": ["run", "--out", "of-curves"],
    "reproduce": ["fig3", "--scale", "smoke", "--dry-run"],
    "report": ["run", "--out", "page.html"],
    "diagnose": ["run"],
    "bench": ["cheetah-run"],
    "list": ["tasks"],
    "doctor": [],
    "completion": ["bash"],
}
# Values of every kind, most of them wrong for most options.
TEXTS = [
    "", " ", "x", "0", "-1", "1", "2", "1.5", "-0.5", "nan", "inf", "1e400", "1e6", "1" + 23 * "0",
    "9" * 5000, "1,2", "0-9", "5-2", "0,0", ",", "None", "none", "yes", "layer-norm", "0x10", "٣", "1 2",
    "é", "[bold]x[/]", "a\nb", "\x1b[31mred", "\udcff", "$HOME", "nowhere", "file", "file/below", 300 * "n",
    "/dev/null", "fig3", "crosq", "defualt", "code", "%s", "{}", "-", "run", ".", "/proc/self/mem",
    "\u202e", "1_000", "+1",
]  # fmt: skip
TASKS = [
    "", "cheeta-run", "dog run", "Hoper-v5", "FetchReach-v2", "nothing:there", ":", "a:", "::", "x:y:z",
    "run", 300 * "t", "[red]x", "\x1b[2J", "\udcff", "Hopper-v5'", "ALE/Pong-v5", "myo-", "-v5",
    "CartPole-v1", "1",
]  # fmt: skip
OPTIONS = [
    "--bogus", "--fram", "--frame", "--Frames", "--gamma", "--lr", "--learning-rate", "--env",
    "--total-timesteps", "--batch-sizes", "--no-vidio", "--seedz", "--", "---", "--=3", "--frames=", "-f",
    "-1", "--utd-ratio", "--no-frames",
]  # fmt: skip


class _CapturedError(Exception):
    """Carries a verb's parser."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small run and a file."""
    place = tmp_path_factory.mktemp("lines")
    crossq_wn.train(
        helpers.PointMass, frames=60, seeds=[0, 4], out=place / "run", **TINY_OPTIONS, **TINY_SETTINGS
    )
    (place / "file").write_text("text")
    return place


def _begin(*arguments, **options):
    """Stands for what takes long: the command line was accepted."""
    raise SystemExit(0)


@pytest.fixture
def stopped(folder, tmp_path, monkeypatch):
    """(command line) -> (exit code, standard error), in a folder of its own; nothing long begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(api, "run_training", _begin)
    monkeypatch.setattr(doctor, "why_not", lambda backend: None)
    monkeypatch.setattr(reproduce_verb.steps, "bill", _begin)
    for name in ("evaluate_policy", "record", "export"):
        monkeypatch.setattr(importlib.import_module("crossq_wn.cli.policy"), name, _begin)
    monkeypatch.setattr(importlib.import_module("crossq_wn.sweeps.bills"), "bill", _begin)
    monkeypatch.setattr(importlib.import_module("crossq_wn.bench.process"), "bench", _begin)
    monkeypatch.setattr(diagnose_verb, "spectrum_of", _begin)
    for name in ("save", "learning_curve", "write"):
        monkeypatch.setattr(results_verbs, name, _begin)
    for name, maker in results_verbs.FIGURES.items():
        monkeypatch.setitem(results_verbs.FIGURES, name, functools.wraps(maker)(_begin))


@functools.cache
def actions(verb, algorithm="crossq-wn"):
    """The arguments that a verb's parser declares."""
    place, summary = VERBS[verb]
    module, function = place.split(":")
    perform = getattr(importlib.import_module(f"crossq_wn.cli.{module}"), function)
    chosen = ["--algorithm", algorithm] if verb in ("train", "bench") else []

    class Capturing(arguments.Parser):
        def parse_args(self, args, namespace=None):
            raise _CapturedError(self._actions)

    with pytest.raises(_CapturedError) as captured:
        perform(Capturing(verb, summary), chosen)
    return [action for action in captured.value.args[0] if action.dest != "help"]


def refuses(action, text):
    """Whether an argument's own reader or choices refuse a value."""
    if action.choices is not None:
        return text not in action.choices
    reader = arguments.path if action.type is arguments.Path else action.type
    try:
        if reader is not None:
            reader(text)
    except (argparse.ArgumentTypeError, ValueError, TypeError):
        return True
    return False


def line(random_numbers):
    """A command line, and the part of it that is surely wrong, or None if it may be right."""
    verb = random_numbers.choice(list(VALID))
    kind = random_numbers.choice(["value", "value", "value", "unknown", "task", "path", "cut", "verb"])
    start = [verb, *VALID[verb]]
    if kind == "verb":
        wrong = random_numbers.choice([verb[:-1] + "x", verb.upper(), "", "[red]", 300 * "v", "\x1b[1m"])
        return [wrong, *VALID[verb]], wrong
    if kind == "unknown":
        option = random_numbers.choice(OPTIONS)
        surely = option.startswith("--") and option not in ("--", "--frames=", "--no-frames")
        return [*start, option], option.split("=")[0] if surely else None
    if kind == "task" and verb in ("train", "bench"):
        return [verb, random_numbers.choice(TASKS), "--seeds", "0"], None
    algorithm = random_numbers.choice(list(ALGORITHMS))
    known = actions(verb, algorithm) if verb in ("train", "bench") else actions(verb)
    options = [action for action in known if action.option_strings and action.nargs != 0]
    if kind == "path" or not options:
        places = [number for number, each in enumerate(start) if each == "run"]
        for number in places[:1]:
            start[number] = random_numbers.choice(TEXTS)
        return start, None
    action = random_numbers.choice(options)
    named = action.option_strings[0]
    chosen = ["--algorithm", algorithm] if verb in ("train", "bench") and action.dest != "algorithm" else []
    if kind == "cut" and action.nargs is None:
        return [*start, *chosen, named], named
    text = random_numbers.choice(TEXTS)
    surely = refuses(action, text) and action.nargs is None and not text.startswith("-")
    return [*start, *chosen, f"{named}={text}"] if text.startswith("-") else [*start, *chosen, named, text], (
        named if surely else None
    )


def _stop(number, frame):
    raise AssertionError("it hangs")


def attempt(words, capsys):
    """(exit code, standard error) of a command line."""
    capsys.readouterr()
    handler = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(_SECONDS)
    try:
        with pytest.raises(SystemExit) as ending:
            main(words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    return ending.value.code, capsys.readouterr().err


def check(words, wrong, capsys):
    """Asserts what a user may expect; returns the exit code."""
    code, err = attempt(words, capsys)
    told = f"{words}: {code}: {err}"
    assert "Traceback" not in err, told
    assert all(each.startswith("crossq-wn: ") for each in err.splitlines()), told
    assert code in ((2,) if wrong is not None else (0, 2)), told
    if code == 2:
        last = err.splitlines()[-1]
        assert len(last) < 2_000, told
        assert "()" not in last, told
    if wrong:
        assert crossq_wn.errors.visible(wrong)[:40] in err, told
    return code


def test_all_commands_are_tried():
    assert VALID.keys() == VERBS.keys()


def test_an_option_of_a_sweep_is_named_as_it_was_written(stopped, capsys):
    check(["sweep", *VALID["sweep"], "--no-vidio"], "arguments: --no-vidio (did you mean '--video'?)", capsys)
    check(["sweep", *VALID["sweep"], "--vidio", "no"], "arguments: --vidio (did you mean '--video'?)", capsys)


def test_generated_command_lines_end_in_one_line(stopped, capsys):
    random_numbers = random.Random(0)
    for _ in range(120):
        check(*line(random_numbers), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_more_command_lines_end_in_one_line(seed, stopped, capsys):
    random_numbers, counted = random.Random(seed), Counter()
    for _ in range(400):
        words, wrong = line(random_numbers)
        counted[check(words, wrong, capsys)] += 1
        counted["surely wrong"] += wrong is not None
    with capsys.disabled():
        print(f"\nseed {seed}: {dict(counted)}, tracebacks 0")
    assert counted[2] > 200


@pytest.mark.parametrize("verb", VALID)
def test_every_option_that_takes_values_refuses_none_or_says_what_that_means(verb, stopped, capsys):
    several = {}
    for algorithm in ALGORITHMS if verb == "train" else ["crossq-wn"]:
        for action in actions(verb, algorithm):
            if action.option_strings and action.nargs not in (None, 0):  # argparse refuses these, or flags
                several["/".join(action.option_strings)] = action
    for named, action in several.items():
        if action.nargs == "?":
            assert action.help.endswith("; without a value: none")
            continue
        code, err = attempt([verb, *VALID[verb], action.option_strings[0]], capsys)
        assert code == 2
        assert f"argument {named}: expected at least one argument" in err
    assert verb != "train" or {"--prefill", "--resets"} <= several.keys()


def test_a_sweep_refuses_options_without_their_values_too(stopped, capsys):
    for name in ("frames", "seeds", "prefill", "tau", "resets", "matmul-precision", "wandb"):
        words = ["sweep", *VALID["sweep"], "--algorithm", "bro", f"--{name}"]
        code, err = attempt(words, capsys)
        assert (code, name in err) == (2, True)


@pytest.mark.parametrize("verb", VALID)
def test_every_option_of_every_command_refuses_a_wrong_value_by_name(verb, stopped, capsys):
    for action in actions(verb):
        refused = [text for text in ("x", "nan", "1.5", "") if refuses(action, text)]
        if action.option_strings and action.nargs is None and refused:
            named = action.option_strings[0]
            assert check([verb, *VALID[verb], named, refused[0]], named, capsys) == 2
