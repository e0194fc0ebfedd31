"""What is shown of a training: what it is doing, rates that are true now, the last evaluation last."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
import helpers
from crossq_wn.runs.seals import signed
from crossq_wn.training import compiling, display, progress, reporting
from crossq_wn.training import forecast as forecasts
from crossq_wn.training.progress import Pace, Recent, Status, short
from crossq_wn.types import Burst
from helpers import TINY_OPTIONS, TINY_SETTINGS, rows


class Screen:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.statuses, self.messages = [], []

    def status(self, status):
        self.statuses.append(status)

    def message(self, text):
        self.messages.append(text)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A run that ends between two evaluations, and what was told of it."""
    screen = Screen()
    out = tmp_path_factory.mktemp("followed") / "run"
    crossq_wn.train(
        helpers.PointMass, frames=250, seeds=[0], out=out, reporter=screen, **TINY_OPTIONS, **TINY_SETTINGS
    )
    return out, screen


def test_the_last_word_is_the_last_evaluation(followed):
    out, screen = followed
    last = [float(row["value"]) for row in rows(out / "eval.csv") if row["metric"] == "return"][-1]
    before = [float(row["value"]) for row in rows(out / "eval.csv") if row["metric"] == "return"][-2]
    ending = screen.statuses[-1]
    assert (ending.phase, ending.frames, ending.total_frames) == ("done", 250, 250)
    assert ending.evaluations == {0: last}
    assert last != before
    assert f"return {last:.3g}" in display.describe(ending)


def test_it_says_what_it_is_doing_in_order(followed):
    phases = []
    for status in followed[1].statuses:
        if not phases or phases[-1] != status.phase:
            phases.append(status.phase)
    start = [
        "evaluating",
        "collecting",
        "compiling",
        "training",
        "compiling",
        "training",
        "evaluating",
        "training",
    ]
    assert phases == [*start, "evaluating", "training", "done"]


def test_while_programs_compile_no_rate_of_the_warm_up_stands(followed):
    compiling, diagnosing = [status for status in followed[1].statuses if status.phase == "compiling"]
    assert compiling.updates == 0 < diagnosing.updates  # the second program is that of diagnostics
    shown = display.describe(replace_rates(compiling))
    assert "compiling" in shown
    assert "/s" not in shown


def replace_rates(status):
    return status._replace(frames_per_second=900.0, updates_per_second=7.0)


STATUS = Status(
    frames=2_000, total_frames=20_000, decisions=1_000, updates=0, frames_per_second=900.0,
    updates_per_second=0.0, rows=[], evaluations={}, metric="return", seconds_left=None, phase="collecting",
    warmup_frames=10_000,
)  # fmt: skip
LATER = " | time left: known once updates begin"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"collecting until 10,000 frames | 2,000 frames | 900 frames/s{LATER}"),
        (
            {"compiling": True},
            f"collecting until 10,000 frames, compiling meanwhile | 2,000 frames | 900 frames/s{LATER}",
        ),
        ({"phase": "compiling"}, f"compiling | 2,000 frames{LATER}"),
        ({"phase": "training", "updates": 9}, "training | 2,000 frames | time left: being measured"),
        (
            {"phase": "compiling", "forecast": 40.0},
            "compiling | 2,000 frames | roughly 40 s left",
        ),
        (
            {"phase": "training", "forecast": 40.0, "seconds_left": 50.0},
            "training | 2,000 frames | 50 s left",
        ),
        (
            {
                "phase": "training",
                "updates_per_second": 118.2,
                "seconds_left": 720.0,
                "evaluations": {0: 3.0},
            },
            "training | 2,000 frames | 118 updates/s | return 3 | 12 min left",
        ),
        ({"phase": "evaluating", "seconds_left": 40.0}, "evaluating | 2,000 frames | 40 s left"),
        ({"phase": "training", "seconds_left": 9000.0}, "training | 2,000 frames | 2.5 h left"),
        (
            {"phase": "done", "seconds_left": 0.0, "rows": [{"critic_loss": 0.5}]},
            "done | 2,000 frames | loss 0.5",
        ),
    ],
)
def test_a_line_has_what_is_true_now(changes, line):
    assert display.describe(STATUS._replace(**changes)) == line


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (0.123456, "0.123"),
        (204.4, "204"),
        (999.4, "999"),
        (1000.0, "1000"),
        (-1234.5, "-1234"),
        (2.5e7, "2.5e+07"),
    ],
)
def test_a_score_of_a_thousand_has_its_digits(score, shown):
    assert short(score) == shown


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_rate_is_that_of_the_last_seconds_of_the_phase(clock):
    recent = Recent()
    assert recent.age() == float("inf")
    assert recent.rates(1_000, 0) == (0, 0)  # nothing is known yet
    for second in range(1, 31):  # 200 frames/s, then 20
        clock[0] += 1
        rates = recent.rates(1_000 + (200 * min(second, 10) + 20 * max(0, second - 10)), 3 * second)
        if second == 5:
            assert rates == (200, 3)
    assert rates == (20, 3)
    recent.begin()
    assert recent.rates(5_000, 90) == (0, 0)
    clock[0] += 2
    assert recent.age() == 2
    assert recent.rates(5_010, 94) == (5, 2)


