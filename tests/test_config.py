"""The configuration: one list of options, systems as records, and runs that an older version made."""

import csv
import inspect
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest

import crossq_wn
import helpers
from crossq_wn import UserError
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.runs import directory, protocol
from crossq_wn.runs.config import (
    SCHEMA,
    RunConfig,
    extend,
    identity_of,
    read_config,
    read_json,
    system_of,
)
from crossq_wn.runs.migration import migrate
from crossq_wn.runs.options import RunOptions
from crossq_wn.runs.seals import is_sound, sealed
from crossq_wn.runs.system import System
from crossq_wn.training.api import configure
from crossq_wn.training.warmup import require_learning, tell_of_warmup
from helpers import TINY_OPTIONS, TINY_SETTINGS, call, make_run, read

OLD = helpers.TESTS / "data" / "run-schema-1"
OLD_CHANGES = {"batch_size": 8, "warmup": 20, "actor_width": 8, "critic_width": 8, "weight_norm": "none"}


@pytest.fixture
def old(tmp_path):
    """A copy of a run directory of schema 1: `helpers:PointMass`, seeds 0 and 1, 300 frames."""
    return shutil.copytree(OLD, tmp_path / "old")


# --- Options


def test_every_option_says_what_it_does_and_has_a_default():
    source = inspect.getsource(RunOptions)
    for option in fields(RunOptions):
        assert getattr(RunOptions(), option.name) == option.default
        assert f"    {option.name}: " in source
    assert source.count('"""') == 2 * (
        2 + len(fields(RunOptions))
    )  # its own docstring, its method's, and one each


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"frames": 1.5}, "frames is 1.5: it must be a whole number"),
        ({"frames": True}, "frames is True"),
        (
            {"eval_every": 0},
            "must be at least 1; 0, for no evaluations, goes with real_time",
        ),
        ({"eval_episodes": 0}, "eval_episodes is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"log_every": 0}, "log_every is 0"),
        ({"episode_frames": 0}, "episode_frames is 0"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "without repetition"),
        ({"seeds": (2**31,)}, "whole numbers from 0 to 2147483647"),
        ({"seeds": 3}, "seeds is 3"),
        ({"seeds": "01"}, "seeds is '01'"),
        ({"video": 1}, "video is 1"),
        ({"matmul_precision": "half"}, "'float32', 'tensorfloat32', 'bfloat16'"),
    ],
)
def test_an_option_outside_its_limits_is_refused(values, says):
    with pytest.raises(crossq_wn.UserError, match=says):
        RunOptions(**values)


# What came later, with what it is where a file says nothing.
LATER = {
    ("settings", "return_statistics"): "restart",
    ("options", "real_time"): None,
    ("settings", "n_step"): 1,
    ("settings", "actor_network"): None,
    ("settings", "critic_network"): None,
    ("options", "prefill"): (),
    ("options", "prefill_share"): None,
    ("options", "frame_stack"): 1,
    ("options", "normalise_observations"): False,
}


def test_a_configuration_without_a_checksum_must_be_whole(tmp_path):
    """What was written then may not be filled with defaults; what came later has its reading default."""
    run = make_run(tmp_path / "run", algorithm="xqc")
    values = json.loads((run / "config.json").read_text())
    del values["sha256"]
    for part in ("options", "settings"):
        for name in values[part]:
            left = {key: value for key, value in values[part].items() if key != name}
            (run / "config.json").write_text(json.dumps(values | {part: left}))
            if (part, name) in LATER:
                assert getattr(getattr(read_config(run), part), name) == LATER[part, name]
                continue
            with pytest.raises(crossq_wn.UserError, match=f"lacks {part}.{name} and a checksum"):
                read_config(run)
    (run / "config.json").write_text(json.dumps(values))
    assert read_config(run) == configure("cheetah-run", algorithm="xqc")


def test_a_system_is_the_same_in_whatever_order_its_changes_are_stored():
    one = System("xqc", 2, "default", (("atoms", 51), ("hidden_layers", 2)))
    other = System("xqc", 2, "default", (("hidden_layers", 2), ("atoms", 51)))
    assert (one, hash(one)) == (other, hash(other))
    assert one.label != other.label
    assert one != System("xqc", 2, "default", (("atoms", 51), ("hidden_layers", 3)))
    assert replace(one, changes=()) == System("xqc", 2)


