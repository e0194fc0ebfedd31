"""One update of each algorithm does what its equations say, and the learner only repeats it."""

import threading
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.actor_critic import soft_actor_critic
from crossq_wn.algorithms.crossq import joint, joint_target
from crossq_wn.algorithms.passes import separate
from crossq_wn.learning import axis, learner
from crossq_wn.nets import layers, losses
from crossq_wn.nets.layers import dense
from crossq_wn.nets.normalisation import batch_norm, batch_renorm, weight_norm
from crossq_wn.nets.optimisers import adamw, no_target, polyak
from crossq_wn.nets.policies import clipped
from crossq_wn.types import Spec, Vars

NAMES = ["crossq", "crossq-wn", "sac"]
HIDDEN, HEAD = (1, 4), 7  # places within an actor or critic of crossq and crossq-wn
OBSERVATION, ACTION = 5, 2
SPEC = Spec(OBSERVATION, ACTION, 0.9)
KEY = jax.random.key(0)
FREE = {"q_pair": joint, "target": no_target()}


def generator(seed):
    return np.random.default_rng(seed)


def same(actual, expected, **tolerance):
    """Equal bit by bit, or within a tolerance."""
    check = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    jax.tree.map(lambda a, b: check(a, b, **tolerance), actual, expected)


def differs(a, b):
    return any(jax.tree.leaves(jax.tree.map(lambda x, y: not np.array_equal(x, y), a, b)))


def shifted(tree, seed, size=0.1):
    """The same float32 tree, randomly displaced."""
    draws = generator(seed)
    return jax.tree.map(lambda p: p + size * draws.standard_normal(p.shape).astype(np.float32), tree)


def run(update, state, batch, steps):
    for step in steps:
        state, metrics = update(state, batch(step, 8), step)
    return state, metrics


@pytest.fixture
def in_float64(float64):
    with float64():
        yield


@pytest.fixture(scope="module")
def make(parts):
    """(algorithm, **changed parts) -> its parts, a first state and update(state, batch, step, **numbers).

    Numbers among the parts are arguments of the compiled program, so that changing them compiles nothing.
    """

    @cache
    def make(name, **changes):
        made = parts(name)._replace(**changes)
        usual = {"policy_delay": made.policy_delay, "target_entropy": made.target_entropy}

        @jax.jit
        def compiled(state, batch, step, numbers):
            return soft_actor_critic(made._replace(**numbers)).update(state, batch, step)

        def update(state, batch, step, **numbers):
            return compiled(state, batch, step, usual | numbers)

        return made, soft_actor_critic(made).init(generator(0)), update

    return make


@pytest.fixture(scope="module")
def learners(algorithm):
    """The two learners of one small crossq-wn, and the algorithm."""
    made = algorithm("crossq-wn")
    kinds = {
        "one by one": learner.one_by_one,
        "vectorised": learner.vectorised,
    }
    return {kind: make(made) for kind, make in kinds.items()}, made


# Target critic


def test_a_target_equal_to_the_critic_makes_crossq_wn_target_free(make, batch):
    _, state, update = make("crossq-wn")
    _, _, free = make("crossq-wn", **FREE)
    state, _ = run(update, state, batch, range(2))
    with_target, metrics = update(state._replace(target=state.critic.params), batch(2, 8), 2)
    without, free_metrics = free(state._replace(target=()), batch(2, 8), 2)
    same(metrics, free_metrics, rtol=1e-5, atol=1e-6)
    same(with_target._replace(target=()), without, rtol=1e-4, atol=1e-6)
    assert abs(metrics["critic_loss"] - update(state, batch(2, 8), 2)[1]["critic_loss"]) > 1e-5


def test_tau_one_makes_the_whole_trajectory_target_free(make, batch):
    _, state, update = make("crossq-wn", target=polyak(1.0))
    _, free_state, free = make("crossq-wn", **FREE)
    state, metrics = run(update, state, batch, range(7))
    free_state, free_metrics = run(free, free_state, batch, range(7))
    same(state.target, state.critic.params, atol=1e-6)
    same(metrics, free_metrics, rtol=1e-3, atol=1e-4)
    same(state.critic, free_state.critic, rtol=1e-3, atol=1e-4)
    same(state.actor, free_state.actor, rtol=1e-3, atol=1e-4)


