"""JAX and optax, loaded on first use.

Loading them takes seconds, and settings, help texts and error messages do not need them. With

    from crossq_wn.lazy import jax, jnp, optax

a file that uses them only inside functions costs nothing to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
else:

    class _Lazy:
        """Stands in for a module until one of its attributes is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    jax, jnp, optax = _Lazy("jax"), _Lazy("jax.numpy"), _Lazy("optax")

__all__ = ["jax", "jnp", "optax"]
