"""The rivals compute what their papers say: closed forms. Their contracts are in test_contract.py."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.algorithms import ALGORITHMS, normalisers
from crossq_wn.algorithms.actor_critic import soft_actor_critic
from crossq_wn.algorithms.bro import coefficient, inverse_coefficient, upper_bound
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.resets import at, every_updates, on_grid
from crossq_wn.algorithms.simba_v2 import scaler, towards
from crossq_wn.algorithms.tdmpc2.planning import Planner, Simulator, plan
from crossq_wn.errors import UserError
from crossq_wn.learning.replay import Replay
from crossq_wn.nets import layers, losses
from crossq_wn.nets.initialisers import he_normal
from crossq_wn.nets.layers import activation, always_training, dense, dropout, ensemble, residual
from crossq_wn.nets.losses import scalar, squared_error, symexp, symlog, two_hot
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import adamw
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Algorithm, Sampling, Spec

KEY = jax.random.key(0)
OBSERVATION, ACTION = 5, 2
SOFT_ACTOR_CRITICS = [name for name in ALGORITHMS if name not in ("tdmpc2", "drq")]


def default(name):
    return ALGORITHMS[name].presets["default"].settings


@pytest.fixture(scope="module")
def rules(parts):
    """(algorithm, **changes) -> the parts it is made of, without the statistics or explorer around them."""
    return lambda name, **changes: parts(name, **changes)._replace(around=())


# Quantiles


def test_a_quantile_critic_finds_the_midpoint_quantiles_of_its_targets():
    """The loss is least where atom i is the (i + 1/2) / n quantile: here, of a uniform distribution."""
    readout = losses.quantile(4, kappa=1e-3)
    y = jnp.linspace(0, 1, 2001)[None]
    atoms = jnp.full((1, 1, 4), 0.5)
    step = jax.jit(lambda a: a - 0.05 * jax.grad(readout.loss)(a, y))
    for _ in range(800):
        atoms = step(atoms)
    np.testing.assert_allclose(atoms[0, 0], (np.arange(4) + 0.5) / 4, atol=5e-3)


def test_the_quantile_loss_of_one_pair_by_hand():
    readout = losses.quantile(1)  # midpoint 1/2
    loss = readout.loss(jnp.zeros((1, 1, 1)), jnp.array([[0.5]]))
    assert float(loss) == pytest.approx(0.5 * 0.5 * 0.25)  # |tau - 0| * huber
    far = readout.loss(jnp.zeros((1, 1, 1)), jnp.array([[3.0]]))
    assert float(far) == pytest.approx(0.5 * (3.0 - 0.5))
    two = readout.loss(jnp.zeros((2, 1, 1)), jnp.array([[3.0]]))
    assert float(two) == pytest.approx(2 * 0.5 * 2.5)  # summed over critics


@pytest.mark.parametrize("kappa", [0.3, 1.0])
def test_the_quantile_loss_adds_up_every_pair_and_so_does_its_gradient(kappa):
    """mean over the batch and over targets j, sum over critics and predictions i, of rho_i(y_j - theta_i)."""
    critics, batch, predicted, targets = 2, 3, 4, 23  # more targets than are added up at a time
    generator = np.random.default_rng(0)
    theta, y = generator.normal(0, 1, (critics, batch, predicted)), generator.normal(0, 1, (batch, targets))
    loss, gradient = 0.0, np.zeros_like(theta)
    for critic, b, i, j in itertools.product(*map(range, (critics, batch, predicted, targets))):
        u = y[b, j] - theta[critic, b, i]
        weight = abs((i + 0.5) / predicted - (u < 0)) / (kappa * batch * targets)
        loss += weight * (0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa))
        gradient[critic, b, i] -= weight * np.clip(u, -kappa, kappa)
    value, slope = jax.value_and_grad(losses.quantile(predicted, kappa).loss)(jnp.array(theta), jnp.array(y))
    assert float(value) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(slope, gradient, atol=1e-6)


def test_quantile_targets_average_the_critics_and_shift_by_the_entropy_bonus():
    readout = losses.quantile(2)
    output = jnp.array([[[1.0, 3.0]], [[3.0, 5.0]]])
    reward, continuation, bonus = (jnp.array([x]) for x in (0.5, 0.9, -1.0))
    y = readout.target(output, reward, continuation, bonus, KEY)
    np.testing.assert_allclose(y, [[0.5 + 0.9 * 1.0, 0.5 + 0.9 * 3.0]], rtol=1e-6)
    np.testing.assert_allclose(readout.value(output), [[2.0], [4.0]])


# Categorical critics and two-hot codes


@given(st.integers(0, 10_000))
def test_projection_sums_to_one_and_keeps_the_mean_within_the_support(seed):
    generator = np.random.default_rng(seed)
    support = np.linspace(-5, 5, 101)
    probabilities = generator.dirichlet(np.ones(101), 3)
    places = generator.uniform(-5, 5, (3, 101))
    moved = losses.project(jnp.asarray(probabilities), jnp.asarray(places), jnp.asarray(support))
    np.testing.assert_allclose(moved.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose((moved * support).sum(-1), (probabilities * places).sum(-1), atol=1e-5)
    assert (np.asarray(moved) >= 0).all()


def test_what_lies_beyond_the_support_goes_to_its_ends():
    moved = losses.project(jnp.ones((1, 1)), jnp.array([[7.0]]), jnp.linspace(-5, 5, 11))
    np.testing.assert_array_equal(moved[0], np.eye(11)[-1])


def test_a_categorical_target_is_that_of_the_critic_with_the_smallest_value():
    readout = losses.categorical(-1, 1, 3)
    sure = 30 * jnp.eye(3)
    output = jnp.stack([sure[jnp.array([2, 0])], sure[jnp.array([1, 1])]])  # values (1, -1) and (0, 0)
    np.testing.assert_allclose(readout.value(output), [[1, -1], [0, 0]], atol=1e-6)
    zero, one = jnp.zeros(2), jnp.ones(2)
    y = readout.target(output, zero, one, zero, KEY)
    np.testing.assert_allclose(readout.expected(y), [0, -1], atol=1e-6)
    moved = readout.target(output, 0.25 * one, 0.5 * one, zero, KEY)
    np.testing.assert_allclose(readout.expected(moved), [0.25, -0.25], atol=1e-6)


def test_categorical_loss_is_the_cross_entropy_summed_over_critics():
    readout = losses.categorical(-1, 1, 3)
    y = jnp.array([[0.0, 1.0, 0.0]])
    assert float(readout.loss(jnp.zeros((2, 1, 3)), y)) == pytest.approx(2 * np.log(3))


def test_two_hot_of_200():
    """symlog(200) = 5.3033 lies between bins 76 and 77 of 101 on [-10, 10]."""
    code = np.asarray(two_hot(101, 10.0).encode(jnp.array([200.0])))[0]
    np.testing.assert_array_equal(np.flatnonzero(code), [76, 77])
    np.testing.assert_allclose(code[[76, 77]], [0.4835, 0.5165], atol=1e-4)


@given(st.floats(-20_000, 20_000, width=32))
def test_two_hot_codes_decode_to_their_value(value):
    code = two_hot(101, 10.0)
    decoded = code.decode(jnp.log(code.encode(jnp.array([value])) + 1e-30))
    assert float(decoded[0]) == pytest.approx(value, rel=1e-3, abs=1e-3)
    assert float(symexp(symlog(jnp.float32(value)))) == pytest.approx(value, rel=1e-4, abs=1e-5)


# Ensembles


def minimum_of_subset(size):
    """REDQ's reduction as algorithm 1 states it: the smallest over a random subset of all critics."""

    def reduce(values, key):
        chosen = jax.random.choice(key, values.shape[0], (size,), replace=False)
        return jnp.min(values[chosen], 0)

    return reduce


