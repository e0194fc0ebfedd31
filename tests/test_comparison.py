"""Are runs laid beside others at the same frames, and only there?"""

import numpy as np
import pytest

from crossq_wn.cli import main
from crossq_wn.environments import Episode
from crossq_wn.errors import UserError
from crossq_wn.results.curves import Curves
from crossq_wn.results.tables import Median, compare, episode_summary
from crossq_wn.runs.system import System
from helpers import make_run

NAN = np.nan


def curves(steps, *runs):
    return Curves(np.array(steps), tuple(map(str, range(len(runs)))), np.array(runs, float))


def values(rows):
    """The rows with plain medians."""
    return [(system, seeds, [cell and cell.value for cell in cells]) for system, seeds, cells in rows]


OURS = {System("mine"): {"walker-run": curves([0, 10, 20, 30], [0, 1, 2, 3], [0, 3, 4, NAN])}}


def test_medians_stand_at_the_frames_that_both_evaluated():
    theirs = {
        System("weak"): {"walker-run": curves([20, 40], [0.5, 9])},
        System("strong"): {"walker-run": curves([10, 20], [1, 5], [3, 6], [8, 7])},
        System("elsewhere"): {"dog-run": curves([20], [1])},
        System("later"): {"walker-run": curves([50], [1])},
    }
    (table,) = compare(OURS, theirs)
    assert (table.task, table.env_steps) == ("walker-run", [10, 20])
    assert values(table.rows) == [("mine", 2, [2, 3]), ("strong", 3, [3, 6]), ("weak", 1, [None, 0.5])]


def test_a_run_that_is_shorter_does_not_count_where_it_has_ended():
    (table,) = compare(OURS, {})
    assert table.env_steps == [0, 10, 20, 30]
    assert values(table.rows) == [("mine", 2, [0, 2, 3, 3])]
    assert table.rows[0][2][2:] == [Median(3, 2, 2), Median(3, 1, 2)]
    assert [f"{cell:.3f}" for cell in table.rows[0][2][2:]] == ["3.000", "3.000 (1/2)"]


def test_long_curves_are_thinned_and_keep_their_ends():
    (table,) = compare({System("mine"): {"walker-run": curves(range(100), range(100))}}, {}, most=5)
    assert len(table.env_steps) == 5
    assert (table.env_steps[0], table.env_steps[-1]) == (0, 99)


def test_episodes_are_summed_up_by_the_sample_s_spread():
    episodes = [Episode(1.0, 10, False), Episode(3.0, 30, True)]
    summary = episode_summary(episodes)
    assert summary == (2, np.sqrt(2), 0.5, 20)
    assert episode_summary(episodes[:1]) == (1, None, 0, 10)


def test_nothing_in_common_is_an_error():
    with pytest.raises(UserError, match="nothing to compare with on walker-run"):
        compare(OURS, {System("other"): {"dog-run": curves([20], [1])}})


def test_the_command_reads_runs_and_published_tables(tmp_path, capsys):
    run = make_run(tmp_path / "run", task="walker-run", eval_rows=[(100, 500.0)])
    published = tmp_path / "published.csv"
    published.write_text(
        "algorithm,utd,task,seed,metric,env_step,value,primary\n"
        "SimBa,2,walker-run,1,return,100,427,1\nSimBa,2,walker-run,1,return,100,999,0\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(run), "--against", str(published)])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "0.500" in out
    assert "SimBa UTD 2" in out
    assert "0.427" in out
    assert "0.999" not in out


@pytest.mark.parametrize("arguments", [["missing"], ["."]])
def test_bad_input_is_refused(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("crossq-wn: ")
