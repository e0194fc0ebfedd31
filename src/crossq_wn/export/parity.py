"""Parity: an export acts as the policy in JAX does, or it is not written."""

import numpy as np

from crossq_wn.acting.interface import Interface
from crossq_wn.errors import UserError, one_line
from crossq_wn.lazy import jax
from crossq_wn.machine import use_jax
from crossq_wn.training.policy import TrainedPolicy

TOLERANCE = 1e-5  # of an action in [-1, 1]: float32 rounds differently in another order of sums


def reference(policy: TrainedPolicy, rows: np.ndarray) -> np.ndarray:
    """The deterministic actions in [-1, 1] of the algorithm's own functions in JAX, on a CPU.

    Args:
        policy: that is exported.
        rows: observations [n, observation_size].

    Returns:
        float32 [n, action_size]; of the policy prior, where a search acts in evaluations.
    """
    use_jax()
    algorithm = policy.algorithm
    acts = algorithm.exploit if algorithm.prior is None else algorithm.prior
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("float32"):
        state = policy.state
        program = jax.jit(jax.vmap(lambda row: acts(state, algorithm.memory, row)[0]))
        return np.asarray(program(rows))


def largest_difference(exported: np.ndarray, expected: np.ndarray, rows: np.ndarray) -> float:
    """Compares actions in [-1, 1].

    Args:
        exported: [n, action_size].
        expected: likewise, from `reference`.
        rows: the observations that they are for.

    Returns:
        The largest difference.

    Raises:
        UserError: it is beyond the tolerance; the message names the observation.
    """
    difference = np.abs(exported - expected).max(-1)
    # What is not finite is the worst of all.
    worst = int(np.argmax(np.where(np.isfinite(difference), difference, np.inf)))
    if not difference[worst] <= TOLERANCE:
        raise UserError(
            f"nothing is written: the export's action differs by {difference[worst]:.2g} from the JAX "
            f"policy's (at most {TOLERANCE:g} is rounding) for the observation "
            f"{one_line(ValueError(np.array2string(rows[worst])))[:200]}"
        )
    return float(difference[worst])


def check_units(actions: np.ndarray, chosen: np.ndarray, interface: Interface) -> None:
    """Checks that actions in the environment's units are those in [-1, 1].

    Args:
        actions: [n, *shape] in the environment's units.
        chosen: [n, action_size] in [-1, 1].
        interface: the environment's.

    Raises:
        UserError: they are not; nothing is written.
    """
    expected = interface.in_units(chosen)
    # An integer may be the next one where rounding leads across the end of its part of [-1, 1].
    step = (
        1.0 if interface.dtype.kind != "f" else float(np.finfo(interface.dtype).eps) * np.abs(expected).max()
    )
    allowed = TOLERANCE * (interface.high - interface.low) + step
    if actions.shape != expected.shape or actions.dtype != expected.dtype:
        raise UserError(
            f"nothing is written: the export's actions are {actions.dtype} {actions.shape[1:]}, not "
            f"{expected.dtype} {expected.shape[1:]}"
        )
    if (np.abs(actions.astype(np.float64) - expected) > allowed).any():
        raise UserError("nothing is written: the export's actions are not in the environment's units")
