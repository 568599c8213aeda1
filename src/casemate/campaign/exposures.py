"""What an attacker on training does when the model is deployed, and to which samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.exposure import Exposure
    from casemate.training.poisoned import Poisoned

__all__ = ["exposure_of"]


def exposure_of(
    poisoned: Poisoned | None, samples: Dataset, *, known: Dataset, on_grid: bool = False
) -> tuple[Exposure, Dataset]:
    """Return what an attacker on training does when the model is deployed, and to which samples.

    Args:
        poisoned: What it left, or None for nobody.
        samples: That nobody touched.
        known: The inputs that it knew the model would meet, of which `samples` are some.
        on_grid: Put inputs with a trigger on the domain's grid.
    """
    from casemate.inference.exposure import Exposure  # noqa: PLC0415 - imports torch

    domain = samples.domain
    if poisoned is not None and poisoned.trigger is not None:
        trigger = poisoned.trigger
        return Exposure(
            show=lambda x: trigger(x, domain), goal=trigger.target, round=on_grid
        ), samples
    if poisoned is not None and poisoned.aim is not None:
        aim = poisoned.aim
        only = None if aim.inputs is None else known.rows[aim.inputs]
        exposure = Exposure(goal=aim.target, source=aim.source, only=only)
        return exposure, samples if only is None else _and_rows(samples, known, only)
    return Exposure(round=on_grid, attacked=poisoned is not None), samples


def _and_rows(samples: Dataset, test: Dataset, rows: Tensor) -> Dataset:
    """Return samples of the test split and those of some rows, which may be among them already."""
    import torch  # noqa: PLC0415 - the caller has it

    if bool(torch.isin(rows, samples.rows).all()):
        return samples
    kept = torch.isin(test.rows, torch.cat([samples.rows, rows]))
    return test.select(kept.nonzero().squeeze(1), how=("and rows", samples.digest, rows.tolist()))
