"""Does a list of runs say which are done, running, stopped and failed?"""

import json

import pytest

import crossq_wn
from crossq_wn.cli import main
from crossq_wn.results import reading
from crossq_wn.results.records import RunRecord
from crossq_wn.results.report.contents import gather
from crossq_wn.runs import manifests
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.directory import RunDirectory
from helpers import EVAL_HEADER, alter_config, call, make_run

FAILED = {"reason": "the motor is on fire", "good": 100, "updates": 20}


def saved(run, frames, failed):
    """Leaves a checkpoint, as far as a list looks at it."""
    place = run / "checkpoints" / f"{frames:09d}"
    place.mkdir(parents=True)
    body = {"schema": 1, "frames": frames, "common": {"failed": failed}, "seeds": {}}
    manifests.write_manifest(place, body)
    return run


def failed_at_once(path):
    """A run that ended before its first evaluation."""
    run = RunDirectory(make_run(path, eval_rows=()))
    position = {"size": len(EVAL_HEADER), "sha256": checksum_of(EVAL_HEADER.encode())}
    run.vouch({"eval.csv": position}, {"0": FAILED})
    run.close()
    return path


def of_two_seeds(path, **options):
    run = make_run(path, **options)
    alter_config(run, lambda values: values["options"].update(seeds=[0, 1]))
    return run


def test_a_list_says_where_each_run_stands(tmp_path):
    root = tmp_path / "runs"
    whole = {"frames": 100, "eval_rows": ((100, 50.0),)}
    make_run(root / "a done one", **whole)
    saved(make_run(root / "b stopped", frames=200), 100, {})
    saved(make_run(root / "c failed", frames=200), 100, {"0": FAILED})
    failed_at_once(root / "d failed at once")
    saved(of_two_seeds(root / "e seeds stopped", **whole), 100, {"1": FAILED})
    saved(make_run(root / "f without evaluations", frames=100, eval_rows=((0, 1.0),)), 100, {})
    held = RunDirectory(make_run(root / "g held", frames=200))
    listed = call("list", "runs", root, "--json", cwd=tmp_path)
    held.close()
    assert listed.stderr == ""
    assert {row["run"].rpartition("/")[2][2:]: row["state"] for row in json.loads(listed.stdout)} == {
        "done one": "done",
        "stopped": "stopped",
        "failed": "failed",
        "failed at once": "failed",
        "seeds stopped": "done, 1 of 2 seeds failed",
        "without evaluations": "done",
        "held": "running",
    }


def test_a_run_that_failed_at_once_is_skipped_in_a_short_line(tmp_path):
    said, run = [], failed_at_once(tmp_path / "run")
    line = f"{run} is skipped: it failed before its first evaluation: the motor is on fire"
    assert not reading.checked([RunRecord(run)], said.append)
    assert said == [line]
    with pytest.raises(crossq_wn.UserError, match=f"no run can be reported: {line}$"):
        gather([run], tell=said.append)
    assert said[1:] == ["reading 1 run directory"]


@pytest.mark.parametrize("name", ["config.json", "eval.csv"])
def test_what_is_lost_is_answered_with_the_command_that_restores_it(name, tmp_path):
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    for there in (False, True):
        with pytest.raises(crossq_wn.UserError) as error:
            reading.check(RunRecord(run))
        assert (f"`crossq-wn resume {run}` restores it" in str(error.value)) == there
        if not there:
            saved(run, 100, {})


def test_seeds_that_failed_are_told_of_where_their_run_is_compared_drawn_and_reported(tmp_path, capsys):
    run = saved(
        of_two_seeds(tmp_path / "run", frames=100, eval_rows=((0, 1.0), (100, 50.0))), 100, {"1": FAILED}
    )
    line = f"seed 1 of {run} failed at 100 frames: the motor is on fire; "
    line += f"once that is mended, `crossq-wn resume {run}` trains it on"
    out = tmp_path / "out"
    for arguments in (["compare"], ["plot", "--out", out], ["figure", "fig1", "--out", out]):
        with pytest.raises(SystemExit):
            main([str(word) for word in (*arguments, run)])
        assert f"crossq-wn: {line}" in capsys.readouterr().err.splitlines()
    assert line in gather([run]).skipped
