"""No unsafe action, no silent cast: what passes between policies and environments."""

import dataclasses
import enum
import functools
import random
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
import helpers
from crossq_wn.acting.interface import Interface, in_units
from crossq_wn.algorithms import ALGORITHMS, Preset, Recipe
from crossq_wn.algorithms.settings import Settings
from crossq_wn.environments import EnvironmentFaultError, lookup, make
from crossq_wn.environments.interface import far_outside
from crossq_wn.environments.parts import wrong_part
from crossq_wn.environments.streams import kept_shared, places
from crossq_wn.errors import UserError
from crossq_wn.training import api, saving
from crossq_wn.training.policy import evaluate_policy, measure_q_bias
from crossq_wn.training.rows import tell_of_distant_numbers, tell_of_large_numbers
from crossq_wn.training.saving import tell_of_what_classes_hold
from crossq_wn.training.video import record
from crossq_wn.types import Algorithm
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass, rows

SEEN = []  # every action that a watched environment got
QUICK = TINY_OPTIONS | TINY_SETTINGS


def trained(task, out, **options):
    return crossq_wn.train(task, out=out, **(QUICK | {"frames": 60, "eval_every": 30} | options))


class Watched(PointMass):
    """Remembers every action that it gets."""

    seen = SEEN

    def step(self, action):
        self.seen.append(np.array(action))
        return super().step(action)


