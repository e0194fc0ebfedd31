"""Do figures show what the runs say? The tables behind them against hand-computed IQMs, and the pictures."""

import csv
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from crossq_wn.cli import main
from crossq_wn.environments import PAPER_TASKS, suite_of
from crossq_wn.errors import UserError
from crossq_wn.results.curves import Curves
from crossq_wn.results.figures import FIGURES, Source, save
from crossq_wn.results.figures.curves import learning_curve
from crossq_wn.results.figures.files import outputs
from crossq_wn.results.figures.points import curves
from crossq_wn.results.figures.style import COLOURS, STYLE, looks, place, ratio_ticks, short, single, x_axes
from crossq_wn.results.statistics import USUAL, Aggregation, estimate, iqm
from crossq_wn.runs.config import read_config
from crossq_wn.runs.system import System
from helpers import DAMAGE, EVAL_HEADER, make_run, rows

HARD, MYO = "DMC dog & humanoid", "Myo easy"
DIAGNOSTICS = ("critic_norm", "critic_gradient_norm", "critic_elr", "dead_neurons")
OURS = ["crossq UTD 1", "crossq-wn UTD 2", "crossq-wn UTD 5", "crossq-wn UTD 5 (weight_norm=none)"]

# system -> per task the returns (or success rates) at the end, one per seed
ENDS = {
    "crossq UTD 1": {"dog-run": (100, 200), "dog-walk": (300, 400), "myo-reach": (0.1, 0.2)},
    "crossq-wn UTD 2": {"dog-run": (400, 500), "dog-walk": (800, 900), "myo-reach": (0.5, 0.7)},
    "crossq-wn UTD 5": {"dog-run": (450, 550), "dog-walk": (850, 950), "myo-reach": (0.6, 0.8)},
    "crossq-wn UTD 5 (weight_norm=none)": {"dog-run": (150, 250)},
}
SETTINGS = {
    "crossq UTD 1": ("crossq", {"utd": 1}),
    "crossq-wn UTD 2": ("crossq-wn", {}),
    "crossq-wn UTD 5": ("crossq-wn", {"utd": 5}),
    "crossq-wn UTD 5 (weight_norm=none)": ("crossq-wn", {"utd": 5, "weight_norm": "none"}),
}

