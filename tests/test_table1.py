"""Networks are as large, and presets as, the paper's Table 1 says."""

import jax
import pytest

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.types import Spec

DOG, HUMANOID, HOPPER = (223, 38), (67, 21), (15, 4)
MYO = {
    "reach": (115, 39),
    "pose": (108, 39),
    "obj-hold": (91, 39),
    "key-turn": (93, 39),
    "pen-twirl": (83, 39),
}
TASKS = {
    **{f"dog-{gait}": DOG for gait in ("stand", "walk", "trot", "run")},
    **{f"humanoid-{gait}": HUMANOID for gait in ("stand", "walk", "run")},
    "cheetah-run": (17, 6),
    "walker-run": (24, 6),
    "hopper-stand": HOPPER,
    "hopper-hop": HOPPER,
    "finger-turn_hard": (12, 2),
    "quadruped-run": (78, 12),
    "fish-swim": (24, 5),
    "pendulum-swingup": (3, 1),
    **{f"myo-{task}{hard}": shape for task, shape in MYO.items() for hard in ("", "-hard")},
}

# (observations, actions): CrossQ (+ WN) one critic, both, actor, sum; official both; SAC critics, actor, sum.
SIZES = {
    DOG: (399883, 799766, 144138, 943904, 9487382, 266242, 142668, 408910),
    HUMANOID: (310961, 621922, 95152, 717074, 8778082, 177666, 93994, 271660),
    (78, 12): (311989, 623978, 93364, 717342, 8786282, 178690, 92184, 270874),
    (24, 6): (281149, 562298, 76348, 638646, 8540282, 147970, 75276, 223246),
    (24, 5): (280635, 561270, 75834, 637104, 8536182, 147458, 74762, 222220),
    (17, 6): (277551, 555102, 74542, 629644, 8511582, 144386, 73484, 217870),
    HOPPER: (275495, 550990, 72998, 623988, 8495182, 142338, 71944, 214282),
    (12, 2): (272925, 545850, 71196, 617046, 8474682, 139778, 70148, 209926),
    (3, 1): (267785, 535570, 68360, 603930, 8433682, 134658, 67330, 201988),
    (6, 1): (269327, 538654, 69134, 607788, 8445982, 136194, 68098, 204292),  # acrobot-swingup, BRO's own
    MYO["reach"]: (344885, 689770, 116788, 806558, 9048682, 211458, 115534, 326992),
    MYO["pose"]: (341287, 682574, 114982, 797556, 9019982, 207874, 113742, 321616),
    MYO["obj-hold"]: (332549, 665098, 110596, 775694, 8950282, 199170, 109390, 308560),
    MYO["key-turn"]: (333577, 667154, 111112, 778266, 8958482, 200194, 109902, 310096),
    MYO["pen-twirl"]: (328437, 656874, 108532, 765406, 8917482, 195074, 107342, 302416),
}

