"""The sources of Gymnasium environments: ids, `module:factory`, and a user's own classes and functions."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from crossq_wn.environments.streams import watch
from crossq_wn.errors import UserError, one_line, raised
from crossq_wn.own_modules import found_in, import_user_module, unknown_task

gymnasium.logger.min_level = gymnasium.logger.ERROR

_GIVE_IT = (
    "give it again from Python, as in crossq_wn.resume(run, task=...) or crossq_wn.load(run).evaluate(...)"
)
_INSTALLED = ("gymnasium.envs.mujoco.", "gymnasium.envs.classic_control.")  # with this package


def from_id(name: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Makes a registered Gymnasium environment.

    Args:
        name: its id.
        options: further arguments of `gymnasium.make`.

    Raises:
        UserError: the id is unknown (the message suggests the nearest), or Gymnasium cannot make it.
    """
    try:
        entry = gymnasium.registry[name].entry_point if name in gymnasium.registry else None
        if entry is not None:
            watch(load_env_creator(entry) if isinstance(entry, str) else entry)
        return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.UnregisteredEnv:
        raise unknown_task(name, _usable_ids()) from None
    except Exception as error:  # whatever the environment raises
        raise UserError(f"Gymnasium cannot make {name!r}: {one_line(error)}") from None


def _usable_ids() -> list[str]:
    """The registered ids whose environments can be made here, as far as their registration shows."""
    found = []
    for name, registered in gymnasium.registry.items():
        entry = registered.entry_point
        place = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
        # Of Gymnasium's own, old versions only raise an error, and other groups need further packages.
        if not place.startswith("gymnasium.") or place.startswith(_INSTALLED):
            found.append(str(name))
    return found


def from_factory(path: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Makes the environment that `module:factory` returns, or that `module:Env-v0` registers.

    Args:
        path: the module, which may be in the current directory, and the name of a class or function in it, or
            an id that it registers on import, in the form that `gymnasium.make` takes.
        options: further arguments of `gymnasium.make`; a factory gets only the render mode.

    Raises:
        UserError: the module cannot be imported or has no such name, or for the reasons of `from_callable`.
    """
    module_name, _, attribute = path.partition(":")
    if module_name == "__main__":
        raise UserError(
            f"{path!r} was defined at a prompt, in a notebook, or in a script that cannot be imported by its "
            f"name: {_GIVE_IT}, or put it into a module and train there"
        )
    value = import_user_module(path, f"the task {path!r}")
    if re.search(r"-v\d+$", attribute):
        return from_id(attribute, **options)
    if attribute.endswith("()") and attribute[:-2].isidentifier():
        raise UserError(f"the task {path!r} is named without brackets: {path[:-2]}")
    if "(" in attribute or "<locals>" in attribute:
        raise UserError(
            f"the task {path!r} was given as a callable, which its name alone cannot restore: {_GIVE_IT}"
        )
    factory = found_in(value, path, f"the task is {path!r}")
    return from_callable(factory, path, render="render_mode" in options)


def from_callable(factory: Callable[..., Any], name: str, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """Makes the environment that a class or a function without arguments returns.

    Args:
        factory: the class or function.
        name: its name in messages.
        render: whether pictures will be made; a parameter `render_mode` then gets "rgb_array".

    Raises:
        UserError: it cannot be called, it raised an exception, or it returned something else.
    """
    if not callable(factory):
        raise UserError(f"the task {name!r} is neither a class nor a function that makes a gymnasium.Env")
    watch(factory)
    try:
        environment = factory(**_render_mode(factory)) if render else factory()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        how = "; it is called without arguments" if isinstance(error, TypeError) else ""
        raise UserError(f"{name!r} raised {raised(error)}{how}") from None
    if not isinstance(environment, gymnasium.Env):
        raise UserError(f"{name!r} returned a {type(environment).__name__}, not a gymnasium.Env")
    return environment


def _render_mode(factory: Callable[..., Any]) -> dict[str, str]:
    try:
        wanted = "render_mode" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        wanted = False
    return {"render_mode": "rgb_array"} if wanted else {}
