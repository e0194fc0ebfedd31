"""Does a report say what the runs say? Verdicts, numbers, escaping, what is left out; then a real browser."""

import base64
import csv
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import helpers
from crossq_wn import files
from crossq_wn.cli import main
from crossq_wn.errors import UserError
from crossq_wn.results.comparison import compare, last_scores
from crossq_wn.results.curves import Curves
from crossq_wn.results.report import provenance
from crossq_wn.results.statistics import estimate, iqm, mean, probability_of_improvement
from crossq_wn.results.verdicts import ADVICE_CAME_TRUE, EQUAL_CALLED_BETTER, POWER, effect, seeds_needed
from crossq_wn.results.wording import number, sentence, span
from crossq_wn.runs.system import System
from helpers import EVAL_HEADER, alter_config, make_run
from house import ROOT

NAN = np.nan
GENERATOR = '<meta name="generator" content="crossq-wn report">'
FRAMES = (0, 100, 200)
SCORES = {  # system -> task -> seed -> returns at `FRAMES`
    "plain": {
        "cheetah-run": [(5, 300, 500), (5, 310, 520), (5, 290, 510)],
        "walker-run": [(20, 400, 600), (20, 380, 640), (20, 390, 620)],
    },
    "utd5": {
        "cheetah-run": [(5, 400, 700), (5, 410, 720), (5, 390, 740)],
        "walker-run": [(20, 500, 800), (20, 480, 780), (20, 490, 790)],
    },
}
NAMES = {"plain": "crossq-wn UTD 2", "utd5": "crossq-wn UTD 5"}
METRICS = "seed,frames,critic_norm,entropy\n{0},100,45,-3\n{0},200,46,-2\n"
TIMING = "frames,seconds,frames_per_second,updates_per_second\n" + (
    "0,1,900,0\n100,3600,20,40\n0,0,20,40\n200,1800,30,60\n"
)


def curves(*runs, steps=(100,)):
    values = np.array([[run] if np.isscalar(run) else run for run in runs], float)
    return Curves(np.array(steps), tuple(map(str, range(len(runs)))), values)


# Verdicts


def test_a_clear_win_is_told_from_either_side():
    strong = {"walker-run": curves(0.8, 0.82, 0.85, 0.81, 0.79)}
    weak = {"walker-run": curves(0.4, 0.42, 0.38, 0.41, 0.44)}
    result = compare(strong, weak)
    assert result.decided
    assert result.seeds == ((5,), (5,))
    text = sentence("A", "B", result)
    gain = effect(*([system["walker-run"].values[:, 0]] for system in (strong, weak)))
    assert text == (
        "A is better than B on walker-run at 100 frames with 5 seeds: the means differ by "
        f"{number(gain.value)} ({span(gain)}), the IQMs are 0.810 and 0.410, and a run of A beats one of B "
        "with probability 1.00."
    )
    assert sentence("B", "A", result.swapped()) == text


def test_what_the_report_says_of_its_advice_is_what_was_measured():
    page = (Path(__file__).parents[1] / "docs" / "statistics.md").read_text()
    for where, words in zip(("one task", "a group of tasks"), ADVICE_CAME_TRUE, strict=True):
        found = re.findall(rf"\| \d seeds on {where}, {POWER:.0%}.*".replace("80%", "80 %"), page)
        measured = [float(row.split("|")[4].strip(" %")) / 100 for row in found]
        assert len(measured) == 2
        assert np.mean(measured) == pytest.approx({"two of three": 2 / 3, "half": 1 / 2}[words], abs=0.05)


def test_an_inconclusive_comparison_says_how_many_seeds_would_tell():
    x, y = [0.5, 0.62, 0.4], [0.45, 0.5, 0.38]
    result = compare({"walker-run": curves(*x)}, {"walker-run": curves(*y)})
    needed = seeds_needed([x], [y])
    assert not result.decided
    odds = estimate(probability_of_improvement, [x], [y])
    text = sentence("C", "D", result)
    assert text.startswith(
        "Inconclusive on walker-run at 100 frames with 3 seeds: C and D cannot be told apart: "
        "their means differ by "
    )
    assert f"and a run of C beats one of D with probability {odds.value:.2f}. " in text
    assert text.endswith(
        f" If the difference is as large as it looks, about {needed} seeds of each would tell."
    )
    alike = compare({"walker-run": curves(0.5, 0.62, 0.4)}, {"walker-run": curves(0.501, 0.62, 0.4)})
    assert sentence("C", "D", alike).endswith(
        "If the difference is as small as it looks, more than 100 seeds of each would be needed."
    )
    same = {"walker-run": curves(1, 1, 1)}
    text = sentence("C", "D", compare(same, same))
    assert text == "Inconclusive on walker-run at 100 frames with 3 seeds: C and D have the same scores."


