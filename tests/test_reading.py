"""Do files become the right scores? Kinds of tables, scales, unequal grids, contradictions, groups, names."""

import gzip
import os
import re
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from crossq_wn import files
from crossq_wn.environments import PAPER_GROUPS, PAPER_TASKS, groups
from crossq_wn.errors import UserError
from crossq_wn.results import duplicates, reading
from crossq_wn.results.curves import align, reached_by_most
from crossq_wn.results.names import displayed, left_out
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.system import System
from crossq_wn.runs.tables import EVAL_COLUMNS
from helpers import DAMAGE, by_label, make_run, read

HEADER = ",".join(EVAL_COLUMNS)


def test_a_file_is_read_the_same_at_once_and_where_a_system_reads_less(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(content := bytes(range(256)) * 20)
    assert files.read(path, 10_000) == content
    monkeypatch.setattr(files, "_AT_ONCE", 100)
    assert files.read(path, 10_000) == content


def paths_of(inputs):
    return [each.path for each in inputs]


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
    results = read([tmp_path, tmp_path / "a"])  # a file named twice is read once
    np.testing.assert_array_equal(results["q"]["dog-run"].values, [[0.5, 1.0], [0.25, np.nan]])
    np.testing.assert_array_equal(results["q"]["myo-reach"].values, [[0.5]])
    steps, scores = align([results["q"]["dog-run"], results["q"]["myo-reach"]])
    assert steps.tolist() == [100]
    assert [task.shape for task in scores] == [(2, 1), (1, 1)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_that_the_shell_has_opened_is_read_like_a_file(table, tmp_path, packed):
    """As in `--reference <(zcat curves.csv.gz)`."""
    text = table("a", "q,dog-run,0,return,100,500").read_bytes()
    given, end = os.pipe()
    with os.fdopen(end, "wb") as file:
        file.write(gzip.compress(text) if packed else text)
    try:
        assert read([Path(f"/dev/fd/{given}")])["q"]["dog-run"].values.item() == 0.5
    finally:
        os.close(given)
    os.mkfifo(tmp_path / "pipe")  # one with a name might never end
    with pytest.raises(UserError, match="is a pipe"):
        read([tmp_path / "pipe"])


def test_only_dm_control_returns_are_scaled(table):
    path = table(
        "a", *(f"q,{task},0,return,0,500" for task in ("walker-walk", "fish-swim", "Ant-v5", "m:make"))
    )
    values = {task: curves.values.item() for task, curves in read([path])["q"].items()}
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
    results = reading.scores(reading.inputs([path]))
    assert {system: tasks["dog-run"].values.item() for system, tasks in results.items()} == {
        System("SimBa", 2): 0.1,
        System("SimBa", 8): 0.2,
    }
    assert [system.label for system in results] == ["SimBa UTD 2", "SimBa UTD 8"]


def test_another_metric_is_read_as_it_was_logged(table):
    path = table("a", "q,dog-run,0,return,100,500", "q,dog-run,0,q_bias_std,100,7")
    inputs = reading.inputs([path])
    assert by_label(reading.evaluations(inputs, "q_bias_std"))["q"]["dog-run"].values.item() == 7
    assert by_label(reading.evaluations(inputs, "return"))["q"]["dog-run"].values.item() == 500
    assert reading.evaluations(inputs, "q_bias_mean") == {}


def test_columns_of_metrics_are_curves_of_runs(table, tmp_path):
    run = make_run(tmp_path / "run", task="dog-run", hyperparameters={"utd": 5})
    lines = ("seed,frames,critic_norm", "0,100,", "0,200,3", "4,200,5")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    other = table("other", "q,dog-run,0,return,100,500")  # a tidy table has no metrics
    inputs = reading.inputs([tmp_path, other])
    curves = reading.logged(inputs, "critic_norm")[System("crossq-wn", 5)]["dog-run"]
    assert (curves.env_steps.tolist(), curves.seeds) == ([200], ("0", "4"))
    assert curves.values.tolist() == [[3], [5]]
    assert reading.logged(inputs, "critic_elr") == {}


def test_a_diagnostic_that_is_not_finite_is_missing(tmp_path):
    run = make_run(tmp_path / "run", task="dog-run")
    (run / "metrics.csv").write_text("seed,frames,critic_norm\n0,100,3\n0,200,inf\n0,300,nan\n")
    (curves,) = reading.logged([RunRecord(run)], "critic_norm")[System("crossq-wn", 2)].values()
    np.testing.assert_array_equal(curves.values, [[3, np.nan, np.nan]])


def test_half_a_last_row_is_left_out_and_any_other_is_named(table, tmp_path):
    """A killed run may leave it; in the middle of a file it is damage."""
    row = "q,dog-run,0,return,100,500"
    for i, half in enumerate(("q", "q,dog-run,0,ret", "q,dog-run,0,return,2")):
        assert read([table(f"killed{i}", row, half)])["q"]["dog-run"].values.tolist() == [[0.5]]
    bad, told = table("damaged", "q", row.replace("q", "p")), []
    with pytest.raises(UserError, match=rf"{re.escape(str(bad))}, line 2 is cut short"):
        read([bad])
    assert list(read([tmp_path], told.append)) == ["q"]
    assert [line.startswith(f"{bad} is skipped: ") for line in told] == [True]


def test_frames_that_most_runs_reached():
    nan = np.nan
    three = np.array([[1, 1, 1, nan], [1, 1, nan, nan], [1, nan, nan, 1]])
    assert reached_by_most([three]).tolist() == [True, True, False, False]
    one_of_two = np.array([[1, 1, 1, 1], [1, nan, 1, 1]])
    assert reached_by_most([three, one_of_two]).tolist() == [True, False, False, False]


def test_speed_is_each_runs_median_while_it_updates(tmp_path):
    header = "frames,seconds,frames_per_second,updates_per_second\n"
    for seed, rows in enumerate(("1,1,9000,0\n2,2,10,5\n3,3,30,5\n4,4,20,5\n5,", "1,1,9000,0\n2,2,44,5\n")):
        run = make_run(tmp_path / str(seed), task="dog-run", seed=seed)
        (run / "timing.csv").write_text(header + rows)
    idle = make_run(tmp_path / "idle", task="dog-walk")
    (idle / "timing.csv").write_text(header + "1,1,9000,0\n")
    assert reading.speeds(reading.inputs([tmp_path, tmp_path / "0" / "eval.csv"])) == {
        System("crossq-wn", 2): {"dog-run": (20, 44)}
    }


def test_groups_are_the_papers():
    every = groups.tasks_and_groups([*PAPER_TASKS, "Ant-v5"])
    assert [len(every[name]) for name in (*PAPER_GROUPS, "all")] == [7, 8, 5, 5, 25]
    assert set(every["all"]) == set(PAPER_TASKS)
    assert every["Ant-v5"] == ("Ant-v5",)
    assert groups.tasks_and_groups(["myo-pose"]) == dict.fromkeys(
        ("myo-pose", "Myo easy", "all"), ("myo-pose",)
    )


def shown(systems, published=()):
    """What systems are called, in order, and what is told once."""
    short = displayed(systems, published)
    assert list(short) == list(systems)
    return [system.label for system in short.values()], left_out(short)


def system(name, utd=1, **changes):
    return System(name, utd, changes=tuple(changes.items()))


CHANGES = st.dictionaries(
    st.sampled_from(["warmup", "resets", "norm", "critic_width"]),
    st.sampled_from([64, 2000, (1, 2), (2, 1), None, "a, b=1)"]),
)
SYSTEMS = st.dictionaries(  # the system -> its changes
    st.sampled_from(
        [System("crossq", 1), System("crossq", 5), System("crossq-wn", 5), System("bro", 2, "fast")]
    ),
    CHANGES,
    min_size=1,
)


@given(SYSTEMS)
def test_short_names_leave_out_what_all_share_and_nothing_else(found):
    systems = [replace(each, changes=tuple(changes.items())) for each, changes in found.items()]
    every = [set(each.items()) for each in found.values()]
    shared = set.intersection(*every) if len(found) > 1 else set()
    short = displayed(systems)
    for each, changes in zip(systems, found.values(), strict=True):
        assert dict(short[each].changes) == {k: v for k, v in changes.items() if (k, v) not in shared}
        assert replace(short[each], changes=each.changes) == each
    assert len({each.label for each in short.values()}) == len(systems)
    first = next(iter(found.values()))
    assert left_out(short) == ", ".join(f"{k}={v}" for k, v in first.items() if (k, v) in shared)
    again = displayed(short.values())
    assert again == {each: each for each in short.values()}  # nothing is left that all share


@pytest.mark.parametrize(
    ("systems", "published"),
    [
        ([system("a", x=1)], []),  # alone
        ([system("a", x=1), system("a")], []),  # the second leaves no preset
        ([system("a", x=1), system("b", x=10)], []),
        ([system("a", x=(1, 2)), system("b", x=(1, 3))], []),  # 1 is no value of its own
        ([system("a", x=1), system("b", x=1), system("a")], [system("a")]),  # published by others
        ([system("a", x=1), system("b", x=1)], [system("b", x=1)]),
        ([System("a (one)"), System("b (one)"), System("c (x=1"), System("d (x=1) e (y=2)")], []),
        ([], []),
    ],
)
def test_names_stay_where_nothing_is_shared_or_they_would_be_alike(systems, published):
    assert shown(systems, published) == ([each.label for each in systems], "")


def test_published_systems_share_nothing_and_keep_their_names():
    ours = [system("a", x=1, y=2), system("b", y=3, x=1)]
    published = [system("c", x=1), System("d")]
    names, shared = shown([*ours, *published], published)
    assert names == ["a UTD 1 (y=2)", "b UTD 1 (y=3)", "c UTD 1 (x=1)", "d"]
    assert shared == "x=1"


def test_a_run_s_system_comes_from_its_configuration_and_a_bare_table_s_from_its_name(tmp_path):
    run = make_run(tmp_path / "run", task="dog-run", hyperparameters={"utd": 5})
    old = (run / "eval.csv").read_text().replace("crossq-wn UTD 5", "as it was called then")
    (run / "eval.csv").write_text(old)
    (tmp_path / "bare.csv").write_text(old)
    for path in (run, run / "eval.csv"):
        assert list(reading.scores(reading.inputs([path]))) == [System("crossq-wn", 5)]
    assert list(reading.scores(reading.inputs([tmp_path / "bare.csv"]))) == [System("as it was called then")]


def test_a_bare_table_with_a_run_s_label_holds_more_seeds_of_its_system(tmp_path):
    run = make_run(tmp_path / "run", task="dog-run", hyperparameters={"utd": 5})
    (tmp_path / "more.csv").write_text(f"{HEADER}\ncrossq-wn UTD 5,dog-run,7,return,100,500\n")
    results = reading.scores(reading.inputs([tmp_path / "more.csv", run]))
    assert list(results) == [System("crossq-wn", 5)]
    assert results[System("crossq-wn", 5)]["dog-run"].seeds == ("7", "0")


def test_a_published_ratio_is_a_whole_number_or_missing(tmp_path):
    path = tmp_path / "rivals.csv"
    lines = "algorithm,utd,task,seed,metric,env_step,value\nSAC,{},dog-run,0,return,100,1\n"
    for cell, utd in (("20", 20), ("20.0", 20), ("", None)):
        path.write_text(lines.format(cell))
        assert list(reading.scores(reading.inputs([path]))) == [System("SAC", utd)]
    path.write_text(lines.format("few"))
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}, line 2: utd is 'few'"):
        read([path])


def test_what_is_wrong_with_a_file_is_known_without_reading_it_again(tmp_path):
    record = RunRecord(make_run(tmp_path / "run"))
    (record.path / "metrics.csv").write_text("seed,frames,critic_norm\n0,1\n0,2,3\n")
    for _ in range(2):
        with pytest.raises(UserError, match="line 2 is cut short"):
            record.logged("critic_norm")
        (record.path / "metrics.csv").write_text("seed,frames,critic_norm\n0,2,3\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval.csv", b"\xff\xfe\x00\x01" * 9),
        ("eval.csv", b"exp_name,env_name,seed,metric,env_step,value\nq,dog-run,0,return,inf,1\n"),
        ("eval.csv.gz", b"no archive"),
        ("eval.csv.gz", gzip.compress(b"exp_name,env_name,seed,metric,env_step,value\n" * 99, mtime=0)[:40]),
    ],
)
def test_a_file_that_cannot_be_read_is_named_or_skipped(name, content, table, tmp_path):
    """Alone it is a mistake; in a folder of others it is left out, with a line that says why."""
    bad = tmp_path / "run" / name
    bad.parent.mkdir()
    bad.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(bad))):
        read([bad])
    if name == "eval.csv":  # the name that is looked for in folders
        told = []
        table("sound", "q,dog-run,0,return,5,1")
        assert list(read([tmp_path], told.append)) == ["q"]
        assert [line.startswith(f"{bad} is skipped: ") for line in told] == [True]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_counts_nowhere_and_harms_no_other(kind, tmp_path):
    a, b, c = (make_run(tmp_path / name, seed=ord(name)) for name in "abc")
    damage, why = DAMAGE[kind]
    damage(b)
    told = []
    assert paths_of(duplicates.usable([tmp_path], told.append)) == [a, c]
    assert [line.startswith(f"{b} is skipped: ") and why in line for line in told] == [True]
    with pytest.raises(UserError, match=why):
        duplicates.usable([b], told.append)
    assert len(told) == 1


