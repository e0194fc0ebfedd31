"""An algorithm that is registered outside the package works everywhere, by its one file alone."""

import importlib
import sys

import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli import main
from crossq_wn.results.health import Course, critic_of, findings
from crossq_wn.runs.config import preset_settings, read_config
from crossq_wn.sweeps.cost import cost
from crossq_wn.training.api import configure
from crossq_wn.types import InNumpy
from helpers import TESTS, TINY_OPTIONS, TINY_SETTINGS, PointMass, rows

PAGE = (TESTS.parent / "docs" / "your-own-algorithm.md").read_text()
NAME = "my_algorithm:layer-norm-sac"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The documented algorithm's module, loaded from a folder of its own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_algorithm.py").write_text(PAGE.split("```python\n")[1].split("```")[0])
    known = dict(ALGORITHMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        yield importlib.import_module("my_algorithm")
    del sys.modules["my_algorithm"]
    ALGORITHMS.clear()
    ALGORITHMS.update(known)


@pytest.fixture(scope="module")
def run(own, tmp_path_factory):
    """A run of it on a toy, with diagnostics."""
    path = tmp_path_factory.mktemp("runs") / "run"
    options = TINY_OPTIONS | TINY_SETTINGS | {"log_every": 10}
    crossq_wn.train(PointMass, algorithm=NAME, frames=120, out=path, **options)
    return path


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert not end.value.code
    return capsys.readouterr().out


def test_it_trains_acts_and_resumes(run):
    assert rows(run / "metrics.csv")
    assert crossq_wn.load(run).act([0.0, 0.0, 0.0]).shape == (2,)
    assert crossq_wn.resume(run, frames=np.int64(140)).frames == 140


def test_its_presets_name_only_what_departs_from_the_shared_defaults(own):
    settings = preset_settings(NAME, "default")
    assert (settings.utd, settings.critic_width, settings.initial_temperature) == (2, 256, 0.01)
    assert (settings.tau, settings.actor_width, settings.batch_size) == (0.005, 256, 256)


@pytest.mark.parametrize("what", ["algorithms", "presets"])
def test_it_is_listed(own, capsys, what):
    shown = "".join(printed(capsys, "list", what).split())
    assert "layer-norm-sac" in shown
    assert "".join({"algorithms": "SAC with layer-norm", "presets": "my own"}[what].split()) in shown


def test_its_diagnosis_knows_what_its_critic_is_like(run, capsys):
    assert "* critic weight norm" in printed(capsys, "diagnose", run)
    grown = {"critic_norm": Course(40, 280), "critic_elr": Course(0.1, 0.002)}
    (said,) = findings(grown, critic_of(read_config(run)))
    assert said.endswith("what weight normalisation removes (--algorithm crossq-wn)")


def _break(*arguments, **options):
    raise KeyError("knee")


# Updates are tried before there is a run, and the first evaluation is before its first checkpoint.
@pytest.mark.parametrize(
    ("function", "keeps"), [("init", False), ("update", False), ("explore", True), ("exploit", False)]
)
def test_what_it_raises_is_one_line_with_its_place(function, keeps, own, tmp_path, monkeypatch):
    recipe = ALGORITHMS["layer-norm-sac"]

    def broken(spec, settings):
        return recipe.build(spec, settings)._replace(**{function: _break})

    monkeypatch.setitem(ALGORITHMS, "layer-norm-sac", recipe._replace(make=broken))
    line = rf"^the algorithm {NAME} raised KeyError: 'knee' \(test_own_algorithm.py, line \d+\)"
    with pytest.raises(crossq_wn.UserError, match=line) as error:
        crossq_wn.train(
            PointMass, algorithm=NAME, frames=60, out=tmp_path / "run", **TINY_OPTIONS, **TINY_SETTINGS
        )
    assert isinstance(error.value.__cause__, KeyError)
    kept = list(tmp_path.glob("run/errors/*.txt"))
    assert str(error.value).endswith("".join(f"; traceback: {path}" for path in kept))
    assert ["in _break" in path.read_text() for path in kept] == [True] * keeps
    assert (tmp_path / "run").exists() is keeps


@pytest.mark.parametrize(
    ("function", "use"),
    [
        ("in_numpy", lambda path: crossq_wn.load(path)),
        ("init", lambda path: crossq_wn.load(path).act([0.0, 0.0, 0.0])),
        ("exploit", lambda path: crossq_wn.load(path).act([0.0, 0.0, 0.0])),
        ("exploit", lambda path: crossq_wn.load(path).evaluate(episodes=1)),
        ("explore", lambda path: crossq_wn.load(path).act([0.0, 0.0, 0.0], deterministic=False)),
    ],
)
@pytest.mark.parametrize("error", [KeyError, IndexError])
def test_so_is_what_it_raises_when_its_policy_is_used(function, use, error, run, monkeypatch):
    recipe = ALGORITHMS["layer-norm-sac"]

    def broken(*arguments, **options):
        raise error("knee")

    def make(spec, settings):
        made = recipe.build(spec, settings)
        if function == "in_numpy":
            return made._replace(in_numpy=InNumpy(made.exploit, broken))
        return made._replace(in_numpy=None, **{function: broken})  # then it acts in JAX

    monkeypatch.setitem(ALGORITHMS, "layer-norm-sac", recipe._replace(make=make))
    line = rf"^the algorithm {NAME} raised {error.__name__}: '?knee'? \(test_own_algorithm.py, line \d+\)$"
    with pytest.raises(crossq_wn.UserError, match=line):
        use(run)


def test_its_cost_is_counted_in_its_own_program(own):
    estimate = cost(configure("cheetah-run", algorithm=NAME, frames=20_000))
    assert estimate.updates == 2 * (20_000 // 2 - 5_000)  # UTD 2, action repeat 2, the shared warm-up
    assert estimate.core_seconds > estimate.updates * estimate.update_seconds > 0