def test_tau_zero_freezes_the_target():
    online, target = (Vars({"w": generator(seed).standard_normal(3)}, ()) for seed in range(2))
    same(polyak(0.0).follow(target, online), target)


@given(tau=st.floats(0, 1), steps=st.integers(1, 20))
def test_the_target_approaches_a_constant_critic_geometrically(tau, steps):
    online = Vars({"w": generator(0).standard_normal(3)}, ())
    start = target = Vars({"w": generator(1).standard_normal(3)}, ())
    for _ in range(steps):
        target = polyak(tau).follow(target, online)
    expected = online.params["w"] + (1 - tau) ** steps * (start.params["w"] - online.params["w"])
    np.testing.assert_allclose(target.params["w"], expected, atol=1e-12)


@pytest.mark.parametrize("name", ["crossq-wn", "sac"])
def test_the_target_follows_all_parameters_of_the_updated_critic_with_tau_0005(make, batch, name):
    _, state, update = make(name)
    state = state._replace(target=shifted(state.target, 1))
    after, _ = update(state, batch(0, 8), 0)
    expected = jax.tree.map(lambda old, new: 0.995 * old + 0.005 * new, state.target, after.critic.params)
    same(after.target, expected, rtol=1e-6, atol=1e-7)


def test_the_targets_half_life_is_138_updates():
    gaps, target = [], np.ones(())
    for _ in range(139):
        target = polyak(0.005).follow(target, np.zeros(()))
        gaps.append(float(target))
    assert gaps[137] > 0.5 > gaps[138]


@pytest.mark.parametrize("norm", ["batch-norm", "batch-renorm"])
def test_with_equal_parameters_the_target_values_what_the_online_critic_values(parts, batch, norm):
    made = parts("crossq-wn", norm=norm)
    state = soft_actor_critic(made).init(generator(0))
    stats = jax.tree.map(  # batch renorm past its warm-up, with moments far from the batch's
        lambda s: s + 100_000 if s.dtype == jnp.int32 else s + 0.5, state.critic.stats
    )
    state = state._replace(critic=state.critic._replace(stats=stats))
    b = batch(0, 8)
    x = jnp.concatenate([b.observation, b.action], -1)
    next_x = jnp.concatenate([b.next_observation, b.action], -1)
    passes = [pair(made.critic, state.critic.params, state, x, next_x, KEY) for pair in (joint, joint_target)]
    same(passes[1], passes[0], rtol=1e-6, atol=1e-6)


# Passes through the critics


@pytest.mark.parametrize(("pair", "coupled"), [(separate, False), (joint, True), (joint_target, True)])
def test_next_transitions_shape_the_prediction_only_in_a_joint_pass(make, pair, coupled):
    made, state, _ = make("crossq-wn")
    x, next_x, other = (generator(seed).standard_normal((8, 7), np.float32) for seed in range(3))
    q, other_q = (pair(made.critic, state.critic.params, state, x, n, KEY)[0] for n in (next_x, other))
    assert q.shape == (2, 8, 1)
    assert (np.abs(q - other_q).max() > 1e-2) == coupled


def test_joint_passes_are_halves_of_one_pass_of_critic_and_target(make):
    made, state, _ = make("crossq-wn")
    state = state._replace(target=shifted(state.target, 1))
    x, next_x = (generator(seed).standard_normal((8, 7), np.float32) for seed in range(2))
    both = np.concatenate([x, next_x])
    online, stats = made.critic.apply(state.critic.params, state.critic.stats, both, train=True)
    target, _ = made.critic.apply(state.target, state.critic.stats, both, train=True)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    arguments = (made.critic, state.critic.params, state, x, next_x, KEY)
    same(joint(*arguments), (online[:, :8], online[:, 8:], stats), **tolerance)
    same(joint_target(*arguments), (online[:, :8], target[:, 8:], stats), **tolerance)
    assert differs(online, target)