def test_a_seed_counts_once_and_who_has_it_is_named(tmp_path):
    first = make_run(tmp_path / "a", eval_rows=[(100, 1.0)])
    make_run(tmp_path / "b", eval_rows=[(100, 2.0)])
    other = make_run(tmp_path / "c", eval_rows=[(100, 2.0)], hyperparameters={"utd": 5})
    told = []
    assert paths_of(duplicates.usable([tmp_path], told.append)) == [first, other]
    assert told == [f"{tmp_path / 'b'} is skipped: {first} holds seed 0 of crossq-wn UTD 2 already"]


def test_a_shared_seed_counts_where_it_went_further_and_costs_no_other_seed(tmp_path):
    longer = make_run(tmp_path / "a", eval_rows=[(100, 1.0), (200, 2.0)])
    several = make_run(tmp_path / "b", eval_rows=[(100, 3.0)])
    table = several / "eval.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*rows, rows[1].replace(",0,return", ",1,return")]))
    for paths in ([longer, several], [several, longer]):
        told = []
        used = duplicates.usable(paths, told.append)
        assert paths_of(used) == paths
        (tasks,) = reading.scores(used).values()
        curves = tasks["cheetah-run"]
        first = dict(zip(curves.seeds, curves.values[:, 0].tolist(), strict=True))
        assert first == {"0": 0.001, "1": 0.003}
        held = f"{longer} holds seed 0 of crossq-wn UTD 2 already, up to 200 frames"
        assert told == [f"seed 0 of {several} is left out: {held}"]