def test_time_left_counts_evaluations_apart_from_decisions(clock):
    pace = Pace()
    pace.set_apart(30.0, evaluation=True)  # the first one compiles
    assert pace.seconds_left(0, 500, 4) is None
    assert pace.seconds_left(1, 500, 4) is None  # the clock begins
    clock[0] += 10
    assert pace.seconds_left(101, 501, 4) == pytest.approx(400 * 0.1 + 4 * 30)
    clock[0] += 6
    pace.set_apart(6.0, evaluation=True)
    clock[0] += 5
    pace.set_apart(5.0, evaluation=False)  # the program of diagnostics was compiled
    assert pace.seconds_left(101, 501, 3) == pytest.approx(400 * 0.1 + 3 * 6)


def test_time_left_after_a_resumption_leaves_its_compilation_out(clock):
    pace = Pace()
    assert pace.seconds_left(100, 1_000, 0) is None  # compilation begins
    clock[0] += 30
    pace.set_apart(30.0, evaluation=False)
    assert pace.seconds_left(100, 1_000, 0) is None
    assert pace.seconds_left(101, 1_000, 0) is None
    clock[0] += 5
    assert pace.seconds_left(151, 1_000, 0) == pytest.approx(849 * 0.1)


@given(
    warmup=st.integers(1, 50), utd=st.integers(1, 4), rounds=st.integers(0, 60), every=st.integers(1, 40),
    single=st.booleans(), decisions=st.integers(3, 100), second=st.floats(0.001, 1),
)  # fmt: skip
def test_time_left_is_exact_where_updates_alone_take_time(
    warmup, utd, rounds, every, single, decisions, second
):
    """Whatever bursts an algorithm makes: the first one, with its compilation, gives no rate."""
    burst = Burst(rounds * utd, None if single else every)
    with pytest.MonkeyPatch.context() as patch:
        now = [100.0]
        patch.setattr(progress.time, "perf_counter", lambda: now[0])
        pace, total, known = Pace(), burst.with_regular(decisions, utd), []
        assert pace.seconds_left(burst.with_regular(0, utd), total, 0) is None
        now[0] += 40  # compilation
        for decision in range(decisions):
            now[0] += second * (burst.at(decision) + utd)
            done = burst.with_regular(decision + 1, utd)
            known.append(pace.seconds_left(done, total, 0))
            if decision:
                assert known[-1] == pytest.approx(second * (total - done), abs=1e-6)
    assert known[0] is None


def test_time_left_is_known_from_the_second_decision_with_updates_and_ends_at_nothing(followed):
    shown = [status.seconds_left for status in followed[1].statuses if status.updates]
    known = [seconds is not None for seconds in shown]
    assert known == sorted(known)  # once there, it stays
    assert (known[0], shown[-1]) == (False, 0)


