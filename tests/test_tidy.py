"""Do tables become the right scores? Both schemas, scales, unequal grids, contradictions, groups."""

import gzip

import numpy as np
import pytest

from crossq_wn import tidy
from crossq_wn.environments import PAPER_TASKS
from crossq_wn.errors import UserError
from crossq_wn.runs import EVAL_COLUMNS

HEADER = ",".join(EVAL_COLUMNS)


@pytest.fixture
def table(tmp_path):
    """(folder, rows, header) -> the path of an eval.csv."""

    def write(folder, *rows, header=HEADER):
        path = tmp_path / folder / "eval.csv"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def test_runs_of_several_directories_become_curves(table, tmp_path):
    table("a", "q,dog-run,0,return,100,500", "q,dog-run,0,success_rate,100,0", "q,dog-run,0,return,200,1000")
    table(
        "b", "q,dog-run,1,return,100,250", "q,myo-reach,0,success_rate,100,0.5", "q,myo-reach,0,return,100,7"
    )
    results = tidy.read([tmp_path, tmp_path / "a"])  # a file named twice is read once
    np.testing.assert_array_equal(results["q"]["dog-run"].values, [[0.5, 1.0], [0.25, np.nan]])
    np.testing.assert_array_equal(results["q"]["myo-reach"].values, [[0.5]])
    steps, scores = tidy.align([results["q"]["dog-run"], results["q"]["myo-reach"]])
    assert steps.tolist() == [100]
    assert [task.shape for task in scores] == [(2, 1), (1, 1)]


def test_only_dm_control_returns_are_scaled(table):
    path = table(
        "a", *(f"q,{task},0,return,0,500" for task in ("walker-walk", "fish-swim", "Ant-v5", "m:make"))
    )
    values = {task: curves.values.item() for task, curves in tidy.read([path])["q"].items()}
    assert values == {"walker-walk": 0.5, "fish-swim": 0.5, "Ant-v5": 500, "m:make": 500}


def test_published_results_are_named_by_algorithm_and_utd(tmp_path):
    path = tmp_path / "rivals.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write(
            "algorithm,utd,benchmark,task,seed,env_step,metric,value,primary\n"
            "SimBa,2,dmc,dog-run,0,100000,return,100,1\n"
            "SimBa,8,dmc,dog-run,0,100000,return,200,1\n"
            "SimBa,2,dmc,dog-run,0,100000,return,300,0\n"
        )
    results = tidy.read([path])
    assert {name: tasks["dog-run"].values.item() for name, tasks in results.items()} == {
        "SimBa UTD 2": 0.1,
        "SimBa UTD 8": 0.2,
    }


def test_groups_are_the_papers():
    groups = tidy.groups([*PAPER_TASKS, "Ant-v5"])
    assert [len(groups[name]) for name in (*tidy.GROUPS, "all")] == [7, 8, 5, 5, 25]
    assert set(groups["all"]) == set(PAPER_TASKS)
    assert groups["Ant-v5"] == ("Ant-v5",)
    assert tidy.groups(["myo-pose"]) == dict.fromkeys(("myo-pose", "Myo easy", "all"), ("myo-pose",))


def test_mistakes_are_named(table, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        tidy.read([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no evaluations"):
        tidy.read([tmp_path])
    with pytest.raises(UserError, match="lacks the columns env_step, value"):
        tidy.read([table("short", header="exp_name,env_name,seed,metric")])
    with pytest.raises(UserError, match=r"line 2.*'high' is not a number"):
        tidy.read([table("word", "q,dog-run,0,return,0,high")])
    with pytest.raises(UserError, match="seed 0 has a second, different value at step 5"):
        tidy.read([table("twice", "q,dog-run,0,return,5,1", "q,dog-run,0,return,5,2")])
    curves = tidy.read([table("grids", "q,dog-run,0,return,5,1", "q,dog-walk,0,return,6,1")])["q"]
    with pytest.raises(UserError, match="same environment frame"):
        tidy.align(list(curves.values()))
    with pytest.raises(UserError, match="no curves"):
        tidy.align([])
