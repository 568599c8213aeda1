"""What an attack returns: one point a sample, and the signs of how the attack itself went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Counter

__all__ = ["Crafted"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Crafted:
    """The best points that an attack found, re-scored on the model that it worked against.

    Attributes:
        adversarial: (n, *shape) float32 in the domain and within epsilon.
        success: (n,) bool, the returned point fools the model.
        noted: (n,) bool, some point fooled the model during the run.
        margin: (n,) margin of the returned point when it was found (negative or zero if it fooled
            the model; infinite if it was never evaluated).
        zero_gradient: (n,) bool, a first gradient was exactly zero.
        not_finite: (n,) bool, the model gave NaN or infinite scores or gradients.
        unfinished: (n,) bool, the margin still fell notably in the last tenth of the steps.
        spent: What attacker and verifier used, by name.
        exhausted: The attacker's budget ended the run.
    """

    adversarial: Tensor
    success: Tensor
    noted: Tensor
    margin: Tensor
    zero_gradient: Tensor
    not_finite: Tensor
    unfinished: Tensor
    spent: dict[str, int]
    exhausted: bool = False

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, to be stored."""
        out = {name: getattr(self, name).numpy() for name in _TENSORS}
        out["spent"] = np.array([self.spent[name] for name in _SPENT], dtype=np.int64)
        out["exhausted"] = np.array([self.exhausted])
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Crafted:
        """Return what `arrays` stored."""
        return cls(
            **{name: torch.from_numpy(np.array(arrays[name])) for name in _TENSORS},
            spent={name: int(n) for name, n in zip(_SPENT, arrays["spent"], strict=True)},
            exhausted=bool(arrays["exhausted"][0]),
        )


_TENSORS = (
    "adversarial",
    "success",
    "noted",
    "margin",
    "zero_gradient",
    "not_finite",
    "unfinished",
)
_SPENT = ("attack calls", "attack forward", "attack backward", "verifier forward")


def spent(attacker: Counter, verifier: Counter) -> dict[str, int]:
    """Return both counters by name, in samples (calls: in calls)."""
    used = (attacker.calls, attacker.forward, attacker.backward, verifier.forward)
    return dict(zip(_SPENT, used, strict=True))
