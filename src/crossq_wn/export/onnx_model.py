"""The export to ONNX: the same description of the network as a graph, for onnxruntime and its like.

Inputs are the parts of an observation, each with a leading axis of any length. Outputs are the deterministic
`action` in the environment's units, and `mean` and `log_std` of the Gaussian before the tanh, from which
random actions can be drawn. A model cannot raise an error, so the last one, `sound` [batch, 1], says whether
observation and action are finite; where they are not, `mean`, `log_std` and an action of floats are NaN.

A model that acts on several observations at once has an input `stack`, the earlier ones, [batch, frames - 1,
observation_size], and an output `next_stack`, which is its `stack` at the next decision. Where `begin`
[batch, 1] is true, an episode begins, and `stack` does not count. Where `sound` is false, `next_stack` is
`stack`, so that the observation leaves no trace.
"""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting.interface import Interface
from crossq_wn.acting.operations import Network, Op
from crossq_wn.errors import UserError, option
from crossq_wn.export.onnx_graph import Graph
from crossq_wn.installation import install_command
from crossq_wn.runs.checksums import checksum_of

_OPSET = 17  # the first with LayerNormalization; onnxruntime reads it since 1.13
_IR = 8  # the file format of that time
_BATCH = "batch"


def require_extras() -> None:
    """Raises UserError, which names the fix, unless onnx and onnxruntime can be imported."""
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"{option('to', 'onnx')} needs {name} ({error}): install it with {install_command('onnx')}"
            ) from None


# Operations


def _dense(graph: Graph, op: Op, x: str) -> str:
    kernel, bias = (graph.constant(op.arrays[name]) for name in ("kernel", "bias"))
    return graph.node("Gemm", x, kernel, bias)


def _affine(graph: Graph, op: Op, x: str) -> str:
    for name, kind in (("shift", "Sub"), ("scale", "Mul"), ("bias", "Add")):
        if name in op.arrays:
            x = graph.node(kind, x, graph.constant(op.arrays[name]))
    return x


def _layer_norm(graph: Graph, op: Op, x: str) -> str:
    scale, bias = (graph.constant(op.arrays[name]) for name in ("scale", "bias"))
    return graph.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=op.numbers["epsilon"])


def _unit_length(graph: Graph, op: Op, x: str) -> str:
    square = graph.node("ReduceSumSquare", x, axes=[-1], keepdims=1)
    shifted = graph.node("Add", square, graph.constant(op.numbers["epsilon"]))
    return graph.node("Div", x, graph.node("Sqrt", shifted))