# BRO critics, actor, optimistic actor, sum; then the sums of SimBa, XQC, SimbaV2, TD-MPC2, FlashSAC.
RIVALS = {
    DOG: (2482376, 209996, 209920, 2902292, 4507853, 2228712, 4851889, 5159082, 2598120),
    HUMANOID: (2305224, 161322, 161280, 2627826, 4394923, 2001882, 4738959, 5040776, 2484186),
    (78, 12): (2307272, 159512, 159488, 2626272, 4395033, 2002150, 4739069, 5002102, 2484326),
    (24, 6): (2245832, 142604, 142592, 2531028, 4355853, 1923454, 4699889, 4960618, 2444798),
    (24, 5): (2244808, 142090, 142080, 2528978, 4355083, 1921912, 4699119, 4956008, 2444024),
    (17, 6): (2238664, 140812, 140800, 2520276, 4351373, 1914452, 4695409, 4958826, 2440276),
    HOPPER: (2234568, 139272, 139264, 2513104, 4348553, 1908796, 4692589, 4949094, 2437436),
    (12, 2): (2229448, 137476, 137472, 2504396, 4345093, 1901854, 4689129, 4939106, 2433950),
    (3, 1): (2219208, 134658, 134656, 2488522, 4338563, 1888738, 4682599, 4932192, 2427362),
    (6, 1): (2222280, 135426, 135424, 2493130, 4340483, 1892596, 4684519, 4932960, 2429300),
    MYO["reach"]: (2372808, 182862, 182784, 2738454, 4439503, 2091366, 4783539, 5136044, 2529126),
    MYO["pose"]: (2365640, 181070, 180992, 2727702, 4435023, 2082364, 4779059, 5134252, 2524604),
    MYO["obj-hold"]: (2348232, 176718, 176640, 2701590, 4424143, 2060502, 4768179, 5129900, 2513622),
    MYO["key-turn"]: (2350280, 177230, 177152, 2704662, 4425423, 2063074, 4769459, 5130412, 2514914),
    MYO["pen-twirl"]: (2340040, 174670, 174592, 2689302, 4419023, 2050214, 4763059, 5127852, 2508454),
}


def preset_settings(name, preset):
    return ALGORITHMS[name].presets[preset].settings


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture
def fresh():
    """(algorithm, preset, (observations, actions)) -> a state with the shapes of the first one."""

    def make(name, preset, shape):
        settings = preset_settings(name, preset).for_run(500_000)
        algorithm = ALGORITHMS[name].build(Spec(*shape, 0.99), settings)
        return jax.eval_shape(lambda: algorithm.init(ShapesOnly()))  # nothing is drawn, nothing compiled

    return make


def test_the_table_has_25_tasks_and_every_one_has_a_row():
    assert len(TASKS) == 25
    assert set(TASKS.values()) == set(SIZES) - {(6, 1)}


