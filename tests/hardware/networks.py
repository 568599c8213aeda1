"""Networks drawn at random, small, of all operations that faults are followed through."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Residual(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1, stride=stride, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)
        self.side = nn.Conv2d(channels, channels, 1, stride=stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.two(F.relu(self.norm(self.one(x))))
        return torch.relu(out + (x if self.side is None else self.side(x)))


class Branches(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(channels, 2, 1)
        self.right = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), x, self.right(x).relu()], dim=1)


class Gate(nn.Module):
    """Something with no shortcut: a product of two branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


def network(  # noqa: C901, PLR0912, PLR0915 - one line for each kind of layer
    seed: int,
) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return a network in evaluation mode and the shape of its inputs."""
    rng = torch.Generator().manual_seed(seed)

    def pick(n: int) -> int:
        return int(torch.randint(n, (1,), generator=rng))

    channels = (1, 3)[pick(2)]
    size = 6 + pick(7)
    shape = (channels, size, size + pick(2))
    layers: list[nn.Module] = []
    probe = torch.zeros(2, *shape)
    for _ in range(1 + pick(4)):
        c, h, w = probe.shape[1:]
        kind = pick(11)
        made: list[nn.Module] = []
        if kind in (0, 1, 2):
            out = 2 + pick(5)
            kernel = 1 + pick(min(3, h, w))
            conv = nn.Conv2d(
                c, out, kernel, stride=1 + pick(2), padding=pick(2), bias=bool(pick(2))
            )
            made = [conv, nn.BatchNorm2d(out)] if pick(2) else [conv]
            made.append((nn.ReLU(), nn.Tanh(), nn.ReLU(inplace=True))[pick(3)])
        elif kind == 3:
            made = [nn.Conv2d(c, c, 3, padding=1, groups=c), nn.ReLU6()]
        elif kind == 4:
            made = [nn.Conv2d(c, 4, 3, padding=2, dilation=2)]
        elif kind == 5 and min(h, w) > 2:
            made = [nn.MaxPool2d(2 + pick(2), stride=1 + pick(2), padding=pick(2), ceil_mode=True)]
        elif kind == 6 and min(h, w) > 2:
            made = [nn.AvgPool2d(2, padding=pick(2), ceil_mode=bool(pick(2)))]
        elif kind == 7:
            made = [Residual(c, 1 + pick(2))]
        elif kind == 8:
            made = [Branches(c)]
        elif kind == 9:
            made = [nn.BatchNorm2d(c), nn.SiLU(), nn.Dropout(0.5)]
        elif c % 2 == 0:
            made = [nn.Conv2d(c, 2 * c, 3, padding=1, groups=2), nn.ReLU()]
            if pick(2):  # one channel of the first is all of a group of the second, or some of it
                made.append(nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=(c, 2)[pick(2)]))
        for layer in made:
            probe = layer.eval()(probe)
        layers += made
    c = probe.shape[1]
    if pick(3) == 0:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 5)]
    else:
        width = probe[0].numel()
        layers += [nn.Flatten(), nn.Linear(width, 6 + pick(4)), nn.ReLU()]
        hidden = layers[-2].out_features
        if pick(3) == 0:
            layers += [nn.BatchNorm1d(hidden)]
        layers += [nn.Linear(hidden, 2 + pick(4))]
    module = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=rng)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.3)
            elif tensor.ndim > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5 * 1.5)
            else:
                tensor.copy_(noise * 0.3 + (1 if "weight" in name else 0))
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module, shape
