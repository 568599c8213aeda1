"""What a batch with gradients keeps in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.data.domain import Domain
from casemate.inference.checks import of_memory
from casemate.inference.checks.of_memory import bytes_a_sample, free_memory, memory
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from

WIDTH = 1000


def target_of(depth):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return target_from(
        nn.Sequential(*layers).requires_grad_(False),
        domain=Domain(shape=(WIDTH,)),
        classes=tuple(map(str, range(WIDTH))),
    )


def probe_of(target):
    x = torch.rand(4, WIDTH)
    return Probe(
        target=target,
        classes=target.classes,
        x=x,
        y=torch.zeros(4, dtype=torch.int64),
        scores=torch.zeros(4, WIDTH),
    )


@pytest.mark.parametrize("n", [1, 4])
def test_activations_are_counted_and_weights_are_not(n):
    """Each tanh keeps its output, 4 bytes a value; a frozen linear layer keeps only its weight."""
    x = torch.rand(n, WIDTH)
    one, three = (bytes_a_sample(target_of(d), x) for d in (1, 3))
    assert three - one == 2 * 4 * WIDTH


def test_what_does_not_fit_fires_and_says_what_does():
    probe = probe_of(target_of(3))
    needed = bytes_a_sample(probe.target, probe.x)
    assert memory(probe, batch=100, free=int(needed * 101)) == []
    (problem,) = memory(probe, batch=100, free=int(needed * 50.5))
    assert (problem.id, problem.severity) == ("memory", "warning")
    assert problem.remedy == "set a batch size of at most 50"


def test_a_black_box_is_not_asked():
    target = target_from(
        lambda x: x, domain=Domain(shape=(WIDTH,)), classes=tuple(map(str, range(WIDTH)))
    )
    assert memory(probe_of(target), free=0) == []


def test_this_machine_has_memory_and_a_small_model_fits():
    free = free_memory(torch.device("cpu"))
    assert free is None or 1 << 20 < free < 1 << 50
    assert memory(probe_of(target_of(1))) == []


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(of_memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert free_memory(torch.device("cpu")) == 3_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) != 3_000_000


def test_a_device_that_does_not_tell_is_not_judged():
    assert free_memory(torch.device("meta")) is None
