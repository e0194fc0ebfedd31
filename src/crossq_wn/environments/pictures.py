"""Whether one of Gymnasium's environments can be drawn, as far as that is known before it is."""

import dis
import importlib.util
from typing import Any


def why_none(kind: Any, base: Any) -> str:
    """Why no pictures can be made of environments, and the fix; empty if nothing speaks against them.

    Args:
        kind: their class.
        base: `gymnasium.Env`, whose `render` draws nothing.
    """
    render = kind.render
    if render is base.render:
        return "has no method `render`: give it one"
    for module in _needed(render):
        if importlib.util.find_spec(module) is None:
            return f"cannot be drawn without {module}, which is not installed: install it"
    return ""


def _needed(render: Any) -> list[str]:
    """The packages without which a method raises Gymnasium's `DependencyNotInstalled`."""
    code = getattr(render, "__code__", None)
    if code is None or "DependencyNotInstalled" not in code.co_names:
        return []
    imported = [each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"]
    return list(dict.fromkeys(name.partition(".")[0] for name in imported if name))