class Extreme(PointMass):
    """From its 50th step on, in all its objects together, it sees 1e20 at index 2, within its space."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    taken, FROM = 0, 50
    seen = SEEN

    def step(self, action):
        self.seen.append(np.array(action))
        type(self).taken += 1
        observation, *rest = super().step(action)
        if type(self).taken >= self.FROM:
            observation[2] = 1e20
        return observation, *rest


# Actions that are no numbers


@pytest.fixture
def broken(monkeypatch):
    """An algorithm whose deterministic and stochastic actions are as said."""

    def register(explore, exploit=0.0):
        def always(value):
            return lambda state, memory, observation, decision=0: (jnp.full(2, value), memory)

        def appraise(state, observation, decision):
            return jnp.full(2, explore), jnp.float32(0), jnp.float32(0)

        def build(spec, settings):
            return Algorithm(
                lambda generator: jnp.float32(0), always(explore), always(exploit),
                lambda state, batch, step: (state, {}), appraise=appraise,
            )  # fmt: skip

        presets = {"default": Preset(Settings(utd=1, batch_size=4, warmup=5), "nowhere")}
        monkeypatch.setitem(ALGORITHMS, "broken", Recipe("broken", Settings, presets, build))

    return register


@pytest.mark.parametrize("action", [np.nan, np.inf, -np.inf, 3.0])
@pytest.mark.parametrize("path", ["training", "evaluation"])
def test_no_action_outside_its_range_reaches_an_environment(action, path, broken, tmp_path):
    broken(*((action, 0.0) if path == "training" else (0.0, action)))
    Watched.seen.clear()
    options = TINY_OPTIONS | {"frames": 60, "eval_every": 30}
    why = "parameters are no longer sound" if not np.isfinite(action) else r"must lie in \[-1, 1\]"
    with pytest.raises(UserError, match=f"not stepped: the policy chose {action}.*{why}"):
        crossq_wn.train(Watched, algorithm="broken", out=tmp_path / "run", **options)
    assert all(PointMass.action_space.contains(seen.astype(np.float32)) for seen in Watched.seen)
    assert len(Watched.seen) >= 5 if path == "training" else not Watched.seen


@pytest.mark.parametrize("use", [evaluate_policy, measure_q_bias, record])
def test_no_such_action_comes_from_a_trained_policy_s_uses(use, broken, tmp_path):
    broken(0.0, 0.0)
    options = TINY_OPTIONS | {"frames": 60, "eval_every": 30, "video": False}
    policy = crossq_wn.load(
        crossq_wn.train(Watched, algorithm="broken", out=tmp_path / "run", **options).path
    )
    broken(np.nan, np.nan)
    policy = crossq_wn.load(policy.path)
    Watched.seen.clear()
    more = {evaluate_policy: [1], measure_q_bias: [], record: [tmp_path / "video.mp4"]}[use]

    class Rendering(Watched):
        def render(self):
            return np.zeros((16, 16, 3), np.uint8)

    with pytest.raises(UserError, match="the policy chose nan"):
        use(policy, *more, task=Rendering)
    assert not Watched.seen
    with pytest.raises(UserError, match=r"the policy of .* has no action: its observation is ordinary"):
        policy.act(np.zeros(3))


def test_an_extreme_observation_stops_its_seed_and_is_named(tmp_path):
    Extreme.taken = 0
    Extreme.seen.clear()
    with pytest.raises(UserError, match=r"chose nan.* got 1e\+20 at index 2 .* that .* scales to about"):
        trained(Extreme, tmp_path / "run", frames=400, eval_every=400, checkpoint_every=20)
    # The evaluation before training takes 37 of the steps.
    assert all(np.isfinite(seen).all() for seen in Extreme.seen)
    policy = crossq_wn.load(tmp_path / "run")
    assert policy.frames in (0, 20, 40)
    assert np.isfinite(policy.act([0.1, 0.2, 0.3])).all()
    with pytest.raises(UserError, match=r"got inf \(infinite, or beyond float32\) at index 2 of the"):
        policy.act([0.1, 0.2, 1e39])
    with pytest.raises(
        UserError, match="got nan at index 1 of the observation; mend the sensor or the environ"
    ):
        policy.act([0.1, np.nan, 0.3])


# Casts

INTEGER_TYPES = (np.int8, np.uint8, np.int16, np.int32, np.int64)


@given(
    kind=st.sampled_from(INTEGER_TYPES),
    bounds=st.lists(st.integers(-100, 100), min_size=2, max_size=2, unique=True),
    share=st.floats(0, 1),
)
def test_integers_get_equal_bins(kind, bounds, share):
    low, high = (np.array([value % 100 if kind == np.uint8 else value], float) for value in sorted(bounds))
    low, high = np.minimum(low, high), np.maximum(low, high)
    got = in_units(np.float32([2 * share - 1]), low, high, np.dtype(kind))
    assert got.dtype == kind
    assert low[0] <= got[0] <= high[0]
    count = high[0] - low[0] + 1
    exact = (float(np.float32(2 * share - 1)) + 1) / 2 * count
    assert abs(exact - (got[0] - low[0] + 0.5)) <= 0.5 + 1e-3
    edges = (
        in_units(np.float32([-1]), low, high, np.dtype(kind)),
        in_units(np.float32([1]), low, high, got.dtype),
    )
    assert (edges[0][0], edges[1][0]) == (low[0], high[0])


def test_every_integer_is_drawn_equally_often():
    drawn = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32)
    low, high = np.full(1, -2.0), np.full(1, 2.0)
    got = np.array([in_units(each[None], low, high, np.dtype(np.int64))[0] for each in drawn])
    values, counts = np.unique(got, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(counts / len(got), 0.2, atol=0.01)


@given(
    kind=st.sampled_from((np.float16, np.float32, np.float64)),
    bounds=st.lists(st.floats(-6e4, 6e4), min_size=2, max_size=2),
    action=st.floats(-1, 1),
)
def test_floats_of_every_width_stay_within_their_bounds(kind, bounds, action):
    low, high = (np.array([value], kind).astype(float) for value in sorted(bounds))
    got = in_units(np.float32([action]), low, high, np.dtype(kind))
    assert got.dtype == kind
    assert low <= got.astype(float) <= high
    expected = low + (high - low) * (float(np.float32(action)) + 1) / 2
    tolerance = 1e-9 + 2 * float(np.finfo(kind).eps) * float(np.abs([low, high]).max())
    np.testing.assert_allclose(got.astype(float), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 2, (2,), np.int64), spaces.Box(0, 3, (2,), np.uint8),
        spaces.Box(-2, 3, (2,), np.float16),
        spaces.Box(-2, 3, (2, 1), np.float64), spaces.Box(-2, 3, (2,), np.float32),
    ],
    ids=str,
)  # fmt: skip
def test_act_returns_exactly_what_the_environment_gets(space, tmp_path):
    seen = []

    class Typed(PointMass):
        action_space = space

        def reset(self, **options):
            seen.clear()
            return super().reset(**options)

        def step(self, action):
            assert self.action_space.contains(action)
            seen.append((self.observe(), action.copy()))
            self.steps += 1
            self.position = 0.9 * self.position + 0.01 * action.ravel()
            return self.observe(), 0.0, False, self.steps >= 20, {}

    policy = crossq_wn.load(trained(Typed, tmp_path / "run").path)
    evaluate_policy(policy, 1, Typed)
    assert len(seen) > 10
    for observation, action in seen:
        own = policy.act(observation)
        assert (own.dtype, own.shape) == (action.dtype, action.shape) == (space.dtype, space.shape)
        assert space.contains(own)
        np.testing.assert_array_equal(own, action)


@pytest.mark.parametrize(
    "space", [spaces.Box(-(2**62), 2**62, (1,), np.int64), spaces.Box(-1.7e308, 1.7e308, (1,), np.float64)]
)
def test_bounds_too_far_apart_for_arithmetic_are_refused(space):
    class Wide(PointMass):
        action_space = space

    with pytest.raises(UserError, match="apart"):
        make(Wide)


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_numbers_beyond_float32_are_named_not_stored_as_infinity(value):
    class Seeing(PointMass):
        observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

        def step(self, action):
            return np.array([0, value, 0.0]), *super().step(action)[1:]

    class Paid(PointMass):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, value, *rest

    for kind, says in ((Seeing, "beyond float32.* at index 1"), (Paid, "the reward .*beyond float32")):
        environment = make(kind)
        environment.reset(0)
        with pytest.raises(EnvironmentFaultError, match=says):
            environment.step(np.zeros(2, np.float32))


# Changed environments


class Wider(PointMass):
    action_space = spaces.Box(-50, 50, (2,), np.float32)


class Whole(PointMass):
    action_space = spaces.Box(-2, 3, (2,), np.int32)


class MoreActions(PointMass):
    action_space = spaces.Box(-2, 3, (3,), np.float32)


class MoreToSee(PointMass):
    observation_space = spaces.Box(-10, 10, (4,), np.float32)

    def observe(self):
        return np.append(super().observe(), np.float32(0))


@pytest.fixture(scope="module")
def point(tmp_path_factory):
    return trained(PointMass, tmp_path_factory.mktemp("point") / "run").path


def contents(run):
    """What is in a run directory, besides what each attempt to go on with it leaves."""
    return sorted(
        path for path in run.rglob("*") if "manifest" not in path.name and ".lease-" not in str(path)
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (Wider, r"action low was \[-2.0, -2.0\] and is now \[-50.0, -50.0\]"),
        (Whole, "action dtype was float32 and is now int32"),
        (MoreActions, r"action low was \[-2.0, -2.0\] and is now \[-2.0, -2.0, -2.0\]"),
        (MoreToSee, "observation size was 3 and is now 4"),
        (helpers.DictPoint, r"observation was \[\[\[\], \[3\]\]\] and is now .*'clock'"),
    ],
)
def test_a_changed_environment_is_named_on_resume_evaluation_and_video(changed, says, point, tmp_path):
    policy = crossq_wn.load(point)
    uses = (
        lambda: crossq_wn.resume(point, frames=120, task=changed),
        lambda: evaluate_policy(policy, 1, changed),
        lambda: record(policy, tmp_path / "video.mp4", task=changed),
    )
    before = contents(point)
    for use in uses:
        with pytest.raises(UserError, match=says) as error:
            use()
        assert "has changed since this run was trained" in str(error.value)
        assert "\n" not in str(error.value)
        assert "version" not in str(error.value)
    assert contents(point) == before


# What `act` takes


def test_act_takes_lists_rows_and_arrays(point):
    policy = crossq_wn.load(point)
    one = policy.act(np.array([0.1, 0.2, 0.5], np.float32))
    for same in ([0.1, 0.2, 0.5], (0.1, 0.2, 0.5), np.array([0.1, 0.2, 0.5])):
        np.testing.assert_array_equal(policy.act(same), one)
    assert policy.act([[0.1, 0.2, 0.5]] * 4).shape == (4, 2)
    for wrong, says in (
        ("left", "no array of numbers"),
        ([[1], [2, 3]], "no array"),
        ({"x": 1}, "the parts x"),
        (["1", "2", "3"], "a list and no array of numbers"),
        ({"": np.array(["1", "2", "3"])}, "a ndarray and no array of numbers"),
        (np.zeros(3, np.complex64), "a ndarray and no array of numbers"),
    ):
        with pytest.raises(UserError, match=says):
            policy.act(wrong)


def test_act_takes_a_dict_as_the_environment_returns_it(tmp_path):
    policy = crossq_wn.load(trained(helpers.DictPoint, tmp_path / "run").path)
    raw = {"place": [0.1, 0.2], "clock": np.array([0.5])}
    flat = policy.act([0.5, 0.1, 0.2])
    np.testing.assert_array_equal(policy.act(raw), flat)
    np.testing.assert_array_equal(policy.act(dict(reversed(raw.items()))), flat)
    several = {"place": np.float32([[0.1, 0.2]] * 3), "clock": np.full((3, 1), 0.5)}
    assert policy.act(several).shape == policy.act([raw] * 3).shape == (3, 2)
    np.testing.assert_allclose(policy.act(several)[0], flat, rtol=1e-6)
    for wrong in ({"place": [0.1, 0.2]}, raw | {"more": [1]}, raw | {"clock": [1, 2]}):
        with pytest.raises(UserError, match="trained on"):
            policy.act(wrong)


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(st.integers(1, 3), max_size=2).map(tuple),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**31),
)
def test_any_dict_space_is_flattened_as_in_training(shapes, seed):
    space = spaces.Dict({name: spaces.Box(-1, 1, shape, np.float32) for name, shape in shapes.items()})
    space.seed(seed % 1000)
    raw = space.sample()

    class Seen(PointMass):
        observation_space = space

        def reset(self, **options):
            return raw, super().reset(**options)[1]

    environment = make(Seen)
    from crossq_wn.environments.interface import describe

    interface = Interface(describe(environment.simulator))
    np.testing.assert_array_equal(interface.flatten(raw), environment.reset(0))


def test_act_takes_an_observation_that_is_not_flat(tmp_path):
    class Grid(PointMass):
        observation_space = spaces.Box(-10, 10, (3, 1), np.float32)

        def observe(self):
            return super().observe().reshape(3, 1)

    policy = crossq_wn.load(trained(Grid, tmp_path / "run").path)
    flat = policy.act([0.1, 0.2, 0.5])
    np.testing.assert_array_equal(policy.act([[0.1], [0.2], [0.5]]), flat)
    assert policy.act(np.zeros((4, 3, 1))).shape == policy.act(np.zeros((4, 3))).shape == (4, 2)


# The identity of a task


class Reach(PointMass):
    def __init__(self, goal=0.5, kind="near"):
        super().__init__()
        self.goal = goal


def made_with(goal):
    def factory():
        return Reach(goal)

    return factory


def test_callables_that_differ_have_names_that_differ():
    partial = functools.partial
    different = [
        Reach,
        partial(Reach, 0.5),
        partial(Reach, 0.6),
        partial(Reach, goal=0.5),
        partial(Reach, kind="far"),
        partial(partial(Reach, 0.5), kind="far"),
        partial(Reach, goal=np.arange(3)),
        partial(Reach, goal=list(range(1000))),
        partial(Reach, goal=list(range(1001))),
        partial(gymnasium.make, "Pendulum-v1"),
        partial(gymnasium.make, "Pendulum-v1", g=9),
        made_with(0.5),
        made_with(0.6),
    ]
    names = [lookup(each).name for each in different]
    assert len(set(names)) == len(names), names
    assert all(len(name) < 200 for name in names)
    assert lookup(made_with(0.5)).name == names[-2]
    assert lookup(partial(Reach, kind="far", goal=1)).name == lookup(partial(Reach, goal=1, kind="far")).name
    assert names[:2] == ["test_safety:Reach", "test_safety:Reach(0.5)"]


def dense(self, goal=None):
    return 1.0


def sparse(self):
    return 0.0


def made_at_once(goal):
    """Classes that one function makes; all that sets those of two calls apart is the goal."""

    class Attribute(Reach):
        target = goal

    class Space(Reach):
        action_space = spaces.Box(-1, goal[0], (2,), np.float32)

    class Held(Reach):
        def reset(self, **options):
            self.goal = goal
            return super().reset(**options)

    class Default(Reach):
        def reset(self, *, seed=None, options=None, goal=goal):
            return super().reset(seed=seed, options=options)

    class Property(Reach):
        @property
        def target(self):
            return goal

    class Inherited(Attribute):
        pass

    given = dense if goal[0] < 0.55 else sparse

    class Given(Reach):
        reward = staticmethod(given)
        twice = property(lambda self: 2 * self.goal)  # of its own, as methods are

    made = [type("Made", (Reach,), {"target": goal}), type("Made", (Reach,), {"reward": given})]
    made.append(type("Made", (Reach,), {"reward": functools.partialmethod(dense, goal)}))
    made.append(type("Made", (Reach,), {"squash": np.tanh if goal[0] < 0.55 else np.sin}))
    return [Attribute, Space, Held, Default, Property, Inherited, Given, *made]


def test_classes_that_a_function_makes_are_told_apart_by_what_they_hold():
    one, same, other = (list(map(lookup, made_at_once(goal))) for goal in ([0.5], [0.5], [0.6]))
    assert [task.name for task in one] == [task.name for task in same]
    for left, right in zip(one, other, strict=True):
        assert left.name != right.name
    held = lookup(made_at_once([0.5])[2])
    assert held.name == "test_safety:made_at_once.<locals>.Held(goal=[0.5])"
    nameless = type("Made", (Reach,), {"target": object()})
    with pytest.raises(
        UserError, match="no name that distinguishes it from others, because it depends on <o"
    ):
        lookup(nameless)
    nameless.__name__ = "reach-far"
    assert lookup(nameless).name == "test_safety:reach-far"


class Made(Reach):
    @classmethod
    def make(cls):
        return cls()

    @functools.cache  # noqa: B019
    def kept(self):
        return self


class Faster(Made):
    pass


@functools.cache
def cached():
    return Reach()


def chosen(second):
    """A function and a class of one name each, of which the branch decides."""
    if second:

        def make():
            return Reach(0.6)

        class Chosen(Reach):
            def step(self, action):
                return super().step(-action)
    else:

        def make():
            return Reach(0.5)

        class Chosen(Reach):
            def step(self, action):
                return super().step(action)

    return make, Chosen


def branching(second):
    class Local(Reach):
        if second:

            def step(self, action):
                return super().step(-action)
        else:

            def step(self, action):
                return super().step(action)

    return Local


def test_methods_of_classes_are_named_after_the_class_that_they_make():
    assert lookup(Made.make).name == "test_safety:Made.make"
    assert lookup(Faster.make).name == "test_safety:Faster.make"
    assert lookup(functools.partial(Faster.make)).name == "test_safety:Faster.make"


def test_a_copied_name_is_not_one_that_was_given():
    slow = functools.update_wrapper(functools.partial(Reach, 0.5), Reach)
    fast = functools.update_wrapper(functools.partial(Reach, 0.6), Reach)
    assert [lookup(each).name for each in (slow, fast)] == [
        "test_safety:Reach(0.5)",
        "test_safety:Reach(0.6)",
    ]
    fast.__name__ = "reach-fast"
    assert lookup(fast).name == "test_safety:reach-fast"
    assert lookup(cached).name == "test_safety:cached"
    assert lookup(functools.cache(made_with(0.5))).name == lookup(made_with(0.5)).name

    class Decorated:
        def __init__(self, function):
            functools.update_wrapper(self, function)

        def __call__(self):
            return Reach()

    with pytest.raises(UserError, match="no name that distinguishes it"):
        lookup(Decorated(made_with))


def test_of_two_branches_each_has_a_name():
    (make, chosen_class), (other_make, other_class) = chosen(True), chosen(False)
    assert lookup(make).name == "test_safety:chosen.<locals>.make"  # the first in the code
    assert lookup(other_make).name == "test_safety:chosen.<locals>.make#2"
    assert lookup(chosen_class).name == "test_safety:chosen.<locals>.Chosen"
    assert lookup(other_class).name == "test_safety:chosen.<locals>.Chosen(step='#2')"
    assert [lookup(each).name for each in chosen(False)] == [
        lookup(other_make).name,
        lookup(other_class).name,
    ]
    assert lookup(branching(True)).name != lookup(branching(False)).name


def test_a_decorated_method_that_calls_super_is_no_obstacle_to_a_name():
    def decorated(function):
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            return function(*arguments, **options)

        return wrapped

    def made(goal):
        class Local(Reach):
            target = goal

            @decorated
            def reset(self, **options):
                return super().reset(**options)

        return Local

    assert lookup(made(0.5)).name == lookup(made(0.5)).name != lookup(made(0.6)).name


class Mode(enum.Enum):
    NEAR = 1
    FAR = 2


@dataclasses.dataclass(frozen=True)
class Config:
    mode: Mode
    goals: list[float] = dataclasses.field(default_factory=list)


def test_what_describes_an_environment_is_part_of_its_name():
    def local(config):
        @dataclasses.dataclass
        class Local(Reach):
            goals: list[float] = dataclasses.field(default_factory=list)
            settings = config

        return Local

    configs = [Config(Mode.NEAR), Config(Mode.FAR), Config(Mode.NEAR, [0.5])]
    names = [lookup(functools.partial(Reach, config)).name for config in configs]
    assert names[0] == "test_safety:Reach(test_safety:Config{'mode':test_safety:Mode.NEAR,'goals':[]})"
    assert len(set(names)) == 3
    assert len({lookup(local(config)).name for config in configs}) == 3
    assert (
        lookup(functools.partial(Reach, Path("a.xml"))).name
        != lookup(functools.partial(Reach, Path("b.xml"))).name
    )


class Unshown:
    def __repr__(self):
        raise RuntimeError("not for eyes")


class Long:
    def __repr__(self):
        return "a\nlong text " * 100


@pytest.mark.parametrize("held", [Unshown(), Long(), np.poly1d([1, 2]), lambda self: 0, np.array(["near"])])
def test_what_has_no_name_is_said_in_one_short_line(held):
    for made in (type("Made", (Reach,), {"target": held}), functools.partial(Reach, held)):
        with pytest.raises(UserError, match="because it depends on") as error:
            lookup(made)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 350


def test_functions_of_numpy_have_names():
    held = [np.tanh, np.clip, np.linalg.norm]
    names = [lookup(functools.partial(Reach, function)).name for function in held]
    assert names == [
        f"test_safety:Reach({name})" for name in ("numpy:tanh", "numpy:clip", "numpy.linalg:norm")
    ]


def test_a_class_keeps_its_first_name_while_it_is_used():
    class Counted(Reach):
        made = 0
        history = []  # noqa: RUF012

        def __init__(self):
            super().__init__()
            type(self).made += 1
            self.history.append(self.made)

    first = lookup(Counted).name
    Counted(), Counted()
    assert (Counted.made, lookup(Counted).name) == (2, first)
    Counted.__name__ = "counted"
    assert lookup(Counted).name == "test_safety:counted"


def test_a_callable_without_a_name_of_its_own_needs_one(tmp_path):
    class Maker:
        def __call__(self):
            return PointMass()

        def make(self):
            return PointMass()

    for nameless in (lambda: PointMass(), Maker(), Maker().make, functools.partial(Reach, Maker())):
        with pytest.raises(UserError, match="no name that distinguishes it"):
            lookup(nameless)
    for nameless in (lambda: PointMass(), Maker(), functools.partial(Reach, Maker())):
        nameless.__name__ = "reach-fast"
        assert lookup(nameless).name == "test_safety:reach-fast"


# State that attributes do not show


def normalised():
    environment = gymnasium.wrappers.NormalizeObservation(PointMass())
    return gymnasium.wrappers.NormalizeReward(environment)


def test_evaluations_and_policies_see_through_the_statistics_of_training(tmp_path):
    messages = Messages()
    run = trained(normalised, tmp_path / "run", frames=200, eval_every=100, reporter=messages).path
    assert any("learns statistics as it runs (obs_rms, return_rms)" in text for text in messages.texts)
    policy = crossq_wn.load(run)
    environment = policy.environment(normalised)
    learned = environment.statistics()
    observation = next(value for name, value in learned.items() if name.endswith("obs_rms"))
    assert float(observation["count"]) > 200
    first = environment.reset(3)
    raw = PointMass().reset(seed=3)[0]
    expected = (raw - observation["mean"]) / np.sqrt(observation["var"] + 1e-8)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    environment.step(np.zeros(2, np.float32))
    np.testing.assert_equal(environment.statistics(), learned)  # an evaluation learns nothing
    trained(normalised, tmp_path / "half", frames=100, eval_every=100)
    crossq_wn.resume(tmp_path / "half", frames=200, task=normalised)
    helpers.same_run(run, tmp_path / "half")


class SharedStreams(PointMass):
    """Draws from the streams of the process and from its own spaces."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        noise = random.random() + np.random.normal() + float(self.action_space.sample()[0])
        return observation, reward + noise, *rest


