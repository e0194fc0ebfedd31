"""How far a run has come, in a word: done, running, stopped or failed; and which of its seeds failed."""

from collections.abc import Iterable

from crossq_wn.errors import counted
from crossq_wn.results.last import Last
from crossq_wn.results.records import Input, RunRecord
from crossq_wn.runs import leases
from crossq_wn.runs.manifests import trained_frames


def standing(run: RunRecord, last: Last) -> str:
    """Says where a run stands; of several seeds it names the number that failed.

    Args:
        run: which one.
        last: its last evaluation, which is all that a run has to show that is done.
    """
    seeds, frames = run.planned
    if last.scored == len(seeds) and last.frames + run.action_repeat > frames:
        return "done"
    if leases.alive(run.path, leases.seen(run.path)):
        return "running"
    failed = len(run.failed)
    trained = trained_frames(run.path / "checkpoints")
    if failed == len(seeds) or (not trained and run.failed_early):
        return "failed"
    state = "done" if trained + run.action_repeat > frames else "stopped"
    return f"{state}, {failed} of {counted(len(seeds), 'seed')} failed" if failed else state


def failures(inputs: Iterable[Input]) -> list[str]:
    """Returns a line on each seed of these runs that failed, with the cause and how to go on."""
    lines = []
    for run in inputs:
        for seed, entry in run.failed.items() if isinstance(run, RunRecord) else ():
            told = f"seed {seed} of {run.path} failed"
            if entry.get("updates") is None:
                lines.append(f"{told}: {entry['reason']}")
            else:
                way_on = f"once that is mended, `crossq-wn resume {run.path}` trains it on"
                lines.append(f"{told} at {entry['good'] or 0:,} frames: {entry['reason']}; {way_on}")
    return lines
