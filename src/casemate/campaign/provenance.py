"""Where a campaign's figures come from: versions, hardware, what was hashed."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["hardware", "now", "origin", "versions"]

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "safetensors", "pydantic", "onnxruntime")


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def origin(device: str) -> dict[str, Any]:
    """Return where a trial comes from that is computed now: "at", "versions", "hardware"."""
    return {"at": now(), "versions": versions(), "hardware": hardware(device)}


def versions() -> dict[str, str]:
    """Return the versions of Casemate, Python and the packages that decide figures."""
    import casemate  # noqa: PLC0415 - its version is set by then

    found = {"casemate": casemate.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):  # onnxruntime is an extra
            found[package] = version(package)
    return found


def hardware(device: str) -> dict[str, Any]:
    """Return what the campaign ran on."""
    import torch  # noqa: PLC0415 - only who runs a campaign needs it

    found: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if device.startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    if sys.platform == "linux":
        try:
            for line in (
                Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            ):
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or "unknown"
