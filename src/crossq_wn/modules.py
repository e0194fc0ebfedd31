"""How are a user's own modules found? By name, also in the current directory."""

import importlib
import os
import sys
from typing import Any

from crossq_wn.errors import UserError


def import_user_module(name: str, wanted: str) -> Any:
    """A module that may lie in the current directory.

    Args:
        name: of the module.
        wanted: what it is imported for, in words.

    Raises:
        UserError: it cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's module raises
        raise UserError(f"cannot import {name!r} for {wanted}: {type(error).__name__}: {error}") from None