HELD = np.random.default_rng()


class HeldByItsModule(PointMass):
    """Draws from generators of its module and of its class, which nothing seeds."""

    legacy = np.random.RandomState()
    replaced = None

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            HeldByItsModule.replaced = np.random.default_rng(seed + 1)
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + HELD.normal() + self.legacy.normal() + self.replaced.normal(), *rest


def test_generators_of_classes_and_modules_are_seeded_kept_and_resume_bit_for_bit(tmp_path):
    before = HELD.bit_generator.state, HeldByItsModule.legacy.get_state()[1].tolist()
    runs = [trained(HeldByItsModule, tmp_path / "whole", frames=150, eval_every=50).path]
    runs.append(trained(HeldByItsModule, tmp_path / "half", frames=100, eval_every=50).path)
    assert before == (HELD.bit_generator.state, HeldByItsModule.legacy.get_state()[1].tolist())
    HELD.normal(), HeldByItsModule.legacy.normal()  # as another process would have other states
    HeldByItsModule.replaced = None
    messages = Messages()
    crossq_wn.resume(runs[1], frames=150, task=HeldByItsModule, reporter=messages)
    helpers.same_run(*runs)
    assert not any("random generators" in text for text in messages.texts)


def test_shared_streams_and_spaces_are_seeded_and_resume_bit_for_bit(tmp_path):
    runs = []
    for name in ("left", "right", "half"):
        random.seed(len(runs)), np.random.seed(len(runs))
        before = random.getstate(), np.random.get_state()[1].tolist()
        frames = 100 if name == "half" else 160
        runs.append(trained(SharedStreams, tmp_path / name, frames=frames, eval_every=50).path)
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # the caller's own go on
    crossq_wn.resume(runs[2], frames=160, task=SharedStreams)
    helpers.same_run(runs[0], runs[1])
    helpers.same_run(runs[0], runs[2])
    policy = crossq_wn.load(runs[0])
    first, second = (evaluate_policy(policy, 2, SharedStreams) for _ in range(2))
    assert first == second


