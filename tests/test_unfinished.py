"""Do the commands that show results say what is lacking in a run that is short, failed, or hardly begun?"""

import contextlib
import warnings

import pytest

import crossq_wn
from crossq_wn.results.figures import CURVES, FIGURES
from helpers import TINY_OPTIONS, TINY_SETTINGS, Faulty, PointMass, call

OPTIONS: dict = TINY_OPTIONS | TINY_SETTINGS | {"frames": 60, "log_every": 20, "eval_every": 30, "seeds": [0]}
RUNS: dict = {  # what differs, and the faults of its environment
    "usual": ({"frames": 140, "seeds": [0, 1]}, None),
    "short": ({"log_every": 1_000}, None),  # without a row of metrics
    "random": ({"warmup": 60}, None),
    "plain": ({"diagnostics": False, "seeds": [2]}, None),
    "one-failed": ({"seeds": [0, 1]}, {1: ("step", 45)}),
    "failed": ({}, {0: ("step", 45)}),
    "failed-at-once": ({}, {0: ("step", 1)}),
    "failed-at-reset": ({}, {0: ("reset", 0)}),
}
GROUPS = [
    *([name] for name in RUNS),
    ["usual", "short"],
    ["usual", "plain"],
    ["one-failed", "failed"],
    [*RUNS],
]
ALONG = ("frames", "updates", "hours")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("unfinished")
    for name, (options, faults) in RUNS.items():
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.suppress(crossq_wn.UserError),
            warnings.catch_warnings(action="ignore"),
        ):
            patch.setattr(Faulty, "faults", faults or {})
            task = PointMass if faults is None else "helpers:Faulty"
            crossq_wn.train(task, out=place / name, **OPTIONS | options)
    return place


def lines():
    """Command lines without their runs."""
    for along in ALONG:
        yield ["plot", "--x", along, "--out", "picture"]
        yield ["compare", "--x", along]
        yield ["report", "--x", along, "--out", "page.html"]
        for figure in CURVES if along != "frames" else ():
            yield ["figure", figure, "--x", along, "--out", "picture"]
    for figure in FIGURES:
        yield ["figure", figure, "--out", "picture"]
    yield ["curves", "--out", "curves"]
    yield ["diagnose"]


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: " ".join(names))
def test_no_command_on_results_ends_in_a_traceback(folder, tmp_path, names):
    """`call` raises whatever a command raises."""
    for line in lines():
        done = call(*line, *(folder / name for name in names), cwd=tmp_path)
        assert done.returncode in (0, 2), line
        assert not done.returncode or done.stderr.splitlines()[-1].startswith("crossq-wn: "), line


NO_ROW = "has no row of metrics or timing: there is one every"


@pytest.mark.parametrize(
    ("name", "line", "code", "said"),
    [
        ("short", "plot --x updates", 2, NO_ROW),
        ("short", "plot --x hours", 2, NO_ROW),
        ("short", "plot", 0, ""),
        ("short", "compare --x updates", 2, NO_ROW),
        ("short", "figure fig3", 2, NO_ROW),
        ("short", "diagnose", 2, NO_ROW),
        ("random", "figure fig3", 2, "in metrics.csv, which has them after the warm-up: train longer"),
        ("plain", "figure fig3", 2, "train longer, and with --diagnostics"),
        ("failed-at-once", "plot --x updates", 2, NO_ROW),
        ("failed-at-once", "figure fig1", 2, "no system was evaluated after frame 0"),
        ("failed-at-reset", "plot", 2, "it failed before its first evaluation: at its first reset, "),
        ("failed", "compare", 0, "once that is mended, `crossq-wn resume "),
    ],
)
def test_what_is_lacking_is_said(folder, tmp_path, name, line, code, said):
    done = call(*line.split(), folder / name, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