def test_options_and_hyperparameters_are_plain_keywords():
    made = configure("cheetah-run", preset="code", eval_every=5000, utd=5, seeds=[0, 1])
    assert (made.options.eval_every, made.options.seeds, made.settings.utd) == (5000, (0, 1), 5)
    assert made.system == System("crossq-wn", 5, "code")
    assert made.settings.initial_temperature == 0.01  # the preset's


def test_a_preset_is_one_name():
    for presets in (["default", "code"], ("default", "code")):
        with pytest.raises(UserError, match=r"preset is .*: give one name, such as 'default'"):
            configure("cheetah-run", preset=presets)


@pytest.mark.parametrize(
    ("name", "meant"), [("eval_evry", "eval_every"), ("batchsize", "batch_size"), ("qbias", "q_bias")]
)
def test_an_unknown_name_is_answered_with_the_nearest_of_all(name, meant):
    with pytest.raises(crossq_wn.UserError, match=f"{name}.*did you mean '{meant}'"):
        configure("no-such-task", **{name: 1})  # found before the task is looked up


def test_the_protocol_is_resolved_from_task_options_and_settings():
    usual = configure("cheetah-run")
    assert (usual.action_repeat, usual.episode_frames, usual.discount) == (2, 1000, 0.99)
    asked = configure("cheetah-run", action_repeat=1, episode_frames=50, discount=0.9)
    assert (asked.action_repeat, asked.episode_frames, asked.discount) == (1, 50, 0.9)
    assert usual.options.episode_frames is None
    assert configure("myo-reach").discount == 0.95


@pytest.mark.parametrize(
    ("frames", "asked", "choices"),
    [
        (10_001, 5001, {}),  # 5,000 decisions
        (4000, 4000, {"action_repeat": 1}),
        (9000, 4500, {"real_time": 50}),
        (20_000, 10_001, {"algorithm": "sac"}),
    ],
)
def test_a_run_that_would_end_within_its_warm_up_is_refused_unless_it_is_asked_for(frames, asked, choices):
    said = []
    short, longer = (configure("cheetah-run", frames=many, **choices) for many in (frames, 20_002))
    tell_of_warmup(longer, said.append)
    require_learning(longer)
    assert (short.learns, longer.learns, said) == (False, True, [])
    with pytest.raises(UserError, match=rf"nothing would be learned, .* \(warmup={asked} says that random "):
        require_learning(short)
    meant = configure("cheetah-run", frames=frames, warmup=asked, **choices)
    require_learning(meant)
    tell_of_warmup(meant, said.append)
    (line,) = said
    assert line.startswith(f"nothing is learned: all {meant.decisions:,} agent decisions fall into the warm-")


def test_a_configuration_survives_its_file(tmp_path):
    made = configure("cheetah-run", algorithm="bro", seeds=(3, 1), resets=(5, 9), wandb="project")
    directory.create(made, tmp_path / "run", ["crossq-wn"]).close()
    assert read_config(tmp_path / "run") == made
    assert made.system.changes == (("resets", (5, 9)),)
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["schema"] == SCHEMA == 2
    assert written["system"] == {
        "algorithm": "bro", "preset": "default", "utd": 10, "changes": {"resets": [5, 9]},
    }  # fmt: skip
    assert written["options"].keys() == {option.name for option in fields(RunOptions)}


# --- Systems


def test_a_system_is_what_leaves_the_preset():
    settings = replace(configure("cheetah-run").settings, utd=7, tau=0.01)
    system = system_of("crossq-wn", "default", settings)
    assert system == System("crossq-wn", 7, "default", (("tau", 0.01),))
    assert system.label == "crossq-wn UTD 7 (tau=0.01)"
    assert System.from_json(json.loads(json.dumps(system.to_json()))) == system


def test_a_foreign_algorithm_is_named_without_its_module():
    assert System("my.module:layer-norm-sac", 1).label == "layer-norm-sac UTD 1"


def test_the_run_of_a_foreign_algorithm_is_identified_without_importing_it(tmp_path):
    path = make_run(tmp_path / "run")
    changed = {"algorithm": "no_such_module:mine", "changes": {"nowhere": [1, 2]}}
    helpers.alter_config(path, lambda values: values["system"].update(changed))
    helpers.alter_config(path, lambda values: values.update(settings={"utd": 2, "nowhere": [1, 2]}))
    system = System("no_such_module:mine", 2, "default", (("nowhere", (1, 2)),))
    assert identity_of(read_json(path)) == (system, "cheetah-run", "return")
    assert protocol.protocols_of(protocol.read_manifest(path), path)[0]["task"] == "cheetah-run"
    assert protocol.conflicts(protocol.read_terms([path, make_run(tmp_path / "other")])) == []
    assert read_config(path).to_json()["settings"]["nowhere"] == [1, 2]
    with pytest.raises(crossq_wn.UserError, match="cannot import 'no_such_module'"):
        crossq_wn.load(path)