def test_seeds_that_share_a_stream_are_told(tmp_path):
    for task, told in ((SharedStreams, 1), (HeldByItsModule, 1), (PointMass, 0)):
        messages = Messages()
        trained(task, tmp_path / task.__name__, seeds=(0, 1), reporter=messages, checkpoint_every=20)
        assert sum("which all seeds share" in text for text in messages.texts) == told


@pytest.mark.parametrize("where", ["reset", "step", None])
def test_numbers_that_a_class_counts_are_told_at_the_start(where, tmp_path):
    class Curriculum(PointMass):
        level = 0

        def reset(self, **options):
            Curriculum.level += where == "reset"
            return super().reset(**options)

        def step(self, action):
            Curriculum.level += where == "step"
            return super().step(action)

    class Told(Messages):
        def message(self, text):
            if "changes Curriculum.level, which all seeds share" in text:
                self.texts.append(sorted(path.name for path in out.glob("checkpoints/[0-9]*")))

    out, messages = tmp_path / "run", Told()
    trained(Curriculum, out, seeds=(0, 1), reporter=messages, checkpoint_every=20)
    assert messages.texts == ([] if where is None else [[]])  # before the first checkpoint
    if where is not None:  # to whoever resumes it, too
        again = Told()
        crossq_wn.resume(out, frames=80, task=Curriculum, reporter=again)
        assert len(again.texts) == 1
        assert "000000080" not in again.texts[0]


