"""Tries faults within a limit of memory and prints the limit and the peak, in bytes.

python peak_of_faults.py plain int8 500
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from casemate.hardware.cases import flips
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.injector import Injector
from casemate.hardware.room import MEBI

_IMAGES, _FAULTS = 400, 40
_KIBI = 1024


def peak() -> int:
    """Return the most bytes that this process has held since its program began."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * _KIBI


def plain() -> list[nn.Module]:
    """Return convolutions of all channels."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return layers


def depthwise() -> list[nn.Module]:
    """Return convolutions of single channels between those of single places."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU6()]
    for before, after in ((32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [
            nn.Conv2d(before, before, 3, padding=1, stride=2, groups=before),
            nn.BatchNorm2d(before),
            nn.ReLU6(),
            nn.Conv2d(before, after, 1),
            nn.ReLU6(),
        ]
    return layers


LAYERS = {"plain": plain, "depthwise": depthwise}


def main(network: str, form: str, limit: int) -> None:
    """Print both."""
    torch.manual_seed(0)
    net = nn.Sequential(*LAYERS[network](), nn.Flatten(), nn.Linear(64 * 4, 10)).eval()
    x = torch.rand(_IMAGES, 3, 32, 32)
    made = deploy(net, (3, 32, 32), NumberFormat(name=form), calibration=x[:64])
    numbers = np.random.default_rng(0).integers(0, made.memory.bits, _FAULTS)
    cases = flips(made.memory, np.arange(_FAULTS), numbers, _FAULTS)
    Injector(made, x[:2]).effects(cases)  # what libraries hold on to is not the faults' own
    before = peak()
    Injector(made, x, memory=limit).effects(cases)
    sys.stdout.write(f"{limit} {peak() - before}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) * MEBI)
