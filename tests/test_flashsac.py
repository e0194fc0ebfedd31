"""FlashSAC computes what its authors' code does: closed forms, and one update against numpy."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, Preset, Recipe, normalisers
from crossq_wn.algorithms.actor_critic import critic_loss, regression, soft_actor_critic
from crossq_wn.algorithms.exploration import HeldNoise, hold, zeta
from crossq_wn.algorithms.settings import Settings
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.nets import layers, losses
from crossq_wn.nets.normalisation import rms_norm
from crossq_wn.types import Algorithm, Spec, Vars
from helpers import TINY_OPTIONS, PointMass, load_file

SCALE = normalisers.bounded_return(5.0)._replace(prior=0.0, add=normalisers.add_sample_padded)
DEFAULT = ALGORITHMS["flashsac"].presets["default"].settings
LIMIT, EPSILON = 5.0, 1e-5
OBSERVATION, ACTION = 5, 2
# Places within a network: input norm, embedding, blocks, RMS norm, head; and within a block.
INPUT, EMBEDDING, BLOCKS, RMS, HEAD = 0, 1, (2, 3), 4, 5
FIRST, FIRST_NORM, SECOND, SECOND_NORM = 0, 1, 3, 4


def generator(seed):
    return np.random.default_rng(seed)


def same(actual, expected, **tolerance):
    check = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    jax.tree.map(lambda a, b: check(a, b, **tolerance), actual, expected)


def put(tree, path, value):
    """A tree of tuples and dictionaries with another value at a path."""
    if not path:
        return value
    place, *rest = path
    if isinstance(tree, dict):
        return tree | {place: put(tree[place], rest, value)}
    return (*tree[:place], put(tree[place], rest, value), *tree[place + 1 :])


@pytest.fixture(scope="module")
def made(parts):
    """Small parts without the statistics and the noise around them."""
    return parts("flashsac", critic_width=32)._replace(around=())


@pytest.fixture(scope="module")
def trained(made, batch):
    """States: the first, and those after each of three updates."""
    algorithm = soft_actor_critic(made)
    update, states = jax.jit(algorithm.update), [algorithm.init(generator(0))]
    for count in range(3):
        states.append(update(states[-1], batch(count, 8), np.int32(count))[0])
    return states


# 1. Norms


def norms(network):
    """(norms of the neurons, norms of normalisations over the root of their features) of one network."""
    neurons, affine = [], []
    for layer in [network[INPUT], network[EMBEDDING], network[RMS], network[HEAD], *network[2], *network[3]]:
        if "kernel" in layer:
            neurons.append(np.linalg.norm(layer["kernel"], axis=0))
        elif "scale" in layer:
            together = np.concatenate([np.ravel(leaf) for leaf in layer.values()])
            affine.append(np.linalg.norm(together) / len(layer["scale"]) ** 0.5)
    return np.concatenate(neurons), np.array(affine)


def test_neurons_have_unit_norm_and_normalisations_that_of_ones_at_first_and_after_every_update(trained):
    for state in trained:
        for network in (state.actor.params, *state.critic.params):
            neurons, affine = norms(network)
            assert len(affine) == 6
            np.testing.assert_allclose(neurons, 1, atol=3e-6)
            np.testing.assert_allclose(affine, 1, atol=3e-6)
    for network in trained[1].target:  # an average of unit vectors is a little shorter
        neurons, _ = norms(network)
        assert 0.99999 < neurons.min() < neurons.max() < 1 + 3e-6
    assert np.abs(trained[1].critic.params[0][HEAD]["bias"]).max() > 0


# 2. Features


def test_features_have_the_norm_of_their_root_and_the_first_cross_entropy_is_half_above_ln_101(parts):
    full = parts("flashsac", replace(DEFAULT, critics=1).for_run(1_000_000), 17, 6)._replace(around=())
    state = soft_actor_critic(full).init(generator(0))
    x = generator(1).standard_normal((128, 17 + 6), np.float32)
    (member,), (stats,) = state.critic
    (logits,), _ = jax.jit(partial(full.critic.apply, train=True))((member,), (stats,), x)
    assert 0.9 < logits.std(-1).mean() < 1.1
    assert np.abs(logits).max() < 16
    spread = losses.categorical(-LIMIT, LIMIT, 101).loss(logits[None], np.full((128, 101), 1 / 101))
    np.testing.assert_allclose(spread, np.log(101) + 0.5, atol=0.1)


def test_the_rms_norm_gives_each_sample_the_norm_of_its_root():
    norm = rms_norm()
    params, _, _ = norm.init(generator(0), 128)
    x = 30 * generator(1).standard_normal((4, 128), np.float32)
    y, _ = norm.apply(params, (), x, train=False)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 128**0.5, rtol=1e-5)
    np.testing.assert_allclose(y, x / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-6), rtol=1e-5)
    np.testing.assert_allclose(norm.apply(params, (), 0 * x, train=False)[0], 0)


# 3. Scales


def critic_of(made, state, x):
    """params of the first member -> its outputs in training mode."""
    (params, *_), (stats, *_) = state.critic

    def outputs(params=params, x=x):
        return made.critic.apply((params,) * 2, (stats,) * 2, x, train=True)[0][0]

    return jax.jit(outputs), params


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ((2, FIRST, "kernel"), True),
        ((3, SECOND, "kernel"), True),
        ((EMBEDDING, "kernel"), False),
        ((HEAD, "kernel"), False),
    ],
)
def test_only_the_scale_of_weights_inside_a_block_is_free(made, trained, path, free):
    x = generator(3).standard_normal((64, 7), np.float32)
    outputs, params = critic_of(made, trained[0], x)
    kernel = params[path[0]][path[1]][path[2]] if len(path) == 3 else params[path[0]][path[1]]
    scaled = outputs(put(params, path, kernel.at[:, 0].multiply(5.0)))
    assert (np.abs(scaled - outputs()).max() < 2e-4) == free
    if not free:
        assert np.abs(scaled - outputs()).max() > 0.05
    # Euler: the gradient of a function that does not depend on a scale is orthogonal to what is scaled.
    slope = jax.grad(lambda kernel: jnp.sum(jnp.square(outputs(put(params, path, kernel)))))(kernel)
    along = np.abs(np.sum(slope * kernel, 0)).max() / np.linalg.norm(slope, axis=0).max()
    assert (along < 1e-3) == free


def test_the_scale_of_a_blocks_first_norm_is_free_and_that_of_its_second_is_not(made, trained):
    x = generator(3).standard_normal((64, 7), np.float32)
    outputs, params = critic_of(made, trained[0], x)
    for place, free in ((FIRST_NORM, True), (SECOND_NORM, False)):
        scaled = outputs(put(params, (2, place), jax.tree.map(lambda leaf: 3 * leaf, params[2][place])))
        assert (np.abs(scaled - outputs()).max() < 2e-4) == free


def test_inputs_may_have_any_unit_and_origin_but_not_the_other_sign(made, trained):
    x = generator(3).standard_normal((64, 7), np.float32)
    outputs, _ = critic_of(made, trained[0], x)
    np.testing.assert_allclose(outputs(x=3 * x + 2), outputs(), atol=1e-3)
    assert np.abs(outputs(x=-x) - outputs()).max() > 0.1


# 4. Joint passes


def test_the_embedding_is_centred_and_the_other_half_of_a_pass_shapes_predictions(made, trained):
    state = trained[0]
    x, next_x, other = (generator(seed).standard_normal((16, 7), np.float32) for seed in range(3))
    params, stats = state.critic.params[0], state.critic.stats[0]
    both = np.concatenate([x, next_x])
    normed = (both - both.mean(0)) / np.sqrt(both.var(0) + EPSILON)
    np.testing.assert_allclose((normed @ params[EMBEDDING]["kernel"]).mean(0), 0, atol=1e-6)
    q_pair = jax.jit(partial(made.q_pair, made.critic))
    q, changed = (q_pair(state.critic.params, state, x, n, jax.random.key(0))[0] for n in (next_x, other))
    assert np.abs(q - changed).max() > 0.05
    # At first an evaluation normalises by mean 0 and variance 1.
    quiet = jax.tree.map(np.asarray, stats)
    assert all((quiet[INPUT]["mean"] == 0) & (quiet[INPUT]["variance"] == 1))


# 5. The first update


def test_the_first_update_moves_the_actor_the_temperature_and_the_target_by_their_rules(made, trained, batch):
    first, once, twice, _ = trained
    up = float(once.actor_metrics.entropy) < made.target_entropy
    np.testing.assert_allclose(np.exp(once.log_temperature), 0.010003 if up else 0.009997, rtol=1e-6)
    data = batch(0, 8)
    seen = np.concatenate([data.observation, data.next_observation])
    np.testing.assert_allclose(once.actor.stats[INPUT]["mean"], 0.01 * seen.mean(0), atol=1e-7)
    variance = 0.99 + 0.01 * seen.var(0, ddof=1)
    np.testing.assert_allclose(once.actor.stats[INPUT]["variance"], variance, rtol=1e-6)
    follows = jax.tree.map(lambda old, new: old + 0.01 * (new - old), first.target, once.critic.params)
    same(once.target, follows, rtol=1e-6, atol=1e-7)
    for field in ("actor", "actor_moments", "log_temperature", "temperature_moments"):
        same(getattr(twice, field), getattr(once, field))
    adam = optax.tree_utils.tree_get(trained[3].actor_moments, "ScaleByAdamState")
    assert int(adam.count) == 2  # after three updates


def test_a_neurons_first_step_is_the_learning_rate_times_the_root_of_its_inputs(trained):
    first, once = (state.critic.params[0] for state in trained[:2])
    for old, new in zip(layers.dense_layers(first), layers.dense_layers(once), strict=True):
        moved = np.linalg.norm(new["kernel"] - old["kernel"], axis=0)
        expected = 3e-4 * len(old["kernel"]) ** 0.5
        assert 0.5 * expected < np.median(moved) < 1.05 * expected  # the projection takes a part away


# 6. Targets


@pytest.mark.parametrize(
    ("reward", "mask", "entropy", "mean", "place", "mass"),
    [
        (0.05, 0, 0.0, 0.05, 50, 0.5),
        (-7.0, 0, 0.0, -5.0, 0, 1.0),
        (0.3, 1, 0.0, 0.295515, 100, 0.034950),
        (0.0, 1, 0.1, -0.098515, 0, 0.014851),
        (0.2, 1, -0.5, 0.670881, 100, 0.074455),
    ],
)
def test_a_uniform_distribution_moves_as_in_the_authors_code(
    float64, reward, mask, entropy, mean, place, mass
):
    """`entropy` is alpha log pi(a'|s')."""
    with float64():
        readout = losses.categorical(-LIMIT, LIMIT, 101)
        columns = [jnp.array([value]) for value in (reward, 0.99 * mask, -entropy)]
        y = readout.target(jnp.zeros((2, 1, 101)), *columns, jax.random.key(0))
        assert float(readout.expected(y)[0]) == pytest.approx(mean, abs=6e-7)
        assert float(y[0, place]) == pytest.approx(mass, abs=6e-7)
        assert float(y.sum()) == pytest.approx(1)


# 7. The scale of rewards


@pytest.fixture(scope="module")
def watched():
    """[(reward, ended)] -> the statistics after each."""

    def watch(transitions):
        nothing = Algorithm(lambda stream: (), None, None, None)
        spec = Spec(1, 1, 0.99)
        scaled = normalisers.scale_rewards(spec, SCALE)(nothing)
        state, seen, observe = scaled.init(generator(0)), [], jax.jit(scaled.observe)
        for reward, ended in transitions:
            state = observe(state, np.zeros(1), np.float32(reward), np.bool_(ended))
            seen.append(state.statistics)
        return seen

    return watch


def test_rewards_are_scaled_as_in_the_authors_code_whose_last_reward_leaks(watched):
    seen = watched([(1, False), (1, False), (1, True), (1, False), (1, False)])
    unit = SCALE.unit
    np.testing.assert_allclose([s.now for s in seen], [1, 1.99, 1, 1.99, 2.9701], rtol=1e-6)
    variances = [1e-4, 0.245075, 0.217842, 0.245062, 0.544201]
    np.testing.assert_allclose([s.moments.variance for s in seen], variances, rtol=3e-6)
    scaled = [1 / unit(s) for s in seen]
    np.testing.assert_allclose(scaled, [5, 2.01999, 2.14254, 2.02005, 1.35556], atol=6e-6)


def test_no_scaled_return_leaves_the_support(watched):
    constant = watched([(3.0, False)] * 600)
    unit = SCALE.unit
    assert max(float(s.now / unit(s)) for s in constant) <= LIMIT * (1 + 1e-6)


# 8. Schedules and held noise


def test_learning_rates_fall_along_half_a_cosine(float64):
    with float64():
        rate = replace(DEFAULT, learning_rate_updates=1_000_000).schedule(3e-4)
        found = [float(rate(k)) for k in (0, 1, 2, 250_000, 500_000, 1_000_000, 495_001)]
    expected = [3e-4, 3e-4, 2.9999999999963e-4, 2.780331e-4, 2.250001e-4, 1.5e-4, 2.26178e-4]
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    assert 3e-16 < 3e-4 - found[2] < 4.5e-16


def test_noise_is_held_as_long_as_a_cut_off_zeta_law_says():
    law, count = zeta(2.0, 16), 40_000
    np.testing.assert_allclose(law[:4], [0.631175, 0.157794, 0.070131, 0.039448], atol=5e-7)
    assert law[15] == pytest.approx(0.002466, abs=5e-7)
    assert law @ np.arange(1, 17) == pytest.approx(2.133832, abs=5e-7)

    def decide(held, key):
        held = hold(held, np.cumsum(law), key)
        return held._replace(left=held.left - 1), (held.noise, held.left)

    start = HeldNoise(jnp.zeros(2), jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), count)
    _, (noise, left) = jax.jit(lambda: jax.lax.scan(decide, start, keys))()
    kept = (np.diff(noise, axis=0) == 0).all(1)
    assert kept.mean() == pytest.approx(0.531359, abs=0.01)
    assert (np.asarray(left)[:-1][kept] > 1).all()
    lengths = np.diff(np.flatnonzero([True, *~kept, True]))[:-1]
    shares = np.bincount(lengths, minlength=17)[1:] / len(lengths)
    np.testing.assert_allclose(shares, law, atol=0.01)
    fresh = np.asarray(noise)[[True, *~kept]]
    np.testing.assert_allclose([fresh.mean(), fresh.std()], [0, 1], atol=0.02)


def test_the_held_noise_moves_with_each_observations_own_mean_and_deviation(algorithm, parts):
    algorithm, made = algorithm("flashsac"), parts("flashsac")
    state, explore = algorithm.init(generator(0)), jax.jit(algorithm.explore)
    held = HeldNoise(np.array([0.5, -1.5], np.float32), np.int32(2))
    for decision in range(2):
        seen = generator(decision).standard_normal(OBSERVATION, np.float32)
        action, held = explore(state, held, seen, np.int32(decision))
        mean, log_std = made.policy.gaussian(layers.predict(made.actor, state.inner.actor, seen[None])[0])
        np.testing.assert_allclose(action, np.tanh(mean + np.exp(log_std) * [0.5, -1.5]), rtol=1e-5)
        assert int(held.left) == 1 - decision
    _, held = explore(state, held, seen, np.int32(2))
    assert not np.isin(held.noise, [0.5, -1.5]).any()


def test_totals_of_a_million_frames():
    decisions = 1_000_000 - DEFAULT.warmup
    assert (decisions, decisions // DEFAULT.policy_delay) == (990_000, 495_000)  # theirs begin one earlier
    targets = {38: -18.170895, 21: -10.041810, 6: -2.869089, 39: -18.649077}
    for actions, target in targets.items():
        assert -DEFAULT.target_entropy_scale * actions == pytest.approx(target, abs=5e-7)


# What acting remembers from episode to episode


@pytest.mark.parametrize(("recall", "expected"), [(lambda old, new: old, 80), (lambda old, new: new, 7)])
def test_an_algorithm_says_what_acting_remembers_when_an_episode_ends(
    monkeypatch, tmp_path, recall, expected
):
    """An algorithm that counts its decisions: those of the present episode, or all, evaluations apart."""

    def make(spec, settings):
        def act(state, memory, observation, decision=0):
            return jnp.full(spec.action_size, -0.2), memory + 1  # which is 0 in its units: it stays

        return Algorithm(
            lambda stream: np.float32(1), act, act, lambda state, batch, count: (state, {}),
            memory=np.int32(0), recall=recall,
        )  # fmt: skip

    presets = {"default": Preset(Settings(utd=1, batch_size=4, warmup=1), "nowhere")}
    monkeypatch.setitem(ALGORITHMS, "counts", Recipe("counts", Settings, presets, make))
    options = TINY_OPTIONS | {"eval_every": 30, "log_every": 1000, "checkpoint_every": 40}
    run = crossq_wn.train(PointMass, algorithm="counts", frames=50, out=tmp_path / "run", **options).path
    crossq_wn.resume(run, frames=81)
    saved = load_file(run / "checkpoints" / "000000081" / "seed-0.safetensors")
    # Episodes have 37 decisions, and the first decision of all is warm-up.
    assert int(saved["learner/memory"]) == expected


# One update against numpy


def normalised(params, x, seen=None):
    """Batch norm by the batch's statistics, or by those that an evaluation has seen."""
    mean, variance = (x.mean(0), x.var(0)) if seen is None else (seen["mean"], seen["variance"])
    return params["scale"] * (x - mean) / np.sqrt(variance + EPSILON) + params["bias"]