@pytest.mark.parametrize("shape", SIZES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("name", ["crossq", "crossq-wn"])
def test_crossq_has_the_trainable_parameters_of_the_table(fresh, name, shape):
    state = fresh(name, "paper-v2", shape)
    one, both, actor, total, *_ = SIZES[shape]
    assert [count(member) for member in state.critic.params] == [one, one]
    assert (count(state.critic.params), count(state.actor.params)) == (both, actor)
    assert count((state.critic.params, state.actor.params)) == total
    assert count(state.critic.stats) == 2 * 2 * (sum(shape) + 2 * 512)


@pytest.mark.parametrize("shape", SIZES, ids="{0[0]}x{0[1]}".format)
def test_official_crossq_has_the_trainable_parameters_of_the_table(parts, shape):
    critic = parts("crossq", preset_settings("crossq", "official"), *shape).critic
    params, _, _ = jax.eval_shape(lambda: critic.init(ShapesOnly(), sum(shape)))
    assert count(params) == SIZES[shape][4]


@pytest.mark.parametrize("shape", SIZES, ids="{0[0]}x{0[1]}".format)
def test_sac_has_the_trainable_parameters_of_the_table(fresh, shape):
    state = fresh("sac", "default", shape)
    critics, actor, total = SIZES[shape][5:]
    assert (count(state.critic.params), count(state.actor.params)) == (critics, actor)
    assert count((state.critic.params, state.actor.params)) == total


def trainable(state):
    """(critics, actor, optimistic actor) of a soft actor-critic, whatever stands around it."""
    while hasattr(state, "inner"):
        state = state.inner
    shift = count(state.shift.params) if hasattr(state, "shift") else 0
    base = getattr(state, "base", state)
    return count(base.critic.params), count(base.actor.params), shift


@pytest.mark.parametrize("shape", RIVALS, ids="{0[0]}x{0[1]}".format)
def test_rivals_have_the_trainable_parameters_of_the_table(fresh, shape):
    *bro, bro_sum, simba, xqc, simba_v2, tdmpc2, flashsac = RIVALS[shape]
    assert trainable(fresh("bro", "default", shape)) == tuple(bro)
    assert sum(bro) == bro_sum
    sums = {"simba": simba, "xqc": xqc, "simba-v2": simba_v2, "flashsac": flashsac}
    for name, total in sums.items():
        assert sum(trainable(fresh(name, "default", shape))) == total, name
    state = fresh("tdmpc2", "default", shape)
    assert count([part.params for part in state.world]) + count(state.policy.params) == tdmpc2


def test_sr_sac_is_as_large_as_sac(fresh):
    assert trainable(fresh("sr-sac", "default", DOG)) == trainable(fresh("sac", "default", DOG))


def test_redq_has_ten_critics_and_droq_adds_layer_norms_to_two(fresh):
    critics, actor, _ = trainable(fresh("sac", "default", DOG))
    assert trainable(fresh("redq", "default", DOG)) == (5 * critics, actor, 0)
    assert trainable(fresh("droq", "default", DOG)) == (critics + 2 * 2 * 2 * 256, actor, 0)


@pytest.mark.parametrize("shape", RIVALS, ids="{0[0]}x{0[1]}".format)
def test_drq_has_the_parameters_of_its_authors_modules(fresh, shape):
    """750 o + 256 a + 2,769,794, 513 a + 525,312 and 1,576,962, and as many targets."""
    observations, actions = shape
    state = fresh("drq", "default", shape)
    found = [count(part) for part in state.online]
    assert found == [750 * observations + 256 * actions + 2_769_794, 513 * actions + 525_312, 1_576_962]
    assert count(state.target) == sum(found)
    if shape == DOG:
        assert found == [2_946_772, 544_806, 1_576_962]
        assert [count(layer) for layer in state.online.world] == [1_115_762, 9_984, 1_524_512, 296_514]


def test_flashsac_has_the_parameters_and_statistics_of_its_authors_modules(fresh):
    observations, actions = DOG
    inputs = observations + actions
    state = fresh("flashsac", "default", DOG).inner
    assert [count(member) for member in state.critic.params] == [258 * inputs + 1_079_909] * 2
    assert count(state.actor.params) == 130 * observations + 258 * actions + 264_832
    assert count((state.critic.params, state.actor.params, state.target)) == 4_892_614
    assert count(state.critic.stats) == 2 * 2 * (inputs + 2560)
    assert count(state.actor.stats) == 2 * (observations + 1280)


def test_only_crossq_has_no_target_parameters(fresh):
    targets = {name: count(fresh(name, "default", DOG).target) for name in ("crossq", "crossq-wn", "sac")}
    assert targets == {"crossq": 0, "crossq-wn": 799766, "sac": 266242}


def test_dog_critics_have_the_shapes_of_the_paper(fresh):
    def norm(n):
        return {"scale": (n,), "bias": (n,)}

    def dense(n_in, n_out):
        return {"kernel": (n_in, n_out), "bias": (n_out,)}

    member = (norm(261), dense(261, 512), (), norm(512), dense(512, 512), (), norm(512), dense(512, 1))
    shapes = jax.tree.map(lambda leaf: leaf.shape, fresh("crossq-wn", "paper-v2", DOG).critic.params)
    assert shapes == (member, member)


CROSSQ_V2 = {
    "utd": 1,  # of 1 and 5
    "critic_learning_rate": 3e-4,
    "critic_width": 512,
    "actor_learning_rate": 3e-4,
    "actor_width": 256,
    "initial_temperature": 1.0,
    "temperature_learning_rate": 1e-4,
    "target_entropy_scale": 0.5,
    "critics": 2,
    "action_repeat": None,  # by suite: 2
    "discount": None,  # by suite: 0.99 and 0.95
    "adam_beta1": 0.9,
    "policy_delay": 3,
    "n_step": 1,
    "actor_network": None,
    "critic_network": None,
    "warmup": 5000,
    "replay_size": 1_000_000,
    "norm": "batch-norm",
    "norm_momentum": 0.99,
    "norm_epsilon": 1e-3,
    "log_std_min": -10.0,
    "batch_size": 256,
    "learning_rate_end": 1.0,  # constant
    "learning_rate_updates": None,  # those of the run
}
CROSSQ_WN_V2 = CROSSQ_V2 | {
    "utd": 2,  # of 1, 2, 5, 10 and 20
    "tau": 0.005,
    "critic_weight_decay": 0.01,
    "actor_weight_decay": 0.01,
    "weight_norm": "neuron",
    "weight_norm_radius": 1.0,
    "weight_norm_actor": True,
    "weight_norm_head": False,
    "target_network": True,
    "reset_updates": None,  # an ablation
    "l2_scale": 1e-3,  # ours, of an ablation whose scales the paper leaves out
}
V1 = {"critic_learning_rate": 1e-4, "actor_learning_rate": 1e-4}
TEMPERATURE = {"initial_temperature": 0.1, "temperature_learning_rate": 3e-4}  # measured
CODE_TEMPERATURE = {"initial_temperature": 0.01, "temperature_learning_rate": 3e-4}
# Rows that the rivals' columns share, unless they say otherwise.
RIVAL_V2 = {
    "critic_learning_rate": 3e-4,
    "critic_width": 512,
    "actor_learning_rate": 3e-4,
    "actor_width": 256,
    "initial_temperature": 1.0,
    "temperature_learning_rate": 3e-4,
    "target_entropy_scale": 0.5,
    "tau": 0.005,
    "critics": 2,
    "action_repeat": None,  # by suite: 2
    "discount": None,  # by suite
    "adam_beta1": 0.9,
    "policy_delay": 1,
    "n_step": 1,
    "actor_network": None,
    "critic_network": None,
    "replay_size": 1_000_000,
    "batch_size": 256,
    "learning_rate_end": 1.0,
    "learning_rate_updates": None,
}
SR_SAC_V2 = RIVAL_V2 | {
    "critic_width": 256,
    "target_entropy_scale": 1.0,
    "utd": 32,
    "warmup": 10_000,
    "reset_updates": 32 * 80_000,
    "reset_grid": 5_000,  # code: its evaluation interval
    "evaluate_before_reset": True,  # code
}
BRO_V2 = RIVAL_V2 | {
    "target_entropy_scale": 1.0,
    "utd": 10,
    "critics": 1,
    "action_repeat": 1,
    "discount": 0.99,
    "warmup": 10_000,
    "weight_decay": 1e-4,
    "batch_size": 128,
    "actor_blocks": 1,  # from here on: code
    "critic_blocks": 2,
    "quantiles": 100,
    "optimism_learning_rate": 3e-5,
    "kl_target": 0.05,
    "exploration_std": 0.75,
    "resets": (15_001, 50_001, 250_001, 500_001, 750_001, 1_000_001, 1_500_001, 2_000_001),
}
BRO_CODE = {"target_entropy_scale": 0.5, "critics": 2, "warmup": 2_500}
# Not in the table either: its authors' code, for one simulator on a CPU.
FLASHSAC = RIVAL_V2 | {
    "utd": 1,
    "batch_size": 512,
    "action_repeat": 1,
    "warmup": 10_000,
    "critic_width": 256,
    "actor_width": 128,
    "blocks": 2,
    "atoms": 101,
    "value_limit": 5.0,
    "initial_temperature": 0.01,
    "target_entropy_scale": pytest.approx(0.4781814517),  # of a standard deviation of 0.15
    "policy_delay": 2,
    "n_step": 1,
    "actor_network": None,
    "critic_network": None,
    "learning_rate_end": 0.5,
    "tau": 0.01,
    "noise_exponent": 2.0,
    "noise_longest": 16,
}
DRQ = {
    "utd": 1,
    "batch_size": 256,
    "warmup": 9_981,
    "replay_size": 1_000_000,
    "discount": 0.99,
    "action_repeat": None,  # by suite
    "encoder_width": 750,
    "latent_size": 512,
    "action_width": 256,
    "width": 512,
    "bins": 65,
    "bin_limit": 10.0,
    "learning_rate": 3e-4,
    "weight_decay": 0.01,
    "target_period": 250,
    "horizon": 5,
    "n_step": 3,
    "noise": 0.2,
    "target_noise": 0.2,
    "target_clip": 0.3,
    "dynamics_weight": 1.0,
    "reward_weight": 0.1,
    "contrast_weight": 0.1,
    "contrast_temperature": 0.1,
    "priority_exponent": 0.4,
    "priority_floor": 1.0,
    "recency_fade": 0.9999,
    "recency_floor": 0.1,
}
TABLE = {
    ("crossq", "paper-v2"): CROSSQ_V2,
    ("crossq", "paper-v1"): CROSSQ_V2 | V1,
    ("crossq", "default"): CROSSQ_V2 | TEMPERATURE,
    ("crossq", "official"): CROSSQ_V2
    | {
        "critic_width": 2048,
        "critic_learning_rate": 1e-3,
        "actor_learning_rate": 1e-3,
        "temperature_learning_rate": 1e-3,
        "target_entropy_scale": 1.0,
        "adam_beta1": 0.5,
        "norm": "batch-renorm",
        "log_std_min": -20.0,
    },
    ("crossq-wn", "paper-v2"): CROSSQ_WN_V2,
    ("crossq-wn", "paper-v1"): CROSSQ_WN_V2 | V1 | {"utd": 5},
    ("crossq-wn", "default"): CROSSQ_WN_V2 | TEMPERATURE,
    ("crossq-wn", "code"): CROSSQ_WN_V2
    | CODE_TEMPERATURE
    | {"learning_rate_end": 0.1, "weight_norm_head": True},
    ("sac", "default"): {
        "critic_learning_rate": 3e-4,
        "critic_width": 256,
        "actor_learning_rate": 3e-4,
        "actor_width": 256,
        "initial_temperature": 1.0,
        "temperature_learning_rate": 3e-4,
        "target_entropy_scale": 0.5,
        "tau": 0.005,
        "utd": 1,
        "critics": 2,
        "action_repeat": None,
        "discount": None,
        "adam_beta1": 0.9,
        "policy_delay": 1,
        "n_step": 1,
        "actor_network": None,
        "critic_network": None,
        "warmup": 10_000,
        "replay_size": 1_000_000,
        "batch_size": 256,
        "learning_rate_end": 1.0,
        "learning_rate_updates": None,
    },
    ("simba", "default"): RIVAL_V2
    | {
        "critic_learning_rate": 1e-4,
        "actor_learning_rate": 1e-4,
        "actor_width": 128,
        "initial_temperature": 0.01,
        "temperature_learning_rate": 1e-4,
        "utd": 2,
        "critics": 1,
        "warmup": 5000,
        "weight_decay": 0.01,
        "batch_size": 256,
        "actor_blocks": 1,  # code
        "critic_blocks": 2,  # code
    },
    ("sr-sac", "paper-v2"): SR_SAC_V2,
    ("sr-sac", "default"): SR_SAC_V2 | {"target_entropy_scale": 0.5},  # code
    ("bro", "paper-v2"): BRO_V2,
    ("bro", "default"): BRO_V2 | BRO_CODE,
    ("bro-fast", "default"): BRO_V2 | BRO_CODE | {"utd": 2, "resets": (15_001,)},
    # Not in the table: the rows of their own papers and code.
    ("redq", "default"): RIVAL_V2
    | {"utd": 20, "critics": 10, "subset": 2, "critic_width": 256, "policy_delay": 1, "warmup": 5000}
    | {"layer_norm": False},
    ("redq", "rlpd"): RIVAL_V2
    | {"utd": 20, "critics": 10, "subset": 2, "critic_width": 256, "policy_delay": 1, "warmup": 5000}
    | {"layer_norm": True, "initial_temperature": 1.0, "target_entropy_scale": 0.5},
    ("droq", "default"): RIVAL_V2
    | {"utd": 20, "dropout": 0.01, "critic_width": 256, "policy_delay": 1, "warmup": 5000},
    ("xqc", "default"): RIVAL_V2
    | CODE_TEMPERATURE
    | {
        "utd": 2,
        "warmup": 5000,
        "policy_delay": 3,
        "learning_rate_end": 0.1,
        "norm_momentum": 0.99,
        "norm_epsilon": 1e-3,
        "hidden_layers": 4,
        "atoms": 101,
        "value_limit": 5.0,
        "return_statistics": "code",
    },
    ("simba-v2", "default"): RIVAL_V2
    | {
        "critic_learning_rate": 1e-4,
        "actor_learning_rate": 1e-4,
        "temperature_learning_rate": 1e-4,
        "initial_temperature": 0.01,
        "actor_width": 128,
        "utd": 2,
        "critics": 1,
        "warmup": 5000,
        "actor_blocks": 1,
        "critic_blocks": 2,
        "learning_rate_end": 0.5,
        "atoms": 101,
        "value_limit": 5.0,
        "return_statistics": "code",
    },
    ("flashsac", "default"): FLASHSAC,
    ("flashsac", "repeat-2"): FLASHSAC | {"action_repeat": 2, "utd": 2, "warmup": 5_000},
    ("drq", "default"): DRQ,
    ("drq", "myosuite"): DRQ | {"discount": 0.95, "warmup": 9_804},
    ("tdmpc2", "default"): {
        "utd": 1,
        "action_repeat": None,  # by suite: 2 (on MyoSuite the code's 1 is an option)
        "discount": None,  # by suite: 0.99 and 0.95
        "warmup": 2_500,  # five episodes of 500 decisions
        "replay_size": 1_000_000,
        "batch_size": 256,
        "encoder_width": 256,
        "latent_size": 512,
        "width": 512,
        "dropout": 0.01,
        "bins": 101,
        "bin_limit": 10.0,
        "entropy_weight": 1e-4,
        "min_std": 0.05,
        "max_std": 2.0,
        "planner_temperature": 0.5,
        "horizon": 3,
        "iterations": 6,
        "samples": 512,
        "elites": 64,
        "policy_samples": 24,
        "value_functions": 5,
        "tau": 0.01,
        "rho": 0.5,
        "learning_rate": 3e-4,
        "encoder_rate": 0.3,
        "consistency_weight": 20.0,
        "reward_weight": 0.1,
        "value_weight": 0.1,
        "gradient_clip": 20.0,
    },
}


@pytest.mark.parametrize(("name", "preset"), [(n, p) for n in ALGORITHMS for p in ALGORITHMS[n].presets])
def test_every_preset_has_its_columns_numbers(name, preset):
    assert vars(preset_settings(name, preset)) == TABLE[name, preset]


def test_crossq_wn_differs_from_crossq_only_in_what_weight_norm_adds():
    wn, plain = (preset_settings(name, "paper-v2") for name in ("crossq-wn", "crossq"))
    assert {k for k in vars(plain) if getattr(wn, k) != getattr(plain, k)} == {"utd"}
    assert (wn.utd, plain.utd) == (2, 1)


def test_every_utd_is_one_that_the_paper_uses():
    assert {preset.settings.utd for preset in ALGORITHMS["crossq-wn"].presets.values()} <= {1, 2, 5, 10, 20}
    assert {preset.settings.utd for preset in ALGORITHMS["crossq"].presets.values()} <= {1, 5}
    assert preset_settings("crossq-wn", "paper-v1").utd in {1, 5}


def test_crossq_settings_have_no_target_rate_and_no_decay():
    names = set(vars(preset_settings("crossq", "paper-v2")))
    assert names.isdisjoint({"tau", "critic_weight_decay", "actor_weight_decay", "weight_norm"})
