"""The ablations' options of crossq-wn do what they say (paper v2, section 5.4).

Projections are tested in test_theorems.py.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossq_wn.algorithms.actor_critic import actor_loss, soft_actor_critic
from crossq_wn.nets import layers
from crossq_wn.nets.normalisation import l2_penalty

HIDDEN, HEAD = (1, 4), 7  # places within an actor or critic
FROZEN = {"critic_learning_rate": 0.0}


@pytest.fixture(scope="module")
def make(algorithm):
    """(**settings) -> a state of crossq-wn, nothing in it zero, and its compiled update."""

    @cache
    def make(**changes):
        made = algorithm("crossq-wn", **changes)
        state = made.init(np.random.default_rng(0))
        draws = np.random.default_rng(1)
        moved = jax.tree.map(
            lambda p: p + 0.1 * draws.standard_normal(p.shape).astype(np.float32), state.critic.params
        )
        return state._replace(critic=state.critic._replace(params=moved)), jax.jit(made.update)

    return make


def raised(params, by):
    """Critics that value everything more."""
    return tuple((*member[:HEAD], member[HEAD] | {"bias": member[HEAD]["bias"] + by}) for member in params)


def raised_critic(state, by):
    return state._replace(critic=state.critic._replace(params=raised(state.critic.params, by)))


# The soft penalty instead of weight norm


def test_the_l2_penalty_adds_the_squares_of_the_critics_hidden_layers_and_nothing_to_the_actor(make, batch):
    state, plain = make(weight_norm="none", **FROZEN)
    _, penalised = make(weight_norm="l2", l2_scale=0.1, **FROZEN)
    (without, before), (with_it, after) = (update(state, batch(0, 8), 2) for update in (plain, penalised))
    hidden = [member[place] for member in state.critic.params for place in HIDDEN]
    squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(hidden))
    np.testing.assert_allclose(after["critic_loss"] - before["critic_loss"], 0.1 * squares, rtol=1e-4)
    np.testing.assert_allclose(after["actor_loss"], before["actor_loss"], rtol=1e-5)
    for one, other in zip(*(jax.tree.leaves(each.actor) for each in (without, with_it)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert (state.actor.params[HEAD]["bias"] != without.actor.params[HEAD]["bias"]).any()


def test_an_actors_penalty_is_added_to_its_loss(parts, batch):
    plain = parts("crossq-wn")
    state = soft_actor_critic(plain).init(np.random.default_rng(0))
    penalised = plain._replace(actor=l2_penalty(plain.actor, 0.5))
    ask = state, batch(0, 8), jax.random.key(0), state.actor.params
    squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(state.actor.params))
    added = actor_loss(penalised, *ask)[0] - actor_loss(plain, *ask)[0]
    np.testing.assert_allclose(added, 0.5 * squares, rtol=1e-4)


# No target network


def test_without_a_target_network_targets_come_from_the_critics_themselves(make, batch):
    data, rise = batch(0, 8), 7.0
    bootstrapped = 0.9 * rise * data.mask.mean()
    state, update = make(target_network=False)
    assert state.target == ()
    values = [update(s, data, 0)[1]["target_q_mean"] for s in (state, raised_critic(state, rise))]
    np.testing.assert_allclose(values[1] - values[0], bootstrapped, rtol=1e-4)

    state, update = make(weight_norm="none", **FROZEN)
    aside = state._replace(target=raised(state.target, rise))
    values = [update(s, data, 0)[1]["target_q_mean"] for s in (state, raised_critic(state, rise), aside)]
    assert values[0] == values[1]
    np.testing.assert_allclose(values[2] - values[0], bootstrapped, rtol=1e-4)


# Layer norm instead of batch norm


def test_layer_norm_keeps_no_statistics_couples_no_samples_and_trains(make, batch):
    state, update = make(norm="layer-norm")
    assert jax.tree.leaves((state.actor.stats, state.critic.stats)) == []
    data = batch(0, 8)
    after, metrics = update(state, data, 2)
    _, elsewhere = update(state, data._replace(next_observation=batch(1, 8).next_observation), 2)
    np.testing.assert_allclose(metrics["q_mean"], elsewhere["q_mean"], rtol=1e-5)
    assert metrics["target_q_mean"] != elsewhere["target_q_mean"]
    for step in range(3, 9):
        after, metrics = update(after, batch(step, 8), step)
    assert np.isfinite([*map(float, metrics.values())]).all()
    for old, new in zip(*(jax.tree.leaves((s.actor, s.critic)) for s in (state, after)), strict=True):
        assert np.isfinite(new).all()
        assert (old != new).any()


# What gradient steps do to norms


def stepped(parts, network, **changes):
    """A member of a network after three gradient steps, and as it was before."""
    made = parts("crossq-wn", actor_learning_rate=0.01, critic_learning_rate=0.01, **changes)
    layer, optimiser = getattr(made, network), getattr(made, f"{network}_optimiser")
    draws = np.random.default_rng(0)
    before = params = layers.create(layer, draws, 7).params
    moments = optimiser.init(params)
    for _ in range(3):
        gradient = jax.tree.map(lambda p: draws.standard_normal(p.shape).astype(np.float32), params)
        params, moments = optimiser.step(gradient, moments, params)
    return (params, before) if network == "actor" else (params[1], before[1])


def norms(member, scope):
    """Of [W; b] of each hidden layer, per neuron or over the whole layer."""
    weights = [np.concatenate([member[place]["kernel"], member[place]["bias"][None]]) for place in HIDDEN]
    return np.array([np.linalg.norm(w, axis=0 if scope == "neuron" else None) for w in weights])


@pytest.mark.parametrize("network", ["actor", "critic"])
@pytest.mark.parametrize("scope", ["neuron", "layer"])
def test_what_is_bounded_stays_on_its_sphere_through_gradient_steps(parts, scope, network):
    after, before = stepped(parts, network, weight_norm=scope, weight_norm_radius=2.0)
    np.testing.assert_allclose(norms(before, scope), 2, rtol=1e-5)
    np.testing.assert_allclose(norms(after, scope), 2, rtol=1e-5)
    assert np.abs(after[HIDDEN[0]]["kernel"] - before[HIDDEN[0]]["kernel"]).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({"weight_norm": "none"}, ["actor", "critic"]),
        ({"weight_norm": "l2"}, ["actor", "critic"]),
        ({"weight_norm_actor": False}, ["actor"]),
    ],
)
def test_what_nothing_bounds_moves_off_its_norm(parts, changes, free):
    for network in ("actor", "critic"):
        after, before = stepped(parts, network, **changes)
        moved = np.abs(norms(after, "neuron") / norms(before, "neuron") - 1)
        assert (moved.min() > 1e-4 and moved.max() > 1e-2) if network in free else moved.max() < 1e-5


@pytest.mark.parametrize("network", ["actor", "critic"])
def test_the_heads_kernels_stay_bounded_through_gradient_steps_only_on_request(parts, network):
    for bound in (True, False):
        after, _ = stepped(parts, network, weight_norm_head=bound)
        kernel = np.linalg.norm(after[HEAD]["kernel"], axis=0)
        assert np.allclose(kernel, 1, rtol=1e-5) == bound
        assert np.abs(after[HEAD]["bias"]).min() > 1e-4


# Learning rates that fall


@pytest.mark.parametrize("network", ["actor", "critic"])
def test_the_learning_rate_that_an_optimiser_reports_falls_linearly_and_is_what_it_steps_by(parts, network):
    """Under a constant gradient Adam's steps are its learning rate."""
    made = parts("crossq-wn", learning_rate_end=0.1, learning_rate_updates=4)
    layer, optimiser = getattr(made, network), getattr(made, f"{network}_optimiser")
    params = layers.create(layer, np.random.default_rng(0), 7).params
    moments, reported, places = optimiser.init(params), [], [0.0]
    for _ in range(6):
        reported.append(float(optimiser.learning_rate(moments)))
        params, moments = optimiser.step(jax.tree.map(jnp.ones_like, params), moments, params)
        places.append(float((params if network == "actor" else params[0])[HEAD]["bias"][0]))
    np.testing.assert_allclose(reported, 3e-4 * np.array([1, 0.775, 0.55, 0.325, 0.1, 0.1]), rtol=1e-5)
    np.testing.assert_allclose(-np.diff(places), reported, rtol=1e-3)
