"""The work of a program, counted in its jaxpr: matrix products, and everything else."""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.types import Algorithm, Batch, Sampling, Spec

_PLAIN = Sampling()

Program = Any  # as `jax.make_jaxpr` returns it


class Product(NamedTuple):
    """A kind of matrix product: its operands' shapes, and what axes `lax.dot_general` sums and batches."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    dimensions: Any

    @property
    def multiply_adds(self) -> int:
        """The number of multiplications, each of which comes with an addition."""
        (contracted, _), (batched, _) = self.dimensions
        shared = [self.left[axis] for axis in (*contracted, *batched)]
        return int(math.prod(self.left) * math.prod(self.right) // math.prod(shared))


class Work(NamedTuple):
    """What a program computes in each call."""

    products: dict[Product, float]  # how often each is computed
    operations: float  # number of other operations
    elements: float  # numbers that the other operations produce

    @property
    def multiply_adds(self) -> float:
        """The multiply-adds of all matrix products."""
        return sum(times * product.multiply_adds for product, times in self.products.items())


def work(program: Callable[..., Any], *arguments: Any) -> Work:
    """Counts what a program computes for arguments of these shapes; nothing is compiled or run.

    Args:
        program: a function that JAX can trace.
        arguments: arrays, or trees of arrays or `jax.ShapeDtypeStruct`.
    """
    return counted(jax.make_jaxpr(program)(*arguments))


def counted(program: Program, branch: float = 1.0) -> Work:
    """Counts what a traced program computes.

    Args:
        program: as JAX traced it.
        branch: the fraction of calls in which each branch of a condition runs.
    """
    products: dict[Product, float] = defaultdict(float)
    operations = elements = 0.0
    for equation, times in _equations(program.jaxpr, branch):
        if equation.primitive.name == "dot_general":
            left, right = (variable.aval.shape for variable in equation.invars)
            products[Product(left, right, equation.params["dimension_numbers"])] += times
        else:
            operations += times
            elements += times * sum(math.prod(variable.aval.shape) for variable in equation.outvars)
    return Work(dict(products), operations, elements)


def work_of_update(algorithm: Algorithm, spec: Spec, batch_size: int) -> Work:
    """Counts one gradient update of one seed.

    Conditions are taken to be policy delays, so each branch counts once per `algorithm.period` updates.

    Args:
        algorithm: any, also a user's own.
        spec: the problem.
        batch_size: samples per minibatch.
    """
    return counted(update_program(algorithm, spec, batch_size), 1 / algorithm.period)


def update_program(algorithm: Algorithm, spec: Spec, batch_size: int) -> Program:
    """Traces one gradient update of one seed; takes what `work_of_update` does."""
    batch = minibatch_shapes(algorithm, spec, batch_size)
    return jax.make_jaxpr(algorithm.update)(state_shapes(algorithm), batch, np.int32(0))


def work_of_decision(algorithm: Algorithm, spec: Spec) -> Work:
    """Counts the choice of one training action of one seed, with planning where there is any.

    Args:
        algorithm: any, also a user's own.
        spec: the problem.
    """
    observation = np.zeros(spec.observation_size, np.float32)
    return work(algorithm.explore, state_shapes(algorithm), algorithm.memory, observation, np.int32(0))


def batch_shapes(spec: Spec, *shape: int, sampling: Sampling = _PLAIN) -> Batch:
    """The shapes of samples, of which none is drawn.

    Args:
        spec: the problem.
        shape: the leading axes, before that of a horizon above 1.
        sampling: what a sample is.
    """
    if sampling.horizon > 1:
        shape = (*shape, sampling.horizon)

    def of(*last: int) -> Any:
        return jax.ShapeDtypeStruct((*shape, *last), np.float32)  # type: ignore[no-untyped-call]

    seen = of(spec.observation_size)
    return Batch(seen, of(spec.action_size), of(), of(), seen, of() if sampling.ends_early else None)


def minibatch_shapes(algorithm: Algorithm, spec: Spec, batch_size: int) -> Batch:
    """The shapes of a minibatch: [batch_size, ...], or [batch_size, horizon, ...] where there is one.

    Args:
        algorithm: decides how many transitions a sample has.
        spec: the problem.
        batch_size: samples per minibatch.
    """
    return batch_shapes(spec, batch_size, sampling=algorithm.sampling)


def state_shapes(algorithm: Algorithm) -> Any:
    """The shapes of one seed's state, whose values are not computed and take no memory."""
    try:
        return jax.eval_shape(lambda: algorithm.init(ShapesOnly()))
    except jax.errors.JAXTypeError:  # an algorithm of the user's computes with its kernels on the host
        return jax.eval_shape(lambda: algorithm.init(np.random.default_rng(0)))


def _equations(jaxpr: Any, branch: float) -> Iterator[tuple[Any, float]]:
    """Every equation of a jaxpr and of the jaxprs inside it, with the number of times that it runs."""
    for equation in jaxpr.eqns:
        inner = inner_jaxprs(equation)
        if not inner:  # an equation with jaxprs inside does its work in these
            yield equation, 1.0
        name = equation.primitive.name
        times = {"cond": branch, "scan": equation.params.get("length", 1)}.get(name, 1)
        for each in inner:
            for found, count in _equations(each, branch):
                yield found, times * count


def inner_jaxprs(equation: Any) -> list[Any]:
    """The jaxprs that an equation runs, such as a loop's body or the branches of a condition."""
    parameters = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)
    return [getattr(each, "jaxpr", each) for each in parameters if _is_jaxpr(each)]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