def forward(params, x, seen=None):
    """A network in training mode, or in evaluation with running statistics; and the means inside."""

    def of(*path):
        return None if seen is None else seen[path[0]] if len(path) == 1 else seen[path[0]][path[1]]

    x = normalised(params[INPUT], x, of(INPUT)) @ params[EMBEDDING]["kernel"]
    for b in BLOCKS:
        block = params[b]
        h = np.maximum(normalised(block[FIRST_NORM], x @ block[FIRST]["kernel"], of(b, FIRST_NORM)), 0)
        x = x + np.maximum(normalised(block[SECOND_NORM], h @ block[SECOND]["kernel"], of(b, SECOND_NORM)), 0)
    x = params[RMS]["scale"] * x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    return x @ params[HEAD]["kernel"] + params[HEAD]["bias"]


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def gaussian(output):
    mean, ell = np.split(output, 2, -1)
    return mean, -10 + 6 * (1 + np.tanh(ell))


def act(output, noise):
    """(tanh(mu + sigma noise), log pi)"""
    mean, log_std = gaussian(output)
    u = mean + np.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return np.tanh(u), (log_normal + 2 * np.log(np.cosh(u))).sum(-1)


def projected(probabilities, places, atoms):
    """Atom by atom, as the authors do it."""
    step, y = 2 * LIMIT / (atoms - 1), np.zeros_like(probabilities)
    for row, (p, t) in enumerate(zip(probabilities, places, strict=True)):
        b = (np.clip(t, -LIMIT, LIMIT) + LIMIT) / step
        low = np.minimum(np.floor(b).astype(int), atoms - 1)
        for j, place in enumerate(low):
            y[row, place] += p[j] * (1 - (b[j] - place))
            y[row, min(place + 1, atoms - 1)] += p[j] * (b[j] - place)
    return y


