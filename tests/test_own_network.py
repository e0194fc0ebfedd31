"""Networks of the user's own: named, checked, trained, resumed, acted by and told apart."""

import functools
import importlib
import json
import linecache
import shutil
import sys
import textwrap
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, CriticTraits, Recipe, own_networks
from crossq_wn.algorithms.settings import ActorCriticSettings, Settings, networks_of, unloaded, values_of
from crossq_wn.algorithms.sources import checksum_of_source
from crossq_wn.export.api import export
from crossq_wn.learning.diagnostics import DIAGNOSTICS, diagnose, lacking
from crossq_wn.learning.rows import random_batch
from crossq_wn.nets.layer import Layer
from crossq_wn.nets.layers import dense, elementwise, relu, serial
from crossq_wn.nets.normalisation import batch_norm
from crossq_wn.nets.policies import gaussian_head
from crossq_wn.results.health import critic_of
from crossq_wn.runs import trust
from crossq_wn.runs.config import preset_settings, read_config
from crossq_wn.runs.protocol import read_terms, setting_conflicts
from crossq_wn.runs.system import System
from crossq_wn.sweeps.cost import cost
from crossq_wn.training.api import configure
from crossq_wn.training.course import require_plain
from crossq_wn.types import Algorithm, Spec
from helpers import TESTS, TINY_OPTIONS, TINY_SETTINGS, Listener, PointMass, call, rows, same_run

