"""ONNX Runtime and OpenVINO: both run an ONNX model of the stack; they do not train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carousel.bench import Problem
from carousel.layout import Array, Weights, to_onnx
from peer.base import Peer, Side

__all__ = ["OnnxRuntime", "OpenVino"]

# Old enough for every runtime of the last years; LSTM and GRU are the same in the later ones.
_OPSET, _IR = 14, 8


def model(problem: Problem, layers: Sequence[Weights]) -> bytes:
    """x (T, B, I) -> y (T, B, H), one LSTM or GRU node per layer."""
    I, H, L, B, T = problem.shape
    nodes, arrays, below = [], {"axis": np.array([1])}, "x"
    for k, weights in enumerate(layers):
        W, R, b = to_onnx(problem.cell, *weights)
        arrays |= {f"W{k}": W[None], f"R{k}": R[None], f"b{k}": b[None]}
        reset = {"linear_before_reset": 1} if problem.cell == "gru" else {}
        inputs = [below, f"W{k}", f"R{k}", f"b{k}"]
        nodes.append(helper.make_node(problem.cell.upper(), inputs, [f"Y{k}"], hidden_size=H, **reset))
        below = f"y{k}" if k < L - 1 else "y"
        nodes.append(helper.make_node("Squeeze", [f"Y{k}", "axis"], [below]))  # Y is (T, directions, B, H)
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, B, I])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [T, B, H])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(made)
    return made.SerializeToString()


class OnnxRuntime(Peer):
    name = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self.library, self.version = onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        session = self.library.InferenceSession(
            model(problem, layers), self.options, providers=["CPUExecutionProvider"]
        )
        return Side(lambda: session.run(["y"], {"x": x}), lambda found: found[0])


class OpenVino(Peer):
    name = "OpenVINO"

    def __init__(self, threads: int) -> None:
        import openvino

        self.core, self.version = openvino.Core(), openvino.__version__.split("-")[0]
        # Without the hint it computes in bfloat16 where the processor can.
        self.options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}

    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        read = self.core.read_model(model(problem, layers))
        request = self.core.compile_model(read, "CPU", self.options).create_infer_request()
        return Side(
            lambda: request.infer([x], share_inputs=True, share_outputs=True),
            lambda found: np.array(found[0]),
        )