class ByHand:
    """The losses of one update, as functions of the parameters that they are to move."""

    def __init__(self, state, batch, discount, noise, next_noise):
        self.state, self.batch, self.noise, self.next_noise = state, batch, noise, next_noise
        self.discount, self.atoms = discount, state.target[0][HEAD]["bias"].size
        self.support = np.linspace(-LIMIT, LIMIT, self.atoms)

    def values(self, logits):
        return np.exp(log_softmax(logits)) @ self.support

    def actor_loss(self, params):
        s = self.batch.observation
        both = np.concatenate([s, self.batch.next_observation])
        action, self.log_pi = act(forward(params, both)[: len(s)], self.noise)
        x = np.concatenate([s, action], 1)
        q = [self.values(forward(*member)) for member in self.members(x)]
        return np.mean(np.exp(self.state.log_temperature) * self.log_pi - np.minimum(*q))

    def members(self, x):
        for params, seen in zip(self.state.critic.params, self.state.critic.stats, strict=True):
            yield params, x, seen

    def target(self, actor, alpha):
        """y [B, atom], by an actor and temperature that have just been updated."""
        s, a, r, mask, next_s, _ = self.batch
        output = forward(actor.params, next_s, actor.stats)
        next_a, log_pi = act(output, self.next_noise)
        self.x = np.concatenate([np.concatenate([s, a], 1), np.concatenate([next_s, next_a], 1)])
        logits = np.stack([forward(member, self.x)[len(s) :] for member in self.state.target])
        lower = np.argmin(self.values(logits), 0)
        p = np.exp(log_softmax(logits[lower, np.arange(len(s))]))
        places = r[:, None] + self.discount * mask[:, None] * (self.support - alpha * log_pi[:, None])
        return projected(p, places, self.atoms)

    def critic_loss(self, y, params):
        each = [-(y * log_softmax(forward(member, self.x)[: len(y)])).sum(-1) for member in params]
        return np.mean(each)


