"""Documentation: every code block runs, links lead somewhere, and generated pages say what the code says.

A shell block runs line by line in this process, a Python block in the names of the blocks before it, in a
folder that holds the runs that the pages speak of. Trainings are accepted and not carried out, or made tiny.
"""

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli import doctor
from crossq_wn.cli.completion import whole_parser
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.environments import SUITES, Episode
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.runs.config import read_config
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.runs.schema import ConfigFile
from crossq_wn.training import api
from crossq_wn.training.progress import Outcome
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass, call
from house import ROOT, sources

sys.path.insert(0, str(ROOT / "tools"))
import docs
import docs_curves
import docs_generated

SIZES, docs_generated.SIZES = docs_generated.SIZES, {}  # counting what every algorithm computes takes 20 s

PAGES = [str(file.relative_to(ROOT)) for file in docs.pages()]
# Their Python blocks are modules, which these tests import, train with and forget.
ELSEWHERE = {
    "docs/your-own-algorithm.md": "test_own_algorithm.py",
    "docs/your-own-suite.md": "test_own_suite.py",
}
# What a page's training keeps where it is made tiny.
SMALL_AS_IT_IS = ("callbacks", "algorithm", "frame_stack", "normalise_observations")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The runs that pages speak of, and the algorithm of each.
RUNS = {
    "RUN": "crossq-wn",
    "runs/dog": "crossq-wn",
    "runs/another-dog": "sac",
    "runs/first": "crossq-wn",
    "runs/second": "crossq-wn",
    "runs/sac": "sac",
    "runs/paper": "sac",
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(page, language):
    return [text for kind, text in BLOCK.findall((ROOT / page).read_text()) if kind == language]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run per algorithm, of two seeds each."""
    found = {}
    for algorithm in set(RUNS.values()):
        found[algorithm] = tmp_path_factory.mktemp("docs") / "run"
        settings = TINY_OPTIONS | TINY_SETTINGS | {"log_every": 20}
        crossq_wn.train(
            PointMass, algorithm=algorithm, frames=400, seeds=[0, 1], out=found[algorithm], **settings
        )
    return found


@pytest.fixture
def forgotten(monkeypatch):
    """What modules of a page register goes with the test."""
    for table in (SUITES, ALGORITHMS, DIAGNOSTICS):
        for name in ("slide", "layer-norm-sac", "largest_weight"):
            if name not in table:
                monkeypatch.setitem(table, name, None)
                monkeypatch.delitem(table, name)
    yield
    for name in ("my_suite", "my_algorithm", "my_robot", "my_nets", "policy"):
        sys.modules.pop(name, None)


@pytest.fixture
def place(trained, forgotten, tmp_path, monkeypatch):
    """(page) -> a folder with the runs and files that the page names; nothing long trains or measures."""

    def make(page):
        text = (ROOT / page).read_text()
        named = [name for name in RUNS if re.search(rf"{name}\b", text)]
        if not any(name.startswith("runs/") for name in named):
            named += ["runs/dog", "runs/another-dog"]
        for name in named:
            shutil.copytree(trained[RUNS[name]], tmp_path / name)
        shutil.copy(trained["sac"] / "eval.csv", tmp_path / "published.csv")
        for module in ("my_suite", "my_algorithm", "my_robot", "my_nets"):
            for program in blocks(page, "python"):
                if program.startswith(f"# {module}.py"):
                    (tmp_path / f"{module}.py").write_text(program)
        return tmp_path

    def tiny(task, **choices):
        if isinstance(task, str):  # as it stands on the page it is accepted, and something small is trained
            apart = ("progress", "callbacks")
            api.configure(task, **{name: value for name, value in choices.items() if name not in apart})
            task = PointMass
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(api, "start", start)
            kept = {name: choices[name] for name in SMALL_AS_IT_IS if name in choices}
            return train(task, seeds=[0, 1], frames=120, **kept, **TINY_OPTIONS, **TINY_SETTINGS)

    def accepted(config, out, shown):
        return Outcome(out, 0, True, None, {}, untouched=True)

    def resumed(path, **choices):
        return Outcome(path, read_config(path).options.frames, True, None, {}, untouched=True)

    def recorded(policy, out, *, height, width):
        return Episode(1.0, 2, False)

    def accepted_as_it_is(*arguments):
        raise SystemExit(0)

    train, start = api.train, api.start
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(api, "train", tiny)
    monkeypatch.setattr(api, "start", accepted)
    monkeypatch.setattr(api, "resume", resumed)
    monkeypatch.setattr(doctor, "why_not", lambda backend: None)
    monkeypatch.setattr(importlib.import_module("crossq_wn.cli.policy"), "record", recorded)
    monkeypatch.setattr(importlib.import_module("crossq_wn.bench.process"), "bench", accepted_as_it_is)
    monkeypatch.setattr(importlib.import_module("crossq_wn.cli.reproduce").steps, "bill", accepted_as_it_is)
    return make


def commands(text):
    """The commands of a shell block, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@functools.cache
def sweep_options():
    """The options of a sweep: its own, those of training, and the task."""
    [commands] = [action for action in whole_parser()._actions if action.dest == "==SUPPRESS=="]
    names = {"--task"}
    for verb in ("sweep", "train"):
        names |= set(commands.choices[verb]._option_string_actions)
    return names


def perform(words, place):
    """Carries out a command of ours, and checks of any other what of it can be checked."""
    program, *rest = words
    if words[:2] == ["crossq-wn", "sweep"]:  # tests/test_sweeps.py runs them
        assert {each.split("=")[0] for each in rest if each.startswith("--")} <= sweep_options(), words
    elif program == "crossq-wn":
        done = call(*rest, cwd=place)
        missing = "onnx" in rest and importlib.util.find_spec("onnxruntime") is None
        assert done.returncode == (2 if missing else 0), f"{words}: {done.stderr}"
    elif program == "make":
        target = rest[0]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif program == "pip":
        for extra in re.findall(r"\[(.*?)\]", " ".join(rest)):
            assert set(extra.split(",")) <= set(EXTRAS), words
        assert all((ROOT / each).exists() for each in rest if each.endswith(".lock")), words
    elif program == "python":
        assert (ROOT / rest[0]).exists() or rest[0].startswith("-"), words
    else:
        assert words in KNOWN, f"{words}: what is this? Say in `KNOWN` or `perform` how it is tested"


KNOWN = [
    ["source", ".venv/bin/activate"],
    ["pre-commit", "install"],
    ["eval", "$(crossq-wn completion bash)"],  # tests/test_completion.py
]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_shell_blocks_run(page, place):
    folder = place(page)
    for text in blocks(page, "bash"):
        if text.startswith("#!"):  # a program, which is read and not run
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)
            continue
        for words in commands(text):
            perform(words, folder)