def test_only_the_system_with_too_few_seeds_is_asked_for_more():
    many, few = [0.5, 0.62, 0.4, 0.55, 0.45, 0.6, 0.52, 0.48, 0.58, 0.5] * 5, [0.4, 0.52]
    result = compare({"walker-run": curves(*many)}, {"walker-run": curves(*few)})
    assert 2 < result.needed < 50
    said = f"about {result.needed} seeds of D would tell."
    assert sentence("C", "D", result).endswith(said)
    assert sentence("D", "C", result.swapped()).endswith(said)


def test_two_seeds_on_one_task_are_never_a_win():
    result = compare({"walker-run": curves(0.5, 0.7)}, {"walker-run": curves(0.35, 0.48)})
    assert not result.decided
    far = compare({"walker-run": curves(0.7, 0.71)}, {"walker-run": curves(0.1, 0.11)})
    assert not far.decided  # however far apart
    text = sentence("A", "B", result)
    assert text.startswith(
        "Inconclusive on walker-run at 100 frames with 2 seeds: A has an IQM of 0.600 and B of 0.415, and a "
        "run of A beats one of B with probability "
    )
    assert (
        ". But there are only 2 runs per task: a verdict needs 3, or 2 on each of 3 tasks or more. If the"
        in text
    )


def test_one_seed_decides_nothing():
    result = compare({"walker-run": curves(0.9)}, {"walker-run": curves(*np.linspace(0.1, 0.2, 10))})
    assert not result.decided
    text = sentence("A", "B", result)
    assert text.startswith(
        "Inconclusive on walker-run at 100 frames: one seed tells nothing about the spread. "
        "A has a score of 0.900 (1 seed)"
    )
    assert "(10 seeds)" in text


def test_only_tasks_that_both_have_are_compared():
    ours = {"walker-run": curves(0.8, 0.9), "dog-run": curves(0.1, 0.1)}
    theirs = {"dog-walk": curves(0.9, 0.9), "walker-run": curves(0.2, 0.3, 0.25)}
    result = compare(ours, theirs)
    assert result.tasks == ("walker-run",)
    assert result.seeds == ((2,), (3,))
    with pytest.raises(UserError, match="no task in common: dog-run there, dog-walk here"):
        compare({"dog-run": ours["dog-run"]}, {"dog-walk": theirs["dog-walk"]})
    never = {"walker-run": curves(0.2, 0.3, steps=(7,))}
    with pytest.raises(UserError, match="same environment frame"):
        compare(ours, never)


def test_scores_are_taken_where_most_runs_are():
    steps = (0, 10, 20, 30)
    died = curves([0, 1, 2, 3], [0, 4, 5, 6], [0, 7, NAN, NAN], steps=steps)
    frame, scores = last_scores([died])
    assert (frame, scores[0].tolist()) == (30, [3, 6])
    extended = curves([0, 1, 2, 3], [0, 4, 5, NAN], steps=steps)
    assert last_scores([extended])[0] == 20
    assert last_scores([died, extended], among=np.array([10, 30]))[0] == 10
    assert last_scores([died], among=np.array([25]))[0] == 30
    with pytest.raises(
        UserError, match="no frame after 0 at which more than half of the runs were evaluated"
    ):
        last_scores([curves([0], [1], steps=(0,))])


# The page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of 12 runs: two systems, two tasks, three seeds."""
    root = tmp_path_factory.mktemp("report") / "runs"
    for key, tasks in SCORES.items():
        for task, seeds in tasks.items():
            for seed, values in enumerate(seeds):
                path = make_run(
                    root / f"{key}-{task}-{seed}", task=task, seed=seed, frames=200, eval_every=100,
                    eval_rows=zip(FRAMES, values, strict=True),
                    hyperparameters={"utd": 5} if key == "utd5" else {},
                )  # fmt: skip
                (path / "metrics.csv").write_text(METRICS.format(seed))
                (path / "timing.csv").write_text(TIMING)
    return root


