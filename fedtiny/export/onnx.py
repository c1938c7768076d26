"""The `onnx` format: a network for onnxruntime and whatever else reads ONNX."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, Node
from fedtiny.export.reason import reason

__all__ = ["onnx_classes", "onnx_model", "onnx_session", "onnx_shape"]

_OPSET, _IR = 17, 8  # of 2022: what runs on devices is seldom new


def onnx_model(graph: Graph, classes: Sequence[str]) -> onnx.ModelProto:
    """The network: `image`, (N, C, H, W) float32 pixels in [0, 1] -> `logits`, (N, classes) float32.

    Weights that are 0 are written like others: ONNX has no sparse convolution.

    Args:
        graph: The network.
        classes: Their names; kept as JSON under `classes` in the metadata.
    """
    tensors = [
        numpy_helper.from_array(x, f"{node.name}.{what}")
        for node in graph.nodes
        if isinstance(node.operation, Conv | Linear)
        for what, x in (("weight", node.operation.weight), ("bias", node.operation.bias))
    ]
    limits = sorted({node.operation.most for node in graph.nodes if isinstance(node.operation, Clip)} - {math.inf})
    tensors += [numpy_helper.from_array(np.array(most, np.float32), f"most.{most:g}") for most in limits]
    tensors.append(numpy_helper.from_array(np.array(0, np.float32), "least"))
    (last,) = graph.nodes[-1].shape
    model = helper.make_model(
        helper.make_graph(
            [made for node in graph.nodes for made in _made(node, "logits" if node is graph.nodes[-1] else node.name)],
            "fedtiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *graph.image])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", last])],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="fedtiny",
    )
    helper.set_model_props(model, {"classes": json.dumps(list(classes))})
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes, as the metadata has them; none where there are none."""
    properties = onnx.load(path).metadata_props
    return next((tuple(json.loads(x.value)) for x in properties if x.key == "classes"), ())


def onnx_shape(path: Path) -> tuple[int, ...]:
    """(channels, height, width) of the pictures that it takes."""
    return tuple(x.dim_value for x in onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1:])


def onnx_session(path: Path) -> Callable[[Floats], Floats]:
    """The file in onnxruntime, on one thread of the CPU: (N, C, H, W) pictures -> (N, classes) logits.

    Raises:
        ValueError: onnxruntime cannot read it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no other base
        raise ValueError(f"onnxruntime cannot read it ({reason(error)})") from None

    def logits(pictures: Floats) -> Floats:
        (out,) = session.run(["logits"], {"image": pictures})
        return np.asarray(out, np.float32)

    return logits


def _made(node: Node, name: str) -> list[onnx.NodeProto]:
    """The operators of a node, whose output is called `name`."""

    def operator(kind: str, *more: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, [*node.inputs, *more], [name], **attributes)

    match node.operation:
        case Conv(weight, _, stride, padding, groups):
            window = {"kernel_shape": weight.shape[2:], "strides": [stride] * 2, "pads": [padding] * 4}
            return [operator("Conv", f"{node.name}.weight", f"{node.name}.bias", group=groups, **window)]
        case Linear():
            return [operator("Gemm", f"{node.name}.weight", f"{node.name}.bias", transB=1)]
        case Clip(most):
            return [operator("Relu") if most == math.inf else operator("Clip", "least", f"most.{most:g}")]
        case Add():
            return [operator("Add")]
        case MaxPool(kernel, stride):
            return [operator("MaxPool", kernel_shape=[kernel] * 2, strides=[stride] * 2, ceil_mode=1)]
        case _:
            pooled = helper.make_node("GlobalAveragePool", [*node.inputs], [f"{name}.pooled"])
            return [pooled, helper.make_node("Flatten", [f"{name}.pooled"], [name])]
