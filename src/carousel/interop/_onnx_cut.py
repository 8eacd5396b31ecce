"""An ONNX graph without what nothing needs; imports onnx, so it is imported late."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx

from carousel.interop._onnx_node import KINDS

__all__ = ["cut", "needed", "with_names"]


def needed(graph: onnx.GraphProto, outputs: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that these values need, in their order."""
    wanted, found = set(outputs) - {""}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(name for each in _within(node) for name in each.input if name)
    return found[::-1]


def cut(model: onnx.ModelProto, outputs: Collection[str], zeros: Collection[str]) -> onnx.ModelProto:
    """A copy that computes these outputs alone; its inputs stay.

    Args:
        model: as it was read.
        outputs: of its graph.
        zeros: states that are zeros; recurrent nodes begin without them, and nothing works them out.
    """
    graph = onnx.GraphProto(node=model.graph.node)
    for node in graph.node:
        if node.op_type in KINDS:
            node.input[5:7] = ["" if name in zeros else name for name in node.input[5:7]]
    nodes = needed(graph, outputs)
    read = {name for node in nodes for each in _within(node) for name in each.input}
    left_out = {tensor.name for tensor in model.graph.initializer} - read
    return onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        graph=onnx.GraphProto(
            name="cut",
            node=nodes,
            input=[i for i in model.graph.input if i.name not in left_out],
            output=[o for o in model.graph.output if o.name in outputs],
            initializer=[tensor for tensor in model.graph.initializer if tensor.name in read],
        ),
    )


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or a copy in which every output of a node has a name.

    onnx's reference keeps the outputs that nodes leave out, "", as a value of that name, and gives it to the nodes
    that leave out an input.
    """
    if not any("" in node.output for node in _nodes(model)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = {name for node in _nodes(copy) for name in (*node.input, *node.output)}
    free = (name for k in range(2**62) if (name := f"left out {k}") not in taken)
    for node in _nodes(copy):
        node.output[:] = [name or next(free) for name in node.output]
    return copy


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of functions and of graphs within nodes among them."""
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            yield from _within(node)


def _within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _within(inner)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
