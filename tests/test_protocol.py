"""Are only like runs compared? Names of systems, protocol identity, refusal, damaged directories."""

import json
import shutil

import pytest

import helpers
from crossq_wn.errors import UserError
from crossq_wn.results import reading
from crossq_wn.runs import directory, folders, protocol
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.seals import signed
from crossq_wn.training import api
from helpers import EVAL_HEADER, by_label, call, make_run, read


def conflicts(paths):
    """Why runs in these paths should not be compared."""
    return protocol.conflicts(protocol.read_terms(paths))


@pytest.mark.parametrize(
    ("hyperparameters", "name"),
    [
        ({}, "crossq-wn UTD 2"),
        ({"utd": 5}, "crossq-wn UTD 5"),
        ({"weight_norm": "none", "critic_width": 64}, "crossq-wn UTD 2 (critic_width=64, weight_norm=none)"),
    ],
)
def test_a_system_is_named_by_what_leaves_its_preset(hyperparameters, name):
    assert api.configure("cheetah-run", **hyperparameters).system.label == name


def test_another_preset_is_part_of_the_name():
    assert api.configure("cheetah-run", preset="paper-v2").system.label == "crossq-wn paper-v2 UTD 2"


def test_runs_that_differ_in_settings_are_different_systems(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", hyperparameters={"utd": 5})
    assert set(read([tmp_path])) == {"crossq-wn UTD 2", "crossq-wn UTD 5"}
    assert (
        protocol.protocol_conflicts(protocol.read_terms([tmp_path]))
        == protocol.setting_conflicts(protocol.read_terms([tmp_path]))
        == []
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"eval_episodes": 3}, "eval_episodes is 5 in"),
        ({"eval_every": 50}, "eval_every is 25000 in"),
        ({"episode_frames": 500}, "episode_frames is 1000 in"),
        ({"terminations": False}, "terminations is yes in"),
        ({"hyperparameters": {"action_repeat": 4}}, "action_repeat is 2 in"),
        ({"hyperparameters": {"discount": 0.9}}, "discount is 0.99 in"),
    ],
)
def test_the_command_refuses_runs_of_different_protocols_and_names_the_difference(tmp_path, options, named):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, **options)
    (conflict,) = protocol.protocol_conflicts(protocol.read_terms([tmp_path]))
    assert conflict.startswith("cheetah-run: ")
    assert named in conflict
    refused = call("compare", str(tmp_path / "a"), "--against", str(tmp_path / "b"), cwd=tmp_path)
    assert refused.returncode == 2
    assert named in refused.stderr
    assert "--force" in refused.stderr
    forced = call("compare", str(tmp_path / "a"), "--against", str(tmp_path / "b"), "--force", cwd=tmp_path)
    assert forced.returncode == 0
    assert named in forced.stderr


def test_runs_of_one_name_and_different_settings_are_refused(tmp_path):
    """As when a version changes a preset: the same name then means something else."""
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    helpers.alter_config(tmp_path / "b", lambda config: config["settings"].update(initial_temperature=0.7))
    (conflict,) = protocol.setting_conflicts(protocol.read_terms([tmp_path]))
    assert conflict == (
        f"crossq-wn UTD 2: initial_temperature is 0.1 in {tmp_path / 'a'} and 0.7 in {tmp_path / 'b'}"
    )
    refused = call("compare", str(tmp_path / "a"), "--against", str(tmp_path / "b"), cwd=tmp_path)
    assert refused.returncode == 2
    assert conflict in refused.stderr.replace("\n", " ")


def test_only_what_is_compared_must_be_alike(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, eval_episodes=3, hyperparameters={"utd": 5})
    (conflict,) = conflicts([tmp_path])
    assert "eval_episodes is 5 in" in conflict
    assert conflicts([tmp_path / "a"]) == []
    figure = ("figure", "fig7", str(tmp_path), "--out", str(tmp_path / "fig7"))
    assert "fig7-protocol-1.png" in call(*figure, cwd=tmp_path).stdout
    one = call(*figure, "--systems", "crossq-wn UTD 2", cwd=tmp_path)
    assert (one.returncode, "fig7.png" in one.stdout, "protocol" in one.stderr) == (0, True, False)