SHARED = {"warmup": 2000, "critic_width": 128}
FULL = [
    "crossq UTD 1 (warmup=2000, critic_width=128)",
    "crossq-wn UTD 5 (warmup=2000, critic_width=128, policy_delay=1)",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs above, evaluated at 0, 100 and 200 frames; crossq and dog-run have more."""
    root = tmp_path_factory.mktemp("runs")
    for system, tasks in ENDS.items():
        algorithm, hyperparameters = SETTINGS[system]
        for task, values in tasks.items():
            for seed, end in enumerate(values):
                path = root / f"{system}-{task}-{seed}"
                steps = (0, 100, 200)
                make_run(
                    path, task=task, algorithm=algorithm, seed=seed, hyperparameters=hyperparameters,
                    eval_rows=[] if task == "myo-reach" else [(x, end * x / 200) for x in steps],
                )  # fmt: skip
                extra = []
                if task == "myo-reach":
                    extra = [("success_rate", x, end * x / 200) for x in steps]
                if task == "dog-run":
                    extra = [("q_bias_std", x, seed + x / 100) for x in steps]
                with open(path / "eval.csv", "a") as file:
                    file.writelines(f"{system},{task},{seed},{m},{x},{v}\n" for m, x, v in extra)
                if algorithm == "crossq-wn":
                    lines = [f"{seed},{x},{x + seed},{2 + seed},{0.1},{0.25}" for x in (20, 40, 60)]
                    header = f"seed,frames,{','.join(DIAGNOSTICS)}"
                    (path / "metrics.csv").write_text("\n".join([header, f"{seed},10,,,,", *lines, ""]))
                    rates = [(900, 0), (50 + seed, 20), (60 + seed, 20), (70 + seed, 20)]
                    text = "".join(f"{i},{i},{f},{u}\n" for i, (f, u) in enumerate(rates))
                    head = "frames,seconds,frames_per_second,updates_per_second\n"
                    (path / "timing.csv").write_text(head + text + "9,1")  # killed in the middle of a row
    return root


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Published curves: SimBa ends later, and has a task that we lack; REDQ has other frames."""
    path = tmp_path_factory.mktemp("reference") / "rivals.csv"
    lines = ["algorithm,utd,task,seed,metric,env_step,value"]
    for ratio, end in ((2, 300), (8, 600)):
        for task in ("dog-run", "dog-walk", "humanoid-run"):
            for seed in range(2):
                lines += [
                    f"SimBa,{ratio},{task},{seed},return,{x},{end * x / 400 + seed}" for x in (100, 200, 400)
                ]
    lines += [f"REDQ,20,dog-run,{seed},return,{x},5" for seed in range(2) for x in (33, 66)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Two runs that share settings which leave their presets, and are all that there is to log."""
    root = tmp_path_factory.mktemp("alike")
    for algorithm, own in (("crossq", {}), ("crossq-wn", {"utd": 5, "policy_delay": 1})):
        path = make_run(
            root / algorithm, task="dog-run", algorithm=algorithm, eval_rows=[],
            hyperparameters=SHARED | own,
        )  # fmt: skip
        system = read_config(path).system.label
        with open(path / "eval.csv", "a") as file:
            metrics = [(metric, frames) for metric in ("return", "q_bias_std") for frames in (0, 100)]
            file.writelines(f'"{system}",dog-run,0,{m},{x},{x}\n' for m, x in metrics)
        header = f"seed,frames,{','.join(DIAGNOSTICS)}"
        (path / "metrics.csv").write_text(f"{header}\n0,50,1,2,3,0.1\n0,100,2,4,1,0.2\n")
        head = "frames,seconds,frames_per_second,updates_per_second"
        (path / "timing.csv").write_text(f"{head}\n100,2,50,20\n")
    return root


@pytest.fixture
def told():
    """What a source warned of."""
    return []


@pytest.fixture
def draw(runs, told):
    """(name, ...) -> the picture, from the runs; further arguments are the source's."""
    return lambda name, *paths, **more: FIGURES[name](Source.of(paths or [runs], warn=told.append, **more))


def table(picture, *columns, **where):
    """The rows that match, as tuples of these columns."""
    found = [row for row in picture.rows if all(row[key] == value for key, value in where.items())]
    return [tuple(row[column] for column in columns) for row in found]


def tidy_table(path, rows):
    """A CSV file of (system, task, seed, frame, return or success rate)."""
    lines = (f'"{s}",{t},{seed},{suite_of(t).metric},{x},{y}\n' for s, t, seed, x, y in rows)
    path.write_text(EVAL_HEADER + "".join(lines))
    return path


def texts(figure):
    """All words of a figure."""
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def unwrapped(text):
    """A text in one line."""
    return " ".join(text.split())


def trimmed(*values):
    """Interquartile mean of four values, or the mean of two."""
    ordered = sorted(values)
    return np.mean(ordered[1:3] if len(ordered) == 4 else ordered)


def test_aggregates_are_iqms_of_all_runs_at_the_same_frame(draw, reference):
    picture = draw("fig1", reference=[reference])
    assert {row["panel"] for row in picture.rows} == {HARD, MYO, "all"}
    assert {row["frames"] for row in picture.rows} == {200}
    found = dict(table(picture, "system", "value", panel=HARD))
    assert list(found) == [*OURS, "SimBa UTD 2", "SimBa UTD 8"]
    for system in OURS[:3]:
        values = [v / 1000 for task in ("dog-run", "dog-walk") for v in ENDS[system][task]]
        assert found[system] == pytest.approx(trimmed(*values))
    assert found["SimBa UTD 8"] == pytest.approx(0.3005)
    assert dict(table(picture, "system", "value", panel=MYO))["crossq-wn UTD 2"] == pytest.approx(0.6)
    for row in picture.rows:
        assert row["low"] <= row["value"] <= row["high"]
    ((low, high),) = table(picture, "low", "high", panel=HARD, system="crossq-wn UTD 2")
    expected = estimate(iqm, [[0.4, 0.5], [0.8, 0.9]])
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_gaps_are_named_in_the_figure_and_by_warnings(draw, reference, told):
    picture = draw("fig1", reference=[reference])
    assert table(picture, "tasks", panel=HARD, system=OURS[3]) == [(1,)]
    told_of = "\n".join(told)
    assert f"1 of 2 tasks in {HARD}, 1 of 3 tasks in all: {OURS[3]}" in told_of
    assert "not drawn, since there are no values here: REDQ UTD 20" in told_of
    (small,) = (text for text in texts(picture.figure) if "REDQ" in text)
    assert "published by others" in small
    assert f"{HARD}\n2/7 tasks, 200 frames" in texts(picture.figure)


def test_the_end_can_be_chosen(draw, reference):
    assert {row["frames"] for row in draw("fig1", frames=100).rows} == {100}
    late = draw("fig1", reference=[reference], frames=400)
    assert {row["system"] for row in late.rows} == {"SimBa UTD 2", "SimBa UTD 8"}
    with pytest.raises(UserError, match=r"no run was evaluated at 150 .*frames may be 100, 200$"):
        draw("fig1", frames=150)


def test_the_end_is_where_most_runs_of_each_system_got(draw, tmp_path):
    ended = {0: 300, 1: 200, 2: 200}  # the last frame of each seed
    rows = [("long", "dog-run", seed, x, x) for seed in ended for x in (100, 200, 300)]
    rows += [
        ("died", "dog-run", seed, x, seed) for seed, end in ended.items() for x in range(100, end + 1, 100)
    ]
    path = tidy_table(tmp_path / "unequal.csv", rows)
    found = table(draw("fig1", path), "system", "frames", "fewest_seeds")
    assert found == [("died", 200, 3), ("long", 200, 3)]
    assert table(draw("fig1", path, frames=300), "system", "fewest_seeds") == [("died", 1), ("long", 3)]


def test_frame_0_is_no_end(draw, tmp_path):
    start = tidy_table(tmp_path / "start.csv", [("a", "dog-run", 0, 0, 5)])
    with pytest.raises(UserError, match=r"no system was evaluated after frame 0, .*: train longer$"):
        draw("fig1", start)
    apart = tidy_table(tmp_path / "apart.csv", [("a", "dog-run", seed, 100 + seed, 5) for seed in range(2)])
    with pytest.raises(UserError, match=r"more than half of a system's runs: frames may be 100, 101$"):
        draw("fig1", apart)


def test_a_single_seed_has_no_interval(runs, draw, tmp_path, told):
    picture = draw("fig1", runs / "crossq UTD 1-dog-run-0")
    assert table(picture, "value", "most_seeds") == [(0.1, 1)]
    assert np.isnan([picture.rows[0]["low"], picture.rows[0]["high"]]).all()
    assert any("single seed" in text for text in told)
    assert rows(save(*picture, tmp_path / "one")[2])[0]["low"] == ""


def test_bars_are_as_long_as_the_table_says(draw):
    for name, length in (("fig1", "get_height"), ("fig5", "get_width")):
        picture = draw(name)
        axes = picture.figure.axes[0]
        drawn = [getattr(bar, length)() for bar in axes.patches]
        assert drawn == [value for (value,) in table(picture, "value", panel=HARD)]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [unwrapped(name) for name in names] == [f"{system} (2 seeds)" for system in OURS]
    assert axes.yaxis_inverted()


def test_the_second_round_of_bars_has_hatches_to_see(draw, tmp_path):
    rows = [(f"s{i}", "dog-run", 0, 100, 500) for i in range(len(COLOURS) + 1)]
    first, *_, last = draw("fig1", tidy_table(tmp_path / "many.csv", rows)).figure.axes[0].patches
    assert first.get_facecolor() == last.get_facecolor() != last.get_edgecolor()
    assert (first.get_hatch() or "", bool(last.get_hatch())) == ("", True)


def test_the_dotted_line_continues_the_first_systems_bar_alone(draw, tmp_path):
    rows = [("b", task, 0, 100, 1) for task in ("dog-run", "myo-reach")]
    rows += [("c", "dog-run", 0, 100, 2), ("a", "myo-reach", 0, 100, 0.5)]
    picture = draw("fig5", tidy_table(tmp_path / "some.csv", rows), systems=["a", "c", "b"])
    names = [unwrapped(label.get_text()) for label in picture.figure.axes[0].get_yticklabels()]
    assert names == ["a (1 seed)", "c (1 seed)", "b (1 seed)"]
    dotted = [
        [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        for axes in picture.figure.axes
    ]
    assert dotted == [[], [0.5], [0.5]]  # dog & humanoid, Myo easy, all


def test_speed_is_the_median_after_the_warm_up(draw, reference, told):
    picture = draw("fig2", reference=[reference])
    # Rows with updates: 50, 60, 70 of seed 0 and 51, 61, 71 of seed 1; two runs of two tasks each.
    ((rate, slowest, fastest),) = table(
        picture, "frames_per_second", "slowest", "fastest", panel=HARD, system="crossq-wn UTD 2"
    )
    assert (rate, slowest, fastest) == (60.5, 60, 61)
    assert {row["system"] for row in picture.rows} == set(OURS[1:])  # crossq has no timing.csv
    assert any("not drawn" in text and "SimBa UTD 2" in text for text in told)
    with pytest.raises(UserError, match=r"fig2 needs run directories whose timing.csv"):
        draw("fig2", reference)


def test_published_speeds_are_drawn_where_the_hardware_is_stated(draw, tmp_path, told):
    head = "algorithm,utd,task,seed,metric,env_step,value,frames_per_second,hardware\n"
    rows = [
        f"{name},2,dog-run,{seed},return,{step},400,{rate},{machine}\n"
        for name, rate, machine in (("Stated", 99, "one A100"), ("Silent", 120, ""), ("Slow", "", "a phone"))
        for seed in range(2)
        for step in (100, 200)
    ]
    (tmp_path / "timed.csv").write_text(head + "".join(rows))
    picture = draw("fig2", reference=[tmp_path / "timed.csv"])
    rates = table(picture, "frames_per_second", "fastest", system="Stated UTD 2")
    assert set(rates) == {(99, 99)}
    assert not {row["system"] for row in picture.rows} & {"Silent UTD 2", "Slow UTD 2"}
    assert "Silent UTD 2: no speed on dog-run, since the table does not name the hardware" in told
    notes = " ".join(text.get_text() for text in picture.figure.texts).replace("\n", " ")
    assert "Stated UTD 2: on one A100, as published" in notes


def test_health_aggregates_the_columns_of_metrics(draw, told):
    picture = draw("fig3")
    assert {row["quantity"] for row in picture.rows} == {"score", *DIAGNOSTICS}
    assert "all" not in {row["panel"] for row in picture.rows}
    found = table(picture, "frames", "value", panel=HARD, system="crossq-wn UTD 2", quantity="critic_norm")
    assert found == [(20, 20.5), (40, 40.5), (60, 60.5)]
    assert any(text == "without critic parameter norm: crossq UTD 1" for text in told)
    first = picture.figure.axes[:5]
    assert [unwrapped(axes.get_ylabel()) for axes in first] == [
        "IQM return / 1000", "critic parameter norm", "critic gradient norm", "effective learning rate",
        "dead neurons (fraction)",
    ]  # fmt: skip
    assert [axes.get_yscale() for axes in first] == ["linear", "linear", "log", "log", "linear"]


def test_flat_diagnostics_have_room_above_and_below(alike, draw):
    for path in alike.rglob("metrics.csv"):
        header, *_ = path.read_text().split("\n")
        path.write_text(f"{header}\n0,50,20,0.1,0.1,0.5\n0,100,20,0.10000000000000002,0.1,inf\n")
    picture = draw("fig3", alike)
    for axes, value in zip(picture.figure.axes[1:], (20, 0.1, 0.1, 0.5), strict=True):
        low, high = axes.get_ylim()
        assert low < 0.96 * value < 1.04 * value < high
    assert table(picture, "frames", quantity="dead_neurons") == [(50,), (50,)]


def test_a_panel_without_diagnostics_says_so(runs, draw, tmp_path):
    """As of a run that ended before its first gradient update."""
    brief = make_run(tmp_path / "brief", task="walker-run", eval_rows=[(0, 1.0), (100, 2.0), (200, 3.0)])
    picture = draw("fig3", runs / "crossq-wn UTD 2-dog-run-0", brief)
    panels = 1 + len(picture.figure.axes) // 2  # the score is there, and all other panels of the row are not
    assert texts(picture.figure).count("not recorded") == panels - 2
    assert table(picture, "value", quantity="score", panel=picture.rows[0]["panel"])


def test_figures_that_need_more_say_which_option_logs_it(runs, draw):
    without = runs / "crossq UTD 1-dog-walk-0"
    with pytest.raises(UserError, match=r"fig3 needs critic_norm, .*diagnostics=True"):
        draw("fig3", without)
    with pytest.raises(UserError, match=r"q-bias needs q_bias_std .*q_bias=True"):
        draw("q-bias", without)


def test_scaling_draws_families_over_their_ratios(draw, reference):
    picture = draw("fig4", reference=[reference])
    found = table(picture, "family", "utd", panel=HARD)
    assert found == [
        ("crossq", 1), ("crossq-wn", 2), ("crossq-wn", 5), ("crossq-wn (weight_norm=none)", 5),
        ("SimBa", 2), ("SimBa", 8),
    ]  # fmt: skip
    axes = picture.figure.axes[0]
    assert axes.get_xscale() == "log"
    points = {
        line.get_color(): list(line.get_ydata()) for line in axes.lines if line.get_linestyle() != "None"
    }
    wn = [value for (value,) in table(picture, "value", panel=HARD, family="crossq-wn")]
    assert points[COLOURS[1]] == wn


def test_scaling_names_no_settings_that_all_have_and_puts_a_lone_family_on_its_ratios(draw, tmp_path):
    for ratio in (1, 2):
        make_run(
            tmp_path / f"{ratio}", task="dog-run", hyperparameters={"utd": ratio, "critic_width": 64},
            eval_rows=[(100, 5)],
        )  # fmt: skip
    figure = draw("fig4", tmp_path).figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["crossq-wn"]
    drawn = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert list(drawn[0].get_xdata()) == pytest.approx([1, 2])


def test_scaling_keeps_others_apart_from_ours_of_the_same_family(draw, tmp_path):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    for path, ratios in ((ours, (1, 2)), (theirs, (2, 5))):
        lines = [f"q,{ratio},dog-run,0,return,100,5\n" for ratio in ratios]
        path.write_text("algorithm,utd,task,seed,metric,env_step,value\n" + "".join(lines))
    picture = draw("fig4", ours, reference=[theirs])
    families = table(picture, "family", "utd")
    assert families == [("q", 1), ("q", 2), ("q (reference)", 2), ("q (reference)", 5)]
    drawn = [line for line in picture.figure.axes[0].lines if len(line.get_xdata()) == 2]
    styles = [line.get_linestyle() for line in drawn if line.get_linestyle() != "None"]
    assert styles == ["-", "--"]


def test_scaling_tells_families_apart_that_would_be_called_alike(draw, tmp_path):
    """Ours lose what they share, and are then called as the published one is."""
    for ratio in (1, 2):
        make_run(
            tmp_path / f"{ratio}", task="dog-run", hyperparameters={"utd": ratio, "critic_width": 64},
            eval_rows=[(100, 5)],
        )  # fmt: skip
    reference = tmp_path / "theirs.csv"
    reference.write_text(
        "algorithm,utd,task,seed,metric,env_step,value\ncrossq-wn,5,dog-run,0,return,100,5\n"
    )
    figure = draw("fig4", tmp_path / "1", tmp_path / "2", reference=[reference]).figure
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["crossq-wn (critic_width=64)", "crossq-wn"]


def test_scaling_needs_systems_whose_ratio_is_known(draw, tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("exp_name,env_name,seed,metric,env_step,value\nq,dog-run,0,return,100,1\n")
    with pytest.raises(UserError, match=r"fig4 needs systems whose UTD ratio is known, .*: there are q$"):
        draw("fig4", path)


def test_curves_of_suites_end_with_ours(draw, reference):
    picture = draw("fig6", reference=[reference])
    assert {row["panel"] for row in picture.rows} == {"DMC", "MyoSuite"}
    values = [v / 2000 for task in ("dog-run", "dog-walk") for v in ENDS["crossq-wn UTD 5"][task]]
    found = table(picture, "frames", "value", panel="DMC", system="crossq-wn UTD 5")
    assert found[1] == (100, pytest.approx(trimmed(*values)))
    assert [frames for frames, _ in found] == [0, 100, 200]
    assert max(row["frames"] for row in picture.rows) == 200
    line = picture.figure.axes[0].lines[2]
    assert list(line.get_ydata()) == [value for _, value in found]


def test_curves_do_not_leap_between_runs_with_unequal_grids():
    """Every 2 and every 3 frames: drawn every 6; a run that has ended holds nobody up."""

    def drawn(*runs):
        steps = sorted({x for run in runs for x in run})
        values = np.array([[float(i) if x in run else np.nan for x in steps] for i, run in enumerate(runs)])
        of = Curves(np.array(steps), tuple(map(str, range(len(runs)))), values)
        return [
            (p.frames, p.most_seeds)
            for p in curves({System("a"): {"dog-run": of}}, {"p": ("dog-run",)}, USUAL)
        ]

    assert drawn(range(2, 21, 2), range(3, 19, 3)) == [(6, 2), (12, 2), (18, 2)]
    assert drawn(range(2, 11, 2), range(2, 7, 2)) == [(2, 2), (4, 2), (6, 2), (8, 1), (10, 1)]
    assert drawn(range(2, 7, 2), ()) == [(2, 1), (4, 1), (6, 1)]
    assert drawn([4], [4, 8]) == [(4, 2), (8, 1)]


def test_a_grid_has_a_panel_per_task_in_the_papers_order(draw):
    picture = draw("fig7")
    assert [axes.get_title() for axes in picture.figure.axes] == ["dog-walk", "dog-run", "myo-reach"]
    assert [axes.get_ylabel() for axes in picture.figure.axes] == [
        "IQM return / 1000", "", "IQM success rate",
    ]  # fmt: skip
    assert table(picture, "value", panel="dog-run", system=OURS[0], frames=200) == [(pytest.approx(0.15),)]
    last = table(draw("fig7", frames=100), "frames", panel="dog-run", system=OURS[0])
    assert last == [(0,), (100,)]


@pytest.mark.parametrize("count", [1, 25])
def test_a_grid_of_few_or_many_tasks(count, tmp_path):
    steps, values = (0, 50_000, 100_000), np.linspace(0, 1, 6).reshape(2, 3)
    lines = [
        f"{name},{task},{seed},{suite_of(task).metric},{step},{value * most}"
        for name in ("a", "b")
        for task in PAPER_TASKS[:count]
        for most in [suite_of(task).scale]
        for seed, of in enumerate(values)
        for step, value in zip(steps, of, strict=True)
    ]
    (tmp_path / "curves.csv").write_text(EVAL_HEADER + "\n".join(lines) + "\n")
    figure = FIGURES["fig7"](Source.of([tmp_path / "curves.csv"])).figure
    assert [axes.get_title() for axes in figure.axes] == list(PAPER_TASKS[:count])
    for axes in figure.axes:
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines], [values.mean(0)] * 2)
    labelled = [axes for axes in figure.axes if axes.get_xlabel() == "environment frames"]
    assert labelled == figure.axes[-5:]
    figure.draw_without_rendering()  # a layout that does not fit warns, which is an error here


def test_profiles_count_the_runs_above_a_score(draw):
    rows = draw("profile").rows
    found = {
        round(r["score"], 2): r["value"]
        for r in rows
        if (r["panel"], r["system"]) == (HARD, "crossq-wn UTD 2")
    }
    # Scores 0.4, 0.5, 0.8 and 0.9; a run at a threshold is not above it.
    for score, value in (
        (0.0, 1.0),
        (0.39, 1.0),
        (0.4, 0.75),
        (0.6, 0.5),
        (0.85, 0.25),
        (0.9, 0.0),
        (1.0, 0.0),
    ):
        assert found[score] == value
    assert len(found) == 101


def test_a_profile_begins_where_all_runs_are_above_even_if_some_score_0(draw, tmp_path):
    scores = enumerate((0, 0, 500, 1000))
    path = tidy_table(tmp_path / "zeros.csv", [("a", "dog-run", seed, 100, value) for seed, value in scores])
    rows = draw("profile", path).rows
    assert (rows[0]["score"], rows[0]["value"]) == (pytest.approx(-0.01), 1)
    assert (rows[1]["score"], rows[1]["value"]) == (0, 0.5)  # strictly above, as in Agarwal et al.
    assert (rows[-1]["score"], rows[-1]["value"]) == (1, 0)


@pytest.mark.parametrize("value", [-500, 0])
def test_a_profile_of_equal_returns_shows_where_they_are(value, draw, tmp_path):
    path = tidy_table(tmp_path / "equal.csv", [("a", "Ant-v5", seed, 100, value) for seed in range(2)])
    rows = draw("profile", path).rows
    assert {row["value"]: row["score"] < value for row in rows if row["score"] != value} == {
        1: True,
        0: False,
    }


def test_the_step_of_the_best_run_lies_within_a_profile(draw, tmp_path):
    path = tidy_table(tmp_path / "one.csv", [("a", "Ant-v5", 0, 100, 40)])
    rows = draw("profile", path).rows
    assert (rows[-1]["score"], rows[-1]["value"]) == (42, 0)
    assert [row["value"] for row in rows if row["score"] < 40] == [1.0] * 96


def test_bias_stands_between_scores_and_norms(draw):
    picture = draw("q-bias")
    assert {row["panel"] for row in picture.rows} == {"dog-run"}
    found = table(picture, "frames", "value", system=OURS[0], quantity="q_bias_std")
    assert found == [(0, 0.5), (100, 1.5), (200, 2.5)]
    labels = ["IQM return / 1000", "normalised Q-bias, std", "critic parameter norm"]
    assert [unwrapped(axes.get_ylabel()) for axes in picture.figure.axes] == labels
    assert picture.figure.axes[-1].get_xlabel() == "environment frames"


def test_systems_are_chosen_and_ordered_by_name_or_first_words(draw):
    chosen = draw("fig1", systems=["crossq-wn UTD 5", "crossq"])
    assert [system for (system,) in table(chosen, "system", panel=HARD)] == [
        "crossq-wn UTD 5",
        "crossq UTD 1",
    ]
    many = draw("fig1", systems=["crossq-wn"])
    assert [system for (system,) in table(many, "system", panel=HARD)] == OURS[1:]
    with pytest.raises(
        UserError, match=r"no system 'crossq-w': did you mean 'crossq-wn'\? choose from crossq UTD 1"
    ):
        draw("fig1", systems=["crossq-w"])


def test_published_systems_keep_apart_from_ours_of_the_same_name(runs, draw):
    ours = runs / "crossq UTD 1-dog-run-0"
    picture = draw("fig1", ours, reference=[runs / "crossq UTD 1-dog-run-1" / "eval.csv"])
    assert table(picture, "system", "value") == [("crossq UTD 1", 0.1), ("crossq UTD 1 (reference)", 0.2)]


def test_a_reference_on_other_tasks_is_told_of(runs, draw, reference, told):
    picture = draw("fig7", runs / "crossq UTD 1-myo-reach-0", reference=[reference])
    said = "not drawn, having none of these tasks: all of the reference"
    assert said in told
    assert any(said in text for text in texts(picture.figure))
    draw("fig7", runs / "crossq UTD 1-dog-walk-0", reference=[reference])
    assert told[-1] == "not drawn, having none of these tasks: REDQ UTD 20"


def test_systems_look_alike_everywhere_and_never_like_each_other():
    shown = looks([str(i) for i in range(3 * len(COLOURS))], published=["1"])
    assert len({(look.colour, look.marker) for look in shown.values()}) == len(shown)
    assert len({(look.colour, look.hatch) for look in shown.values()}) == len(shown)
    assert [name for name, look in shown.items() if look.dash == "--"] == ["1"]


def test_numbers_on_axes_are_short_and_few():
    assert [short(x) for x in (0, 0.5, 500, 1500, 25_000, 2_000_000)] == [
        "0",
        "0.5",
        "500",
        "1.5k",
        "25k",
        "2M",
    ]
    assert short(5e9) == "5e+09"  # not 5000M
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set_xscale("log")
    for low, high, ticks in (
        (1, 20, [1, 2, 5, 10, 20]),
        (0.9, 110, [1, 5, 20, 100]),
        (2, 1e6, [10, 1000, 100_000]),
        (21, 29, [21, 24, 27]),
    ):
        ratio_ticks(axes.xaxis, low, high)
        assert list(axes.xaxis.get_major_locator()()) == ticks


@pytest.mark.parametrize("name", FIGURES)
def test_settings_that_all_systems_share_are_told_once(name, alike, draw):
    picture = draw(name, alike)
    said = [unwrapped(text) for text in texts(picture.figure)]
    (told,) = (text for text in said if "warmup" in text)
    assert told.endswith(
        "all with warmup=2000, critic_width=128 no interval where there is a single seed: crossq UTD 1, "
        "crossq-wn UTD 5 (policy_delay=1)"
    )
    shown = ["crossq UTD 1 (1 seed)", "crossq-wn UTD 5 (policy_delay=1) (1 seed)"]
    assert set(["crossq", "crossq-wn (policy_delay=1)"] if name == "fig4" else shown) <= set(said)
    assert list(dict.fromkeys(row["system"] for row in picture.rows)) == FULL


def test_published_systems_share_no_settings(alike, reference, draw):
    said = "\n".join(texts(draw("fig1", alike, reference=[reference]).figure))
    assert "all of ours with warmup=2000, critic_width=128\n" in said
    assert "\nSimBa UTD 2 (2\N{NO-BREAK SPACE}seeds)\n" in said


def test_a_learning_curve_names_systems_as_the_figures_do(alike, tmp_path):
    _, svg, behind = learning_curve(Source.of([alike]), tmp_path / "curve")
    assert "crossq UTD 1 (1" in svg.read_text()
    assert svg.read_text().count("warmup=2000") == svg.read_text().count("all with warmup=2000") > 0
    assert {row["exp_name"] for row in rows(behind)} == set(FULL)


def words(figure):
    """All texts but the ticks', each in its place."""
    figure.draw_without_rendering()
    ticks = {
        label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()
    }
    texts = [text for text in figure.findobj(Text) if text not in ticks]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", FIGURES)
def test_titles_labels_and_legends_do_not_overlap(name, alike, draw):
    found = words(draw(name, alike).figure)
    assert len(found) >= 3
    for one, other in combinations(found, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig4", "fig7"])
def test_no_text_leaves_the_picture_or_is_wider_than_its_panel(name, draw):
    figure = draw(name).figure
    assert len(figure.axes) > 1
    for text in words(figure):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for axes in figure.axes:  # a label as wide as its panel is cut at the edge of some pictures
        assert axes.xaxis.label.get_window_extent().width <= 0.95 * axes.bbox.width


def test_a_figure_says_why_it_ends_early_and_which_seeds_end_before_others(tmp_path, told):
    short, long = [(0, 1), (100, 50)], [(0, 1), (100, 50), (200, 80)]
    make_run(tmp_path / "sac", algorithm="sac", seed=0, eval_rows=short)
    make_run(tmp_path / "crossq-0", algorithm="crossq", seed=0, eval_rows=long)
    make_run(tmp_path / "crossq-1", algorithm="crossq", seed=1, eval_rows=long)
    make_run(tmp_path / "crossq-2", algorithm="crossq", seed=2, eval_rows=short)
    source = Source.of([tmp_path], warn=told.append)
    assert {row["frames"] for row in FIGURES["fig1"](source).rows} == {100}
    assert "shown at 100 frames, the last that most runs of sac UTD 1 reached" in told[0]
    assert "crossq UTD 1 goes on to 200" in told[0]
    assert not any("ended early" in line for line in told)  # at frame 100 all seeds are there
    curve = FIGURES["fig7"](source)
    early = [line for line in told if "ended early" in line]
    assert early
    assert "crossq UTD 1 on cheetah-run, seed 2 at 100 frames" in early[0]
    assert "ended early" in " ".join(text.get_text() for text in words(curve.figure))
    assert not any("goes on" in line for line in told[1:])


def test_a_long_name_stays_in_the_picture(tmp_path):
    """One run far from its preset, as `make demo` leaves: all its settings stand in the legend."""
    widths = {"warmup": 2000, "actor_width": 128, "critic_width": 256, "initial_temperature": 0.01}
    make_run(tmp_path / "run", eval_rows=[(0, 20), (100, 600)], hyperparameters=widths)
    figure = FIGURES["fig7"](Source.of([tmp_path / "run"])).figure
    for text in words(figure):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name, draw, reference, tmp_path):
    picture = draw(name, reference=[reference])
    png, svg, behind = save(*picture, tmp_path / "deep" / name)
    colours_and_contrast(png)
    drawing = svg.read_text()
    assert "<text" in drawing  # not outlines
    assert "crossq-wn UTD 5" in drawing or name == "fig4"
    assert len(rows(behind)) == len(picture.rows)
    assert not list(tmp_path.rglob(".*"))


def test_the_same_runs_give_the_same_files(draw, tmp_path):
    first, again = (save(*draw("fig7"), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def colours_and_contrast(png):
    """Asserts that a picture shows something."""
    with Image.open(png) as image:
        pixels = image.convert("RGB")
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert np.asarray(pixels).std() > 15
    counts, colours = map(np.array, zip(*pixels.getcolors(2**24), strict=True))
    assert len(colours) > 100
    wanted = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS[:-1]]
    close = [np.abs(colours - each).sum(axis=1) < 30 for each in wanted]
    assert sum(counts[there].sum() > 20 for there in close) >= 2  # systems


@pytest.mark.parametrize(
    ("asked", "written"),
    [("p", "p.png"), ("p.png", "p.png"), ("p.PNG", "p.png"), ("walker-v2.5", "walker-v2.5.png")],
)
def test_pictures_are_named_by_what_stands_before_their_suffix(asked, written, tmp_path):
    assert outputs(tmp_path / asked)[0] == tmp_path / written


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "pdf"])
def test_formats_that_are_not_written_are_refused(suffix, tmp_path):
    with pytest.raises(UserError, match=r"written as \.png, \.svg, \.csv; name .*, such as .*/p$"):
        outputs(tmp_path / f"p.{suffix}")


def test_only_pictures_of_ours_are_overwritten(draw, tmp_path):
    picture = draw("fig1")
    written = save(*picture, tmp_path / "a.b.svg")
    assert [path.name for path in written] == ["a.b.png", "a.b.svg", "a.b.csv"]
    written[2].unlink()  # as a killed process may leave it
    assert save(*picture, tmp_path / "a.b") == written
    (tmp_path / "eval.csv").write_text("precious")
    Image.new("RGB", (3, 3)).save(tmp_path / "photo.png")
    for name in ("eval", "photo"):
        with pytest.raises(UserError, match=f"{name}.* is not a figure of crossq-wn"):
            save(*picture, tmp_path / name)
    assert (tmp_path / "eval.csv").read_text() == "precious"
    for suffix in (".svg", ".csv"):  # all three are somebody's
        (tmp_path / "photo").with_suffix(suffix).write_text("precious")
    with pytest.raises(UserError, match=r"photo.* is not a figure of crossq-wn"):
        save(*picture, tmp_path / "photo")
    with pytest.raises(UserError, match="is a folder"):
        save(*picture, tmp_path / "..")
    with pytest.raises(UserError, match="cannot write"):
        save(*picture, tmp_path / "photo.png" / "x")


def test_a_learning_curve_shows_each_seed_as_it_was_logged(runs, tmp_path):
    seeds = [runs / f"crossq-wn UTD 2-dog-run-{seed}" for seed in range(2)]
    png, _, behind = learning_curve(Source.of(seeds), tmp_path / "curve")
    with Image.open(png) as image:
        assert np.asarray(image).std() > 15
    found = [(row["exp_name"], row["seed"], row["env_step"], row["value"]) for row in rows(behind)]
    assert found[:3] == [("crossq-wn UTD 2", "0", step, value) for step, value in
                         (("0", "0.0"), ("100", "200.0"), ("200", "400.0"))]  # fmt: skip
    assert len(found) == 6
    learning_curve(Source.of(seeds[:1]), tmp_path / "one")
    assert "each line is one seed" in (tmp_path / "one.svg").read_text()
    with pytest.raises(UserError, match=r"several tasks \(dog-walk, dog-run, myo-reach\)"):
        learning_curve(Source.of([runs]), tmp_path / "curve")


def test_a_mean_that_ends_early_says_where_and_why(told, tmp_path):
    for seed, steps in enumerate(((0, 100, 200), (0, 100))):
        make_run(tmp_path / str(seed), task="dog-run", seed=seed, eval_rows=[(x, x) for x in steps])
    _, svg, _ = learning_curve(Source.of([tmp_path], warn=told.append), tmp_path / "curve")
    says = "the mean of crossq-wn UTD 2 ends at 100 frames: not all seeds have values after that"
    assert told == [says]
    assert says.split(":")[0] in svg.read_text()
    assert "thin: each seed; thick: their mean" in svg.read_text()


@pytest.mark.parametrize(
    ("weighting", "value", "says"),
    [
        ("tasks", 0.25, "where tasks have unequally many seeds, tasks count alike: crossq-wn UTD 2"),
        ("runs", 0.1, "all runs are pooled and tasks with more seeds weigh more: crossq-wn UTD 2"),
    ],
)
def test_what_counts_alike_is_chosen_and_said_where_seeds_are_unequal(
    weighting, value, says, draw, told, tmp_path
):
    """Four runs of one task score 0.1 and one of another 0.4, in one group: 0.25, or the middle of five."""
    for seed in range(4):
        make_run(tmp_path / f"dog-{seed}", task="dog-run", seed=seed, eval_rows=[(0, 0), (100, 100)])
    make_run(tmp_path / "humanoid", task="humanoid-run", eval_rows=[(0, 0), (100, 400)])
    picture = draw("fig1", tmp_path, how=Aggregation(weighting=weighting))
    found = {(row["panel"], round(row["value"], 6), row["weighting"]) for row in picture.rows}
    assert ("DMC dog & humanoid", value, weighting) in found
    assert any(says in line for line in told), told
    assert says in " ".join(unwrapped(text) for text in texts(picture.figure))
    told.clear()
    draw("fig1", tmp_path / "dog-0", tmp_path / "humanoid", how=Aggregation(weighting=weighting))
    assert not any("unequally" in line for line in told)


@pytest.mark.parametrize("name", FIGURES)
def test_what_intervals_are_is_said_below_the_figure_and_in_its_table(name, draw):
    picture = draw(name, how=Aggregation(confidence=0.5))
    (said,) = (unwrapped(text) for text in texts(picture.figure) if "bootstrap" in text)
    assert "50 % stratified bootstrap intervals" in said
    assert {row["confidence"] for row in picture.rows} == {0.5}


@pytest.mark.parametrize("name", FIGURES)
def test_a_single_seed_has_no_intervals_and_none_are_spoken_of(name, alike, draw):
    said = unwrapped(draw(name, alike).figure.get_supxlabel())
    assert ("lines: share of runs" if name == "profile" else ": the score of a single run") in said
    assert "interval" not in said.replace("no interval where there is a single seed", "")


@pytest.fixture
def run_cli(monkeypatch, tmp_path, capsys):
    """(arguments) -> (exit code, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


def test_the_figure_command(run_cli, runs, reference, tmp_path):
    code, out, err = run_cli(
        "figure", "fig1", runs, "--reference", reference, "--systems", "crossq-wn UTD 5", "SimBa",
        "--frames", 200, "--confidence", 0.5,
    )  # fmt: skip
    assert (code, out.split()) == (0, ["fig1.png", "fig1.svg", "fig1.csv"])
    assert err.startswith("crossq-wn: 2 of 3 tasks in all: SimBa UTD 2, SimBa UTD 8\n")
    found = [row["system"] for row in rows(tmp_path / "fig1.csv") if row["panel"] == HARD]
    assert found == ["crossq-wn UTD 5", "SimBa UTD 2", "SimBa UTD 8"]
    code, out, _ = run_cli("figure", "fig7", runs, "--out", tmp_path / "sub" / "mine")
    assert (code, (tmp_path / "sub" / "mine.svg").exists()) == (0, True)
    code, out, _ = run_cli("figure", "--help")
    assert all(name in out for name in FIGURES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("fig9 RUNS", "invalid choice: 'fig9'"),
        ("fig1", "required: RUN;"),
        ("fig1 nowhere", "nowhere is not a run directory"),
        ("fig1 RUNS --reference nowhere.csv", "nowhere.csv is not a run directory or a CSV file"),
        ("fig1 RUNS --systems bro", "no system 'bro': "),
        ("fig1 RUNS --frames 7", "no run was evaluated at 7 environment frames"),
        ("fig1 RUNS --frames -1", "'-1' is not a whole number"),
        ("fig1 RUNS --confidence 90", "--confidence is 90.0"),
        ("fig1 RUNS --out wall/picture", "cannot write --out wall/picture"),
        ("fig1 RUNS --out wall", "wall.csv is not a figure of crossq-wn"),
    ],
)
def test_mistakes_are_one_line(run_cli, runs, arguments, says):
    for name in ("wall", "wall.csv"):
        Path(name).touch()
    code, _, err = run_cli("figure", *(runs if word == "RUNS" else word for word in arguments.split()))
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_plot_draws_one_task_into_its_run_and_several_as_a_grid(run_cli, tmp_path):
    for name, task in (("a", "dog-run"), ("b", "dog-walk")):
        make_run(tmp_path / name, task=task, eval_rows=[(0, 0), (100, 50)])
    assert run_cli("plot", "a")[1].split()[0] == "a/plots/learning_curve.png"
    code, out, _ = run_cli("plot", ".")
    assert (code, out.split()) == (0, [f"learning_curves.{kind}" for kind in ("png", "svg", "csv")])
    assert {row["panel"] for row in rows(tmp_path / "learning_curves.csv")} == {"dog-run", "dog-walk"}


@pytest.mark.parametrize("size", [-123456.0, -0.25, 3e-5, 0.007, 1.0, 999.5, 2.5e6])
def test_a_single_panel_has_room_for_its_numbers_whatever_their_size(size):
    with mpl.rc_context(STYLE):
        figure, axes = single(3.5, 2.5)
        axes.plot([0, 1e6], [0, size])
        axes.set_ylabel("IQM return / 1000")
        x_axes([axes], "environment frames")
        place(figure, axes)
        figure.draw_without_rendering()
        texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
        (low, high), (left, right) = sorted(axes.get_ylim()), axes.get_xlim()
        for text in texts:
            x, y = text.get_position()
            if (text.get_text() and left <= x <= right and low <= y <= high) or text in texts[-2:]:
                box = text.get_window_extent()
                assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1
                assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1
        assert axes.get_position().width > 0.5
        assert axes.yaxis.get_offset_text().get_text() == ""


def test_no_title_is_cut_or_lies_on_its_neighbour(tmp_path):
    task = "helpers:NanInEvaluationOfSeedOne"
    for name, some in (("a", task), ("b", "dog-run"), ("c", "humanoid-stand")):
        make_run(tmp_path / name, task=some, eval_rows=[(0, 0), (100, 50)])
    for name in ("fig1", "fig7", "profile"):
        figure = FIGURES[name](Source.of([tmp_path])).figure
        figure.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
        assert any(task in axes.get_title().replace("\n", "") for axes in figure.axes)
        for box in boxes:
            assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 0.3, 0.6, 1.0])
def test_scores_fill_their_axes_whatever_their_size_and_zero_stays(share, tmp_path):
    """`share` of the highest return; the axis ends above the data and not far above, or at 1."""
    for task in ("dog-run", "dog-walk"):
        for seed in range(3):
            ends = [(0, 0), (100, 500 * share), (200, 1000 * share * (1 - seed / 10))]
            make_run(tmp_path / f"{task}-{seed}", task=task, seed=seed, eval_rows=ends)
    source = Source.of([tmp_path])
    for name in ("fig1", "fig4", "fig6", "fig7", "fig5", "profile"):
        for axes in FIGURES[name](source).figure.axes:
            across = name in ("fig5", "profile")
            low, high = axes.get_xlim() if across else axes.get_ylim()
            drawn = share if name == "profile" else axes.dataLim.xmax if across else axes.dataLim.ymax
            assert low == pytest.approx(0, abs=0.011 * high if name == "profile" else 0)  # runs at 0 show
            assert high >= min(drawn, 1)
            assert high <= max(1.2 * drawn, 0.01) if drawn <= 0.5 else high in (1, 1.05)


@pytest.mark.parametrize("verb", ["plot", "figure fig1"])
def test_runs_of_different_protocols_are_drawn_together_only_if_forced(verb, run_cli, tmp_path):
    for seed, episodes in enumerate((5, 10)):
        make_run(
            tmp_path / str(seed), task="dog-run", seed=0, eval_episodes=episodes,
            eval_rows=[(0, 0), (100, 100 * episodes)],
        )  # fmt: skip
    code, out, err = run_cli(*verb.split(), "0", "1", "--out", "sub.d/pic.png")
    assert (code, "the protocols differ: dog-run: eval_episodes is 5 in 0" in err) == (0, True)
    assert "protocol 1 has eval_episodes 5 (1 run); protocol 2 has eval_episodes 10 (1 run)" in err
    expected = [f"sub.d/pic-protocol-{n}.{kind}" for n in (1, 2) for kind in ("png", "svg", "csv")]
    assert out.split() == expected
    for number, end in ((1, 500), (2, 1000)):  # equal seeds, of which none is lost
        drawn = rows(tmp_path / "sub.d" / f"pic-protocol-{number}.csv")
        scale = 1 if verb == "plot" else 1000
        assert float(drawn[-1]["value"]) == end / scale
        assert {row.get("most_seeds", "1") for row in drawn} == {"1"}
        episodes = (5, 10)[number - 1]
        small = (tmp_path / "sub.d" / f"pic-protocol-{number}.svg").read_text()
        assert f"only runs with eval_episodes {episodes}" in small
    code, out, err = run_cli(*verb.split(), "0", "1", "--force")
    assert (code, "the protocols differ" in err, out.count(".png")) == (0, True, 1)


def test_one_protocol_that_cannot_be_drawn_does_not_stop_the_other(run_cli, tmp_path):
    for seed, episodes in enumerate((5, 10)):
        run = make_run(tmp_path / str(seed), task="dog-run", seed=0, eval_episodes=episodes)
        if seed:
            (run / "metrics.csv").write_text("seed,frames,critic_norm\n0,100,3\n")
    code, out, err = run_cli("figure", "fig3", "0", "1")
    assert (code, out.split()[0]) == (0, "fig3-protocol-2.png")
    assert "fig3 needs critic_norm" in err
    (tmp_path / "1" / "metrics.csv").unlink()
    assert run_cli("figure", "fig3", "0", "1")[0] == 2


def test_damaged_runs_stop_no_verb(run_cli, tmp_path):
    for seed, name in enumerate(("a", *DAMAGE, "c")):
        make_run(tmp_path / "runs" / name, task="dog-run", seed=seed, eval_rows=[(100, 50 + seed)])
    for kind, (damage, _) in DAMAGE.items():
        damage(tmp_path / "runs" / kind)
    for verb in ("compare runs", "plot runs", "figure fig1 runs", "list runs"):
        code, _, err = run_cli(*verb.split())
        assert code == 0, (verb, err)
        skipped = [line for line in err.splitlines() if "is skipped" in line]
        assert len(skipped) == len(DAMAGE), (verb, err)
        for kind, (_, why) in DAMAGE.items():
            (line,) = (line for line in skipped if f"runs/{kind} is skipped" in line)
            assert why in line, (verb, kind)
    assert rows(tmp_path / "fig1.csv")[0]["most_seeds"] == "2"
    drawn = {row["seed"] for row in rows(tmp_path / "learning_curves.csv")}
    assert drawn == {"0", str(1 + len(DAMAGE))}
    make_run(tmp_path / "runs" / "d", task="dog-run", seed=20, eval_episodes=3)
    for verb in ("compare runs", "plot runs", "figure fig1 runs"):
        code, _, err = run_cli(*verb.split())
        assert (code, "eval_episodes is 5 in runs/a and 3 in runs/d" in err) == (0, True)
        assert "protocol 1 has eval_episodes 5 (2 runs)" in err


def test_junk_for_diagnostics_costs_that_run_s_diagnostics_alone(run_cli, tmp_path):
    for seed, name in enumerate("abc"):
        run = make_run(tmp_path / "runs" / name, task="dog-run", seed=seed, eval_rows=[(100, 50 + seed)])
        (run / "metrics.csv").write_text(
            f"seed,frames,critic_norm\n{seed},100,{'junk' if name == 'b' else 3}\n"
        )
    code, _, err = run_cli("figure", "fig3", "runs")
    assert (code, "runs/b/metrics.csv is skipped" in err) == (0, True)
    assert {row["quantity"]: row["most_seeds"] for row in rows(tmp_path / "fig3.csv")} == {
        "score": "3", "critic_norm": "2",
    }  # fmt: skip


def test_a_tidy_table_alone_is_enough(run_cli, reference, tmp_path):
    assert run_cli("figure", "fig5", reference, "--systems", "SimBa")[0] == 0
    with open(tmp_path / "fig5.csv", newline="") as file:
        assert {row["frames"] for row in csv.DictReader(file)} == {"400"}


def test_training_episodes_are_drawn_at_the_rows_at_which_one_has_ended(run_cli, tmp_path):
    run = make_run(tmp_path / "run", eval_every=0, real_time=20.0, eval_rows=())
    counts = [(50, "", 0), (100, 3.0, 1), (150, 3.0, 1), (200, 3.0, 2), (250, 4.0, 4), (300, 4.0, 4)]
    lines = [f"0,{frames},{episodes},{told}\n" for frames, told, episodes in counts]
    (run / "metrics.csv").write_text("seed,frames,episodes,episode_return\n" + "".join(lines))
    assert run_cli("plot", run, "--out", tmp_path / "picture")[0] == 0
    drawn = [(row["env_step"], row["value"]) for row in rows(tmp_path / "picture.csv")]
    assert drawn == [("100", "3.0"), ("200", "3.0"), ("250", "4.0")]


def test_scores_below_zero_are_points_since_the_longest_bar_would_be_the_worst(tmp_path):
    for seed, score in enumerate((-5.0, -6.0)):
        make_run(tmp_path / str(seed), seed=seed, eval_rows=[(100, score)])
        make_run(tmp_path / f"better-{seed}", seed=seed, eval_rows=[(100, -1.0)], hyperparameters={"utd": 5})
    for name in ("fig1", "fig5"):
        picture = FIGURES[name](Source.of([tmp_path]))
        (axes,) = picture.figure.axes
        assert not axes.patches
        assert "points: IQM over runs" in picture.figure.get_supxlabel()
    (axes,) = FIGURES["fig1"](Source.of([tmp_path])).figure.axes
    assert [line.get_ydata()[0] for line in axes.lines[:2]] == pytest.approx([-0.0055, -0.001])


def test_scores_that_are_all_zero_are_seen_as_points(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / str(seed), seed=seed, eval_rows=[(100, 0.0)])
    for name in ("fig1", "fig5"):
        picture = FIGURES[name](Source.of([tmp_path]))
        (axes,) = picture.figure.axes
        assert not axes.patches
        assert not axes.lines[0].get_clip_on()
        assert "points: IQM over runs; whiskers: " in picture.figure.get_supxlabel()


def test_ticks_of_frames_fill_the_axis():
    _, axes = single(5, 3)
    for end in (800, 900):
        axes.plot([0, end], [0, 1])
        x_axes([axes], "frames")
        assert axes.get_xticks().tolist()[1:4] == [250, 500, 750]
