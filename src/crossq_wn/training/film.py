"""The video of a trained policy at the end of training, which a process of its own records."""

import os
import subprocess
import sys
from collections.abc import Callable

from crossq_wn.algorithms.own_networks import is_given
from crossq_wn.algorithms.settings import networks_of
from crossq_wn.algorithms.sources import without_checksum
from crossq_wn.errors import UserError, option
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.training.progress import Outcome


def film(outcome: Outcome, tell: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Records a video if training has come to its end, its run is to have one, and something renders it.

    Args:
        outcome: of the training.
        tell: is told what happens.
        warn: is told what the video suffers from. Whatever it is, the training counts.
    """
    options = read_config(outcome.path).options
    ended = outcome.finished and outcome.signal is None and not outcome.untouched
    # A robot would have to move for it, and that nothing renders was told of before training.
    if not (ended and options.video and options.real_time is None and outcome.renders):
        return
    tell("recording a video")
    # Trusted, because this process has just trained with whatever code it names.
    command = [sys.executable, "-m", "crossq_wn", "video", str(outcome.path), "--trust"]
    # In a process of its own: this one has no renderer, and a broken driver must not cost the run.
    done = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, errors="replace", check=False
    )
    for line in done.stdout.splitlines():
        tell(line)
    for line in done.stderr.splitlines():
        warn(line.removeprefix("crossq-wn: "))
    if done.returncode:
        warn("the video could not be made; the trained policy is saved all the same")


def _environment() -> dict[str, str]:
    """This process's environment variables, for one that renders and finds the same modules."""
    # Training switches MuJoCo's renderer off.
    kept = {name: value for name, value in os.environ.items() if (name, value) != ("MUJOCO_GL", "disabled")}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def require_filmable(config: RunConfig) -> None:
    """Raises UserError if a run is to have a video, and another process cannot make what it names."""
    networks = [without_checksum(name) for name in networks_of(config.settings).values()]
    for name in [config.task, *networks] if config.options.video else []:
        module, _, attribute = name.partition(":")
        named = all(map(str.isidentifier, attribute.split("."))) and module != "__main__"
        if attribute and (is_given(name) or not named):
            raise UserError(
                f"{option('video', True)}: another process records it, which could not import {name}: define "
                "it at the top of a module, or leave the video out and call "
                "crossq_wn.training.video.record(policy, out, task=...) once the run is trained"
            )