def prepared(folder):
    """The names that the fragments on the page on exports use."""
    call("export", "runs/dog", "--to", "numpy", "--out", "dog", cwd=folder)
    if importlib.util.find_spec("onnxruntime"):
        call("export", "runs/dog", "--to", "onnx", "--out", "dog-onnx", cwd=folder)
    return {
        "crossq_wn": crossq_wn,
        "np": np,
        "observation": np.zeros(3, np.float32),
        "observations": np.zeros((2, 3), np.float32),
        "my_environment": PointMass(),
        "init": None,
        "apply": None,
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page not in ELSEWHERE])
def test_python_blocks_run(page, place):
    folder = place(page)
    names = {"__name__": "__main__"} | (prepared(folder) if page == "docs/export.md" else {})
    for text in blocks(page, "python"):
        if "onnxruntime" not in text or importlib.util.find_spec("onnxruntime"):
            exec(compile(text, page, "exec"), names)


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_blocks_that_are_modules_run_elsewhere(page, test):
    assert f'"docs" / "{Path(page).name}"' in (ROOT / "tests" / test).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    docs.with_links((ROOT / page).read_text(), ROOT / page, docs.pages())


def test_a_dead_link_is_found():
    with pytest.raises(docs.DeadLinkError, match=r"README.md: nowhere.md"):
        docs.with_links("[there](nowhere.md)", ROOT / "README.md", docs.pages())