# --- Settings that the length of a run decides, or that earlier versions did not know


@pytest.mark.parametrize(
    ("algorithm", "changes", "updates"),
    [
        ("xqc", {}, 1_000_000),  # 1M frames are 500,000 decisions at UTD 2
        ("xqc", {"frames": 200_000, "utd": 5, "action_repeat": 4, "warmup": 10_000}, 250_000),
        ("simba-v2", {"frames": 100_001}, 100_000),
        ("crossq-wn", {"preset": "code", "frames": 200_000}, 200_000),
        ("xqc", {"learning_rate_updates": 7}, 7),
        ("xqc", {"learning_rate_end": 1.0}, None),
        ("crossq-wn", {}, None),
    ],
)
def test_falling_learning_rates_last_as_long_as_the_run_is_started_for(algorithm, changes, updates):
    """All its decisions times its UTD ratio, with those of the warm-up, as in the authors' codes."""
    config = configure("cheetah-run", algorithm=algorithm, **changes)
    assert config.settings.learning_rate_updates == updates
    assert extend(config, 10**7).settings == config.settings  # a longer resumption stays at the end
    chosen = {name for name in changes if name in setting_names(type(config.settings))} - {"utd"}
    assert {name for name, _ in config.system.changes} == chosen  # a system is of any length
    if updates is not None:
        rate, end = config.settings.schedule(1.0), config.settings.learning_rate_end
        assert [float(rate(count)) for count in (0, updates, 10 * updates)] == pytest.approx([1, end, end])


def test_only_the_lengths_of_one_task_make_runs_of_a_falling_rate_unlike(tmp_path):
    make_run(tmp_path / "a", algorithm="xqc", frames=100_000)
    make_run(tmp_path / "b", algorithm="xqc", frames=200_000, task="walker-run")
    assert protocol.conflicts(protocol.read_terms([tmp_path])) == []
    make_run(tmp_path / "c", algorithm="xqc", frames=200_000, seed=1)
    (line,) = protocol.conflicts(protocol.read_terms([tmp_path]))
    assert "xqc UTD 2 on cheetah-run: learning_rate_updates is 100000 in" in line


@pytest.mark.parametrize(
    ("algorithm", "before"),
    [
        ("xqc", {"learning_rate_updates": 1_000_000, "return_statistics": "restart"}),
        ("simba-v2", {"learning_rate_updates": 1_000_000, "return_statistics": "restart"}),
        ("sr-sac", {"evaluate_before_reset": False}),
    ],
)
def test_what_an_earlier_version_did_is_read_where_it_wrote_nothing(algorithm, before, tmp_path):
    new, old = (make_run(tmp_path / name, algorithm=algorithm, frames=5000) for name in ("new", "old"))

    def as_before(values):
        for name in before:
            del values["settings"][name]

    helpers.alter_config(old, as_before)
    settings = read_config(old).settings
    assert {name: getattr(settings, name) for name in before} == before
    assert replace(read_config(new).settings, **before) == settings
    conflicts = protocol.conflicts(protocol.read_terms([tmp_path]))
    assert all(any(f"{name} is " in line for line in conflicts) for name in before), conflicts


def test_a_number_without_effect_does_not_tell_earlier_runs_from_new_ones(tmp_path):
    make_run(tmp_path / "new")
    old = make_run(tmp_path / "old", seed=1)
    helpers.alter_config(old, lambda values: values["settings"].update(learning_rate_updates=1_000_000))
    assert read_config(old).settings == read_config(tmp_path / "new").settings
    assert protocol.conflicts(protocol.read_terms([tmp_path])) == []


# --- Runs of schema 1


def test_a_configuration_of_schema_1_is_migrated(old):
    config = read_config(old)
    assert config.system == System("crossq-wn", 1, "default", tuple(OLD_CHANGES.items()))
    assert config.system == system_of("crossq-wn", "default", config.settings)
    assert identity_of(read_json(old)) == (config.system, "helpers:PointMass", "return")
    expected = configure(
        helpers.PointMass, seeds=(0, 1), frames=300, **TINY_OPTIONS, **TINY_SETTINGS, weight_norm="none"
    )
    assert config == expected
    assert config.system.label == json.loads((OLD / "config.json").read_text())["system"]


