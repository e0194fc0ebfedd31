"""A user's own networks: functions that make the actor, or one critic, of any soft actor-critic.

Such a function takes the problem, the settings and the number of outputs, and returns a `Layer`:

    def critic(spec, settings, outputs):
        return serial(batch_norm(), dense(settings.critic_width), relu(), dense(outputs))

Settings hold its name, `module:name`, to which `pinned` adds a checksum of its source, as in
`my_nets:critic@1f0c2a9b`: networks of different code are different systems.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from crossq_wn.algorithms.sources import checksum_of_source
from crossq_wn.environments.naming import name_of
from crossq_wn.errors import UserError, import_user_module, nearest, option, raised
from crossq_wn.nets.checking import checked
from crossq_wn.nets.layer import Layer
from crossq_wn.types import Spec

NAMES = ("actor_network", "critic_network")  # the settings that hold a name

Make = Callable[[Spec, Any, int], Layer]  # (problem, settings, outputs)

_given: dict[str, Make] = {}  # functions that this process was given and cannot import, by name


def named(setting: str, value: Any) -> str | None:
    """The name of a network.

    Args:
        setting: of `NAMES`, for messages.
        value: None, a name, or the function itself, which is remembered where no module has it.

    Raises:
        UserError: it is neither, or nothing distinguishes the function from others.
    """
    if value is None or (isinstance(value, str) and all(value.partition(":"))):
        return value
    if isinstance(value, str) or not callable(value):
        raise UserError(
            f"{option(setting)} is {value!r}: give the name of a function as module:name "
            "(docs/your-own-network.md)"
        )
    try:
        name = name_of(value)
    except UserError:
        raise UserError(
            f"{option(setting)} is {value!r}, which has no name that distinguishes it from others: use a "
            "function made with def"
        ) from None
    module, _, attribute = name.partition(":")
    importable = module != "__main__" and getattr(sys.modules.get(module), attribute, None) is value
    if not importable:
        _given[name] = value
    return name


def give(functions: Iterable[Any]) -> None:
    """Remembers functions that runs may name, where their names alone cannot restore them."""
    for function in functions:
        if not callable(function):
            raise UserError(f"networks holds {function!r}: give the functions that make networks")
        named("networks", function)


def is_given(name: str) -> bool:
    """Whether this process was given a network's function, so that nothing has to be imported for it."""
    return _bare(name) in _given


def pinned(name: str, setting: str) -> str:
    """A network's name with the checksum of its present source; imports a user's module.

    Args:
        name: with or without a checksum.
        setting: that holds it, for messages.

    Raises:
        UserError: there is no such function.
    """
    checksum = checksum_of_source(_function(name, setting))
    return _bare(name) if checksum is None else f"{_bare(name)}@{checksum}"


def own_network(setting: str, spec: Spec, settings: Any, n_out: int) -> Layer | None:
    """Makes a user's network, whose `init` checks that it is sound; None if none is chosen.

    Args:
        setting: of `NAMES`.
        spec: the problem.
        settings: of the algorithm.
        n_out: number of output features that it must have.

    Raises:
        UserError: there is no such function, it raised an exception, or it returned something else.
    """
    name = getattr(settings, setting)
    if name is None:
        return None
    function, told = _function(name, setting), f"{option(setting)} {_bare(name)}"
    try:
        made = function(spec, settings, n_out)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        how = "; it is called with (spec, settings, outputs)" if isinstance(error, TypeError) else ""
        raise UserError(f"{told} raised {raised(error)}{how}") from error
    if not isinstance(made, Layer):
        raise UserError(f"{told} returned a {type(made).__name__}, not a crossq_wn.nets.layer.Layer")
    return checked(made, told, n_out, settings.batch_size)


def _bare(name: str) -> str:
    """A network's name without the checksum."""
    return name.partition("@")[0]


def _function(name: str, setting: str) -> Make:
    name = _bare(name)
    if name in _given:
        return _given[name]
    module, _, attribute = name.partition(":")
    if module == "__main__" or not attribute.replace(".", "").isidentifier():
        raise UserError(
            f"{option(setting)} is {name!r}, a function which its name alone cannot restore: give it again "
            "from Python, as in crossq_wn.load(run, networks=[...])"
        )
    value = import_user_module(module, f"{option(setting)} {name}")
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [each for each in dir(value) if not each.startswith("_")]
            raise UserError(
                f"{option(setting)} is {name!r}: {module!r} has no {part!r}; {nearest(part, known)}"
            )
        value = getattr(value, part)
    if not callable(value):
        raise UserError(f"{option(setting)} is {name!r}, which is no function")
    function: Make = value
    return function