def in_float64(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, tree)


@pytest.fixture(scope="module")
def updated(parts, batch, float64):
    """In float64: state before and after one update at count 0, the losses by hand, and the metrics.

    Nothing is where it starts: parameters, statistics, target and temperature are displaced at random.
    """
    with float64():
        made = parts("flashsac", actor_width=6, critic_width=7, atoms=21)._replace(around=())
        draws = generator(1)

        def moved(tree, size=0.2):
            return jax.tree.map(lambda p: p + size * draws.standard_normal(p.shape), tree)

        algorithm = soft_actor_critic(made)
        fresh = in_float64(algorithm.init(generator(0)))
        actor, critic = (
            Vars(layer.project(moved(old.params)), jax.tree.map(lambda p: p + 0.3, old.stats))
            for layer, old in ((made.actor, fresh.actor), (made.critic, fresh.critic))
        )
        state = fresh._replace(
            actor=actor,
            critic=critic,
            target=moved(fresh.target),
            log_temperature=jnp.float64(np.log(0.3)),
            actor_moments=made.actor_optimiser.init(actor.params),
            critic_moments=made.critic_optimiser.init(critic.params),
            temperature_moments=made.temperature_optimiser.init(jnp.float64(0)),
        )
        data = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), batch(0, 8))
        after, metrics = jax.jit(algorithm.update)(state, data, 0)
        keys = jax.random.split(random_key(state.key, KeyStream.UPDATE, 0))
        next_noise, noise = (np.asarray(jax.random.normal(key, (8, ACTION), jnp.float64)) for key in keys)
        before, after = jax.tree.map(np.asarray, (state, after))
        hand = ByHand(before, data, made.spec.discount, noise, next_noise)
        return made, before, after, hand, {name: float(value) for name, value in metrics.items()}


