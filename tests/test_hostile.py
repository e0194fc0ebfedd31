"""Run directories and files from strangers: no code runs, nothing outside changes, and no name acts."""

import ast
import contextlib
import copy
import gzip
import html
import io
import itertools
import json
import re
import shutil
import signal
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import crossq_wn
import helpers
import hostile
from crossq_wn.cli import console
from crossq_wn.data import replays
from crossq_wn.environments import SUITES, make, suite_of
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import visible
from crossq_wn.results import reading, sheets
from crossq_wn.results.figures.style import STYLE
from crossq_wn.results.records import RunRecord
from crossq_wn.runs import trust
from crossq_wn.runs.config import read_config
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.migration import migrate
from crossq_wn.runs.recovery import recover_config
from crossq_wn.training import building, restoring
from crossq_wn.training.session import new_session
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener
from house import PACKAGE, sources

# What acts on a terminal, in rich, in matplotlib or in HTML unless it is written as what it is.
NAMES = (
    "\x1b[31mred\x1b]0;title\x07", "[bold]b[/bold] [/]", "$\\frac{1}{0}$ $", "<script>alert(1)</script>&amp;",
    "two\nlines\r", "\u202eright to left", "\udcff", "\x9b2J",
)  # fmt: skip


@given(st.text())
def test_visible_text_is_printable_and_what_was_printable_stays(text):
    assert all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in visible(text))
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_no_name_acts_on_a_terminal(name, capsys):
    console.say(name)
    console.warn(name)
    captured = capsys.readouterr()
    assert captured.out == f"{visible(name)}\n"
    assert captured.err == f"crossq-wn: {visible(name)}\n"
    captured.out.encode()


@pytest.mark.parametrize("name", NAMES[1:4])
def test_no_name_is_mathematics_in_a_figure(name):
    file = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure()
        figure.suptitle(name)
        figure.savefig(file, format="svg")
    shown = file.getvalue().replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    assert f">{name}<" in shown


# --- one door for all files

ROOMS = ("runs", "training", "results", "sweeps", "reproduce", "cli")
# Methods and functions that open, list, write, rename or delete files by name, following links.
DOORS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rmdir", "rename", "touch", "glob",
    "rglob", "iterdir", "symlink_to", "hardlink_to", "rmtree", "copytree", "copyfile", "copy2", "move",
    "fromfile", "genfromtxt", "loadtxt", "memmap", "savez", "load_file", "save_file", "listdir", "scandir",
    "truncate",
}  # fmt: skip
CALLED = {"open", "np.load", "np.save", "os.open", "os.replace", "os.rename", "os.remove"}
# What goes through another door, and why it may.
ALLOWED = {
    ("cli.console", "os.open"): "the null device in the place of a lost output",
    ("sweeps.simulations", "truncate"): "of a file without a name",
    ("results.sheets", "gzip.open"): "of bytes that were read",
    ("training.video", "av.open"): "into memory",
    ("results.report.page", "read_text"): "the package's own style sheet",
    ("sweeps.engines", "rename"): "of a whole run directory, which the user named",
    ("sweeps.stored", "rename"): "likewise",
    ("sweeps.stored", "rmtree"): "of copies that a sweep has fetched",
    ("sweeps.store", "rmtree"): "likewise",
    ("sweeps.store", "rglob"): "of a run directory; links are left out",
    ("runs.folders", "scandir"): "of folders that the user named; links are not followed",
    ("runs.directory", "iterdir"): "of the folder that --out names",
    ("runs.directory", "rmdir"): "of folders that this process has made",
}


def doors(file):
    """The calls in a file that open, list, write, rename or delete files."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name.startswith("files."):
            continue
        if name in CALLED or (method == "open" and not name.startswith("self.")):
            found.add(name)
        elif method in DOORS:
            found.add(method)
    return found


def test_all_files_of_runs_are_opened_through_one_module():
    there = set()
    for room in ROOMS:
        for file in sources(PACKAGE / room):
            module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
            there |= {(module, name) for name in doors(file)}
    assert there == ALLOWED.keys()


# --- run directories


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds with two checkpoints, as training leaves it; not to be changed."""
    path = tmp_path_factory.mktemp("base") / "run"
    crossq_wn.train(
        "helpers:PointMass", frames=300, seeds=(0, 1), out=path, **TINY_SETTINGS,
        **(TINY_OPTIONS | {"log_every": 25, "eval_every": 100, "tensorboard": True}),
    )  # fmt: skip
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, with an alarm that ends a test which hangs."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(120)
    yield work
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _hangs(*arguments):
    raise AssertionError("this hangs")


