"""Does a search train in stages, judge trials at equal frames, and go on where it was stopped?"""

import errno
import json
import math
import os
from importlib.util import find_spec

import pytest

import helpers
from crossq_wn.errors import UserError
from crossq_wn.runs.seals import signed
from crossq_wn.sweeps import search, trials
from crossq_wn.sweeps.driver import Need, Sweep
from crossq_wn.sweeps.driving import drive
from crossq_wn.sweeps.history import keep_plan
from crossq_wn.sweeps.search import Search
from crossq_wn.sweeps.sheets import parse
from crossq_wn.sweeps.states import state_of
from crossq_wn.sweeps.trials import at, example, runs_of, stages_of, value_of

NO_OPTUNA = pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
FILE = """
seeds_per_process = 1
[defaults]
task = "dog-run"
frames = 90_000
warmup = 1000
eval_every = 5000
seeds = "0:2"
[search]
trials = 12
keep = 3
[search.space]
actor_learning_rate = {low = 1e-5, high = 1e-1, log = true}
batch_size = {low = 8, high = 64, step = 8}
utd = [1, 2]
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials = 12", "", "search.trials is missing: give a whole number from 1 to 10,000"),
        ("trials = 12", "trials = 0", "search.trials is 0"),
        ("keep = 3", "keep = true", "search.keep is true"),
        ("keep = 3", "kep = 3", "search: unknown key 'kep': did you mean 'keep'?"),
        ("[search.space]", "[search.spaces]", "lacks [search.space]"),
        ("high = 64, step = 8", "high = 4", "low is 8, high is 4: low is less"),
        ("high = 64, step = 8", "high = 64, step = 0", "step positive"),
        ("high = 64, step = 8", "high = nan", "low, high and step are numbers"),
        ("low = 1e-5", "low = 0.0", "with log, low is above 0"),
        ("log = true", "lg = true", "unknown key 'lg': did you mean 'log'?"),
        ("utd = [1, 2]", "utd = []", "search.space.utd is []: give a list of values, or"),
        ("utd = [1, 2]", "utd = 3", "search.space.utd is 3"),
        ("utd = [1, 2]", "task = ['dog-run']", "task cannot be searched"),
        ("[search]", "[grid]\nutd = [1, 2]\n[search]", "leave out the grid, list and groups"),
        ('seeds = "0:2"', "utd = 3", "utd is searched and has a default"),
    ],
)
def test_what_is_wrong_with_a_search_is_said_in_one_line(old, new, says):
    assert old in FILE
    with pytest.raises(UserError) as error:
        parse(FILE.replace(old, new), "file")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_trial_is_trained_in_stages_that_end_with_evaluations(tmp_path):
    sheet = parse(FILE, "file")
    runs = example(sheet, tmp_path)
    assert [run.config.options.seeds for run in runs] == [(0,), (1,)]
    assert (runs[0].config.settings.batch_size, runs[0].config.system.utd) == (64, 2)
    assert stages_of(runs[0], sheet.search) == [10_000, 30_000, 90_000]
    # The pruner compares at `keep` times what it began with.
    uneven = example(parse(FILE.replace("90_000", "300_000").replace("5000", "25_000"), "file"), tmp_path)
    assert stages_of(uneven[0], sheet.search) == [50_000, 150_000, 300_000]
    assert stages_of(at(runs[0], 10_000), sheet.search) == [5000, 10_000]
    assert stages_of(at(runs[0], 4000), sheet.search) == [4000]
    assert stages_of(runs[0], parse(FILE.replace("keep = 3", "keep = 1"), "file").search) == [90_000]


def test_what_depends_on_the_length_of_a_run_is_that_of_the_whole_run(tmp_path):
    sheet = parse(FILE.replace('task = "dog-run"', 'task = "dog-run"\nalgorithm = "simba-v2"'), "file")
    (run, _) = example(sheet, tmp_path)
    decisions = run.config.settings.learning_rate_updates
    assert decisions is not None
    assert run.config.options.frames == 90_000
    short = at(run, 10_000)
    assert short.config.settings.learning_rate_updates == decisions
    assert ("learning_rate_updates", decisions) in short.config.system.changes  # so the command says so
    assert short.path == run.path


# --- Whole searches, with training of straw


def worth(config):
    """Best at a learning rate of 1e-3, and better the longer it is trained."""
    return -abs(math.log10(config.settings.actor_learning_rate) + 3) - 1 / config.options.frames


class Straw:
    """Trains at once."""

    def __init__(self, stop=10**9):
        self.started, self.last = [], stop

    def places(self):
        return 4

    def free_memory(self):
        return None

    def free(self, slots, others):
        return slots[len(others) :]

    def start(self, run, state, slot, memory):
        if len(self.started) == self.last:
            raise KeyboardInterrupt
        self.started.append(run)
        run.path.mkdir(parents=True, exist_ok=True)
        frames, config = run.config.options.frames, run.config
        (run.path / "config.json").write_text(json.dumps(signed(config.to_json())))
        (run.path / "checkpoints" / f"{frames:09d}").mkdir(parents=True)
        with open(run.path / "eval.csv", "a") as file:
            if state.kind == "missing":
                file.write("exp_name,env_name,seed,metric,env_step,value\n")
            file.write(
                f"x,{config.task},{config.options.seeds[0]},{config.metric},{frames},{worth(config)}\n"
            )
        return self

    def ended(self):
        return True

    def memory(self):
        return 0

    def worked(self):
        return 1.0

    def node(self):
        return "here"

    def stop(self):
        pass


def searched(tmp_path, straw, text=FILE):
    sheet, said = parse(text, "file"), []
    finder = Search(sheet, tmp_path, said.append)
    sweep = Sweep(finder.known(), tmp_path, straw, 4, lambda run: Need(1.0, 1), lambda line: None)
    result = drive(sweep, lambda seconds: None, lambda: finder.advance(sweep))
    return finder, sweep, result, said


@NO_OPTUNA
def test_a_search_trains_the_best_further(tmp_path):
    straw = Straw()
    finder, _, result, said = searched(tmp_path, straw)
    assert result == (None, {})
    trials = finder.study.get_trials()
    assert len(trials) == len(said) == 12
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    frames = {}
    for trial in trials:
        for run in runs_of(finder.sheet, tmp_path, trial.params):
            frames.setdefault(trial.number, set()).add(state_of(at(run, 10_000)).frames)
            assert state_of(at(run, max(trial.intermediate_values))).kind == "finished"
        assert frames[trial.number] == {max(trial.intermediate_values)}  # nothing is trained beyond its stage
        for stage, value in trial.intermediate_values.items():
            (run, *_) = runs_of(finder.sheet, tmp_path, trial.params)
            assert value == pytest.approx(worth(at(run, stage).config))
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert {max(frames[trial.number]) for trial in whole} == {90_000}
    assert 1 <= len(whole) <= 6
    assert len(straw.started) == sum(2 * len(trial.intermediate_values) for trial in trials)
    best = max(whole, key=lambda trial: trial.value)
    told = f"the best of {len(whole)} whole trials: trial {best.number} (actor_learning_rate "
    assert finder.best().startswith(told)
    # Started again, there is nothing to do, and all runs are known.
    again, _, result, said = searched(tmp_path, Straw(stop=0))
    assert (result, said) == ((None, {}), [])
    assert len(again.known()) == len({run.path for run in straw.started})


@NO_OPTUNA
def test_a_search_that_is_stopped_goes_on(tmp_path):
    for stop in (5, 4):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path, Straw(stop))
    left = Straw()
    finder, *_ = searched(tmp_path, left)
    trials = finder.study.get_trials()
    assert len(trials) == 12
    assert not finder.active
    total = sum(2 * len(trial.intermediate_values) for trial in trials)
    assert len(left.started) == total - 9  # nothing is trained twice
    proposals = {tuple(trial.params.values()) for trial in trials}
    assert len(proposals) == 12  # nor proposed twice


@NO_OPTUNA
def test_a_stage_has_ended_when_its_processes_have(tmp_path):
    """The run directory may say so sooner."""
    sheet, straw = parse(FILE, "file"), Straw()
    finder = Search(sheet, tmp_path, lambda line: None)
    sweep = Sweep([], tmp_path, straw, 4, lambda run: Need(1.0, 1), lambda line: None)
    straw.ended = lambda: False
    finder.advance(sweep)
    sweep.fill()
    sweep.states = [state_of(run) for run in sweep.runs]
    assert {state.kind for state in sweep.states} == {"finished"}
    stages = [run.config.options.frames for run in sweep.runs]
    finder.advance(sweep)
    assert [run.config.options.frames for run in sweep.runs][: len(stages)] == stages == [10_000] * 4
    straw.ended = lambda: True
    sweep.collect([])
    finder.advance(sweep)
    assert {30_000} <= {run.config.options.frames for run in sweep.runs}


@NO_OPTUNA
def test_a_trial_whose_run_fails_ends_alone(tmp_path):
    straw, real = Straw(), Straw.start

    def start(run, state, slot, memory):
        if len(straw.started) == 2:
            straw.started.append(run)
            raise UserError("failed: no such option")
        return real(straw, run, state, slot, memory)

    straw.start = start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "_STAGES", 1)
        patch.setattr("crossq_wn.sweeps.driver.is_final", lambda cause, code, state: True)
        finder, _, result, said = searched(tmp_path, straw, FILE.replace("trials = 12", "trials = 3"))
    assert len(result.failed) == 1
    states = sorted(trial.state.name for trial in finder.study.get_trials())
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]
    assert sum(line.endswith(" failed") for line in said) == 1


@NO_OPTUNA
def test_an_outage_uses_up_no_search(tmp_path):
    class Full(Straw):
        def start(self, run, state, slot, memory):
            if len(self.started) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().start(run, state, slot, memory)

    def names(finder):
        return [trial.state.name for trial in finder.study.get_trials()]

    sheet, now = parse(FILE, "file"), [0.0]
    finder = Search(sheet, tmp_path, lambda line: None)
    sweep = Sweep([], tmp_path, Full(), 4, lambda run: Need(1.0, 1), lambda line: None, clock=lambda: now[0])

    def sleep(seconds):
        now[0] += 60

    with pytest.raises(UserError, match="no run has got further here for a day"):
        drive(sweep, sleep, lambda: finder.advance(sweep))
    assert (len(sweep.waiting), sweep.failed) == (4, {})
    assert {*names(finder)[2:]} == {"RUNNING"}
    assert len(names(finder)) < 12
    again, _, result, _ = searched(tmp_path, Straw())
    assert result == (None, {})
    assert {*names(again)} == {"COMPLETE", "PRUNED"}


@NO_OPTUNA
@pytest.mark.parametrize("first", [3, 4, 30])
def test_a_disk_that_takes_half_a_record_for_a_while_costs_a_search_nothing(first, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    journal = optuna.storages.journal.JournalFileBackend
    real, writes, now = journal.append_logs, [], [0.0]

    def append(self, logs):
        writes.append(now[0])
        if first <= len(writes) < first + 12:
            with open(self._file_path, "ab") as file:
                file.write(b'{"op_code": 4,')
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, logs)

    def sleep(seconds):
        now[0] += 10

    monkeypatch.setattr(journal, "append_logs", append)
    sheet, said = parse(FILE, "file"), []
    finder = Search(sheet, tmp_path, said.append)
    sweep = Sweep([], tmp_path, Straw(), 4, lambda run: Need(1.0, 1), lambda line: None, clock=lambda: now[0])
    assert drive(sweep, sleep, lambda: finder.advance(sweep)) == (None, {})
    trials = finder.study.get_trials()
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    assert len(trials) == finder.space.trials
    assert sum("the search waits" in line for line in said) == 12
    assert writes[first + 11] - writes[first] > 100  # with pauses
    assert len(Search(sheet, tmp_path, said.append).study.get_trials()) == len(trials)


def test_an_evaluation_that_is_missing_is_worth_nothing(tmp_path):
    (run, other) = example(parse(FILE, "file"), tmp_path)
    assert value_of([run]) is None
    run.path.mkdir(parents=True)
    other.path.mkdir(parents=True)
    head = "exp_name,env_name,seed,metric,env_step,value\n"
    (run.path / "eval.csv").write_text(f"{head}x,dog-run,0,return,85000,1.0\n")
    assert value_of([run]) is None
    (run.path / "eval.csv").write_text(f"{head}x,dog-run,0,return,90000,3.0\n")
    (other.path / "eval.csv").write_text(f"{head}x,dog-run,1,return,90000,5.0\n")
    assert value_of([run, other]) == 4.0
    for damaged in (f"{head}x,dog-run,1,return,90000,nan\n", f"{head}x,dog-run,1,return,90000,1.\0\n",
                    f"{head}x,dog-run,1,return,90000\n", "a,b\n1,2\n"):  # fmt: skip
        (other.path / "eval.csv").write_text(damaged)
        assert value_of([run, other]) is None


@NO_OPTUNA
def test_a_trial_that_another_sweep_has_judged_is_left_to_it(tmp_path):
    sheet, said = parse(FILE, "file"), []
    straw = Straw()
    straw.ended = lambda: False
    one = Search(sheet, tmp_path, lambda line: None)
    sweep = Sweep([], tmp_path, straw, 4, lambda run: Need(1.0, 1), lambda line: None)
    one.advance(sweep)
    other = Search(sheet, tmp_path, said.append)
    adopted = [trial.trial.number for trial in other.active]
    assert len(adopted) >= 2
    for number in adopted:
        one.study.tell(number, state=search.optuna.trial.TrialState.FAIL)
    (first, *_), more = other.active, Sweep([], tmp_path, Straw(), 4, lambda run: Need(1.0, 1), said.append)
    for run in first.runs:
        straw.start(other._at_stage(first, run), state_of(run), 0, 0)
    first.numbers = [more.add(other._at_stage(first, run)) for run in first.runs]
    other._judge(first, more)
    assert first not in other.active
    other.advance(more)
    assert not {trial.trial.number for trial in other.active} & {*adopted}


# The scale goes with one of the two norms alone.
IDLE = 'utd = [1]\nweight_norm = ["none", "l2"]\nl2_scale = [0.1, 0.2]'


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("utd = [1, 2]", 'preset = ["defualt", "default"]', 'space.preset = "defualt" cannot be trained'),
        ("utd = [1, 2]", "utd = [0, 2]", "space.utd = 0 cannot be trained: .*utd is 0"),
        ("low = 8, high = 64, step = 8", "low = -8, high = 64, step = 8", "space.batch_size = -8 cannot be"),
        ("utd = [1, 2]", "utd = [1]\nl2_scale = [0.1]", "space.l2_scale = 0.1 cannot be trained: .*unless"),
        ("low = 8, high = 64, step = 8", "low = 8.0, high = 64.0", "space.batch_size = .* a whole number"),
        ("dog-run", "helpers:PointMas", "space.actor_learning_rate = 1e-05 cannot be trained: .*PointMas"),
    ],
)  # fmt: skip
def test_a_value_with_which_no_trial_can_be_trained_is_refused_beforehand(old, new, says, tmp_path):
    sheet = parse(FILE.replace(old, new), "file")
    with pytest.raises(UserError, match=says):
        trials.refuse_hopeless(sheet, tmp_path)


def test_values_that_some_trials_can_be_trained_with_are_accepted(tmp_path):
    trials.refuse_hopeless(parse(FILE.replace("utd = [1, 2]", IDLE), "file"), tmp_path)


@NO_OPTUNA
def test_options_that_make_no_run_end_their_trial_alone(tmp_path):
    text = FILE.replace("utd = [1, 2]", IDLE)
    finder, _, result, said = searched(tmp_path, Straw(), text)
    assert result == (None, {})
    failed = [trial for trial in finder.study.get_trials() if trial.state.name == "FAIL"]
    assert {trial.params["weight_norm"] for trial in failed} == {"none"}
    assert sum("cannot be trained: " in line and "l2_scale" in line for line in said) == len(failed) > 0
    assert len(finder.study.get_trials()) == 12
    assert searched(tmp_path, Straw(stop=0), text)[0].known()


@NO_OPTUNA
def test_a_trial_that_makes_no_run_and_was_left_running_ends_alone_too(tmp_path):
    """As where the process was killed, or is about to say so itself."""
    text = FILE.replace("utd = [1, 2]", IDLE)
    sheet, said = parse(text, "file"), []
    first = Search(sheet, tmp_path, lambda line: None)
    first.study.enqueue_trial({"weight_norm": "none"})
    first._suggest(first.study.ask())
    assert Search(sheet, tmp_path, said.append, write=False).known() == []
    second = Search(sheet, tmp_path, said.append)
    assert second.active == []
    assert [trial.state.name for trial in second.study.get_trials()] == ["FAIL"]
    assert len(said) == 1
    assert "trial 0 cannot be trained: " in said[0]


@NO_OPTUNA
def test_a_record_of_another_space_is_one_line(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, Straw(3))
    with pytest.raises(UserError, match=r"search.journal is of another \[search.space\] .*move it away"):
        searched(tmp_path, Straw(), FILE.replace("utd = [1, 2]", "utd = [1, 2, 5]"))


@NO_OPTUNA
def test_a_look_at_a_search_changes_nothing(tmp_path):
    searched(tmp_path, Straw())
    record = tmp_path / ".sweep" / "search.journal"
    before = record.read_bytes()
    assert Search(parse(FILE, "file"), tmp_path, print, write=False).known()
    assert record.read_bytes() == before


@NO_OPTUNA
def test_a_search_on_the_command_line(tmp_path):
    (tmp_path / "find.toml").write_text(FILE)
    dry = helpers.call("sweep", "find.toml", "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert "24 of 24 runs to train: about " in dry.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"find.toml"}
    said = helpers.call("sweep", "find.toml", "--on", "slurm", "--yes", cwd=tmp_path)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "a search takes neither --on slurm nor --store" in said.stderr
    finder, *_ = searched(tmp_path / "out", Straw())
    keep_plan(tmp_path / "out", FILE)
    shown = json.loads(helpers.call("sweep", "--status", "out", "--json", cwd=tmp_path).stdout)
    assert {line["state"] for line in shown} == {"done"}
    assert len(shown) == len(finder.known())
    (tmp_path / "out" / ".sweep" / "search.journal").write_text("{\n")
    said = helpers.call("sweep", "out", "--yes", cwd=tmp_path)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "search.journal cannot be used" in said.stderr


def test_a_search_without_optuna_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\[search\] needs Optuna: .*pip install .*\[search\]"):
        Search(parse(FILE, "file"), tmp_path, print)


@NO_OPTUNA
def test_a_bill_leaves_out_the_trials_that_have_ended(tmp_path):
    sheet = parse(FILE, "file")
    runs, states = Search(sheet, tmp_path / "new", print, write=False).prospect()
    assert {state.kind for state in states} == {"missing"}
    assert len(runs) == 12 * 2
    searched(tmp_path / "out", Straw())
    runs, states = Search(sheet, tmp_path / "out", print, write=False).prospect()
    assert len(runs) == len(states) == 12 * 2
    assert {state.kind for state in states} == {"finished"}
