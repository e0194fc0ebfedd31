"""What a run learned from: which causes `diagnose` names, and that it is silent about what is sound."""

import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, CriticTraits
from crossq_wn.cli import diagnose, main
from crossq_wn.data import replays
from crossq_wn.data.recording import Recording
from crossq_wn.data.replays import Ends
from crossq_wn.results import experience
from crossq_wn.results.experience import Experience, causes, remarks
from crossq_wn.results.health import Course, findings
from crossq_wn.results.records import RunRecord
from crossq_wn.types import Spec
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener, PointMass, make_run

PLAIN = CriticTraits()
COURSES = {"critic_norm": Course(40, 300), "critic_elr": Course(0.1, 0.09), "q_mean": Course(0, 2e5)}


def lived(*, count=600, scale=1.0, offset=0.0, constant=None, see=lambda place: place, moved=True, limit=50,
          terminal=False, first=False, action=None):  # fmt: skip
    """Random decisions of a point on a line that is rewarded near 0; each argument breaks something."""
    rng = np.random.default_rng(0)
    columns = {name: [] for name in Recording._fields[:7]}
    place, age = rng.uniform(-1, 1, 2), 0
    for _ in range(count):
        chosen = rng.uniform(-1, 1, 2) if action is None else np.full(2, action)
        after = np.clip(place + 0.1 * (chosen if moved else rng.uniform(-1, 1, 2)), -2, 2)
        reward = offset + scale * (1 - np.linalg.norm(after)) if constant is None else constant
        age += 1
        over = age == limit or first
        ended = over and (terminal or first)
        values = see(place), chosen, reward, ended, over and not ended, see(after), chosen
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        place, age = (rng.uniform(-1, 1, 2), 0) if over else (after, age)
    kinds = {"terminated": bool, "truncated": bool}
    return Recording(*(np.array(each, kinds.get(name, np.float32)) for name, each in columns.items()))


def seen(rising=False, warmup=10_000, **broken):
    recording = lived(**broken)
    size = recording.observation.shape[1]
    return Experience([Ends(recording, recording, True)], [([], (size,))], 0.99, warmup, rising)


CAUSES = [
    ({"constant": 0.0}, PLAIN, "every reward is 0 (all 600 decisions in replay): there is nothing to learn"),
    ({"constant": 1.0}, PLAIN, "every reward is 1 (all 600 decisions in replay), and episodes do not end"),
    ({"constant": -1.0, "terminal": True}, PLAIN, "every policy has the same return"),
    ({"scale": 1e6}, PLAIN, "networks learn badly from numbers of this scale; divide them by about 1,000,"),
    ({"scale": 1e-6}, PLAIN, "multiply them by about 1,000,000"),
    ({"offset": 1e3}, PLAIN, "the constant and hardly what the policy changes; subtract about 1,000"),
    ({"scale": 100}, CriticTraits(most=1000.0), "and the critic's bins end at 1e+03: divide the rewards"),
    ({"first": True}, PLAIN, "every episode ends with a termination at its first decision"),
    ({"see": lambda place: np.ones(3)}, PLAIN, "the observation never changes (all 600 decisions in replay)"),
    ({"see": lambda place: 1e6 * place}, PLAIN, "observations reach 1.3e+06: networks learn badly"),
    (
        {"see": lambda place: [place[0], 1e3 + place[1]]},
        PLAIN,
        "1 of the observation's 2 numbers (1) is 1,000 on average and differs by 0.58 only: networks learn",
    ),
    ({"moved": False, "count": 1100}, PLAIN, "nothing in the observation or the reward follows the actions"),
]  # fmt: skip
REMARKS = [
    ({"terminal": True}, "11 of 11 episodes end with a termination at decision 50, and none goes on longer"),
    (
        {"see": lambda place: [*place, 3, *[0] * 4]},
        "5 of the observation's 7 numbers (2, 3, 4 and 2 more) never change: harmless",
    ),
    ({"see": lambda place: [*place, 1e-6 * place[0]]}, "1 of the observation's 3 numbers (2) differ by less"),
    ({"action": 1.0, "moved": False, "warmup": 0}, "100% of the policy's actions are at their bounds"),
]


@pytest.mark.parametrize(("broken", "critic", "said"), CAUSES)
def test_the_cause_is_named_and_not_what_follows_from_it(broken, critic, said):
    cause, mend = findings(COURSES, critic, seen(**broken))
    assert said in cause
    assert mend.startswith("mend that first")


@pytest.mark.parametrize(("broken", "said"), REMARKS)
def test_what_may_be_meant_so_is_said_where_returns_do_not_rise(broken, said):
    first, second, *_ = findings(COURSES, PLAIN, seen(**broken))
    assert said in first
    assert second.startswith("critic weight norm grew")
    assert remarks(seen(rising=True, **broken), PLAIN) == []


@pytest.mark.parametrize(
    ("sound", "critic"),
    [
        ({}, PLAIN),
        ({"scale": -1.0}, PLAIN),
        ({"scale": 1000.0}, PLAIN),
        ({"see": lambda place: 1e3 * place}, PLAIN),
        ({"scale": 1e6}, CriticTraits(scales_rewards=True)),
        ({"see": lambda place: 1e3 * place + 1e3}, PLAIN),
        ({"see": lambda place: place + 50}, PLAIN),
        ({"see": lambda place: 1e6 * place}, CriticTraits(normalises=True)),
        ({"see": lambda place: place + 1e3}, CriticTraits(normalises=True)),
        ({"see": np.abs, "count": 1100}, PLAIN),  # the action's effect depends on the state
    ],
)
def test_nothing_is_said_of_what_is_sound(sound, critic):
    assert causes(seen(**sound), critic) == remarks(seen(**sound), critic) == []