def test_a_random_subset_of_critics_makes_redqs_target():
    q = jnp.arange(10.0)[:, None]
    drawn = [float(minimum_of_subset(2)(q, jax.random.key(i))[0]) for i in range(300)]
    assert set(drawn) <= set(range(9))  # the largest of ten is never the smaller of two
    # The minimum of two out of 0..9 has the mean 8 / 3.
    assert np.mean(drawn) == pytest.approx(8 / 3, abs=0.4)
    assert float(minimum_of_subset(10)(q, KEY)[0]) == 0


def test_redq_evaluates_only_the_target_critics_that_it_draws(parts, algorithm, batch, float64):
    """And learns the very numbers that it would from all ten and the smaller of a random two."""
    with float64():
        made = parts("redq")
        whole = soft_actor_critic(
            made._replace(q_pair=separate, readout=scalar(squared_error, minimum_of_subset(2)))
        )
        drawn = soft_actor_critic(made)
        states = [jax.tree.map(as_double, each.init(np.random.default_rng(0))) for each in (whole, drawn)]
        for step in range(4):
            data = jax.tree.map(as_double, batch(step, 8))
            one, other = (
                jax.jit(each.update)(s, data, np.int32(step))
                for each, s in zip((whole, drawn), states, strict=True)
            )
            states = [one[0], other[0]]
            for name, value in one[1].items():
                np.testing.assert_allclose(value, other[1][name], rtol=1e-12, err_msg=name)
        for a, b in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    x = np.ones((8, OBSERVATION + ACTION), np.float32)
    state = made.critic.init(np.random.default_rng(0), OBSERVATION + ACTION)
    learner_state = algorithm("redq").init(np.random.default_rng(0))
    _, next_q, _ = made.q_pair(made.critic, state[0], learner_state, x, x, KEY)
    assert next_q.shape == (2, 8, 1)


