"""What flipping a bit does to a loss, to first order, for all bits at once.

A flip moves one number w of the memory to w'; to first order the loss changes by dL/dw (w' - w).
For integers in two's complement this is the bit gradient dL/dw * db_i of Rakin, He and Fan (ICCV
2019, arXiv 1903.12269, equations 4 to 6), and it holds in any format. Where an exponent's bit moves
a number by many times itself it still ranks, but says nothing of how large the change will be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.hardware.attacks.straight_through import smooth_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.graph import Graph
    from casemate.hardware.words import Word

__all__ = ["best_flips", "first_order", "flip_changes", "loss_gradients"]

_IMAGES = 128  # that run with a gradient at once
_WORDS = 1 << 17  # whose bits are ranked at once


def loss_gradients(
    graph: Graph,
    values: Mapping[str, Tensor],
    names: Sequence[str],
    x: Tensor,
    by_score: Tensor,
    *,
    first: int = 0,
    known: Mapping[int, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of a loss with respect to numbers of the memory.

    Networks of integers pass gradients straight through rounding; outside the range of a word and
    below a ReLU they end.

    Args:
        graph: The deployed network.
        values: The memory's numbers.
        names: Of the tensors to differentiate by; no other gradient of a tensor is computed.
        x: (n, *shape) inputs.
        by_score: (n, classes), the gradient of the loss with respect to the scores.
        first: Position of the first node to run, at or before all that read these tensors.
        known: (n, *shape) outputs of the nodes before it that later ones take.

    Returns:
        By name, in the tensor's shape and type; 0 where no gradient arrives.
    """
    leaves = {name: values[name].detach().clone().requires_grad_() for name in names}
    given = {**values, **leaves}
    sums = {name: torch.zeros_like(values[name]) for name in names}
    for part in torch.split(torch.arange(len(x), device=x.device), _IMAGES):
        with torch.enable_grad():
            before = {j: out[part] for j, out in (known or {}).items()}
            scores = smooth_output(graph, given, x[part], first=first, known=before)
        found = torch.autograd.grad(
            scores, list(leaves.values()), by_score[part].to(scores.dtype), allow_unused=True
        )
        for name, gradient in zip(names, found, strict=True):
            if gradient is not None:
                sums[name] += gradient
    return sums


def flip_changes(word: Word, words: Tensor) -> Tensor:
    """Return by how much each word's number changes when a bit of it flips.

    Args:
        word: Their kind.
        words: (n,) of its carrier type.

    Returns:
        (n, bits) float64, column i for bit i; no finite number where the new one is none.
    """
    raw = word.raw(words)
    masks = torch.ones((), dtype=torch.int64, device=words.device) << torch.arange(
        word.bits, device=words.device
    )
    new = word.of_raw((raw[:, None] ^ masks).view(-1)).view(-1, word.bits)
    return new.double() - word.decode(words).double()[:, None]


def first_order(word: Word, words: Tensor, gradient: Tensor) -> Tensor:
    """Return the first-order change of the loss when each bit of each word flips.

    Args:
        word: Their kind.
        words: (n,) of its carrier type.
        gradient: (n,), of the loss with respect to the words' numbers.

    Returns:
        (n, bits) float64; -infinity where the new number would be infinite or none, so that such a
        flip, which whoever looks at scores sees at once, is never the best.
    """
    change = flip_changes(word, words)
    change.masked_fill_(~change.isfinite(), torch.nan).mul_(gradient.double()[:, None])
    return change.nan_to_num_(-torch.inf, torch.inf, -torch.inf)


def best_flips(
    word: Word,
    words: Tensor,
    gradient: Tensor,
    count: int,
    *,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the flips that raise the loss most, to first order.

    Args:
        word: Kind of the words.
        words: (n,) of its carrier type.
        gradient: (n,), of the loss with respect to the words' numbers.
        count: How many at most.
        allowed: (n, bits) bool, which bits may flip; all if omitted.

    Returns:
        (k,) int64 numbers of the bits, word * bits + bit, the best first, and (k,) float64 changes,
        all above 0.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for low in range(0, len(words), _WORDS):
        part = slice(low, low + _WORDS)
        change = first_order(word, words[part], gradient[part])
        if allowed is not None:
            change.masked_fill_(~allowed[part], -torch.inf)
        change, index = change.view(-1).topk(min(count, change.numel()))
        found.append((index + low * word.bits, change))
    index = torch.cat([i for i, _ in found])
    change, order = torch.cat([c for _, c in found]).topk(min(count, len(index)))
    worth = change > 0
    return index[order][worth], change[worth]
