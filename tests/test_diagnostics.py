"""Do diagnostics measure what they say? A network computed by hand, the scaling law, known Q."""

import ast
import inspect
import re
import textwrap
from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from jax.flatten_util import ravel_pytree

import crossq_wn
import test_experience
from crossq_wn.algorithms import ALGORITHMS, Recipe
from crossq_wn.algorithms.settings import Settings
from crossq_wn.cli import main
from crossq_wn.environments import make
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import naming_options
from crossq_wn.learning import diagnostics, learner, programs
from crossq_wn.learning.diagnostics import diagnose
from crossq_wn.learning.evaluation import Arena
from crossq_wn.learning.hessian import Spectrum, lanczos, spectrum
from crossq_wn.learning.q_bias import counted, q_bias, returns_to_go
from crossq_wn.nets.layers import create, dense, dense_layers, elementwise, ensemble, relu, serial
from crossq_wn.nets.normalisation import batch_norm
from crossq_wn.results import experience, health
from crossq_wn.results.figures import FIGURES, Source
from crossq_wn.results.health import Course, change, courses, findings
from crossq_wn.results.report import page as report
from crossq_wn.results.report.contents import gather
from crossq_wn.types import CriticView, Spec, Vars
from helpers import TINY, TINY_OPTIONS, TINY_SETTINGS, PointMass, call, make_run, rows
from house import ROOT

X = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
TARGET = np.array([1.0, -2.0], np.float32)


def view_of(layer, variables, x=X, target=TARGET):
    """A critic that regresses a target with half the mean squared error."""

    def loss(params):
        q = layer.apply(params, variables.stats, x, train=True)[0][..., 0]
        return 0.5 * jnp.mean(jnp.square(q - target), -1).sum()

    return CriticView(
        params=variables.params,
        loss=loss,
        learning_rate=0.1,
        hidden=layer.hidden(variables.params, variables.stats, x),
        stats=variables.stats,
        new_stats=layer.apply(variables.params, variables.stats, x, train=True)[1],
        target=jnp.asarray(target),
    )


@pytest.fixture
def by_hand():
    """Two inputs, three hidden units of which the last is dead, one output; one critic."""
    layer = ensemble(serial(dense(3), relu(), dense(1)), 1)
    hidden = {
        "kernel": np.array([[1, 0, 0], [0, 1, 0]], np.float32),
        "bias": np.array([0, 0, -1], np.float32),
    }
    head = {"kernel": np.array([[2.0], [1.0], [5.0]], np.float32), "bias": np.array([0.5], np.float32)}
    return layer, Vars(((hidden, (), head),), (((), (), ()),))


