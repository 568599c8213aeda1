"""The most memory that this process held since a point in time."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["MIB", "Watch"]

MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see the manual page proc_pid_clear_refs(5)


class Watch:
    """Starts when it is made: what was held then, and the high-water mark after that.

    The operating system keeps the mark (VmHWM), so no peak falls between two looks. Linux alone
    can set it back; elsewhere there is no honest figure, and the bytes are None.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._held: int | None = torch.cuda.memory_allocated()
        elif _reset():
            self._held = _bytes("VmRSS")
        else:
            self._held = None

    def peak(self) -> tuple[int, int] | None:
        """Return the most bytes held since, and how many more that is than at the start.

        Of the process; on "cuda" of the tensors on the device.
        """
        if self._held is None:
            return None
        most = torch.cuda.max_memory_allocated() if self._device == "cuda" else _bytes("VmHWM")
        return most, most - self._held


def _reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _bytes(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{_STATUS} has no {name}")