def slope(loss, params, seed):
    """The change of a loss along a random direction, and that direction."""
    draws = generator(seed)
    direction = jax.tree.map(lambda p: draws.standard_normal(p.shape), params)
    up, down = (jax.tree.map(lambda p, d, h=h: p + h * d, params, direction) for h in (1e-6, -1e-6))
    return (loss(up) - loss(down)) / 2e-6, direction


def gradient_of(moments):
    """Adam's first moment is a tenth of its first gradient."""
    return jax.tree.map(lambda m: np.asarray(m) / 0.1, optax.tree_utils.tree_get(moments, "mu"))


def dot(one, other):
    return sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def stepped(layer, params, gradient):
    """Adam's first step, and the projection by hand."""
    after = jax.tree.map(lambda p, g: p - 3e-4 * g / (np.abs(g) + 1e-8), params, gradient)

    def on_spheres(node):
        if isinstance(node, tuple):
            return tuple(map(on_spheres, node))
        if "kernel" in node:
            norm = np.maximum(np.linalg.norm(node["kernel"], axis=0), 1e-8)
            return node | {"kernel": node["kernel"] / norm}
        square = sum(np.square(leaf).sum() for leaf in node.values())
        return {k: leaf * np.sqrt(len(node["scale"]) / (square + 1e-8)) for k, leaf in node.items()}

    return on_spheres(after)