def test_a_network_computed_by_hand(by_hand):
    # hidden: [1, 2, 0], [3, 0, 0]; q: 4.5, 6.5; errors 3.5, 8.5; dL/dq = 1.75, 4.25.
    found = {name: float(value) for name, value in diagnose(view_of(*by_hand)).items()}
    head = np.array([1.75 + 3 * 4.25, 2 * 1.75, 0, 6.0])
    kernel = np.array([[2 * 1.75 + 6 * 4.25, 1.75, 0], [4 * 1.75 - 2 * 4.25, 2 * 1.75, 0]])
    bias = np.array([2 * 6.0, 1.75, 0])
    hidden = np.concatenate([kernel.ravel(), bias])
    weights = {"kernel": 2**0.5, "bias": 1.0, "head": 30**0.5, "head bias": 0.5}
    rates = {
        "kernel": 6 * np.linalg.norm(kernel) / weights["kernel"],
        "bias": 3 * np.linalg.norm(bias),
        "head": 3 * np.linalg.norm(head[:3]) / weights["head"],
        "head bias": 6.0 / 0.5,
    }
    expected = {
        "critic_norm": 3**0.5 + 30.25**0.5,
        "critic_norm_root": 33.25**0.5,
        "critic_norm_1": 3**0.5,
        "critic_norm_head": 30.25**0.5,
        "critic_gradient_norm": np.hypot(np.linalg.norm(hidden), np.linalg.norm(head)),
        "critic_gradient_norm_1": np.linalg.norm(hidden),
        "critic_gradient_norm_head": np.linalg.norm(head),
        "critic_elr": sum(rates.values()) / 13,
        "critic_elr_hidden": (rates["kernel"] + rates["bias"]) / 9,
        "critic_elr_head": (rates["head"] + rates["head bias"]) / 4,
        "critic_step_size": 0.1 / 3,
        "dead_neurons": 1 / 3,
        "feature_norm": (5**0.5 + 3) / 2,
        "stable_rank": 2,
        "target_q_min": -2,
        "target_q_max": 1,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_zero_bias_counts_as_no_rate(by_hand):
    layer, variables = by_hand
    still = jax.tree.map(np.copy, variables)
    still.params[0][0]["bias"][:] = 0
    assert np.isfinite([float(v) for v in diagnose(view_of(layer, still)).values()]).all()


@pytest.mark.parametrize("c", [3.0, 0.25])
def test_rates_fall_with_the_square_of_normalised_layers_scale(c, float64):
    norm = batch_norm(epsilon=1e-12)
    layer = ensemble(serial(norm, dense(8), relu(), norm, dense(8), relu(), norm, dense(1)), 2)
    rng = np.random.default_rng(1)
    x, target = np.split(rng.standard_normal((32, 3)), [2], axis=1)

    def scaled(member):
        """Both hidden layers, and no other."""
        return tuple({k: c * v for k, v in p.items()} if i in (1, 4) else p for i, p in enumerate(member))

    with float64():
        made = create(layer, np.random.default_rng(0), 2)
        # Biases that are not zero, so that they have a rate too.
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float) + 0.1, made.params)
        stats = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), made.stats)
        of = jax.jit(lambda params: diagnose(view_of(layer, Vars(params, stats), x, target[:, 0])))
        before, after = of(params), of(tuple(map(scaled, params)))
        ratio = {name: float(after[name] / before[name]) for name in before if before[name]}
    # Weights grow by c, gradients fall by c: their ratio falls by c^2, as does eta / ||w||^2.
    for i in (1, 2):
        assert ratio[f"critic_norm_{i}"] == pytest.approx(c, rel=1e-9)
        assert ratio[f"critic_gradient_norm_{i}"] == pytest.approx(1 / c, rel=1e-6)
    for name in ("critic_elr_hidden", "critic_step_size"):
        assert ratio[name] == pytest.approx(c**-2, rel=1e-6)
    for name in ("critic_norm_head", "critic_gradient_norm_head", "critic_elr_head"):
        assert ratio[name] == pytest.approx(1, rel=1e-6)


def test_batch_norm_drift_is_the_step_of_the_running_mean_in_standard_deviations():
    layer = ensemble(serial(batch_norm(momentum=0.9), dense(4), relu(), dense(1)), 1)
    found = diagnose(view_of(layer, create(layer, np.random.default_rng(0), 2)))
    # Running mean 0 -> 0.1 * (2, 0.5), running variance 1.
    assert float(found["bn_drift"]) == pytest.approx(0.1 * np.sqrt((4 + 0.25) / 2), rel=1e-5)


def test_what_has_no_batch_norm_has_no_drift():
    layer = ensemble(serial(dense(4), relu(), dense(1)), 1)
    view = view_of(layer, create(layer, np.random.default_rng(0), 2))
    assert {"bn_drift", "bn_variance_drift"}.isdisjoint(diagnose(view))


def test_variance_drift_is_the_share_by_which_running_variances_move():
    layer = ensemble(serial(batch_norm(momentum=0.9), dense(4), relu(), dense(1)), 1)
    made = create(layer, np.random.default_rng(0), 2)
    stats = ((made.stats[0][0] | {"variance": np.array([2.0, 0.5], np.float32)}, *made.stats[0][1:]),)
    x = np.array([[1, 0], [3, 4]], np.float32)  # variances 1 and 4
    new = layer.apply(made.params, stats, x, train=True)[1]
    view = view_of(layer, made)._replace(stats=stats, new_stats=new)
    # 2 -> 1.9 and 0.5 -> 0.85: 0.1 |r^2 - 1| with r^2 of 1/2 and of 8.
    expected = np.sqrt(((0.1 * 0.5) ** 2 + (0.1 * 7) ** 2) / 2)
    assert float(diagnose(view)["bn_variance_drift"]) == pytest.approx(expected, rel=1e-5)