def test_tables_by_name_are_taken_as_they_are(table, tmp_path):
    run, alone = make_run(tmp_path / "run"), table("alone", "q,dog-run,0,return,100,500")
    told = []
    assert paths_of(duplicates.usable([alone, tmp_path], told.append)) == [alone, run]
    assert [line.startswith(f"{alone.parent} is skipped: ") for line in told] == [True]
    assert duplicates.usable([], told.append) == []


def test_infinity_is_no_score_and_a_missing_diagnostic(table):
    path = table("a", "q,dog-run,0,return,100,inf", "q,dog-run,0,q_bias_std,100,inf")
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}, line 2: a score is infinite"):
        read([path])
    bias = by_label(reading.evaluations(reading.inputs([path]), "q_bias_std"))["q"]["dog-run"]
    assert np.isnan(bias.values).all()


def test_mistakes_are_named(table, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no evaluations"):
        read([tmp_path])
    with pytest.raises(UserError, match="lacks the columns env_step, value"):
        read([table("short", header="exp_name,env_name,seed,metric")])
    with pytest.raises(UserError, match=r"line 2.*'high' is not a number"):
        read([table("word", "q,dog-run,0,return,0,high")])
    with pytest.raises(UserError, match="seed 0 has a second, different value at step 5"):
        read([table("twice", "q,dog-run,0,return,5,1", "q,dog-run,0,return,5,2")])
    one, two = (table(name, f"q,dog-run,0,return,5,{i}") for i, name in enumerate(("one", "two")))
    with pytest.raises(
        UserError, match=rf"^{re.escape(str(two))}: .* beside {re.escape(str(one))}: read one"
    ):
        read([one, two])
    curves = read([table("grids", "q,dog-run,0,return,5,1", "q,dog-walk,0,return,6,1")])["q"]
    with pytest.raises(UserError, match="same environment frame"):
        align(list(curves.values()))
    with pytest.raises(UserError, match="no curves"):
        align([])
