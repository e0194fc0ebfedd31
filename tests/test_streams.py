"""Random generators, and numbers, that an environment's classes and modules hold."""

import copy
import json
import random
import sys
import tracemalloc
import types
import weakref
from collections import deque
from contextlib import contextmanager
from functools import cache, lru_cache, partial, wraps

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.environments import isolation, make, reach, streams, worker
from crossq_wn.environments.board import Shape
from crossq_wn.environments.holders import changes, holders_of
from crossq_wn.environments.reach import reach_of
from crossq_wn.environments.snapshot import UnrestorableError, capture_attributes, restore_attributes
from crossq_wn.errors import UserError
from crossq_wn.real_time.robot import Robot
from crossq_wn.training import building
from crossq_wn.training.api import configure

HELD, CALLED, OTHERS = np.random.default_rng(1), random.Random(2), np.random.default_rng(3)
LEVEL = BEST = 0


def noise():
    return CALLED.random()


class Base(gymnasium.Env):
    inherited = np.random.default_rng(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return noise(), {}


class Drawing(Base):
    own = np.random.Generator(np.random.MT19937(5))
    legacy = np.random.RandomState(6)

    def step(self, action):
        global LEVEL
        LEVEL += 1
        return [HELD.random() for _ in range(3)], self.OTHERS  # an attribute, and not the module's


GENERATORS = {
    "test_streams:Drawing.own": lambda: Drawing.own,
    "test_streams:Drawing.legacy": lambda: Drawing.legacy,
    "test_streams:Base.inherited": lambda: Base.inherited,
    "test_streams.HELD": lambda: HELD,
    "test_streams.CALLED": lambda: CALLED,
}


def drawn():
    """Two numbers of each generator."""
    found = {}
    for place, generator in GENERATORS.items():
        found[place] = [generator().random() for _ in range(2)]
    return found


@contextmanager
def watching():
    with streams.kept_shared():
        streams.watch(Drawing())
        yield


@pytest.fixture
def watched():
    with watching():
        yield


@given(seed=st.integers(0, 2**63))
def test_each_generator_has_numbers_of_its_own_from_a_seed(seed):
    with watching():
        streams.seed_shared(seed)
        first, own = drawn(), np.random.default_rng(seed).random()  # as the environment's np_random
        numbers = [own, np.random.random(), random.random(), *(values[0] for values in first.values())]
        assert len(set(numbers)) == len(numbers) == 8
        streams.seed_shared(seed)
        assert drawn() == first
        streams.seed_shared(seed + 1)
        assert not {str(values) for values in drawn().values()} & {str(values) for values in first.values()}


def test_states_pass_through_a_checkpoint_whatever_stands_there_then(watched):
    saved = json.loads(json.dumps(streams.capture_shared()))
    assert saved["held"].keys() == GENERATORS.keys()
    expected = drawn()
    drawn()
    Base.inherited = np.random.default_rng(99)  # as an environment's `reset` may do
    assert streams.restore_shared(saved) == []
    assert drawn() == expected


def test_generators_whose_states_are_lacking_are_named(watched):
    saved = streams.capture_shared()
    del saved["held"]["test_streams.CALLED"]
    Base.inherited = np.random.RandomState(1)
    Drawing.own = np.random.default_rng(1)
    lost = ["test_streams.CALLED", "test_streams:Base.inherited", "test_streams:Drawing.own"]
    assert sorted(streams.restore_shared(saved)) == lost
    del saved["held"]  # as of earlier versions
    assert sorted(streams.restore_shared(saved)) == sorted(GENERATORS)


def test_what_was_drawn_from_or_replaced_is_put_back():
    before, others = copy.deepcopy(Base.inherited), OTHERS.bit_generator.state
    objects = {place: generator() for place, generator in GENERATORS.items()}
    with streams.kept_shared():
        streams.watch(Drawing())
        streams.seed_shared(3)
        Base.inherited = np.random.RandomState(1)
        drawn()
        OTHERS.random()  # a callback's, for example, which goes on
    assert {place: generator() for place, generator in GENERATORS.items()} == objects
    assert Base.inherited.bit_generator.state == before.bit_generator.state
    assert OTHERS.bit_generator.state != others
    assert streams.capture_shared()["held"] == {}  # no environment of another run counts


def test_a_class_may_be_defined_anew_with_another_kind_of_generator():
    def defined(generator):
        return type("Again", (gymnasium.Env,), {"rng": generator, "__module__": __name__})

    classes = [defined(np.random.default_rng(1)), defined(np.random.RandomState(1))]
    with streams.kept_shared():
        for cls in classes:
            streams.watch(cls())
            with streams.kept_shared():
                cls.rng.random()
        assert list(streams.capture_shared()["held"]) == ["test_streams:Again.rng"]
    assert [cls.rng.random() for cls in classes] == [
        np.random.default_rng(1).random(),
        np.random.RandomState(1).random(),
    ]


def test_environments_of_one_module_do_not_hide_what_others_of_it_use():
    class Other(gymnasium.Env):
        def step(self, action):
            return OTHERS.random()

    with watching():
        streams.watch(Other())
        assert streams.capture_shared()["held"].keys() == {*GENERATORS, "test_streams.OTHERS"}


def test_generators_out_of_reach_are_named(watched):
    class Hidden(gymnasium.Env):
        listed = [np.random.default_rng(1)]  # noqa: RUF012
        named = {"one": random.Random(1)}  # noqa: RUF012
        system, other = random.SystemRandom(), np.random.RandomState(np.random.PCG64(1))
        seen, names = np.random.default_rng(2), ["one"]

        method = staticmethod(partial(noise, random.Random(1)))
        iterator = wave(np.random.default_rng(1))

        def step(self, action):
            return SIMULATOR.wind()

    streams.watch(Hidden())
    hidden = [
        "Hidden.listed",
        "Hidden.named",
        "Hidden.system",
        "Hidden.other",
        "Hidden.method",
        "Hidden.iterator",
    ]
    assert sorted(streams.out_of_reach(Hidden())) == sorted([*hidden, "test_streams.SIMULATOR"])
    assert streams.out_of_reach(Drawing()) == []


def wave(rng):
    while True:
        yield rng.random()


class Simulator:
    def __init__(self):
        self.rng = np.random.default_rng(1)

    def wind(self):
        return HELD.random() + np.random.random() + self.rng.random()


SIMULATOR, drawn_by, LAZY = Simulator(), np.random.default_rng(5).normal, None


def with_closure(rng):
    class Closed(gymnasium.Env):
        def step(self, action):
            return rng.random()

    return Closed()


def imported():
    import reached_rng

    return reached_rng.rng.random()


class Several(gymnasium.Env):
    def __init__(self, draw):
        self.draw, self.env = draw, self  # a circle

    def step(self, action, rng=np.random.default_rng(3)):  # noqa: B008
        return rng.random() if action else self.draw()


def lazily():
    global LAZY
    if LAZY is None:
        LAZY = np.random.default_rng(7)
    return LAZY.random()


class Lazy(gymnasium.Env):
    def step(self, action):
        return lazily()


class Steps(gymnasium.Env):
    def step(self, action):
        return CALLS[action]()


CALLS = {"function": noise, "method": drawn_by, "object": SIMULATOR.wind, "import": imported}


def test_what_methods_name_is_followed_through_modules_functions_objects_and_default_values(monkeypatch):
    other = types.ModuleType("reached_rng")
    other.__file__, other.rng = __file__, np.random.default_rng(8)
    monkeypatch.setitem(sys.modules, "reached_rng", other)
    with streams.kept_shared():
        streams.watch(Several(partial(noise)))
        assert streams.places() == {"test_streams:Several.step.rng"}
        streams.watch(Steps())
        assert streams.places() >= {"test_streams.CALLED", "test_streams.HELD", "reached_rng.rng"}
        # A generator of a method that a dict holds, and that of an object.
        assert sorted(streams.out_of_reach(Steps())) == ["test_streams.CALLS"]
        streams.seed_shared(1)
        first = Several(noise).step(True), other.rng.random()
        streams.seed_shared(1)
        assert (Several(noise).step(True), other.rng.random()) == first


def test_a_closure_counts_unless_several_environments_have_one_each():
    with streams.kept_shared():
        one, other = (with_closure(np.random.default_rng(k)) for k in (1, 2))
        streams.watch(one)
        (place,) = streams.places()
        assert place == "test_streams:with_closure.<locals>.Closed.step.rng"
        assert streams.out_of_reach(one) == []
        streams.watch(other)
        assert streams.out_of_reach(one) == ["with_closure.<locals>.Closed.step.rng"]


def test_a_generator_that_is_made_on_first_use_is_restored_and_taken_back(monkeypatch):
    monkeypatch.setitem(globals(), "LAZY", None)
    with streams.kept_shared():
        streams.watch(Lazy())
        lazily()
        saved, expected = json.loads(json.dumps(streams.capture_shared())), lazily()
    assert LAZY is None  # as before the first use
    with streams.kept_shared():
        assert streams.restore_shared(saved) == ["test_streams.LAZY"]  # of an environment that is not there
        streams.watch(Lazy())
        assert streams.restore_shared(saved) == []
        assert lazily() == expected


class Heavy(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.mass = [np.random.uniform(), random.random(), OTHERS.random(), lazily()]


def test_what_environments_draw_while_they_are_made_follows_from_the_seed(monkeypatch):
    monkeypatch.setitem(globals(), "LAZY", None)
    config = configure(Heavy, seeds=[3, 4])
    made = lambda seed: building.make_environment(config, Heavy, seed=seed).simulator._environment.mass  # noqa: E731
    with streams.kept_shared():
        before = streams.capture_shared(), OTHERS.bit_generator.state
        first = made(3)
        assert (streams.capture_shared() | {"held": {}}, OTHERS.bit_generator.state) == before
        np.random.seed(1)
        assert made(3)[:3] == first[:3]
        assert not {*made(4)[:3]} & {*first}
    with streams.kept_shared():  # as in another process
        OTHERS.random()
        assert made(3)[:3] == first[:3]


def test_numbers_that_change_are_named_if_the_class_uses_them(tmp_path, monkeypatch):
    np.save(tmp_path / "table.npy", np.zeros(3))

    class Counts(Drawing):
        level, table, huge = 10**30, np.zeros(3), np.zeros(2**24)
        mapped = np.load(tmp_path / "table.npy", mmap_mode="r")
        lazy = None

    changed = changes(holders_of(Counts()))
    assert changed() == []
    Counts.lazy, Counts.huge[0] = 1, 1
    monkeypatch.setitem(globals(), "BEST", 3)  # a script's own, which no method uses
    assert changed() == []
    Counts.lazy, Counts.level, Counts.table[1] = 2, 10**30 + 1, 1
    assert sorted(changed()) == ["Counts.lazy", "Counts.level", "Counts.table"]
    monkeypatch.setitem(globals(), "LEVEL", 3)
    assert "test_streams.LEVEL" in changed()


class Still(gymnasium.Env):
    """Has everything of its own, some of it in slots."""

    __slots__ = ("__secret", "unused", "wind")
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.steps, self.wind, self.__secret = 0, 0.0, 0.0
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps, self.wind, self.__secret = self.steps + 1, self.wind + 0.01, self.__secret + self.wind
        return np.array([self.__secret], np.float32), 0.0, False, False, {}


class Pushed(Still):
    """Is pushed now and then."""

    def step(self, action):
        if self.steps % 100 == 99:
            self.wind = np.random.uniform()
        return super().step(action)


def test_what_may_draw_from_shared_streams_stays_in_this_process(monkeypatch):
    monkeypatch.setattr(isolation, "_check_modules", lambda: None)
    with streams.kept_shared(), pytest.raises(isolation.SharedStateError, match=r"^it draws from `random`"):
        isolation.check_isolated(make(Pushed))
    with streams.kept_shared():
        isolation.check_isolated(make(Still))


def test_a_worker_says_so_if_its_environment_has_drawn_all_the_same(monkeypatch):
    monkeypatch.setattr(isolation, "_check_modules", lambda: None)
    with streams.kept_shared():
        board = types.SimpleNamespace(lines=np.zeros((1, 8)))
        at_work = worker.Worker(worker.Setup(partial(make, Still), [0], Shape(1, 1, 1)), board)
        before = at_work.call([(0, "reset", (3,)), (0, "snapshot", ())])
        assert [outcome.error for outcome in before] == [None, None]
        random.random()  # by a library, for example
        _, after = at_work.call([(0, "reset", (4,)), (0, "snapshot", ())])
        with pytest.raises(UnrestorableError, match="seeds draw the same"):
            after.result()


def test_slots_are_part_of_a_snapshot():
    one, other = make(Still), make(Still)
    one.reset(1)
    for _ in range(3):
        one.step(np.zeros(1))
    other.restore(one.snapshot())
    assert other.step(np.zeros(1)).next_observation == one.step(np.zeros(1)).next_observation


class Config(dict):
    __getattr__ = dict.__getitem__


CONFIG = Config(speed=2, rng=HELD)
CIRCLE = {}
CIRCLE["self"] = CIRCLE


class Configured(Still):
    shared = Config(speed=1)

    def __init__(self):
        self.config = Config(speed=3)

    def step(self, action):
        return np.zeros(1, np.float32), CONFIG.speed + len(CIRCLE), False, False, {}


def test_dicts_that_give_their_items_as_attributes_and_ones_that_hold_themselves_are_no_trouble(monkeypatch):
    monkeypatch.setattr(isolation, "_check_modules", lambda: None)
    monkeypatch.delitem(CONFIG, "rng")
    with streams.kept_shared():
        environment = make(Configured)
        environment.reset(1)
        assert streams.out_of_reach(environment.simulator._environment) == []
        with pytest.raises(UnrestorableError, match=r"Configured\.config is a test_streams\.Config"):
            environment.snapshot()
        monkeypatch.setattr(Configured, "__init__", lambda self: None)
        isolation.check_isolated(make(Configured))
        monkeypatch.setitem(CONFIG, "rng", np.random.default_rng(1))
        assert streams.out_of_reach(Configured()) == ["test_streams.CONFIG"]


class Clocked(Still):
    @property
    def dt(self):
        return self.clock.period

    @property
    def own_clock(self):
        return bool(self.clock)  # AttributeError, as of what is missing


def test_properties_that_raise_are_named(monkeypatch):
    assert make(Clocked).frame_seconds is None  # perhaps a reset makes the clock
    monkeypatch.setattr(Clocked, "clock", property(lambda self: 1 / 0), raising=False)
    with pytest.raises(UserError, match=r"Clocked\.dt raised ZeroDivisionError: .* \(test_streams\.py, line"):
        make(Clocked)
    monkeypatch.delattr(Clocked, "clock")
    with pytest.raises(UserError, match=r"Clocked\.own_clock raised AttributeError"):
        Robot(make(Clocked))


def test_a_number_of_a_base_class_of_the_same_name_does_not_hide_another():
    base = type("Twice", (gymnasium.Env,), {"count": 0, "__module__": __name__})
    cls = type("Twice", (base,), {"count": 2**20_000, "__module__": __name__})
    changed = changes(holders_of(cls()))
    cls.count += 1
    assert changed() == ["Twice.count"]


def test_an_environment_without_names_of_its_module_leaves_those_of_another():
    class Plain(gymnasium.Env):
        def step(self, action):
            return 1

    with watching():
        streams.watch(Plain())
        assert streams.places() == set(GENERATORS)


def test_what_stands_for_a_generator_is_captured_as_one():
    class Standing:
        def __init__(self):
            self.generator = np.random.default_rng(1)

        def __getattr__(self, name):
            return getattr(vars(self)["generator"], name)

    one, other = (types.SimpleNamespace(rng=Standing()) for _ in range(2))
    one.rng.random()
    restore_attributes(other, capture_attributes(one))
    assert other.rng.random() == one.rng.random()


def test_a_reference_to_what_is_gone_is_no_trouble(monkeypatch):
    monkeypatch.setattr(Still, "active", weakref.proxy(Still()), raising=False)  # whose object goes at once
    with streams.kept_shared():
        streams.watch(Still())
        assert streams.places() == set()


def test_a_name_that_is_blocked_among_the_modules_is_no_trouble(monkeypatch):
    def render(self):
        import not_to_be_imported

        return not_to_be_imported.picture

    monkeypatch.setitem(sys.modules, "not_to_be_imported", None)
    monkeypatch.setattr(Still, "render", render)
    with streams.kept_shared():
        streams.watch(Still())
        assert streams.places() == set()


class Own(gymnasium.Env):
    """Draws from its own generator alone."""

    latest, everyone = None, []

    def __init__(self):
        self.mass = random.random()
        Own.latest = self
        self.everyone.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        random.seed(seed)
        np.random.seed(0)
        return self.np_random.random(), {}

    def step(self, action):
        import math

        import numpy as np

        return np.sqrt(self.np_random.random()), math

    def random_policy(self):
        return np.random.uniform() + CALLED.random() + self.everyone[0].wind.random()


def locally(self):
    import numpy.random as anything
    from numpy import linalg, random

    return lambda: anything.normal() + linalg.norm(random.uniform())


def handed_on(self, rng=np.random):
    return rng.normal()


DRAWING = {
    "imported": locally,
    "module": handed_on,
    "module as argument": lambda self: handed_on(np.random),
    "called": lambda self: self.random_policy(),
    "by text": lambda self: getattr(self, "random_policy")(),  # noqa: B009
    "by a text that is made": lambda self: getattr(self, f"{self.kind}_policy")(),
}


@pytest.mark.parametrize("how", [None, *DRAWING])
def test_what_methods_draw_counts_if_they_may_be_called(how, monkeypatch):
    if how is not None:
        monkeypatch.setattr(Own, "step", DRAWING[how])
    monkeypatch.setattr(Own, "everyone", [])
    one, other = Own(), Own()
    with streams.kept_shared():
        streams.watch(other)
        assert bool(reach_of(one).drawn) == (how is not None)  # a callback may call it
        assert streams.places() == {"test_streams.CALLED"}


def test_to_seed_the_shared_streams_is_not_to_draw_from_them():
    with streams.kept_shared():
        before = streams.capture_shared()
        random.seed(5)
        np.random.seed(None)
        assert not streams.drawn_since(before)
        random.random()
        assert streams.drawn_since(before)
        random.seed(5)
        np.random.normal()
        assert streams.drawn_since(before)


def test_environments_that_are_made_meanwhile_do_not_stay_watched():
    with watching():
        with streams.kept_shared():  # as where a callback evaluates another task
            streams.watch(Several(noise))
            assert "test_streams:Several.step.rng" in streams.places()
        assert streams.places() == set(GENERATORS)


def noisy(rng):
    def decorate(method):
        @wraps(method)
        def decorated(self, action):
            return rng.random() + method(self, action)

        return decorated

    return decorate


class Meta(type(gymnasium.Env)):
    shared = np.random.default_rng(1)


class Decorated(gymnasium.Env, metaclass=Meta):
    @noisy(np.random.default_rng(1))
    @noisy(np.random.default_rng(2))
    def step(self, action, rng=np.random.default_rng(3)):  # noqa: B008
        return rng.random()


def test_functions_of_one_place_that_each_hold_a_generator_are_told_apart():
    with streams.kept_shared():
        streams.watch(Decorated())
        assert streams.out_of_reach(Decorated()) == []
        places = {f"test_streams:Decorated.step{number}.rng" for number in ("", "#2", "#3")}
        assert streams.places() == places | {"test_streams:Meta.shared"}
        saved, environment = streams.capture_shared(), Decorated()
        expected = environment.step(0)
        assert streams.restore_shared(saved) == []
        assert environment.step(0) == expected


def test_numbers_in_large_lists_are_passed_over():
    env = types.SimpleNamespace(table=[[float(k) for k in range(100)] for _ in range(100)])
    assert len(reach._items(env.table)) == 100
    assert reach._items(env.table[0]) == []


def test_functions_that_an_environment_holds_are_followed():
    with streams.kept_shared():
        one = Several(lambda: HELD.random())
        streams.watch(gymnasium.wrappers.TransformReward(one, lambda reward: reward + CALLED.random()))
        assert {"test_streams.HELD", "test_streams.CALLED"} <= streams.places()


@cache
def cached():
    return np.random.default_rng(1)


@lru_cache
def bounded(key):
    return np.random.default_rng(1)


class Caching(gymnasium.Env):
    sharing = types.SimpleNamespace(rng=random.Random(1))
    queue = deque([np.random.default_rng(1)])  # noqa: RUF012

    def step(self, action):
        return cached().random() + bounded(1).random() + self.sharing.rng.random(), self.queue


def test_generators_that_caches_and_plain_objects_hold_are_named():
    with streams.kept_shared():
        streams.watch(Caching())
        hidden = ["Caching.queue", "Caching.sharing"]
        assert sorted(streams.out_of_reach(Caching())) == hidden
        Caching().step(0)
        assert sorted(streams.out_of_reach(Caching())) == [
            *hidden,
            "test_streams.bounded",
            "test_streams.cached",
        ]


class Tally:
    steps = 0


class Keeping(Still):
    """Writes to a large array of its module, to a dict, or to nothing."""

    def step(self, action):
        WRITTEN[f"remembered {self.steps}"] = self.steps
        LARGE[:1] = WRITTEN["last"] = SHARED.steps = self.steps if WRITTEN["writes"] else 0
        return super().step(action)


LARGE, WRITTEN, SHARED = np.zeros(2**18), {"writes": False, "last": 0}, Tally()


def test_what_modules_hold_is_compared_without_copies(monkeypatch):
    monkeypatch.setattr(isolation, "_check_modules", lambda: None)
    monkeypatch.setitem(globals(), "__warningregistry__", {})
    monkeypatch.setattr(SHARED, "steps", 0, raising=False)
    changed = changes(holders_of(Keeping()))
    with streams.kept_shared():
        environment = make(Keeping)
        tracemalloc.start()
        isolation.check_isolated(environment)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LARGE.nbytes / 2
        assert changed() == []
        monkeypatch.setitem(WRITTEN, "writes", True)
        with pytest.raises(isolation.SharedStateError, match=r"it changes test_streams\.\w+, test_streams"):
            isolation.check_isolated(environment)
        places = [f"test_streams.{name}" for name in ("LARGE", "SHARED", "WRITTEN")]
        assert sorted(changed()) == places


class Queued(Still):
    def __init__(self):
        self.newest = deque([0.0], 3)

    def step(self, action):
        self.newest.append(self.newest[-1] + 1)
        return super().step(action)


@pytest.mark.parametrize(
    "wrapper",
    [
        gymnasium.wrappers.RecordEpisodeStatistics,
        lambda inner: gymnasium.wrappers.TransformReward(inner, lambda reward: reward + 1),
    ],
)
def test_deques_and_usual_wrappers_are_part_of_a_snapshot(wrapper):
    def wrapped():
        return wrapper(Queued())

    wrapped.__name__ = "with-wrapper"
    one, other = make(wrapped), make(wrapped)
    for environment, decisions in ((one, 5), (other, 1)):
        environment.reset(0)
        for _ in range(decisions):
            environment.step(np.zeros(1))
    other.restore(json.loads(json.dumps(one.snapshot(), default=np.ndarray.tolist)))
    assert other.simulator._environment.unwrapped.newest == deque([3.0, 4.0, 5.0])
    assert other.simulator._environment.unwrapped.newest.maxlen == 3


class Spawning(Still):
    parent = np.random.default_rng(1)

    def step(self, action):
        return self.parent


def test_what_a_generator_has_spawned_is_no_part_of_its_state():
    environment = make(Spawning)
    environment.reset(0)
    environment.snapshot()
    inner = environment.simulator._environment.unwrapped
    with streams.kept_shared():
        streams.watch(inner)
        assert streams.out_of_reach(inner) == []
        for generator in (Spawning.parent, inner.np_random):
            generator.spawn(1)
        assert streams.out_of_reach(inner) == ["Spawning.parent"]
    with pytest.raises(UnrestorableError, match="np_random has spawned generators"):
        environment.snapshot()