@pytest.fixture
def copy(runs, tmp_path):
    """The runs on cheetah-run, without diagnostics, to be altered."""
    return Path(
        shutil.copytree(runs, tmp_path / "runs", ignore=shutil.ignore_patterns("*walker*", "metrics*"))
    )


def report(*arguments, out):
    """What `crossq-wn report` writes."""
    with pytest.raises(SystemExit) as stop:
        main(["report", *map(str, arguments), "--out", str(out)])
    assert stop.value.code == 0
    return out.read_text()


@pytest.fixture(scope="module")
def page(runs):
    return report(runs, out=runs.parent / "deep" / "er" / "report.html")


VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that elements are balanced; collects tables (caption -> rows), text, attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.rows, self.elements, self.words = [], {}, [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td", "caption"):
            self.words = []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        text = " ".join("".join(self.words).split())
        if tag == "caption":
            self.tables[text] = self.rows
        elif tag in ("th", "td"):
            self.rows[-1].append(text)

    def handle_data(self, data):
        self.words.append(data)


def words(text):
    """The text of a page without markup."""
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_it_is_well_formed_and_accessible(page):
    parsed = Page(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    ids = Counter(attributes["id"] for _, attributes in parsed.elements if "id" in attributes)
    assert max(ids.values()) == 1
    pointed = re.findall(r'(?:href="|url\()#([^")]+)', page)
    assert pointed
    assert set(pointed) <= set(ids)
    for tag, attributes in parsed.elements:
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "svg":
            assert "viewbox" in attributes
            assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Verdicts", "Scores", "Learning curves", "Diagnostics", "Hyperparameters", "Protocol",
        "Runs and speed", "Left out",
    ]  # fmt: skip


def test_its_sections_are_those_of_the_page_on_reading_it(page):
    text = (ROOT / "docs" / "reading-a-report.md").read_text()
    explained = [
        line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")
    ]
    assert [each for each in explained[2:] if each != "Videos"] == re.findall(r"<h2>(.*?)</h2>", page)


def test_it_needs_nothing_else(page):
    parsed = Page(page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parsed.elements}
    for _, attributes in parsed.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


@pytest.mark.parametrize("key", SCORES)
def test_numbers_are_the_statistics_of_the_runs(page, key):
    tables = Page(page).tables
    name = NAMES[key]
    scores = {task: np.array(seeds)[:, 2] / 1000 for task, seeds in SCORES[key].items()}
    for caption, tasks in (
        ("cheetah-run at 200 environment frames: return / 1000", [scores["cheetah-run"]]),
        ("all 2 tasks at 200 environment frames: return / 1000", list(scores.values())),
        ("DMC medium & easy (2 tasks) at 200 environment frames: return / 1000", list(scores.values())),
    ):
        if caption.startswith("all"):
            assert caption not in tables  # it would repeat the group
            continue
        (row,) = [row for row in tables[caption] if row[0] == name]
        middle = estimate(iqm, tasks)
        assert row[1:5] == [number(middle.value), span(middle), "3", number(estimate(mean, tasks).value)]


def test_verdict_and_finding_agree_with_the_numbers(page):
    x, y = ([np.array(seeds)[:, 2] / 1000 for seeds in tasks.values()] for tasks in SCORES.values())
    gain = effect(y, x)
    said = (
        "crossq-wn UTD 5 is better than crossq-wn UTD 2 on cheetah-run and walker-run at 200 frames with 3 "
        f"seeds per task: the means differ by {number(gain.value)} ({span(gain)}), the IQMs are "
        f"{number(estimate(iqm, y).value)} and {number(estimate(iqm, x).value)}, and a run of crossq-wn UTD "
        "5 beats one of crossq-wn UTD 2 with probability 1.00."
    )
    assert words(page).count(said) == 2  # on top, and among the verdicts
    row = Page(page).tables["Comparisons"][1]
    assert row[0] == "crossq-wn UTD 2 – crossq-wn UTD 5"
    assert row[-1] == "crossq-wn UTD 5 is better"


def test_how_far_verdicts_can_be_trusted_is_said(page):
    text = words(page)
    assert "Otherwise the comparison is inconclusive: either system may be the better one" in text
    assert EQUAL_CALLED_BETTER in text
    assert "are many" not in text  # one comparison, and two by task
    head = Page(page).tables["Comparisons"][0]
    assert "probability that a run of the first beats one of the second" in head


def test_each_task_has_a_verdict_of_its_own(page):
    rows = Page(page).tables["Comparisons by group and task"][1:]
    assert [row[1] for row in rows] == ["on cheetah-run at 200 frames", "on walker-run at 200 frames"]
    for task, row in zip(("cheetah-run", "walker-run"), rows, strict=True):
        x, y = ([np.array(seeds)[:, 2] / 1000] for seeds in (SCORES["plain"][task], SCORES["utd5"][task]))
        gain = effect(x, y)
        assert row[4] == f"{number(gain.value)} ({span(gain)})"


def test_settings_protocol_commands_speed_and_diagnostics_are_there(page, runs):
    tables, text = Page(page).tables, words(page)
    assert tables["Settings that differ"] == [
        ["setting", "crossq-wn UTD 2", "crossq-wn UTD 5"],
        ["utd", "2", "5"],
    ]
    shared = dict(tables["Shared"])
    assert shared["batch_size"] == "256"
    assert shared["matmul_precision"] == "float32"
    assert "utd" not in shared
    protocol = dict(tables["Protocol by task"][1:])
    assert protocol["eval_episodes"] == "5"
    assert protocol["action_repeat"] == "2"
    assert "jax" in dict(tables["Versions and device"])
    assert "crossq-wn train" in text
    # Two runs of the clock, 1 h and half an hour, for each of six runs; medians over rows with updates.
    assert tables["Speed"][1] == ["crossq-wn UTD 2", "20", "40", "9", "6"]
    rows = {row[0]: row[1:] for row in tables["Run directories"]}
    expected = ["walker-run", "1", "200 of 200", "20", "40", "1.5", "crossq-wn UTD 5"]
    assert rows[str(runs / "utd5-walker-run-1")] == expected
    for column in ("critic_norm", "entropy"):
        assert page.count(f"<b>{column}</b>") == 2  # for each task
    assert "<b>stable_rank</b>" not in page
    assert (
        "critic_norm on walker-run over environment frames: crossq-wn UTD 2 ends at 46.0 at 200 frames"
        in page
    )


def test_text_from_outside_is_only_text(copy, tmp_path):
    path, wicked = copy / "plain-cheetah-run-0", "<script>alert(1)</script>&\"'<b>"
    helpers.alter_config(path, lambda config: config["system"].update(preset=wicked))
    label = System.from_json(json.loads((path / "config.json").read_text())["system"]).label
    rows = csv.reader((path / "eval.csv").read_text().splitlines()[1:])
    with open(path / "eval.csv", "w", newline="") as file:
        file.write(EVAL_HEADER)
        csv.writer(file, lineterminator="\n").writerows([label, *row[1:]] for row in rows)
    path.rename(copy / "<script>run")
    parsed = Page(report(copy, out=tmp_path / "report.html"))
    assert "script" not in {tag for tag, _ in parsed.elements}
    assert all(not name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    caption = "cheetah-run at 200 environment frames: return / 1000"
    assert label in [row[0] for row in parsed.tables[caption]]
    assert str(copy / "<script>run") in [row[0] for row in parsed.tables["Run directories"]]
    (chart,) = [a["aria-label"] for tag, a in parsed.elements if tag == "svg" and "aria-label" in a]
    assert label in chart


def test_damaged_runs_and_those_that_fell_behind_are_named(copy, tmp_path, capsys):
    (copy / "plain-cheetah-run-0" / "eval.csv").write_text("broken\n")
    (copy / "plain-cheetah-run-1" / "config.json").write_text("{")
    for name in ("infinite", "no-manifest", "no-evaluations"):
        shutil.copytree(copy / "utd5-cheetah-run-0", copy / name)
    infinite = copy / "infinite" / "eval.csv"
    infinite.write_text(infinite.read_text().replace("700", "inf"))
    (copy / "no-manifest" / "manifest.json").unlink()
    (copy / "no-evaluations" / "eval.csv").unlink()
    late = copy / "utd5-cheetah-run-2" / "eval.csv"
    late.write_text("\n".join(late.read_text().splitlines()[:3]) + "\n")  # up to frame 100
    shutil.copytree(copy / "utd5-cheetah-run-0", copy / "utd5-again")
    text = report(copy, out=tmp_path / "report.html")
    said = capsys.readouterr().err.splitlines()
    parsed = Page(text)
    left = words(text[text.index('id="left-out"') :])
    for name, why in (
        ("plain-cheetah-run-0", "lacks the columns"),
        ("plain-cheetah-run-1", "no readable config.json"),
        ("infinite", "a score is infinite"),
        ("no-manifest", "manifest.json"),
        ("no-evaluations", "nothing has been evaluated"),
        ("utd5-cheetah-run-0", "utd5-again holds seed 0 of crossq-wn UTD 5 already"),
    ):
        (line,) = [line for line in said if f"/{name} is skipped: " in line]
        assert why in line
        assert line.removeprefix("crossq-wn: ") in left.replace("&#x27;", "'").replace("&gt;", ">")
    assert "utd5-cheetah-run-2: seed 2 ended at 100 frames; it counts in the curves, but not" in left
    caption = "cheetah-run at 200 environment frames: return / 1000"
    assert {row[0]: row[3] for row in parsed.tables[caption][1:]} == {
        "crossq-wn UTD 2": "1", "crossq-wn UTD 5": "2",
    }  # fmt: skip
    assert "one seed tells nothing about the spread" in text


def test_published_curves_are_rivals_on_our_tasks(copy, tmp_path):
    published = tmp_path / "published.csv"
    lines = [
        f"Rival,2,{task},{seed},{step},return,{value + seed},1"
        for task in ("cheetah-run", "dog-run")
        for seed in range(4)
        for step, value in ((200, 100), (900, 999))
    ]
    published.write_text("\n".join(["algorithm,utd,task,seed,env_step,metric,value,primary", *lines]) + "\n")
    text = report(copy, "--reference", published, out=tmp_path / "report.html")
    row = Page(text).tables["cheetah-run at 200 environment frames: return / 1000"][-1]
    assert row[:2] == ["Rival UTD 2 published", "0.102"]
    assert "dog-run" not in text
    assert "999" not in words(text)  # beyond our last frame
    assert "crossq-wn UTD 2 is better than Rival UTD 2 on cheetah-run at 200 frames" in words(text)
    assert "Rival UTD 2 ends at 0.102 at 200 frames" in text
    wanted = ["--systems", NAMES["utd5"], "Rival"]
    chosen = report(copy, "--reference", published, *wanted, out=tmp_path / "chosen.html")
    assert "crossq-wn UTD 2" not in words(chosen)
    assert "crossq-wn UTD 5 is better than Rival UTD 2 on cheetah-run at 200 frames" in words(chosen)


def test_short_runs_and_slow_ones_have_hours_and_rates():
    speed = SimpleNamespace(speed=(0.4, 312.2, 35 / 3600))
    assert provenance._pace([speed]) == ("0.4", "312", "0.0097")
    assert provenance._pace([SimpleNamespace(speed=None)]) == ("–", "–", "–")


def test_seeds_that_ended_early_or_were_never_evaluated_are_named(tmp_path):
    for seed, steps in ((0, (0, 100, 200)), (1, (0, 100, 200)), (2, (0, 100))):
        rows = [(step, 10.0 + step) for step in steps]
        run = make_run(tmp_path / "runs" / str(seed), task="cheetah-run", seed=seed, eval_rows=rows)
    alter_config(run, lambda values: values["options"].update(seeds=[2, 7]))
    text = words(report(tmp_path / "runs", out=tmp_path / "report.html"))
    left = text[text.index("Left out") :]
    assert f"{run}: seed 7 was never evaluated" in left
    assert f"{run}: seed 2 ended at 100 frames; it counts in the curves, but not in the scores" in left
    assert "its line goes on with the others" in text


def test_damaged_metrics_are_named_once_each(runs, tmp_path, capsys):
    copied = Path(shutil.copytree(runs, tmp_path / "runs", ignore=shutil.ignore_patterns("*walker*")))
    short, garbled = (copied / f"plain-cheetah-run-{seed}" / "metrics.csv" for seed in (0, 1))
    short.write_text("seed,frames,critic_norm,entropy\n0,100\n0,200,46,-2\n")
    garbled.write_text("seed,frames,critic_norm,entropy\n0,x,45,-3\n0,200,46,-2\n")
    text = report(copied, out=tmp_path / "report.html")
    said = capsys.readouterr().err
    left = text[text.index('id="left-out"') :]
    for file in (short, garbled):
        assert said.count(f"{file} is skipped: ") == left.count(f"{file} is skipped: ") == 1
    assert "<b>critic_norm</b>" in text  # of the others


@pytest.fixture
def opened(monkeypatch):
    """How often each file is opened, by path."""
    counts = Counter()
    original = files._opened

    def count(path, *how):
        counts[path] += 1
        return original(path, *how)

    monkeypatch.setattr(files, "_opened", count)  # through which all files of runs are read
    return counts


def test_each_file_is_read_once(runs, tmp_path, opened):
    (tmp_path / "damaged").mkdir()
    damaged = Path(shutil.copytree(runs / "plain-cheetah-run-0", tmp_path / "damaged" / "run"))
    (damaged / "metrics.csv").write_text("seed,frames,critic_norm,entropy\n0,100\n0,200,46,-2\n")
    rows = (damaged / "eval.csv").read_text().replace(",0,return", ",7,return")
    (damaged / "eval.csv").write_text(rows)
    opened.clear()
    report(runs, damaged, out=tmp_path / "report.html")
    names = ("config.json", "manifest.json", "eval.csv", "metrics.csv", "timing.csv")
    read = {path: count for path, count in opened.items() if path.name in names}
    there = {path / name for path in [damaged, *runs.iterdir()] for name in names}
    assert read == dict.fromkeys(there, 1)


def test_comparing_and_drawing_read_each_file_once(runs, tmp_path, opened):
    for command in (["compare", runs], ["figure", "fig3", runs, "--out", tmp_path / "fig3"]):
        opened.clear()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in command])
        assert stop.value.code == 0
        of_runs = {path: count for path, count in opened.items() if path.is_relative_to(runs)}
        assert len(of_runs) >= 3 * len(SCORES["plain"]) * len(SCORES)
        assert set(of_runs.values()) == {1}


