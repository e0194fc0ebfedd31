"""How is the package used from Python? The verbs of the command line, as functions."""

import dataclasses
import hashlib
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from crossq_wn.algorithms import registered
from crossq_wn.algorithms.presets import PRESETS
from crossq_wn.algorithms.settings import Settings, setting_names
from crossq_wn.environments import TaskLike, lookup
from crossq_wn.errors import UserError, nearest
from crossq_wn.lazy import jax
from crossq_wn.runs import directory
from crossq_wn.runs.checkpoints import available
from crossq_wn.runs.config import RunConfig, extend, read_config
from crossq_wn.training.logs import require_extras
from crossq_wn.training.loop import Outcome, Reporter, run_training


class Silent:
    """A reporter that says nothing."""

    def status(self, status: Any) -> None:
        """Ignored."""

    def message(self, text: str) -> None:
        """Ignored."""


def preset(algorithm: str, name: str) -> Settings:
    """The settings of a preset. Raises UserError for unknown names, suggesting the nearest."""
    known = PRESETS.get(registered(algorithm), {})
    if name not in known:
        raise UserError(
            f"{algorithm} has no preset {name!r}: {nearest(name, known)}known are {', '.join(known)}"
        )
    return known[name].settings


def system(algorithm: str, preset_name: str, settings: Settings) -> str:
    """What a run stands for in a comparison: `crossq-wn UTD 5 (weight_norm=none)`.

    The algorithm, its preset unless that is the default one, the UTD ratio, and every other setting that
    leaves the preset's.
    """
    usual = preset(algorithm, preset_name)
    differs = [
        f"{name}={getattr(settings, name)}"
        for name in setting_names(type(settings))
        if name != "utd" and getattr(settings, name) != getattr(usual, name)
    ]
    own = registered(algorithm)
    name = own if preset_name == "default" else f"{own} {preset_name}"
    return f"{name} UTD {settings.utd}" + (f" ({', '.join(differs)})" if differs else "")


def configure(
    task: TaskLike,
    *,
    algorithm: str = "crossq-wn",
    preset_name: str = "default",
    settings: Settings | None = None,
    frames: int = 1_000_000,
    seeds: Sequence[int] = (0,),
    episode_frames: int | None = None,
    terminations: bool = True,
    eval_every: int = 25_000,
    eval_episodes: int = 5,
    checkpoint_every: int = 25_000,
    log_every: int = 1_000,
    video: bool = True,
    tensorboard: bool = True,
    wandb: str | None = None,
    diagnostics: bool = True,
    q_bias: bool = False,
    overlap: bool = False,
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32",
) -> RunConfig:
    """A run's resolved configuration; what is left out comes from the task's suite and the preset."""
    known = lookup(task)
    chosen = settings or preset(algorithm, preset_name)
    return RunConfig(
        task=known.name,
        metric=known.metric,
        algorithm=algorithm,
        preset=preset_name,
        system=system(algorithm, preset_name, chosen),
        # RunConfig refuses what is no sequence.
        seeds=tuple(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else seeds,
        frames=frames,
        action_repeat=known.action_repeat if chosen.action_repeat is None else chosen.action_repeat,
        episode_frames=known.episode_frames if episode_frames is None else episode_frames,
        terminations=terminations,
        discount=known.discount if chosen.discount is None else chosen.discount,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        video=video,
        tensorboard=tensorboard,
        wandb=wandb,
        diagnostics=diagnostics,
        q_bias=q_bias,
        overlap=overlap,
        matmul_precision=matmul_precision,
        settings=chosen,
    )


def train(
    task: TaskLike,
    *,
    algorithm: str = "crossq-wn",
    preset_name: str = "default",
    frames: int = 1_000_000,
    seeds: Sequence[int] = (0,),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    run_options: dict[str, Any] | None = None,
    **hyperparameters: Any,
) -> Outcome:
    """Trains and returns how it ended; `Outcome.path` is the run directory.

    Args:
        task: a short name, a Gymnasium id, `module:factory`, or a class or function that makes a
            gymnasium.Env.
        algorithm: see `crossq-wn list algorithms`; your own as `module:name`.
        preset_name: see `crossq-wn list presets`.
        frames: environment frames per seed.
        seeds: training seeds; they train side by side.
        out: run directory; by default the next free one under runs/.
        reporter: where progress goes; by default nowhere.
        run_options: further arguments of `configure`, such as eval_every.
        hyperparameters: settings that differ from the preset, such as utd=5.

    Raises:
        UserError: see the message.
    """
    chosen = preset(algorithm, preset_name)
    for name in hyperparameters:
        if name not in setting_names(type(chosen)):
            raise UserError(
                f"{algorithm} has no hyperparameter {name!r}: {nearest(name, setting_names(type(chosen)))}"
            )
    own = (*inspect.signature(train).parameters, "settings")
    options = [name for name in inspect.signature(configure).parameters if name not in own]
    for name in run_options or {}:
        if name not in options:
            raise UserError(
                f"there is no run option {name!r}: {nearest(name, options)}known are {', '.join(options)}"
            )
    config = configure(
        task,
        algorithm=algorithm,
        preset_name=preset_name,
        settings=dataclasses.replace(chosen, **hyperparameters),
        frames=frames,
        seeds=seeds,
        **({"video": False} | (run_options or {})),
    )
    return start(config, Path(out) if out is not None else None, reporter, task)


def start(
    config: RunConfig, out: Path | None, reporter: Reporter | None = None, task: TaskLike | None = None
) -> Outcome:
    """Trains a configuration in a new run directory."""
    use_compilation_cache()
    directory.check_free(out)
    require_extras(config)
    return run_training(
        config, lambda: directory.create(config, out, _command()), reporter or Silent(), task=_callable(task)
    )


def resume(
    path: str | Path,
    *,
    frames: int | None = None,
    reporter: Reporter | None = None,
    task: TaskLike | None = None,
) -> Outcome:
    """Continues a run from its newest checkpoint, bit for bit on CPU.

    Args:
        path: the run directory.
        frames: a new total of environment frames per seed; by default what the run was started with.
        reporter: where progress goes.
        task: the environment's class, for a run whose task cannot be imported by name.

    Raises:
        UserError: no run, in use, or no usable checkpoint.
    """
    use_compilation_cache()
    path = Path(path)
    config = extend(read_config(path), frames)
    trained = max((int(p.name) for p in available(path / "checkpoints")), default=0)
    if config.frames < trained:
        raise UserError(
            f"--frames is {config.frames}: {path} is already trained for {trained} frames; ask for more"
        )
    require_extras(config)

    return run_training(
        config,
        lambda: directory.RunDirectory(path, _command()),
        reporter or Silent(),
        resume=True,
        task=_callable(task),
    )


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossq-wn"


def use_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless JAX has been told where already."""
    update: Any = jax.config.update
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        # Compiled CPU code does not carry over to another processor that shares the home directory.
        folder = cache_folder() / f"jax-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"
        update("jax_compilation_cache_dir", str(folder))
        update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _callable(task: TaskLike | None) -> TaskLike | None:
    return None if isinstance(task, str) else task


def _command() -> list[str]:
    program = Path(sys.argv[0]).name
    return ["crossq-wn" if program == "__main__.py" else program, *sys.argv[1:]]  # python -m crossq_wn