PAGE = (TESTS.parent / "docs" / "your-own-network.md").read_text()
SPEC = Spec(observation_size=3, action_size=2, discount=0.99)
SOFT = [name for name, recipe in ALGORITHMS.items() if issubclass(recipe.settings, ActorCriticSettings)]
TINY = TINY_OPTIONS | TINY_SETTINGS
BOTH = {"actor_network": "my_nets:actor", "critic_network": "my_nets:critic"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The documented networks' module, in a folder of its own that Python searches."""
    path = tmp_path_factory.mktemp("own")
    (path / "my_nets.py").write_text(PAGE.split("```python\n")[1].split("```")[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        importlib.invalidate_caches()
        yield path
    sys.modules.pop("my_nets", None)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run of both networks on a toy, with diagnostics, in one go."""
    path = tmp_path_factory.mktemp("runs") / "run"
    crossq_wn.train(PointMass, **BOTH, frames=240, out=path, **TINY | {"log_every": 20})
    return path


def settings(name, **changes):
    small = {"batch_size": 4, "actor_width": 8, "critic_width": 8, "critics": 2, "utd": 1}
    preset = preset_settings(name, "default")
    small |= {key: 1 for key in ("blocks", "critic_blocks") if hasattr(preset, key)}
    return replace(preset, **small | changes).for_run(100)


def built(name, **changes):
    return ALGORITHMS[name].build(SPEC, settings(name, **changes))


def begun(name="sac", **changes):
    algorithm = built(name, **changes)
    return algorithm, algorithm.init(np.random.default_rng(0))


# --- training


def test_it_trains_with_all_diagnostics_and_both_networks(run):
    last = rows(run / "metrics.csv")[-1]
    assert all(np.isfinite(float(last[name])) for name in ("critic_norm", "dead_neurons", "bn_drift"))
    assert int(last["updates"]) > 100
    layers = [name for name in last if name.startswith("critic_norm_")]
    assert {"critic_norm_1", "critic_norm_2", "critic_norm_head"} <= set(layers)  # the gate is no dense layer


def test_resuming_is_bit_for_bit(run, tmp_path):
    part = tmp_path / "part"
    crossq_wn.train(PointMass, **BOTH, frames=140, out=part, **TINY | {"log_every": 20})
    crossq_wn.resume(part, frames=240)
    same_run(part, run)


def test_its_name_and_source_are_the_systems(run):
    config = read_config(run)
    names = networks_of(config.settings)
    assert {name: value.partition("@")[0] for name, value in names.items()} == BOTH
    assert dict(config.system.changes).items() >= names.items()
    assert f"critic_network={names['critic_network']}" in config.system.label


def test_weight_norm_holds_what_is_wrapped_and_nothing_else(folder):
    _, state = begun("crossq-wn", critic_network="my_nets:critic", weight_norm_radius=0.5)
    _, hidden, _, _, gate, *_, head = state.critic.params[0]
    norms = np.sqrt(np.square(hidden["kernel"]).sum(0) + np.square(hidden["bias"]))
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)
    assert gate["gate"].dtype == np.float32  # though it was drawn in double precision
    algorithm = built("crossq-wn", critic_network="my_nets:critic", weight_norm_radius=0.5)
    batch = random_batch(np.random.default_rng(0), SPEC, 4)
    after, _ = jax.jit(algorithm.update)(state, batch, 0)
    hidden, new = after.critic.params[0][1], after.critic.params[0]
    norms = np.sqrt(np.square(hidden["kernel"]).sum(0) + np.square(hidden["bias"]))
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)
    assert (np.asarray(new[4]["gate"]) != np.asarray(gate["gate"])).any()
    assert np.abs(np.linalg.norm(new[-1]["kernel"]) - 0.5) > 1e-3  # a plain dense layer: the head is free
    assert np.asarray(head["kernel"]).shape == (8, 1)


def test_the_joint_pass_shares_statistics_of_both_minibatches(folder):
    """The running mean after one update is that of (s, a) and (s', a') together."""
    algorithm, state = begun("crossq", critic_network="my_nets:joint_critic", norm_momentum=0.0)
    batch = random_batch(np.random.default_rng(0), SPEC, 4)
    after, _ = algorithm.update(state, batch, jnp.int32(0))
    both = np.concatenate([batch.observation, batch.next_observation])
    np.testing.assert_allclose(after.critic.stats[0][0]["mean"][:3], both.mean(0), rtol=1e-5)


@pytest.fixture(autouse=True)
def more_networks(folder):
    module = importlib.import_module("my_nets")
    module.joint_critic = lambda spec, settings, outputs: serial(batch_norm(momentum=0.0), dense(outputs))
    return module


@pytest.mark.parametrize("name", SOFT)
def test_every_soft_actor_critic_takes_both(name, folder):
    """With as many outputs as its readout has atoms, and critics of its own number."""
    plain = {"actor_network": "my_nets:plain_actor", "critic_network": "my_nets:plain_critic"}
    module = importlib.import_module("my_nets")
    module.plain_actor = lambda spec, settings, outputs: serial(dense(5), relu(), dense(outputs))
    module.plain_critic = lambda spec, settings, outputs: serial(
        batch_norm(), dense(6), relu(), dense(outputs)
    )
    few = {"subset": 1} if name == "redq" else {}
    algorithm, usual = built(name, **plain, **few), built(name, **few)
    state = algorithm.init(np.random.default_rng(0))
    batch = random_batch(np.random.default_rng(0), SPEC, 4)
    shapes = jax.eval_shape(algorithm.update, state, batch, jnp.int32(0))
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(state)
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(state) if getattr(leaf, "ndim", 0) == 2}
    assert {5, 6} <= widths
    assert set(shapes[1]) == set(
        jax.eval_shape(usual.update, usual.init(np.random.default_rng(0)), batch, 0)[1]
    )


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in SOFT])
def test_the_others_refuse_in_a_line_that_names_those_that_take_one(name):
    with pytest.raises(
        crossq_wn.UserError, match=rf"{name} has no option .* 'critic_network': only crossq-wn"
    ):
        configure("cheetah-run", algorithm=name, critic_network="my_nets:critic")


def test_an_algorithm_that_is_no_soft_actor_critic_does_not_swallow_one():
    record = Algorithm(init=None, explore=None, exploit=None, update=None)
    recipe = Recipe("", ActorCriticSettings, {}, lambda spec, settings: record)
    assert recipe.build(SPEC, ActorCriticSettings(utd=1)) is record
    with pytest.raises(crossq_wn.UserError, match="only an algorithm that returns Parts can use it"):
        recipe.build(SPEC, ActorCriticSettings(utd=1, critic_network="my_nets:critic"))


def test_its_cost_is_counted_in_its_own_program(folder):
    usual, own = (
        cost(configure("cheetah-run", frames=20_000, **networks))
        for networks in ({}, {"critic_network": "my_nets:linear"})
    )
    assert 0 < own.update_seconds < usual.update_seconds


@pytest.fixture(autouse=True)
def linear(more_networks):
    def linear(spec, settings, outputs):
        return dense(outputs)

    more_networks.linear = linear
    linear.__module__, linear.__qualname__ = "my_nets", "linear"


# --- what is refused


def faulty(**changes):
    """A dense layer with something else in place of one of its functions."""
    layer = dense(1)

    def make(spec, settings, outputs):
        return layer._replace(**changes)

    return make


def raises(*arguments, **named):
    raise RuntimeError("not\nimplemented")


def draws(params, stats=()):
    return lambda generator, n_in: (params(n_in), stats, 1)


def kernel(value=0.0, dtype=np.float32):
    return lambda n: {"kernel": np.full((n, 1), value, dtype), "bias": np.zeros(1, dtype)}


FAULTS = {
    "outputs": (lambda spec, settings, outputs: dense(3), r"has 3 outputs and must have 1 "),
    "no layer": (lambda spec, settings, outputs: dense, r"returned a function, not a crossq_wn.nets.layer"),
    "raises": (raises, r"raised RuntimeError: not implemented \(test_own_network.py, line \d+\)"),
    "arguments": (lambda spec: None, r"raised TypeError: .*; it is called with \(spec, settings, outputs\)"),
    "init raises": (faulty(init=raises), r"init of .* raised RuntimeError: not implemented \(test_own"),
    "apply raises": (faulty(apply=raises), r"apply of .* raised RuntimeError: not implemented \(test_own"),
    "hidden raises": (faulty(hidden=raises), r"hidden of .* raised RuntimeError"),
    "project raises": (faulty(project=raises), r"project of .* raised RuntimeError"),
    "penalty raises": (faulty(penalty=raises), r"penalty of .* raised RuntimeError"),
    "decay raises": (faulty(decay=raises), r"decay of .* raised RuntimeError"),
    "not finite": (faulty(init=draws(kernel(np.nan))), r"begins with numbers that are not finite"),
    "whole numbers": (faulty(init=draws(kernel(1, np.int32))), r"has an array of int32 among its parameters"),
    "no array": (faulty(init=draws(lambda n: {"kernel": "none"})), r"has a str among its parameters"),
    "real shape": (faulty(apply=lambda p, s, x, *, train: (x, s)), r"returns float32\[4, 5\] for float32"),
    "no pair": (faulty(apply=lambda p, s, x, *, train: x[:, :1]), r"must return two things, the output and"),
    "statistics": (
        faulty(apply=lambda p, s, x, *, train: (x[:, :1], {"n": jnp.zeros(2)})),
        r"returns statistics \{n: float32\[2\]\}, which must be like those of its init, \(\)",
    ),
    "projection": (faulty(project=lambda params: params["kernel"]), r"project of .* unlike the parameters"),
    "penalty": (faulty(penalty=lambda params: params["kernel"]), r"penalty of .*: it must be one number"),
    "decay": (faulty(decay=lambda params: {"kernel": True}), r"decay of .*: it must be True, False, or one"),
    "no tuple": (faulty(hidden=lambda p, s, x: x), r"hidden of .* returns a \w+: it must be a tuple"),
    "hidden": (faulty(hidden=lambda p, s, x: (x[0],)), r"hidden of .*: it must be \[B, units\]"),
}  # fmt: skip


def test_a_network_that_is_not_there_is_answered_with_those_that_are(more_networks):
    more_networks.tower = lambda spec, settings, outputs: None
    more_networks.tower.__module__ = more_networks.__name__
    with pytest.raises(crossq_wn.UserError, match=r"'my_nets' has no 'nothere'; it has .*\btower\b"):
        begun(critic_network="my_nets:nothere")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_network_is_refused_in_a_line_that_says_why(fault, more_networks):
    function, says = FAULTS[fault]
    name = f"faulty_{list(FAULTS).index(fault)}"  # the tests share what is built by its settings
    setattr(more_networks, name, function)
    with pytest.raises(crossq_wn.UserError, match=says) as refused:
        begun(critic_network=f"my_nets:{name}")
    assert f"critic_network my_nets:{name}" in str(refused.value)
    assert "\n" not in str(refused.value)
    raising = "raise" in fault or fault == "arguments"
    assert isinstance(refused.value.__cause__, RuntimeError | TypeError) == raising


def test_a_refused_network_leaves_no_run(more_networks, tmp_path):
    more_networks.too_many, more_networks.not_finite = FAULTS["outputs"][0], FAULTS["not finite"][0]
    path = tmp_path / "run"
    for name in ("too_many", "not_finite"):
        with pytest.raises(crossq_wn.UserError, match=f"my_nets:{name}"):
            crossq_wn.train(PointMass, critic_network=f"my_nets:{name}", frames=40, out=path, **TINY)
        assert not path.exists()


def test_what_it_raises_at_a_reset_leaves_its_traceback(more_networks, tmp_path):
    made = []

    def failing(spec, settings, outputs):
        layer = dense(outputs)

        def init(generator, n_in):
            made.append(generator)
            if (
                type(generator) is np.random.Generator
                and sum(type(g) is np.random.Generator for g in made) > 2
            ):
                raise RuntimeError("the third is too many")
            return layer.init(generator, n_in)

        return layer._replace(init=init)

    more_networks.failing = failing
    path = tmp_path / "run"
    with pytest.raises(
        crossq_wn.UserError, match=r"raised RuntimeError: the third.*; traceback: .*network"
    ) as end:
        crossq_wn.train(
            PointMass,
            critic_network="my_nets:failing",
            critics=2,
            reset_updates=30,
            frames=120,
            out=path,
            **TINY,
        )
    assert isinstance(end.value.__cause__, RuntimeError)
    assert "the third is too many" in (path / "errors" / "network.txt").read_text()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("my_nets:my-critic", "'my_nets:my-critic': no function can be called 'my-critic'; give the name"),
        ("my_nets:critic@", "no function can be called 'critic@'"),
        ("my_nets:sized(width=8)", "give it again from Python"),
        ("my_nets:critic@00000000", r"critic@00000000, whose source has changed since \(it is \S+@\w{8}\)"),
        ("my_nets", "'my_nets': give the name of a function as module:name"),
        (3, "3: give the name"),
        ("no_such_module:critic", "cannot import 'no_such_module' for critic_network no_such_module:critic"),
        ("my_nets:critc", "'my_nets' has no 'critc'; did you mean 'critic'"),
        ("my_nets:PI", "which is no function"),
        (lambda spec, settings, outputs: dense(outputs), "has no name that distinguishes it"),
        ("__main__:critic", "a function which its name alone cannot restore: give it again from Python"),
        ("__main__:critic", r"to export, crossq_wn\.export\.api\.export\(run, networks=\[...\]\)"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(value, says, more_networks):
    more_networks.PI = 3
    with pytest.raises(crossq_wn.UserError, match=rf"^.*critic_network.*{says}|{says}"):
        configure("cheetah-run", critic_network=value)


# --- identity


def versions(source, tmp_path, monkeypatch, name="critic", *, pinned=False):
    (tmp_path / "changing.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("changing", None)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        function = getattr(importlib.import_module("changing"), name)
        return checksum_of_source(function, f"changing:{name}" if pinned else None)
    finally:
        sys.modules.pop("changing", None)


BASE = """
    from crossq_wn.nets.layers import dense, relu
    WIDTH = 8
    def helper(outputs):
        return dense(outputs)
    def critic(spec, settings, outputs):
        "One critic."
        return helper(outputs * WIDTH)
    def other(): pass
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("One critic.", "Another.", True),
        ("outputs * WIDTH", "outputs *  (WIDTH)", True),
        ("def other(): pass", "def other(): return 3\n    EXTRA = 1", True),
        ("dense, relu", "dense", True),
        ("outputs * WIDTH", "outputs + WIDTH", False),
        ("WIDTH = 8", "WIDTH = 9", False),
        ("return dense(outputs)", "return dense(outputs + 1)", False),
        ("import dense, relu", "import relu as dense", False),
    ],
)
def test_the_checksum_is_of_what_the_function_depends_on(old, new, same, tmp_path, monkeypatch):
    assert old in BASE
    before = versions(BASE, tmp_path, monkeypatch)
    assert (versions(BASE.replace(old, new), tmp_path, monkeypatch) == before) == same


BINDINGS = """
    import functools
    class Critic:
        def __init__(self, rate): self.rate = rate
        def __call__(self, spec, settings, outputs): return self.rate
    def helper(outputs): return outputs + 1
    def base(spec, settings, outputs, rate=0, helper=None): return rate
    def bare(function):
        return lambda spec, settings, outputs: function(spec, settings, outputs)
    deep = functools.partial(base, rate=0.1)
    helped = functools.partial(base, helper=[helper])
    instance = Critic(0.2)
    method = instance.__call__
    @bare
    def decorated(spec, settings, outputs): return 3
    def make(function):
        def critic(spec, settings, outputs): return function(outputs)
        return critic
    made = make(helper)
"""


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("deep", "0.1", "0.9"),
        ("helped", "outputs + 1", "outputs + 2"),
        ("instance", "Critic(0.2)", "Critic(0.9)"),
        ("instance", "return self.rate", "return -self.rate"),
        ("method", "Critic(0.2)", "Critic(0.9)"),
        ("decorated", "return 3", "return 4"),
        ("made", "outputs + 1", "outputs + 2"),
    ],
)
def test_the_checksum_is_of_what_the_name_is_bound_to(name, old, new, tmp_path, monkeypatch):
    assert BINDINGS.count(old) == 1
    before, again, after = (
        versions(source, tmp_path, monkeypatch, name, pinned=True)
        for source in (BINDINGS, BINDINGS, BINDINGS.replace(old, new))
    )
    assert before == again != after


