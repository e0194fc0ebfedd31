"""The figures of a benchmark: what they mean, how they follow from measurements, and when to doubt them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossq_wn.runs.config import RunConfig

Figures = dict[str, Any]
Taken = dict[str, list[float]]  # what was measured -> seconds, in each round

MEANINGS = {
    "first_update_cold_s": "first update in a new process, without the compilation cache",
    "first_update_cached_s": "first update in a new process, with the compilation cache",
    "update_ms": "one gradient update of one seed",
    "floor_ms": "the matrix products of one update alone, at BLAS or device speed",
    "update_over_floor": "update over its matrix products; 1 is the limit",
    "updates_per_s": "gradient updates per second, of each seed",
    "seed_updates_per_s": "gradient updates per second, all seeds together",
    "environment_frames_per_s": "environment frames per second without learning, all seeds together",
    "physics_frames_per_s": "environment frames per second of the physics alone, all seeds together",
    "environment_over_physics": "environment over its physics; 1 is the limit",
    "locked_share": "share of an environment's step that holds Python's lock: all but its physics",
    "crossq_update_ms": "CrossQ of equal sizes, with minibatches drawn from replay and metrics fetched",
    "sbx_update_ms": "sbx's CrossQ, with minibatches drawn from replay and metrics fetched",
    "crossq_speed_over_sbx": "how many times as fast as sbx",
    "frames_per_s": "environment frames per second of the whole training loop, all seeds together",
    "decision_ms": "one decision of the whole training loop",
    "loop_over_updates": "a decision of the loop over its updates alone; 1 is the limit",
    "launches_per_decision": "programs that a decision starts on the device, all seeds together",
    "transfers_per_decision": "arrays that a decision sends to the device, all seeds together",
    "loop_overhead_ms": "a decision of all seeds: width 8, batch 8, UTD 1, an environment that costs nothing",
    "host_memory_mib": "peak memory of the training loop, with an almost empty replay",
    "device_memory_mib": "peak memory on the accelerator",
    "replay_mib": "full replay of all seeds, as configured",
    "diagnostics_share": "time for diagnostics, as a share of the time for updates",
}


def rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yields what is known as (figure, value, meaning); a figure that is None is not known."""
    for name, text in MEANINGS.items():
        if figures.get(name) is not None:
            yield name, _written(figures[name]), text
    for name, value in figures.get("split", {}).items():
        yield f"split.{name}", _written(value), "part of a decision of the whole training loop"


def _written(value: float) -> str:
    """Writes a figure in four digits, and large ones as whole numbers: 12,345, not 1.234e+04."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def missing(figures: Figures, *, against: str | None) -> list[str]:
    """The names of the figures that a benchmark should have but lacks.

    Args:
        figures: what was measured.
        against: the peer that was asked for, without which no figure of a peer is missing.
    """
    peers = ("crossq_update_ms", "sbx_update_ms", "crossq_speed_over_sbx")
    return [name for name in MEANINGS if name not in figures and (against or name not in peers)]


def speeds(taken: Taken, config: RunConfig) -> Figures:
    """The figures about updates and environments, as far as they were measured.

    Args:
        taken: seconds by measurement, and there by round.
        config: what was measured.
    """
    median = {name: middle(values) for name, values in taken.items()}
    count = len(config.options.seeds)
    frames = config.action_repeat * count
    figures: Figures = {
        "update_ms": 1e3 * median["update"],
        "floor_ms": 1e3 * median["floor"],
        "update_over_floor": ratio(taken, "update", "floor"),
        "seed_updates_per_s": 1 / median["update"],
        "updates_per_s": 1 / median["update"] / count,
        "environment_frames_per_s": frames / median["environment"],
        # What has no physics of its own has nothing to compare with.
        "physics_frames_per_s": None,
        "environment_over_physics": None,
        "locked_share": None,
    }
    if "physics" in median:
        figures["physics_frames_per_s"] = frames / median["physics"]
        figures["environment_over_physics"] = ratio(taken, "environment", "physics")
        figures["locked_share"] = max(0.0, 1 - ratio(taken, "physics_alone", "environment_alone"))
    return figures


def against(taken: Taken, peer: str | None) -> Figures:
    """The figures about a peer.

    Args:
        taken: seconds by measurement, and there by round.
        peer: its name; None: none was measured.
    """
    if peer is None:
        return {}
    theirs = f"{peer}_update"
    return {
        "crossq_update_ms": 1e3 * middle(taken["crossq_update"]),
        f"{theirs}_ms": 1e3 * middle(taken[theirs]),
        f"crossq_speed_over_{peer}": ratio(taken, theirs, "crossq_update"),
    }


# A ratio and what it compares with its limit.
_LIMITS = {
    "update_over_floor": "an update took {:.3g} of the time of its own matrix products",
    "environment_over_physics": "the environments took {:.3g} of the time of their own physics",
    "loop_over_updates": "the training loop took {:.3g} of the time of its own updates",
}
_IMPOSSIBLE = 0.9  # a ratio to a limit below this is no chance
_UNSTEADY = 0.3  # a spread of equal measurements, between quartiles and over the median, that is not noise


def doubts(figures: Figures, taken: Taken, *, on_cpu: bool) -> Figures:
    """What shows that the limits, and so the ratios to them, were measured on a busy machine.

    Args:
        figures: what was found.
        taken: the measurements behind it, in seconds, by round.
        on_cpu: whether JAX computes on the CPU.

    Returns:
        `disturbed`, sentences; and None for each ratio that cannot be true.
    """
    found: Figures = {}
    sentences = []
    for name, text in _LIMITS.items():
        value = figures.get(name)
        # An accelerator takes the products of a whole update together, and so may beat single ones.
        if value is not None and value < _IMPOSSIBLE and on_cpu:
            found[name] = None
            sentences.append(text.format(value))
    for name in ("floor", "physics"):
        if name in taken:
            low, median, high = np.percentile(taken[name], (25, 50, 75))
            if (spread := (high - low) / median) > _UNSTEADY:
                sentences.append(f"the middle half of the measurements of {name} spreads over {spread:.0%}")
    return found | {"disturbed": sentences}


def ratio(taken: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median of the ratios within each round, which cancel what drifts between rounds.

    Args:
        taken: seconds by measurement, and there by round.
        one: the measurement above the line.
        other: the one below it, of the same rounds.
    """
    return middle(np.divide(taken[one], taken[other]))


def middle(values: Sequence[float] | np.ndarray) -> float:
    """The median."""
    return float(np.median(values))