def test_it_says_what_it_is_doing(page, copy, tmp_path, capsys):
    report(copy, out=tmp_path / "report.html")
    said = capsys.readouterr().err
    assert "crossq-wn: reading 6 run directories\n" in said
    assert "crossq-wn: comparing 2 systems\n" in said
    assert "crossq-wn: drawing the diagnostics on cheetah-run\n" in said


def test_the_finding_names_all_who_were_beaten_and_all_comparisons_count(tmp_path):
    for task in ("cheetah-run", "walker-run"):
        for utd in (1, 2, 3, 4):
            for seed in range(3):
                make_run(
                    tmp_path / "runs" / f"{task}-{utd}-{seed}", task=task, seed=seed, frames=200,
                    eval_every=100, eval_rows=[(0, 0), (200, 200 * utd + seed)],
                    hyperparameters={"utd": utd},
                )  # fmt: skip
    text = words(report(tmp_path / "runs", out=tmp_path / "report.html"))
    beaten = "crossq-wn UTD 1, crossq-wn UTD 2 and crossq-wn UTD 3"
    assert f"crossq-wn UTD 4 beats {beaten}." in text
    assert "18 comparisons, with those by group and task, are many" in text


def test_tables_say_what_counts_alike_where_seeds_are_unequal(tmp_path):
    for seed in range(4):
        make_run(tmp_path / "runs" / f"dog-{seed}", task="dog-run", seed=seed, eval_rows=[(0, 0), (100, 100)])
    make_run(tmp_path / "runs" / "humanoid", task="humanoid-run", eval_rows=[(0, 0), (100, 400)])
    for arguments, middle, says in (
        ((), "0.250", "Where tasks have unequally many seeds, tasks count alike."),
        (("--weighting", "runs"), "0.100", "all runs are pooled and tasks with more seeds weigh more."),
    ):
        text = words(report(tmp_path / "runs", *arguments, out=tmp_path / "report.html"))
        assert says in text
        assert f"crossq-wn UTD 2 has an IQM of {middle} on DMC dog &amp; humanoid (2 tasks)" in text


