"""What an export says of its policy, in policy.json and in a model's metadata."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting.operations import Network, Op
from crossq_wn.acting.policy import SCHEMA
from crossq_wn.environments import Environment
from crossq_wn.environments.interface import bounds_of
from crossq_wn.errors import UserError
from crossq_wn.export.observations import Observations
from crossq_wn.installation import NUMBERS_DEPEND_ON, version
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.manifests import manifest_of
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.training.policy import TrainedPolicy

_ACTOR = "the algorithm's actor, which acts in evaluations"
_PRIOR = "the policy prior alone, without the search that acts in evaluations: its actions are less good"


def description(policy: TrainedPolicy, seen: Observations, environment: Environment | None) -> dict[str, Any]:
    """Returns all that policy.json says, but for the network and what is known only once it is written.

    Args:
        policy: that is exported.
        seen: observations from its episodes.
        environment: like that of training; None if it cannot be made.
    """
    config = policy.config
    manifest: dict[str, Any] = {}
    with suppress(UserError):  # without a manifest, the protocol is what config.json says
        manifest = read_manifest(policy.path)
    return {
        "schema": SCHEMA,
        "run": policy.path.resolve().name,
        "algorithm": config.system.algorithm,
        "system": config.system.label,
        "policy": _ACTOR if policy.algorithm.prior is None else _PRIOR,
        "task": config.task,
        "seed": policy.seed,
        "trained_frames": policy.frames,
        "gradient_updates": policy.updates,
        "planned_frames": config.options.frames,
        "finished": policy.frames >= config.trained_frames,
        "observation": _observation(policy, seen, environment),
        "action": _action(policy),
        "control": _control(config, environment),
        "protocol": manifest.get("protocol", config.protocol),
        "protocol_sha256": manifest.get("protocol_sha256"),
        "trained_with": manifest.get("versions", {}),
        "exported_with": {name: version(name) for name in NUMBERS_DEPEND_ON},
        "checkpoint": {
            "frames": policy.saved.frames,
            "sha256": manifest_of(policy.saved.path)[0]["sha256"],
        },
    }


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Writes policy.json."""
    text = json.dumps(description, indent=1, allow_nan=False)
    (folder / "policy.json").write_text(text + "\n", encoding="utf-8")


def _observation(
    policy: TrainedPolicy, seen: Observations, environment: Environment | None
) -> dict[str, Any]:
    """An observation's parts in the order in which they are flattened, and what their numbers were like."""
    # A robot is not made for an export, and earlier versions kept no bounds.
    known: Mapping[str, Any] | None = policy.saved.training.get("bounds")
    if known is None and environment is not None:
        known = bounds_of(environment.simulator)
    # Of stacked observations the newest comes last.
    newest = seen.rows[:, -policy.observation_size :]
    parts, first = [], 0
    for keys, shape in policy.interface.layout:
        parts.append({"name": ".".join(["observation", *keys]), "keys": keys, "shape": shape, "first": first})
        first += int(np.prod(shape))
    return {
        "size": policy.interface.size,
        "dtype": "float32",
        "frame_stack": policy.config.options.frame_stack,
        "units": "the environment's own, as it returns them: nothing has to be scaled before",
        "parts": parts,
        "low": known and known["low"],
        "high": known and known["high"],
        "seen": {
            "in": seen.source,
            "decisions": len(seen.rows),
            "low": newest.min(0).tolist(),
            "high": newest.max(0).tolist(),
        },
    }


def _action(policy: TrainedPolicy) -> dict[str, Any]:
    interface = policy.interface
    return {
        "name": "action",
        "shape": list(interface.low.shape),
        "dtype": str(interface.dtype),
        "units": "the environment's own, as its step takes them: nothing has to be scaled after",
        "low": interface.low.tolist(),
        "high": interface.high.tolist(),
    }


def _control(config: RunConfig, environment: Environment | None) -> dict[str, Any]:
    """How often the policy decides; each action is held for all frames of its decision."""
    repeat, rate = config.action_repeat, config.options.real_time
    seconds = None if environment is None else environment.frame_seconds
    if rate is not None:
        seconds = 1 / (rate * repeat)
    elif seconds is not None:
        rate = round(1 / (seconds * repeat), 6)
    return {"frames_per_decision": repeat, "seconds_per_frame": seconds, "decisions_per_second": rate}


def described_network(network: Network) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns a network as policy.json has it, and its arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    log_std: dict[str, Any] = {"log_std": network.log_std}
    log_std |= {"log_std_min": network.log_std_min, "log_std_max": network.log_std_max}
    operations = list(_described(network.operations, "", arrays))
    return {"operations": operations, "log_std": log_std}, arrays


def _described(
    operations: Sequence[Op], where: str, arrays: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    for number, op in enumerate(operations):
        own, place = {}, f"{where}{number}.{op.kind}"  # such as `2.residual.0.1.dense`
        for name, array in op.arrays.items():
            own[name] = f"{place}.{name}"
            arrays[own[name]] = np.asarray(array, np.float32)
        inner = []
        for part, operations_inside in enumerate(op.inner):
            inner.append(list(_described(operations_inside, f"{place}.{part}.", arrays)))
        yield {"kind": op.kind, "arrays": own, "numbers": dict(op.numbers), "inner": inner}
