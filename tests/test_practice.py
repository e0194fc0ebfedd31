"""What stands beside scores: action repeat, batch size, updates per frame, evaluation episodes."""

import csv
import io
import json

import pytest

from crossq_wn.cli import main
from crossq_wn.results import reading
from crossq_wn.results.practice import contrast, differing, over, practices, shared
from crossq_wn.runs.system import System
from helpers import make_run

RIVALS = (
    "algorithm,utd,task,seed,metric,env_step,value,action_repeat,batch_size\n"
    "A,10,cheetah-run,0,return,100,500,1,128\nA,10,walker-run,0,return,100,500,2,128\n"
    "B,,cheetah-run,0,return,100,400,,\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of two systems, and published curves that tell some of it."""
    root = tmp_path_factory.mktemp("practice")
    make_run(root / "runs" / "plain")
    make_run(root / "runs" / "large", hyperparameters={"utd": 5, "batch_size": 512})
    (root / "rivals.csv").write_text(RIVALS)
    return root


def test_runs_and_tables_tell_how_systems_were_trained(folder):
    found = practices(reading.inputs([folder / "runs", folder / "rivals.csv"]))
    assert found[System("crossq-wn", 2)]["cheetah-run"] == {
        "action_repeat": (2,), "batch_size": (256,), "updates_per_frame": (1,), "eval_episodes": (5,),
    }  # fmt: skip
    large = next(system for system in found if system.utd == 5)
    assert found[large]["cheetah-run"]["updates_per_frame"] == (2.5,)
    rival = found[System("A", 10)]
    assert rival["cheetah-run"]["updates_per_frame"] == (10,)
    assert over(rival, ["cheetah-run", "walker-run"]) == {
        "action_repeat": (1, 2), "batch_size": (128,), "updates_per_frame": (5, 10), "eval_episodes": (),
    }  # fmt: skip
    assert not any(found[System("B")]["cheetah-run"].values())
    own_table = practices(reading.inputs([folder / "runs" / "plain" / "eval.csv"]))
    assert own_table == {System("crossq-wn", 2): found[System("crossq-wn", 2)]}


def test_updates_of_a_burst_that_recurs_count_too(tmp_path):
    """DR.Q's encoder is updated as often as its value functions, which its UTD ratio counts."""
    make_run(tmp_path / "ours", algorithm="drq")
    table = "algorithm,utd,task,seed,metric,env_step,value,action_repeat,updates_per_decision\n"
    (tmp_path / "theirs.csv").write_text(table + "DR.Q,1,cheetah-run,0,return,100,5,2,2\n")
    (tmp_path / "silent.csv").write_text(
        "algorithm,utd,task,seed,metric,env_step,value,action_repeat\n"
        "DR.Q,2,cheetah-run,0,return,100,5,2\nMR.Q,1,cheetah-run,0,return,100,5,2\n"
    )
    files = [tmp_path / name for name in ("ours", "theirs.csv", "silent.csv")]
    found = practices(reading.inputs(files))
    rates = [tasks["cheetah-run"]["updates_per_frame"] for tasks in found.values()]
    assert rates == [(1,), (1,), (2,), (0.5,)]  # what is not known here has no bursts


def test_a_table_of_sources_tells_what_published_curves_do_not(tmp_path):
    (tmp_path / "curves.csv").write_text(
        "algorithm,utd,benchmark,task,seed,env_step,metric,value,source_repo\n"
        "A,10,dmc,dog-run,0,100,return,5,one/a\nA,10,myosuite,myo-reach,0,100,success_rate,1,one/a\n"
        "A,10,dmc,dog-run,1,100,return,5,two/a\nB,2,dmc,dog-run,0,100,return,5,one/a\n"
    )
    table = reading.inputs([tmp_path / "curves.csv"])
    assert not any(practices(table)[System("A", 10)]["dog-run"].values())
    (tmp_path / "sources.csv").write_text(
        "algorithm,source_repo,action_repeat_dmc,action_repeat_myosuite,eval_episodes\n"
        "A,one/a,1.0,2.0,5.0\nA,two/a,1.0,,10.0\nB,elsewhere,1.0,1.0,1.0\n"
    )
    found = practices(reading.inputs([tmp_path / "curves.csv"]))
    dog, reach = (found[System("A", 10)][task] for task in ("dog-run", "myo-reach"))
    assert dog == {
        "action_repeat": (1,), "batch_size": (), "updates_per_frame": (10,), "eval_episodes": (5, 10),
    }  # fmt: skip
    assert (reach["action_repeat"], reach["updates_per_frame"], reach["eval_episodes"]) == ((2,), (5,), (5,))
    assert not any(found[System("B", 2)]["dog-run"].values())


def test_differences_are_named_and_what_is_shared_or_unknown_is_said():
    one = {"action_repeat": (2,), "batch_size": (256,), "updates_per_frame": (1,), "eval_episodes": (5,)}
    other = one | {"batch_size": (128,), "eval_episodes": ()}
    assert differing([one, other]) == ["batch_size"]
    assert contrast(one, other) == ("batch size 256", "batch size 128")
    assert contrast(one, one) == ("", "")
    assert shared([one, one]).startswith("the same for all: action repeat 2, batch size 256")
    assert shared([one, other]) == (
        "the same wherever known: action repeat 2, updates per frame 1, evaluation episodes 5; "
        "unknown for some: evaluation episodes"
    )
    nothing = dict.fromkeys(one, ())
    assert (
        shared([nothing])
        == f"unknown for some: {'action repeat, batch size, updates per frame'}, evaluation episodes"
    )


def test_compare_has_columns_for_what_differs_and_programs_get_all_of_it(folder, capsys):
    def said(*more):
        with pytest.raises(SystemExit) as stop:
            main(["compare", str(folder / "runs"), "--against", str(folder / "rivals.csv"), *more])
        assert stop.value.code == 0
        return capsys.readouterr().out

    text = said()
    _, head, *rows = text.splitlines()
    for name in ("action repeat", "batch size", "updates per frame"):
        assert name in head
    assert "evaluation episodes" not in head
    assert [row.split()[3:6] for row in rows if row.startswith("A UTD 10")] == [["1", "128", "10"]]
    assert "evaluation episodes 5" in text
    records = json.loads(said("--json"))
    (large,) = [record for record in records if "UTD 5" in record["system"]]
    assert [large[name] for name in ("action_repeat", "batch_size", "updates_per_frame")] == [2, 512, 2.5]
    (unknown,) = [record for record in records if record["system"] == "B"]
    assert unknown["batch_size"] is None
    assert {row["frames"] for row in csv.DictReader(io.StringIO(said("--csv")))} == {"100"}


def test_a_report_tells_it_beside_scores_and_verdicts(folder):
    out = folder / "report.html"
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder / "runs"), "--reference", str(folder / "rivals.csv"), "--out", str(out)])
    assert stop.value.code == 0
    text = out.read_text()
    assert (
        "crossq-wn UTD 2 has batch size 256, updates per frame 1; crossq-wn UTD 5 (batch_size=512) has batch "
        "size 512, updates per frame 2.5."
    ) in text
    assert (
        "crossq-wn UTD 2 has action repeat 2, batch size 256, updates per frame 1; A UTD 10 has action "
        "repeat 1, batch size 128, updates per frame 10."
    ) in text
    for name in ("action repeat", "batch size", "updates per frame"):
        assert f'<th scope="col">{name}</th>' in text
