"""Random generators, and numbers, that an environment's classes and modules hold."""

import copy
import json
import random
from contextlib import contextmanager

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.environments import streams
from crossq_wn.environments.holders import changes, holders_of

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


def test_generators_out_of_reach_are_named():
    class Hidden(gymnasium.Env):
        listed = [np.random.default_rng(1)]  # noqa: RUF012
        named = {"one": random.Random(1)}  # noqa: RUF012
        system, other = random.SystemRandom(), np.random.RandomState(np.random.PCG64(1))
        seen, names = np.random.default_rng(2), ["one"]

    found = streams.out_of_reach(holders_of(Hidden()))
    assert found == ["Hidden.listed", "Hidden.named", "Hidden.system", "Hidden.other"]
    assert streams.out_of_reach(holders_of(Drawing())) == []


def test_numbers_that_change_are_named_if_the_class_uses_them(tmp_path, monkeypatch):
    np.save(tmp_path / "table.npy", np.zeros(3))

    class Counts(Drawing):
        level, table, huge = 10**30, np.zeros(3), np.zeros(2**20)
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
