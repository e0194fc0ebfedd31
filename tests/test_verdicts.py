"""Does the one rule of judgement keep its error rate, and does it find what is clear?"""

import sys
from pathlib import Path

import numpy as np
import pytest

from crossq_wn.errors import UserError
from crossq_wn.results.curves import Curves
from crossq_wn.results.verdicts import (
    POWER,
    Effect,
    effect,
    lies_above,
    lies_below,
    seeds_needed,
    too_few,
    verdict,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import advice_on_seeds as advice
import verdict_error_rates as rates

NAN, INF = np.nan, np.inf
PAIRS = 400
SHAPES = {shape.name: shape for shape in rates.SHAPES}
# What docs/statistics.md states, and the distributions that it excepts.
STATED = 0.12
EXCEPTED = ("skewed, spread 1 to 4", "skewed, spread 4 to 1")


def random(seed, tasks=1, runs=3):
    return list(np.random.default_rng(seed).normal(0.5, 0.2, (tasks, runs)))


# Error rates and power


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in EXCEPTED])
@pytest.mark.parametrize(
    ("tasks", "seeds"), [(1, (3, 3)), (1, (5, 5)), (1, (3, 10)), (4, (3, 3)), (4, (2, 2))]
)
def test_equal_systems_are_called_different_as_rarely_as_stated(name, tasks, seeds):
    error = np.sqrt(STATED * (1 - STATED) / PAIRS)
    assert rates.rate(SHAPES[name], tasks, seeds, PAIRS) < STATED + 3 * error


@pytest.mark.parametrize(("seeds", "found"), [(3, 0.7), (5, 0.95), (10, 0.95)])
def test_a_clear_difference_is_found(seeds, found):
    assert rates.power(SHAPES["normal"], 1, (seeds, seeds), PAIRS, 4.0) > found
    assert rates.power(SHAPES["normal"], 8, (seeds, seeds), 100, 2.0) > found


def test_one_systems_number_keeps_the_rate_beside_its_own_value():
    for seeds in (3, 5):
        assert rates.rate_alone(SHAPES["normal"], 1, seeds, PAIRS) < 0.1 + 3 * np.sqrt(0.09 / PAIRS)


def test_two_seeds_on_one_or_two_tasks_decide_nothing():
    for tasks in (1, 2):
        x = [np.array([0.7, 0.71])] * tasks
        found = effect(x, [task - 0.6 for task in x])
        assert (found.low, found.high) == (-INF, INF)
        assert "2 runs per task: a verdict needs 3" in too_few(x, x)
        assert verdict(found, 0.0, above=True) == "inconclusive"
    x = [np.array([0.7, 0.71])] * 3
    assert too_few(x, x) == ""
    assert lies_above(effect(x, [task - 0.6 for task in x]))
    assert too_few([[1.0]] * 25) == "1 run per task: a verdict needs 3, or 2 on each of 3 tasks or more"


# The interval


def test_with_equally_many_seeds_on_one_task_it_is_welch_s():
    from scipy.stats import t

    x, y = np.array([0.3, 0.5, 0.9, 0.4]), np.array([0.1, 0.15, 0.12, 0.3])
    found = effect([x], [y])
    a, b = x.var(ddof=1) / 4, y.var(ddof=1) / 4
    half = t.ppf(0.95, (a + b) ** 2 / (a**2 / 3 + b**2 / 3)) * np.sqrt(a + b)
    assert found.value == pytest.approx(x.mean() - y.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_with_unequally_many_seeds_it_is_no_narrower_than_that_of_the_pooled_seeds():
    from scipy.stats import t

    few, many = np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0] * 5)
    found = effect([few], [many])
    half = t.ppf(0.95, 11) * np.sqrt(9 * many.var(ddof=1) / 11 * (1 / 3 + 1 / 10))
    assert found.high - found.value == pytest.approx(half)


def test_one_systems_interval_is_student_s():
    from scipy.stats import t

    x = np.array([0.3, 0.5, 0.9])
    found = effect([x], confidence=0.8)
    assert found.high - found.value == pytest.approx(t.ppf(0.9, 2) * x.std(ddof=1) / np.sqrt(3))


def test_points_are_judged_one_by_one_and_runs_without_a_score_do_not_count():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 3, 5, 4))
    x[0, 4, 1] = x[2, :2, 2] = NAN
    both = effect(list(x), list(y))
    for point in range(4):
        alone = effect([task[~np.isnan(task[:, point]), point] for task in x], [task[:, point] for task in y])
        assert [each[point] for each in both] == pytest.approx([*map(float, alone)])


def test_a_shift_and_a_change_of_unit_move_all_alike():
    x, y = random(0, 3), random(1, 3)
    plain, moved = effect(x, y), effect([2 * task + 1 for task in x], [2 * task + 0.5 for task in y])
    assert [*map(float, moved)] == pytest.approx([float(2 * each + 0.5) for each in plain])
    assert [*map(float, effect(y, x))] == pytest.approx([*map(float, plain.swapped())])


def test_constant_scores_have_no_width_and_equal_ones_no_difference():
    found = effect([[0.1] * 3, [0.7] * 3], [[0.1] * 10, [0.7] * 7])
    assert found[:3] == (0, 0, 0)
    assert verdict(found, 0.0, above=True) == verdict(found, 0.0, above=False) == "does not hold"
    apart = effect([[0.2] * 3], [[0.1] * 3])
    assert apart.low == apart.high == pytest.approx(0.1)
    assert lies_above(apart)


# The verdict


