"""Memories of a few words and of a hundred million, and what work on them takes."""

from __future__ import annotations

import tracemalloc
from functools import cache

import torch

from casemate.hardware.memory import Memory, Region, region
from casemate.hardware.words import WORDS

LIKELY = 1e-3  # a p-value that a seed fixed once and for all should reach


@cache
def memory():
    return Memory(
        [
            region("a.weight", torch.randn(3, 2), "float32", layer="a", role="weight"),
            region("a.bias", torch.randn(3), "float32", layer="a", role="bias"),
            region("b.weight", torch.arange(-4.0, 3.0), "int4", layer="b", role="weight"),
            region("b.scale", torch.tensor(0.25), "float16", layer="b", role="scale"),
        ]
    )


def huge(words=100_000_000):
    """Return the memory of a model with so many weights, which takes none of its own."""
    word = WORDS["float32"]
    held = torch.zeros(1, dtype=word.carrier).expand(words)
    return Memory(
        [Region(name="w", layer="l", role="weight", shape=(words,), word=word, words=held)]
    )


def peak(work):
    """Return how many bytes numpy held at most while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
