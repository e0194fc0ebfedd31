"""What docs/results.md says of the differences in its tables is what the rule of verdicts says."""

import re
from pathlib import Path

import numpy as np
import pytest

from crossq_wn.results.verdicts import effect, lies_above, lies_below

PAGE = (Path(__file__).parents[1] / "docs" / "results.md").read_text()


def section(title):
    return re.split(r"^## ", PAGE.split(f"## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def last_returns(text, columns):
    """The first cell of each row of a table -> the seeds' returns in these columns, a task per column."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[-\d]+(, [-\d]+)+", cells[-1]):
            tasks = [np.array(cells[column].split(", "), float) for column in columns]
            found[re.sub(r" \(.*", "", cells[0])] = tasks
    return found


def told(found, digits):
    value, low, high = (f"{round(float(each), digits) + 0.0:.{digits}f}" for each in found[:3])
    return f"{value} [{low}, {high}]"


UTD = last_returns(section("UTD ratio and norms"), (2, 4))
ABLATIONS = last_returns(section("Ablations"), (4,))
DELAY = last_returns(section("The policy delay").split("With the paper's networks")[0], (2, 4))
EARLY = last_returns(section("What else could hold early learning back"), (3,))


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("CrossQ + WN, UTD 2", "CrossQ + WN, UTD 1", ""),
        ("CrossQ + WN, UTD 5", "CrossQ + WN, UTD 2", "above"),
        ("CrossQ + WN, UTD 10", "CrossQ + WN, UTD 5", ""),
        ("CrossQ, UTD 5", "CrossQ, UTD 1", "above"),
        ("CrossQ + WN, UTD 1", "CrossQ, UTD 1", ""),
        ("CrossQ + WN, UTD 5", "CrossQ, UTD 5", ""),
    ],
)
def test_differences_between_utd_ratios(one, other, verdict):
    ours, theirs = ([task / 1000 for task in UTD[name]] for name in (one, other))
    found = effect(ours, theirs)
    assert told(found, 2) in section("UTD ratio and norms")
    assert bool(lies_above(found)) == (verdict == "above")
    assert not lies_below(found)


@pytest.mark.parametrize(
    ("name", "sign"),
    [("no weight normalisation, no weight decay", 1), ("no target network", 1),
     ("resets every 50,000 updates", 1), ("soft L2 penalty of 0.001 in place of the projection", -1)],
)  # fmt: skip
def test_differences_that_ablations_make_are_all_inconclusive(name, sign):
    pair = (ABLATIONS["CrossQ + WN"], ABLATIONS[name])[::sign]
    found = effect(*pair)
    assert told(found, 0) in section("Ablations")
    assert not lies_above(found)
    assert not lies_below(found)


@pytest.mark.parametrize(
    ("system", "verdict"),
    [("CrossQ + WN, UTD 2", "above"), ("CrossQ + WN, UTD 5", ""), ("CrossQ, UTD 1", "")],
)
def test_what_a_policy_delay_of_1_brings_depends_on_the_utd_ratio(system, verdict):
    ours, theirs = ([task / 1000 for task in DELAY[f"{system}, delay {delay}"]] for delay in (1, 3))
    found = effect(ours, theirs)
    assert told(found, 2) in section("The policy delay")
    assert bool(lies_above(found)) == (verdict == "above")
    assert not lies_below(found)


def test_temperature_and_policy_delay_are_what_matters_early():
    page, usual = section("What else could hold early learning back"), EARLY["default"]
    decided = {}
    for name, returns in EARLY.items():
        worse, better = effect(usual, returns), effect(returns, usual)
        if lies_above(worse):
            decided[name] = told(worse, 0)
        elif lies_above(better):
            decided[name] = told(better, 0)
    assert list(decided) == ["Table 1's temperature", "actor and temperature in every update"]
    assert all(words in page for words in decided.values())