def test_one_system_has_no_verdict(runs, tmp_path):
    only = [runs / f"plain-cheetah-run-{seed}" for seed in range(3)]
    text = words(report(*only, "--confidence", 0.5, out=tmp_path / "report.html"))
    assert "There is one system: nothing to compare it with." in text
    assert "crossq-wn UTD 2 has an IQM of 0.510 on cheetah-run at 200 frames with 3 seeds" in text
    assert "50% interval" in text


def test_the_newest_video_is_inside_and_a_large_one_is_named(copy, tmp_path):
    for name, size in (("plain-cheetah-run-0", 10), ("utd5-cheetah-run-0", 5 * 2**20)):
        (copy / name / "videos").mkdir()
        (copy / name / "videos" / "seed-0-000000200.mp4").write_bytes(b"x" * size)
    text = report(copy, out=tmp_path / "report.html")
    assert text.count("<video") == 1
    assert f"data:video/mp4;base64,{base64.b64encode(b'x' * 10).decode()}" in text
    assert "seed-0-000000200.mp4 is left out: 5.0 MiB" in text


def test_runs_of_one_system_that_differ_in_settings_are_pointed_out(copy, tmp_path):
    run = copy / "plain-cheetah-run-0"
    helpers.alter_config(run, lambda config: config["settings"].update(critic_width=64))
    text = report(copy, "--force", out=tmp_path / "report.html")
    assert "The runs of crossq-wn UTD 2 differ in critic_width, and yet count as one system." in text