def test_a_constant_reward_says_something_where_episodes_end_by_what_the_policy_does():
    recording = lived(constant=1.0)
    falls = np.random.default_rng(1).uniform(size=600) < 0.05
    recording = recording._replace(terminated=falls, truncated=recording.truncated & ~falls)
    assert causes(seen()._replace(ends=[Ends(recording, recording, True)]), PLAIN) == []


@pytest.mark.parametrize(
    ("scale", "plain", "normalised"),
    [
        (1e-3, "or train with normalise_observations=True", None),
        (1e-5, "to about [-1, 1]", "to about [-1, 1]"),
    ],
)
def test_statistics_are_offered_for_the_small_numbers_that_they_make_visible(scale, plain, normalised):
    small = seen(see=lambda place: scale * place)
    for critic, said in ((PLAIN, plain), (CriticTraits(normalises=True), normalised)):
        assert [each.endswith(said) for each in remarks(small, critic)] == [True] * (said is not None)


def test_numbers_of_an_observation_are_named_by_their_parts():
    still = seen(see=lambda place: [*place, 3])._replace(layout=[(["arm", "angles"], (2,)), (["clock"], ())])
    assert "(clock[0]) never change" in remarks(still, PLAIN)[0]


def test_a_policy_that_is_still_random_has_not_stopped_exploring():
    usual = {"critic_norm": Course(40, 41), "critic_elr": Course(0.1, 0.09), "temperature": Course(0.1, 1e-4)}
    said = {}
    for entropy in (1.1, -2.0):
        for rising in (False, True):
            found = usual | {"entropy": Course(2.6, entropy)}
            said[entropy, rising] = " ".join(findings(found, PLAIN, seen(rising=rising)))
    assert "still acts almost at random (entropy 1.1 nats)" in said[1.1, False]
    assert "random" not in said[1.1, True] + said[-2.0, False] + said[-2.0, True]
    assert "temperature" not in said[1.1, False] + said[1.1, True]
    for rising in (False, True):
        assert "temperature fell 1e+03x: the policy explores as its target" in said[-2.0, rising]


def test_values_beyond_what_rewards_add_up_to_diverge():
    found = COURSES | {"q_mean": Course(0, 900)}  # rewards of 0.89 at most add up to 89
    (values,) = [each for each in findings(found, PLAIN, seen()) if each.startswith("values")]
    assert values.startswith("values reach 900, and rewards add up to 89.3 at most: divergence is near")
    assert not any("values" in each for each in findings(found, PLAIN, seen(scale=10.0)))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_traits_of_a_critic_say_whether_its_algorithm_normalises_observations(name):
    recipe = ALGORITHMS[name]
    settings = recipe.presets["default"].settings.for_run(1)
    assert recipe.critic(settings).normalises == recipe.build(Spec(1, 1, 0.9), settings).normalises


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Its replay is in three files of 100 decisions."""
    path = tmp_path_factory.mktemp("lived") / "run"
    options = TINY_OPTIONS | TINY_SETTINGS | {"log_every": 20}
    crossq_wn.train(PointMass, seeds=[0, 1], frames=300, out=path, reporter=Listener(), **options)
    return path


def test_a_small_replay_is_read_as_a_whole(run):
    found = experience.experience(RunRecord(run), print)
    assert [first is last for first, last, _ in found.ends] == [True, True]
    np.testing.assert_array_equal(found.rewards, replays.read(run).reward)
    assert found.extent == "all 600 decisions in replay"
    assert (found.discount, found.warmup) == (0.99, 20)


def test_a_large_replay_is_read_at_its_ends(run, monkeypatch):
    monkeypatch.setattr(experience, "_MOST", 90)
    found = experience.experience(RunRecord(run), print)
    assert found.extent == "the oldest and newest 400 decisions in replay"
    for seed, (first, last, from_start) in zip((0, 1), found.ends, strict=True):
        whole = replays.read(run, seed)
        assert from_start
        for name in ("observation", "reward", "next_observation", "terminated"):
            np.testing.assert_array_equal(getattr(first, name), getattr(whole, name)[:100])
            np.testing.assert_array_equal(getattr(last, name), getattr(whole, name)[-100:])


def test_a_run_without_diagnostics_is_told_the_cause(monkeypatch, capsys, tmp_path):
    run = make_run(tmp_path / "run")
    lacking = f"crossq-wn: {run} has no rows of diagnostics yet"
    for broken, code, begins in (({"constant": 0.0}, 0, "* every reward is 0 ("), ({}, 2, "")):
        monkeypatch.setattr(diagnose, "experience", lambda run, warn, broken=broken: seen(**broken))
        with pytest.raises(SystemExit) as end:
            main(["diagnose", str(run)])
        said = capsys.readouterr()
        assert (end.value.code, said.out[: len(begins) or None]) == (code, begins)
        assert said.err.startswith(lacking)


@pytest.mark.parametrize(("scores", "rising"), [([1, 5, 2, 3], True), ([2, 5, 1, 3], False), ([1], False)])
def test_returns_rise_if_the_last_evaluations_are_all_better_than_the_first(scores, rising, tmp_path):
    run = make_run(tmp_path / "run", eval_rows=enumerate(scores))
    assert experience._rising(RunRecord(run)) is rising
