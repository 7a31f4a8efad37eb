"""Weights of a graph in 8 bits, one scale an output channel.

ONNX: products of 8-bit numbers. Each token's activations get a scale of their own in the graph, so a vector does
not depend on its batch, and ONNX Runtime's integer kernels are several times faster than its fp32 ones.
OpenVINO: 8-bit weights, multiplied by their scales while they are loaded; activations stay as they are. Its own
scales for groups of activations are faster still, but what they round turns on the shape of the batch, so the
file asks for none (``DYNAMIC_QUANTIZATION_GROUP_SIZE`` 0).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError

if TYPE_CHECKING:
    import onnx
    import openvino

_LARGEST = 127
_ZERO_POINT = 128  # of activations: integer kernels of x86 want them unsigned
_SMALLEST_TABLE = 1 << 18  # numbers; looking up a smaller one in 8 bits costs more than it saves
_SMALLEST_SCALE = np.float32(1e-12)
_ONE_FILE = 1_900_000_000  # bytes; a protobuf ends at 2 GiB

Int8Rows = tuple[np.ndarray[Any, np.dtype[np.int8]], np.ndarray[Any, np.dtype[np.float32]]]


def quantise_rows(weights: np.ndarray[Any, Any], axis: int = 1) -> Int8Rows:
    """``weights`` as int8 and fp32 scales that broadcast to them: ``int8 * scales`` is within half a scale.

    Args:
        weights: a matrix.
        axis: along which all numbers share one scale.
    """
    scales = np.maximum(np.abs(weights).max(axis=axis, keepdims=True).astype(np.float32) / _LARGEST, _SMALLEST_SCALE)
    return np.clip(np.rint(weights / scales), -_LARGEST, _LARGEST).astype(np.int8), scales


def quantise_onnx(model: onnx.ModelProto) -> int:
    """How many weight matrices of ``model`` were put in 8 bits, in place: products with constants, and large tables.

    Raises:
        ModelError: the graph has none.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.data_type == 1}
    rewritten = _OnnxRewriter(weights)
    for node in graph.node:
        rewritten.add(node)
    if not rewritten.done:
        raise ModelError("the graph has no weight matrices that could be put in 8 bits")
    used = {name for node in rewritten.nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(rewritten.nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in rewritten.constants.items())
    return len(rewritten.done)


class _OnnxRewriter:
    """Collects the nodes of the quantised graph, and the constants that they ask for."""

    def __init__(self, weights: dict[str, onnx.TensorProto]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.done: set[str] = set()
        self._weights = weights
        self._rounded: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "MatMul" and node.input[1] in self._weights:
            self._multiply(node.input[0], node.input[1], node.output[0])
        elif node.op_type == "Gather" and self._is_large_table(node.input[0]):
            self._look_up(node.input[0], node.input[1], node.output[0])
        else:
            self.nodes.append(node)

    def _is_large_table(self, name: str) -> bool:
        return name in self._weights and int(np.prod(self._weights[name].dims)) >= _SMALLEST_TABLE

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))

    def _quantised(self, name: str, axis: int) -> tuple[str, str]:
        """Names of the 8-bit matrix and of its scales."""
        from onnx import numpy_helper

        values, scales = quantise_rows(numpy_helper.to_array(self._weights[name]), axis)
        self.constants[f"{name}.int8"] = values
        self.constants[f"{name}.scale"] = scales
        self.done.add(name)
        return f"{name}.int8", f"{name}.scale"

    def _multiply(self, left: str, right: str, output: str) -> None:
        weights, scales = self._quantised(right, axis=0)
        rounded, row_scale = self._round_rows(left)
        self._node("MatMulInteger", [rounded, weights, "m3e.zero_point"], f"{output}.int32")
        self._node("Cast", [f"{output}.int32"], f"{output}.float", to=1)
        self._node("Mul", [f"{output}.float", row_scale], f"{output}.rows")
        self._node("Mul", [f"{output}.rows", scales], output)

    def _round_rows(self, name: str) -> tuple[str, str]:
        """Names of ``name`` in 8 bits and of its scales, one for all numbers of a token."""
        rounded, scale = f"{name}.uint8", f"{name}.row_scale"
        if name in self._rounded:
            return rounded, scale
        self._rounded.add(name)
        self.constants |= {
            "m3e.largest": np.array(_LARGEST, np.float32),
            "m3e.smallest_scale": np.array(_SMALLEST_SCALE),
            "m3e.one": np.array(1, np.float32),
            "m3e.zero_point": np.array(_ZERO_POINT, np.uint8),
        }
        self._node("Abs", [name], f"{name}.abs")
        self._node("ReduceMax", [f"{name}.abs"], f"{name}.max", axes=[-1], keepdims=1)
        self._node("Div", [f"{name}.max", "m3e.largest"], f"{name}.any_scale")
        self._node("Max", [f"{name}.any_scale", "m3e.smallest_scale"], scale)
        self._node("Div", [name, scale], f"{name}.divided")
        self._node("QuantizeLinear", [f"{name}.divided", "m3e.one", "m3e.zero_point"], rounded)
        return rounded, scale

    def _look_up(self, table: str, ids: str, output: str) -> None:
        rows, scales = self._quantised(table, axis=1)
        self._node("Gather", [rows, ids], f"{output}.int8", axis=0)
        self._node("Gather", [scales, ids], f"{output}.scale", axis=0)
        self._node("Cast", [f"{output}.int8"], f"{output}.float", to=1)
        self._node("Mul", [f"{output}.float", f"{output}.scale"], output)


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model``; what is too large for one file has its weights beside it, in ``<name>_data``."""
    import onnx

    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size < _ONE_FILE:
        onnx.save(model, path)
        return
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}_data")


def quantise_openvino(model: openvino.Model) -> int:
    """How many weight matrices of ``model`` were put in 8 bits, in place.

    Raises:
        ModelError: the graph has none.
    """
    import openvino
    from openvino import opset13

    done: Counter[str] = Counter()
    shared: dict[str, Any] = {}
    for operation in model.get_ordered_ops():
        port, axis = _weights_of(operation)
        if port is None:
            continue
        constant = operation.input_value(port).get_node()
        if constant.get_type_name() != "Constant" or constant.get_element_type() != openvino.Type.f32:
            continue
        values = constant.get_data()
        if values.ndim != 2 or (operation.get_type_name() == "Gather" and values.size < _SMALLEST_TABLE):
            continue
        key = f"{constant.get_friendly_name()} {axis}"
        if key not in shared:
            rows, scales = quantise_rows(values, axis)
            small = opset13.convert(opset13.constant(rows, dtype=openvino.Type.i8), openvino.Type.f32)
            shared[key] = opset13.multiply(small, opset13.constant(scales))
        operation.input(port).replace_source_output(shared[key].output(0))
        done[key] += 1
    if not done:
        raise ModelError("the graph has no weight matrices that could be put in 8 bits")
    model.validate_nodes_and_infer_types()
    model.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    return len(done)


def _weights_of(operation: Any) -> tuple[int | None, int]:
    """The input that may hold weights, and the axis along which they share a scale."""
    kind = operation.get_type_name()
    if kind == "Gather":
        return 0, 1
    if kind == "MatMul":
        return 1, 1 if operation.get_attributes()["transpose_b"] else 0
    return None, 0
