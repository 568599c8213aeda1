"""Which number format a device trains in."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

__all__ = ["PRECISIONS", "Precision", "resolve"]

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_AMPERE = 8  # first compute capability whose tensor cores take bfloat16


def resolve(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the number format that `precision` means on `device`.

    "auto" is bfloat16 where multiplying it is faster, judged by what the hardware can do and
    never by a timing: a timing would make two runs on one machine differ.

    - CUDA: compute capability 8.0 (Ampere) and later.
    - x86 with AMX tiles for bfloat16, and AMD's cores with AVX-512 BF16. Intel's cores with
      AVX-512 BF16 but no AMX are left out: they issue its dot product at half the rate of a
      float32 multiplication.
    - Anything else: float32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= _AMPERE else "float32"
    if device.type == "cpu" and _cpu_gains(_capabilities()):
        return "bfloat16"
    return "float32"


def _capabilities() -> dict[str, Any]:
    """Return what torch knows of the CPU; older releases know nothing that is public."""
    known = getattr(torch.cpu, "get_capabilities", None)
    return dict(known()) if known is not None else {}


def _cpu_gains(capabilities: dict[str, Any]) -> bool:
    if capabilities.get("amx_bf16"):
        return True
    amd = "amd" in str(capabilities.get("cpu_name", "")).casefold()
    return amd and bool(capabilities.get("avx512_bf16"))
