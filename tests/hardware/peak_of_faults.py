"""Tries faults within a limit of memory and prints the limit and the peak, in bytes.

python peak_of_faults.py plain int8 500          # or depthwise, large, upsets
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
from casemate.hardware.upsets import Sites, Upsets

_FAULTS, _UPSETS = 40, 4096
_KIBI = 1024


def peak() -> int:
    """Return the most bytes that this process has held since it began, or the peak was reset."""
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


def large() -> list[nn.Module]:
    """Return layers for images of which a single one has large maps."""
    first = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8)]
    return [*first, nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(14)]


def few() -> list[nn.Module]:
    """Return layers of so few numbers that all images fit."""
    return [nn.AvgPool2d(8), nn.Conv2d(3, 16, 1), nn.ReLU()]


LAYERS = {
    "plain": (plain, 32, 400),
    "depthwise": (depthwise, 32, 400),
    "large": (large, 224, 20),
    "upsets": (few, 32, 2000),
}
"""With the side of images, and how many there are."""


def main(network: str, form: str, limit: int) -> None:
    """Print both."""
    torch.manual_seed(0)
    layers, side, images = LAYERS[network]
    net = nn.Sequential(*layers(), nn.Flatten(), nn.Linear(256, 10)).eval()
    x = torch.rand(images, 3, side, side)
    made = deploy(net, (3, side, side), NumberFormat(name=form), calibration=x[:10])
    numbers = np.random.default_rng(0).integers(0, made.memory.bits, _FAULTS)
    cases = flips(made.memory, np.arange(_FAULTS), numbers, _FAULTS)
    Injector(made, x[:2]).effects(cases)  # what libraries hold on to is not the faults' own
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak is what is held now
    before = peak()
    injector = Injector(made, x, memory=limit)
    if network == "upsets":
        sites = Sites(made.graph)
        bits = np.random.default_rng(0).integers(0, sites.bits, _UPSETS)
        for part in np.array_split(bits, -(-_UPSETS // injector.cases)):
            injector.upset(Upsets.inverted(*sites.locate(part)))  # in every inference
    else:
        injector.effects(cases)
    sys.stdout.write(f"{limit} {peak() - before}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) * MEBI)