def test_a_helper_in_a_closure_or_a_partial_counts_without_a_name(tmp_path, monkeypatch):
    for name in ("helped", "made"):
        sums = {
            versions(source, tmp_path, monkeypatch, name)
            for source in (BINDINGS, BINDINGS.replace("outputs + 1", "outputs + 2"))
        }
        assert len(sums) == 2


def test_parameters_and_local_variables_are_not_names_of_the_module(tmp_path, monkeypatch):
    source = """
        settings = dict(frames=1000)
        width = 1000
        depth = 1000
        def critic(spec, settings, outputs):
            width = outputs
            return [settings, width, depth, [settings for settings in range(width)]]
    """
    before = versions(source, tmp_path, monkeypatch)
    for name, same in (("settings = dict(frames=", True), ("width = ", True), ("depth = ", False)):
        changed = versions(source.replace(f"{name}1000", f"{name}2"), tmp_path, monkeypatch)
        assert (changed == before) == same, name


def test_what_a_block_imports_is_a_name_of_the_module_and_its_functions_variables_are_not(
    tmp_path, monkeypatch
):
    source = """
        if True:
            from math import tau as rate
        if True:
            def other():
                rate = 3
        def critic(spec, settings, outputs): return rate
    """
    before = versions(source, tmp_path, monkeypatch)
    assert versions(source.replace("tau", "pi"), tmp_path, monkeypatch) != before
    assert versions(source.replace("rate = 3", "rate = 4"), tmp_path, monkeypatch) == before


