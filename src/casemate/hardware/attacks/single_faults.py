"""What single faults do on average, whatever they strike: figures and map of one attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from casemate.hardware.attacks.attack import Observed
from casemate.hardware.attacks.vulnerability import vulnerability
from casemate.hardware.estimation.harm import Harm
from casemate.hardware.estimation.means import CORRUPTION, Means

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from casemate.hardware.attacks.vulnerability import Place
    from casemate.hardware.bench import Bench
    from casemate.hardware.effects import Effects
    from casemate.hardware.estimation.means import Estimator, Population
    from casemate.hardware.injector import Injector
    from casemate.stats import Measurement

__all__ = ["DETECTED", "NOTICED", "REPAIRED", "WIDE", "observed"]

DETECTED, REPAIRED = "faults detected", "faults repaired"

WIDE = "intervals wider than the tolerance after the budget"
"""Note that names the figures of which that is so."""

NOTICED = 400
"""Faults on which a defense's notice is measured."""


class Asked(Protocol):
    """What an attack asks: parameters of `Means`, and when a fault is critical."""

    @property
    def estimator(self) -> Estimator:
        """How faults are chosen."""

    @property
    def tolerance(self) -> float:
        """Longer half of each interval, as a share of the mean."""

    @property
    def budget(self) -> int:
        """Faults for each mean at most."""

    @property
    def critical(self) -> float:
        """Accuracy that a critical fault costs more than."""


def observed(
    attack: Asked,
    bench: Bench,
    population: Population,
    *,
    effects: Callable[[np.ndarray], Effects],
    injector: Injector,
    noticed: Callable[[], Sequence[Measurement]],
    places: Sequence[Place],
    bits: int,
    inferences: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Observed:
    """Return the means over all faults, and the map.

    Args:
        attack: What is asked.
        bench: The deployed model and what stands beside it.
        population: All faults.
        effects: Of faults by their numbers, as `Harm` takes it.
        injector: That tries them.
        noticed: Measures what a defense notices, once the means are known.
        places: Of the population's strata, in their order.
        bits: That can be struck.
        inferences: On how many images each fault may act; all if omitted.
        progress: Called with faults tried and faults in all, at most.
    """
    count = population.faults.population
    most = count if attack.estimator == "exhaustive" else min(3 * attack.budget, count)
    harm = Harm(
        effects,
        injector.labels,
        bench.evaluation.labels.numpy(),
        inferences=inferences,
        cases=injector.cases,
        told=None if progress is None else lambda tried: progress(min(tried, most), most),
    )
    sampled = Means(
        population,
        estimator=attack.estimator,
        tolerance=attack.tolerance,
        budget=attack.budget,
        rng=bench.rng,
    )
    means = sampled.of_harm(harm, attack.critical)
    wide = [n for n, e in means.items() if e.half_width > attack.tolerance * abs(e.mean)]
    return Observed(
        measurements=(*(e.measurement(name) for name, e in means.items()), *noticed()),
        notes={WIDE: wide} if wide else {},
        tables=vulnerability(places, sampled.strata(harm.corruption, means[CORRUPTION])),
        spent={
            "faults": harm.tried,
            "bits that can be struck": bits,
            "verifier forward": len(bench.evaluation),
        },
    )