def test_running_statistics_have_a_half_life_of_69_updates_and_the_biased_variance():
    x = np.asarray([[1.0], [3.0]], np.float32)  # mean 2, biased variance 1
    layer = batch_norm()
    params, _, _ = layer.init(generator(0), 1)
    stats, gaps = {"mean": np.zeros(1, np.float32), "variance": np.full(1, 5, np.float32)}, []
    for _ in range(70):
        _, stats = layer.apply(params, stats, x, train=True)
        gaps.append((2 - float(stats["mean"][0])) / 2)
    assert gaps[67] > 0.5 > gaps[68]
    np.testing.assert_allclose(gaps, 0.99 ** np.arange(1, 71), rtol=1e-4)
    np.testing.assert_allclose(stats["variance"], 1 + 4 * 0.99**70, rtol=1e-5)


def test_the_critic_stores_the_statistics_of_the_joint_batch_and_the_actor_those_of_its_states(make, batch):
    _, state, update = make("crossq-wn")
    data = batch(0, 8)
    after, _ = update(state, data, 2)
    seen = np.concatenate([data.observation, data.next_observation]).mean(0)
    for member in after.critic.stats:
        np.testing.assert_allclose(member[0]["mean"][:OBSERVATION], 0.01 * seen, atol=1e-6)
    np.testing.assert_allclose(after.actor.stats[0]["mean"], 0.01 * data.observation.mean(0), atol=1e-6)


# Regression target


