"""Does a batch with gradients fit into memory?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from casemate.inference.checks.probe import calling
from casemate.inference.checks.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.inference.checks.probe import Probe
    from casemate.target import Target

__all__ = ["bytes_a_sample", "free_memory", "memory"]

_SAMPLES = 4
_GIB = 1 << 30
_CGROUP = Path("/sys/fs/cgroup")


def memory(probe: Probe, *, batch: int = 128, free: int | None = None) -> list[Problem]:
    """A batch of the size that attacks use must fit.

    Args:
        probe: Of the model; nothing is known about what a black box needs.
        batch: Samples in a batch of an attack.
        free: Bytes that are free; None asks the system.
    """
    target = probe.target
    if not target.differentiable:
        return []
    needed = batch * bytes_a_sample(target, probe.x[:_SAMPLES])
    there = free_memory(target.device) if free is None else free
    if there is None or needed <= there:
        return []
    fits = max(1, int(batch * there / needed))
    return [
        Problem(
            id="memory",
            severity="warning",
            message=f"a batch of {batch} samples with gradients keeps {needed / _GIB:.2f} GiB, but "
            f"{there / _GIB:.2f} GiB are free on {target.device}",
            remedy=f"set a batch size of at most {fits}",
        )
    ]


def bytes_a_sample(target: Target, x: Tensor) -> float:
    """Return the bytes that the backward pass of one sample keeps, weights not counted."""
    own = {t.untyped_storage().data_ptr() for m in target.modules for t in m.parameters()}
    own |= {t.untyped_storage().data_ptr() for m in target.modules for t in m.buffers()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    points = x.detach().clone().requires_grad_(True)
    keeping = torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
    with torch.enable_grad(), keeping, calling(target, points):
        scores = target.scores(points)
    everything = (sum(kept.values()) + scores.nbytes + points.nbytes) / len(x)
    del scores  # the graph, and with it what was kept, lives until here
    return everything


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device, or None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    free = [_left_to_group()]
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):  # free pages: caches count as taken
        free.append(_available() or os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    known = [f for f in free if f is not None]
    return min(known) if known else None


def _available() -> int | None:
    """Return what Linux says a new program can use, caches included."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _left_to_group() -> int | None:
    """Return what the control group may still use, as in a container."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - used) if limit.isdigit() else None
