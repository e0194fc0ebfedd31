"""Documentation: every code block runs, links lead somewhere, and generated pages say what the code says.

A shell block runs line by line in this process, a Python block in the names of the blocks before it, in a
folder that holds the runs that the pages speak of. Trainings are accepted and not carried out, or made tiny.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import griffe
import numpy as np
import pytest
import yaml

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, CriticTraits
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli import doctor
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.environments import SUITES, Episode
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results import health, reading
from crossq_wn.runs.config import read_config
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.runs.schema import ConfigFile
from crossq_wn.sweeps.history import keep_plan
from crossq_wn.sweeps.plans import plan
from crossq_wn.sweeps.sheets import parse
from crossq_wn.sweeps.trials import example
from crossq_wn.training import api, building, callbacks, prefilling
from crossq_wn.training.progress import Outcome
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass, call
from house import ROOT, sources

sys.path.insert(0, str(ROOT / "tools"))
import docs
import docs_curves
import docs_generated
import docs_sources

SIZES, docs_generated.SIZES = docs_generated.SIZES, {}  # counting what every algorithm computes takes 20 s

PAGES = [str(file.relative_to(ROOT)) for file in docs.pages()]
# Their Python blocks are modules, which these tests import, train with and forget.
ELSEWHERE = {
    "docs/your-own-algorithm.md": "test_own_algorithm.py",
    "docs/your-own-suite.md": "test_own_suite.py",
}
# What a page's training keeps where it is made tiny.
SMALL_AS_IT_IS = ("callbacks", "algorithm", "frame_stack", "normalise_observations")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
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
            PointMass, algorithm=algorithm, frames=220, seeds=[0, 1], out=found[algorithm], **settings
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
        sweep = next(iter(blocks("docs/sweeps.md", "toml")))
        for folder in re.findall(
            r"sweep (?:--status )?(\S*/[\w-]+)(?!\S)", text
        ):  # of sweeps that have begun
            keep_plan(tmp_path / folder.lstrip("/"), sweep)
        for folder in (tmp_path, tmp_path / "shared"):
            folder.mkdir(exist_ok=True)
            if folder != tmp_path or "--plan paper.toml" not in text:  # the page makes it
                (folder / "paper.toml").write_text(sweep)
        for module in ("my_suite", "my_algorithm", "my_robot", "my_nets"):
            for program in blocks(page, "python"):
                if program.startswith(f"# {module}.py"):
                    (tmp_path / f"{module}.py").write_text(program)
        return tmp_path

    def tiny(task, **choices):
        if isinstance(task, str):  # as it stands on the page it is accepted, and something small is trained
            apart = ("progress", "callbacks")
            config = api.configure(task, **{key: value for key, value in choices.items() if key not in apart})
            if config.prefilled:
                prefilling.rows_for(config, building.make_environment(config), print)
            task = PointMass
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(api, "start", start)
            # SAC's updates compile soonest.
            kept = {"algorithm": "sac"} | {name: choices[name] for name in SMALL_AS_IT_IS if name in choices}
            return train(task, seeds=[0, 1], frames=120, **kept, **TINY_OPTIONS, **TINY_SETTINGS)

    def accepted(config, out, shown):
        return Outcome(out, 0, True, None, {}, untouched=True)

    def resumed(path, *others, **choices):
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
    monkeypatch.setattr(api, "go_on", resumed)
    monkeypatch.setattr(doctor, "why_not", lambda backend: None)
    monkeypatch.setattr(importlib.import_module("crossq_wn.cli.policy"), "record", recorded)
    monkeypatch.setattr(importlib.import_module("crossq_wn.bench.process"), "bench", accepted_as_it_is)
    monkeypatch.setattr(importlib.import_module("crossq_wn.cli.reproduce").steps, "bill", accepted_as_it_is)
    sweep = importlib.import_module("crossq_wn.cli.sweep")
    monkeypatch.setattr(sweep.engines, "mirrored", lambda *arguments: None)
    for module, name in ((sweep.bills, "bill"), (sweep.engines, "opened"), (sweep.on_slurm, "check")):
        monkeypatch.setattr(module, name, accepted_as_it_is)  # which count costs, or reach a cluster
    return make


def commands(text):
    """The commands of a shell block, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def perform(words, place):
    """Carries out a command of ours, and checks of any other what of it can be checked."""
    program, *rest = words
    if program == "crossq-wn":
        if rest[0] in ("sweep", "reproduce"):  # whose folder is below this one
            rest = [re.sub("^/", f"{place}/", word) for word in rest]
        done = call(*rest, cwd=place)
        missing = "onnx" in rest and importlib.util.find_spec("onnxruntime") is None
        assert done.returncode == (2 if missing else 0), f"{words}: {done.stderr}"
    elif program == "make":
        target = rest[0]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif words[:2] in (["pip", "install"], ["uv", "pip"]):
        for extra in re.findall(r"\[(.*?)\]", " ".join(rest)):
            assert set(extra.split(",")) <= set(EXTRAS), words
        assert all((ROOT / each).exists() for each in rest if each.endswith(".lock")), words
    elif program.endswith("python"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [*rest, *SMALL_SCRIPTS.get(tuple(rest[:2]), ())])
            runpy.run_path(str(ROOT / rest[0]), run_name="__main__")
    else:
        assert words in KNOWN, f"{words}: what is this? Say in `KNOWN` or `perform` how it is tested"