def test_each_number_that_a_class_changes_is_told_once_and_each_generator_that_it_makes_late(monkeypatch):
    messages, found = Messages(), iter([[], ["Env.a"], ["Env.a", "Env.b"], ["Env.a", "Env.b"]])
    there = iter([{"mine.RNG"}, {"mine.RNG"}, {"mine.RNG", "mine.LAZY"}, {"mine.RNG", "mine.LAZY"}])
    monkeypatch.setattr(saving, "places", lambda: next(there))
    session = SimpleNamespace(
        changes=lambda: next(found),
        generators={"mine.RNG"},
        told_names=set(),
        training=SimpleNamespace(environments=[]),
        testing=SimpleNamespace(environments=[]),
        reporter=messages,
        config=SimpleNamespace(task="mine:Env"),
    )
    for _ in range(4):
        tell_of_what_classes_hold(session)
    assert [text.partition(",")[0] for text in messages.texts] == [
        "mine:Env changes Env.a",
        "mine:Env made the random generators mine.LAZY after its seed was set: another run may differ; draw "
        "from self.np_random",
        "mine:Env changes Env.b",
    ]


def test_a_generator_of_a_module_that_is_imported_on_first_use_is_told_of_and_saved(monkeypatch):
    class Late(PointMass):
        def step(self, action):
            import reached_late

            return reached_late.rng.random()

    environments = [make(Late) for _ in range(2)]
    session = SimpleNamespace(
        changes=None,
        generators=set(),
        told_names=set(),
        training=SimpleNamespace(environments=environments[:1]),
        testing=SimpleNamespace(environments=environments[1:]),
        reporter=Messages(),
        config=SimpleNamespace(task="mine:Late"),
    )
    late = ModuleType("reached_late")
    late.__file__, late.rng = __file__, np.random.default_rng(1)
    with kept_shared():
        tell_of_what_classes_hold(session)
        assert session.reporter.texts == []
        monkeypatch.setitem(sys.modules, "reached_late", late)
        tell_of_what_classes_hold(session)
        assert session.generators == places() == {"reached_late.rng"}
    (text,) = session.reporter.texts
    assert text.startswith("mine:Late made the random generators reached_late.rng after its seed was set")


