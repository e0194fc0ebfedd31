"""What a run's config.json chooses, as a start for a new run."""

from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.algorithms.settings import setting_names, values_of, without_effect
from crossq_wn.errors import UserError, explained, one_line, option
from crossq_wn.files import MOST_JSON
from crossq_wn.runs.checks import check
from crossq_wn.runs.config import DAMAGED, SCHEMA, RunConfig, preset_settings, with_algorithm
from crossq_wn.runs.migration import migrate
from crossq_wn.runs.options import unusual
from crossq_wn.runs.schema import ConfigFile, Count
from crossq_wn.runs.trust import require_algorithm, require_task


def read_choices(file: Path, *, trust: bool) -> dict[str, Any]:
    """Reads what a config.json chooses, in terms of `training.api.configure`.

    Its checksum is not asked for: a file that somebody has edited is a fine start. The W&B project is left
    out, because a file must not decide what is sent where.

    Args:
        file: config.json, under whatever name, or the directory of its run.
        trust: whether modules that it names, and that the user has not trained with, may be imported.

    Returns:
        Task, algorithm and preset, and the run options and hyperparameters that are not as usual, by name,
        but for those that had no effect in that run.

    Raises:
        UserError: it cannot be read, or names modules that are not trusted.
    """
    config = _read(file / "config.json" if file.is_dir() else file)
    require_algorithm(config, file, trust=trust)
    require_task(config, file, trust=trust, task=None)
    config = with_algorithm(config)
    left_out = {"wandb"} | without_effect(config.options).keys() | without_effect(config.settings).keys()
    chosen = unusual(config.options) | _unusual_settings(config)
    return {
        "task": config.task,
        "algorithm": config.system.algorithm,
        "preset": config.system.preset,
        **{name: value for name, value in chosen.items() if name not in left_out},
    }


def _read(file: Path) -> RunConfig:
    try:
        values = files.read_json(file, MOST_JSON)
        if not isinstance(values, dict):
            raise UserError("it holds no record")
        check(values["schema"], Count, "schema")
        if values["schema"] > SCHEMA:
            raise UserError(
                f"it has run schema {values['schema']}, this version reads up to {SCHEMA}: upgrade crossq-wn"
            )
        known = migrate(values)
        check(known, ConfigFile, "")
        return RunConfig.from_json(known)
    except DAMAGED as error:  # UserError is among these
        why = explained(error) if isinstance(error, OSError) else one_line(error)
        raise UserError(f"{option('config', str(file))} is no run's config.json: {why}") from None


def _unusual_settings(config: RunConfig) -> dict[str, Any]:
    """The hyperparameters that the preset does not give; those that follow from the run's length stay out."""
    usual = preset_settings(config.system.algorithm, config.system.preset)
    changes = {"utd": config.settings.utd} | dict(config.system.changes)
    chosen = {name: changes[name] for name in setting_names(type(usual)) if name in changes}
    resolved = values_of(type(usual)(**values_of(usual) | chosen).for_run(config.decisions))
    since = {}  # what the preset said when the run was made, and says no more
    for name, value in values_of(config.settings).items():
        if name not in chosen and value != resolved[name]:
            since[name] = value
    return {name: value for name, value in (chosen | since).items() if value != getattr(usual, name)}
