"""The command `completion`: a shell's script that completes commands, options, tasks and files.

The script holds every name, so completing starts no Python. It is made of what the parsers declare.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import shtab

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.environments import SUITES

_SHELLS = ("bash", "zsh", "fish")


class _DeclaredError(Exception):
    """Ends a command once its parser knows its arguments."""


class _Declaring(Parser):
    """A parser that only learns its arguments."""

    def parse_args(self, args: Sequence[str], namespace: None = None) -> Never:  # type: ignore[override]
        raise _DeclaredError


def completion(parser: Parser, arguments: list[str]) -> int:
    """Runs `completion`: prints the script for a shell."""
    parser.add_argument("shell", choices=_SHELLS, help="the shell that it is for")
    parser.epilog = (
        'bash: eval "$(crossq-wn completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, below compinit; '
        "fish: crossq-wn completion fish > ~/.config/fish/completions/crossq-wn.fish"
    )
    parsed = parser.parse_args(arguments)
    print(shtab.complete(whole_parser(), parsed.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Makes one parser of all commands, with names to complete in place of checks of values."""
    whole = argparse.ArgumentParser(prog="crossq-wn")
    commands = whole.add_subparsers()
    for verb, (_, summary) in VERBS.items():
        made = commands.add_parser(verb, help=summary, conflict_handler="resolve", add_help=False)
        # Which hyperparameters `train` and `bench` have depends on the algorithm: all of them are completed.
        algorithms: Sequence[str] = tuple(ALGORITHMS) if verb in ("train", "bench") else ("",)
        for algorithm in algorithms:
            _copy(declared(verb, algorithm)._actions, made)
    return whole


def declared(verb: str, algorithm: str = "") -> argparse.ArgumentParser:
    """A command's own parser, with all its arguments.

    Args:
        verb: the command.
        algorithm: whose hyperparameters it has; by default those of CrossQ + WN.
    """
    module, function = VERBS[verb][0].split(":")
    perform = getattr(importlib.import_module(f"crossq_wn.cli.{module}"), function)
    parser = _Declaring(verb)
    try:
        perform(parser, ["--algorithm", algorithm] if algorithm else [])
    except _DeclaredError:
        return parser
    # Every command parses its arguments before it does anything else.
    raise AssertionError(f"{verb} parses no arguments")


def _copy(actions: Sequence[argparse.Action], parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that a parser lacks, each with what completes it."""
    there = {action.dest for action in parser._actions}
    for action in actions:
        if action.dest not in there:
            # For the shell alone: this parser never parses anything.
            action.choices = _names(action)
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            parser._add_action(action)


def _names(action: argparse.Action) -> list[str] | None:
    """The values that an argument is known to take, if they can be listed."""
    if action.dest in _LISTS:
        return _LISTS[action.dest]()
    if isinstance(action.metavar, str) and action.metavar.startswith("{"):
        return action.metavar.strip("{}").split(",")
    return None if action.choices is None else [str(choice) for choice in action.choices]


def _tasks() -> list[str]:
    found: list[str] = []
    for suite in SUITES.values():
        found += map(suite.full_name, suite.tasks)
    return found


def _presets() -> list[str]:
    found: set[str] = set()
    for recipe in ALGORITHMS.values():
        found |= set(recipe.presets)
    return sorted(found)


_LISTS = {"task": _tasks, "algorithm": lambda: list(ALGORITHMS), "preset": _presets}