def test_the_stable_rank_counts_directions():
    rng = np.random.default_rng(0)
    low = rng.standard_normal((1, 64, 3)) @ rng.standard_normal((1, 3, 32))
    layer = ensemble(serial(dense(4), relu(), dense(1)), 1)
    view = view_of(layer, create(layer, rng, 2))._replace(hidden=(jnp.asarray(low, jnp.float32),))
    assert float(diagnose(view)["stable_rank"]) == 3


def test_singular_values_are_taken_matrix_by_matrix():
    layer = ensemble(serial(dense(8), relu(), dense(1)), 3)
    made = create(layer, np.random.default_rng(0), 2)
    text = jax.jit(lambda made: diagnose(view_of(layer, made))).lower(made).as_text()
    operands = re.findall(r"@lapack_\w+\([^)]*\).*?: \(tensor<([0-9x]+)xf32>", text)
    assert operands, text
    assert {shape.count("x") for shape in operands} == {1}, "batches of matrices can wait for ever in jaxlib"


def test_dense_layers_come_in_order_and_without_normalisation():
    layer = serial(batch_norm(), dense(4), relu(), batch_norm(), dense(3))
    params = create(layer, np.random.default_rng(0), 2).params
    assert [d["kernel"].shape for d in dense_layers(params)] == [(2, 4), (4, 3)]


def test_only_non_linearities_are_hidden_outputs():
    layer = serial(dense(4), relu(), elementwise(jnp.negative), dense(3), relu(), dense(1))
    variables = create(layer, np.random.default_rng(0), 2)
    hidden = layer.hidden(variables.params, variables.stats, X)
    assert [h.shape for h in hidden] == [(2, 4), (2, 3)]
    assert min(float(h.min()) for h in hidden) >= 0


def test_lanczos_finds_the_eigenvalues_of_a_symmetric_matrix():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    values = np.linspace(-2, 9, 12)
    matrix = jnp.asarray(q @ np.diag(values) @ q.T, jnp.float32)
    diagonal, sides = lanczos(lambda v: matrix @ v, jnp.asarray(rng.standard_normal(12), jnp.float32), 12)
    found = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(sides, 1) + np.diag(sides, -1))
    np.testing.assert_allclose(found, values, atol=1e-3)


def test_the_spectrum_is_that_of_the_exact_hessian(by_hand):
    layer, variables = by_hand
    view = view_of(layer, variables)
    flat, unravel = ravel_pytree(view.params)
    exact = np.linalg.eigvalsh(jax.jit(jax.hessian(lambda x: view.loss(unravel(x))))(flat))
    found = spectrum(lambda: view, jax.random.key(0), iterations=13, probes=3)
    assert found.size == 13
    assert found.largest == pytest.approx(exact[-1], rel=1e-3)
    assert found.smallest == pytest.approx(exact[0], abs=1e-2)
    assert found.share(-np.inf, np.inf) == pytest.approx(1, abs=1e-5)
    # A random direction's weights estimate the trace: exact in the mean over directions, near it with three.
    trace = float((found.values * found.weights).sum() / 3 * found.size)
    assert trace == pytest.approx(exact.sum(), rel=0.9)


def test_flat_directions_are_small_in_magnitude():
    # The largest in magnitude is negative; the others lie within a thousandth of it.
    found = Spectrum(np.array([[-5000.0, -2.0, 0.1, 3.0]]), np.full((1, 4), 0.25), 4)
    assert found.describe()[1].startswith("75.0% of them are smaller in magnitude than a thousandth")


@pytest.fixture(scope="module")
def alone(algorithm):
    """(a first state, a minibatch) of crossq-wn -> its diagnostics after update 2."""
    return jax.jit(lambda state, last: diagnose(algorithm("crossq-wn").view(state, last, 2)))


