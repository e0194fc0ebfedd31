"""`export(run)`: a trained policy leaves the package."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn import files
from crossq_wn.acting.interface import PolicyError
from crossq_wn.acting.operations import Network
from crossq_wn.acting.policy import Actor
from crossq_wn.algorithms.settings import networks_of
from crossq_wn.complete import check_free, write_complete
from crossq_wn.environments import Environment
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, nearest, one_line, option
from crossq_wn.export import latency, numpy_folder, onnx_model, parity
from crossq_wn.export.contents import described_network, description, write_description
from crossq_wn.export.observations import observe
from crossq_wn.runs.folders import named
from crossq_wn.training.policy import TrainedPolicy, load

KINDS = ("numpy", "onnx")


class Exported(NamedTuple):
    """An export that was written."""

    path: Path  # the folder
    description: dict[str, Any]  # as in policy.json, but for the network and the checksums
    seconds: dict[str, float]  # per call on one core: p50, p99 and max


def export(
    run: str | Path,
    to: str = "numpy",
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    warn: Callable[[str], None] = lambda text: None,
    trust: bool = False,
    networks: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
) -> Exported:
    """Writes a policy that acts without this package, once it has been found to act as the JAX policy does.

    Args:
        run: a run directory, or a folder that holds one run.
        to: "numpy" (a folder with weights and a program of one file) or "onnx" (a model).
        seed: one of its training seeds; by default the first that has not failed.
        out: the folder; by default RUN/exports/seed-N-FRAMES-KIND.
        warn: is told of an unfinished run, damaged checkpoints and the like.
        trust: whether code that the run names, and that you have not trained with here, may be imported; an
            environment that is not trusted is not made, and the export is checked on replay.
        networks: see `load`.

    Raises:
        UserError: the run is damaged, its weights are not finite, the algorithm cannot act without JAX, the
            folder is taken, or the export would act differently; nothing is written then.
    """
    if to not in KINDS:
        raise UserError(f"{option('to')} is {to!r}: {nearest(to, KINDS)}choose from {', '.join(KINDS)}")
    if to == "onnx":
        onnx_model.require_extras()
    policy = load(run, seed=seed, warn=warn, trust=trust, networks=networks)
    name = f"seed-{policy.seed}-{policy.frames:09d}-{to}"
    out = policy.path / "exports" / name if out is None else named("out", out)
    check_free(out)
    network = _sound_network(policy)
    _tell(policy, warn)
    with kept_shared(), _environment(policy, warn) as environment:
        try:
            seen = observe(policy, Actor(network, policy.interface, str(policy.path)), environment)
        except PolicyError as error:
            raise UserError(str(error)) from None
        said = description(policy, seen, environment)
    expected = parity.reference(policy, seen.rows)
    if out.parent == policy.path / "exports":  # where no link leads out of the run
        files.make_folder(out.parent, within=policy.path)
    seconds = write_complete(out, partial(_write, policy, network, said, seen.rows, expected, to))
    return Exported(out, said, seconds)


def _write(
    policy: TrainedPolicy,
    network: Network,
    said: dict[str, Any],
    rows: np.ndarray,
    expected: np.ndarray,
    to: str,
    folder: Path,
) -> dict[str, float]:
    """Writes into a folder what then has to act as expected, and by itself; returns how long that takes."""
    if to == "numpy":
        whole = numpy_folder.write(folder, network, said)
        chosen, actions = numpy_folder.act(folder, rows)
    else:
        whole = onnx_model.write(folder, network, policy.interface, said)
        chosen, actions = onnx_model.act(folder, rows, said["observation"])
    difference = parity.largest_difference(chosen, expected, rows)
    parity.check_units(actions, chosen, policy.interface)
    said["parity"] = {"observations": len(rows), "tolerance": parity.TOLERANCE}
    said["parity"]["largest_difference"] = difference
    # Once more, now that it is known how well the export agrees.
    write_description(folder, whole | said)
    return latency.measure(folder, to)


def _sound_network(policy: TrainedPolicy) -> Network:
    network = policy.network()
    if network is None:
        own = networks_of(policy.config.settings).get("actor_network")
        does_not_say = f"{policy.config.system.algorithm} does not say what its network computes"
        if own is not None:
            does_not_say = f"a layer of its actor network {own} does not say what it computes"
        raise UserError(
            f"{policy.path} cannot be exported: {does_not_say} without JAX (docs/export.md says how code of "
            "your own does)"
        )
    if not all(np.isfinite(array).all() for array in described_network(network)[1].values()):
        raise UserError(
            f"the weights of seed {policy.seed} of {policy.path} are not finite: its training diverged; "
            "export another seed"
        )
    return network


def _tell(policy: TrainedPolicy, warn: Callable[[str], None]) -> None:
    """Says what whoever acts by the export should know."""
    config = policy.config
    if policy.frames < config.trained_frames:
        warn(f"{policy.path} is not finished: {policy.frames:,} of {config.options.frames:,} frames")
    if policy.algorithm.prior is not None:
        warn(
            f"{config.system.algorithm} plans every action; what is exported is its policy prior alone, "
            "whose actions are less good than those in evaluations"
        )


@contextlib.contextmanager
def _environment(policy: TrainedPolicy, warn: Callable[[str], None]) -> Iterator[Environment | None]:
    """The environment of training; None if that is a robot, and with a word if it cannot be made here."""
    if policy.config.options.real_time is not None:
        yield None
        return
    try:
        made = policy.environment()
    except UserError as error:
        warn(f"the export is checked on the replay of training: {one_line(error)}")
        yield None
        return
    try:
        yield made
    finally:
        made.close()