def as_double(leaf):
    array = np.asarray(leaf)
    return jnp.asarray(array.astype(np.float64) if array.dtype.kind == "f" else array)


@pytest.mark.parametrize("name", ["redq", "droq"])
def test_the_policy_follows_once_per_decision_whatever_the_utd(name, algorithm, batch):
    made = algorithm(name, "default", utd=4)
    update, state, actors = jax.jit(made.update), made.init(np.random.default_rng(0)), []
    for step in range(8):
        actors.append(jax.tree.leaves(state.actor)[0])
        state, _ = update(state, batch(step, 8), np.int32(step))
    changed = [bool((old != new).any()) for old, new in itertools.pairwise(actors)]
    assert changed == [False, False, False, True, False, False, False]
    assert made.period == 4


def test_the_squeezed_log_std_is_minus_four_at_zero():
    _, log_std = squeezed(-10.0, 2.0).gaussian(jnp.zeros(4))
    np.testing.assert_allclose(log_std, -4.0)
    np.testing.assert_allclose(np.exp(log_std), 0.018316, rtol=1e-4)
    _, ends = squeezed(-10.0, 2.0).gaussian(jnp.array([0.0, 0.0, -50.0, 50.0]))
    np.testing.assert_allclose(ends, [-10, 2])


# Whose turn it is, and how the actor sees several critics


@pytest.fixture(scope="module")
def bare(rules):
    """algorithm -> a state and the update of its rules around networks of one layer, three critics if plain.

    The critics do not learn.
    """

    @cache
    def make(name):
        made = rules(name, critics=3, critic_learning_rate=0.0)
        atoms = made.critic.init(np.random.default_rng(0), OBSERVATION + ACTION)[2]
        actor, critic = gaussian_head(ACTION), ensemble(dense(atoms), 3)
        made = made._replace(
            actor=actor,
            critic=critic,
            actor_optimiser=adamw(actor, 3e-4),
            critic_optimiser=adamw(critic, 0.0),
            policy_delay=1,
        )
        plain = soft_actor_critic(made)
        return plain.init(np.random.default_rng(0)), jax.jit(plain.update)

    return make


@pytest.mark.parametrize("name", SOFT_ACTOR_CRITICS)
def test_only_the_simbas_and_flashsac_take_their_target_from_the_temperature_just_updated(name, bare, batch):
    """Adam's momentum says how far the temperature goes in this very update."""
    state, update = bare(name)
    moments = optax.tree_utils.tree_set(state.temperature_moments, mu=jnp.float32(1e6))
    hurried = state._replace(temperature_moments=moments)
    (_, metrics), (_, other) = (update(s, batch(0, 8), 0) for s in (state, hurried))
    assert other["temperature"] < 1e-3 < metrics["temperature"]
    assert (other["target_q_mean"] != metrics["target_q_mean"]) == (name in ("simba", "simba-v2", "flashsac"))


@pytest.mark.parametrize("name", [n for n in SOFT_ACTOR_CRITICS if n not in ("xqc", "simba-v2", "flashsac")])
def test_the_actor_sees_the_mean_of_redq_droq_and_bro_and_elsewhere_the_smallest(name, bare, batch):
    """One critic of three goes far up, and then farther."""
    state, update = bare(name)
    first, *others = state.critic.params
    losses = []
    for rise in (100.0, 130.0):
        params = (first | {"bias": first["bias"] + rise}, *others)
        _, metrics = update(state._replace(critic=state.critic._replace(params=params)), batch(0, 8), 0)
        losses.append(metrics["actor_loss"])
    share = 1 / 3 if name in ("redq", "droq", "bro", "bro-fast") else 0
    np.testing.assert_allclose(losses[1] - losses[0], -30 * share, atol=1e-4)


# BRO


@pytest.mark.parametrize("name", ["bro", "simba"])
def test_every_parameter_of_bro_and_simba_decays(name, rules):
    made = rules(name, weight_decay=0.1, actor_learning_rate=0.1, critic_learning_rate=0.1)
    for network in ("actor", "critic"):
        layer, optimiser = getattr(made, network), getattr(made, f"{network}_optimiser")
        params = jax.tree.map(np.ones_like, layers.create(layer, np.random.default_rng(0), 7).params)
        still = jax.tree.map(np.zeros_like, params)
        after, _ = jax.jit(lambda p, g, step=optimiser: step.step(g, step.init(p), p))(params, still)
        for leaf in jax.tree.leaves(after):
            np.testing.assert_allclose(leaf, 0.99, rtol=1e-5)


