"""Named, independent streams of random numbers from one seed; nothing is seeded globally.

`stream(seed, "pgd/start")` names a stream. Draws for attack jobs are counter-based (Philox4x32-10:
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): each number is a function
of the stream, the job and the draw alone, so a result does not depend on batch size, order or
device. Everything else takes a NumPy or torch generator of its own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Stream", "stream"]

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers.

    Attributes:
        key: 64 bits that set this stream apart from all others.
    """

    key: int

    def child(self, name: str) -> Stream:
        """Return an independent stream below this one."""
        return stream(self.key, name)

    def numpy(self) -> np.random.Generator:
        """Return a fresh NumPy generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=self.key))

    def torch(self, device: str | torch.device = "cpu") -> torch.Generator:
        """Return a fresh torch generator at the start of this stream."""
        import torch  # noqa: PLC0415 - naming a stream must not import torch

        return torch.Generator(device=device).manual_seed(self.key >> 1)

    def uniform(self, jobs: Tensor, shape: tuple[int, ...], *, draw: int = 0) -> Tensor:
        """Return independent uniform numbers in [0, 1) for each job.

        Args:
            jobs: (b, 2) int64, two words in [0, 2**32) that name each job.
            shape: Shape of one job's numbers.
            draw: Which draw of these jobs this is; other draws are independent.

        Returns:
            (b, *shape) float32 on the device of `jobs`, a multiple of 2**-24.
        """
        import torch  # noqa: PLC0415 - as above

        words = self._words(jobs, math.prod(shape), draw)
        return (words >> 8).to(torch.float32).mul_(2.0**-24).view(-1, *shape)

    def normal(self, jobs: Tensor, shape: tuple[int, ...], *, draw: int = 0) -> Tensor:
        """Return independent standard normal numbers for each job (Box and Muller, 1958).

        Args and shapes are those of `uniform`.
        """
        import torch  # noqa: PLC0415 - as above

        count = math.prod(shape)
        half = (count + 1) // 2
        words = self._words(jobs, 2 * half, draw)
        # (0, 1] for the radius, so that its logarithm is finite
        radius = (
            ((words[:, :half] >> 8) + 1).to(torch.float32).mul_(2.0**-24).log_().mul_(-2).sqrt_()
        )
        angle = (words[:, half:] >> 8).to(torch.float32).mul_(2.0**-24 * 2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return both[:, :count].reshape(-1, *shape)

    def _words(self, jobs: Tensor, count: int, draw: int) -> Tensor:
        """Return (b, count) int64 words of 32 bits: Philox at counter (block, job, job, draw)."""
        import torch  # noqa: PLC0415 - as above

        blocks = (count + 3) // 4
        block = torch.arange(blocks, device=jobs.device).expand(jobs.shape[0], blocks)
        first = jobs[:, :1].expand_as(block)
        second = jobs[:, 1:2].expand_as(block)
        words = philox4x32(
            (block, first, second, torch.full_like(block, draw)),
            (self.key & _MASK, self.key >> 32),
        )
        return torch.stack(words, dim=2).view(jobs.shape[0], 4 * blocks)[:, :count]


def stream(seed: int, name: str) -> Stream:
    """Return the stream `name` of `seed`: the same two always give the same numbers."""
    text = f"{seed}/{name}".encode()
    return Stream(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return Philox4x32-10 of four int64 tensors of 32-bit words (Salmon et al. 2011, figure 2)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _M0)
        high1, low1 = _multiply(c2, _M1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """Return the high and low 32 bits of a 32 x 32 bit product held in int64."""
    product = word * constant  # wraps modulo 2**64, which keeps all 64 bits
    return (product >> 32) & _MASK, product & _MASK