def test_until_updates_have_a_pace_time_left_follows_from_the_sizes(followed, monkeypatch):
    early = [status for status in followed[1].statuses if status.seconds_left is None]
    assert len(early) > 2
    known = [status.forecast is not None for status in early]
    assert known == sorted(known)  # once the rate of the warm-up is known, it stays
    assert all(status.forecast > 0 for status in early if status.forecast is not None)
    assert all(None in (status.forecast, status.seconds_left) for status in followed[1].statuses)

    def session(real_time=None, prior=None, **changes):
        config = SimpleNamespace(
            decisions=1_000, action_repeat=2, settings=SimpleNamespace(batch_size=256),
            options=SimpleNamespace(real_time=real_time),
        )  # fmt: skip
        states = [{"kernel": np.zeros((100, 1_000))}, np.zeros(100_000)]
        known = {"config": config, "decisions": 400, "states": states}
        return SimpleNamespace(**known | {"algorithm": SimpleNamespace(prior=prior)} | changes)

    monkeypatch.setattr(forecasts, "multiply_adds_per_second", lambda: 1e9)
    update = 2 * 1.5 * 256 * 200_000 / 1e9 + 3e-5
    assert forecasts.forecast(session(), 500, 0.0) is None  # what environments take is not known yet
    assert forecasts.forecast(session(), 500, 300.0) == pytest.approx(500 * update + 600 * 2 / 300)
    assert forecasts.forecast(session(real_time=50.0), 500, 0.0) == 600 / 50
    assert forecasts.forecast(session(prior=print), 500, 300.0) is None  # TD-MPC2 plans
    assert forecasts.forecast(session(states=None), 500, 300.0) is None
    monkeypatch.setattr(forecasts, "jax", SimpleNamespace(default_backend=lambda: "gpu"))
    assert forecasts.forecast(session(), 500, 300.0) is None


def test_the_forecast_goes_by_the_rate_at_which_it_last_collected_and_counts_all_that_follows(monkeypatch):
    shown, now, seconds = [], {}, [100.0]
    monkeypatch.setattr(reporting, "forecast", lambda session, updates, rate: rate or None)
    monkeypatch.setattr(reporting, "_seconds_left", lambda session: now["left"])
    config = SimpleNamespace(
        trained_frames=20, decisions=20, action_repeat=1, metric="return",
        settings=SimpleNamespace(warmup=10, utd=1),
        options=SimpleNamespace(eval_every=10, real_time=None, log_every=10, diagnostics=False),
    )  # fmt: skip
    session = SimpleNamespace(
        config=config, seeds=[], frames=5, decisions=5, updates=0, rows=[], compiling=None, finished=False,
        collecting_rate=0.0, pace=Pace(), compiling_since=seconds[0],
        diagnosed=False, learner=SimpleNamespace(diagnose=print),
        algorithm=SimpleNamespace(burst=Burst()), recent=SimpleNamespace(rates=lambda *_: (now["rate"], 0.0)),
        reporter=SimpleNamespace(status=lambda status: shown.append(status.forecast)),
    )  # fmt: skip
    for session.phase, rate, left in [
        ("evaluating", 0.0, None), ("collecting", 0.0, None), ("collecting", 300.0, None),
        ("evaluating", 0.0, None), ("collecting", 0.0, None), ("compiling", 0.0, None),
        ("training", 20.0, None), ("training", 20.0, 50.0),
    ]:  # fmt: skip
        now.update(rate=rate, left=left)
        reporting.report(session)
    assert shown == [None, None, 300.0, 300.0, 300.0, 300.0, 300.0, None]
    # Two evaluations follow, a third one is under way or not, and compiling takes 20 s, or once it has taken
    # longer, half as long again; diagnostics are compiled later.
    session.pace.set_apart(4.0, evaluation=True)
    monkeypatch.setattr(compiling, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    now.update(rate=0.0, left=None)
    for session.phase, session.compiling, elapsed, forecast in [
        ("collecting", None, 0.0, 308.0), ("evaluating", None, 0.0, 312.0),
        ("compiling", SimpleNamespace(is_alive=lambda: True), 0.0, 328.0),
        ("compiling", SimpleNamespace(is_alive=lambda: True), 12.0, 316.0),
        ("compiling", SimpleNamespace(is_alive=lambda: True), 60.0, 338.0),
        ("compiling", SimpleNamespace(is_alive=lambda: False), 60.0, 308.0),
    ]:  # fmt: skip
        seconds[0] = 100.0 + elapsed
        reporting.report(session)
        assert shown[-1] == forecast
    config.options.diagnostics = True
    for session.diagnosed, session.frames, forecast in [
        (False, 5, 318.0), (True, 5, 308.0), (False, 20, 300.0)  # no row of metrics follows on the last one
    ]:  # fmt: skip
        reporting.report(session)
        assert shown[-1] == forecast


def test_a_warm_up_that_is_over_at_once_has_a_rate_for_the_forecast(clock, monkeypatch):
    monkeypatch.setattr(reporting, "report", lambda session: session.recent.rates(session.frames, 0))
    session = SimpleNamespace(phase="collecting", collecting_rate=0.0, frames=0, recent=Recent())
    reporting.enter(session, "collecting")
    assert session.collecting_rate == 0  # nothing is known yet
    clock[0] += 0.25
    session.frames = 500
    assert session.recent.rates(session.frames, 0) == (0, 0)  # too short a time to show one
    for phase in ("compiling", "collecting"):
        reporting.enter(session, phase)
        assert session.collecting_rate == 2000


def test_the_speed_of_this_machine_is_measured_once():
    found = forecasts.multiply_adds_per_second()
    assert 1e8 < found == forecasts.multiply_adds_per_second()


def test_it_reports_every_second_though_no_row_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "_EVERY", 0.0)
    screen = Screen()
    options = {"frames": 150, "seeds": [0], **TINY_OPTIONS, **TINY_SETTINGS} | {"log_every": 1_000}
    crossq_wn.train(helpers.PointMass, out=tmp_path / "run", reporter=screen, **options)
    training = {status.decisions for status in screen.statuses}
    assert len(training) > 50