@pytest.fixture(scope="module")
def bro(algorithm):
    """BRO, a first state, and (state, shift) -> the state whose explorer shifts every mean by this much."""
    made = algorithm("bro")

    def shifted(state, shift):
        first, norm, none, (*block, last), head = state.shift.params
        off = {"scale": 0 * norm["scale"]}  # features are 1 whatever is observed, and the block adds nothing
        ones, nothing = off | {"bias": norm["bias"] * 0 + 1}, off | {"bias": last["bias"] * 0}
        kernel = np.zeros_like(head["kernel"]) + np.float32(shift) / len(head["kernel"])
        params = (first, ones, none, (*block, nothing), {"kernel": kernel})
        return state._replace(shift=state.shift._replace(params=params))

    return made, jax.device_get(made.init(np.random.default_rng(0))), shifted


def test_bros_divergence_is_the_shift_in_standard_deviations_and_steers_optimism_and_its_weight(
    bro, rules, batch
):
    """KL = mean over states of sum over dimensions of shift^2 / (2 sigma^2); its target is 0.05 of each."""
    made, state, shifted = bro
    actor, policy = rules("bro").actor, rules("bro").policy
    update, data = jax.jit(made.update), batch(0, 8)
    for shift, sign in (((0.0, 0.0), 1), ((0.3, -0.1), -1)):
        start = shifted(state, shift)
        after, metrics = update(start, data, 0)
        _, log_std = policy.gaussian(layers.predict(actor, after.base.actor, data.observation))
        kl = np.mean(np.sum(np.square(shift) / (2 * np.exp(2 * log_std)), -1))
        np.testing.assert_allclose(metrics["explorer_kl"], kl, rtol=1e-4)
        assert np.sign(0.05 * ACTION - kl) == sign
        # Adam's first step is its learning rate, 3e-5.
        change = after.coefficients - start.coefficients
        np.testing.assert_allclose(change, [sign * 3e-5, -sign * 3e-5], rtol=0.02)
        np.testing.assert_allclose([metrics["optimism"], metrics["kl_weight"]], [1, 0.25], rtol=1e-5)


def test_bro_explores_with_three_quarters_of_its_policys_standard_deviation(bro):
    made, state, shifted = bro
    seen, still = np.ones(OBSERVATION, np.float32), shifted(state, (0.0, 0.0))
    mean = np.arctanh(jax.jit(made.exploit)(still, (), seen)[0])
    drawn = np.asarray(jax.jit(made.appraise)(still, seen, 3).action)
    explored = np.asarray(jax.jit(made.explore)(still, (), seen, 3)[0])
    assert np.abs(np.arctanh(drawn) - mean).min() > 1e-3
    np.testing.assert_allclose(np.arctanh(explored) - mean, 0.75 * (np.arctanh(drawn) - mean), rtol=1e-2)


def test_optimism_starts_at_one_and_the_kl_weight_at_a_quarter():
    assert inverse_coefficient(1.0) == pytest.approx(0.1438, abs=1e-4)
    assert inverse_coefficient(0.25) == pytest.approx(-0.0156, abs=1e-4)
    for value in (1.0, 0.25):
        assert float(coefficient(jnp.float32(inverse_coefficient(value)))) == pytest.approx(value, rel=1e-5)


def test_optimism_looks_at_quantiles_and_not_at_their_means():
    """Two critics that agree in the mean can still disagree: (1 + 3) / 2 and (3 + 1) / 2, each 2 apart."""
    q = jnp.array([[[1.0, 3.0]], [[3.0, 1.0]]])
    np.testing.assert_allclose(upper_bound(q, 0.0), [2.0])
    np.testing.assert_allclose(upper_bound(q, 0.5), [2.0 + 0.5 * 1.0])


def test_the_explorer_shifts_the_mean_and_evaluation_does_not(algorithm):
    made = algorithm("bro")
    state = made.init(np.random.default_rng(0))
    shifted = jax.tree.map(lambda p: p + 0.3, state.shift.params)
    moved = state._replace(shift=state.shift._replace(params=shifted))
    seen = np.ones(5, np.float32)
    np.testing.assert_array_equal(made.exploit(state, (), seen)[0], made.exploit(moved, (), seen)[0])
    actions = [np.asarray(made.explore(s, (), seen, 0)[0]) for s in (state, moved)]
    assert np.abs(actions[0] - actions[1]).max() > 1e-3


# Resets