# What makes a page's call of a script small.
SMALL_SCRIPTS = {("benchmarks/compare_physics.py", "record"): ["pendulum-swingup"]}
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


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_files_of_sweeps_make_runs(page, tmp_path):
    for text in blocks(page, "toml"):
        sheet = parse(text, page)
        assert example(sheet, tmp_path) if sheet.search else plan(sheet, tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_a_job_on_kubernetes_calls_a_command_that_is_accepted(page, place):
    folder = place(page)
    for text in blocks(page, "yaml"):
        job = yaml.safe_load(text)
        assert job["kind"] == "RayJob"
        perform(job["spec"]["entrypoint"].split(), folder)


def test_the_script_of_a_slurm_array_ends_with_its_sweep_and_queues_again(tmp_path):
    [script] = [text for text in blocks("docs/clusters.md", "bash") if text.startswith("#!")]
    programs = {
        "worker.sh": script,
        "crossq-wn": "#!/bin/bash\ntrap 'exit 143' TERM\necho $@ >called\nwhile :; do sleep 0.02; done\n",
        "scontrol": "#!/bin/bash\necho $@ >queued\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_CPUS_PER_TASK": "8", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [tmp_path / "worker.sh", "paper.toml"], cwd=tmp_path, env=os.environ | slurm | path
    ) as job:
        called = tmp_path / "called"
        while not called.exists() or not called.read_text():
            time.sleep(0.01)
        job.terminate()
    assert called.read_text() == "sweep paper.toml --jobs 8 --yes --no-wait\n"
    assert (job.returncode, (tmp_path / "queued").read_text()) == (143, "requeue 77_3\n")


def _what_is_printed(text, folder):
    """Tables have the columns of the page, and `diagnose` says what the page says for those numbers."""
    if text.startswith("* "):
        return _sentence_of_diagnose(text)
    head = re.findall(r"[a-z]+", text.splitlines()[0])  # without the frames of `compare`
    command = {
        "run": ("list", "runs"),
        "seed": ("eval", "runs/first", "--episodes", 1),
        "diagnostic": ("diagnose", "runs/first"),
        "system": ("compare", "runs/second", "runs/sac"),
    }[head[0]]
    lines = [re.findall(r"[a-z]+", line) for line in call(*command, cwd=folder).stdout.splitlines()]
    # What is the same for all systems is no column of `compare`.
    [printed] = [line for line in lines if line[:1] == head[:1]]
    assert {*printed, "updates", "per", "frame"} == {*head, "updates", "per", "frame"}


def _sentence_of_diagnose(text):
    norm, rate = map(float, re.findall(r"([\d.]+)x", text))
    found = {"critic_norm": health.Course(1, norm), "critic_elr": health.Course(rate, 1)}
    recipe = ALGORITHMS["crossq-wn"]
    assert f"* {health.findings(found, recipe.critic(recipe.presets['default'].settings))[0]}\n" == text


def _files_of_an_export(text, folder):
    call("export", "runs/dog", "--to", "numpy", "--out", "dog", cwd=folder)
    assert {line.split()[0] for line in text.splitlines()} == {
        each.name for each in (folder / "dog").iterdir()
    }


def _folders_of_a_sweep(text, folder):
    sheet = parse(blocks("docs/sweeps.md", "toml")[0], "file")
    assert "runs/paper/TASK/SYSTEM/SEEDS/" in text
    assert {len(run.path.relative_to(folder).parts) for run in plan(sheet, folder)} == {3}
    for name in (folder / "runs/paper/.sweep").iterdir():
        assert name.name in text


def _folder_of_a_run(text, folder):
    named = set(re.findall(r"[\w.-]+(?:\.\w+|/)", text))
    left = {f"{each.name}/" if each.is_dir() else each.name for each in (folder / "runs/dog").iterdir()}
    assert left - {"plots/"} <= named | {".lock"}, left - named


def _published_curves(text, folder):
    if text.startswith("runs/"):
        return _folder_of_a_run(text, folder)
    (folder / "curves.csv").write_text(text)
    found = reading.scores(reading.inputs([folder / "curves.csv"]))
    assert {system.algorithm for system in found} == {"SimBa"}
    assert set(found[next(iter(found))]) == {"dog-run", "myo-reach"}


def _products_of_an_update(text, folder):
    """The formula's values are those of the table below it."""
    text = re.sub(r"(\d)(?=[A-Zav(])", r"\1*", text.replace("·", "*").replace("²", "**2"))
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    page = (ROOT / "docs" / "scale.md").read_text()
    for task, (s, a) in SIZES.items():
        names = {"s": s, "a": a, "d": s + a, "w": 512, "v": 256, "B": 256, "K": 2, "D": 3}
        for line in lines:
            if len(line) > 2:  # what a letter stands for
                letter, _, formula = line[2].partition(" = ")
                names[letter] = eval(formula, {}, names)
        total = sum(eval(line[1], {}, names) for line in lines)
        assert f"| {task} {s, a} | {total / 1e9:.2f} G |" in page


# What blocks of other languages hold, which a test looks at; pictures are only looked at by people.
OTHERS = {
    "docs/tutorial.md": _what_is_printed,
    "docs/export.md": _files_of_an_export,
    "docs/sweeps.md": _folders_of_a_sweep,
    "docs/reference/files.md": _published_curves,
    "docs/scale.md": _products_of_an_update,
    "CONTRIBUTING.md": None,  # tests/test_layout.py reads it
    "docs/your-robot.md": None,  # a picture
}


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_without_a_test(page, place):
    found = BLOCK.findall((ROOT / page).read_text())
    assert {kind for kind, _ in found} <= {"", "text", "bash", "python", "toml", "yaml"}
    others = [text for kind, text in found if kind in ("", "text")]
    assert bool(others) == (page in OTHERS)
    if check := OTHERS.get(page):
        folder = place(page)
        for text in others:
            check(text, folder)


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_blocks_that_are_modules_run_elsewhere(page, test):
    assert f'"docs" / "{Path(page).name}"' in (ROOT / "tests" / test).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    docs.with_links((ROOT / page).read_text(), ROOT / page, docs.pages())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_where_the_pages_are_read_in_the_repository(page):
    dead = []
    for _, link in docs._LINK.findall((ROOT / page).read_text()):
        target = link.partition("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not (ROOT / page).parent.joinpath(target).exists():
            dead.append(link)
    assert not dead


def test_a_link_to_the_source_of_a_generated_page_leads_to_the_page_in_the_site():
    assert set(docs.GENERATED_FROM.values()) <= set(docs.generated())
    text = "every [option](../src/crossq_wn/runs/options.py)"
    found = docs.with_links(text, ROOT / "docs" / "tutorial.md", docs.pages())
    assert found == "every [option](reference/options.md)"
    with pytest.raises(docs.DeadLinkError):  # which would be dead in the repository
        docs.with_links("[o](reference/options.md)", ROOT / "docs" / "tutorial.md", docs.pages())


def test_a_dead_link_ends_the_build(monkeypatch, capsys):
    with pytest.raises(docs.DeadLinkError, match=r"README.md: nowhere.md leads nowhere"):
        docs.with_links("[there](nowhere.md)", ROOT / "README.md", docs.pages())

    def assemble():
        docs.with_links("[there](nowhere.md)", ROOT / "README.md", docs.pages())

    monkeypatch.setattr(docs, "assemble", assemble)
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert docs.main() == 1
    assert capsys.readouterr().out == "README.md: nowhere.md leads nowhere\n"


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
        assert f"| `--{option.replace('_', '-')}` |" in pages["reference/options.md"]
    for verb in VERBS:
        assert f"\n## {verb}\n" in pages["reference/commands.md"]


def test_the_page_on_commands_says_what_their_help_says(tmp_path):
    page = docs.generated()["reference/commands.md"]
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for verb, text in parts.items():
        said = re.sub(r"\s+", "", text.replace("\\|", "|"))
        shown = re.split(r"\noptions:|\nrun options:", call(verb, "--help", cwd=tmp_path).stdout)
        for line in " ".join(shown).splitlines():
            words = re.match(r"  (-?\S.*?)(  |$)", line)
            if words and verb not in ("train", "bench") and "--help" not in words[1]:
                assert re.sub(r"\s+", "", words[1]) in said, (verb, words[1])
    assert "fig7     Paper v2, figure 7: a learning curve for every task." in parts["figure"]
    assert "`{tasks,algorithms,presets,runs}` |" in parts["list"]
    assert "`crossq-wn sweep [FILE.toml | DIR | --OPTION VALUE,VALUE ...] [options]`" in parts["sweep"]
    assert "`FILE|DIR` |" in parts["sweep"]
    assert "`--frames FRAMES` |" in parts["figure"]
    assert "`--frames" not in parts["train"]
    assert "`TASK` |" in parts["train"]


def test_sentences_in_tables_are_marked_and_nothing_else_changes():
    sentence = "what a cell of over sixty letters says, with `a|b`, a \\| and [a link](page.md#of-another)"
    head, short = "| a | b | c |\n|---|---|---|\n", f"| x | {'y' * 60} | [z](page.md#{'z' * 60}) |\n"
    plain = f"Text | of a page.\n\n```\n| {sentence} | code | of no table |\n```\n| two | {sentence} |\n"
    shown = docs.with_prose(f"{plain}{head}{short}| `x|y` | {sentence} | |\n")
    assert shown == f'{plain}{head}{short}| `x|y` | <span class="prose">{sentence}</span> | |\n'


def test_a_default_that_is_not_a_number_is_said_in_words():
    pages = docs.generated()
    unset = {"wandb": "none", "real_time": "none", "prefill_share": "none", "episode_frames": "the suite's"}
    for name, default in {"seeds": "0", **unset}.items():
        assert f"| `--{name.replace('_', '-')}` | {default} |" in pages["reference/options.md"]
    unset = {"actor-network": "none", "critic-network": "none", "reset-updates": "never"}
    unset |= {"discount": "the suite's", "learning-rate-updates": "by the run"}
    for name, default in unset.items():
        assert f"| `--{name}` | {default} |" in pages["algorithms/crossq-wn.md"]
    assert "| `--resets` | 15,001, 50,001, " in pages["algorithms/bro.md"]


def test_an_algorithms_page_says_what_the_page_on_costs_says(monkeypatch):
    monkeypatch.setattr(docs_generated, "SIZES", SIZES)
    page = docs_generated._cost("crossq-wn", ALGORITHMS["crossq-wn"])
    elsewhere = (ROOT / "docs" / "scale.md").read_text()
    for sizes, flop in (("cheetah-run (17, 6)", "2.51 GFLOP"), ("dog-run (223, 38)", "3.66 GFLOP")):
        assert f"| {sizes} | {flop} |" in page
        assert re.search(rf"\| {re.escape(sizes)} \|.* {flop} \|", elsewhere)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithms_page_leads_to_the_lines_of_its_statements_and_numbers(name):
    recipe, page = ALGORITHMS[name], docs.generated()[f"algorithms/{name}.md"]

    def line(place):
        assert f"`{place.file}:{place.line}` |" in page
        return (docs_sources.SOURCE / place.file).read_text().splitlines()[place.line - 1]

    for each in docs_sources.statements(recipe):
        assert re.search(rf"^ *(def {each.name}\(|@)", line(each.place)), each
        assert f"| `{each.name}` |" in page
    for setting in setting_names(recipe.settings):
        assert re.search(rf"\b{setting}\b", line(docs_sources.place_of_setting(recipe, setting)))
    for preset in recipe.presets:
        assert f'"{preset}": Preset(' in line(docs_sources.place_of_preset(recipe, preset))


def test_what_an_algorithm_does_not_use_is_not_on_its_page():
    cited = {name: docs_sources.statements(ALGORITHMS[name]) for name in ("crossq-wn", "crossq", "sac")}
    numbers = {each.name: each.cites for each in cited["crossq-wn"]}
    assert numbers["critic_loss"] == "section 2, equation 1"
    assert numbers["weight_norm"] == "equation 2, section 4"
    assert not {"weight_norm", "joint_target"} & {each.name for each in cited["crossq"]}
    assert {"actor_loss", "temperature_step"} <= {each.name for each in cited["sac"]}
    assert not {"batch_norm", "joint"} & {each.name for each in cited["sac"]}
    for name in ALGORITHMS:  # whose paper it is, and in what ours differs
        said = docs_sources.origin(name)
        assert (bool(said.source), bool(said.differs)) == (name != "crossq-wn",) * 2
        # On the algorithm's page nothing of PAPER.md is above or below it.
        assert not re.search(
            r"\b(likewise|above|below)\b", " ".join([said.source, said.differs, *said.more])
        ), name
    assert [len(docs_sources.origin(name).more) for name in ("sac", "drq", "xqc")] == [0, 1, 2]


def test_what_the_page_on_the_paper_names_is_in_the_code():
    text = docs_sources.with_lines((ROOT / "PAPER.md").read_text())
    file, line = re.search(r"`(algorithms/actor_critic\.py): critic_loss \((\d+)\)`", text).groups()
    assert (docs_sources.SOURCE / file).read_text().splitlines()[int(line) - 1].startswith("def critic_loss(")
    assert len(re.findall(r"\.py: \w", text)) == len(re.findall(r"\.py: [\w.]+ \(\d+\)", text)) > 10
    for named in re.findall(r"`([\w/]+\.py)[`:]", text):
        assert any((folder / named).exists() for folder in (docs_sources.SOURCE, ROOT)), named
    for wrong in ("`nets/losses.py: no_such`", "`nets/no_such.py: scalar`"):
        with pytest.raises(LookupError, match="no_such"):
            docs_sources.with_lines(wrong)


def test_an_algorithms_page_has_the_curves_of_the_page_on_results(tmp_path):
    assert docs_curves.TITLES.keys() == ALGORITHMS.keys()
    pages = docs.generated()
    assert "| CrossQ + WN, seed 1 | 0 | 119 | 212 | 268 |" in pages["algorithms/crossq-wn.md"]
    assert "| myo-reach, CrossQ + WN, seed 1 | 0 (-16) |" in pages["algorithms/crossq-wn.md"]
    assert "| CrossQ (UTD 1, default preset), ours, seed 0 |" in pages["algorithms/crossq.md"]
    assert "CrossQ + WN, seed" not in pages["algorithms/crossq.md"]
    assert "SR-SAC (" not in pages["algorithms/sac.md"]
    assert "myo-reach, SimBa (UTD 2), 10 seeds" not in pages["algorithms/simba.md"]  # none of ours there
    # Of tables in docs/results/curves too, where the page has none of that task.
    drq = pages["algorithms/drq.md"]
    assert re.search(r"^\|  \| 0k \| 10k \| 20k \| 30k \|$", drq, re.MULTILINE)
    assert re.search(
        r"^\| DR\.Q \(.*width=128\), UTD 1, seed 0 \| 12\.2 \| 0 \| 0 \| 22\.6 \|$", drq, re.MULTILINE
    )
    assert pages["algorithms/xqc.md"].count("seed 0 |") == 1
    unmeasured = [name for name in ALGORITHMS if "No learning curve" in pages[f"algorithms/{name}.md"]]
    assert unmeasured == ["flashsac"]
    docs_curves.draw_curves(tmp_path)
    named = set()
    for name in ALGORITHMS:
        named |= set(re.findall(r"\]\((\S+\.svg)\)", pages[f"algorithms/{name}.md"]))
    assert {file.name for file in tmp_path.iterdir()} == named
    assert {"crossq-wn-1.svg", "sac-2.svg", "tdmpc2-1.svg"} <= named


def _named_records(thing):
    """The records of ours that a function's or a record's annotations name."""
    for annotation in getattr(thing, "__annotations__", {}).values():
        text = annotation if isinstance(annotation, str) else repr(annotation)
        for name in re.findall(r"\w+", text):
            named = vars(sys.modules[thing.__module__]).get(name)
            if hasattr(named, "_fields") or dataclasses.is_dataclass(named):
                yield named


def test_the_python_reference_has_the_records_that_it_names_and_what_their_fields_are():
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    listed = []
    for path in re.findall("^::: (.+)$", page, re.MULTILINE):
        try:
            for name, each in vars(importlib.import_module(path)).items():
                if getattr(each, "__module__", "") == path and not name.startswith("_"):
                    listed.append(each)
        except ModuleNotFoundError:
            module, _, name = path.rpartition(".")
            listed.append(getattr(importlib.import_module(module), name))
    named = {record for thing in listed for record in _named_records(thing)}
    # The first has a page of its own; the others are what two of these are made of.
    assert {each.__name__ for each in named - set(listed)} == {"RunOptions", "Source", "Op"}
    assert {CriticTraits, callbacks.Decision, Outcome} <= set(listed)
    [extension] = re.findall(r"extensions: \[(tools/\w+)\.py\]", (ROOT / "mkdocs.yml").read_text())
    file = ROOT / "src" / "crossq_wn" / "training" / "progress.py"
    fields = griffe.load_extensions(str(ROOT / f"{extension}.py"))
    module = griffe.visit("progress", filepath=file, code=file.read_text(), extensions=fields)
    assert {name: field.docstring.value for name, field in module["Outcome"].attributes.items()} == {
        "path": "of the run directory",
        "frames": "environment frames trained, per seed",
        "finished": "whether all frames that were asked for are trained",
        "signal": "the number of the signal that stopped it early, if one did",
        "failed": "by seed: why it stopped; the others are trained all the same",
        "untouched": "whether the run was finished before, so that nothing was done",
        "stopped_by": "the first callback that asked for an end, if one did",
        "resumable": "the failed seeds that `resume` trains on, once their fault is mended",
        "renders": "False: its environment has no pictures; not looked at if nothing was left to do",
    }
    rate = module["Status"].attributes["frames_per_second"].docstring.value
    assert rate == "Of all seeds together, over the last seconds of the present phase; 0 if unknown."


def test_pages_that_the_source_names_are_there():
    named = {}
    for file in [*sources(), *(ROOT / "tools").glob("*.*"), ROOT / "CONTRIBUTING.md"]:
        for page in re.findall(r"(?:docs|benchmarks)/[\w/-]+\.md|[A-Z]{4,}\.md", file.read_text()):
            named[page] = file
    assert {"docs/your-own-suite.md", "docs/simulators.md"} <= named.keys()
    assert [page for page in named if not (ROOT / page).exists()] == []


def test_no_page_installs_what_no_index_has():
    for (
        file
    ) in docs.pages():  # neither the package by its name nor, for Python 3.13, what pip alone would build
        assert not re.search(r"pip install '?crossq-wn|(?<!uv )pip install -e", file.read_text()), file
        # From one set of simulators to the other an extra leaves what only the first has.
        assert not re.search(r"pip install .*\[(published|current)", file.read_text()), file


def test_the_picture_of_the_data_flow_keeps_a_size_that_can_be_read():
    drawing = (ROOT / "docs" / "images" / "data-flow.svg").read_text()
    width, letters = re.search(r'viewBox="0 0 (\d+) ', drawing)[1], re.findall(r'font-size="(\d+)"', drawing)
    assert min(map(int, letters)) >= 12
    style = (ROOT / "docs" / "extra.css").read_text()
    shown = re.search(r'img\[src\$="data-flow.svg"\] \{ width: (\d+)px; min-width: (\d+)px; \}', style)
    assert (shown[1], 12 * int(shown[2]) / int(width) > 10) == (width, True)


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r"[\w/.-]+\.md", menu))
    assert listed == set(docs.pages().values()) | docs.generated().keys()


def test_the_page_on_files_names_every_field_of_a_configuration():
    text = (ROOT / "docs" / "reference" / "files.md").read_text()
    assert all(f"`{field}`" in text for field in ConfigFile.__annotations__)


def test_every_function_of_the_python_reference_explains_its_parameters():
    unexplained = []
    for name in re.findall(r"^::: (\S+)", (ROOT / "docs/reference/python.md").read_text(), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute, None)
        members = vars(value).items() if inspect.isclass(value) else [("", value)]
        for member, function in members:
            if not inspect.isfunction(function) or member.startswith("_"):
                continue
            if not function.__module__.startswith("crossq_wn."):  # the tests' own, as in conftest.py
                continue
            parameters = inspect.signature(function).parameters.keys() - {"self"}
            if parameters and "Args:" not in (function.__doc__ or ""):
                unexplained.append(f"{name} {member}")
    assert unexplained == []