def test_before_the_first_evaluation_its_environments_are_not_asked_for_their_states(monkeypatch):
    asked = []  # such as an own `snapshot`, before any reset
    monkeypatch.setattr(saving, "snapshot", lambda session, environment: asked.append(environment))
    training, testing = SimpleNamespace(statistics=dict), SimpleNamespace()
    session = SimpleNamespace(
        frames=0,
        seeds=[SimpleNamespace(index=0, number=3)],
        training=SimpleNamespace(environments=[training]),
        testing=SimpleNamespace(environments=[testing]),
    )
    assert saving.captured(session, unevaluated=True)[3]["evaluation_environment"] is None
    assert asked == [training]
    session.frames = 1
    saving.captured(session, unevaluated=True)
    assert asked == [training, training, testing]


class Messages:
    def __init__(self):
        self.texts = []

    def status(self, status):
        pass

    def message(self, text):
        self.texts.append(text)


# Scales


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e9])
def test_finite_rewards_of_any_scale_train_and_large_ones_are_told_once(scale, tmp_path):
    class Scaled(PointMass):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, scale * reward, *rest

    messages = Messages()
    done = trained(Scaled, tmp_path / "run", frames=160, reporter=messages, log_every=20)
    assert done.finished
    assert not done.failed
    assert len(rows(done.path / "metrics.csv")) == 8
    told = [text for text in messages.texts if "learn badly" in text]
    assert len(told) == (scale > 1)
    assert all("rewards up to" in text and "divide" in text for text in told)


@pytest.mark.parametrize(("algorithm", "told"), [("sac", 1), ("xqc", 0)])
def test_large_rewards_are_not_told_of_where_running_statistics_scale_them(algorithm, told):
    largest = SimpleNamespace(largest_reward=1e6, largest_observation=1.0)
    messages = Messages()
    tell_of_large_numbers(
        SimpleNamespace(
            config=api.configure("cheetah-run", algorithm=algorithm),
            algorithm=SimpleNamespace(normalises=False),
            training=SimpleNamespace(environments=[largest]),
            seeds=[SimpleNamespace(index=0)],
            reporter=messages,
            told_large=False,
        )
    )
    assert len(messages.texts) == told


@pytest.mark.parametrize("normalised", [False, True])
def test_large_observations_are_told_of_with_the_option_that_normalises_them(normalised, tmp_path):
    class Distant(PointMass):
        # Only one of its bounds is violated.
        observation_space = spaces.Box(np.float32([-np.inf, -9, -np.inf]), np.float32([np.inf, 9, np.inf]))

        def observe(self):
            return 1e6 * super().observe()

    messages, out = Messages(), tmp_path / "run"
    options = {"algorithm": "sac", "diagnostics": False, "normalise_observations": normalised}
    trained(Distant, out, reporter=messages, **options)
    told = [text for text in messages.texts if "learn badly" in text]
    assert len(told) == (not normalised)
    assert all("observations up to" in text and "train with normalise_observations" in text for text in told)
    (outside,) = (text for text in messages.texts if "far outside" in text)
    assert " at index 1 of the observation, where its space has -9 to 9, far outside: check" in outside


