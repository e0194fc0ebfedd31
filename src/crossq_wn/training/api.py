"""The Python interface of training: what `crossq-wn train` and `crossq-wn resume` do, as functions."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from crossq_wn.algorithms.own_networks import give as give_networks
from crossq_wn.environments import TaskLike
from crossq_wn.errors import UserError, option
from crossq_wn.machine import use_jax
from crossq_wn.own_modules import refuse_while_importing
from crossq_wn.runs import directory
from crossq_wn.runs.beginnings import begun
from crossq_wn.runs.config import RunConfig, with_algorithm
from crossq_wn.runs.folders import named, run_in
from crossq_wn.runs.leases import refuse_if_used
from crossq_wn.runs.recovery import of_length, recover_config
from crossq_wn.runs.trust import remember, require_algorithm, require_task, require_unchanged
from crossq_wn.training.callbacks import checked
from crossq_wn.training.configuring import configure, plain
from crossq_wn.training.film import film, require_filmable
from crossq_wn.training.finished import outcome_if_finished
from crossq_wn.training.logs import require_extras
from crossq_wn.training.loop import run_training
from crossq_wn.training.progress import Outcome, Reporter
from crossq_wn.training.real_time import run_in_real_time
from crossq_wn.training.warmup import require_learning, tell_of_warmup

__all__ = ["Silent", "configure", "go_on", "resume", "start", "train"]


class Silent:
    """A reporter that shows nothing."""

    def status(self, status: Any) -> None:
        """Does nothing."""

    def message(self, text: str) -> None:
        """Does nothing."""


def train(
    task: TaskLike,
    *,
    algorithm: str = "crossq-wn",
    preset: str = "default",
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    callbacks: Sequence[Any] = (),
    **choices: Any,
) -> Outcome:
    """Trains a new run.

    `train("cheetah-run", frames=100_000, seeds=[0, 1], utd=5)` trains two seeds at a UTD ratio of 5.

    Args:
        task: a short name such as dog-run, a Gymnasium id, `module:factory`, or a class or function that
            makes a gymnasium.Env.
        algorithm: one of `crossq-wn list algorithms`, or your own as `module:name`.
        preset: one of `crossq-wn list presets`: the hyperparameters to start from.
        out: the run directory; by default the next free one under runs/.
        reporter: receives progress; by default nobody does.
        progress: whether to show progress as the command line does, in the place of a `reporter`.
        callbacks: objects that see what happens and may stop the training: see `training.callbacks`.
        choices: run options (`crossq_wn.runs.options.RunOptions`) and hyperparameters by name, spelt as on
            the command line but with underscores. `seed=3` stands for `seeds=[3]`, and networks of your own
            may be given as functions.

    Returns:
        How training ended. `Outcome.path` is the run directory, for `crossq_wn.load` and
        `crossq_wn.resume`.

    Raises:
        UserError: a name, a value, the task or the run directory cannot be used, the run would learn nothing
            or does not fit into memory, or every seed failed. In the last case `__cause__` is the first fault
            of an environment.
    """
    refuse_while_importing("crossq_wn.train")
    calls = checked(callbacks)
    # A video takes a renderer, so a script has to ask for it.
    config = configure(task, algorithm=algorithm, preset=preset, **({"video": False} | choices))
    require_filmable(config)
    with _shown(reporter, progress) as shown:
        return _concluded(
            start(config, None if out is None else named("out", out), shown, task, callbacks=calls), shown
        )


@contextmanager
def _shown(reporter: Reporter | None, progress: bool) -> Iterator[Reporter]:
    """Provides the reporter that was asked for, and closes it in the end."""
    if reporter is not None and progress:
        raise UserError(
            "progress=True is given beside a reporter, which is shown the progress: leave one out"
        )
    if progress:
        from crossq_wn.training import display

        with display.reporter() as shown:
            yield shown
    else:
        yield reporter or Silent()


def _concluded(outcome: Outcome, shown: Reporter) -> Outcome:
    """Records the video that a run is to have in the end; Python warns of failed seeds that nobody saw."""
    film(outcome, shown.message, _warning(shown))
    for line in outcome.failures() if isinstance(shown, Silent) else []:
        warnings.warn(line, stacklevel=3)
    return outcome


def _warning(shown: Reporter) -> Callable[[str], None]:
    """What tells of a lack: the reporter, or Python's warnings where nobody follows the run."""
    return warnings.warn if isinstance(shown, Silent) else shown.message