def refused(*arguments, capsys):
    """The line that `crossq-wn report` says before exiting with 2."""
    with pytest.raises(SystemExit) as stop:
        main(["report", *map(str, arguments)])
    assert stop.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


def test_different_protocols_have_a_part_each_unless_forced(copy, tmp_path):
    make_run(
        copy / "other", seed=0, eval_episodes=3, eval_rows=[(0, 1), (200, 400)], frames=200, eval_every=100
    )
    out = tmp_path / "report.html"
    text = report(copy, out=out)
    parsed = Page(text)
    ids = Counter(attributes["id"] for _, attributes in parsed.elements if "id" in attributes)
    assert max(ids.values()) == 1
    pointed = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert set(pointed) <= set(ids)
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Protocol 1: eval_episodes 5", "Protocol 2: eval_episodes 3", "Left out",
    ]  # fmt: skip
    first, second = text.split('id="protocol-2"')
    assert "crossq-wn UTD 5 is better than crossq-wn UTD 2 on cheetah-run" in first
    assert "crossq-wn UTD 2 has a score of 0.400 on cheetah-run at 200 frames with 1 seed" in second
    assert "These runs follow 2 protocols" in first
    left = second.split("Left out")[-1]
    assert "eval_episodes is 3 in" in left
    assert "--force" in left
    forced = report(copy / "other", *copy.glob("*-[12]"), *copy.glob("utd5*-0"), "--force", out=out)
    assert 'id="protocol-1"' not in forced
    assert "IQM of 0.400" not in forced
    assert "The protocols differ: cheetah-run: eval_episodes is" in report(copy, "--force", out=out)