@pytest.mark.parametrize("kind", [learner.one_by_one, learner.vectorised])
def test_learners_diagnose_the_newest_minibatch_of_each_seed(algorithm, batch, kind, alone):
    made = algorithm("crossq-wn")
    learn = kind(made)
    states = learn.join([made.init(np.random.default_rng(seed)) for seed in (0, 1)])
    batches = [batch(seed, 3, 8) for seed in (0, 1)]
    found = learn.diagnose(states, learn.join(batches), 2)
    for seed in (0, 1):
        last = jax.tree.map(lambda leaf: leaf[-1], batches[seed])
        expected = alone(made.init(np.random.default_rng(seed)), last)
        assert {k: float(v) for k, v in found[seed].items()} == pytest.approx(
            {k: float(v) for k, v in expected.items()}, rel=1e-3, abs=1e-5
        )


class Lottery(gymnasium.Env):
    """Pays 1 per step for ten steps, whatever one does."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, self.steps == 10, {}


@pytest.mark.parametrize("limit", [10, None], ids=["known", "the environment's own"])
def test_the_bias_is_the_critics_value_minus_the_return_over_ten_at_least(limit, algorithm):
    pool = Pool([make(Lottery) for _ in range(2)], 1)
    asked = []
    # Seed 0 promises 7 and seed 1 promises 2, always; each action's entropy is worth 3.
    learn = learner.one_by_one(algorithm("crossq-wn"))._replace(
        appraise=lambda states, observations, decision: (
            asked.append(decision), np.zeros((2, 1), np.float32), np.full(2, 3.0), np.array([7.0, 2.0])
        )[1:]
    )  # fmt: skip
    arena = Arena(pool, [0, 1], [0, 1])
    found = q_bias(learn, None, arena, discount=0.5, time_limit=limit, decisions=70)
    returns = returns_to_go([1.0] * 10, [3.0] * 10, 0.5)[:4]
    for promised, bias in zip((7, 2), found, strict=True):
        expected = (promised - returns) / 10
        assert bias == pytest.approx({"q_bias_mean": expected.mean(), "q_bias_std": expected.std()})
    assert asked == list(range(70, 70 + len(asked)))  # the numbers of the action noise


def test_returns_to_go_charge_the_next_actions_entropy():
    # G2 = 4; G1 = 2 + 0.5 (4 + 30); G0 = 1 + 0.5 (19 + 20)
    np.testing.assert_allclose(returns_to_go([1, 2, 4], [10, 20, 30], 0.5), [20.5, 19, 4])


@pytest.mark.parametrize(("limit", "pairs"), [(500, 200), (50, 20), (1, 1), (None, 350)])
def test_pairs_close_to_the_time_limit_do_not_count(limit, pairs):
    assert counted(limit) == pairs


# In words


def critic(name, **changes):
    recipe = ALGORITHMS[name]
    return recipe.critic(replace(recipe.presets["default"].settings, **changes))


CROSSQ = critic("crossq")
GROWN = {"critic_norm": (40, 280), "critic_elr": (0.1, 0.002)}


def course(**ends):
    usual = {"critic_norm": (40, 41), "critic_elr": (0.1, 0.09)}
    return {name: Course(*values) for name, values in (usual | ends).items()}


SAYINGS = [
    ({}, "critic weight norm held (1.02x), effective learning rate held (0.90x): updates stay effective"),
    (
        GROWN,
        "critic weight norm grew 7x, effective learning rate fell 50x: what weight normalisation removes "
        "(--algorithm crossq-wn)",
    ),
    ({"critic_elr": (0.1, 0.01)}, "effective learning rate fell 10x: gradients shrank"),
    ({"critic_elr": (0.1, 0.2)}, "effective learning rate grew 2x: gradients grew"),
    ({"critic_norm": (40, 4)}, "critic weight norm fell 10x"),
    ({"dead_neurons": (0, 0.3)}, "30% of the hidden units are dead"),
    ({"stable_rank": (200, 50)}, "stable rank fell from 200 to 50"),
    ({"feature_norm": (10, 100)}, "features grew 10x: the normalisation after them takes that out"),
    ({"q_mean": (0, 2e5)}, "values reach 2e+05"),
    ({"bn_drift": (0.01, 0.5)}, "running means move by 0.5 standard deviations"),
    ({"temperature": (1, 1e-4)}, "temperature fell 1e+04x"),
    ({"temperature": (1, 0)}, "temperature fell infx"),
    ({"critic_norm": (40, 0), "critic_elr": (0.1, 0)}, "critic weight norm fell infx"),
    ({"temperature": (1e-3, 1)}, "temperature grew 1e+03x"),
    (
        {"q_bias_mean": (0, 0.5), "q_bias_std": (0, 0.8)},
        "the critics overestimate returns by 50% (Q-bias), with a spread of 80%",
    ),
    ({"q_bias_mean": (0, -0.3), "q_bias_std": (0, 0.8)}, "the critics underestimate returns by 30%"),
    ({"q_bias_mean": (0, -0.04), "q_bias_std": (0, 0.8)}, "values are right on average (Q-bias -4% of"),
]


@pytest.mark.parametrize(("ends", "said"), SAYINGS)
def test_courses_are_put_in_words(ends, said):
    assert any(said in sentence for sentence in findings(course(**ends), CROSSQ))


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        (critic("crossq-wn", weight_norm="none"), "removes (--weight-norm neuron)"),
        (
            critic("crossq-wn"),
            "the head grew (5 to 245), with the values; hidden layers are held "
            "(--weight-norm-head or a higher --critic-weight-decay holds the head too)",
        ),
        (critic("crossq-wn", weight_norm_head=True), "held (a higher --critic-weight-decay holds"),
        (critic("xqc"), "the head grew (5 to 245), with the values; hidden layers are held"),
        (critic("bro"), "what weight normalisation removes (--algorithm crossq-wn)"),
    ],
)
def test_the_remedy_for_growth_is_one_that_the_algorithm_lacks(traits, said):
    found = course(**GROWN, critic_norm_head=(5, 245), dead_neurons=(0, 0.3))
    growth, *others = findings(found, traits)
    assert growth.startswith("critic weight norm grew 7x, effective learning rate fell 50x: ")
    assert said in growth
    bounded = "hidden layers are held" in growth
    assert others == [
        "30% of the hidden units are dead: capacity is lost; try resets"
        + ("" if bounded else " or weight normalisation")
    ]


def test_growth_beside_the_head_is_of_the_biases_that_some_weight_norms_leave_free():
    kernels = critic("crossq-wn", weight_norm="neuron-kernel")
    (said,) = findings(course(**GROWN, critic_norm_head=(5, 6)), kernels)
    assert said.endswith("leaves some biases free (weight_norm='neuron' holds them too)")
    with naming_options():
        (said,) = findings(course(**GROWN, critic_norm_head=(5, 6)), kernels)
    assert said.endswith("leaves some biases free (--weight-norm neuron holds them too)")


def every_sentence():
    """All that `diagnose` can say, at least once."""
    courses = [course(**ends) for ends, _ in SAYINGS]
    courses += [course(**GROWN, critic_norm_head=ends) for ends in ((5, 245), (5, 6))]
    courses.append({"critic_norm": Course(40, 41)})
    traits = [CROSSQ, critic("crossq-wn"), critic("sac")]
    sentences = {sentence for found in courses for each in traits for sentence in findings(found, each)}
    for broken, each, _ in test_experience.CAUSES:
        sentences |= {*findings({}, each, test_experience.seen(**broken))}
    for broken, _ in test_experience.REMARKS:
        sentences |= {*findings({}, CROSSQ, test_experience.seen(**broken))}
    for ends in ({"q_mean": (0, 900)}, {"entropy": (2, 1)}):
        sentences |= {*findings(course(**ends), CROSSQ, test_experience.seen())}
    return sentences


def literals(function):
    """The texts of which a function makes sentences."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    docstring = ast.get_docstring(tree.body[0], clean=False)
    for node in ast.walk(tree):
        text = getattr(node, "value", None)
        if isinstance(text, str) and " " in text.strip() and text != docstring:
            yield text


