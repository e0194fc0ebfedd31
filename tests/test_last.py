"""The last evaluation of a run, from the end of eval.csv where training vouches for it."""

import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.cli import main
from crossq_wn.errors import UserError
from crossq_wn.results import last
from crossq_wn.results.last import last_evaluation
from crossq_wn.results.records import RunRecord
from crossq_wn.results.tables import runs_table
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.seals import signed
from crossq_wn.runs.tables import EVAL_COLUMNS
from helpers import DAMAGE, alter_config, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("last") / "run", hyperparameters={"utd": 1, "batch_size": 8})
    alter_config(made, lambda values: values["options"].update(seeds=[0, 1, 2]))
    return made


def vouch(run):
    """Signs eval.csv in manifest.json, as training does in the end."""
    content, values = (run / "eval.csv").read_bytes(), json.loads((run / "manifest.json").read_text())
    values["logs"] = {"eval.csv": {"size": len(content), "sha256": checksum_of(content)}}
    (run / "manifest.json").write_text(json.dumps(signed(values)))


def write(run, rows):
    label = RunRecord(run).identity.system.label
    lines = ["exp_name,env_name,seed,metric,env_step,value"]
    lines += [
        f'"{label}",cheetah-run,{seed},{metric},{frames},{value}' for frames, seed, metric, value in rows
    ]
    (run / "eval.csv").write_text("\n".join([*lines, ""]))
    vouch(run)


@st.composite
def evaluated(draw):
    """Rows as training writes them: frame by frame, with other metrics between; some seeds end early."""
    rows, ends = [], draw(st.tuples(*[st.integers(1, 60)] * 3))
    for frame in range(max(ends)):
        for seed, end in enumerate(ends):
            for metric in ("q_bias_mean", "return", "success_rate") if frame < end else ():
                rows.append((100 * frame, seed, metric, round(draw(st.floats(0, 900, width=16)), 3)))
    return rows


@given(evaluated())
def test_the_end_of_a_table_says_what_all_of_it_says(run, rows):
    write(run, rows)
    found, whole = last._at_the_end(RunRecord(run)), last._of_all(RunRecord(run))
    at = rows[-1][0]
    values = [value for frames, _, metric, value in rows if (frames, metric) == (at, "return")]
    if at:  # where all rows are of one frame, all of the file is read
        assert found[:2] == whole[:2] == (at, len(values))
        assert found.score == pytest.approx(whole.score) == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("row", [
    "junk", ",,,,,", "x,cheetah-run,0,return,200,5", "{label},cheetah-run,0,return,200,x",
    "{label},cheetah-run,0,return,200,inf", "{label},cheetah-run,0,return,-1,5",
    "{label},cheetah-run,z,return,200,5", "{label},other,0,return,200,5",
])  # fmt: skip
def test_what_training_does_not_write_is_left_to_the_whole_check(row, run):
    write(run, [(0, 0, "return", 1.0), (100, 0, "return", 2.0)])
    with open(run / "eval.csv", "a") as file:
        file.write(row.format(label=f'"{RunRecord(run).identity.system.label}"') + "\n")
    assert last._at_the_end(RunRecord(run)) is None  # its checksum differs
    vouch(run)
    assert last._at_the_end(RunRecord(run)) is None


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_with_a_checksum_is_refused_for_the_same_reasons(kind, tmp_path):
    damaged = make_run(tmp_path / "run")
    vouch(damaged)
    damage, why = DAMAGE[kind]
    damage(damaged)
    told = []
    assert list(runs_table(tmp_path, told.append)) == []
    assert len(told) == 1
    assert why in told[0] or "does not fit the checksum" in told[0]
    with pytest.raises(UserError):
        last_evaluation(RunRecord(damaged))


def test_a_run_in_real_time_is_listed_before_its_first_evaluation(tmp_path, capsys):
    def begin(name, **options):
        made = make_run(tmp_path / name, eval_rows=[], **options)
        (made / "eval.csv").write_text(f"{','.join(EVAL_COLUMNS)}\n")

    begin("robot", real_time=20.0)
    begin("simulated")  # evaluates at frame 0, so it has hardly begun
    told = []
    (row,) = runs_table(tmp_path, told.append)
    assert (row.run, row.evaluated, row.scored, math.isnan(row.score)) == (tmp_path / "robot", 0, 0, True)
    assert len(told) == 1
    with pytest.raises(SystemExit) as end:
        main(["list", "runs", str(tmp_path), "--json"])
    (shown,) = json.loads(capsys.readouterr().out)
    assert (end.value.code, shown["evaluated"], shown["score"]) == (0, 0, None)


def test_a_run_in_real_time_whose_evaluations_are_lost_is_refused(tmp_path):
    made = make_run(tmp_path / "robot", eval_rows=[(100 * step, 5.0) for step in range(4)], real_time=20.0)
    vouch(made)
    assert last_evaluation(RunRecord(made)).frames == 300
    (made / "eval.csv").write_text(f"{','.join(EVAL_COLUMNS)}\n")
    with pytest.raises(UserError, match=r"eval\.csv"):
        last_evaluation(RunRecord(made))


def test_a_list_of_finished_runs_reads_three_files_of_each_and_no_checkpoint(tmp_path, monkeypatch):
    for number in range(20):
        evaluated = [(100 * step, 5.0) for step in range(40)]
        made = make_run(tmp_path / str(number), frames=3900, eval_rows=evaluated)
        vouch(made)
        (made / "checkpoints" / "000004000").mkdir(parents=True)
        (made / "checkpoints" / "000004000" / "manifest.json").write_text("{}")
    opened, listed, parsed = [], [], []
    for name, calls in (("open", opened), ("scandir", listed)):
        real = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda path, *args, real=real, calls=calls, **kw: (calls.append(path), real(path, *args, **kw))[
                1
            ],
        )
    monkeypatch.setattr("crossq_wn.results.last._of_all", parsed.append)
    rows = list(runs_table(tmp_path, pytest.fail))
    assert [(row.evaluated, row.score) for row in rows] == [(3900, 5.0)] * 20
    assert not parsed  # no whole table
    assert len(opened) == 3 * 20
    assert len(listed) == 20 + 1
