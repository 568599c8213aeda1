"""Batch normalization folded into the layer before it, as integer deployments do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from casemate.hardware.graph import Graph, Node
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.norm import BatchNorm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["folded"]


def folded(graph: Graph, tensors: dict[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """Return the same network with fewer normalizations, and its numbers.

    A normalization goes into the convolution or linear layer whose output it alone takes; another
    one of maps becomes a convolution of each channel by itself, 1x1.

    Args:
        graph: In floating point.
        tensors: Its numbers by name.
    """
    tensors = dict(tensors)
    nodes: list[Node] = []
    place = {-1: -1}
    for i, node in enumerate(graph.nodes):
        op = node.op
        if not isinstance(op, BatchNorm):
            place[i] = len(nodes)
            nodes.append(replace(node, inputs=tuple(place[j] for j in node.inputs)))
            continue
        scale, offset = op.affine(tensors)
        (source,) = node.inputs
        before = nodes[place[source]] if source >= 0 else None
        alone = before is not None and len(graph.takers[source]) == 1
        if before is not None and alone and isinstance(before.op, (Conv2d, Linear)):
            layer = before.op
            # behind a linear layer over tokens it normalizes these, and not the layer's outputs
            rows = isinstance(layer, Conv2d) or len(before.shape) == 1
            read = (layer.weight, *([] if layer.bias is None else [layer.bias]))
            if rows and all(len(graph.readers.get(name, (i,))) == 1 for name in read):
                nodes[place[source]] = replace(
                    before, op=_scaled(layer, before.name, tensors, scale, offset)
                )
                place[i] = place[source]
                continue
        place[i] = len(nodes)
        moved = tuple(place[j] for j in node.inputs)
        if len(node.shape) == 3:  # noqa: PLR2004 - (channels, height, width)
            weight, bias = f"{node.name}.factor", f"{node.name}.offset"
            tensors[weight], tensors[bias] = scale.view(-1, 1, 1, 1), offset
            op = Conv2d(weight=weight, bias=bias, groups=len(scale))
        nodes.append(Node(node.name, op, moved, node.shape))
    used = {name for node in nodes for name in node.op.tensors}
    kept = {name: tensor for name, tensor in tensors.items() if name in used}
    return Graph(nodes=tuple(nodes), shape=graph.shape, notes=graph.notes), kept


def _scaled(
    layer: Conv2d | Linear, name: str, tensors: dict[str, Tensor], scale: Tensor, offset: Tensor
) -> Conv2d | Linear:
    """Return the layer with its outputs scaled and moved; its tensors change."""
    weight = tensors[layer.weight]
    tensors[layer.weight] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    if layer.bias is not None and layer.bias in tensors:
        tensors[layer.bias] = tensors[layer.bias] * scale + offset
        return layer
    bias = f"{name}.bias"
    tensors[bias] = offset
    return replace(layer, bias=bias)
