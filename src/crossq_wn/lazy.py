"""JAX, optax and what only clusters need, loaded on first use.

Loading them takes seconds, and settings, help texts and error messages do not need them. With

    from crossq_wn.lazy import jax, jnp, optax

a file that uses them only inside functions costs nothing to import.
"""

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Of extras, which may be missing.
    fsspec: Any
    optuna: Any
    ray: Any
    submitit: Any
    import jax
    import jax.numpy as jnp
    import optax
else:

    class _Lazy:
        """Stands in for a module until one of its attributes is asked for."""

        def __init__(self, name: str) -> None:
            self._name, self._module = name, None

        def __getattr__(self, attribute: str) -> Any:
            if self._module is None:  # looking it up costs microseconds, in every call of every decision
                self._module = importlib.import_module(self._name)
            return getattr(self._module, attribute)

    jax, jnp, optax = _Lazy("jax"), _Lazy("jax.numpy"), _Lazy("optax")
    fsspec, optuna = _Lazy("fsspec"), _Lazy("optuna")
    ray, submitit = _Lazy("ray"), _Lazy("submitit")


def constant(make: "Callable[[], jax.Array]") -> "Callable[[], jax.Array]":
    """Returns a function that makes an array on first use, also while something else is traced."""

    @functools.cache
    def made() -> "jax.Array":
        with jax.ensure_compile_time_eval():
            return make()

    return made


__all__ = ["constant", "fsspec", "jax", "jnp", "optax", "optuna", "ray", "submitit"]