def test_another_simulator_is_another_protocol(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest["protocol"]["mujoco"], manifest["protocol_sha256"] = "2.0", "another"
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(signed(manifest)))
    assert "mujoco is" in protocol.protocol_conflicts(protocol.read_terms([tmp_path]))[0]


@pytest.mark.parametrize("part", [*api.configure("cheetah-run").protocol, "mujoco", "dm_control"])
def test_another_protocol_has_another_digest(part, monkeypatch):
    config = api.configure("cheetah-run")
    before = directory.manifest(config, [])
    assert directory.manifest(config, ["another", "command"])["protocol_sha256"] == before["protocol_sha256"]
    if part in config.protocol:
        changed = config.protocol | {part: "another"}
        monkeypatch.setattr(RunConfig, "protocol", property(lambda config: changed))
    else:
        monkeypatch.setattr(
            directory, "version", lambda name: "another" if name == part else before["versions"][name]
        )
    after = directory.manifest(config, [])
    assert after["protocol"] == before["protocol"] | {part: "another"}
    assert after["protocol_sha256"] != before["protocol_sha256"]


def test_the_protocol_names_the_simulators_that_the_task_has():
    simulators = {"mujoco", "dm_control", "myosuite", "gymnasium"}
    for task, own in (("cheetah-run", "dm_control"), ("myo-reach", "myosuite"), ("Ant-v5", "gymnasium")):
        assert directory.manifest(api.configure(task), [])["protocol"].keys() & simulators == {"mujoco", own}


def altered(run, **protocol):
    """A run whose manifest has another protocol; None takes a part away."""
    manifest = json.loads((run / "manifest.json").read_text())
    changed = manifest["protocol"] | protocol
    manifest["protocol"] = {name: value for name, value in changed.items() if value is not None}
    (run / "manifest.json").write_text(json.dumps(signed(manifest)))
    return run


def test_gymnasium_of_another_version_is_another_protocol_unless_it_is_unknown(tmp_path):
    for seed, version in enumerate((None, "1.1", "1.2")):  # older manifests do not name it
        altered(make_run(tmp_path / str(seed), task="Ant-v5", seed=seed), gymnasium=version)
    assert conflicts([tmp_path / "0", tmp_path / "1"]) == []
    (conflict,) = conflicts([tmp_path])
    assert f"gymnasium is 1.1 in {tmp_path / '1'} and 1.2 in {tmp_path / '2'}" in conflict


def test_a_run_resumed_under_another_simulator_is_not_wholly_new(tmp_path):
    for name, then in (("a", {}), ("b", {"mujoco": "2.0"}), ("c", {"dm_control": None})):
        path = altered(make_run(tmp_path / name, seed=ord(name)), **then)
        for _ in range(2):
            owned = directory.RunDirectory(path, ["crossq-wn", "resume"])
            owned.note_resumption(read_config(path), print)
            owned.close()
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["protocol"]["mujoco"] == directory.version("mujoco")
    assert [protocol["mujoco"] for protocol in manifest["earlier_protocols"]] == ["2.0"]
    assert conflicts([tmp_path / "a", tmp_path / "c"]) == conflicts([tmp_path / "b"]) == []
    for paths in (["a", "b"], ["b", "c"]):
        (conflict,) = conflicts(tmp_path / path for path in paths)
        assert f"and 2.0 in {tmp_path / 'b'} before it was resumed" in conflict
    (line,) = protocol.simulator_conflicts(protocol.read_terms([tmp_path / "a", tmp_path / "b"]))
    assert line.startswith("simulators: mujoco is ")


def test_all_conflicts_are_told(tmp_path):
    for task in ("cheetah-run", "walker-run"):
        for seed in range(2):
            make_run(tmp_path / f"{task}-{seed}", task=task, seed=seed, eval_episodes=3 + seed)
    first, second, last, none = call("compare", str(tmp_path), cwd=tmp_path).stderr.splitlines()
    assert "cheetah-run: eval_episodes is 3 in" in first
    assert "walker-run: eval_episodes is 3 in" in second
    assert "protocol 1 has eval_episodes 3 (2 runs); protocol 2 has eval_episodes 4 (2 runs)" in last
    assert "--force" in last
    assert none == "crossq-wn: nothing is compared: cheetah-run, walker-run have a single system each"