def test_a_reference_that_is_a_run_must_be_alike_too(copy, tmp_path, capsys):
    other = make_run(
        tmp_path / "other", eval_episodes=3, eval_rows=[(0, 1), (200, 500)], frames=200, eval_every=100
    )
    line = refused(copy, "--reference", other, "--out", tmp_path / "report.html", capsys=capsys)
    assert "eval_episodes is" in line


def test_one_seed_has_neither_verdict_nor_interval(copy, tmp_path):
    for path in copy.iterdir():
        if not path.name.endswith("-0"):
            shutil.rmtree(path)
    text = words(report(copy, out=tmp_path / "report.html"))
    assert "Between these runs: 1 inconclusive" in text
    assert "one seed tells nothing about the spread" in text
    assert not re.search(r"1\.00 \(1\.00 to 1\.00\)", text)


def test_the_finding_says_where_one_beats_the_other(tmp_path):
    for task, low, high in (("Hopper-v5", 1, 2), ("Reacher-v5", 2, 1)):
        for seed in range(5):
            for utd, end in ((2, low), (5, high)):
                make_run(
                    tmp_path / "runs" / f"{task}-{utd}-{seed}", task=task, seed=seed, frames=200,
                    eval_every=100, eval_rows=[(0, 0), (200, 100 * end + seed)],
                    hyperparameters={"utd": utd},
                )  # fmt: skip
    text = words(report(tmp_path / "runs", out=tmp_path / "report.html"))
    assert "UTD 5 beats crossq-wn UTD 2 on Hopper-v5" in text
    assert "UTD 2 beats crossq-wn UTD 5 on Reacher-v5" in text


def test_a_row_cut_off_in_writing_does_not_hide_the_speed(copy, tmp_path):
    for path in copy.iterdir():
        (path / "timing.csv").write_text(TIMING + "300,19")
    tables = Page(report(copy, out=tmp_path / "report.html")).tables
    assert tables["Speed"][1] == ["crossq-wn UTD 2", "20", "40", "4.5", "3"]