@pytest.mark.parametrize(
    ("low", "high", "above", "expected"),
    [
        (0.1, 0.3, True, "holds"), (-0.3, -0.1, True, "does not hold"), (-0.1, 0.1, True, "inconclusive"),
        (0.1, 0.3, False, "does not hold"), (-0.3, -0.1, False, "holds"), (-0.1, 0.1, False, "inconclusive"),
        (0, 0, True, "does not hold"), (0, 0, False, "does not hold"), (NAN, 1, True, "inconclusive"),
        (-INF, INF, True, "inconclusive"),
    ],
)  # fmt: skip
def test_an_interval_decides_as_a_whole(low, high, above, expected):
    middle = (low + high) / 2
    assert verdict(Effect(*map(np.asarray, (middle, low, high, middle))), 0.0, above=above) == expected


def test_the_interquartile_mean_must_agree():
    found = Effect(*map(np.asarray, (0.3, 0.1, 0.5, -0.1)))
    assert not lies_above(found)
    assert verdict(found, 0.0, above=True) == verdict(found, 0.0, above=False) == "inconclusive"
    assert lies_below(Effect(*map(np.asarray, (0.3, 0.1, 0.5, 0.4))), 0.6)


# How many seeds would tell


def test_more_seeds_tell_a_smaller_difference():
    generator = np.random.default_rng(0)
    x = list(generator.normal(0, 1, (5, 10)))
    needed = [seeds_needed(x, [task - gap for task in x], power=0.5) for gap in (0.2, 0.5, 1, 5)]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] == 2
    # Each mean of 5 tasks and n runs has variance s^2 / 5n: apart once the gap is 1.645 sqrt(2 s^2 / 5n).
    spread = np.mean([task.var(ddof=1) for task in x])
    assert needed[0] == pytest.approx(2 * spread / 5 * (1.645 / 0.2) ** 2, rel=0.1)
    # Four of five such experiments tell once the gap leaves another 0.842 of those deviations.
    surely = seeds_needed(x, [task - 0.2 for task in x], most=1000)
    assert surely == pytest.approx(2 * spread / 5 * ((1.645 + 0.842) / 0.2) ** 2, rel=0.1)
    assert seeds_needed(x, x, most=20) is None
    with pytest.raises(UserError, match="at least 2"):
        seeds_needed([[1.0]], [[1.0, 2.0]])


def test_the_seeds_needed_are_the_fewest_that_the_rule_decides_with():
    """Seeds with exactly the observed mean and variance, so many and one fewer."""
    x, y = np.array([0.5, 0.62, 0.4]), np.array([0.41, 0.5, 0.34])
    needed = seeds_needed([x], [y], power=0.5)

    def repeated(task, runs):
        shape = np.arange(runs) - (runs - 1) / 2
        return task.mean() + shape * task.std(ddof=1) / shape.std(ddof=1)

    assert 3 < needed < 20
    assert lies_above(effect([repeated(x, needed)], [repeated(y, needed)]))
    assert not lies_above(effect([repeated(x, needed - 1)], [repeated(y, needed - 1)]))


@pytest.mark.parametrize("gap", [0.7, 1.5])
def test_with_the_seeds_advised_four_of_five_experiments_tell_if_the_difference_is_the_one_seen(gap):
    generator = np.random.default_rng(1)
    seen = np.array([-1.0, 0.0, 1.0])  # of variance 1
    runs = seeds_needed([seen + gap], [seen])
    x, y = generator.normal(0, 1, (2, runs, 1000))
    assert np.mean(lies_above(effect([x + gap], [y]))) == pytest.approx(POWER, abs=0.06)


def test_the_benchmark_follows_advice_with_experiments_on_the_same_truth():
    """Ten seeds of either system that differ by a standard deviation are the truth, or do not differ."""
    generator = np.random.default_rng(0)
    seeds = generator.normal(0, 1, 10)
    seeds = (seeds - seeds.mean()) / seeds.std()
    apart, alike = advice.Case([seeds + 1], [seeds]), advice.Case([seeds], [seeds])
    assert apart.difference == pytest.approx(1)
    found = [each for _ in range(8) for each in advice.advices(generator, apart, 3, POWER)]
    assert all(each.needed is None or each.needed > 3 for each in found)
    # Of two normal samples: n = 2 (1.645 + 0.842)^2 = 12.4, and a little more for Student's t.
    enough = [each.right for each in found if each.needed and each.needed >= 14]
    assert enough
    assert np.mean(enough) > 0.7
    none = [each for _ in range(8) for each in advice.advices(generator, alike, 3, POWER)]
    assert np.mean([each.told for each in none if each.needed]) < 0.2
    assert all(each.told < 0.5 for each in none)


def test_the_benchmark_compares_at_the_nearest_evaluation_with_enough_seeds():
    steps = np.array([0, 190_000, 1_000_000])
    values = np.arange(18.0).reshape(6, 3)
    values[:2, 2] = np.nan  # two of six seeds ended before
    tasks = {"dog-run": Curves(steps, tuple("012345"), values)}
    assert advice.at(tasks, 200_000)["dog-run"].tolist() == values[:, 1].tolist()
    assert advice.at(tasks, 1_000_000) == {}  # four seeds are no truth
    assert advice.at(tasks, 500_000) == {}  # none was near
    found = list(advice.cases({"a": tasks, "b": tasks}, 200_000, False))
    assert len(found) == 1
    assert found[0].difference == 0


def test_mistakes_are_named():
    with pytest.raises(UserError, match="keep those that both have"):
        effect([[1.0]], [[1.0], [2.0]])
    with pytest.raises(UserError, match="between 0 and 1"):
        effect([[1.0, 2.0, 3.0]], confidence=90)