def test_the_actors_update_is_the_one_by_hand(updated):
    made, before, after, hand, metrics = updated
    loss = hand.actor_loss(before.actor.params)
    assert metrics["actor_loss"] == pytest.approx(loss, rel=1e-9)
    assert metrics["entropy"] == pytest.approx(-hand.log_pi.mean(), rel=1e-9)
    gradient = gradient_of(after.actor_moments)
    for seed in range(3):
        change, direction = slope(hand.actor_loss, before.actor.params, seed)
        assert dot(gradient, direction) == pytest.approx(change, rel=1e-5, abs=1e-7)
    same(after.actor.params, stepped(made.actor, before.actor.params, gradient), rtol=1e-6, atol=1e-8)


def test_the_temperatures_update_is_the_one_by_hand(updated):
    made, before, after, hand, metrics = updated
    hand.actor_loss(before.actor.params)
    gradient = 0.3 * (-hand.log_pi.mean() - made.target_entropy)
    moment = float(optax.tree_utils.tree_get(after.temperature_moments, "mu"))
    assert moment == pytest.approx(0.1 * gradient, rel=1e-9)
    expected = np.log(0.3) - 3e-4 * np.sign(gradient)
    assert np.log(metrics["temperature"]) == pytest.approx(expected, rel=1e-7)