@pytest.mark.parametrize(
    ("offset", "rows", "normalises", "told"),
    [(2000, 150, False, 1), (2000, 90, False, 0), (2000, 150, True, 0), (50, 150, False, 0)],
)
def test_observations_far_from_0_are_told_of_once_there_are_enough_of_them(offset, rows, normalises, told):
    column = np.random.default_rng(0).normal([0, offset], 1, (rows, 2))
    replay = SimpleNamespace(
        begin=0,
        common=0,
        end=rows,
        read=lambda first, last: SimpleNamespace(observation=np.float32(column[first:last])),
    )
    messages = Messages()
    session = SimpleNamespace(
        config=SimpleNamespace(task="mill"),
        algorithm=SimpleNamespace(normalises=normalises),
        seeds=[SimpleNamespace(replay=replay)],
        reporter=messages,
        told_large=False,
        told_distant=False,
    )
    tell_of_distant_numbers(session)
    tell_of_distant_numbers(session)
    assert len(messages.texts) == told
    for text in messages.texts:
        assert text.startswith("mill has an observation of 2,000 on average that differs by 1 only: networks")
        assert text.endswith("subtract about 2,000, or train with normalise_observations")


def test_far_outside_is_farther_than_the_space_is_wide():
    simulator = make(PointMass).simulator  # from -10 to 10
    rows = np.zeros((5, 6), np.float32)  # each the stack of two observations
    rows[:, 0], rows[1:, 5] = 1e9, 29  # of which the older one is not looked at
    assert far_outside(rows, simulator) is None
    rows[2:4, 4] = -31
    example = "-31 at index 1 of the observation, where its space has -10 to 10"
    assert far_outside(rows, simulator) == (2, example)
    simulator.observation_high[1] = np.inf
    assert far_outside(rows, simulator) is not None  # the other bound is -10, and is taken for the width
    simulator.observation_low[1] = -np.inf
    assert far_outside(rows, simulator) is None
    assert far_outside(rows, SimpleNamespace(observation_size=3)) is None


# What environments return


def returning(step=None, reset=None):
    class Returning(PointMass):
        def step(self, action):
            outcome = super().step(action)
            return step(*outcome) if step else outcome

        def reset(self, **options):
            outcome = super().reset(**options)
            return reset(*outcome) if reset else outcome

    Returning.__name__ = "Returning what a test says"  # a lambda has no name that would tell it apart
    return Returning


@pytest.mark.parametrize("reward", [[1.5], [[1.5]], np.array([1.5]), np.float32(1.5), jnp.float32(1.5), 1.5])
def test_a_reward_of_one_number_is_taken(reward):
    environment = make(returning(lambda o, r, *rest: (o, reward, *rest)))
    environment.reset(0)
    assert environment.step(np.zeros(2, np.float32)).reward == 1.5


@pytest.mark.parametrize(
    ("step", "reset", "says"),
    [
        (
            lambda o, r, a, b, i: (o, r, a, i),
            None,
            "step returned a tuple of 4 values; it must return .observ",
        ),
        (lambda o, r, a, b, i: None, None, "step returned None; it must return"),
        (
            lambda o, r, a, b, i: (o, r, a, i, b),
            None,
            "step returned a bool as info: it must be a dict",
        ),
        (
            lambda o, r, a, b, i: (o, r, a, b, None),
            None,
            "step returned None as info: it must be a dict",
        ),
        (lambda o, r, *rest: (o, np.ones(2), *rest), None, r"array of shape \(2,\).* as reward"),
        (lambda o, r, *rest: (o, None, *rest), None, "None as reward"),
        (lambda o, r, a, *rest: (o, r, [True, False], *rest), None, "a list of 2 values as terminated"),
        (lambda o, r, a, *rest: (o, r, np.nan, *rest), None, "nan as terminated: it must be a flag"),
        (lambda o, r, a, b, i: (o, r, a, 0.5, i), None, "0.5 as truncated: it must be a flag"),
        (lambda o, *rest: (None, *rest), None, "the observation is None, and its observation space says Box"),
        (lambda o, *rest: ("1.5", *rest), None, "the observation is the text '1.5', and its"),
        (lambda o, *rest: ([None, 1, 2], *rest), None, "the observation is a list of 3 values, and its"),
        (lambda o, *rest: ({1, 2, 3}, *rest), None, "the observation is a set, and its"),
        (lambda o, *rest: (iter(o), *rest), None, "the observation is an iterator, and its"),
        (lambda o, *rest: (o + 1j, *rest), None, "array of shape .3,. and type complex64, and its"),
        (lambda o, *rest: (o.astype("U"), *rest), None, "array of shape .3,. and type <U32, and its"),
        (lambda o, *rest: ({"x": o}, *rest), None, "the observation is a dict with the keys x, and its"),
        (
            lambda o, *rest: (o[:1], *rest),
            None,
            r"an observation of shape \(1,\), its observation space says \(3,\)",
        ),
        (
            None,
            lambda o, i: o,
            r"reset returned an array of shape \(3,\).*; it must return .observation, info",
        ),
        (None, lambda o, i: (o, 3), "reset returned an int as info: it must be a dict"),
    ],
)
def test_what_reset_and_step_must_return_is_said(step, reset, says):
    environment = make(returning(step, reset))

    def use():
        environment.reset(0)
        environment.step(np.zeros(2, np.float32))

    with pytest.raises(EnvironmentFaultError, match=says) as error:
        use()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ({"arm": {"angle": 0.5}}, "the observation is a dict with the keys arm: 'speed' is missing"),
        ({"arm": {}, "speed": [1]}, "the observation's 'arm' is a dict with no keys: 'angle' is missing"),
        ({"arm": None, "speed": [1]}, "the observation's 'arm' is None, and its observation space says Dict"),
        ({"arm": {"angle": None}, "speed": [1]}, "the observation's 'arm.angle' is None, and its"),
        ({"arm": {"angle": 0.5}, "speed": ["fast"]}, "the observation's 'speed' is a list of 1 value, and"),
        ([0.5, 1], "the observation is a list of 2 values, and its observation space says Dict"),
        ({"arm": {"angle": 0.5}, "speed": [1]}, None),
        ({"arm": {"angle": np.array(0.5, object)}, "speed": [True]}, None),
    ],
)
def test_a_part_of_an_observation_that_holds_no_numbers_is_named(observation, says):
    angle = spaces.Dict({"angle": spaces.Box(-1, 1, ())})
    found = wrong_part(spaces.Dict({"arm": angle, "speed": spaces.Box(-1, 1, (1,))}), observation)
    assert (found is None) if says is None else found.startswith(says)