def start(
    config: RunConfig,
    out: Path | None,
    reporter: Reporter,
    task: TaskLike | None = None,
    *,
    take_over: bool = False,
    callbacks: Sequence[Any] = (),
) -> Outcome:
    """Trains a new run with a given configuration.

    Args:
        config: the configuration, from `configure`.
        out: the run directory; None: the next free one under runs/.
        reporter: receives progress.
        task: a class or function that makes the environment, where no module can be imported for it.
        take_over: whether to shut out another process that has the run directory.
        callbacks: see `train`.

    Returns:
        How training ended.

    Raises:
        UserError: the run directory is taken, the task cannot be trained on, a file cannot be written, the
            run does not fit into memory, or every seed failed.
    """
    directory.check_free(out, config)
    require_learning(config)
    use_jax()
    _prepare(config, reporter)
    return _trainer(config)(
        config,
        lambda: directory.create(config, out, _command(), take_over=take_over, tell=reporter.message),
        reporter,
        task=_callable(task),
        callbacks=callbacks,
    )


def resume(
    path: str | PathLike[str],
    *,
    frames: int | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    task: TaskLike | None = None,
    without_damaged_replay: bool = False,
    trust: bool = False,
    take_over: bool = False,
    callbacks: Sequence[Any] = (),
    networks: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
) -> Outcome:
    """Continues a run from its newest checkpoint. A finished run is left as it is.

    On a CPU the result is the same, bit for bit, as if the run had never been interrupted.

    Args:
        path: the run directory, a folder that holds one run, or how training ended (`Outcome`).
        frames: a new total of environment frames per seed; by default the total so far.
        reporter: receives progress; by default nobody does.
        progress: whether to show progress as the command line does, in the place of a `reporter`.
        task: a class or function that makes the environment, where no module can be imported for it.
        without_damaged_replay: whether to continue without rows of replay that are damaged beyond repair;
            manifest.json then lists them.
        trust: whether modules that the run names, and that you have not trained with here, may be imported.
        take_over: whether to shut out another process that has the run and may be alive, such as one on a
            machine that is cut off.
        callbacks: see `train`; a run does not remember those that it was trained with.
        networks: the functions of networks of your own, where no module can be imported for them.

    Returns:
        How training ended.

    Raises:
        UserError: there is no run, another process is using it, it has no usable checkpoint, its environment
            has changed, it names modules that are not trusted, or every seed failed.
    """
    refuse_while_importing("crossq_wn.resume")
    calls = checked(callbacks)
    give_networks(networks)
    with _shown(reporter, progress) as shown:
        outcome = go_on(
            run_in(named("path", path)),
            plain(frames),
            shown,
            task,
            without_damaged_replay=without_damaged_replay,
            trust=trust,
            take_over=take_over,
            callbacks=calls,
        )
        return _concluded(outcome, shown)


def go_on(
    path: Path,
    frames: int | None,
    reporter: Reporter,
    task: TaskLike | None = None,
    *,
    without_damaged_replay: bool,
    trust: bool,
    take_over: bool,
    callbacks: Sequence[Any] = (),
) -> Outcome:
    """Continues a run and records no video; takes, returns and raises what `resume` does."""
    use_jax()
    config = of_length(path, recover_config(path, reporter.message), frames, reporter.message)
    if isinstance(task, str) and task != config.task:
        raise UserError(f"task is {task!r}: a run goes on with its own, {config.task}; leave it out")
    require_algorithm(config, path, trust=trust)
    require_task(config, path, trust=trust, task=_callable(task))
    config = with_algorithm(config)
    require_unchanged(config, path)
    if not begun(path):  # it was stopped before its first checkpoint
        return start(config, path, reporter, task, take_over=take_over, callbacks=callbacks)
    if not take_over:
        refuse_if_used(path)
    outcome = outcome_if_finished(path, config)
    if outcome is not None:
        reporter.message(
            f"{path} is already trained for {outcome.frames:,} frames: nothing to do; "
            f"{option('frames', 2 * outcome.frames)} would train it further"
        )
        return outcome
    _prepare(config, reporter)
    return _trainer(config)(
        config,
        lambda: directory.RunDirectory(path, _command(), take_over=take_over, tell=reporter.message),
        reporter,
        resume=True,
        without_damaged_replay=without_damaged_replay,
        task=_callable(task),
        callbacks=callbacks,
    )


def _prepare(config: RunConfig, reporter: Reporter) -> None:
    require_extras(config)
    remember(config)
    tell_of_warmup(config, _warning(reporter))


def _trainer(config: RunConfig) -> Callable[..., Outcome]:
    return run_training if config.options.real_time is None else run_in_real_time


def _callable(task: TaskLike | None) -> Callable[[], Any] | None:
    return None if isinstance(task, str) else task


def _command() -> list[str]:
    program = Path(sys.argv[0]).name
    return ["crossq-wn" if program == "__main__.py" else program, *sys.argv[1:]]  # python -m crossq_wn
