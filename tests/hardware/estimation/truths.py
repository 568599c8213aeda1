"""A small network with the answer for every fault, and populations made up for tests."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from casemate.hardware.cases import flips
from casemate.hardware.estimation.faults import Stratum, bits_of, strata_of
from casemate.hardware.estimation.scores import bit_scores, hardest
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import network

IMAGES = 50
SEED = 3  # a network with two branches, 17,752 bits of weights


@dataclass(frozen=True)
class Truth:
    """What every flip of a network's weights does, by the number of the bit."""

    propagator: Propagator
    faults: Stratum
    strata: list[Stratum]
    scores: np.ndarray
    corrupted: np.ndarray
    dropped: np.ndarray

    @property
    def numbers(self):
        return self.faults.at(np.arange(self.faults.population))


def scored(propagator, regions):
    """Return the scores of some regions' bits, of the images with the smallest margins."""
    x = hardest(propagator.cache.scores, propagator.cache.x)
    return bit_scores(propagator.graph, propagator.values, x, regions)


@cache
def truth():
    module, shape = network(SEED)
    rng = np.random.default_rng(SEED)
    x = torch.from_numpy(rng.normal(size=(IMAGES, *shape)).astype(np.float32))
    made = deploy(module, shape, NumberFormat(name="int8"), calibration=x)
    memory = made.memory
    propagator = Propagator(made.graph, memory, x)
    weights = memory.where(roles=["weight"])
    faults = bits_of(memory, weights)
    # a model that is right on nine of ten images
    labels = np.where(np.arange(IMAGES) % 10 > 0, propagator.labels, (propagator.labels + 1) % 3)
    numbers = faults.at(np.arange(faults.population))
    effects = propagator.effects(flips(memory, np.arange(len(numbers)), numbers, len(numbers)))
    corrupted, dropped = np.zeros(memory.bits), np.zeros(memory.bits)
    corrupted[numbers] = effects.changed / IMAGES
    dropped[numbers] = -effects.gained(propagator.labels, labels) / IMAGES
    return Truth(
        propagator=propagator,
        faults=faults,
        strata=strata_of(memory, weights),
        scores=scored(propagator, weights),
        corrupted=corrupted,
        dropped=dropped,
    )


def population(size, name="all", first=0):
    """Return faults whose numbers are `first`, `first` + 1, ..."""
    return Stratum(name=name, population=size, at=lambda rank: rank + first)


def skewed(size, seed=0):
    """Return values of which most are 0 and a few near 1."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(size) < 0.1, rng.random(size) ** 4, 0.0)