@pytest.fixture
def outside(tmp_path):
    """A folder in which nothing may change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "diary").write_text("dear diary")
    return path


READ = (
    "config.json",
    "manifest.json",
    "eval.csv",
    "metrics.csv",
    "timing.csv",
    "checkpoints/000000300/manifest.json",
)
FOLDERS = ("checkpoints", "checkpoints/000000300", "plots", "videos")


def a_copy(run, where):
    return Path(shutil.copytree(run, where, ignore=shutil.ignore_patterns("replay", "tensorboard")))


def hostile_runs(run, work, outside):
    """A copy for each file and folder that is read, and each kind of thing that may be there instead."""
    made = []
    for names, kinds in ((READ, hostile.FILE_KINDS), (FOLDERS, hostile.FOLDER_KINDS)):
        for name in names:
            for kind in kinds:
                path = a_copy(run, work / f"{name.replace('/', '-')}-{kind.__name__}")
                if kind is not hostile.hard_link:  # which is as good as the file, for reading
                    kind(path / name, outside)
                    made.append(path)
    return made


def quiet(said):
    """Asserts that a command ended as it should: by itself, without a traceback."""
    assert said.code in (0, 2), said
    assert "Traceback" not in said.err, said.err
    return said


def told(path, said):
    """Asserts that a run is listed, or left out with its reason."""
    assert re.search(rf"\b{re.escape(path.name)}\b", said.out + said.err), (path.name, said)


def test_no_file_of_a_run_leads_out_of_it_when_it_is_read(run, place, outside, capsys):
    good = a_copy(run, place / "runs" / "0-good")
    made = hostile_runs(run, place / "runs", outside)
    before = hostile.fingerprint(outside)
    listed = quiet(hostile.command("list", "runs", "runs"))
    assert listed.code == 0
    for path in (good, *made):
        told(path, listed)
    for verb in ("compare --force", "report --force", "figure fig7 --force", "plot --force", "curves"):
        out = place / verb.split()[0]
        known = {"compare --force": (), "report --force": ("--out", f"{out}.html")}
        where = known.get(verb, ("--out", out))
        said = quiet(hostile.command(*verb.split(), "runs", *where))
        assert said.code == 0, said.err
    page = (place / "report.html").read_text()
    assert "dear diary" not in page
    for path in made:
        quiet(hostile.command("diagnose", path))
    assert hostile.fingerprint(outside) == before
    with capsys.disabled():
        print(f"\nhostile directories read: {len(made)}, files outside changed: 0")


# What training writes, replaces, renames or deletes, and names that it will write.
WRITTEN = (
    "config.json", "manifest.json", "eval.csv", "metrics.csv", "metrics.jsonl", "timing.csv", ".lock",
    ".config.json.partial", ".eval.csv.partial", "metrics.csv.damaged-1", "plots/learning_curve.png",
    "plots/.learning_curve.svg.partial", "checkpoints/000000325", "checkpoints/000000300",
    "checkpoints/.000000325.partial", "checkpoints/000000200/manifest.json", "checkpoints/replay/stray",
)  # fmt: skip
HOLDERS = (
    "checkpoints", "checkpoints/replay", "checkpoints/000000200", "plots", "tensorboard",
    "tensorboard/seed-0", "errors", "videos",
)  # fmt: skip


def written_to(run, work, outside, kinds, step):
    """(run, what is hostile in it) for each place to which training or plotting writes."""
    for name in (*WRITTEN[::step], *HOLDERS[::step]):
        for kind in kinds:
            path = Path(shutil.copytree(run, work / f"{name.replace('/', '-')}-{kind.__name__}"))
            (path / name).parent.mkdir(exist_ok=True)
            kind(path / name, outside)
            yield path


@pytest.mark.parametrize(
    ("kinds", "step"),
    [
        ((hostile.link,), 2),
        pytest.param(
            (hostile.link, hostile.dangling, hostile.hard_link_of_a_file), 1, marks=pytest.mark.slow
        ),
        pytest.param((hostile.endless, hostile.pipe), 1, marks=pytest.mark.slow),
    ],
)
def test_nothing_outside_changes_when_a_run_is_written_to(kinds, step, run, place, outside, capsys):
    tried, resumed = 0, 0
    for path in written_to(run, place, outside, kinds, step):
        before = hostile.fingerprint(outside)
        if "plots" in path.name:
            quiet(hostile.command("plot", path))
        with contextlib.suppress(crossq_wn.UserError):
            assert crossq_wn.resume(path, frames=325).finished
            resumed += 1
        assert hostile.fingerprint(outside) == before, path
        tried += 1
    assert resumed > tried / 2
    with capsys.disabled():
        print(f"\nhostile directories written to: {tried}, resumed: {resumed}, files outside changed: 0")


def test_links_that_the_user_names_are_followed(run, place):
    kept = place / "elsewhere" / "run"
    shutil.copytree(run, kept)
    (place / "runs").symlink_to(kept.parent)
    shutil.copy(run / "eval.csv", place / "elsewhere" / "published.csv")
    (place / "rival.csv").symlink_to(place / "elsewhere" / "published.csv")
    for words in ("list runs runs", "plot runs/run", "compare runs/run --against rival.csv"):
        said = hostile.command(*words.split())
        assert (said.code, said.err) == (0, ""), said
    assert crossq_wn.resume("runs/run", frames=325).finished
    assert (kept / "checkpoints" / "000000325").is_dir()
    assert (kept / "plots" / "learning_curve.png").is_file()
    crossq_wn.train("helpers:PointMass", frames=20, out="runs/new", **TINY_SETTINGS, **TINY_OPTIONS)
    assert (place / "elsewhere" / "new" / "config.json").is_file()


# --- malformed files


def numbered(work, files, contents):
    """A run for each content of one of its files."""
    made = []
    for i, (what, write) in enumerate(contents):
        path = work / "runs" / f"run-{i:04d}"
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
        write(path)
        made.append((path, what))
    return made


def wrong_files(name, values):
    """What may be wrong with a JSON file of a run: (what, a function that writes it)."""
    for what, content in hostile.BYTES.items():
        yield what, lambda path, content=content: (path / name).write_bytes(content)
    for what, wrong in hostile.mutations(values):
        text = json.dumps(hostile.signed(wrong) if isinstance(wrong, dict) else wrong)
        yield what, lambda path, text=text: (path / name).write_text(text)


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_a_malformed_file_breaks_no_list_and_no_report(name, step, run, place, capsys):
    files = {
        each: (run / each).read_bytes()
        for each in ("config.json", "manifest.json", "eval.csv", "metrics.csv")
    }
    values = json.loads(files[name])
    wrong = itertools.islice(wrong_files(name, values), 0, None, step)
    made = numbered(place, files, wrong)
    listed = quiet(hostile.command("list", "runs", "runs"))
    assert listed.code == 0
    for path, _ in made:
        told(path, listed)
    assert "\x1b" not in listed.out + listed.err
    quiet(hostile.command("compare", "runs", "--force"))
    quiet(hostile.command("report", "runs", "--force", "--out", "report.html"))
    quiet(hostile.command("curves", "runs", "--out", "curves"))
    for path, what in made[:: 1 + len(made) // 20]:
        assert quiet(hostile.command("diagnose", path)).err.count("\n") <= 1, what
    with capsys.disabled():
        print(f"\nmalformed {name}: {len(made)} tried, tracebacks: 0")


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["eval.csv", "metrics.csv", "timing.csv"])
def test_a_malformed_table_gives_one_line(name, step, run, place, capsys):
    path, content, tried = a_copy(run, place / "run"), (run / name).read_bytes(), 0
    said = set()
    for what, wrong in itertools.islice(hostile.tables(content), 0, None, step):
        (path / name).write_bytes(wrong)
        hostile.write_manifest(path, name)
        record = RunRecord(path)
        tried += 1
        for read in (reading.check, reading.speed_of, lambda record: reading.logged([record], "critic_norm")):
            try:
                read(record)
            except crossq_wn.UserError as error:
                said.add(str(error))
            except Exception as error:
                raise AssertionError(what) from error
    assert {*map(visible, said)} == said
    with capsys.disabled():
        print(f"\nmalformed {name}: {tried} tried, tracebacks: 0")


def test_a_malformed_reference_gives_one_line(run, place):
    a_copy(run, place / "run")
    published = (
        (run / "eval.csv").read_bytes().replace(b"exp_name", b"algorithm").replace(b"env_name", b"task")
    )
    packed = gzip.compress(published)
    references = [(f"reference-{i}.csv", wrong) for i, (_, wrong) in enumerate(hostile.tables(published))][
        ::3
    ]
    references += [("half.csv.gz", packed[:-20]), ("not.csv.gz", published), ("whole.csv.gz", packed)]
    for name, wrong in references:
        (place / name).write_bytes(wrong)
        quiet(hostile.command("compare", "run", "--against", name))
    for i, maker in enumerate((hostile.pipe, hostile.endless, hostile.sparse, hostile.loop)):
        maker(place / f"other-{i}.csv", place)
        said = quiet(hostile.command("compare", "run", "--against", f"other-{i}.csv"))
        assert said.code == 2
        assert f"other-{i}.csv" in said.err or "zero" in said.err


@pytest.mark.parametrize("name", ["runs.csv", "helpers-PointMass.csv"])
def test_a_malformed_folder_of_curves_gives_one_line(name, run, place):
    a_copy(run, place / "run")
    assert quiet(hostile.command("curves", "run", "--out", "curves")).code == 0
    path = place / "curves" / name
    good = path.read_bytes()
    for what, wrong in itertools.islice(hostile.tables(good), 0, None, 5):
        path.write_bytes(wrong)
        said = quiet(hostile.command("curves", "--out", "curves"))
        assert len(said.err) < 5000, what
        if said.code:
            assert path.read_bytes() == wrong, what
            assert len([line for line in said.err.splitlines() if line.startswith("crossq-wn: ")]) == 1, what
        else:  # what was there is kept, or made anew from nothing
            assert path.read_bytes().count(b"\n") >= len(wrong.strip().splitlines()) or not wrong.strip(), (
                what
            )
    for kind in (hostile.pipe, hostile.endless, hostile.sparse, hostile.loop, hostile.folder):
        kind(path, place)
        assert quiet(hostile.command("curves", "run", "--out", "curves")).code == 2, kind


@pytest.mark.parametrize("kind", [*hostile.FILE_KINDS[2:]])
def test_only_a_regular_file_is_taken_for_a_sweep_or_a_start(kind, place):
    kind(place / "file.toml", place)
    for line in ("sweep file.toml --out new --dry-run", "train --config file.toml --out new"):
        said = quiet(hostile.command(*line.split()))
        assert (said.code, said.err.count("\n")) == (2, 1), said
    assert not (place / "new").exists()


def test_a_compressed_table_that_unpacks_to_too_much_is_refused(place, monkeypatch):
    monkeypatch.setattr(sheets, "MOST_TABLE", 2**20)
    (place / "bomb.csv.gz").write_bytes(gzip.compress(bytes(2**22)))
    said = hostile.command("compare", ".", "--against", "bomb.csv.gz")
    assert said.code == 2
    assert "unpacks to more than" in str(sheets.attempt(sheets.strict_sheet, place / "bomb.csv.gz"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": 7}, "task is 7: it must be a text of printable letters"),
        ({"task": "\x1b[2J"}, r"task is '\\x1b\[2J': it must be a text of printable letters"),
        ({"surprise": 1}, "'surprise' is a field that is not known"),
        ({"discount": 10**400}, "discount is a huge number: it must be a finite number"),
        ({"metric": []}, "metric is a list: it must be one of 'return', 'success_rate'"),
        ({"system": None}, "system is None: it must be a record"),
        ({"options": {"frames": 1.5}}, "frames is 1.5: it must be a whole number"),
    ],
)
def test_the_wrong_field_of_a_configuration_is_named(change, says, run, place):
    path = a_copy(run, place / "run")
    values = json.loads((path / "config.json").read_text())
    hostile.write_json(path / "config.json", values | change)
    with pytest.raises(crossq_wn.UserError, match=f"run/config.json: .*{says}"):
        read_config(path)


@pytest.mark.parametrize("step", [999, pytest.param(25, marks=pytest.mark.slow)])
def test_a_signed_but_malformed_checkpoint_gives_one_line(step, run, place, capsys):
    path = Path(shutil.copytree(run, place / "run"))
    shutil.rmtree(path / "checkpoints" / "000000200")
    folder = path / "checkpoints" / "000000300"
    body = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    uses = {
        "acting": lambda: acted(path, compiled=step < 100),
        "resuming": lambda: restored(path),
        "reading replay": lambda: replays.read(path),
        "reading its ends": lambda: replays.ends(path, 50, str),
    }
    tried, refusals = 0, dict.fromkeys(uses, 0)
    for what, wrong in itertools.islice(hostile.mutations(body), 0, None, step):
        hostile.write_checkpoint(folder, wrong)
        for name, use in uses.items():
            tried += 1
            try:
                use()
            except crossq_wn.UserError:
                refusals[name] += 1
            except Exception as error:
                raise AssertionError(what) from error
    assert min(refusals.values()) > 0
    assert sum(refusals.values()) > tried / 4.5  # most changes are of numbers that may be so
    with capsys.disabled():
        told = ", ".join(f"{name} {count}" for name, count in refusals.items())
        print(
            f"\nsigned but malformed checkpoints: {tried} tried, refused in one line: {told}; tracebacks: 0"
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body["common"].update(config={}), "malformed"),
        (lambda body: body["common"].update(config=[]), "malformed"),
        (lambda body: body["common"].update(failed={"x": {"reason": "", "good": None}}), "failed is 'x'"),
        (lambda body: body.update(seeds={"00": body["seeds"]["0"]}), "seeds is '00'"),
        (lambda body: body["seeds"]["0"]["replay"].update(end=0), "is damaged (replay ends at row"),
    ],
)
def test_a_signed_checkpoint_that_cannot_be_resumed_gives_one_line(change, says, run, place):
    path = Path(shutil.copytree(run, place / "run"))
    shutil.rmtree(path / "checkpoints" / "000000200")
    folder = path / "checkpoints" / "000000300"
    body = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    change(body)
    hostile.write_checkpoint(folder, body)
    listener = Listener()
    with pytest.raises(crossq_wn.UserError) as problem:
        resumed(path, listener)
    assert says in " ".join([str(problem.value), *listener.messages])


def test_a_signed_but_malformed_interface_is_no_recording(run, place):
    path = Path(shutil.copytree(run, place / "run"))
    shutil.rmtree(path / "checkpoints" / "000000200")
    folder = path / "checkpoints" / "000000300"
    body = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    for name in ("action_low", "action_high", "observation_size", "observation"):
        for wrong in ({"$array": "x"}, [None], "x", None, [[1.0], [1.0, 2.0]], 10**400):
            changed = copy.deepcopy(body)
            changed["common"]["interface"][name] = wrong
            hostile.write_checkpoint(folder, changed)
            said = quiet(hostile.command("data", path, "--to", "npz", "--out", place / "data"))
            assert (said.code, said.err.count("\n")) == (2, 1), (name, wrong, said)
            assert "run/checkpoints/000000300" in said.err, said.err


def test_names_of_settings_are_no_patterns_where_old_runs_are_read():
    label = "crossq-wn UTD 2 ((=1, tau=0.1)"
    old = {"schema": 1, "system": label, "settings": {"utd": 2, "(": 1, "(a+)+$": 2, "tau": 0.1}}
    same = ("task", "metric", "action_repeat", "episode_frames", "discount", "algorithm", "preset")
    assert migrate(old | dict.fromkeys(same))["system"]["changes"] == {"(": 1, "tau": 0.1}


def acted(path, compiled):
    """Loads a policy, and if compiling it is worth the time has it act."""
    policy = crossq_wn.load(path)
    assert not compiled or np.isfinite(policy.act([0.1, 0.2, 0.3])).all()


def restored(path, listener=None):
    """All that resuming does before it trains, once it has the configuration."""
    config, listener = read_config(path), listener or Listener()
    environment = [building.make_environment(config) for _ in config.options.seeds]
    pools = Pool(environment, 1), Pool([building.make_environment(config) for _ in environment], 1)
    opened = RunDirectory(path)
    try:
        restoring.restore(
            new_session(config, building.spec_of(config, environment[0]), opened, listener, pools)
        )
    finally:
        opened.close()


def resumed(path, listener):
    """All that resuming does before it trains."""
    recover_config(path, listener.message)
    restored(path, listener)


# --- code


def test_reading_runs_no_code_and_running_it_takes_trust(run, place, monkeypatch):
    (place / "evil.py").write_text("open('ran', 'w').close()\ndef make(): open('ran', 'w').close()\n")
    monkeypatch.syspath_prepend(str(place))
    for i, (task, algorithm) in enumerate(
        [("evil:make", "crossq-wn"), ("os:abort", "crossq-wn"), ("helpers:PointMass", "evil:mine"),
         ("evil:make-v0", "evil:x"), ("crossq_wn.cli:main", "crossq-wn")]
    ):  # fmt: skip
        path = Path(shutil.copytree(run, place / "runs" / f"run-{i}"))
        values = json.loads((path / "config.json").read_text())
        values["task"], values["system"]["algorithm"] = task, algorithm
        hostile.write_json(path / "config.json", values)
        (path / "eval.csv").write_text((path / "eval.csv").read_text().replace("helpers:PointMass", task))
        hostile.write_manifest(path, "eval.csv")
        for folder in (path / "checkpoints").glob("0*"):
            body = json.loads((folder / "manifest.json").read_text())["checkpoint"]
            body["common"]["config"] = values
            hostile.write_checkpoint(folder, body)
        quiet(hostile.command("diagnose", path))
        for verb in (
            "eval",
            "resume",
            *(["video"] if i == 0 else []),
            *(["diagnose --hessian"] if ":" in algorithm else []),
        ):
            said = quiet(hostile.command(*verb.split(), path))
            assert said.code == 2, said
            assert "add --trust" in said.err, said.err
    for verb in ("compare --force", "figure fig7 --force", "report --force --out report.html",
                 "curves --out curves"):  # fmt: skip
        quiet(hostile.command(*verb.split(), "runs"))
    listed = hostile.command("list", "runs", "runs")
    assert not (place / "ran").exists()
    assert "evil" not in sys.modules
    assert "evil:make" in listed.out
    assert "os:abort" in listed.out
    assert hostile.command("eval", place / "runs" / "run-0", "--trust").code == 2  # it makes nothing
    assert (place / "ran").exists()


def test_what_the_user_trains_with_is_trusted_where_it_lies(run, place, tmp_path, monkeypatch):
    trained = read_config(run)
    trust.require_task(trained, run, trust=False, task=None)
    places = {"helpers:PointMass": "/elsewhere/helpers.py"}
    monkeypatch.setattr(trust, "place_of", places.get)
    with pytest.raises(crossq_wn.UserError, match=r"with which you have not trained here.* add trust=True"):
        trust.require_task(trained, run, trust=False, task=None)
    trust.require_task(trained, run, trust=True, task=None)
    trust.require_task(trained, run, trust=False, task=helpers.PointMass)  # it is here already
    elsewhere = replace(trained, task="no_such_module:Env")
    trust.require_task(
        elsewhere, run, trust=False, task=helpers.PointMass
    )  # nothing could be imported for it
    with pytest.raises(crossq_wn.UserError, match="cannot import 'no_such_module'"):
        trust.require_task(elsewhere, run, trust=False, task=None)
    trust.remember(trained)
    trust.require_task(trained, run, trust=False, task=None)


def test_without_a_home_nothing_is_remembered_and_nothing_fails(run, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    trained = read_config(run)
    trust.remember(trained)
    with pytest.raises(crossq_wn.UserError, match="add trust=True"):
        trust.require_task(trained, run, trust=False, task=None)


def test_a_run_has_no_say_in_the_suites_of_others(run, place, monkeypatch):
    monkeypatch.setitem(SUITES, "evil", SUITES["dmc"])  # and gone in the end
    del SUITES["evil"]
    suite = {"name": "evil", "title": "Evil", "panel": "Evil", "tasks": {"PointMass": "x"}, "groups": [],
             "module": "helpers", "scale": 1000.0, "own_names": "(a+)+$"}  # fmt: skip
    first, second = a_copy(run, place / "runs" / "a-evil"), a_copy(run, place / "runs" / "b-good")
    for path in (first, second):
        values = json.loads((path / "manifest.json").read_text())
        hostile.write_json(path / "manifest.json", values | ({"suite": suite} if path == first else {}))
    listed = quiet(hostile.command("list", "runs", "runs"))
    assert "b-good is skipped: its manifest.json does not name the suite 'evil'" in listed.err
    assert suite_of("a" * 100 + "!").name != "evil"
    hostile.write_json(second / "manifest.json", values | {"suite": suite | {"scale": 2.0}})
    assert "describes the suite 'evil' differently" in hostile.command("list", "runs", "runs").err
    hostile.write_json(
        second / "manifest.json", values | {"suite": suite | {"name": "e", "panel": "DMC dog & humanoid"}}
    )
    assert "takes the title" in hostile.command("list", "runs", second).err


# --- names


def test_no_name_in_a_run_acts_anywhere(run, place):
    a_copy(run, place / "runs" / "good")
    for name in NAMES:
        path = a_copy(run, place / "runs" / f"[bold]{name.replace('/', '-')}")
        values = json.loads((path / "config.json").read_text())
        values["system"]["changes"] = {"weight_norm": name}
        hostile.write_json(path / "config.json", values)
    said = []
    for words in ("list runs runs", "list runs runs --csv", "list runs runs --json", "compare runs",
                  "figure fig7 runs", "plot runs", "curves runs --out curves",
                  "report runs --out report.html"):  # fmt: skip
        said.append(quiet(hostile.command(*words.split())))
        assert said[-1].code == 0, said[-1]
    page = (place / "report.html").read_text()
    for text in (page, *(each.out + each.err for each in said)):
        assert visible(text.replace("\n", "")) == text.replace("\n", "")
    assert "<script>alert" not in page
    for name in filter(str.isprintable, NAMES):
        assert name in said[0].out
        assert name in said[1].out
        assert html.escape(name) in page


# --- flipped bits


SEEN = ("config.json", "manifest.json", "eval.csv", "metrics.csv", "timing.csv")


def all_that_is_read(path):
    """What results take from a run; an error where one of its files is damaged."""
    record = RunRecord(path)
    assert record.manifest["logs"].keys() == {*SEEN[2:], "metrics.jsonl"}
    curves = reading.check(record)
    logged = [(each.seed, each.values.tolist()) for each in record.logged("critic_norm")]
    return (
        record.config,
        record.manifest,
        curves.env_steps.tolist(),
        curves.values.tolist(),
        logged,
        record.speed,
    )


@pytest.mark.parametrize("step", [701, pytest.param(29, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEEN)
def test_no_flipped_bit_passes_unseen_in_what_results_trust(name, step, run, place, capsys):
    path = a_copy(run, place / "run")
    before, content = all_that_is_read(path), (path / name).read_bytes()
    unseen, tried = [], 0
    for bit in range(0, 8 * len(content), step):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(flipped)
        tried += 1
        with contextlib.suppress(crossq_wn.UserError):
            if all_that_is_read(path) != before:
                unseen.append(bit)
    assert unseen == []
    with capsys.disabled():
        print(f"\nbits flipped in {name}: {tried}, passed unseen: 0")


# --- simulators


def physics_in(saved):
    """The part of a snapshot that is MuJoCo's."""
    if isinstance(saved, dict):
        if saved.keys() >= {"state", "model", "derived"}:
            return saved
        return next(filter(None, map(physics_in, saved.values())), None)
    return None


def test_no_snapshot_leads_mujoco_out_of_its_memory():
    environment = make("reacher-easy")  # whose resets change the model
    environment.reset(0)
    saved = environment.snapshot()
    physics_in(saved)["model"]["geom_group"] = np.zeros_like(environment.simulator.physics.model.geom_group)
    environment.restore(saved)  # which is only how it looks
    shapes = environment.simulator.physics.model.geom_type.copy()
    physics_in(saved)["model"]["geom_type"] = np.full_like(shapes, 3)
    environment.restore(saved)  # as tasks of MyoSuite do at reset
    assert (environment.simulator.physics.model.geom_type == 3).all()
    physics_in(saved)["model"]["geom_type"] = np.full_like(shapes, 7)  # a mesh, where there is none
    with pytest.raises(ValueError, match="geom_type is not as it was compiled"):
        environment.restore(saved)
    del physics_in(saved)["model"]["geom_type"]
    addresses = environment.simulator.physics.model.jnt_qposadr.copy()
    physics_in(saved)["model"]["jnt_qposadr"] = addresses + 10**6
    with pytest.raises(ValueError, match="jnt_qposadr is not as it was compiled"):
        environment.restore(saved)
    environment.close()
