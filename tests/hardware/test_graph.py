from __future__ import annotations

import torch
from torch import nn

from casemate.hardware.implementation import deploy


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        first = self.one(x)
        return self.out(self.two(first).relu() + first)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.out = nn.Linear(3, 4)

    def forward(self, x):
        first = self.one(x)
        return self.out(first + first)


def test_who_takes_what_for_how_long():
    graph = deploy(Residual(), (3,)).graph
    assert [n.name for n in graph.nodes] == ["one", "two", "relu", "add", "out"]
    assert graph.takers == {-1: (0,), 0: (1, 3), 1: (2,), 2: (3,), 3: (4,), 4: ()}
    assert [graph.last_use(i) for i in range(-1, 5)] == [0, 3, 2, 3, 4, 5]
    assert graph.needed(0) == set()
    assert graph.needed(2) == {0, 1}
    assert graph.needed(3) == {0, 2}
    assert graph.needed(4) == {3}


def test_a_pass_goes_on_from_what_is_known():
    made = deploy(Residual(), (3,))
    x = torch.randn(5, 3)
    seen = {}
    with torch.no_grad():
        scores = made.graph.trace(made.memory.values, x, lambda i, out: seen.update({i: out}))
        again = made.graph.resume(made.memory.values, x, 3, {i: seen[i] for i in (0, 2)})
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert torch.equal(seen[4], scores)
    assert torch.equal(scores, again)


def test_what_is_taken_twice_weighs_twice():
    made = deploy(Twice(), (3,))
    assert made.graph.takers[0] == (1, 1)
    with torch.no_grad():
        bounds = made.graph.bounds(made.memory.values)
    assert torch.allclose(bounds[0].weights, 2 * bounds[1].weights)
    assert torch.allclose(bounds[0].one, 2 * bounds[1].one)
    assert torch.allclose(bounds[0].every, 2 * bounds[1].every)
