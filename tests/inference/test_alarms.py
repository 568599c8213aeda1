"""How often a monitor of single inputs raises alarm, with scores that are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from backdoored import BACKDOOR, MARK, exposed, mark, samples, target

from casemate.errors import UsageError
from casemate.inference.alarms import Guarded, alarms
from casemate.inference.exposure import Exposure
from casemate.inference.monitors.mahalanobis import Mahalanobis
from casemate.inference.monitors.strip import STRIP
from casemate.random import stream

SEEN = []


@dataclass(frozen=True)
class Reads:
    """Scores an input by one feature, plus a share of the mark."""

    false_alarms: float = 0.05
    feature: int = 4
    weight: float = 0.2

    def fit(self, model, clean, rng):
        SEEN.append(clean)
        return self

    def scores(self, x):
        return x[:, self.feature] + self.weight * x[:, MARK]


def watched(monitor, *, clean=200, eligible=None, rng=0):
    data, held = samples(400), samples(600).select(torch.arange(400, 400 + clean), how="held out")
    return alarms(
        Guarded(monitor=monitor, clean=held),
        target(data, listens=True),
        target(data, listens=False),
        data,
        show=mark,
        eligible=np.ones(400, dtype=bool) if eligible is None else eligible,
        rng=stream(rng, "test"),
    )


def test_rates_are_shares_above_the_threshold_of_the_other_half():
    SEEN.clear()
    false, found, area, *_ = watched(Reads())
    known, again = SEEN  # in front of the model and of its reference
    assert known.digest == again.digest
    assert len(known) == 100
    held = samples(600).batch(torch.arange(400, 600))[:, 4]
    fresh = held[~torch.isin(torch.arange(400, 600), known.rows)]
    limit = fresh.sort(descending=True).values[4]  # five of 101
    x = samples(400).batch(slice(None))[:, 4]
    assert false.value == pytest.approx(float((x > limit).float().mean()))
    assert found.value == pytest.approx(float((x + 0.2 > limit).float().mean()))
    assert area.value == pytest.approx(float((x[:, None] + 0.2 > x[None]).float().mean()), abs=1e-4)
    assert (false.n, found.n) == (400, 400)


def test_only_eligible_samples_count_with_the_trigger():
    eligible = np.arange(400) % 4 == 1
    false, found, *_ = watched(Reads(), eligible=eligible)
    assert (false.n, found.n) == (400, 100)
    _, nothing, area, *_ = watched(Reads(), eligible=np.zeros(400, dtype=bool))
    assert nothing.value is None
    assert area.value is None


def test_a_monitor_that_sees_nothing_is_a_coin():
    false, found, area, *_ = watched(Reads(weight=0.0))
    assert false.value == found.value
    assert area.value == pytest.approx(0.5)


@dataclass(frozen=True)
class Trusts:
    """Scores an input by how sure the model is of the backdoor's target."""

    false_alarms: float = 0.05

    model: object = None

    def fit(self, model, clean, rng):
        return Trusts(model=model)

    def scores(self, x):
        return self.model.scores(x)[:, BACKDOOR.goal].detach()


def test_what_a_monitor_sees_of_a_clean_model_stands_beside_it():
    others = np.arange(400) % 4 != BACKDOOR.goal
    _, found, area, odd, flat = watched(Trusts(), eligible=others)
    assert (found.value, area.value) == (1.0, 1.0)
    assert odd.name == "monitor detection without the attack"
    assert odd.value == 0.0  # the reference does not listen to the mark
    assert flat.value < 0.5
    # who reads the input alone finds the same odd picture in front of both
    _, found, area, odd, flat = watched(Reads())
    assert (odd.value, flat.value) == (found.value, area.value) != (0.0, 0.5)


def test_the_halves_come_from_the_stream():
    assert watched(Reads()) == watched(Reads())
    assert watched(Reads()) != watched(Reads(), rng=1)


def test_too_few_clean_samples_are_refused():
    with pytest.raises(UsageError, match="too few for a false-alarm rate"):
        watched(Reads(), clean=30)


@pytest.mark.parametrize(
    ("monitor", "enough"),
    [
        (STRIP(overlays=10, false_alarms=0.05), 37),  # 19 in the larger half
        (STRIP(overlays=30, false_alarms=0.05), 60),
        (Mahalanobis(false_alarms=0.05), 37),
        (Reads(), 37),
    ],
    ids=str,
)
def test_how_many_clean_samples_are_enough_is_known_ahead(monitor, enough):
    held = samples(600).select(torch.arange(400, 400 + enough), how="held out")
    Guarded(monitor=monitor, clean=held).check()
    fewer = Guarded(monitor=monitor, clean=held.select(torch.arange(enough - 1), how="fewer"))
    with pytest.raises(UsageError, match=f"{enough - 1} in all; set it to {enough} or more"):
        fewer.check()
    watched(monitor, clean=enough)
    with pytest.raises(UsageError):
        watched(monitor, clean=enough - 1)


def test_the_sentence_tells_both_halves_apart():
    held = samples(600).select(torch.arange(120), how="held out")
    with pytest.raises(UsageError) as found:
        Guarded(monitor=STRIP(), clean=held).check()
    assert str(found.value) == (
        "strip is fitted on half of the clean samples, which takes 100, and its alarm is set on "
        "the other half, which takes 99 for false_alarms 0.01, but training.clean holds out 120 in "
        "all; set it to 200 or more"
    )


def test_mahalanobis_needs_two_samples_of_a_class():
    four = samples(600).select(torch.arange(4), how="one of each class")
    monitor = Mahalanobis(false_alarms=0.4)
    assert monitor.fewest(four) == 5
    assert monitor.fewest(samples(5)) == 2
    with pytest.raises(UsageError, match="4 in all; set it to 10 or more"):
        Guarded(monitor=monitor, clean=four).check()


@pytest.mark.parametrize(
    "monitor", [STRIP(overlays=10, false_alarms=0.05), Mahalanobis(false_alarms=0.05)]
)
def test_real_monitors_are_measured_beside_the_exposure(monitor):
    guarded = Guarded(monitor=monitor, clean=samples(500).select(torch.arange(400, 500), how="h"))
    evidence = exposed(BACKDOOR, guarded_by=guarded)
    assert evidence["monitor false alarms"].value < 0.2
    assert evidence["monitor area under the curve"].value > 0.9
    assert evidence["monitor detection"].n == int(evidence.samples["eligible"].sum()) == 300
    again = exposed(BACKDOOR, guarded_by=guarded, batch_size=7)
    assert again.measurements == evidence.measurements


def test_without_a_trigger_there_is_nothing_to_look_for():
    guarded = Guarded(monitor=Reads(), clean=samples(100))
    with pytest.raises(UsageError, match="leave monitor out"):
        exposed(Exposure(attacked=False), guarded_by=guarded)


@pytest.mark.parametrize("kind", [STRIP, Mahalanobis])
@pytest.mark.parametrize("rate", [0, 0.6, "few"])
def test_a_false_alarm_rate_out_of_range_is_refused(kind, rate):
    with pytest.raises(UsageError, match="false_alarms"):
        kind(false_alarms=rate)
