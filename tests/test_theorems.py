"""The mathematics of the paper holds in this code, to double precision.

The critics here are the algorithms' own, of humanoid's input size. Batch norm's epsilon breaks scale
invariance, so it is either so small that it vanishes or, where a law is exact with it, it follows the scale.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.nets import initialisers, layers
from crossq_wn.nets.layers import dense, ensemble, relu, serial
from crossq_wn.nets.normalisation import batch_norm

OBSERVATION, ACTION, BATCH, WIDTH = 67, 21, 32, 48
N_IN = OBSERVATION + ACTION
HIDDEN, HEAD, LAST_NORM = (1, 4), 7, 6  # places within a critic
TINY = 1e-30
HIDDEN_LAYER = st.sampled_from(HIDDEN)
SCALE = st.floats(0.05, 20)
SEED = st.integers(0, 2**31)
CLOSE = {"rtol": 0, "atol": 1e-11}


@pytest.fixture(scope="module", autouse=True)
def in_float64(float64):
    with float64():
        yield


def random_like(tree, seed):
    """The same tree in float64, with biases and batch-norm affines away from 0 and 1."""
    draws = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(p, jnp.float64) + 0.3 * draws.standard_normal(p.shape), tree)


def transitions(seed):
    """(s, a) above (s', a'), which are distributed differently."""
    draws = np.random.default_rng(seed)
    return jnp.asarray(draws.standard_normal((2 * BATCH, N_IN)) + np.repeat([[0.0], [0.5]], BATCH, 0))


def per_neuron_scales(seed):
    return np.exp(np.random.default_rng(seed).uniform(-2, 2, WIDTH))


def change(params, layer, function):
    """Applies a function to one layer of every critic."""
    return tuple((*member[:layer], function(member[layer]), *member[layer + 1 :]) for member in params)


def scaled(params, layer, c):
    return change(params, layer, lambda d: {"kernel": d["kernel"] * c, "bias": d["bias"] * c})


def weights(dense_params):
    """[W; b], one column per neuron."""
    return np.concatenate([dense_params["kernel"], dense_params["bias"][None]])


@pytest.fixture(scope="module")
def make(parts):
    """(epsilon) -> of a crossq critic: q(params, x) in training mode, gradients(params, x), params, stats."""

    @cache
    def make(epsilon):
        critic = parts("crossq", None, OBSERVATION, ACTION, critic_width=WIDTH, norm_epsilon=epsilon).critic
        params, stats = layers.create(critic, np.random.default_rng(0), N_IN)
        y = jnp.asarray(np.random.default_rng(2).standard_normal(BATCH))

        def q(params, x):
            return critic.apply(params, stats, x, train=True)[0][..., 0]

        def loss(params, x):
            return 0.5 * jnp.sum(jnp.mean(jnp.square(q(params, x)[:, :BATCH] - y), 1))

        return jax.jit(q), jax.jit(jax.grad(loss)), random_like(params, 1), stats

    return make


@given(layer=HIDDEN_LAYER, c=SCALE, seed=SEED)
def test_scaling_a_hidden_layer_leaves_q_unchanged(make, layer, c, seed):  # theorem 1
    q, _, params, _ = make(TINY)
    x = transitions(seed)
    np.testing.assert_allclose(q(scaled(params, layer, c), x), q(params, x), **CLOSE)


@given(layer=HIDDEN_LAYER, seed=SEED)
def test_scaling_each_neuron_by_its_own_factor_leaves_q_unchanged(make, layer, seed):
    q, _, params, _ = make(TINY)
    x = transitions(seed)
    np.testing.assert_allclose(q(scaled(params, layer, per_neuron_scales(seed)), x), q(params, x), **CLOSE)


@given(layer=HIDDEN_LAYER, seed=SEED)
def test_the_law_is_exact_for_any_epsilon_that_scales_by_c_squared(make, layer, seed):
    q, _, params, stats = make(1e-3)
    x, c = transitions(seed), per_neuron_scales(seed)
    first, second = (1e-3 * (c**2 if layer == place else 1) for place in HIDDEN)
    norms = [batch_norm(epsilon=epsilon) for epsilon in (1e-3, first, second)]
    member = serial(norms[0], dense(WIDTH), relu(), norms[1], dense(WIDTH), relu(), norms[2], dense(1))
    follows, _ = ensemble(member, 2).apply(scaled(params, layer, c), stats, x, train=True)
    np.testing.assert_allclose(follows[..., 0], q(params, x), **CLOSE)
    assert np.abs(q(scaled(params, layer, c), x) - q(params, x)).max() > 1e-5  # epsilon left as it was


def test_scaling_the_head_changes_q(make):
    q, _, params, _ = make(TINY)
    x = transitions(3)
    np.testing.assert_allclose(q(scaled(params, HEAD, 2.0), x), 2 * q(params, x), **CLOSE)
    assert np.abs(q(params, x)).max() > 0.1


@pytest.mark.parametrize("layer", HIDDEN)
def test_a_negative_scale_changes_q(make, layer):
    q, _, params, _ = make(TINY)
    x = transitions(3)
    assert np.abs(q(scaled(params, layer, -1.0), x) - q(params, x)).max() > 0.1


@pytest.mark.parametrize("layer", HIDDEN)
def test_scaling_the_kernel_without_the_bias_changes_q(make, layer):
    q, _, params, _ = make(TINY)
    x = transitions(3)
    kernel_only = change(params, layer, lambda d: d | {"kernel": 3 * d["kernel"]})
    assert np.abs(q(kernel_only, x) - q(params, x)).max() > 0.1


@pytest.mark.parametrize("layer", HIDDEN)
def test_scaling_a_hidden_layer_changes_q_in_evaluation_mode(make, parts, layer):
    _, _, params, stats = make(TINY)
    critic = parts("crossq", None, OBSERVATION, ACTION, critic_width=WIDTH, norm_epsilon=TINY).critic
    x = transitions(3)
    before, after = (critic.apply(p, stats, x, train=False)[0] for p in (params, scaled(params, layer, 3.0)))
    assert np.abs(before - after).max() > 0.1


@given(layer=HIDDEN_LAYER, seed=SEED)
def test_gradients_of_a_scaled_layer_shrink_by_the_scale_and_others_stay(make, layer, seed):  # theorem 2
    _, gradients, params, _ = make(TINY)
    x, c = transitions(seed), per_neuron_scales(seed)
    expected = scaled(gradients(params, x), layer, 1 / c)
    actual = gradients(scaled(params, layer, c), x)
    jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), actual, expected)
    assert all(np.abs(weights(member[place])).max() > 1e-3 for member in actual for place in HIDDEN)


@given(seed=SEED)
def test_every_neurons_gradient_is_orthogonal_to_its_weights(make, seed):  # Euler's theorem
    _, gradients, params, _ = make(TINY)
    for weight, gradient in zip(params, gradients(params, transitions(seed)), strict=True):
        for layer in HIDDEN:
            w, g = weights(weight[layer]), weights(gradient[layer])
            assert np.abs((w * g).sum(0)).max() < 1e-12
            assert np.abs(w * g).sum(0).max() > 1e-3  # not merely because the gradient is small
        assert np.abs((weights(weight[HEAD]) * weights(gradient[HEAD])).sum(0)).max() > 1e-3


@given(seed=SEED)
def test_a_step_of_gradient_descent_never_shrinks_a_neuron(make, seed):
    _, gradients, params, _ = make(TINY)
    after = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients(params, transitions(seed)))
    for old, new in zip(params, after, strict=True):
        for layer in HIDDEN:
            norms = [np.square(weights(member[layer])).sum(0) for member in (old, new)]
            assert (norms[1] - norms[0]).min() > -1e-12
            assert (norms[1] - norms[0]).max() > 1e-8


@given(seed=SEED)
def test_units_and_offsets_of_the_input_do_not_matter(make, seed):
    q, _, params, _ = make(TINY)
    draws = np.random.default_rng(seed)
    x, unit, offset = transitions(seed), np.exp(draws.uniform(-3, 3, N_IN)), draws.uniform(-5, 5, N_IN)
    np.testing.assert_allclose(q(params, x * unit + offset), q(params, x), rtol=0, atol=1e-10)


@given(epsilon=st.sampled_from([TINY, 1e-3]), seed=SEED)
def test_the_mean_over_the_joint_batch_is_what_head_and_last_norm_say(make, epsilon, seed):
    q, _, params, _ = make(epsilon)
    heads = [(member[HEAD], member[LAST_NORM]["bias"]) for member in params]
    expected = [head["bias"][0] + head["kernel"][:, 0] @ beta for head, beta in heads]
    np.testing.assert_allclose(q(params, transitions(seed)).mean(1), expected, **CLOSE)
    assert np.abs(expected).min() > 0.01


@pytest.mark.parametrize("name", ["crossq", "crossq-wn"])
def test_the_mean_over_the_joint_batch_is_zero_at_the_start(parts, name):
    critic = parts(name, None, OBSERVATION, ACTION).critic
    params, stats = layers.create(critic, np.random.default_rng(0), N_IN)
    q, _ = critic.apply(params, stats, transitions(0), train=True)
    assert np.abs(q.mean(1)).max() < 1e-6 < 0.1 < np.abs(q).max()


# Weight norm


def wn_critic(parts, **changes):
    """A crossq-wn critic with random parameters that are not projected yet."""
    critic = parts("crossq-wn", None, OBSERVATION, ACTION, norm_epsilon=TINY, **changes).critic
    params, stats = layers.create(critic, np.random.default_rng(0), N_IN)
    return critic, random_like(params, 1), stats


def layer_norms(params):
    return [[np.linalg.norm(weights(member[layer])) for layer in HIDDEN] for member in params]


def test_projection_gives_every_hidden_neuron_unit_norm_and_the_layers_root_of_their_width(
    parts, monkeypatch
):
    monkeypatch.setattr(np.linalg, "qr", lambda a: (a, np.ones((1, 1))))  # no need for costly orthogonality
    critic, params, _ = wn_critic(parts, critic_width=512)
    norms = [np.linalg.norm(weights(m[layer]), axis=0) for m in critic.project(params) for layer in HIDDEN]
    np.testing.assert_allclose(norms, 1, **CLOSE)
    np.testing.assert_allclose(layer_norms(critic.project(params)), 22.627417, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.sum(layer_norms(critic.project(params)), 1), 45.254834, rtol=0, atol=1e-6)


def test_hidden_layers_start_projected(parts):
    for network in ("actor", "critic"):
        layer = getattr(parts("crossq-wn"), network)
        params = layers.create(layer, np.random.default_rng(0), 7).params
        for member in params if network == "critic" else (params,):
            norms = [np.linalg.norm(weights(member[place]), axis=0) for place in HIDDEN]
            np.testing.assert_allclose(norms, 1, rtol=1e-6)


@pytest.mark.parametrize("scope", ["neuron", "neuron-kernel", "layer"])
def test_projection_is_idempotent(parts, scope):
    critic, params, _ = wn_critic(parts, weight_norm=scope)
    once = critic.project(params)
    jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), critic.project(once), once)
    assert np.abs(layer_norms(once)[0][0] - layer_norms(params)[0][0]) > 0.1


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_each_scope_projects_onto_its_radius(parts, radius):
    projected = {}
    for scope in ("neuron", "neuron-kernel", "layer"):
        critic, params, _ = wn_critic(parts, weight_norm=scope, weight_norm_radius=radius)
        projected[scope] = critic.project(params)
    np.testing.assert_allclose(layer_norms(projected["layer"]), radius, **CLOSE)
    np.testing.assert_allclose(layer_norms(projected["neuron"]), radius * 16**0.5, **CLOSE)
    for member, before in zip(projected["neuron-kernel"], params, strict=True):
        for layer in HIDDEN:
            np.testing.assert_allclose(np.linalg.norm(member[layer]["kernel"], axis=0), radius, **CLOSE)
            np.testing.assert_array_equal(member[layer]["bias"], before[layer]["bias"])


@pytest.mark.parametrize(
    ("scope", "preserves"), [("neuron", True), ("layer", True), ("neuron-kernel", False)]
)
def test_projection_preserves_q_only_with_weights_and_bias_together(parts, scope, preserves):
    critic, params, stats = wn_critic(parts, weight_norm=scope)
    before, after = (
        critic.apply(p, stats, transitions(3), train=True)[0] for p in (params, critic.project(params))
    )
    difference = np.abs(before - after).max()
    assert difference < 1e-11 if preserves else difference > 0.1


def test_projection_leaves_head_and_batch_norm_alone(parts):
    critic, params, _ = wn_critic(parts)
    for before, after in zip(params, critic.project(params), strict=True):
        for layer in {*range(len(before))} - {*HIDDEN}:
            jax.tree.map(np.testing.assert_array_equal, after[layer], before[layer])


def test_the_heads_kernels_are_projected_only_on_request(parts):
    critic, params, _ = wn_critic(parts, weight_norm_head=True)
    for before, member in zip(params, critic.project(params), strict=True):
        np.testing.assert_allclose(np.linalg.norm(member[HEAD]["kernel"], axis=0), 1, **CLOSE)
        np.testing.assert_array_equal(member[HEAD]["bias"], before[HEAD]["bias"])
    for bound in (True, False):
        actor = parts("crossq-wn", weight_norm_head=bound).actor
        params = random_like(layers.create(actor, np.random.default_rng(0), 5).params, 1)
        norms = np.linalg.norm(actor.project(params)[HEAD]["kernel"], axis=0)
        assert np.allclose(norms, 1, **CLOSE) == bound


def test_the_actor_is_projected_unless_it_is_not_to_be(parts):
    for bound in (True, False):
        actor = parts("crossq-wn", weight_norm_actor=bound).actor
        params = random_like(layers.create(actor, np.random.default_rng(0), 5).params, 1)
        norms = [np.linalg.norm(weights(actor.project(params)[layer]), axis=0) for layer in HIDDEN]
        assert np.allclose(norms, 1, **CLOSE) == bound


# Initialisation


@pytest.mark.parametrize(
    ("observation", "action", "first", "total"),
    [(223, 38, 22.847, 56.26), (67, 21, 13.266, 46.68), (17, 6, 6.782, 40.20)],
    ids=["dog", "humanoid", "cheetah"],
)
def test_orthogonal_initialisation_has_the_norms_of_its_gain(parts, observation, action, first, total):
    critic = parts("crossq", None, observation, action, critic_width=512, critics=1).critic
    for member in layers.create(critic, np.random.default_rng(0), observation + action).params:
        kernels = [np.asarray(member[layer]["kernel"], np.float64) for layer in (*HIDDEN, HEAD)]
        norms = [np.linalg.norm(kernel) for kernel in kernels]
        np.testing.assert_allclose(norms, [first, 32, 2**0.5], atol=1e-3)
        np.testing.assert_allclose(sum(norms), total, atol=1e-2)
        np.testing.assert_allclose(np.linalg.norm(kernels[1], axis=0), 2**0.5, atol=1e-5)
        np.testing.assert_allclose(kernels[0] @ kernels[0].T, 2 * np.eye(observation + action), atol=1e-5)
        assert not any(member[layer]["bias"].any() for layer in (*HIDDEN, HEAD))


def test_factorisations_take_one_thread_and_leave_the_others_as_they_were(monkeypatch):
    """Threads of OpenBLAS stand in each other's way on a busy machine; results do not depend on them."""
    found = initialisers._openblas()
    if found is None:
        pytest.skip("NumPy's BLAS is not an OpenBLAS")
    count, limit = found
    qr, seen, before = np.linalg.qr, [], count()
    init = initialisers.orthogonal(1.0)

    def noting(matrix):
        seen.append(count())
        return qr(matrix)

    def failing(matrix):
        raise MemoryError

    try:
        limit(2)
        drawn = np.random.default_rng(0).standard_normal((300, 200))
        q, r = qr(drawn)
        monkeypatch.setattr(np.linalg, "qr", noting)
        kernel = init(np.random.default_rng(0), 300, 200)
        np.testing.assert_array_equal(kernel, (q * np.sign(np.diag(r))).astype(np.float32))
        assert (seen, count()) == ([1], 2)
        monkeypatch.setattr(np.linalg, "qr", failing)
        with pytest.raises(MemoryError):
            init(np.random.default_rng(0), 300, 200)
        assert count() == 2
        monkeypatch.setattr(np.linalg, "qr", qr)
        monkeypatch.setattr(initialisers, "_openblas", lambda: None)
        np.testing.assert_array_equal(init(np.random.default_rng(0), 300, 200), kernel)
    finally:
        limit(before)


def test_actor_heads_start_with_their_own_gains(parts):
    for name, mean_gain in {"crossq": 2**0.5, "crossq-wn": 2**0.5, "sac": 1.0}.items():
        params = layers.create(parts(name).actor, np.random.default_rng(0), 5).params
        mean, log_std = np.split(np.asarray(params[-1]["kernel"], np.float64), 2, 1)
        np.testing.assert_allclose(mean.T @ mean, mean_gain**2 * np.eye(2), atol=1e-6)
        np.testing.assert_allclose(log_std.T @ log_std, np.eye(2), atol=1e-6)


def test_critics_and_seeds_start_independently(algorithm):
    states = [algorithm("crossq-wn").init(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    kernels = [member[1]["kernel"] for state in states for member in state.critic.params]
    assert np.array_equal(kernels[0], kernels[2])
    assert np.array_equal(kernels[1], kernels[3])
    assert all(np.abs(kernels[i] - kernels[j]).max() > 0.1 for i, j in [(0, 1), (0, 4), (1, 5), (4, 5)])