def test_the_critics_update_is_the_one_by_hand(updated):
    made, before, after, hand, metrics = updated
    y = hand.target(after.actor, metrics["temperature"])
    assert metrics["critic_loss"] == pytest.approx(hand.critic_loss(y, before.critic.params), rel=1e-9)
    assert metrics["target_q_mean"] == pytest.approx((y @ hand.support).mean(), rel=1e-9)
    gradient = gradient_of(after.critic_moments)
    for seed in range(3):
        change, direction = slope(partial(hand.critic_loss, y), before.critic.params, seed)
        assert dot(gradient, direction) == pytest.approx(change, rel=1e-5, abs=1e-7)
    same(after.critic.params, stepped(made.critic, before.critic.params, gradient), rtol=1e-6, atol=1e-8)
    expected = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, before.target, after.critic.params)
    same(after.target, expected, rtol=1e-9, atol=1e-12)


def test_running_statistics_are_those_of_the_joint_batches(updated):
    """Of the online critic and the actor, each in its own step; the unbiased variance enters them."""
    _, before, after, hand, metrics = updated
    hand.target(after.actor, metrics["temperature"])
    states = np.concatenate([hand.batch.observation, hand.batch.next_observation])
    seen = [(before.actor, after.actor, states)]
    for k in range(2):
        seen.append((*(Vars(s.critic.params[k], s.critic.stats[k]) for s in (before, after)), hand.x))
    for old, new, x in seen:
        embedded = normalised(old.params[INPUT], x) @ old.params[EMBEDDING]["kernel"]
        inner = embedded @ old.params[2][FIRST]["kernel"]
        for y, path in ((x, (INPUT,)), (inner, (2, FIRST_NORM))):
            was, now = old.stats, new.stats
            for place in path:
                was, now = was[place], now[place]
            np.testing.assert_allclose(now["mean"], 0.99 * was["mean"] + 0.01 * y.mean(0), rtol=1e-9)
            variance = 0.99 * was["variance"] + 0.01 * y.var(0, ddof=1)
            np.testing.assert_allclose(now["variance"], variance, rtol=1e-9)


def test_the_critics_target_needs_the_actor_just_updated_and_the_target_critic(updated, float64):
    made, before, after, hand, metrics = updated
    theta = before.critic.params
    state = before._replace(actor=after.actor, log_temperature=after.log_temperature)
    with float64():
        key, _ = jax.random.split(random_key(before.key, KeyStream.UPDATE, 0))
        prepare, loss = jax.jit(partial(regression, made)), jax.jit(partial(critic_loss, made))
        data, stale = (prepare(each, hand.batch, key) for each in (state, before))
        cases = [(state, data), (state, stale), (state._replace(target=theta), data)]
        usual, *others = (float(loss(*case, theta)[0]) for case in cases)
    assert metrics["critic_loss"] == pytest.approx(usual, rel=1e-9)
    assert all(abs(usual - other) > 1e-7 for other in others)