def test_the_checksum_is_of_the_code_that_is_loaded(tmp_path, monkeypatch):
    """A file that is edited changes nothing before its module is loaded again."""
    file = tmp_path / "edited.py"
    source = "def actor(s, t, o): return 1\ndef critic(s, t, o): return 1\n"
    file.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(own_networks, "_given", {})
    module = importlib.import_module("edited")
    old, before = module.critic, own_networks.pinned("edited:critic", "critic_network")
    actor = checksum_of_source(module.actor)
    file.write_text(source.replace("1", "100"))
    assert own_networks.pinned("edited:critic", "critic_network") == before
    importlib.reload(module)
    after = own_networks.pinned("edited:critic", "critic_network")
    assert after != before
    assert checksum_of_source(module.actor) != actor
    own_networks.named("critic_network", old)  # no module has it any more
    assert own_networks.pinned("edited:critic", "critic_network") == before
    own_networks.named("critic_network", module.critic)
    assert own_networks.pinned("edited:critic", "critic_network") == after
    assert not own_networks.is_given("edited:critic")
    del sys.modules["edited"]


def test_a_function_that_was_edited_after_another_one_was_seen_is_the_loaded_one(tmp_path, monkeypatch):
    source = "def actor(s, t, o): return 1\ndef critic(s, t, o): return 1\n"
    sums = []
    for edit in (False, True):
        (tmp_path / "both.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        module = importlib.import_module("both")
        checksum_of_source(module.actor)
        if edit:
            (tmp_path / "both.py").write_text(source.replace("1", "100"))
        sums.append(checksum_of_source(module.critic))
        del sys.modules["both"]
    assert sums[0] == sums[1] is not None


def test_in_a_notebook_what_a_function_uses_counts_too():
    cells = "WIDTH = 8", "def helper(n): return n + 1", "def critic(s, t, o): return helper(o) * WIDTH"

    def checksum(*cells):
        namespace = {"__name__": "__main__"}
        for number, cell in enumerate(cells):
            file = f"<cell {number} {cell}>"
            linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
            exec(compile(cell, file, "exec"), namespace)
        return checksum_of_source(namespace["critic"])

    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "__main__")  # a notebook's has no file
        before = checksum(*cells)
        assert before == checksum("other = 3", *cells) is not None
        for cell, old, new in ((0, "8", "9"), (1, "n + 1", "n + 2"), (2, "*", "+")):
            changed = list(cells)
            changed[cell] = cells[cell].replace(old, new)
            assert checksum(*changed) != before, cell


