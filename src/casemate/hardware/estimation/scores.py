"""How much each bit's flip should matter: what importance sampling goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.hardware.cache import margins
from casemate.hardware.estimation.sensitivity import pulls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.graph import Graph
    from casemate.hardware.memory import Region

__all__ = ["bit_scores", "flip_sizes", "hardest"]

IMAGES = 256
"""How many images the scores rest on: those with the smallest margins."""

POWER = 2.5
"""How steeply the chance to change a prediction rises with the share of the margin."""

AGAINST = 0.5
"""What a change counts that moves the margin's two scores apart; other scores may overtake."""

_FAR = 0.1  # a share of the margin below which z^p / (1 + z^p) is z^p but for 0.3 %


def hardest(scores: Tensor, x: Tensor, count: int = IMAGES) -> Tensor:
    """Return the inputs with the smallest margins.

    Faults change their predictions first, and on LeNet 256 of 1,000 served as well as all.

    Args:
        scores: (n, classes) without faults.
        x: (n, *shape).
        count: How many, if there are as many.
    """
    return x[margins(scores).nan_to_num(torch.inf).argsort(stable=True)[:count]]


def bit_scores(
    graph: Graph, values: Mapping[str, Tensor], x: Tensor, regions: Sequence[Region]
) -> np.ndarray:
    """Return a score of every bit of some regions.

    To first order a flip that changes a word by d takes z = -d (dm/dw) / m of an image's margin m.
    The image's prediction changes with a chance of about z^p / (1 + z^p), and

        score = sqrt(s + s^2), s = sum over images of z^p / (1 + z^p):

    the root of the second moment of a count with mean s, which is the size of least variance
    (Cochran, "Sampling Techniques", 1977, chapter 9A). Against |dm/dw| |d| / m averaged over
    images it knows that a margin cannot be crossed twice. On an int8 LeNet's weights the standard
    error of 8,000 faults is 1.7 % of the mean, against 4.7 %.

    What no number can hold, such as a flip to infinity, counts as a changed prediction. Of scales
    and zero points the margin says little: those of an activation are put in by what comes before
    and taken out by what comes after, so that to first order nothing happens, whereas a flip of a
    scale's exponent leaves only zeros. So they have at least the chance of their own relative
    change, for their share of the tensor. So have the words of a normalization, each of which takes
    a whole channel along.

    Args:
        graph: The network.
        values: The memory's numbers.
        x: (n, *shape) inputs that the scores rest on, such as the `hardest`.
        regions: Whose bits are scored.

    Returns:
        (bits,) float64, finite and not negative, in the order of `bits_of`. It takes some 30 bytes
        a bit, as `ImportanceSample` does.
    """
    named = {r.name: r for r in regions}
    sizes = {r.name: flip_sizes(r).to(x.device) for r in regions}
    found = {r.name: torch.zeros(r.count, r.word.bits, device=x.device) for r in regions}
    for name, pull in pulls(graph, values, x, list(named)):
        found[name] += _changed(pull, sizes[name])
    for r in regions:
        if r.role in ("scale", "zero point", "norm"):
            found[r.name] = torch.maximum(found[r.name], len(x) * _out_of_unit(r).to(x.device))
    parts = [found[r.name].reshape(-1).double().cpu().numpy() for r in regions]
    expected = np.concatenate(parts) if parts else np.zeros(0)
    scores: np.ndarray = np.sqrt(expected + expected**2)
    return scores


def flip_sizes(region: Region) -> Tensor:
    """Return by how much each bit's flip changes its word, (words, bits) float32."""
    raw = region.word.raw(region.words)
    old = region.word.of_raw(raw).double()
    flipped = (region.word.of_raw(raw ^ (1 << b)).double() for b in range(region.word.bits))
    return torch.stack([(new - old).float() for new in flipped], 1)


def _out_of_unit(region: Region) -> Tensor:
    """Return which share of predictions each bit of units or normalizations may change.

    Returns:
        (words, bits).
    """
    kind = region.word
    whole = region.values.reshape(-1, 1) if kind.floating is not None else 2.0 ** (kind.bits - 1)
    chance = _chance((flip_sizes(region) / whole).abs())
    return chance if region.role == "norm" else chance / region.count


def _chance(z: Tensor) -> Tensor:
    """Return the chance that a change by z margins, z >= 0, changes a prediction."""
    powered = z.pow(POWER)
    chance = powered / (1 + powered)
    return torch.where(chance.isfinite(), chance, 1.0)


def _changed(pull: Tensor, sizes: Tensor) -> Tensor:
    """Return how many of some images' predictions each bit's flip should change.

    Args:
        pull: (k, words) share of each image's margin that a change by one takes.
        sizes: (words, bits) of the changes.

    Returns:
        (words, bits).
    """
    # far from the margin the chance is z^p: a sum over images times a power of the change
    peak = pull.abs().amax(0)
    part = pull / peak.clamp_min(torch.finfo(pull.dtype).tiny)
    more, less = part.clamp_min(0).pow(POWER).sum(0), (-part).clamp_min(0).pow(POWER).sum(0)
    against = AGAINST**POWER
    up, down = more + against * less, less + against * more
    largest = peak[:, None] * sizes.abs()
    counts = torch.where(sizes > 0, up[:, None], down[:, None]) * largest.pow(POWER)
    far = largest < _FAR  # false for NaN
    for bit in range(sizes.shape[1]):
        near = (~far[:, bit]).nonzero()[:, 0]
        if len(near):
            z = pull[:, near] * sizes[near, bit]
            counts[near, bit] = _chance(torch.where(z < 0, -AGAINST * z, z)).sum(0)
    return counts