def deterministic(state):
    """Almost no exploration and no temperature: then a = tanh(mean), and the entropy term vanishes."""
    state = jax.device_get(state)
    kernel = state.actor.params[-1]["kernel"].copy()
    kernel[:, ACTION:] = 0
    narrow = {"bias": np.asarray([0.1, -0.2, -50, -50], np.float32), "kernel": kernel}
    stats = jax.tree.map(lambda s: s + np.float32(0.2), state.actor.stats)
    actor = Vars((*state.actor.params[:-1], narrow), stats)
    return state._replace(actor=actor, log_temperature=np.asarray(-np.inf, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_the_reward_where_the_task_ended(make, batch, name):
    _, state, update = make(name)
    data = batch(0, 8)
    for mask, bootstraps in ((0, False), (1, True)):
        _, metrics = update(state, data._replace(mask=np.full(8, mask, np.float32)), 0)
        assert (abs(metrics["target_q_mean"] - data.reward.mean()) > 1e-3) == bootstraps


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_reward_plus_discounted_minimum_minus_temperature_times_log_density(make, batch, name):
    made, state, update = make(name)
    data = batch(0, 8)
    state = deterministic(state)
    state = state._replace(critic=state.critic._replace(params=shifted(state.critic.params, 1)))
    if name != "crossq":
        state = state._replace(target=shifted(state.target, 2))

    output = np.asarray(jax.jit(partial(layers.predict, made.actor))(state.actor, data.next_observation))
    mean = output[:, :ACTION]
    x = np.concatenate([data.observation, data.action], 1)
    next_x = np.concatenate([data.next_observation, np.tanh(mean)], 1)
    both = np.concatenate([x, next_x])
    params, seen = {
        "crossq": lambda: (state.critic.params, both),
        "crossq-wn": lambda: (state.target, both),
        "sac": lambda: (state.target, next_x),
    }[name]()
    value = jax.jit(partial(made.critic.apply, train=True))
    next_q = np.asarray(value(params, state.critic.stats, seen)[0])[:, -8:, 0]
    y = data.reward + 0.9 * data.mask * np.min(next_q, 0)
    output_q, _ = value(state.critic.params, state.critic.stats, x if name == "sac" else both)
    q = np.asarray(output_q)[:, :8, 0]
    loss = {"sac": 1.0}.get(name, 0.5) * np.square(q - y).mean(1).sum()

    _, metrics = update(state, data, 0)
    np.testing.assert_allclose(metrics["target_q_mean"], y.mean(), rtol=1e-3)
    np.testing.assert_allclose(metrics["q_mean"], q.mean(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-3)

    _, density = jax.jit(made.policy.sample)(output, KEY)
    _, warm = update(state._replace(log_temperature=np.asarray(np.log(2.0), np.float32)), data, 0)
    # Of a density this narrow only the noise differs between draws, by about one nat per action.
    drop = 0.9 * 2 * (data.mask * np.asarray(density)).mean()
    np.testing.assert_allclose(metrics["target_q_mean"] - warm["target_q_mean"], drop, rtol=0.2)


def test_losses_sum_over_critics_and_average_over_samples():
    q, y = np.asarray([[[1.0], [2.0]], [[3.0], [5.0]]]), np.asarray([[0.0], [1.0]])
    assert losses.squared_error(q, y) == (1 + 1) / 2 + (9 + 16) / 2
    assert losses.half_squared_error(q, y) == losses.squared_error(q, y) / 2


# Who changes whom


@pytest.mark.parametrize("name", ["crossq", "crossq-wn"])
def test_a_critic_update_changes_neither_actor_nor_temperature(make, batch, name):
    _, start, update = make(name)
    state, _ = run(update, start, batch, range(2))
    for field in ("actor", "actor_moments", "log_temperature", "temperature_moments", "actor_metrics", "key"):
        same(getattr(state, field), getattr(start, field))
    assert differs(state.critic, start.critic)


@pytest.mark.parametrize("name", NAMES)
def test_an_actor_update_does_not_change_the_critic(make, batch, name):
    _, start, update = make(name)
    state, _ = update(start, batch(0, 8), 2, policy_delay=3)
    expected, _ = update(start, batch(0, 8), 2, policy_delay=1000)
    for field in ("critic", "target", "critic_moments"):
        same(getattr(state, field), getattr(expected, field))
    assert differs(state.actor.params, start.actor.params)
    same(expected.actor, start.actor)


@pytest.mark.parametrize("name", NAMES)
def test_the_actor_follows_the_gradient_of_the_updated_critics_minimum(make, batch, name):
    made, state, update = make(name)
    data, state = batch(0, 8), deterministic(state)
    after, metrics = update(state, data, 2)

    def loss(params):
        output, _ = made.actor.apply(params, state.actor.stats, data.observation, train=True)
        action = jnp.tanh(output[:, :ACTION])
        q = layers.predict(made.critic, after.critic, jnp.concatenate([data.observation, action], 1))
        return -jnp.mean(jnp.min(q, 0))

    value, gradient = jax.device_get(jax.jit(jax.value_and_grad(loss))(state.actor.params))
    np.testing.assert_allclose(metrics["actor_loss"], value, rtol=1e-3)
    first_moment = jax.device_get(optax.tree_utils.tree_get(after.actor_moments, "mu"))
    same(jax.tree.map(lambda m: m / 0.1, first_moment), gradient, rtol=1e-2, atol=1e-5)
    assert sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient)) > 1e-4


@pytest.mark.parametrize("utd", [1, 2, 5])
def test_the_actor_changes_on_every_third_update_across_calls(learners, batch, utd):
    kinds, made = learners
    learn = kinds["one by one"]
    states, changed = learn.join([made.init(generator(0))]), []
    for call in range(10 if utd == 1 else 4):
        before = jax.tree.map(np.array, states[0].actor.params)
        states, _ = learn.update(states, learn.join([batch(call, utd, 8)]), call * utd)
        done = (call + 1) * utd
        counts = [
            optax.tree_utils.tree_get(getattr(states[0], f"{who}_moments"), "count")
            for who in ("critic", "actor", "temperature")
        ]
        assert counts == [done, done // 3, done // 3]
        if differs(before, states[0].actor.params):
            changed.append(call)
    last_of_three = range(2, done, 3)
    assert changed == sorted({step // utd for step in last_of_three})


def test_hidden_neurons_keep_unit_norm_after_updates(make, batch):
    _, state, update = make("crossq-wn")
    state, _ = run(update, state, batch, range(4))
    for params in (state.actor.params, *state.critic.params):
        for place in HIDDEN:
            weights = np.concatenate([params[place]["kernel"], params[place]["bias"][None]])
            np.testing.assert_allclose(np.linalg.norm(weights, axis=0), 1, rtol=1e-6)


# Optimisers


@pytest.mark.parametrize(
    ("name", "changes"),
    # Projection hides a decay of what it bounds, but not of biases that it leaves out.
    [("crossq", {}), ("crossq-wn", {}), ("crossq-wn", {"weight_norm": "neuron-kernel"}), ("sac", {})],
)
@pytest.mark.parametrize("network", ["actor", "critic"])
def test_without_gradient_only_what_is_unbounded_decays(parts, in_float64, name, changes, network):
    made = parts(name, **changes)
    layer, optimiser = getattr(made, network), getattr(made, f"{network}_optimiser")
    draws = generator(1)
    params = jax.tree.map(lambda p: draws.standard_normal(p.shape), layer.init(draws, 7)[0])

    @jax.jit
    def stepped(params):
        params = layer.project(params)
        nothing = jax.tree.map(jnp.zeros_like, params)
        return params, optimiser.step(nothing, optimiser.init(params), params)[0]

    params, after = jax.device_get(stepped(params))
    for member, new in [(params, after)] if network == "actor" else zip(params, after, strict=True):
        for place in range(len(member)):
            decays = name == "crossq-wn" and place not in HIDDEN
            factor = 1 - 3e-6 if decays else 1.0
            same(new[place], jax.tree.map(lambda p, f=factor: p * f, member[place]), rtol=1e-12)


def test_the_bounded_head_of_the_authors_code_is_marked_for_decay(parts, small_settings):
    critic = parts("crossq-wn", small_settings("crossq-wn", "code")).critic
    params, _, _ = critic.init(generator(0), 7)
    for member in critic.decay(params):
        assert member[HEAD] == {"kernel": True, "bias": True}
        assert all(member[place] == {"kernel": False, "bias": False} for place in HIDDEN)


@pytest.mark.parametrize(("fan_in", "size"), [(261, 4.9e-3), (88, 2.8e-3), (512, 6.8e-3)])
def test_adams_first_step_moves_each_neuron_by_lr_times_root_of_its_inputs(in_float64, fan_in, size):
    layer = weight_norm(dense(32))
    params, _, _ = layer.init(generator(0), fan_in)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
    optimiser = adamw(layer, 3e-4, 0.01)
    gradient = jax.tree.map(lambda p: generator(1).standard_normal(p.shape), params)
    after, _ = optimiser.step(gradient, optimiser.init(params), params)
    moved = np.concatenate([after["kernel"] - params["kernel"], after["bias"][None]])  # the bias was 0
    relative = np.linalg.norm(moved, axis=0)
    np.testing.assert_allclose(relative, 3e-4 * (fan_in + 1) ** 0.5, rtol=0.1)
    np.testing.assert_allclose(relative.mean(), size, rtol=0.03)


def test_adam_keeps_the_settings_share_of_each_moment(parts, small_settings):
    for preset, beta1 in {"default": 0.9, "official": 0.5}.items():
        made = parts("crossq", small_settings("crossq", preset))
        params, _, _ = made.actor.init(generator(0), OBSERVATION)
        for optimiser in (made.actor_optimiser, made.critic_optimiser):
            tree = params if optimiser is made.actor_optimiser else made.critic.init(generator(0), 7)[0]
            gradient = jax.tree.map(lambda p: np.full(p.shape, 2, np.float32), tree)
            _, moments = optimiser.step(gradient, optimiser.init(tree), tree)
            for name, expected in {"mu": (1 - beta1) * 2, "nu": 0.001 * 4}.items():
                for leaf in jax.tree.leaves(optax.tree_utils.tree_get(moments, name)):
                    np.testing.assert_allclose(leaf, expected, rtol=1e-4)


def test_learning_rates_fall_linearly_over_the_networks_own_updates(parts, small_settings):
    settings = small_settings("crossq-wn", "code", learning_rate_updates=10)
    rate = settings.schedule(3e-4)
    np.testing.assert_allclose(
        [rate(step) for step in (0, 5, 10, 20)], [3e-4, 1.65e-4, 3e-5, 3e-5], rtol=1e-5
    )
    assert small_settings("crossq-wn").schedule(3e-4) == 3e-4


@pytest.mark.parametrize("name", ["crossq-wn", "bro", "simba-v2", "xqc", "flashsac"])
def test_a_schedule_holds_for_actor_critics_and_temperature(small_settings, batch, name):
    """After its only update at a rate above 0, nothing moves any more but what follows the critics."""
    settings = small_settings(name, learning_rate_end=0.0, learning_rate_updates=1, policy_delay=1)
    once = {key: 1 for key in ("blocks", "critic_blocks") if hasattr(settings, key)}
    made = ALGORITHMS[name].build(SPEC, replace(settings, **once))
    update = jax.jit(made.update)
    states = [made.init(generator(0))]
    for step in range(2):
        states.append(update(states[-1], batch(step, 8), step)[0])
    first, once, twice = (_trained(state) for state in states)
    assert all(np.any(before != after) for before, after in zip(first, once, strict=True))
    for before, after in zip(once, twice, strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-7)


def _trained(state):
    """What gradients move, a vector each."""
    explorer = [state.shift.params] if hasattr(state, "shift") else []
    while not hasattr(state, "log_temperature"):
        state = state.base if hasattr(state, "base") else state[0]
    trained = [*explorer, state.actor.params, state.critic.params, state.log_temperature]
    return [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in trained]


@pytest.mark.parametrize(("target_entropy", "sign"), [(-50.0, -1), (50.0, 1)])
def test_the_temperature_first_moves_by_its_learning_rate_towards_the_target_entropy(
    make, batch, target_entropy, sign
):
    _, state, update = make("crossq-wn")
    _, metrics = update(state, batch(0, 8), 2, target_entropy=target_entropy)
    assert np.sign(target_entropy - metrics["entropy"]) == sign
    change = np.log(metrics["temperature"]) - state.log_temperature
    np.testing.assert_allclose(change, sign * 3e-4, rtol=1e-2)


def test_target_entropies_are_minus_half_an_action_or_minus_one(parts, small_settings):
    for name in NAMES:
        assert [parts(name, None, 223, actions).target_entropy for actions in (38, 21)] == [-19, -10.5]
    assert parts("crossq", small_settings("crossq", "official"), 67, 21).target_entropy == -21


# Policy


def test_the_log_density_at_the_centre_is_that_of_the_normal():
    key = jax.random.key(3)
    noise = np.asarray(jax.random.normal(key, (4, 6)))
    output = np.concatenate([-noise, np.zeros((4, 6), np.float32)], 1)
    _, log_density = jax.jit(clipped(-10, 2).sample)(output, key)
    np.testing.assert_allclose(log_density, -0.918939 * 6 - 0.5 * np.square(noise).sum(1), rtol=1e-5)


def test_the_log_density_is_the_change_of_variables(in_float64):
    output = jnp.asarray(0.3 * generator(0).standard_normal((50, 6)))
    action, log_density = clipped(-10, 2).sample(output, jax.random.key(0))
    mean, log_std = np.split(output, 2, 1)
    normal = -0.5 * ((np.arctanh(action) - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(log_density, (normal - np.log(1 - np.square(action))).sum(1), atol=1e-6)


@pytest.mark.parametrize("mean", [-100.0, 100.0])
def test_density_and_gradients_are_finite_far_out(mean):
    policy = clipped(-10, 2)
    output = np.concatenate([np.full((3, 4), mean), np.zeros((3, 4))], 1).astype(np.float32)

    def loss(output):
        action, log_density = policy.sample(output, jax.random.key(0))
        return jnp.sum(log_density) + jnp.sum(action)

    value, gradient = jax.device_get(jax.jit(jax.value_and_grad(loss))(output))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(
        gradient[:, :4], 2 * np.sign(mean), rtol=1e-5
    )  # -log(1 - tanh^2) grows by 2|u|


@pytest.mark.parametrize(
    ("name", "preset", "low"),
    [
        ("crossq-wn", "default", -10),
        ("crossq", "default", -10),
        ("crossq", "official", -20),
        ("sac", "default", -10),
    ],
)
def test_log_stds_are_clipped(parts, small_settings, name, preset, low):
    policy = parts(name, small_settings(name, preset)).policy

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def drawn(log_std):
        action, log_density = policy.sample(jnp.stack([jnp.zeros_like(log_std), log_std]), KEY)
        return log_density, action

    for beyond, bound, inside in ((-50.0, low, low + 1.0), (50.0, 2.0, 1.0)):
        (far, no_slope), (at_bound, _), (within, _) = map(drawn, map(np.float32, (beyond, bound, inside)))
        same(far, at_bound)
        assert differs(at_bound, within)
        assert no_slope == 0


@pytest.mark.parametrize("name", NAMES)
def test_exploration_is_random_per_decision_and_exploitation_is_the_mode(algorithm, name):
    made = algorithm(name)
    state, observation = made.init(generator(0)), np.ones(OBSERVATION, np.float32)
    explore = jax.jit(jax.vmap(lambda s, o, decision: made.explore(s, (), o, decision)[0], (None, None, 0)))
    draws = np.asarray(explore(state, observation, np.arange(1000)))
    same(draws, explore(state, observation, np.arange(1000)))
    assert np.abs(draws).max() <= 1
    assert (draws.std(0) > 0.1).all()
    np.testing.assert_allclose(np.median(draws, 0), made.exploit(state, (), observation)[0], atol=0.1)


# Batch renormalisation


def normalise(layer, mean, variance, **calls):
    """Output, gradient for a fixed cotangent and new statistics on a fixed batch of 2 features."""
    x = generator(0).standard_normal((32, 2)).astype(np.float32) * 2 + 1
    cotangent = generator(1).standard_normal((32, 2)).astype(np.float32)
    stats = {"mean": np.full(2, mean, np.float32), "variance": np.full(2, variance, np.float32), **calls}
    params, _, _ = layer.init(generator(0), 2)

    @jax.jit
    def passed(x):
        y, back, running = jax.vjp(lambda x: layer.apply(params, stats, x, train=True), x, has_aux=True)
        return y, back(cotangent)[0], running

    return jax.device_get(passed(x))


def test_batch_renorm_is_batch_norm_until_its_warmup_is_over():
    plain, plain_gradient, plain_stats = normalise(batch_norm(), 5.0, 9.0)
    for calls, warm in ((0, False), (99_999, False), (100_000, True)):
        y, gradient, stats = normalise(batch_renorm(), 5.0, 9.0, calls=np.int32(calls))
        assert np.allclose(y, plain, atol=1e-5) != warm
        assert np.allclose(gradient, plain_gradient, atol=1e-5) != warm
        assert stats.pop("calls") == calls + 1
        same(stats, plain_stats, rtol=1e-6)


def test_batch_renorm_is_batch_norm_where_running_and_batch_statistics_agree():
    x = generator(0).standard_normal((32, 2)).astype(np.float32)
    stats = {"mean": x.mean(0), "variance": x.var(0)}
    params, _, _ = batch_norm().init(generator(0), 2)
    plain, _ = batch_norm().apply(params, stats, x, train=True)
    y, _ = batch_renorm(warmup_calls=0).apply(params, stats | {"calls": np.int32(0)}, x, train=True)
    same(y, plain, atol=1e-5)
    same(plain, batch_norm().apply(params, stats, x, train=False)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "variance", "r", "d"),
    [(1, 1e-4, 3, None), (1, 1e6, 1 / 3, 0), (1e4, 1, None, -5), (-1e4, 1, None, 5), (0.9, 5.0, None, None)],
)
def test_batch_renorm_clips_its_corrections_and_stops_their_gradient(mean, variance, r, d):
    plain, plain_gradient, _ = normalise(batch_norm(), mean, variance)
    y, gradient, _ = normalise(batch_renorm(warmup_calls=0), mean, variance, calls=np.int32(0))
    x = generator(0).standard_normal((32, 2)).astype(np.float32) * 2 + 1
    sigma = np.sqrt(variance + 1e-3)
    r = np.sqrt(x.var(0) + 1e-3) / sigma if r is None else r
    d = np.clip((x.mean(0) - mean) / sigma, -5, 5) if d is None else d
    same(y, plain * np.clip(r, 1 / 3, 3) + d, rtol=1e-4, atol=2e-3)
    same(gradient, plain_gradient * np.clip(r, 1 / 3, 3), rtol=1e-3, atol=1e-5)


# Learner


@pytest.fixture(scope="module")
def trained(learners, batch):
    """(kind, seeds) -> states, metrics, actions after two calls of five updates."""
    kinds, made = learners

    @cache
    def train(kind, seeds):
        learn = kinds[kind]
        states = learn.join([made.init(generator(seed)) for seed in seeds])
        for call in range(2):
            data = learn.join([batch(10 * seed + call, 5, 8) for seed in seeds])
            states, metrics = learn.update(states, data, 5 * call)
        observations = np.stack([generator(seed).standard_normal(OBSERVATION, np.float32) for seed in seeds])
        memory = learn.fresh_memories(len(seeds))
        actions = (
            learn.explore(states, memory, observations, 7)[0], learn.exploit(states, memory, observations)[0]
        )  # fmt: skip
        return learn.split(states, len(seeds)), learn.split(metrics, len(seeds)), actions

    return train


def test_one_by_one_and_vectorised_learners_give_the_same_numbers(trained):
    apart = trained("one by one", (0, 1, 2))
    same(trained("vectorised", (0, 1, 2)), apart, rtol=1e-3, atol=1e-5)
    assert differs(apart[0][0].critic, apart[0][1].critic)


def test_a_seed_does_not_depend_on_who_trains_beside_it(trained):
    states, metrics, actions = trained("one by one", (0, 1, 2))
    alone, alone_metrics, alone_actions = trained("one by one", (2,))
    same((alone[0], alone_metrics[0], alone_actions), (states[2], metrics[2], tuple(a[2:] for a in actions)))


@pytest.mark.parametrize("kind", ["one by one", "vectorised"])
def test_one_call_with_five_updates_equals_five_calls(learners, trained, batch, kind):
    kinds, made = learners
    learn, seeds = kinds[kind], (0, 1, 2)
    states = learn.join([made.init(generator(seed)) for seed in seeds])
    for step in range(10):
        data = [batch(10 * seed + step // 5, 5, 8) for seed in seeds]
        one = jax.tree.map(lambda leaf, i=step % 5: leaf[i : i + 1], data)
        states, metrics = learn.update(states, learn.join(one), step)
    same((learn.split(states, 3), learn.split(metrics, 3)), trained(kind, seeds)[:2], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make_learner", [learner.one_by_one, learner.vectorised])
def test_an_update_is_traced_once_whatever_the_utd_ratio(algorithm, batch, make_learner):
    made, traces = algorithm("sac"), []

    def counted(state, data, step):
        traces.append(step)
        return made.update(state, data, step)

    learn = make_learner(made._replace(update=counted))
    for utd in (1, 5):
        states = learn.join([made.init(generator(seed)) for seed in range(3)])
        for call in range(2):
            states, _ = learn.update(states, learn.join([batch(0, utd, 8)] * 3), call * utd)
    assert len(traces) == 1


def test_seeds_on_several_threads_share_one_program_of_the_precision_asked_for(algorithm, batch, monkeypatch):
    made, traces = algorithm("sac"), []

    def noting(state, data, step):
        traces.append((threading.current_thread(), jax.config.jax_default_matmul_precision))
        return made.update(state, data, step)

    monkeypatch.setattr(axis, "processors", lambda: 2)
    learn = learner.one_by_one(made._replace(update=noting))
    with jax.default_matmul_precision("bfloat16"):
        for seeds in (3, 1):
            states = learn.join([made.init(generator(seed)) for seed in range(seeds)])
            learn.update(states, learn.join([batch(0, 1, 8)] * seeds), 0)
    ((thread, precision),) = traces
    assert precision == "bfloat16"
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("kind", ["one by one", "vectorised"])
def test_old_states_are_given_up_to_the_update(learners, batch, kind):
    kinds, made = learners
    states = kinds[kind].join([made.init(generator(seed)) for seed in range(3)])
    old = jax.tree.leaves(states)
    states, _ = kinds[kind].update(states, kinds[kind].join([batch(0, 1, 8)] * 3), 0)
    assert all(leaf.is_deleted() for leaf in old)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(states))
