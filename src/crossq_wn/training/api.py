"""The verbs of the command line as Python functions."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossq_wn.algorithms.settings import setting_names
from crossq_wn.environments import TaskLike, lookup
from crossq_wn.errors import UserError, option
from crossq_wn.machine import use_jax
from crossq_wn.runs import directory
from crossq_wn.runs.checkpoints import available
from crossq_wn.runs.config import RunConfig, extend, preset_settings, system_of
from crossq_wn.runs.familiar import meant
from crossq_wn.runs.options import OPTION_NAMES, RunOptions
from crossq_wn.runs.recovery import recover_config
from crossq_wn.training.finished import outcome_if_finished
from crossq_wn.training.logs import require_extras
from crossq_wn.training.loop import run_training
from crossq_wn.training.progress import Outcome, Reporter

_OTHERS = ("task", "algorithm", "preset", "out", "reporter", "progress")  # further arguments of `train`


class Silent:
    """A reporter that says nothing."""

    def status(self, status: Any) -> None:
        """Ignored."""

    def message(self, text: str) -> None:
        """Ignored."""


def configure(
    task: TaskLike, *, algorithm: str = "crossq-wn", preset: str = "default", **choices: Any
) -> RunConfig:
    """Resolves a run's configuration: what is left out comes from the task's suite and the preset.

    Args:
        task: see `train`.
        algorithm: see `train`.
        preset: see `train`.
        choices: run options (`RunOptions`) and hyperparameters (the algorithm's settings) by name.

    Raises:
        UserError: an unknown name or a value outside its limits.
    """
    usual = preset_settings(algorithm, preset)
    names = [*OPTION_NAMES, *setting_names(type(usual))]
    if "seed" in choices:
        choices = _one_seed(**choices)
    for name in choices:
        if name not in names:
            hint = meant(name, [*names, *_OTHERS]) or f"it has {', '.join(names)}"
            raise UserError(f"{algorithm} has no option or hyperparameter {name!r}: {hint}")
    options = RunOptions(**{name: value for name, value in choices.items() if name in OPTION_NAMES})
    changes = {name: value for name, value in choices.items() if name not in OPTION_NAMES}
    chosen = dataclasses.replace(usual, **changes)
    known = lookup(task)
    action_repeat = known.action_repeat if chosen.action_repeat is None else chosen.action_repeat
    settings = chosen.for_run(options.frames // action_repeat)
    return RunConfig(
        task=known.name,
        metric=known.metric,
        system=system_of(algorithm, preset, chosen),  # runs of any length are of one system
        action_repeat=action_repeat,
        episode_frames=known.episode_frames if options.episode_frames is None else options.episode_frames,
        discount=known.discount if settings.discount is None else settings.discount,
        options=options,
        settings=settings,
    )


def _one_seed(*, seed: Any, **choices: Any) -> dict[str, Any]:
    """The choices with `seeds` in place of `seed`."""
    if "seeds" in choices:
        raise UserError(f"seed is {seed!r} and seeds is {choices['seeds']!r}: give one of them")
    return {"seeds": (seed,), **choices}


def train(
    task: TaskLike,
    *,
    algorithm: str = "crossq-wn",
    preset: str = "default",
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    **choices: Any,
) -> Outcome:
    """Trains and returns how it ended; `Outcome.path` is the run directory.

    `train("cheetah-run", frames=100_000, seeds=[0, 1], utd=5)` trains two seeds at a UTD ratio of 5.

    Args:
        task: a short name, a Gymnasium id, `module:factory`, or a class or function that makes a
            gymnasium.Env.
        algorithm: see `crossq-wn list algorithms`; your own as `module:name`.
        preset: where the settings start from; see `crossq-wn list presets`.
        out: run directory; by default the next free one under runs/.
        reporter: where progress goes; by default nowhere.
        progress: whether to show what the command line shows, if there is no other reporter.
        choices: run options (`crossq_wn.runs.options.RunOptions`) and hyperparameters by name, as on the
            command line with underscores; a video is made only if asked for.

    Raises:
        UserError: a name, a value, the task or the run directory cannot be used; the message says why.
    """
    config = configure(task, algorithm=algorithm, preset=preset, **({"video": False} | choices))
    with _shown(reporter, progress) as shown:
        return start(config, _folder("out", out) if out is not None else None, shown, task)


def _folder(name: str, path: str | Path) -> Path:
    """The path that an argument names."""
    if not str(path):
        raise UserError(f"{name} is '': a folder has a name, and this folder is called .")
    return Path(path)


@contextmanager
def _shown(reporter: Reporter | None, progress: bool) -> Iterator[Reporter]:
    """The reporter that was asked for."""
    if reporter is None and progress:
        from crossq_wn.training import display

        with display.reporter() as shown:
            yield shown
    else:
        yield reporter or Silent()


def start(config: RunConfig, out: Path | None, reporter: Reporter, task: TaskLike | None = None) -> Outcome:
    """Trains a configuration in a new run directory.

    Args:
        config: of the run, from `configure`.
        out: run directory; by default the next free one under runs/.
        reporter: where progress goes.
        task: a class or function that makes the environment, if the task cannot be imported by name.

    Raises:
        UserError: the run directory is taken, the task cannot be trained on, or a file cannot be written.
    """
    use_jax()
    directory.check_free(out, config)
    require_extras(config)
    return run_training(
        config, lambda: directory.create(config, out, _command()), reporter, task=_callable(task)
    )


def resume(
    path: str | Path,
    *,
    frames: int | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    task: TaskLike | None = None,
    without_damaged_replay: bool = False,
) -> Outcome:
    """Continues a run from its newest checkpoint, bit for bit on CPU; a finished run is left as it is.

    Args:
        path: the run directory.
        frames: a new total of environment frames per seed; by default the one that the run was started with.
        reporter: where progress goes; by default nowhere.
        progress: whether to show what the command line shows, if there is no other reporter.
        task: a class or function that makes the environment, if the task cannot be imported by name.
        without_damaged_replay: whether to continue without rows of replay that are damaged beyond help;
            manifest.json then says so.

    Raises:
        UserError: there is no run, another process has it open, or it has no usable checkpoint.
    """
    with _shown(reporter, progress) as shown:
        return _resume(
            _folder("path", path), frames, shown, task, without_damaged_replay=without_damaged_replay
        )


def _resume(
    path: Path, frames: int | None, reporter: Reporter, task: TaskLike | None, *, without_damaged_replay: bool
) -> Outcome:
    use_jax()
    config = extend(recover_config(path, reporter.message), frames)
    if not directory.begun(path):  # it was stopped before its first checkpoint
        return start(config, path, reporter, task)
    trained = max((int(p.name) for p in available(path / "checkpoints")), default=0)
    if config.options.frames < trained:
        raise UserError(
            f"{option('frames')} is {config.options.frames}: {path} is already trained for {trained} frames; "
            "ask for more"
        )
    if (outcome := outcome_if_finished(path, config)) is not None:
        reporter.message(
            f"{path} is already trained for {outcome.frames:,} frames: nothing to do; "
            f"{option('frames', 2 * outcome.frames)} would train it further"
        )
        return outcome
    require_extras(config)
    return run_training(
        config,
        lambda: directory.RunDirectory(path, _command()),
        reporter,
        resume=True,
        without_damaged_replay=without_damaged_replay,
        task=_callable(task),
    )


def _callable(task: TaskLike | None) -> TaskLike | None:
    return None if isinstance(task, str) else task


def _command() -> list[str]:
    program = Path(sys.argv[0]).name
    return ["crossq-wn" if program == "__main__.py" else program, *sys.argv[1:]]  # python -m crossq_wn