@pytest.mark.parametrize("repeat", [1, 2])
def test_sr_sac_resets_where_its_code_does(repeat):
    """Counted in decisions, so that the action repeat does not matter.

    Its code makes the updates and the evaluation of the decision on the grid first, so that the next
    decision's updates are the first after a reset. Earlier versions of ours reset before both.
    """
    settings = default("sr-sac")
    grid = [90_000, 175_000, 260_000, 345_000, 430_000]
    for after in (True, False):
        due = on_grid(settings.reset_updates, settings.utd, settings.warmup, settings.reset_grid, after=after)
        found = [decision for decision in range(1, 1_000_000 // repeat + 1) if due(decision)]
        assert found[:5] == [decision + after for decision in grid]
    assert settings.evaluate_before_reset


def test_bro_resets_five_times_in_a_million_decisions_and_bro_fast_once():
    due = at(default("bro").resets)
    found = [decision for decision in default("bro").resets if decision <= 1_000_000]
    assert found == [15_001, 50_001, 250_001, 500_001, 750_001]
    assert all(map(due, found))
    assert not due(15_000)
    assert default("bro-fast").resets == (15_001,)


@pytest.mark.parametrize(("updates", "utd"), [(250, 5), (10, 5), (4, 5), (7, 2), (3, 1)])
def test_resets_come_after_so_many_updates(updates, utd):
    due, since, found = every_updates(updates, utd, warmup=10), 0, []
    for decision in range(1, 400):
        if due(decision):
            found.append(since)
            since = 0
        since += utd * (decision > 10)  # the updates that follow it
    assert len(found) > 2
    assert set(found) == {-(-updates // utd) * utd}


# Observation and reward statistics


def test_running_moments_are_those_of_the_samples():
    x = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
    running = normalisers.no_samples(4)
    for row in x:
        running = normalisers.add_sample(running, row)
    np.testing.assert_allclose(running.mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(running.variance, x.var(0), rtol=1e-3)


def after_observing(made, state, observations, rewards):
    """The state after a row and a reward at a time, within one episode."""

    def one(state, seen):
        return made.observe(state, *seen, False), None

    return jax.jit(lambda: jax.lax.scan(one, state, (observations, rewards))[0])()


def test_simba_normalises_what_it_sees_and_not_what_is_stored(algorithm, batch):
    """An agent that watched s -> 2 s + 1 from the start behaves on 2 s + 1 as the other on s."""
    made = algorithm("simba")
    plain, moved = (made.init(np.random.default_rng(0)) for _ in range(2))
    observed = np.random.default_rng(1).standard_normal((2000, 5)).astype(np.float32)
    plain = after_observing(made, plain, observed, np.zeros(2000, np.float32))
    moved = after_observing(made, moved, 2 * observed + 1, np.zeros(2000, np.float32))
    seen = np.random.default_rng(2).standard_normal(5).astype(np.float32)
    np.testing.assert_allclose(
        made.exploit(plain, (), seen)[0], made.exploit(moved, (), 2 * seen + 1)[0], atol=1e-3
    )


def test_scaled_rewards_do_not_depend_on_their_unit(algorithm, batch):
    made = algorithm("xqc")
    plain, larger = (made.init(np.random.default_rng(0)) for _ in range(2))
    update, nothing = jax.jit(made.update), np.zeros((1000, 5), np.float32)
    rewards = np.random.default_rng(1).uniform(0, 1, 1000).astype(np.float32)
    plain = after_observing(made, plain, nothing, rewards)
    larger = after_observing(made, larger, nothing, 100 * rewards)
    data = batch(0, 8)
    _, metrics = update(plain, data, 0)
    _, scaled = update(larger, data._replace(reward=100 * data.reward), 0)
    assert float(metrics["target_q_mean"]) == pytest.approx(float(scaled["target_q_mean"]), rel=1e-2)


def watched(made):
    """The statistics after rewards 1, 2, 8 and 4 at discount 0.5, where an episode ends with the 8."""
    state, observe = made.init(np.random.default_rng(0)), jax.jit(made.observe)
    for reward, ended in ((1.0, False), (2.0, False), (8.0, True), (4.0, False)):
        state = observe(state, np.zeros(5, np.float32), np.float32(reward), np.bool_(ended))
    return state.statistics


def test_the_last_reward_of_an_episode_leaks_into_the_next_as_in_the_authors_codes():
    """G <- 0.5 (1 - ended) G + r: 1, 0.5 + 2 = 2.5, 0 + 8 = 8, 4 + 4 = 8; restarting: 1, 2.5, 9.25, 4."""
    spec = Spec(observation_size=5, action_size=1, discount=0.5)
    code, restarting = normalisers.bounded_return(5.0), normalisers.restarting
    for scale, returns, carried in (
        (code, [1, 2.5, 8, 8], 8.0),
        (code._replace(accumulate=restarting), [1, 2.5, 9.25, 4], 4.0),
    ):
        found = watched(normalisers.scale_rewards(spec, scale)(default_algorithm()))
        assert float(found.now) == carried
        assert float(found.largest) == max(returns)
        # 1e-4 samples of mean 0 and variance 1 count as seen before.
        mean = sum(returns) / 4.0001
        squares = sum(g * g for g in returns) + 1e-4
        assert float(found.moments.mean) == pytest.approx(mean, rel=1e-6)
        assert float(found.moments.variance) == pytest.approx(squares / 4.0001 - mean**2, rel=1e-5)
        assert float(scale.unit(found)) == pytest.approx(float(found.moments.variance) ** 0.5, rel=1e-6)
        assert float(normalisers.bounded_return(0.1).unit(found)) == pytest.approx(10 * max(returns))


def test_xqc_counts_returns_from_nothing_and_divides_by_their_deviation(algorithm):
    """Returns at discount 0.9: 1, 2.9, 8 and 0.9 * 8 + 4 = 11.2, of mean 5.775 and population variance."""
    found = watched(algorithm("xqc"))
    returns = np.array([1, 2.9, 8, 11.2])
    assert float(found.moments.samples) == 4
    assert float(found.moments.mean) == pytest.approx(5.775)
    assert float(found.moments.variance) == pytest.approx(returns.var(), rel=1e-5)
    assert float(normalisers.spread_of_return().unit(found)) == pytest.approx(returns.std() + 1e-8, rel=1e-5)


@pytest.mark.parametrize("name", ["xqc", "simba-v2"])
def test_a_setting_says_how_the_return_passes_an_episodes_end(name, algorithm):
    for changes, now in (({}, 0.9 * 8 + 4), ({"return_statistics": "restart"}, 4)):
        found = watched(algorithm(name, **changes))
        assert float(found.now) == pytest.approx(now)
        assert float(found.moments.samples) == pytest.approx(4 if (name, changes) == ("xqc", {}) else 4.0001)


def default_algorithm():
    return Algorithm(lambda generator: (), None, None, None)


# Layers


def test_xqc_normalises_before_its_rectifiers_and_crossq_after_them(rules):
    """So the size of a hidden kernel shows in what CrossQ's rectifiers let through, and not in XQC's."""
    x = np.random.default_rng(0).standard_normal((16, 7)).astype(np.float32)
    for name, factor in (("xqc", 1), ("crossq", 10)):
        critic = rules(name, norm_epsilon=1e-9).critic
        params, stats = layers.create(critic, np.random.default_rng(0), 7)
        larger = jax.tree.map(np.copy, params)
        layers.dense_layers(larger[0])[0]["kernel"] *= 10
        plain, changed = (critic.hidden(p, stats, x)[0][0] for p in (params, larger))
        assert plain.max() > 0.1
        np.testing.assert_allclose(changed, factor * plain, rtol=1e-3, atol=1e-3)


def test_residual_layer_norm_and_he_initialisation():
    generator = np.random.default_rng(0)
    x = generator.normal(3, 5, (6, 8)).astype(np.float32)
    norm = layer_norm()
    y = norm.apply(norm.init(generator, 8)[0], (), x, train=True)[0]
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)
    doubled = residual(activation(lambda x: x))
    params, stats, size = doubled.init(generator, 8)
    np.testing.assert_allclose(doubled.apply(params, stats, x, train=True)[0], 2 * x)
    assert size == 8
    kernel = he_normal(generator, 400, 300)
    assert kernel.std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert np.abs(kernel).max() <= 2 * (2 / 400) ** 0.5 / 0.8796 + 1e-6


def test_dropout_keeps_the_mean_draws_anew_and_rests_outside_training():
    layer = dropout(0.25)
    _, stats, _ = layer.init(np.random.default_rng(0), 1000)
    x = np.ones((50, 1000), np.float32)
    y, after = layer.apply((), stats, x, train=True)
    again, _ = layer.apply((), after, x, train=True)
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert float((np.asarray(y) == 0).mean()) == pytest.approx(0.25, abs=0.01)
    assert not np.array_equal(y, again)
    np.testing.assert_array_equal(layer.apply((), stats, x, train=False)[0], x)
    restless, kept = always_training(layer).apply((), stats, x, train=False)
    np.testing.assert_array_equal(restless, y)
    assert kept is stats


def test_simba_v2_features_stay_on_the_unit_sphere_and_its_kernels_too(algorithm, batch):
    made = algorithm("simba-v2")
    state = made.init(np.random.default_rng(0))
    state, _ = jax.jit(made.update)(state, batch(0, 8), 0)
    critic = state.inner.inner.critic.params[0]
    kernels = [leaf for path, leaf in jax.tree.leaves_with_path(critic) if "kernel" in str(path[-1])]
    assert len(kernels) == 1 + 2 * 2 + 2
    for kernel in kernels:
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-5)


def test_a_scaler_starts_at_its_value_and_a_step_goes_part_of_the_way():
    generator = np.random.default_rng(0)
    scale = scaler(0.25, 0.5)
    params, stats, _ = scale.init(generator, 3)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(scale.apply(params, stats, x, train=True)[0], 0.25)
    halfway = towards(activation(lambda x: 0 * x), scale)
    params, stats, _ = halfway.init(generator, 3)
    np.testing.assert_allclose(halfway.apply(params, stats, x, train=True)[0], 0.75)


# Planning


def test_the_planner_finds_the_best_action_sequence_of_a_known_world():
    """z moves by the action and pays for its distance from 0.5: go there at once, then stay."""
    simulator = Simulator(
        step=lambda z, a: (z + a, -jnp.abs((z + a)[:, 0] - 0.5)),
        value=lambda z, key: -jnp.abs(z[:, 0] - 0.5),
        policy=lambda z, key: jnp.zeros_like(z),
    )
    planner = Planner(3, 8, 512, 24, 64, 0.01, 2.0, 5.0)
    action, std, mean = plan(planner, simulator, 0.99, jnp.array([0.2]), jnp.zeros((3, 1)), KEY)
    np.testing.assert_allclose(mean[:, 0], [0.3, 0, 0], atol=0.1)
    assert float(action[0]) == pytest.approx(0.3, abs=0.1)
    assert 0.0099 < float(std[0]) < 0.5


def test_a_plan_is_carried_through_an_episode_and_forgotten_after_it(algorithm):
    made = algorithm("tdmpc2")
    state, seen = made.init(np.random.default_rng(0)), np.ones(5, np.float32)
    act = jax.jit(made.exploit)
    first, memory = act(state, made.memory, seen)
    assert int(memory.decision) == 1
    assert np.abs(memory.mean).max() > 0
    np.testing.assert_array_equal(act(state, made.memory, seen)[0], first)


# TD-MPC2


def normalised(layer, x):
    """Linear, layer norm."""
    affine, norm, _ = layer
    y = x @ affine["kernel"] + affine["bias"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    return y * norm["scale"] + norm["bias"]


def through(params, x, end):
    """Hidden layers with Mish, and an end: `simnorm` or `logits`."""
    *hidden, last = params
    for layer in hidden:
        x = normalised(layer, x)
        x = x * np.tanh(np.log1p(np.exp(x)))
    return end(last, x)


def simnorm(layer, x):
    groups = np.exp(normalised(layer, x)).reshape(*x.shape[:-1], -1, 8)
    return (groups / groups.sum(-1, keepdims=True)).reshape(*x.shape[:-1], -1)


def logits(affine, x):
    return x @ affine["kernel"] + affine["bias"]


def in_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.fixture(scope="module")
def dreamt(algorithm, batch):
    """Settings, state before and after one update, batch [H, B, ...] and metrics of a tiny TD-MPC2.

    Nothing in the state is zero, the target is not the online critic, and the policy hardly draws.
    """
    settings = {"encoder_width": 8, "width": 8, "dropout": 0.0, "value_functions": 2, "horizon": 2}
    settings |= {"learning_rate": 0.01, "gradient_clip": 1e-3, "entropy_weight": 0.1}
    made = algorithm("tdmpc2", **settings)
    draws = np.random.default_rng(1)

    def moved(tree):
        return jax.tree.map(lambda p: p + 0.5 * draws.standard_normal(p.shape).astype(np.float32), tree)

    state = jax.device_get(made.init(np.random.default_rng(0)))
    world = type(state.world)(*(part._replace(params=moved(part.params)) for part in state.world))
    *hidden, head = moved(state.policy.params)
    less = np.repeat(np.float32([1, 0.1]), ACTION)
    quiet = {"kernel": head["kernel"] * less, "bias": np.float32([0.1, -0.2, -2, -2])}
    policy = state.policy._replace(params=(*hidden, quiet))
    state = state._replace(world=world, policy=policy, target=moved(state.target))
    data = batch(0, 8, 2)
    after, metrics = jax.device_get(jax.jit(made.update)(state, data, 0))
    return state, after, jax.tree.map(lambda leaf: np.swapaxes(leaf, 0, 1), data), metrics


BINS = two_hot(11, 10.0)


def values(params, x):
    """[value function, ...]"""
    return np.stack([BINS.decode(through(member, x, logits)) for member in params])


def policy_of(params, z):
    """The action at the mean, and the log standard deviation."""
    mean, x = np.split(through(params, z, logits), 2, -1)
    return np.tanh(mean), -10 + 6 * (1 + np.tanh(x))


def joined(*parts):
    return np.concatenate(parts, -1)


def dreamt_latents(world, data):
    """Where the model goes from the first observation under the batch's actions, [H + 1, B, latent]."""
    latents = [through(world.encoder.params, data.observation[0], simnorm)]
    for action in data.action:
        latents.append(through(world.dynamics.params, joined(latents[-1], action), simnorm))
    return np.stack(latents)


def test_tdmpc2s_model_loss_sums_consistency_rewards_and_values_along_the_horizon(dreamt):
    before, _, data, metrics = dreamt
    world, policy, target = in_numpy((before.world, before.policy.params, before.target))
    encoded = through(world.encoder.params, data.next_observation, simnorm)
    q = values(target, joined(encoded, policy_of(policy, encoded)[0]))
    y = data.reward + 0.9 * data.mask * q.min(0)
    assert np.abs(q[0] - q[1]).min() > 1e-2
    np.testing.assert_allclose(metrics["target_q_mean"], y.mean(), rtol=1e-3)

    latents = dreamt_latents(world, data)
    x = joined(latents[:-1], data.action)
    weights = np.array([1, 0.5]) / 2  # rho^t / H
    consistency = weights @ np.square(latents[1:] - encoded).mean((1, 2))
    reward = weights @ BINS.loss(through(world.reward.params, x, logits), data.reward).mean(1)
    each = [BINS.loss(through(member, x, logits), y) for member in world.values.params]
    value = weights @ np.mean(each, (0, 2))
    found = [metrics[f"{name}_loss"] for name in ("consistency", "reward", "value", "world")]
    total = 20 * consistency + 0.1 * reward + 0.1 * value
    np.testing.assert_allclose(found, [consistency, reward, value, total], rtol=1e-3)


def test_tdmpc2s_policy_maximises_scaled_values_and_entropy_along_the_horizon(dreamt):
    """It sees the latents of the model as it was, and the value functions as they are now."""
    before, after, data, metrics = dreamt
    world, critics, policy = in_numpy((before.world, after.world.values.params, before.policy.params))
    latents = dreamt_latents(world, data)
    action, log_std = policy_of(policy, latents)
    q = values(critics, joined(latents, action)).mean(0)
    low, high = np.percentile(q[0], [5, 95])
    assert high - low > 1.5
    scale = 1 + 0.01 * (high - low - 1)
    np.testing.assert_allclose(metrics["value_scale"], scale, rtol=1e-4)
    np.testing.assert_allclose(after.scale, scale, rtol=1e-4)
    each = (0.1 * ACTION * log_std.sum(-1) + q / scale).mean(1)
    np.testing.assert_allclose(metrics["policy_loss"], -np.mean([1, 0.5, 0.25] * each), rtol=1e-3)


def test_tdmpc2_clips_its_gradients_slows_its_encoder_and_lets_its_target_follow(dreamt):
    """Adam's first step is its learning rate, and its first moment a tenth of the gradient."""
    before, after, _, _ = dreamt
    for part, rate in (("encoder", 0.003), ("dynamics", 0.01), ("reward", 0.01), ("values", 0.01)):
        moves = [
            np.abs(new - old).max()
            for old, new in zip(
                *(jax.tree.leaves(getattr(s.world, part).params) for s in (before, after)), strict=True
            )
        ]
        assert max(moves) == pytest.approx(rate, rel=1e-2), part
    for moments in (after.world_moments, after.policy_moments):
        moment = optax.tree_utils.tree_get(moments, "mu")
        norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(moment)))
        assert norm == pytest.approx(0.1 * 1e-3, rel=1e-3)
    trees = (before.target, after.target, after.world.values.params)
    for old, new, online in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_allclose(new, old + 0.01 * (online - old), rtol=1e-5, atol=1e-6)


# Sequences from replay


def test_sequences_stay_within_an_episode():
    replay = Replay(100, 1, 1)
    for episode in range(4):
        for place in range(10):
            now, after = (np.array([100 * episode + place + k], np.float32) for k in (0, 1))
            replay.add(now, np.zeros(1), place, after, terminated=False, last=place == 9)
    batch = replay.sample(np.random.default_rng(0), 2, 50, Sampling(3))
    assert batch.observation.shape == (2, 50, 3, 1)
    assert batch.reward.shape == (2, 50, 3)
    np.testing.assert_array_equal(np.diff(batch.observation[..., 0], axis=-1), 1)
    np.testing.assert_array_equal(batch.next_observation, batch.observation + 1)
    starts = np.unique(batch.reward[..., 0])
    np.testing.assert_array_equal(starts, np.arange(8))


def test_a_horizon_longer_than_every_episode_is_refused():
    replay = Replay(20, 1, 1)
    for _ in range(3):
        replay.add(np.zeros(1), np.zeros(1), 0, np.zeros(1), terminated=True, last=True)
    with pytest.raises(UserError, match="shorter horizon"):
        replay.sample(np.random.default_rng(0), 1, 4, Sampling(3))