def test_a_log_has_the_end_even_just_after_another_line(monkeypatch):
    out = io.StringIO()
    shown = display.PlainReporter(display.Console(file=out, width=160))
    for phase in ("collecting", "collecting", "compiling", "training", "done"):
        shown.status(STATUS._replace(phase=phase))
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["collecting", "compiling", "done"]


def test_python_shows_what_the_command_line_shows(followed, capsys):
    out, _ = followed
    assert crossq_wn.resume(out, frames=300, progress=True).finished
    said = capsys.readouterr().out
    assert "resumed from the checkpoint at 250 frames" in said
    assert said.splitlines()[-1].startswith("done | 300 frames | return ")
    crossq_wn.resume(out, frames=np.array(320))
    assert capsys.readouterr().out == ""


def test_a_finished_run_is_left_as_it_is(tmp_path):
    screen, out = Screen(), tmp_path / "run"
    options = {"frames": 150, "seeds": [0, 1], "out": out, **TINY_OPTIONS, **TINY_SETTINGS}
    first = crossq_wn.train(helpers.PointMass, **options)
    files = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("[!.]*") if path.is_file()
    }
    again = crossq_wn.resume(out, reporter=screen)
    assert again == first._replace(untouched=True, renders=True)  # no environment is made
    assert not again.failed
    assert screen.messages == [
        f"{out} is already trained for 150 frames: nothing to do; frames=300 would train it further"
    ]
    now = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("[!.]*") if path.is_file()
    }
    assert now == files


def died_in_its_last_evaluation(run, rows):
    """Before manifest.json could vouch for the logs; so many rows short, or half a row."""
    values = json.loads((run / "manifest.json").read_text())
    del values["logs"]
    (run / "manifest.json").write_text(json.dumps(signed(values)))
    lines = (run / "eval.csv").read_text().splitlines(keepends=True)
    lines[-1] = "" if rows else lines[-1][:-3]
    (run / "eval.csv").write_text("".join(lines))


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        (lambda run: (run / "metrics.csv").unlink(), "metrics.csv"),
        (
            lambda run: (run / "eval.csv").write_text((run / "eval.csv").read_text().rsplit("\n", 3)[0]),
            "eval.csv",
        ),
        (lambda run: (run / "manifest.json").write_text("{"), "manifest.json"),
        (lambda run: died_in_its_last_evaluation(run, 1), "eval.csv"),  # a whole row is missing
        (lambda run: died_in_its_last_evaluation(run, 0), "eval.csv"),  # half a row
    ],
)
def test_a_finished_run_that_lacks_something_is_mended(damage, mended, tmp_path):
    options = {"frames": 150, "seeds": [0], "out": tmp_path / "run", **TINY_OPTIONS, **TINY_SETTINGS}
    crossq_wn.train(helpers.PointMass, **options)
    before = (tmp_path / "run" / mended).read_bytes()
    damage(tmp_path / "run")
    assert not crossq_wn.resume(tmp_path / "run").untouched
    now = (tmp_path / "run" / mended).read_bytes()
    assert now == before or mended == "manifest.json"
    assert len(now) > 10


def test_training_raises_when_no_seed_is_left(tmp_path):
    options = {"frames": 150, "seeds": [0, 1], **TINY_OPTIONS, **TINY_SETTINGS}
    with pytest.raises(
        crossq_wn.UserError, match=r"(?s)every seed failed: seed 0: .*is on fire.*seed 1: "
    ) as end:
        crossq_wn.train(helpers.Raising, out=tmp_path / "run", **options)
    assert isinstance(end.value.__cause__, RuntimeError)
    assert "is on fire" in str(end.value.__cause__)