def test_a_function_of_a_script_is_given_again_from_its_module(tmp_path, monkeypatch):
    """A script that trains calls its function __main__:critic; later the same file is imported."""
    monkeypatch.setattr(own_networks, "_given", {})
    own_networks.give(sized_actor)
    name = f"__main__:sized_actor@{checksum_of_source(sized_actor)}"
    assert own_networks.is_given(name)
    assert own_networks.pinned(name, "actor_network") == name
    own_networks.give([functools.partial(sized_actor, width=opaque)])
    assert own_networks.is_given("__main__:sized_actor(width=__main__:opaque)")


def test_a_setting_of_that_name_of_an_algorithm_of_ones_own_may_mean_something_else():
    own = unloaded(values_of(Settings(utd=1)) | {"critic_network": "wide", "actor_network": "a:b"})
    assert networks_of(own) == {"actor_network": "a:b"}


def test_what_has_no_source_has_no_checksum():
    assert checksum_of_source(len) is None
    assert checksum_of_source((3).__add__) is None
    assert checksum_of_source(eval("lambda: 0")) is None
    assert checksum_of_source(functools.partial(faulty, init=None)) == checksum_of_source(faulty)


def test_systems_of_different_networks_are_never_one():
    one, other, usual = (
        System("sac", 1, changes=changes)
        for changes in ((("critic_network", "n:c@1"),), (("critic_network", "n:c@2"),), ())
    )
    assert len({one, other, usual}) == 3
    assert len({one.label, other.label, usual.label}) == 3


