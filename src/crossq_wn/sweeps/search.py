"""Hyperparameter search: Optuna proposes options, and the runs of a sweep say what they are worth.

A trial is trained in stages, each longer than the one before. At the end of each its evaluation is compared
with those of other trials at the same frames, and only the best go on. Optuna's record lies in the sweep's
folder; if it is lost, the runs are still there, and are found again when their options are proposed again.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError, explained, one_line
from crossq_wn.installation import install_command
from crossq_wn.lazy import optuna
from crossq_wn.sweeps.driver import Sweep
from crossq_wn.sweeps.plans import Run
from crossq_wn.sweeps.record import mend, record_of, storage
from crossq_wn.sweeps.sheets import Sheet
from crossq_wn.sweeps.spaces import Range
from crossq_wn.sweeps.states import State, state_of
from crossq_wn.sweeps.trials import at, example, refuse_hopeless, runs_of, stages_of, value_of


@dataclass
class Trial:
    """A proposal that is being tried."""

    trial: Any  # Optuna's
    runs: Sequence[Run]  # to their ends
    stage: int = 0
    numbers: Sequence[int] = ()  # of the runs in the sweep


class Search:
    """Proposes runs to a sweep, and tells what they were worth.

    Args:
        sheet: the sweep's file, which has a space.
        out: the folder of the sweep.
        say: is told of each decision, in one line.
        write: whether to make a record of the search if there is none.

    Raises:
        UserError: Optuna is not installed, its record in the folder cannot be read, or a new search has a
            value with which no run can be trained.
    """

    def __init__(self, sheet: Sheet, out: Path, say: Callable[[str], None], *, write: bool = True) -> None:
        if sheet.search is None:
            raise UserError("the sweep has no [search]")
        self.sheet, self.out, self.space, self._say = sheet, out, sheet.search, say
        if not record_of(out).exists():
            refuse_hopeless(sheet, out)
        try:
            self.study = _study(sheet, out, write=write)
        except UserError:
            raise
        except Exception as error:  # a record that is damaged lets Optuna raise this and that
            raise UserError(
                f"{record_of(out)} cannot be used ({one_line(error)}): move it away, and the runs are "
                "found again"
            ) from None
        self.active: list[Trial] = []
        self._broken = False  # whether the record could not be written
        if write:
            self._take_up()

    def known(self) -> list[Run]:
        """The runs of all trials so far, each up to the frames to which it is to be trained now."""
        found: dict[Path, Run] = {}
        for frozen, runs in self._proposed():
            stages, done = stages_of(runs[0], self.space), len(frozen.intermediate_values)
            ahead = 0 if frozen.state.is_finished() else 1  # stages that it goes on for
            for run in runs:
                found[run.path] = at(run, stages[max(0, min(done - 1 + ahead, len(stages) - 1))])
        return list(found.values())

    def prospect(self) -> tuple[list[Run], list[State]]:
        """The runs of all trials to their ends, and what is done of each; examples but of those under way."""
        runs, states, one = [], [], example(self.sheet, self.out)  # else every trial would be a system
        for frozen, own in self._proposed():
            ended = frozen.state.is_finished()
            runs += one if ended else own
            states += [State("finished", 0) for _ in one] if ended else [state_of(run) for run in own]
        coming = max(0, self.space.trials - len(self.study.get_trials(deepcopy=False)))
        more = one * coming
        return [*runs, *more], [*states, *[State("missing", 0)] * len(more)]

    def _proposed(self) -> Iterator[tuple[Any, list[Run]]]:
        """Yields Optuna's trials with their runs to their ends, without those whose options make none."""
        for frozen in self.study.get_trials(deepcopy=False):
            if len(frozen.params) < len(self.space.options):  # another process is proposing it
                continue
            try:
                yield frozen, runs_of(self.sheet, self.out, frozen.params)
            except UserError:
                if frozen.state.name not in ("FAIL", "RUNNING"):  # or it will be found to make none
                    raise

    def _take_up(self) -> None:
        """Goes on with the trials of a process that has ended, or perhaps of another that shares the work."""
        mine = {trial.trial.number for trial in self.active}
        for frozen in self._trials("RUNNING"):
            if frozen.number not in mine:
                self._adopt(optuna.trial.Trial(self.study, frozen._trial_id))

    def advance(self, sweep: Sweep) -> bool:
        """Judges trials whose stage has ended, and proposes new ones; returns whether there is more to come.

        Args:
            sweep: whose runs are added to and made longer.

        Raises:
            OSError: the record cannot be written, and nothing has got further for a day.
        """
        outage = sweep.outage
        if not outage.usable([0], [], sweep.clock()):
            return True
        try:
            if self._broken:
                mend(self.out)
                self._take_up()
                self._broken = False
            return self._advance(sweep)
        except OSError as error:  # the disk may be full for a while
            self._broken = True
            outage.fail(f"{record_of(self.out)}: {explained(error)}", sweep.clock())
            if outage.hopeless:
                raise
            self._say(f"the search waits: {outage.cause}")
            return True

    def _advance(self, sweep: Sweep) -> bool:
        told = self.study.get_trials(deepcopy=False)
        for trial in list(self.active):
            if told[trial.trial.number].state.is_finished():  # by another sweep on the folder
                self.active.remove(trial)
            else:
                self._look(trial, sweep)
        while len(self.study.get_trials(deepcopy=False)) < self.space.trials and self._room(sweep):
            self._propose(sweep)
        return bool(self.active)

    def _propose(self, sweep: Sweep) -> None:
        """Adds a new trial, unless its options make no run."""
        trial = self._adopt(self.study.ask())
        if trial is not None:
            self._look(trial, sweep)

    def _adopt(self, proposed: Any) -> Trial | None:
        """Makes one of Optuna's trials active; ends it, and returns None, if its options make no run."""
        self._suggest(proposed)  # what was proposed already stays
        try:
            trial = self._adopted(proposed)
        except UserError as reason:
            # Another sweep on the folder may have told it, too.
            self.study.tell(proposed.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            self._say(f"trial {proposed.number} cannot be trained: {reason}")
            return None
        self.active.append(trial)
        return trial

    def _look(self, trial: Trial, sweep: Sweep) -> None:
        """Judges a trial if its stage has ended; adds its runs to the sweep if they are not in it."""
        if not trial.numbers:
            trial.numbers = [sweep.add(self._at_stage(trial, run)) for run in trial.runs]
        if {worker.number for worker in sweep.workers.values()} & {*trial.numbers}:
            return  # a process may still be at the end of its stage
        if any(sweep.runs[number].path in sweep.failed for number in trial.numbers):
            self._end(trial, "FAIL", "failed")
        elif all(_done(sweep, number) for number in trial.numbers):
            self._judge(trial, sweep)

    def best(self) -> str:
        """The best trial, in words."""
        done = self._trials("COMPLETE")
        if not done:
            return "no trial has come to its end"
        top = max(done, key=lambda trial: trial.value)
        told = f"trial {top.number} ({_in_words(top.params)}) is worth {top.value:.4g}"
        return f"the best of {len(done)} whole trials: {told}"

    def _room(self, sweep: Sweep) -> bool:
        wanted = 0
        for trial in self.active:
            wanted += sum(not _done(sweep, number) for number in trial.numbers)
        return wanted < min(sweep.slots, sweep.engine.places())

    def _judge(self, trial: Trial, sweep: Sweep) -> None:
        runs = [sweep.runs[number] for number in trial.numbers]
        value, frames = value_of(runs), runs[0].config.options.frames
        if value is None:
            return self._end(trial, "FAIL", "was not evaluated")
        try:
            trial.trial.report(value, frames)
        except optuna.exceptions.UpdateFinishedTrialError:  # another sweep on the folder has just told
            return self.active.remove(trial)
        if frames >= trial.runs[0].config.options.frames:
            return self._end(trial, "COMPLETE", f"is worth {value:.4g}", value)
        if self.space.keep > 1 and trial.trial.should_prune():
            return self._end(trial, "PRUNED", f"ends with {value:.4g} at {frames:,} frames", value)
        trial.stage += 1
        for number, run in zip(trial.numbers, trial.runs, strict=True):
            sweep.replace(number, self._at_stage(trial, run))
        return None

    def _end(self, trial: Trial, state: str, what: str, value: float | None = None) -> None:
        told = optuna.trial.TrialState[state]
        values = value if state == "COMPLETE" else None
        # Another sweep on the folder may have told already.
        self.study.tell(trial.trial.number, values, state=told, skip_if_finished=True)
        self.active.remove(trial)
        self._say(f"trial {trial.trial.number} ({_in_words(trial.trial.params)}) {what}")

    def _trials(self, state: str) -> list[Any]:
        states = (optuna.trial.TrialState[state],)
        found: list[Any] = self.study.get_trials(deepcopy=False, states=states)
        return found

    def _suggest(self, trial: Any) -> None:
        """Proposes the options of a trial.

        Raises:
            UserError: the record is of another space.
        """
        try:
            for name, choice in self.space.options.items():
                _suggested(trial, name, choice)
        except ValueError as error:
            raise UserError(
                f"{record_of(self.out)} is of another [search.space] ({one_line(error)}): move it away, and "
                "the runs are found again"
            ) from None

    def _adopted(self, trial: Any) -> Trial:
        """A trial with its runs. Raises UserError if its options make none."""
        runs = runs_of(self.sheet, self.out, trial.params)
        done = len(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        return Trial(trial, runs, min(done, len(stages_of(runs[0], self.space)) - 1))

    def _at_stage(self, trial: Trial, run: Run) -> Run:
        return at(run, stages_of(run, self.space)[trial.stage])


def _done(sweep: Sweep, number: int) -> bool:
    """Whether a run is trained to its end, but for seeds that are given up."""
    return sweep.states[number].kind == "finished" or sweep.outlook(number).standing == "done"


def _study(sheet: Sheet, out: Path, *, write: bool) -> Any:
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"[search] needs Optuna: {install_command('search')}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = sheet.search
    assert space is not None
    pruner = optuna.pruners.NopPruner()
    if space.keep > 1:
        first = stages_of(example(sheet, out)[0], space)[0]
        pruner = optuna.pruners.SuccessiveHalvingPruner(first, space.keep)
    kept = storage(out, write=write)
    if kept is not None and not write:
        return optuna.load_study(study_name="search", storage=kept)
    study = optuna.create_study(
        storage=kept, pruner=pruner, study_name="search", direction="maximize", load_if_exists=True
    )
    # A sampler that begins anew would propose again what it proposed before.
    count = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=(space.seed + count) % 2**32)
    return study


def _suggested(trial: Any, name: str, choice: Range | tuple[Any, ...]) -> None:
    if not isinstance(choice, Range):
        trial.suggest_categorical(name, choice)
    elif choice.whole:
        trial.suggest_int(name, choice.low, choice.high, step=choice.step or 1, log=choice.log)
    else:
        trial.suggest_float(name, choice.low, choice.high, step=choice.step, log=choice.log)


def _in_words(options: Any) -> str:
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in options.items())  # fmt: skip