def test_each_sentence_has_a_row_on_the_page_about_runs_that_do_not_learn():
    sentences = every_sentence()
    said = " ".join(sentences)
    functions = [*inspect.getmembers(health, inspect.isfunction)]
    functions += inspect.getmembers(experience, inspect.isfunction)
    for name, function in functions:
        if name.startswith("_") and name not in ("_too_few", "_course", "_level"):
            assert [text for text in literals(function) if text.strip() not in said] == [], name
    page = (ROOT / "docs" / "not-learning.md").read_text()
    found_rows = []
    for line in page.splitlines():
        ways = [re.findall('"([^"]+)"', way) for way in line.split(" | ")[0].split(" or ")]
        if line.startswith("| ") and any(ways):
            found_rows.append(ways)
    explained = set()
    for ways in found_rows:
        found = {each for each in sentences for way in ways if way and all(text in each for text in way)}
        assert found, ways
        explained |= found
    assert sentences - explained == set()


# Of a user's own algorithm nothing is known.
OWN = Recipe("my own", Settings, {}, lambda spec, settings: None).critic(Settings(utd=1))


@pytest.mark.parametrize("traits", [critic("sac"), OWN])
def test_without_normalisation_nothing_is_said_of_scale_invariance(traits):
    for ends in ({}, GROWN, {"critic_elr": (0.1, 0.01)}, {"feature_norm": (10, 100)}):
        said = " ".join(findings(course(**ends), traits))
        assert said.startswith("critic weight norm")
        assert "effective" not in said
        assert "weight normalisation" not in said
        assert "takes that out" not in said