def test_a_changed_network_is_not_resumed_or_acted_by(run, folder, tmp_path):
    path, file = tmp_path / "run", folder / "my_nets.py"
    shutil.copytree(run, path)
    source = file.read_text()
    file.write_text(source.replace("nn.sigmoid", "nn.tanh"))
    importlib.reload(sys.modules["my_nets"])  # as in another process
    try:
        with pytest.raises(
            crossq_wn.UserError, match=r"trained with the critic network my_nets:critic@\w{8}, whose"
        ):
            crossq_wn.resume(path, frames=300)
        with pytest.raises(crossq_wn.UserError, match="put it back as it was, or train a new run"):
            crossq_wn.load(path)
        changed = configure("cheetah-run", **BOTH).system
    finally:
        file.write_text(source)
        importlib.reload(sys.modules["my_nets"])
    assert changed != configure("cheetah-run", **BOTH).system
    assert crossq_wn.load(path).act([0.0, 0.0, 0.0]).shape == (2,)


def test_functions_of_a_script_are_given_again(tmp_path, monkeypatch):
    """A partial function cannot be imported; its values are part of its name."""
    wide, narrow = (functools.partial(sized_actor, width=width) for width in (8, 4))
    monkeypatch.setattr(own_networks, "_given", {})
    path = tmp_path / "run"
    crossq_wn.train(PointMass, actor_network=wide, frames=60, out=path, **TINY)
    named = networks_of(read_config(path).settings)["actor_network"]
    assert "sized_actor(width=8)" in named
    assert named != configure("cheetah-run", actor_network=narrow).settings.actor_network
    monkeypatch.setattr(own_networks, "_given", {})  # as in another process
    for again in (crossq_wn.load, crossq_wn.resume):
        with pytest.raises(crossq_wn.UserError, match=r"give it again from Python.*networks=\["):
            again(path, trust=True)
    assert crossq_wn.resume(path, frames=80, networks=[wide]).finished
    assert crossq_wn.load(path, networks=[wide]).act([0.0, 0.0, 0.0]).shape == (2,)
    assert crossq_wn.load(path, networks=wide).act([0.0, 0.0, 0.0]).shape == (2,)  # one needs no list
    assert export(path, out=tmp_path / "exported", networks=wide).path.is_dir()
    for wrong, says in (([3], "networks holds 3"), ("a:b", "networks is 'a:b'"), (None, "networks is None")):
        with pytest.raises(crossq_wn.UserError, match=says):
            crossq_wn.load(path, networks=wrong)