def _append(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Pad", x, graph.constant([0, 0, 0, 1], np.int64), graph.constant(op.numbers["value"]))


def _group_softmax(graph: Graph, op: Op, x: str) -> str:
    # 0 keeps the batch, and -1 is as many groups as there are.
    groups = graph.node("Reshape", x, graph.constant([0, -1, int(op.numbers["size"])], np.int64))
    return graph.node("Reshape", graph.node("Softmax", groups, axis=-1), graph.constant([0, -1], np.int64))


def _relu(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Relu", x)


def _elu(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Elu", x)


def _mish(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Mul", x, graph.node("Tanh", graph.node("Softplus", x)))


def _residual(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Add", x, add(graph, op.inner[0], x))


def _towards(graph: Graph, op: Op, x: str) -> str:
    proposal, rate = op.inner
    step = add(graph, rate, graph.node("Sub", add(graph, proposal, x), x))
    return graph.node("Add", x, step)


def _side_by_side(graph: Graph, op: Op, x: str) -> str:
    return graph.node("Concat", *(add(graph, inner, x) for inner in op.inner), axis=-1)


# By the kind of operation, as in `acting.operations`: (graph, operation, name of its input) -> of its output.
KINDS: dict[str, Callable[[Graph, Op, str], str]] = {
    "dense": _dense,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "unit_length": _unit_length,
    "append": _append,
    "group_softmax": _group_softmax,
    "relu": _relu,
    "elu": _elu,
    "mish": _mish,
    "residual": _residual,
    "towards": _towards,
    "side_by_side": _side_by_side,
}


def add(graph: Graph, operations: Sequence[Op], x: str) -> str:
    """Adds operations, one after the other.

    Args:
        graph: grows by their nodes.
        operations: as in `acting.operations`.
        x: the name of the value that the first one takes, [batch, n].

    Returns:
        The name of the last one's output.
    """
    for op in operations:
        x = KINDS[op.kind](graph, op, x)
    return x


# Inputs and outputs


def _stacked(graph: Graph, newest: str, size: int, frames: int) -> str:
    """The newest observations behind each other, [batch, frames * size], of which `stack` has all but one."""
    before = _flat_stack(graph, size, frames)
    first = graph.node("Concat", *[newest] * (frames - 1), axis=-1)
    return graph.node("Concat", graph.node("Where", "begin", first, before), newest, axis=-1)


def _flat_stack(graph: Graph, size: int, frames: int) -> str:
    return graph.node("Reshape", "stack", graph.constant([-1, (frames - 1) * size], np.int64))


def _remembered(graph: Graph, stacked: str, size: int, frames: int) -> None:
    """Adds the output `next_stack`."""
    # Start, end and axis of what stays when the oldest observation is dropped.
    bounds = (graph.constant([value], np.int64) for value in (size, frames * size, 1))
    later = graph.node("Slice", stacked, *bounds)
    kept = graph.node("Where", "sound", later, _flat_stack(graph, size, frames))
    graph.node("Reshape", kept, graph.constant([-1, frames - 1, size], np.int64), name="next_stack")


def _flattened(graph: Graph, parts: Sequence[dict[str, Any]]) -> str:
    """The parts of an observation, one after the other, as [batch, observation_size]."""
    flat = []
    for part in parts:
        flat.append(graph.node("Reshape", part["name"], graph.constant([-1, _size(part)], np.int64)))
    return flat[0] if len(flat) == 1 else graph.node("Concat", *flat, axis=-1)


def _size(part: dict[str, Any]) -> int:
    return int(np.prod(part["shape"], dtype=int))


def _gaussian(graph: Graph, network: Network, chosen: str, seen: str, action_size: int) -> None:
    """Adds the outputs `sound`, `mean` and `log_std`."""
    sizes = graph.constant([action_size, action_size], np.int64)
    graph.nodes.append(graph._onnx.helper.make_node("Split", [chosen, sizes], ["centre", "x"], axis=-1))
    low, high = network.log_std_min, network.log_std_max
    if network.log_std == "clip":
        spread = graph.node("Clip", "x", graph.constant(low), graph.constant(high))
    else:
        share = graph.node("Add", graph.node("Tanh", "x"), graph.constant(1.0))
        width = graph.node("Mul", share, graph.constant(0.5 * (high - low)))
        spread = graph.node("Add", width, graph.constant(low))
    graph.node("And", _finite(graph, seen), _finite(graph, "centre"), name="sound")
    # Rectifiers may make an ordinary number of an infinite one.
    for value, name in (("centre", "mean"), (spread, "log_std")):
        graph.node("Where", "sound", value, graph.constant(np.nan), name=name)


def _finite(graph: Graph, values: str) -> str:
    """Whether all numbers of a row [batch, n] are finite, as bool [batch, 1]."""
    wrong = graph.node("Or", graph.node("IsNaN", values), graph.node("IsInf", values))
    counted = graph.node("Cast", wrong, to=graph._onnx.TensorProto.FLOAT)
    most = graph.node("ReduceMax", counted, axes=[-1], keepdims=1)
    return graph.node("Not", graph.node("Cast", most, to=graph._onnx.TensorProto.BOOL))


def _in_units(graph: Graph, interface: Interface, kind: Any) -> None:
    """Adds the output `action`: what `acting.interface.in_units` makes of tanh(mean), in float64 as there."""
    double = graph._onnx.TensorProto.DOUBLE
    low, high = interface.low.ravel(), interface.high.ravel()
    wide = graph.node("Cast", graph.node("Tanh", "mean"), to=double)
    one, half = graph.constant(1.0, np.float64), graph.constant(0.5, np.float64)
    share = graph.node("Mul", graph.node("Add", wide, one), half)
    whole = interface.dtype.kind != "f"
    width = graph.constant(high - low + whole, np.float64)
    scaled = graph.node("Add", graph.node("Mul", share, width), graph.constant(low, np.float64))
    scaled = graph.node("Floor", scaled) if whole else scaled
    bounded = graph.node("Max", graph.node("Min", scaled, graph.constant(high, np.float64)),
                         graph.constant(low, np.float64))  # fmt: skip
    if not whole:  # operators differ in what they make of NaN, and a bound would look like an action
        bounded = graph.node("Where", "sound", bounded, graph.constant(np.nan, np.float64))
    shape = graph.constant([-1, *interface.low.shape], np.int64)
    graph.node("Cast", graph.node("Reshape", bounded, shape), to=kind, name="action")


def model_of(network: Network, interface: Interface, description: dict[str, Any]) -> Any:
    """Makes the model.

    Args:
        network: what acts.
        interface: what observations and actions are like.
        description: from `contents.description`; it names the inputs, and becomes the metadata.

    Returns:
        An `onnx.ModelProto` that onnx's own checker accepts.
    """
    onnx: Any = importlib.import_module("onnx")
    graph, parts, action_size = Graph(), description["observation"]["parts"], int(interface.low.size)
    frames, seen = description["observation"]["frame_stack"], _flattened(graph, parts)
    if frames > 1:
        seen = _stacked(graph, seen, interface.size, frames)
    chosen = add(graph, network.operations, seen)
    _gaussian(graph, network, chosen, seen, action_size)
    if frames > 1:
        _remembered(graph, seen, interface.size, frames)
    kind = onnx.helper.np_dtype_to_tensor_dtype(interface.dtype)
    _in_units(graph, interface, kind)

    def value(name: str, kind: Any, *shape: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, [_BATCH, *shape])

    single = onnx.TensorProto.FLOAT
    inputs = [value(part["name"], single, *part["shape"]) for part in parts]
    outputs = [value("action", kind, *interface.low.shape)]
    outputs += [value(name, single, action_size) for name in ("mean", "log_std")]
    if frames > 1:
        inputs += [value("stack", single, frames - 1, interface.size)]
        inputs += [value("begin", onnx.TensorProto.BOOL, 1)]
        outputs += [value("next_stack", single, frames - 1, interface.size)]
    outputs += [value("sound", onnx.TensorProto.BOOL, 1)]  # last: the others have had their places for longer
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="crossq-wn",
        producer_version=str(description["exported_with"]["crossq-wn"]),
        doc_string=f"{description['system']} on {description['task']}",
    )
    texts = {}
    for name, content in description.items():
        texts[name] = content if isinstance(content, str) else json.dumps(content)
    onnx.helper.set_model_props(made, texts)
    onnx.checker.check_model(made)
    return made


def write(
    folder: Path, network: Network, interface: Interface, description: dict[str, Any]
) -> dict[str, Any]:
    """Writes policy.onnx; takes what `model_of` does, and a folder that exists.

    Args:
        folder: exists.
        network: what acts.
        interface: what observations and actions are like.
        description: from `contents.description`.

    Returns:
        What policy.json is to say.
    """
    content = model_of(network, interface, description).SerializeToString()
    (folder / "policy.onnx").write_bytes(content)
    return description | {"sha256": {"policy.onnx": checksum_of(content)}}


def inputs_of(rows: np.ndarray, parts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Flat observations [n, observation_size] as the model's inputs by name.

    Args:
        rows: flat observations, [n, observation_size].
        parts: what the description says of an observation's parts, with the place of the `first` number of
            each.

    Returns:
        float32 [n, *shape] by the part's name.
    """
    found = {}
    for part in parts:
        own = rows[:, part["first"] : part["first"] + _size(part)]
        found[part["name"]] = np.ascontiguousarray(own.reshape(-1, *part["shape"]), np.float32)
    return found


def act(folder: Path, rows: np.ndarray, observation: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Acts by what was written: actions in [-1, 1], and in the environment's units.

    Args:
        folder: of the export.
        rows: flat observations; stacked ones are given to the model one after the other.
        observation: what the description says of an observation.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(folder / "policy.onnx"), options, ["CPUExecutionProvider"])
    frames = observation["frame_stack"]
    names = ["action", "mean"] if frames == 1 else ["action", "mean", "next_stack"]
    stack = np.zeros((len(rows), frames - 1, observation["size"]), np.float32)
    for number, newest in enumerate(np.split(rows, frames, axis=-1)):
        given = inputs_of(newest, observation["parts"])
        if frames > 1:
            given |= {"stack": stack, "begin": np.full((len(rows), 1), number == 0)}
        action, mean, *after = session.run(names, given)
        stack = after[0] if after else stack
    # The model gives actions in units only; those in [-1, 1] are what parity compares.
    return np.tanh(mean), action
