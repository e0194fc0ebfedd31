"""Is an option that has no effect beside the others refused?"""

import dataclasses
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from crossq_wn import UserError
from crossq_wn.algorithms import ALGORITHMS, recipe_of
from crossq_wn.algorithms.actor_critic import Parts, soft_actor_critic
from crossq_wn.algorithms.settings import ActorCriticSettings, setting_names, without_effect
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.runs.command import arguments
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.runs.options import RunOptions
from crossq_wn.training.api import configure
from crossq_wn.types import Spec

# What other rooms read: how much is trained, on what, and how minibatches are made.
ELSEWHERE = {"warmup", "replay_size", "batch_size", "discount", "action_repeat", "utd"}
SWITCHES = [  # an option without effect, and what makes it one
    ("crossq-wn", {"tau": 0.01}, {"target_network": False}),
    ("crossq-wn", {"l2_scale": 0.1}, {}),
    ("crossq-wn", {"weight_norm_radius": 2.0}, {"weight_norm": "none"}),
    ("crossq-wn", {"weight_norm_actor": False}, {"weight_norm": "l2", "actor_weight_decay": 0.0}),
    ("crossq-wn", {"norm_momentum": 0.9}, {"norm": "layer-norm"}),
    ("sac", {"target_entropy_scale": 1.0}, {"temperature_learning_rate": 0.0}),
    ("xqc", {"learning_rate_updates": 100}, {"learning_rate_end": 1.0}),
    ("flashsac", {"noise_exponent": 1.0}, {"noise_longest": 1}),
    ("bro", {"kl_target": 0.1}, {"optimism_learning_rate": 0.0}),
    ("tdmpc2", {"planner_temperature": 1.0}, {"elites": 1}),
    ("drq", {"target_clip": 0.1}, {"target_noise": 0.0}),
    ("drq", {"contrast_temperature": 1.0}, {"contrast_weight": 0.0}),
    ("drq", {"priority_floor": 2.0}, {"priority_exponent": 0.0}),
    ("drq", {"recency_floor": 0.5}, {"recency_fade": 1.0}),
    ("crossq-wn", {"video": True}, {"real_time": 20.0}),
    ("crossq-wn", {"eval_episodes": 2}, {"real_time": 20.0, "eval_every": 0}),
]


def made(algorithm="crossq-wn", **choices):
    return configure("pendulum-swingup", algorithm=algorithm, frames=100_000, **choices)


@pytest.mark.parametrize(("algorithm", "idle", "others"), SWITCHES, ids=lambda each: str(each))
def test_an_option_without_effect_is_refused_and_has_one_elsewhere(algorithm, idle, others):
    (name,) = idle
    made(algorithm, **others)  # as presets and runs have it, who name nothing
    with pytest.raises(UserError, match=f"^{name} is .*: it must be left out (with|where|unless) "):
        made(algorithm, **idle, **others)
    usual = preset_settings(algorithm, "default")
    if hasattr(usual, name):
        made(algorithm, **{name: getattr(usual, name)}, **others)  # as who passes on all settings
    if (algorithm, name) != ("crossq-wn", "l2_scale"):
        made(algorithm, **idle, **({"learning_rate_end": 0.5} if name == "learning_rate_updates" else {}))


def test_every_condition_is_tried_above():
    tried = {name for _, idle, _ in SWITCHES for name in idle}
    named = {each.name for each in RunOptions().conditions()}
    for algorithm in ALGORITHMS:
        named |= {each.name for each in preset_settings(algorithm, "default").conditions()}
    assert named == tried


def neighbours(settings):
    """The settings, and those that differ in one choice between a few values."""
    yield settings
    for name, kind in get_type_hints(type(settings)).items():
        values = get_args(kind) if get_origin(kind) is Literal else (False, True) if kind is bool else ()
        for value in {*values} - {getattr(settings, name)}:
            yield dataclasses.replace(settings, **{name: value})


def read_while_building(recipe, settings):
    """The names of settings that are read while an algorithm and its first state are made."""
    names, read = setting_names(type(settings)), set()

    class Watched(type(settings)):
        def __getattribute__(self, name):
            if name in names:
                read.add(name)
            return super().__getattribute__(name)

    watched = object.__new__(Watched)
    watched.__dict__.update(settings.__dict__)
    made = recipe.make(Spec(3, 2, 0.99), watched)  # `build` is remembered by the tests' own set-up
    (soft_actor_critic(made) if isinstance(made, Parts) else made).init(ShapesOnly())
    return read


ACTOR_CRITICS = [name for name in ALGORITHMS if issubclass(recipe_of(name).settings, ActorCriticSettings)]


@pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
def test_what_building_an_algorithm_never_reads_is_refused(algorithm):
    recipe, sizes = recipe_of(algorithm), {}
    for name in setting_names(recipe.settings):
        if name.endswith("_width"):
            sizes[name] = 8  # of which nothing here depends
    for preset, (usual, _) in recipe.presets.items():
        near = list(neighbours(dataclasses.replace(usual, **sizes)))
        for settings in near if preset == "default" else near[:1]:
            read = read_while_building(recipe, settings.for_run(10_000))
            idle = without_effect(settings).keys() - {"learning_rate_updates"}
            assert {*setting_names(type(settings))} - read - ELSEWHERE <= idle, (preset, settings)


def test_runs_of_earlier_versions_load_and_new_ones_begin_like_them_without_what_had_no_effect(tmp_path):
    config = made(target_network=False)
    old = dataclasses.replace(config, settings=dataclasses.replace(config.settings, tau=0.01))
    again = RunConfig.from_json(old.to_json())
    assert again == old
    assert "--tau" not in arguments(again)
