"""A user's own networks: functions that make the actor, or one critic, of any soft actor-critic.

Such a function takes the problem, the settings and the number of outputs, and returns a `Layer`:

    def critic(spec, settings, outputs):
        return serial(batch_norm(), dense(settings.critic_width), relu(), dense(outputs))

Settings hold its name, `module:name`, to which `pinned` adds a checksum of its source, as in
`my_nets:critic@1f0c2a9b`: networks of different code are different systems.
"""

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from crossq_wn.algorithms.sources import checksum_of_source, without_checksum
from crossq_wn.errors import UserError, option, raised
from crossq_wn.naming import name_of
from crossq_wn.nets.checking import checked
from crossq_wn.nets.layer import Layer
from crossq_wn.own_modules import found_in, import_user_module
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
    if importable:
        _given.pop(name, None)  # after a reload, of the module's former function
    else:
        _given[name] = value
    return name


def give(functions: Make | Iterable[Make]) -> None:
    """Remembers functions that runs may name, where their names alone cannot restore them.

    Args:
        functions: one, or several. A function of a module also counts as that of a script, because a script
            that trained it called it `__main__:critic`; its checksum says whether it is the same.

    Raises:
        UserError: something else is among them, or nothing distinguishes a function from others.
    """
    if callable(functions):
        functions = [functions]
    if isinstance(functions, str) or not isinstance(functions, Iterable):
        raise UserError(f"networks is {functions!r}: give the functions that make networks, as in [critic]")
    for function in functions:
        if not callable(function):
            raise UserError(f"networks holds {function!r}: give the functions that make networks")
        name = named("networks", function) or ""
        module = re.escape(name.partition(":")[0])
        _given[re.sub(rf"(?<![\w.]){module}:", "__main__:", name)] = function


def is_given(name: str) -> bool:
    """Whether this process was given a network's function, so that nothing has to be imported for it."""
    return without_checksum(name) in _given


def pinned(name: str, setting: str) -> str:
    """A network's name with the checksum of its present source; imports a user's module.

    Args:
        name: with or without a checksum.
        setting: that holds it, for messages.

    Raises:
        UserError: there is no such function.
    """
    name = without_checksum(name)
    function = _function(name, setting)
    checksum = checksum_of_source(function, None if name in _given else name)
    return name if checksum is None else f"{name}@{checksum}"


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
    function, told = _function(name, setting), f"{option(setting)} {without_checksum(name)}"
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


def _function(name: str, setting: str) -> Make:
    name = without_checksum(name)
    if name in _given:
        return _given[name]
    module, _, attribute = name.partition(":")
    written = all(map(str.isidentifier, attribute.split(".")))
    if not written and not re.search("[(<]", attribute):  # unlike the names that `named` makes
        raise UserError(
            f"{option(setting)} is {name!r}: no function can be called {attribute!r}; give the name of one "
            "as module:name"
        )
    if module == "__main__" or not written:
        raise UserError(
            f"{option(setting)} is {name!r}, a function which its name alone cannot restore: give it again "
            "from Python, as in crossq_wn.load(run, networks=[...]) or, to export, "
            "crossq_wn.export.api.export(run, networks=[...])"
        )
    value = found_in(
        import_user_module(name, f"{option(setting)} {name}"), name, f"{option(setting)} is {name!r}"
    )
    if not callable(value):
        raise UserError(f"{option(setting)} is {name!r}, which is no function")
    function: Make = value
    return function