def test_a_run_of_unknown_protocol_is_not_compared_silently(tmp_path):
    make_run(tmp_path / "a")
    assert conflicts([tmp_path]) == []
    for damage in (lambda path: path.unlink(), lambda path: path.write_text('{"protocol": null}')):
        damage(make_run(tmp_path / "b", seed=1) / "manifest.json")
        (conflict,) = conflicts([tmp_path])
        assert conflict.startswith(f"the protocol of {tmp_path / 'b'} is unknown")
        shutil.rmtree(tmp_path / "b")


def test_a_run_s_table_by_name_has_the_run_s_protocol(tmp_path):
    tables = [make_run(tmp_path / f"{n}", seed=n, eval_episodes=n) / "eval.csv" for n in (3, 5)]
    (conflict,) = conflicts(tables)
    assert "eval_episodes is 3 in" in conflict
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "config.json").write_text("{}")  # of some other program
    published = shutil.copy(tables[0], tmp_path / "others" / "published.csv")
    assert conflicts([tables[1], published]) == []


def test_runs_and_what_is_left_of_them_are_found_but_no_checkpoints(tmp_path):
    whole = make_run(tmp_path / "whole")
    (whole / "checkpoints" / "000000100").mkdir(parents=True)
    left = {}
    for name in ("config.json", "manifest.json", "eval.csv"):
        left[name] = make_run(tmp_path / "checkpoints" / name.partition(".")[0], seed=len(left) + 1)
        for other in {"config.json", "manifest.json", "eval.csv"} - {name}:
            (left[name] / other).unlink()
    shutil.copy(whole / "manifest.json", whole / "checkpoints" / "000000100")
    assert folders.find(tmp_path) == sorted([whole, left["config.json"], left["eval.csv"]])
    assert folders.find(whole) == [whole]


def test_what_one_run_does_not_know_is_compared_between_the_others(tmp_path):
    for seed, terminations in enumerate((True, True, False)):
        make_run(tmp_path / f"{seed}", seed=seed, terminations=terminations)
    manifest = json.loads((tmp_path / "0" / "manifest.json").read_text())
    del manifest["protocol"]["terminations"]
    (tmp_path / "0" / "manifest.json").write_text(json.dumps(signed(manifest)))
    (conflict,) = conflicts([tmp_path])
    assert f"terminations is yes in {tmp_path / '1'} and no in {tmp_path / '2'}" in conflict


@pytest.mark.parametrize("option", [{"overlap": True}, {"matmul_precision": "bfloat16"}])
def test_seeds_trained_in_other_ways_are_not_pooled(option, tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, **option)
    (conflict,) = conflicts([tmp_path])
    assert next(iter(option)) in conflict


def test_different_tasks_are_no_conflict(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", task="myo-reach")
    assert protocol.protocol_conflicts(protocol.read_terms([tmp_path])) == []


def test_damaged_runs_in_a_folder_are_skipped_with_the_reason(tmp_path):
    make_run(tmp_path / "good")
    shutil.copytree(make_run(tmp_path / "bad", seed=1), tmp_path / "worse")
    (tmp_path / "bad" / "eval.csv").write_text(EVAL_HEADER + "x,cheetah-run,1,return,100,much\n")
    (tmp_path / "worse" / "eval.csv").write_text("not,a,table\n")
    said = []
    results = read([tmp_path], said.append)
    assert results["crossq-wn UTD 2"]["cheetah-run"].seeds == ("0",)
    assert len(said) == 2
    assert "bad" in said[0]
    assert "'much' is not a number" in said[0]
    with pytest.raises(UserError, match="much"):
        read([tmp_path / "bad" / "eval.csv"], said.append)


def test_a_logged_column_is_read_by_system(tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "a" / "metrics.csv").write_text("seed,frames,critic_norm\n0,1000,\n0,2000,3.5\n0,3000,4.5\n")
    curves = by_label(reading.logged(reading.inputs([tmp_path]), "critic_norm"))["crossq-wn UTD 2"][
        "cheetah-run"
    ]
    assert curves.env_steps.tolist() == [2000, 3000]
    assert curves.values.tolist() == [[3.5, 4.5]]
    assert reading.logged(reading.inputs([tmp_path]), "unknown") == {}
