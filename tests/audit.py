"""A campaign whose outcome is known in closed form, on a linear model and two features.

A sample has its first feature at 0.3 (class "low") or 0.7 (class "high"); the model decides at 0.5.
So every attack within L-infinity 0.1 fails, and every gradient attack within 0.25 succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
import numpy as np
import torch

def make():
    linear = torch.nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]))
        linear.bias.copy_(torch.tensor([2.5, -2.5]))
    return linear

def broken(x):
    raise RuntimeError("this model never answers")

def decide(x):
    return (x[:, 0] > 0.5).astype(np.int64)
"""

SPEC = """\
casemate: 1
name: audit
data: {source: npz, path: data.npz}
model: {factory: "audited:make"}
defaults: {samples: 40}
sizes:
  small: {defaults: {samples: 20}}
trials:
  - attack: {name: fgsm, epsilon: [1/10, 1/4]}
  - attack: {name: pgd, epsilon: 0.25, steps: 5}
    goal: {from: low, to: high}
policy:
  - {measure: attack success rate, at_most: 0.1, where: {attack.epsilon: 0.1}}
"""


def write_audit(folder: Path, spec: str = SPEC) -> Path:
    """Write data, model and specification into a folder; return the latter."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 40), ("test", 80)):
        labels = np.arange(n) % 2
        first = np.where(labels == 1, 0.7, 0.3)
        arrays[f"x_{split}"] = np.stack([first, rng.uniform(size=n)], axis=1).astype(np.float32)
        arrays[f"y_{split}"] = labels
    np.savez(folder / "data.npz", classes=np.array(["low", "high"]), **arrays)
    (folder / "audited.py").write_text(MODEL, encoding="utf-8")
    path = folder / "audit.yaml"
    path.write_text(spec, encoding="utf-8")
    return path
