"""How strongly each word pulls at each image's margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch

from casemate.hardware.estimation.straight_through import smooth, through

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.graph import Graph, Op

__all__ = ["pulls", "soft_margin"]

_ELEMENTS = 1 << 21  # of a tensor of gradients: 8 MiB of float32
_RUN = 1 << 22  # numbers of all outputs together that gradients run through: 16 MiB of float32
_LEAST = 1e-6  # of the largest score: scores nearer than that are a tie
_SOFT = 4.0  # the larger, the less do scores below the second count in the margin


def pulls(
    graph: Graph, values: Mapping[str, Tensor], x: Tensor, tensors: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield, part by part, which share of its margin each element of some tensors takes.

    One backward pass for a batch of images gives the gradient at the output of every operation that
    reads one of the tensors; from there each image's own gradient is a product with what that
    operation does alone (`torch.func`), for as many images at once as fit.

    Args:
        graph: The network.
        values: The memory's numbers.
        x: (n, *shape) inputs.
        tensors: Names of those that are asked for.

    Yields:
        A name and (k, numel): minus the gradient of the margin's logarithm by each element, for k
        images. Every name comes several times, with other images each.
    """
    nodes = sorted({i for name in tensors for i in graph.readers.get(name, ())})
    each = sum(math.prod(node.shape) for node in graph.nodes)
    for part in torch.split(x, max(1, min(graph.batch(), _RUN // each))):
        outputs = _outputs(graph, values, part)
        margin = soft_margin(outputs[len(graph.nodes) - 1])
        if not margin.requires_grad:  # code of the user's that stops gradients
            continue
        asked = [i for i in nodes if outputs[i].requires_grad]
        found = torch.autograd.grad(
            margin.log().sum(), [outputs[i] for i in asked], materialize_grads=True
        )
        gradients = dict(zip(asked, found, strict=True))
        for name in tensors:
            readers = [i for i in graph.readers.get(name, ()) if i in gradients]
            if readers:
                yield from _of_tensor(graph, values, outputs, gradients, readers, name)


def soft_margin(scores: Tensor) -> Tensor:
    """Return by how much each image's largest score leads, (b,), positive.

    Of the leads d over all other scores it is the soft minimum (sum of d^-4)^(-1/4): mostly that
    over the second, but large changes may also let one overtake that is far behind.

    Args:
        scores: (b, classes).
    """
    if scores.shape[1] == 1:
        return torch.ones_like(scores[:, 0]) + 0 * scores[:, 0]
    best, label = scores.max(1, keepdim=True)
    least = (_LEAST * scores.detach().abs().amax(1, keepdim=True)).clamp_min(1e-30)
    leads = torch.maximum(best - scores, least)
    others = torch.ones_like(scores, dtype=torch.bool).scatter(1, label, value=False)
    nearest = torch.where(others, leads, torch.inf).amin(1, keepdim=True).detach()
    parts = torch.where(others, (nearest / leads).pow(_SOFT), 0.0)
    return nearest[:, 0] * parts.sum(1).pow(-1 / _SOFT)


def _outputs(graph: Graph, values: Mapping[str, Tensor], x: Tensor) -> dict[int, Tensor]:
    """Return every node's output, (b, *shape), and the input at -1, with gradients."""
    outputs = {-1: x.detach().clone().requires_grad_()}
    with torch.enable_grad():
        for i, node in enumerate(graph.nodes):
            outputs[i] = through(node.op, values, *(outputs[j] for j in node.inputs))
    return outputs


def _of_tensor(
    graph: Graph,
    values: Mapping[str, Tensor],
    outputs: Mapping[int, Tensor],
    gradients: Mapping[int, Tensor],
    readers: Sequence[int],
    name: str,
) -> Iterator[tuple[str, Tensor]]:
    step = max(1, _ELEMENTS // max(1, values[name].numel()))
    for part in torch.split(torch.arange(len(outputs[-1]), device=outputs[-1].device), step):
        total = torch.zeros(len(part), values[name].numel(), device=part.device)
        for i in readers:
            node, gradient = graph.nodes[i], gradients[i]
            inputs = [outputs[j].detach()[part] for j in node.inputs]
            total += _each(node.op, values, name, gradient[part], inputs).flatten(1)
        yield name, -total


def _each(
    op: Op, values: Mapping[str, Tensor], name: str, gradient: Tensor, inputs: Sequence[Tensor]
) -> Tensor:
    """Return each image's gradient by a tensor that an operation reads, (k, *shape)."""

    def one(g: Tensor, *x: Tensor) -> Tensor:
        def run(tensor: Tensor) -> Tensor:
            return smooth(op, {**values, name: tensor}, *(i[None] for i in x))

        back = torch.func.vjp(run, values[name])[1]
        (found,) = back(g[None])
        return cast("Tensor", found)

    def alone(k: int) -> Tensor:
        tensor = values[name].detach().clone().requires_grad_()
        with torch.enable_grad():
            out = smooth(op, {**values, name: tensor}, *(x[k : k + 1] for x in inputs))
            (found,) = torch.autograd.grad(out, tensor, gradient[k : k + 1])
        return found

    try:
        return torch.func.vmap(one)(gradient, *inputs)
    except RuntimeError:  # code of the user's that cannot be run for many images at once
        return torch.stack([alone(k) for k in range(len(gradient))])