def test_only_reports_are_overwritten(copy, tmp_path, capsys):
    one = copy / "plain-cheetah-run-0"
    out = tmp_path / "report.html"
    first = report(one, out=out)
    assert report(one, out=out) == first  # the same runs give the same file
    assert GENERATOR in first
    out.write_text("<html>mine</html>")
    assert "is not a report, so it is not overwritten" in refused(one, "--out", out, capsys=capsys)
    assert out.read_text() == "<html>mine</html>"
    assert "is a folder" in refused(one, "--out", tmp_path, capsys=capsys)
    assert f"name it {tmp_path / 'rep.html'}" in refused(one, "--out", tmp_path / "rep", capsys=capsys)
    assert "cannot write" in refused(one, "--out", out / "report.html", capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "missing is not a run directory or a folder of them: it does not exist"),
        (["file.csv"], "give published curves to --reference"),
        (["."], "no run can be reported: there is none in ."),
        (["RUNS", "--confidence", "2"], "--confidence is 2.0"),
        (["RUNS", "--systems", "crosq-wn"], "no system 'crosq-wn': did you mean 'crossq-wn'? choose from"),
        (["RUNS", "--reference", "missing.csv"], "missing.csv"),
    ],
)
def test_bad_input_is_one_line(arguments, said, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.csv").write_text("")
    paths = [str(runs) if argument == "RUNS" else argument for argument in arguments]
    assert said in refused(*paths, "--out", "report.html", capsys=capsys)
    assert not (tmp_path / "report.html").exists()


# A real browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chrome", "google-chrome"))), None)
NO_BROWSER = "no chromium, chrome or google-chrome on the PATH: `apt install chromium`, or any that is built"
needs_browser = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)
MEASURE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(each => each.open = true);
  const root = document.documentElement, loaded = performance.getEntriesByType("resource").map(e => e.name);
  const outside = [...document.querySelectorAll("svg, p, li, .scroll, pre, video")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80));
  const svg = document.querySelector("figure svg").getBoundingClientRect();
  parent.postMessage(JSON.stringify({
    window: innerWidth, page: root.scrollWidth, outside, svg: svg.width,
    loaded: loaded.filter(name => !name.startsWith("data:")),
    text: parseFloat(getComputedStyle(document.querySelector("td")).fontSize),
  }), "*");
});</script>"""
# The window of a headless browser is 500 pixels wide at least; a frame is as wide as a phone.
FRAME = """<!DOCTYPE html><script>
addEventListener("message", event => document.documentElement.dataset.measured = event.data);
</script><iframe src="measured.html" width="WIDTH" height="800" style="border: 0"></iframe>"""


def browse(page, *arguments):
    """Runs the browser on a page, without network."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage",
        "--proxy-server=127.0.0.1:9", f"--user-data-dir={page.parent / 'profile'}", *arguments, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_window(page, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    (tmp_path / "measured.html").write_text(page.replace("</head>", MEASURE + "</head>"))
    dom = browse(frame, "--window-size=1400,900", "--dump-dom")
    measured = json.loads(html.unescape(re.search(r'data-measured="([^"]*)"', dom)[1]))
    assert measured["window"] == width
    assert measured["page"] <= width
    assert measured["outside"] == []
    assert measured["loaded"] == []
    assert measured["svg"] > (300 if width == 390 else 250)
    assert measured["text"] >= 12


@needs_browser
def test_it_is_seen_in_light_and_in_dark(page, tmp_path):
    from PIL import Image

    file = tmp_path / "report.html"
    file.write_text(page)
    backgrounds = {}
    for scheme, setting in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{scheme}.png"
        browse(
            file, "--window-size=390,2400", f"--blink-settings=preferredColorScheme={setting}",
            f"--screenshot={shot}",
        )  # fmt: skip
        pixels = np.asarray(Image.open(shot).convert("L"), float)
        assert pixels.shape == (2400, 390)
        backgrounds[scheme] = float(np.median(pixels))
        marked = np.abs(pixels - backgrounds[scheme]) > 60
        assert 0.01 < marked.mean() < 0.5  # neither blank nor a blot
        assert marked[:, -3:].mean() < 0.05  # a margin on the right
    assert backgrounds["dark"] < 60
    assert backgrounds["light"] > 240
