"""The algorithm that a run's configuration describes, and what its checkpoints hold of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from crossq_wn.acting.folding import folded
from crossq_wn.acting.operations import Network, function_of
from crossq_wn.algorithms import recipe_of
from crossq_wn.algorithms.normalisers import normalise_observations
from crossq_wn.errors import UserError, lacks_memory, one_line, option, raised
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.types import Algorithm, Spec, Tree, UndescribedError, network_of


def build_algorithm(config: RunConfig, spec: Spec) -> Algorithm:
    """Builds the algorithm of a run.

    Raises:
        UserError: observations are to be normalised, and the algorithm does that already; or it is a user's
            own and raised an exception.
    """
    recipe = recipe_of(config.system.algorithm)
    with naming_own(config):
        algorithm = recipe.build(spec, config.settings)
    if not config.options.normalise_observations:
        return algorithm
    _require_plain_observations(algorithm, config)
    return normalise_observations(spec, prior=0.0)(algorithm)


def what_own_raised(config: RunConfig, error: Exception) -> str | None:
    """What a user's own algorithm raised and where, as a sentence; None if it is for others to say."""
    name = config.system.algorithm
    known = isinstance(error, UserError | UndescribedError) or lacks_memory(error)
    return None if known or ":" not in name else f"the algorithm {name} raised {raised(error)}"


@contextmanager
def naming_own(config: RunConfig) -> Iterator[None]:
    """Says in one line what a user's own algorithm raised, where no run is open that could keep more."""
    try:
        yield
    except Exception as error:
        said = what_own_raised(config, error)
        if said is None:
            raise
        raise UserError(said) from error


def _require_plain_observations(algorithm: Algorithm, config: RunConfig) -> None:
    if algorithm.normalises:
        raise UserError(
            f"{config.system.algorithm} normalises observations by running statistics of its own: leave out "
            f"{option('normalise_observations')}"
        )


def check_options(config: RunConfig) -> None:
    """Raises UserError if a run's options do not go together with its algorithm, as far as is known so soon.

    What is a user's own is built for its own problem alone, and checked then.
    """
    name = config.system.algorithm
    if config.options.normalise_observations and ":" not in name:
        usual = preset_settings(name, config.system.preset).for_run(config.decisions)
        _require_plain_observations(recipe_of(name).build(Spec(1, 1, config.discount), usual), config)


def saved_spec(config: RunConfig, saved: Checkpoint) -> Spec:
    """The problem that a run was trained on, according to one of its checkpoints."""
    interface = saved.training["interface"]  # of single observations, as the environment returns them
    size = config.options.frame_stack * interface["observation_size"]
    return Spec(size, np.size(interface["action_low"]), config.discount)


def saved_state(algorithm: Algorithm, saved: Checkpoint, seed: int) -> Tree:
    """Reads the state of one seed's learner from a checkpoint.

    Args:
        algorithm: of the run.
        saved: the checkpoint.
        seed: the training seed.

    Raises:
        UserError: the checkpoint holds the state of another algorithm or of networks of other sizes.
    """
    like = {"state": algorithm.init(ShapesOnly()), "memory": algorithm.memory}
    return saved.state(seed, like).learner["state"]


def saved_network(
    config: RunConfig, algorithm: Algorithm, spec: Spec, saved: Checkpoint, seed: int
) -> Network:
    """The policy network of one seed in a checkpoint of a run with this algorithm; starts no JAX.

    Args:
        config: of the run.
        algorithm: of the run.
        spec: the problem that it was trained on.
        saved: the checkpoint.
        seed: the training seed.

    Raises:
        UndescribedError: acting by this algorithm takes JAX.
        UserError: the checkpoint is not one of this algorithm, or a user's own raised an exception.
    """
    try:
        with naming_own(config):
            described = network_of(algorithm, saved.tree(seed))
        network = folded(described)
        with np.errstate(all="ignore"):  # whether its numbers are sound is for others to say
            output = function_of(network.operations)(np.zeros(spec.observation_size, np.float32))
    except UserError:  # which says itself what is wrong
        raise
    except (KeyError, TypeError, ValueError) as error:  # an array is missing, or of another shape
        raise saved.misfit(one_line(error)) from None
    if output.shape != (2 * spec.action_size,):
        raise saved.misfit(f"its network has {output.size} outputs")
    return network