def test_a_rate_that_is_not_finite_is_told(tmp_path):
    run = make_run(tmp_path / "run")
    lines = [f"0,{1000 * n},{20 + n},inf" for n in range(8)]
    (run / "metrics.csv").write_text("\n".join(["seed,frames,critic_norm,critic_elr", *lines, ""]))
    found = courses(run)
    assert "critic_elr" not in found
    assert "the effective learning rate is not finite" in " ".join(findings(found, CROSSQ))


@pytest.mark.parametrize(
    ("name", "ends", "shown"),
    [
        ("critic_norm", (40, 280), "7x"),
        ("entropy", (-2.9, 1.95), "+4.85"),
        ("q_mean", (0.2, 58.4), "+58.2"),
        ("q_bias_mean", (0.5, -0.1), "-0.6"),
        ("dead_neurons", (0, 0.3), "+0.3"),
    ],
)
def test_a_quantity_with_a_sign_changes_by_a_difference(name, ends, shown):
    assert change(name, Course(*ends)) == shown


def test_the_bias_is_read_from_the_evaluations(tmp_path):
    run = make_run(tmp_path / "run", eval_rows=[(0, 1), (100, 2)])
    lines = [f"0,{1000 * n},20,0.1" for n in range(8)]
    (run / "metrics.csv").write_text("\n".join(["seed,frames,critic_norm,critic_elr", *lines, ""]))
    assert "q_bias_mean" not in courses(run)
    with open(run / "eval.csv", "a") as file:
        for step, value in ((0, 0.2), (100, 0.5)):
            file.write(f"crossq-wn,cheetah-run,0,q_bias_mean,{step},{value}\n")
    assert courses(run)["q_bias_mean"] == (0.2, 0.5)


def test_growth_is_that_of_the_seeds_which_reached_the_end(tmp_path):
    run = make_run(tmp_path / "run")
    lines = [f"0,{1000 * n},{20 + n},0.1" for n in range(8)] + [f"1,{1000 * n},200,0.1" for n in range(4)]
    (run / "metrics.csv").write_text("\n".join(["seed,frames,critic_norm,critic_elr", *lines, ""]))
    assert courses(run)["critic_norm"] == (21, 26)  # medians of three rows at either end