def test_faults_of_a_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">b</a><a href="#x">x</a><script src="https://x.y/z"></script>'
    )
    assert [each.partition(" ")[2] for each in docs.faults(tmp_path)] == [
        "loads https://x.y/z", "b.html leads nowhere", "#x: there is no such heading",
    ]  # fmt: skip
    (tmp_path / "b.html").touch()
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><p id="x"><a href="#x">x</a>')
    assert not list(docs.faults(tmp_path))


def test_generated_pages_hold_every_option_setting_preset_and_command():
    pages = docs.generated()
    for name, recipe in ALGORITHMS.items():
        page = pages[f"algorithms/{name}.md"]
        for setting in setting_names(recipe.settings):
            assert f"`--{setting.replace('_', '-')}` |" in page
        for preset in recipe.presets.values():
            assert preset.source in page
    for option in OPTION_NAMES:
        assert f"| `{option}` |" in pages["reference/options.md"]
    for verb in VERBS:
        assert f"\n## {verb}\n" in pages["reference/commands.md"]


def test_an_algorithms_page_says_what_the_page_on_costs_says(monkeypatch):
    monkeypatch.setattr(docs_generated, "SIZES", SIZES)
    page = docs_generated._cost("crossq-wn", ALGORITHMS["crossq-wn"])
    elsewhere = (ROOT / "docs" / "scale.md").read_text()
    for sizes, flop in (("cheetah-run (17, 6)", "2.51 GFLOP"), ("dog-run (223, 38)", "3.66 GFLOP")):
        assert f"| {sizes} | {flop} |" in page
        assert re.search(rf"\| {re.escape(sizes)} \|.* {flop} \|", elsewhere)


def test_an_algorithms_page_has_the_curves_of_the_page_on_results(tmp_path):
    assert docs_curves.TITLES.keys() == ALGORITHMS.keys()
    pages = docs.generated()
    assert "| CrossQ + WN, seed 1 | 0 | 119 | 212 | 268 |" in pages["algorithms/crossq-wn.md"]
    assert "| myo-reach, CrossQ + WN, seed 1 | 0 (-16) |" in pages["algorithms/crossq-wn.md"]
    assert "| CrossQ (UTD 1, default preset), ours, seed 0 |" in pages["algorithms/crossq.md"]
    assert "CrossQ + WN, seed" not in pages["algorithms/crossq.md"]
    assert "SR-SAC (" not in pages["algorithms/sac.md"]
    assert "myo-reach, SimBa (UTD 2), 10 seeds" not in pages["algorithms/simba.md"]  # none of ours there
    for name in ("flashsac", "drq"):
        assert "No learning curve of it has been measured here yet" in pages[f"algorithms/{name}.md"]
    docs_curves.draw_curves(tmp_path)
    named = set()
    for name in ALGORITHMS:
        named |= set(re.findall(r"\]\((\S+\.svg)\)", pages[f"algorithms/{name}.md"]))
    assert {file.name for file in tmp_path.iterdir()} == named
    assert {"crossq-wn-1.svg", "sac-2.svg", "tdmpc2-1.svg"} <= named


def test_pages_that_the_source_names_are_there():
    named = {}
    for file in [*sources(), *(ROOT / "tools").iterdir(), ROOT / "CONTRIBUTING.md"]:
        for page in re.findall(r"(?:docs|benchmarks)/[\w/-]+\.md|[A-Z]{4,}\.md", file.read_text()):
            named[page] = file
    assert {"docs/your-own-suite.md", "docs/simulators.md"} <= named.keys()
    assert [page for page in named if not (ROOT / page).exists()] == []


def test_no_page_installs_the_package_by_its_name():
    for file in docs.pages():  # it is on no index
        assert not re.search(r"pip install '?crossq-wn", file.read_text()), file


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r"[\w/.-]+\.md", menu))
    generated = {place for place in docs.generated() if not place.startswith("algorithms/")}
    assert listed == set(docs.pages().values()) | generated | {"algorithms/index.md"}


def test_the_page_on_files_names_every_field_of_a_configuration():
    text = (ROOT / "docs" / "reference" / "files.md").read_text()
    assert all(f"`{field}`" in text for field in ConfigFile.__annotations__)
