"""Acting in numpy: is it what the JAX policy does, for every algorithm, with any parameters?"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.acting.folding import folded, folded_operations
from crossq_wn.acting.interface import Interface, PolicyError, Stack
from crossq_wn.acting.operations import Network, Op, function_of
from crossq_wn.acting.policy import Actor
from crossq_wn.acting.readings import reading
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.nets.layer import operations
from crossq_wn.nets.layers import activation, dense, relu, serial
from crossq_wn.nets.normalisation import batch_norm
from crossq_wn.runs.tensors import NamedTree, named_leaves
from crossq_wn.training.actors import JaxActor
from crossq_wn.types import UndescribedError, Vars, network_of

PRESETS = [(name, preset) for name, recipe in ALGORITHMS.items() for preset in recipe.presets]
INTERFACE = Interface({"observation_size": 5, "action_low": [-1.0, -1.0], "action_high": [1.0, 1.0]})


def disturbed(state, seed):
    """A state as training may leave it: no parameter, mean or variance is what it was at first."""
    rng = np.random.default_rng(seed)
    leaves = []
    for name, leaf in named_leaves(state):
        if name.endswith("variance"):
            leaf = rng.uniform(0.05, 3, leaf.shape).astype(np.float32)
        elif leaf.dtype == np.float32:
            leaf = leaf + 0.3 * rng.standard_normal(leaf.shape, np.float32)
        leaves.append(jnp.asarray(leaf))
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def saved(state):
    """A state as a checkpoint has it: arrays by name."""
    return NamedTree({f"state.{name}": leaf for name, leaf in named_leaves(state)}, "state")


def actor_of(network, **options):
    return Actor(folded(network), INTERFACE, "a test", **options)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_numpy_acts_as_jax_does(name, preset, algorithm):
    made = algorithm(name, preset)
    state = disturbed(made.init(np.random.default_rng(0)), seed=1)
    actor = actor_of(network_of(made, saved(state)))
    rng = np.random.default_rng(2)
    seen = (rng.standard_normal((96, 5)) * np.repeat([0.1, 1.0, 10.0], 32)[:, None]).astype(np.float32)
    acts = made.prior or made.exploit
    expected = jax.jit(jax.vmap(lambda observation: acts(state, made.memory, observation)[0]))(seen)
    assert np.abs(expected).min() < 0.5  # they are not all at their limits
    np.testing.assert_allclose(actor.choose(seen), expected, rtol=0, atol=1e-5)
    one_by_one = np.stack([actor.choose(observation) for observation in seen])
    np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=1e-5)
    whole, means = actor.gaussian(seen)[0], actor.means(seen)
    np.testing.assert_allclose(means, whole, rtol=1e-4, atol=1e-4)


class Given:
    """A generator of which the next numbers are known."""

    def __init__(self, noise):
        self.noise = noise

    def standard_normal(self, shape, dtype):
        return self.noise.reshape(shape)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_random_actions_come_from_the_same_distribution(name, algorithm):
    """The same noise leads to the same action."""
    made = algorithm(name)
    state = disturbed(made.init(np.random.default_rng(0)), seed=3)
    (key,) = (leaf for where, leaf in named_leaves(state) if where.endswith("key") and "stats" not in where)
    actor = actor_of(network_of(made, state))
    for decision, seen in enumerate(np.random.default_rng(4).standard_normal((8, 5)).astype(np.float32)):
        expected = made.appraise(state, seen, np.int32(decision)).action
        noise = jax.random.normal(random_key(key, KeyStream.DECISION, np.int32(decision)), (1, 2))
        got = actor.choose(seen, deterministic=False, generator=Given(np.asarray(noise)))
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


# Folding


def test_batch_norm_costs_nothing(algorithm):
    for name, kinds in (("crossq-wn", "dense relu dense relu dense"), ("xqc", "dense relu " * 2 + "dense")):
        made = algorithm(name)
        network = folded(network_of(made, made.init(np.random.default_rng(0))))
        assert [op.kind for op in network.operations] == kinds.split()


@given(
    centre=st.sampled_from([0.0, 1.0, -30.0, 1e3, 1e5]),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    before=st.booleans(),
    after=st.booleans(),
)
def test_folding_loses_no_digits_however_far_the_mean_is_from_zero(centre, spread, before, after):
    rng = np.random.default_rng(0)

    def affine(n, centre):
        scale = rng.uniform(0.5, 2, n) / spread
        arrays = {
            "shift": centre + spread * rng.standard_normal(n),
            "scale": scale,
            "bias": rng.standard_normal(n),
        }
        return Op("affine", {name: np.float32(array) for name, array in arrays.items()})

    kernel = rng.standard_normal((6, 4)) / 6
    layer = Op("dense", {"kernel": np.float32(kernel), "bias": np.float32(rng.standard_normal(4))})
    chain = [affine(6, centre)] * before + [layer] + [affine(4, 0.0)] * after
    seen = np.float32(centre + spread * rng.standard_normal((50, 6)))
    exact = seen.astype(np.float64)
    for op in chain:
        arrays = {name: array.astype(np.float64) for name, array in op.arrays.items()}
        exact = function_of([op._replace(arrays=arrays)])(exact)
    plain, quick = function_of(chain)(seen), function_of(folded_operations(chain))(seen)
    size = np.abs(exact).max()
    assert np.abs(quick - exact).max() <= 4 * np.abs(plain - exact).max() + 1e-6 * size


# What does not say what it computes


def test_a_layer_that_was_replaced_is_not_described():
    layer = serial(batch_norm(), dense(3), relu())
    params, stats, _ = layer.init(np.random.default_rng(0), 2)
    assert [op.kind for op in operations(layer, params, stats)] == ["affine", "dense", "relu"]
    other = layer._replace(apply=lambda params, stats, x, *, train: (x, stats))
    own = serial(dense(3), activation(jnp.sin))
    for undescribed in (other, own, serial(other)):
        with pytest.raises(UndescribedError):
            operations(undescribed, *undescribed.init(np.random.default_rng(0), 2)[:2])


def test_an_algorithm_whose_exploit_was_replaced_is_not_described(algorithm):
    made = algorithm("sac")
    state = made.init(np.random.default_rng(0))
    assert isinstance(network_of(made, state), Network)
    with pytest.raises(UndescribedError):
        network_of(made._replace(exploit=lambda *arguments: made.exploit(*arguments)), state)


def test_a_state_that_lacks_an_array_names_it(algorithm):
    made = algorithm("sac")
    arrays = {f"state.{name}": leaf for name, leaf in named_leaves(made.init(np.random.default_rng(0)))}
    del arrays["state.actor.params.2.kernel"]
    with pytest.raises(KeyError, match=r"state\.actor\.params\.2\.kernel"):
        network_of(made, NamedTree(arrays, "state"))
    assert isinstance(made.init(np.random.default_rng(0)).actor, Vars)


# Memory


WAYS = st.sampled_from(["mask", "indices", "array"])


@given(
    frames=st.integers(1, 4),
    resets=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8),
    way=WAYS,
)
def test_an_episode_side_by_side_is_stacked_as_if_it_were_alone(frames, resets, way):
    side_by_side, alone = Stack(frames), [Stack(frames) for _ in range(3)]
    rng = np.random.default_rng(0)
    for begin in resets:
        newest = rng.standard_normal((3, 2)).astype(np.float32)
        got = side_by_side.act(newest, lambda rows: rows)
        for k, stack in enumerate(alone):
            np.testing.assert_array_equal(got[k], stack.act(newest[k], lambda rows: rows))
            if begin[k]:
                stack.reset()
        names = {"mask": begin, "indices": np.flatnonzero(begin).tolist(), "array": np.flatnonzero(begin)}
        side_by_side.reset(names[way])


@pytest.mark.parametrize("wrong", [[True], [3], [-1], [0.5], "first", [[0]]])
def test_episodes_that_there_are_not_are_refused_in_one_line(wrong):
    stack = Stack(2)
    stack.act(np.zeros((3, 2), np.float32), lambda rows: rows)
    with pytest.raises(PolicyError, match=r"a mask of 3 truth values, .* or indices from 0 to 2$"):
        stack.reset(wrong)


def test_a_number_of_an_observation_is_named_by_its_part_and_place():
    layout = [(["clock"], ()), (["arm", "angles"], (2, 3)), ([], (4,))]
    assert reading(np.float32(np.nan), 0, layout) == "nan as the observation's 'clock'"
    assert reading(np.float32(-1e20), 3, layout) == "-1e+20 at index [0, 2] of the observation's 'arm.angles'"
    assert reading(np.float32(np.inf), 8, layout).startswith(
        "inf (infinite, or beyond float32) at index 1 of"
    )


def test_a_plan_is_remembered_for_each_episode_and_reset_alone(algorithm):
    """Actions that count the decisions of an episode, as TD-MPC2's memory does beside its plan."""
    sac = algorithm("sac")

    def exploit(state, memory, observation):
        return jnp.full(2, memory["decision"] / 10) + 0 * observation[0], {"decision": memory["decision"] + 1}

    made = sac._replace(exploit=exploit, memory={"decision": np.float32(0)})
    actor = JaxActor(made, sac.init(np.random.default_rng(0)), "a test", [([], (5,))])
    seen, nan = np.ones((3, 5), np.float32), np.full((3, 5), np.nan, np.float32)

    def counts():
        return np.rint(10 * actor.act(seen)[:, 0]).tolist()

    assert [counts(), counts()] == [[0, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(actor.choose(seen), np.zeros((3, 2)))  # remembers nothing
    actor.reset([False, True, False])
    with pytest.raises(PolicyError, match="has no action"):
        actor.act(nan)  # leaves no trace
    assert [counts(), counts()] == [[2, 0, 2], [3, 1, 3]]
    with pytest.raises(PolicyError, match=r"on what it planned at the decision before, so call `reset\(\)`"):
        actor.act(seen[0])
    actor.reset()
    assert actor.act(seen[0])[0] == 0


def test_a_policy_without_a_memory_takes_any_number_of_observations(algorithm):
    made = algorithm("sac")
    actor = JaxActor(made, made.init(np.random.default_rng(0)), "a test", [([], (5,))])
    assert [actor.act(np.ones(shape, np.float32)).shape for shape in ((3, 5), (5,), (2, 5))] == [
        (3, 2), (2,), (2, 2),
    ]  # fmt: skip
    actor.reset([7])  # it does nothing