def test_calm_courses_raise_no_alarm():
    calm = {"dead_neurons": (0, 0.01), "stable_rank": (200, 190), "feature_norm": (30, 40), "q_mean": (1, 60),
            "bn_drift": (0.01, 0.01), "temperature": (0.01, 0.03)}  # fmt: skip
    assert len(findings(course(**calm), CROSSQ)) == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained toy run with diagnostics and Q-bias."""
    root = tmp_path_factory.mktemp("diagnosed")
    done = call("train", "helpers:PointMass", *TINY, "--frames", "400", "--q-bias", "--out", "run", cwd=root)
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_training_logs_diagnostics_and_bias(run):
    logged = [row for row in rows(run / "metrics.csv") if row["critic_norm"]]
    assert len(logged) == 8  # every 50 frames, warm-up of 20
    # Two hidden layers of eight neurons at unit norm; the head is free.
    assert float(logged[-1]["critic_norm"]) == pytest.approx(
        2 * 8**0.5 + float(logged[-1]["critic_norm_head"]), rel=1e-3
    )
    metrics = {row["metric"] for row in rows(run / "eval.csv")}
    assert metrics == {"return", "success_rate", "q_bias_mean", "q_bias_std"}


def test_eval_measures_the_bias_of_a_trained_critic(run):
    done = call("eval", str(run), "--episodes", "1", "--q-bias", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert "Q-bias std" in done.stdout
    header, row = done.stdout.splitlines()[1:3]
    assert row[header.index("std") - 1 : header.index("success")].strip() == ""  # of a single episode


def test_the_command_says_what_they_mean(run):
    done = call("diagnose", str(run), "--hessian", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert "critic_elr" in done.stdout
    assert "* critic weight norm" in done.stdout
    assert "(Q-bias" in done.stdout
    assert "* Hessian of the critic's loss" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "not a run directory"),
        (["run", "--hessian", "--seed", "7"], "has no seed 7"),
        (["run", "--seed", "x"], "is not a whole number"),
    ],
)
def test_bad_requests_are_refused_in_one_line(run, arguments, said):
    done = call("diagnose", *arguments, cwd=run.parent)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_without_diagnostics_is_told_so(tmp_path):
    done = call("train", "helpers:PointMass", *TINY, "--frames", "400", "--no-diagnostics", "--out", "run",
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "critic_norm" not in rows(tmp_path / "run" / "metrics.csv")[0]
    refused = call("diagnose", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--no-diagnostics" in refused.stderr


@pytest.fixture
def own():
    """A diagnostic of a user's own: one function with its record, registered with one line."""

    def weight_sum(probe):
        return jnp.mean(jnp.stack([layers[0]["kernel"].sum() for layers in probe.layers]))

    record = diagnostics.Diagnostic(
        "weight_sum", "sum of the first layer's weights", "apples", "first weights", signed=True,
        in_figure_3=True, function=weight_sum,
    )  # fmt: skip
    diagnostics.register(record)
    yield record
    diagnostics.DIAGNOSTICS.pop(record.name)


def test_a_diagnostic_counts_from_its_registration_on():
    """Even where JAX has traced the diagnostics of the same algorithm before."""
    view = ALGORITHMS["sac"].build(Spec(3, 1, 0.9), ALGORITHMS["sac"].presets["default"].settings).view
    before = programs.diagnosing(view)
    assert programs.diagnosing(view) is before
    diagnostics.register(diagnostics.Diagnostic("late", "zero", function=lambda probe: jnp.zeros(())))
    try:
        assert programs.diagnosing(view) is not before
    finally:
        diagnostics.DIAGNOSTICS.pop("late")


def test_a_diagnostic_from_outside_is_recorded_and_shown_wherever_the_others_are(own, tmp_path, capsys):
    run = tmp_path / "run"
    crossq_wn.train(PointMass, frames=400, out=run, **TINY_OPTIONS, **TINY_SETTINGS)
    logged = [float(row["weight_sum"]) for row in rows(run / "metrics.csv") if row["weight_sum"]]
    assert len(logged) == 8
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", str(run)])
    assert stop.value.code == 0
    assert "weight_sum" in capsys.readouterr().out
    assert courses(run)["weight_sum"].last == pytest.approx(np.median(logged[-3:]))
    picture = FIGURES["fig3"](Source.of([run]))
    drawn = [row["value"] for row in picture.rows if row["quantity"] == "weight_sum"]
    assert drawn == pytest.approx(logged)
    assert "first weights\n(apples)" in [axes.get_ylabel() for axes in picture.figure.axes]
    page = report.page(gather([run]))
    assert "<b>weight_sum</b> sum of the first layer&#x27;s weights (apples)" in page


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="there is a diagnostic 'critic_norm' already"):
        diagnostics.register(diagnostics.Diagnostic("critic_norm", "mine"))
