"""Checks that a run fits into memory before any of it is taken."""

import dataclasses
from collections.abc import Iterator

from crossq_wn.algorithms.settings import Settings
from crossq_wn.errors import UserError, counted, option, stated
from crossq_wn.lazy import jax
from crossq_wn.learning.memory import batch_bytes, most_update_bytes, state_bytes, update_bytes
from crossq_wn.machine import available_memory, check_memory, processors
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.training import building
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.types import Spec


def check_fits(config: RunConfig, spec: Spec) -> int:
    """Checks that replay, parameters, optimisers, minibatches and the arrays of an update will fit.

    Args:
        config: of the run.
        spec: the problem.

    Returns:
        Bytes of the full replay of all seeds.

    Raises:
        UserError: they will not; the message names the setting that takes most.
    """
    capacity, seeds = building.replay_capacity(config), len(config.options.seeds)
    priorities = build_algorithm(config, spec).sampling.priorities
    replay = check_memory(capacity, building.replay_bytes(config, spec, priorities), seeds)
    for free, reserved in _memories(replay):
        needed = reserved + learner_bytes(config, spec, free - reserved)
        if needed > free:
            raise _too_large(config, spec, needed - reserved, needed, free)
    return replay


def _memories(replay: int) -> Iterator[tuple[int, int]]:
    """Yields the free bytes of each memory that holds learners, and how many of them replay takes."""
    available = available_memory()
    if available is not None:  # learners of an accelerator are first made on the host too
        yield available, replay
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.devices()]
    known = [limit for limit in limits if limit]
    if known and jax.default_backend() != "cpu":
        yield sum(known), 0


def learner_bytes(config: RunConfig, spec: Spec, enough: int = 0) -> int:
    """Estimates the bytes that the learners of all seeds take while they update.

    Args:
        config: of the run.
        spec: the problem.
        enough: bytes. Where a generous bound stays below them, an update's arrays are left out, because
            counting these takes seconds.
    """
    settings, seeds = config.settings, len(config.options.seeds)
    algorithm = build_algorithm(config, spec)
    minibatches = settings.utd * batch_bytes(algorithm, spec, settings.batch_size)
    lasting = seeds * (state_bytes(algorithm) + minibatches)
    at_once = seeds if jax.default_backend() != "cpu" else min(seeds, processors())
    bound = lasting + at_once * most_update_bytes(algorithm, settings.batch_size)
    if bound < enough or lasting > enough > 0:
        return lasting  # far from enough, or far beyond it
    return lasting + at_once * update_bytes(algorithm, spec, settings.batch_size)


def _too_large(config: RunConfig, spec: Spec, learners: int, needed: int, free: int) -> UserError:
    told = f"training would take about {_gib(needed)} GiB and only {_gib(free)} GiB are free"
    usual = preset_settings(config.system.algorithm, config.system.preset)
    found: dict[str, int] = {}  # setting -> what would be needed with its usual value
    for name in _changed(config.settings, usual):
        try:
            settings = dataclasses.replace(config.settings, **{name: getattr(usual, name)})
            other = dataclasses.replace(config, settings=settings)
        except UserError:  # the two do not go together
            continue
        found[name] = learner_bytes(other, spec)
    if found and (least := min(found, key=lambda name: found[name])) and found[least] < learners:
        value = getattr(config.settings, least)
        return UserError(f"{stated(least, value)}: {told}; its usual value is {getattr(usual, least)}")
    seeds = counted(len(config.options.seeds), "seed")
    return UserError(f"{seeds}: {told}; try fewer ({option('seeds')}) or smaller networks")


def _changed(settings: Settings, usual: Settings) -> list[str]:
    """The names of the settings that are larger than in the preset."""
    found = []
    for field in dataclasses.fields(settings):
        value, other = getattr(settings, field.name), getattr(usual, field.name)
        if type(value) is int and type(other) is int and value > other:
            found.append(field.name)
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f}"