def test_migrating_changes_nothing_of_the_present_schema_nor_of_its_argument(old):
    values = json.loads((OLD / "config.json").read_text())
    before = json.dumps(values)
    migrated = migrate(values)
    assert json.dumps(values) == before
    assert migrate(migrated) is migrated
    assert RunConfig.from_json(migrated).to_json() == migrated | {
        "options": migrated["options"]
        | {"seeds": (0, 1), "real_time": None, "prefill": (), "prefill_share": None}
        | {"frame_stack": 1, "normalise_observations": False},
        "prefilled": (),
        "settings": migrated["settings"]
        | {"learning_rate_updates": None, "n_step": 1, "actor_network": None, "critic_network": None},
    }


@pytest.mark.parametrize(
    ("label", "changed"),
    [
        ("crossq-wn UTD 1", ()),
        ("mine UTD 1 (norm=batch-norm)", ("norm",)),  # and not weight_norm
        ("mine UTD 1 (weight_norm=none, tau=0.005)", ("tau", "weight_norm")),
    ],
)
def test_the_changes_of_an_old_foreign_algorithm_come_from_its_label(label, changed):
    values = json.loads((OLD / "config.json").read_text())
    system = migrate(values | {"algorithm": "no_such_module:mine", "system": label})["system"]
    assert sorted(system["changes"]) == sorted(changed)
    assert system["changes"] == {name: values["settings"][name] for name in changed}


@pytest.mark.parametrize(
    "change",
    [
        {"settings": None},
        {"system": None},
        {"algorithm": None},
        {"frames": "many"},
        {"settings": {"utd": 1, "nowhere": 2}},
    ],
)
def test_a_damaged_configuration_of_schema_1_is_refused_in_one_line(change, old):
    values = json.loads((old / "config.json").read_text()) | change
    if change == {"algorithm": None}:
        del values["algorithm"]
    (old / "config.json").write_text(json.dumps(values))
    with pytest.raises(crossq_wn.UserError) as refusal:
        read_config(old)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("read", [read_config, read_json])
def test_a_newer_schema_is_refused(read, old):
    (old / "config.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(crossq_wn.UserError, match="upgrade crossq-wn"):
        read(old)


def test_a_run_of_schema_1_is_listed_reported_and_drawn(old, tmp_path):
    label = read_config(old).system.label
    listed = call("list", "runs", tmp_path, cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "helpers:PointMass" in listed.stdout
    assert list(read([old])) == [label]
    assert call("report", old, "--out", tmp_path / "report.html", cwd=tmp_path).returncode == 0
    assert "weight_norm=none" in (tmp_path / "report.html").read_text()
    drawn = call("plot", old, "--out", tmp_path / "curve", cwd=tmp_path)
    assert (drawn.returncode, drawn.stderr) == (0, "")


@pytest.mark.parametrize(("seed", "action"), [(0, [1.16710126, 0.73335135]), (1, [0.34683446, 1.29055679])])
def test_a_policy_of_schema_1_acts_as_it_did(seed, action):
    policy = crossq_wn.load(OLD, seed=seed)
    np.testing.assert_allclose(policy.act([0.1, -0.2, 0.5]), action, atol=1e-4)


def test_a_run_of_schema_1_is_resumed_and_then_has_the_present_schema(old):
    rows = (old / "eval.csv").read_text().splitlines()
    # The last evaluation belongs to the end of training and moves with it.
    before = "\n".join(row for row in rows if ",300," not in row)
    assert crossq_wn.resume(old, frames=600, trust=True).finished
    after = (old / "eval.csv").read_text()
    assert after.startswith(before)
    assert json.loads((old / "config.json").read_text())["schema"] == SCHEMA
    assert read_config(old).options.frames == 600
    last = {r["seed"]: r for r in csv.DictReader(after.splitlines()) if r["metric"] == "return"}
    assert [int(row["env_step"]) for row in last.values()] == [600, 600]
    # On the machine that recorded them; another processor's rounding leads elsewhere, but not far.
    for seed, value in (("0", -37.289), ("1", -6.440)):
        assert float(last[seed]["value"]) == pytest.approx(value, abs=15)
    assert {row["exp_name"] for row in csv.DictReader(after.splitlines())} == {read_config(old).system.label}


def test_line_ends_and_space_at_the_end_alter_nothing():
    values = {"schema": 2, "task": "dog-run"}
    text = sealed(values)
    values = json.loads(text)
    for changed in (text.replace("\n", "\r\n"), text + "\n\n", text.rstrip()):
        assert is_sound(values, changed.encode())
    assert not is_sound(values, text.replace("dog", "cat").encode())