class Counting(PointMass):
    """Says that it observes whole numbers."""

    observation_space = spaces.Dict(
        {"count": spaces.Box(-5, 5, (1,), np.int8), "place": spaces.Box(-1, 1, (2,), np.float32)}
    )
    seen: object = 3
    place = (0.1, 0.2)  # float32 has neither

    def observe(self):
        return {"count": np.array([self.seen]), "place": np.array(self.place)}


@pytest.mark.parametrize(
    ("seen", "sound"), [(3, True), (-2.0, True), (1.5, False), (np.nan, False), (2**70, False)]
)
def test_no_observation_is_rounded_to_the_type_of_its_space(seen, sound, monkeypatch):
    monkeypatch.setattr(Counting, "seen", float(seen))
    environment = make(Counting)
    if sound:
        np.testing.assert_array_equal(environment.reset(0), np.array([seen, 0.1, 0.2], np.float32))
    else:
        with pytest.raises(
            EnvironmentFaultError, match=r"of the observation's 'count', and .* whole numbers"
        ):
            environment.reset(0)


def test_nan_beside_whole_numbers_is_said_to_be_nan(monkeypatch):
    monkeypatch.setattr(Counting, "place", (0.1, np.nan))
    with pytest.raises(EnvironmentFaultError, match="nan at index 1 of the observation's 'place'"):
        make(Counting).reset(0)


@pytest.mark.parametrize(
    ("said", "success"),
    [
        (True, True), (np.False_, False), ([0.0, 1.0], True), (np.zeros(1), False), (0, False),
        (None, None), ("no", None), (np.nan, None), ([], None), ({"arm": True}, None),
    ],
)  # fmt: skip
def test_only_flags_and_numbers_say_whether_a_task_is_solved(said, success):
    environment = make(returning(lambda *outcome: (*outcome[:-1], {"success": said})))
    environment.reset(0)
    environment.step(np.zeros(2, np.float32))
    assert environment.success is success


def test_the_advice_for_unbounded_actions_works():
    with pytest.raises(UserError, match="TransformAction") as error:
        make(helpers.UnboundedPoint)
    advice = re.search(r"gymnasium\.wrappers\.TransformAction\(.*\)$", str(error.value))[0]

    def bounded():
        return eval(advice, {"gymnasium": gymnasium, "env": helpers.UnboundedPoint()})

    environment = make(bounded)
    environment.reset(0)
    assert environment.step(np.ones(2, np.float32)).episode is None


def test_an_id_that_a_module_registers_is_taken_as_gymnasium_takes_it(tmp_path, monkeypatch):
    text = "import gymnasium, helpers\ngymnasium.register('Mine-v3', helpers.PointMass)\n"
    (tmp_path / "registers_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    environment = make("registers_mine:Mine-v3")
    assert (environment.task.name, environment.observation_size) == ("registers_mine:Mine-v3", 3)
    with pytest.raises(UserError, match="unknown task 'Minne-v3': did you mean"):
        make("registers_mine:Minne-v3")


class Drawn(PointMass):
    picture = np.zeros((16, 16, 3), np.uint8)

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        return self.picture if self.render_mode == "rgb_array" else None


@pytest.mark.parametrize("task", [Drawn, functools.partial(Drawn), "test_safety:Drawn"])
def test_a_factory_gets_the_render_mode_when_pictures_are_asked_for(task):
    assert make(task, render=True).render(16, 16).shape == (16, 16, 3)
    with pytest.raises(UserError, match="renders no pictures with render_mode=None"):
        make(task).render(16, 16)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.uint8), np.zeros((16, 16, 4), np.uint8),
        np.zeros((16, 16, 1), np.uint8), [np.zeros((16, 16, 3), np.uint8)], "picture",
    ],
    ids=lambda picture: f"{type(picture).__name__}{np.shape(picture)}",
)  # fmt: skip
def test_pictures_that_are_not_rgb_are_refused_in_one_line(picture, monkeypatch):
    monkeypatch.setattr(Drawn, "picture", picture)
    with pytest.raises(UserError, match=r"must be uint8 \[height, width, 3\]"):
        make(Drawn, render=True).render(16, 16)


def test_an_environment_without_render_is_said_to_have_none(point, tmp_path):
    with pytest.raises(UserError, match="has no method `render`: give it one") as error:
        record(crossq_wn.load(point), tmp_path / "video.mp4", task=PointMass)
    assert "doctor" not in str(error.value)
    assert not (tmp_path / "video.mp4").exists()