def sized_actor(spec, settings, outputs, width=16):
    return serial(dense(width), relu(), gaussian_head(spec.action_size))


# --- code of strangers


def test_reading_never_imports_it_and_acting_asks_for_trust(run, folder, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    monkeypatch.delitem(sys.modules, "my_nets")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))  # of somebody who never trained with it
    for words in (
        ["list", "runs", path],
        ["diagnose", path],
        ["plot", path],
        ["report", path, "--out", "r.html"],
    ):
        done = call(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for words in (
        ["eval", path],
        ["resume", path, "--frames", "300"],
        ["export", path, "--to", "numpy"],
        ["diagnose", path, "--hessian"],
    ):
        done = call(*words, cwd=tmp_path)
        assert done.returncode == 2, words
        assert "names code for its actor network, 'my_nets:actor'" in done.stderr
        assert "add --trust" in done.stderr
    with pytest.raises(crossq_wn.UserError, match="add trust=True"):
        crossq_wn.train(PointMass, **crossq_wn_choices(path), out=tmp_path / "new")
    assert "my_nets" not in sys.modules
    monkeypatch.undo()


def crossq_wn_choices(path):
    from crossq_wn.runs.choices import read_choices

    return read_choices(path, trust=False)


def test_a_network_of_an_algorithm_that_is_not_loaded_is_known_too(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    values = json.loads((path / "config.json").read_text())
    values["system"]["algorithm"] = "no_such_module:x"
    del values["sha256"]
    (path / "config.json").write_text(json.dumps(values))
    config = read_config(path)
    assert networks_of(config.settings).keys() == BOTH.keys()
    trust.remember(config)  # of what is not there, nothing


# --- acting


def test_a_critic_of_ones_own_does_not_keep_a_policy_from_acting_in_numpy(run):
    """The actor of the page is made of the package's layers."""
    assert crossq_wn.load(run).network() is not None
    assert export(run, out=run.parent / "exported").path.is_dir()


def test_an_actor_with_a_layer_of_ones_own_acts_through_jax_and_is_not_exported(more_networks, tmp_path):
    def odd(spec, settings, outputs):
        double = elementwise(lambda x: 2 * x)
        return serial(dense(4), relu(), double, gaussian_head(spec.action_size))

    more_networks.odd, path = odd, tmp_path / "run"
    crossq_wn.train(PointMass, actor_network="my_nets:odd", frames=60, out=path, **TINY)
    policy = crossq_wn.load(path)
    assert policy.network() is None
    seen = np.array([0.1, -0.2, 0.3], np.float32)
    first, _, _, head = policy.state.actor.params
    hidden = 2 * np.maximum(seen @ first["kernel"] + first["bias"], 0)
    mean = (hidden @ head["kernel"] + head["bias"])[:2]
    np.testing.assert_allclose(policy.choose(seen), np.tanh(mean), rtol=1e-5)
    with pytest.raises(
        crossq_wn.UserError, match=r"a layer of its actor network my_nets:odd\S* does not say"
    ):
        export(path, out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    with pytest.raises(
        crossq_wn.UserError, match=r"actor_network=my_nets:odd\S*\) cannot train with real_time: a layer"
    ):
        require_plain(policy.algorithm, policy.config)


def test_a_critic_of_ones_own_may_learn_in_real_time(run):
    policy = crossq_wn.load(run)
    require_plain(policy.algorithm, policy.config)  # raises nothing
    assert policy.network().operations


def test_it_sees_stacked_and_normalised_observations(folder, tmp_path):
    path = tmp_path / "run"
    options = TINY | {"frame_stack": 2, "normalise_observations": True}
    crossq_wn.train(PointMass, **BOTH, frames=60, out=path, **options)
    policy = crossq_wn.load(path)
    assert policy.state.inner.critic.params[0][0]["scale"].shape == (2 * 3 + 2,)
    assert policy.act([0.0, 0.0, 0.0]).shape == (2,)


# --- diagnostics


def opaque(spec, settings, outputs):
    """A critic that shows nothing: no kernel, no non-linearity."""

    def init(generator, n_in):
        return {"w": generator.normal(size=(n_in, outputs))}, (), outputs

    return Layer(init, lambda params, stats, x, *, train: (x @ params["w"], stats))


def test_diagnostics_that_a_critic_lacks_are_left_out_and_named(more_networks, tmp_path):
    more_networks.opaque, told, path = opaque, Listener(), tmp_path / "run"
    crossq_wn.train(
        PointMass, algorithm="sac", critic_network="my_nets:opaque", frames=60, out=path, reporter=told,
        **TINY | {"log_every": 20},
    )  # fmt: skip
    columns = rows(path / "metrics.csv")[-1]
    assert "critic_norm" not in columns
    assert np.isfinite(float(columns["target_q_max"]))
    missing = lacking(columns)
    assert {"bn_drift", "bn_variance_drift"}.isdisjoint(columns)
    assert missing.keys() == {"dense layers", "hidden dense layers", "non-linearities"}
    assert missing["non-linearities"] == ["dead_neurons", "feature_norm", "stable_rank"]
    said = " ".join(told.messages)
    for part, names in missing.items():
        assert f"the critic has no {part} that it shows: {', '.join(names)}" in said


def test_a_critic_of_one_layer_has_no_measures_of_hidden_ones(folder):
    algorithm, state = begun(critic_network="my_nets:linear")
    batch = random_batch(np.random.default_rng(0), SPEC, 4)
    found = diagnose(algorithm.view(state, batch, jnp.int32(0)))
    assert all(np.isfinite(value) for value in found.values())
    assert "critic_norm_head" in found
    assert {"critic_elr_hidden", "critic_step_size", "dead_neurons"}.isdisjoint(found)
    assert {each.name for each in DIAGNOSTICS.values() if each.of == "critic" and each.function} <= set(found)


def test_nothing_is_assumed_of_the_norms_of_a_critic_of_ones_own(run):
    assert critic_of(read_config(run)) == CriticTraits()
    assert critic_of(configure("cheetah-run")).scale_free


def test_runs_with_equal_networks_do_not_conflict(run):
    terms = read_terms([run])
    assert setting_conflicts([*terms, *terms]) == []
