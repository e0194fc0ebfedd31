"""DR.Q computes what its authors' code does: closed forms, and one update of each kind against plain code."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.drq import learning, model, networks
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.learning import learner
from crossq_wn.learning.rows import random_batch
from crossq_wn.nets import layers, losses
from crossq_wn.nets.initialisers import xavier_uniform
from crossq_wn.nets.layers import predict
from crossq_wn.types import ERRORS, Burst, Sampling, Spec

SPEC = Spec(observation_size=5, action_size=2, discount=0.99)
PERIOD, BATCH = 3, 8
# Places of dense layers in three layers that follow each other, and of what comes behind them.
FIRST, SECOND, THIRD = 0, 1, 2


def generator(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def settings(small_settings):
    return small_settings("drq", target_period=PERIOD, horizon=5, n_step=3)


@pytest.fixture(scope="module")
def made(settings):
    return networks(SPEC, settings)


@pytest.fixture(scope="module")
def algorithm(settings):
    return ALGORITHMS["drq"].build(SPEC, settings)


def batch_of(algorithm, seed):
    return random_batch(generator(seed), SPEC, BATCH, sampling=algorithm.sampling)


@pytest.fixture(scope="module")
def states(algorithm):
    """The first state, and those after seven updates: three of the world, three of values, another."""
    update, found = jax.jit(algorithm.update), [(algorithm.init(generator(0)), {})]
    for count in range(7):
        found.append(update(found[-1][0], batch_of(algorithm, count), np.int32(count)))
    return found


def equal(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


# 1. Layer norm


def test_encoded_states_are_normalised_and_biases_before_it_shift_nothing(made):
    encoder = model.encoder(48, 32)
    variables = layers.create(encoder, generator(0), 5)
    x = generator(1).standard_normal((20, 5)).astype(np.float32)
    z = np.asarray(predict(encoder, variables, x))
    assert z.min() > -1
    before = np.asarray(jnp.where(z > 0, z, jnp.log1p(z)))  # before the ELU
    np.testing.assert_allclose(before.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(before, axis=-1), 32**0.5, rtol=1e-3)
    hidden, *others = variables.params[0][0]  # the first dense layer, whose norm follows
    shifted = hidden | {"bias": hidden["bias"] + 3.0}
    params = (((shifted, *others), *variables.params[0][1:]), *variables.params[1:])
    np.testing.assert_allclose(predict(encoder, variables._replace(params=params), x), z, atol=1e-5)


# 2. Initialisation


@pytest.mark.parametrize(
    ("n_in", "n_out", "bound"),
    [(223, 750, 0.111054), (750, 750, 0.089443), (750, 512, 0.097513), (768, 750, 0.088911),
     (512, 578, 0.104925), (512, 512, 0.108253), (512, 1, 0.152944)],
)  # fmt: skip
def test_kernels_are_uniform_within_their_bound(n_in, n_out, bound):
    kernel = xavier_uniform(2**0.5)(generator(0), n_in, n_out)
    assert 0.97 * bound < np.abs(kernel).max() <= bound * (1 + 1e-5)
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.05)


# 3. Two-hot rewards


@pytest.mark.parametrize(
    ("value", "shares"),
    [(0.0, {32: 1.0}), (1.0, {34: 0.807755, 35: 0.192245}), (2.0, {35: 0.523449, 36: 0.476551}),
     (0.5, {33: 0.734424, 34: 0.265576}), (100.0, {46: 0.260157, 47: 0.739843}), (1e6, {64: 1.0})],
)  # fmt: skip
def test_rewards_are_shared_linearly_by_the_bins_around_them(value, shares):
    bins = losses.two_hot_symexp(65, 10.0)
    found = np.asarray(bins.encode(jnp.asarray([value, -value])))
    expected = np.zeros(65)
    expected[list(shares)] = list(shares.values())
    np.testing.assert_allclose(found[0], expected, atol=2e-6)
    np.testing.assert_allclose(found[1], expected[::-1], atol=2e-6)
    edges = np.sign(np.linspace(-10, 10, 65)) * np.expm1(np.abs(np.linspace(-10, 10, 65)))
    assert found[0] @ edges == pytest.approx(min(value, edges[-1]), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(
        edges[31:37], [-0.366838, 0, 0.366838, 0.868246, 1.553589, 2.490343], rtol=1e-5
    )


def test_an_edge_has_all_the_weight_and_indifferent_logits_lose_the_log_of_the_bins():
    bins = losses.two_hot_symexp(65, 10.0)
    edges = losses.symexp(jnp.linspace(-10.0, 10.0, 65))
    np.testing.assert_array_equal(bins.encode(edges), np.eye(65))
    np.testing.assert_allclose(bins.loss(jnp.zeros((3, 65)), jnp.array([0.0, 1.0, 7.0])), 4.174387, rtol=1e-6)


# 4. The contrastive loss


def test_the_contrastive_loss_of_equal_and_of_matched_rows():
    equal_rows = jnp.ones((256, 8))
    np.testing.assert_allclose(learning.info_nce(equal_rows, equal_rows, 0.1), 5.545177, rtol=1e-6)
    matched = learning.info_nce(jnp.eye(256), jnp.eye(256), 0.1)
    np.testing.assert_allclose(matched, 0.0115105, rtol=1e-4)
    z, y = jnp.asarray(generator(0).standard_normal((2, 16, 8)), jnp.float32)
    scale = jnp.asarray(generator(1).uniform(0.1, 9, (2, 16, 1)), jnp.float32)
    expected = learning.info_nce(z, y, 0.1)
    np.testing.assert_allclose(learning.info_nce(scale[0] * z, scale[1] * y, 0.1), expected, rtol=2e-5)


# 5 to 7, returns, starts and recency, are in test_returns.py and test_priorities.py.


# 8. What trains what, and when


def test_a_burst_trains_the_world_alone_and_its_targets_stand_still(states):
    first, *_ = states[0]
    for state, metrics in states[1 : PERIOD + 1]:
        assert equal(state.target, first.online)
        assert equal(state.online.values, first.online.values)
        assert equal(state.online.policy, first.online.policy)
        assert not equal(state.online.world.encoder, first.online.world.encoder)
        assert np.isnan(metrics[ERRORS]).all()
    trained = states[PERIOD][0]
    for state, metrics in states[PERIOD + 1 : 2 * PERIOD + 1]:
        assert equal(state.online.world, trained.online.world)
        assert equal(state.target, first.online)
        assert not equal(state.online.values, first.online.values)
        assert not equal(state.online.policy, first.online.policy)
        assert np.isfinite(metrics[ERRORS]).all()
    before, after = states[2 * PERIOD][0], states[2 * PERIOD + 1][0]
    assert equal(after.target, before.online)
    assert not equal(after.online.world, before.online.world)


def test_the_termination_logit_only_decays(states):
    """By 1 - 3e-6 in each update of the world."""
    kernels = [np.asarray(state.online.world.head.params["kernel"][:, 0], np.float64) for state, _ in states]
    biases = [np.asarray(state.online.world.head.params["bias"][0]) for state, _ in states]
    np.testing.assert_allclose(kernels[PERIOD], kernels[0] * (1 - 3e-6) ** PERIOD, rtol=3e-7)
    np.testing.assert_array_equal(biases, 0)


@pytest.mark.parametrize(("utd", "cycle"), [(1, 250), (2, 125), (3, 83), (1000, 1)])
def test_bursts_come_with_every_cycle_of_whole_decisions(utd, cycle):
    settings = replace(ALGORITHMS["drq"].presets["default"].settings, utd=utd)
    built = ALGORITHMS["drq"].build(SPEC, settings)
    assert built.burst == Burst(utd * cycle, cycle, errors=False)
    assert networks(SPEC, settings).period == utd * cycle
    assert built.burst.at(0) == built.burst.at(cycle) == utd * cycle
    assert built.burst.at(1) == (utd * cycle if cycle == 1 else 0)
    assert built.burst.until(cycle + 1) == 2 * utd * cycle


def test_it_makes_as_many_updates_as_its_code():
    burst = ALGORITHMS["drq"].build(SPEC, ALGORITHMS["drq"].presets["default"].settings).burst
    learning_decisions = 500_001 - 9_981
    assert (learning_decisions, burst.until(learning_decisions)) == (490_020, 490_250)


def test_samples_are_those_of_the_sheet(algorithm):
    drawn = algorithm.sampling
    assert (drawn.horizon, drawn.required, drawn.to_termination, drawn.ends_early) == (5, 6, True, True)
    assert drawn.priorities.exponent == 0.4
    assert drawn != Sampling()


@pytest.mark.parametrize("layout", [learner.one_by_one, learner.vectorised])
def test_errors_of_every_update_of_a_decision_come_back(layout, algorithm, states):
    """Of two updates of values, here, and of one of the world, which finds none."""
    learn, chunk = layout(algorithm), [batch_of(algorithm, count) for count in (4, 5, 6)]
    start = learn.states([states[4][0], states[4][0]])
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *chunk)
    _, metrics = learn.update(start, learn.join([batches] * 2), 4)
    for found in learn.split(metrics, 2):
        errors = np.asarray(found[ERRORS])
        assert errors.shape == (3, BATCH)
        for row, count in ((0, 5), (1, 6)):
            np.testing.assert_allclose(errors[row], states[count][1][ERRORS], rtol=1e-3, atol=1e-4)
        assert np.isnan(errors[2]).all()


# One update of each kind, in double precision, written without layers


def normed(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


def three(params, x, activation):
    for place in (FIRST, SECOND):
        x = activation(normed(affine(params[place][0], x)))
    return affine(params[THIRD], x)


def encode(params, x):
    return jax.nn.elu(normed(three(params[0], x, jax.nn.elu)))


def join(world, z, a):
    embedded = jax.nn.elu(affine(world[1][0], a))
    return three(world[2], jnp.concatenate([z, embedded], -1), jax.nn.elu)


def value(params, z_sa):
    body, last = params
    return affine(last, jax.nn.elu(normed(three(body[0], z_sa, jax.nn.elu))))[:, 0]


def plain_world_loss(settings, target, batch, world):
    z, mask, total = encode(world[0], batch.observation[:, 0]), jnp.ones(BATCH), 0.0
    edges = np.linspace(-10.0, 10.0, settings.bins)
    edges = np.sign(edges) * np.expm1(np.abs(edges))
    for i in range(5):
        out = affine(world[3], join(world, z, batch.action[:, i]))
        z, logits = out[:, 1 : 1 + settings.latent_size], out[:, 1 + settings.latent_size :]
        y = encode(target[0], batch.next_observation[:, i])
        hot = []
        for r in np.asarray(batch.reward[:, i]):
            k = int(np.searchsorted(edges, r, "right")) - 1
            row = np.zeros(settings.bins)
            row[k + 1] = (r - edges[k]) / (edges[k + 1] - edges[k])
            row[k] = 1 - row[k + 1]
            hot.append(row)
        reward = -(jnp.array(hot) * jax.nn.log_softmax(logits)).sum(-1)
        rows = z / jnp.linalg.norm(z, axis=-1, keepdims=True), y / jnp.linalg.norm(y, axis=-1, keepdims=True)
        alike = rows[0] @ rows[1].T / 0.1
        ce = jax.nn.logsumexp(alike, -1) - jnp.diagonal(alike)
        total += (mask[:, None] * (z - y) ** 2).mean()
        total += 0.1 * (mask * reward).mean() + 0.1 * (ce[None] * mask[:, None]).mean()  # as its code does
        mask = mask * batch.mask[:, i]
    return total


def plain_value_loss(z_sa, y, values):
    error = jnp.stack([value(each, z_sa) for each in values]) - y
    return jnp.where(jnp.abs(error) <= 1, 0.5 * error**2, jnp.abs(error) - 0.5).mean()


@jax.jit
def plain_adamw(params, gradients):
    """The first step: decay first, then the rate times the gradient over its size."""
    return jax.tree.map(
        lambda p, g: p * (1 - 3e-4 * 0.01) - 3e-4 * g / (jnp.abs(g) + 1e-8), params, gradients
    )


def close(one, other):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), one, other)


def doubled(tree):
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, tree)


@pytest.fixture
def start(algorithm, float64):
    """A state in which targets differ from what is learned, and a batch with terminations, in float64."""
    with float64():
        state, other = (jax.device_get(algorithm.init(generator(seed))) for seed in (0, 1))
        yield doubled(state._replace(target=other.online)), doubled(batch_of(algorithm, 5))


def test_an_update_of_the_world_by_hand(settings, made, start):
    state, batch = start
    world, target = (model.parameters(nets.world) for nets in (state.online, state.target))
    plain = jax.jit(jax.value_and_grad(partial(plain_world_loss, settings, target, batch)))
    loss, gradients = plain(world)
    found = jax.jit(partial(learning.world_step, made))(jax.tree.map(jnp.asarray, state), batch)
    assert float(found.world_metrics.loss) == pytest.approx(float(loss), rel=1e-12)
    close(model.parameters(found.online.world), plain_adamw(world, gradients))


@jax.jit
def plain_update(state, batch):
    """Losses, errors, and new values and policy."""
    # y, with the target networks
    world, policy, values = (
        model.parameters(state.target.world), state.target.policy.params, state.target.values.params,
    )  # fmt: skip
    r, nd = batch.reward, batch.mask
    z = encode(world[0], batch.next_observation[:, 2])
    noise = jax.random.normal(random_key(state.key, KeyStream.UPDATE, jnp.int32(PERIOD)), (BATCH, 2))
    a = jnp.tanh(three(policy, z, jax.nn.relu)) + jnp.clip(0.2 * noise, -0.3, 0.3)
    q = jnp.minimum(*(value(each, join(world, z, jnp.clip(a, -1, 1))) for each in values))
    y = r[:, 0] + 0.99 * nd[:, 0] * r[:, 1] + 0.99**2 * nd[:, 0] * nd[:, 1] * r[:, 2]
    y = y + 0.99**3 * nd[:, 0] * nd[:, 1] * nd[:, 2] * q
    # values, then the policy with the values just updated
    world, values = model.parameters(state.online.world), state.online.values.params
    z = encode(world[0], batch.observation[:, 0])
    z_sa = join(world, z, batch.action[:, 0])
    loss, gradients = jax.value_and_grad(partial(plain_value_loss, z_sa, y))(values)
    errors = jnp.abs(jnp.stack([value(each, z_sa) for each in values]) - y).max(0)
    updated = plain_adamw(values, gradients)

    def plain_policy_loss(params):
        chosen = join(world, z, jnp.tanh(three(params, z, jax.nn.relu)))
        return -jnp.stack([value(each, chosen) for each in updated]).mean()

    policy = state.online.policy.params
    policy_loss, gradients = jax.value_and_grad(plain_policy_loss)(policy)
    return loss, policy_loss, errors, updated, plain_adamw(policy, gradients)


def test_an_update_of_values_and_policy_by_hand(made, start):
    state, batch = start
    state = jax.tree.map(jnp.asarray, state)
    found, metrics = jax.jit(partial(learning.update, made))(state, batch, jnp.int32(PERIOD))
    loss, policy_loss, errors, values, policy = plain_update(state, batch)
    assert float(metrics["critic_loss"]) == pytest.approx(float(loss), rel=1e-12)
    assert float(metrics["actor_loss"]) == pytest.approx(float(policy_loss), rel=1e-12)
    np.testing.assert_allclose(metrics[ERRORS], errors, rtol=1e-12)
    close(found.online.values.params, values)
    close(found.online.policy.params, policy)


# Acting


def test_training_adds_noise_of_a_fifth_within_the_limits(algorithm, states):
    state, seen, decisions = states[0][0], jnp.ones(SPEC.observation_size), jnp.arange(500)
    chosen = algorithm.exploit(state, (), seen)[0]
    drawn = jax.vmap(lambda decision: algorithm.explore(state, (), seen, decision)[0])(decisions)
    keys = jax.vmap(lambda decision: random_key(state.key, KeyStream.DECISION, decision))(decisions)
    noise = jax.vmap(lambda key: jax.random.normal(key, (SPEC.action_size,)))(keys)
    np.testing.assert_allclose(drawn, np.clip(chosen + 0.2 * noise, -1, 1), atol=1e-6)
    assert np.asarray(noise).std() == pytest.approx(1, abs=0.1)
