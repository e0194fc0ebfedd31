"""`train --config FILE`: what a config.json chooses holds in a new run, unless something else is given."""

import contextlib
import json

import pytest

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.train import configured
from crossq_wn.errors import UserError
from crossq_wn.runs.seals import signed
from crossq_wn.training.api import configure
from helpers import TESTS


def config_after(*arguments):
    return configured(Parser("train"), [str(each) for each in arguments])[0]


@pytest.fixture
def written(tmp_path):
    """(task, **choices) -> the config.json of such a run."""

    def write(task="cheetah-run", **choices):
        file = tmp_path / "chosen.json"
        file.write_text(json.dumps(signed(configure(task, **choices).to_json())))
        return file

    return write


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_preset_comes_back_as_it_was(algorithm, written):
    for preset in ALGORITHMS[algorithm].presets:
        choices = {"algorithm": algorithm, "preset": preset, "frames": 60_000, "seeds": (3, 1), "utd": 7}
        assert config_after("--config", written(**choices)) == configure("cheetah-run", **choices)


def test_options_beside_the_file_win_and_the_rest_stays(written):
    file = written(seeds=(3,), tau=0.5, critic_width=64, eval_episodes=2, video=False)
    found = config_after("walker-run", "--config", file, "--tau", "0.25", "--seeds", "0,1", "--video")
    assert found == configure(
        "walker-run", seeds=(0, 1), tau=0.25, critic_width=64, eval_episodes=2, video=True
    )


def test_what_follows_from_the_length_follows_from_the_new_length(written):
    file = written(algorithm="xqc", frames=500_000)
    assert config_after("--config", file, "--frames", 40_000) == configure(
        "cheetah-run", algorithm="xqc", frames=40_000
    )


def test_another_algorithm_or_preset_keeps_the_options_and_not_the_hyperparameters(written):
    file = written(seeds=(3,), critic_width=64, preset="paper-v1")
    for algorithm in ("simba", "crossq-wn"):
        found = config_after("--config", file, "--algorithm", algorithm, "--preset", "default")
        assert found == configure("cheetah-run", algorithm=algorithm, seeds=(3,))
    assert config_after("--config", file, "--algorithm", "sac") == configure(
        "cheetah-run", algorithm="sac", seeds=(3,)
    )


def test_a_preset_that_has_changed_since_does_not_change_the_run(written):
    file = written(utd=5)
    values = json.loads(file.read_text())
    values["settings"]["tau"] = 0.125  # of the preset, once
    file.write_text(json.dumps(values))
    assert config_after("--config", file) == configure("cheetah-run", utd=5, tau=0.125)


def test_no_file_decides_that_anything_is_sent_away(written):
    assert config_after("--config", written(wandb="theirs")).options.wandb is None
    assert config_after("--config", written(wandb="theirs"), "--wandb", "mine").options.wandb == "mine"


def test_a_run_directory_and_an_old_schema_will_do():
    found = config_after("--config", TESTS / "data" / "run-schema-1", "--trust")
    old = json.loads((TESTS / "data" / "run-schema-1" / "config.json").read_text())
    assert (found.task, found.options.frames) == (old["task"], old["frames"])
    assert found.settings.critic_width == old["settings"]["critic_width"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda values: values.update(schema=99), "upgrade crossq-wn"),
        (lambda values: values.update(surprise=1), "surprise"),
        (lambda values: values["settings"].update(batch_size="many"), "batch_size"),
        (lambda values: values["options"].update(frames=-1), "frames"),
        (lambda values: values.pop("system"), "system"),
    ],
)
def test_what_is_no_configuration_is_refused_by_name(change, says, written):
    file = written()
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=says):
        config_after("--config", file)


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere.json", "No such file"), ("text", "no JSON"), ("list", "it holds no record")]
)
def test_what_is_no_file_of_ours_is_refused(name, why, tmp_path):
    (tmp_path / "text").write_text("{")
    (tmp_path / "list").write_text("[1]")
    with pytest.raises(UserError, match=rf"config=.*{name}.* is no run's config.json: .*{why}"):
        config_after("--config", tmp_path / name)


@pytest.mark.parametrize("part", ["task", "algorithm"])
def test_code_that_it_names_is_not_run_without_trust(part, written, tmp_path, monkeypatch):
    module, ran = f"strange_{part}", tmp_path / "ran"
    (tmp_path / f"{module}.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = written()
    values = json.loads(file.read_text())
    owner = values if part == "task" else values["system"]
    owner[part] = f"{module}:Thing"
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match="you have not trained here"):
        config_after("--config", file)
    assert not ran.exists()
    with contextlib.suppress(UserError):  # there is no Thing in it
        config_after("--config", file, "--trust")
    assert ran.exists()
