"""Which runs may be compared: groups of one protocol each."""

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.errors import UserError
from crossq_wn.results import reading
from crossq_wn.results.alike import groups
from crossq_wn.runs.protocol import Terms, alike, conflicts, distinctions
from crossq_wn.runs.system import System
from helpers import make_run

PROTOCOLS = st.fixed_dictionaries(
    {"task": st.sampled_from(["dog-run", "myo-reach", "cheetah-run"])},
    optional={"action_repeat": st.sampled_from([1, 2]), "mujoco": st.sampled_from(["2.0", "3.6"])},
)
RUNS = st.lists(
    st.tuples(
        st.lists(PROTOCOLS, max_size=2),
        st.sampled_from([System("a"), System("b"), None]),
        st.fixed_dictionaries({}, optional={"tau": st.sampled_from([0.1, 0.2])}),
    ),
    max_size=7,
)


def terms(runs):
    return [Terms(Path(str(i)), system, settings, histories) for i, (histories, system, settings) in runs]


@given(runs=RUNS)
def test_every_run_is_in_one_group_without_conflicts_and_no_two_groups_could_be_one(runs):
    all_terms = terms(enumerate(runs))
    found = alike(all_terms)
    assert sorted(i for group in found for i in group) == list(range(len(runs)))
    for group in found:
        assert conflicts(all_terms[i] for i in group) == []
    for one, other in combinations(found, 2):
        assert conflicts(all_terms[i] for i in (*one, *other))
    assert [len(group) for group in found] == sorted(map(len, found), reverse=True)
    names = distinctions([[all_terms[i] for i in group] for group in found])
    assert len(names) == len(found)
    assert all(names)


def test_a_run_on_a_task_of_its_own_joins_the_protocol_that_it_shares():
    def run(path, task, repeat):
        return Terms(Path(path), System("a"), {}, [{"task": task, "action_repeat": repeat}])

    runs = [
        run("0", "humanoid-run", 1),
        run("1", "dog-run", 2),
        run("2", "dog-run", 1),
        run("3", "dog-walk", 2),
    ]
    found = alike(runs)
    assert found == [[0, 2], [1, 3]]
    assert distinctions([[runs[i] for i in group] for group in found]) == [
        "action_repeat 1",
        "action_repeat 2",
    ]


def test_groups_keep_equal_seeds_apart_and_tables_of_others_are_in_each(tmp_path):
    for episodes in (5, 3):
        make_run(tmp_path / "runs" / f"{episodes}", eval_episodes=episodes)
    make_run(tmp_path / "runs" / "again")
    (tmp_path / "rivals.csv").write_text(
        "algorithm,task,seed,metric,env_step,value\nx,cheetah-run,0,return,100,5\n"
    )
    ours = reading.inputs([tmp_path / "runs"])
    theirs = reading.inputs([tmp_path / "rivals.csv"])
    told = []
    first, second = groups(ours, theirs, told.append)
    assert [run.path.name for run in first.ours] == ["5"]  # `again` holds the same seed
    assert [run.path.name for run in second.ours] == ["3"]
    assert first.theirs == second.theirs == tuple(theirs)
    assert (first.protocol, second.protocol) == ("eval_episodes 5", "eval_episodes 3")
    assert any("again" in line and "holds seed 0" in line for line in told)
    (whole,) = groups(ours, theirs, told.append, force=True)
    assert len(whole.ours) == 1  # all three hold seed 0
    (part,) = groups([ours[0]], theirs, told.append)
    assert part.protocol == ""


def test_a_reference_of_which_nothing_may_be_compared_is_refused_and_some_of_it_is_not(tmp_path):
    ours = [make_run(tmp_path / "ours")]
    other = make_run(tmp_path / "other", seed=1, eval_episodes=3)
    same = make_run(tmp_path / "same", seed=2)
    told = []
    with pytest.raises(UserError, match=r"eval_episodes is 5 in .*force=True"):
        groups(reading.inputs(ours), reading.inputs([other]), told.append)
    (group,) = groups(reading.inputs(ours), reading.inputs([other, same]), told.append)
    assert [run.path for run in group.theirs] == [same]
    assert any("eval_episodes is 5 in" in line and "3 in" in line for line in told)
