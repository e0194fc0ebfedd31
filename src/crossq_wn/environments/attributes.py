"""Attributes of users' objects, whose slots, properties and `__getattr__` may be anything."""

import contextlib
import inspect
import types
from collections.abc import Callable
from typing import Any

from crossq_wn.errors import UserError, raised


def attributes_of(owner: Any) -> dict[str, Any]:
    """What an object keeps in its `__dict__` and in the `__slots__` of its classes, by name."""
    found: dict[str, Any] = {}
    with contextlib.suppress(AttributeError):  # of objects that have slots alone
        found.update(object.__getattribute__(owner, "__dict__"))
    for cls in type(owner).__mro__:
        for name, member in vars(cls).items() if "__slots__" in vars(cls) else ():
            if type(member) is types.MemberDescriptorType:  # not asking an object whether it poses as one
                try:
                    found[name] = member.__get__(owner)
                except AttributeError:  # not assigned
                    continue
    return found


def attribute(owner: Any, name: str, what: str, default: Any = None) -> Any:
    """An attribute of an object, whether it is its own, a property, or found by its `__getattr__`.

    Args:
        owner: the object.
        name: of the attribute.
        what: the owner's name in messages.
        default: what to return if there is none.

    Raises:
        UserError: what should provide it raised an exception.
    """
    there = inspect.getattr_static(owner, name, None)
    try:
        return getattr(owner, name)
    except (AttributeError, LookupError) as error:  # LookupError: of dicts that give items as attributes
        if there is None or isinstance(there, types.MemberDescriptorType):  # a slot that is not assigned
            return default
        failure: Exception = error
    except Exception as error:  # a user's code may raise anything
        failure = error
    raise UserError(f"{what}.{name} raised {raised(failure)}") from failure


def attribute_by_now(owner: Any, name: str, what: str, default: Any = None) -> Any:
    """As `attribute`; a property that raises AttributeError is not there yet, as before the first reset."""
    try:
        return getattr(owner, name, default)
    except Exception:  # a user's code may raise anything
        return attribute(owner, name, what, default)


def result_of(method: Callable[..., Any], what: str, *arguments: Any) -> Any:
    """What a method of a user's returns.

    Args:
        method: which is called.
        what: its name in messages.
        arguments: of it.

    Raises:
        UserError: it raised an exception.
    """
    try:
        return method(*arguments)
    except Exception as error:  # a user's code may raise anything
        raise UserError(f"{what} raised {raised(error)}") from error


def written_by_user(simulator: Any) -> Any:
    """What of a simulator a user may have written: the environment that it adapts, or else itself."""
    return getattr(simulator, "_environment", simulator)
