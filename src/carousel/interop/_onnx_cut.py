"""An ONNX graph as its evaluators need it; imports onnx, so it is imported late."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["with_names"]


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
