from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from poison_sets import made
from scipy.stats import norm

from casemate.data.splits import holdout
from casemate.errors import UsageError
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.impact import Impact, fewest
from casemate.training.attacks.low_impact import LowImpact
from casemate.training.attacks.rehearsable import HELD, check_rehearsable

HINT = "or set rounds to 0 to test no bound"


class AlwaysRight:
    """A "model" of the samples of `numbered`."""

    def target(self, device):
        return self

    def labels(self, x):
        return x.flatten().long() % 4


def numbered(labels, groups=None):
    """Samples whose input, modulo 4, is their label."""
    labels = torch.as_tensor(labels)
    n = len(labels)
    data = made((1,), n=n, classes=4, kind=np.float32, low=0.0, high=4.0 * n)
    inputs = (4 * torch.arange(n) + labels).float().view(n, 1)
    groups = None if groups is None else torch.as_tensor(groups)
    return replace(data, inputs=inputs, labels=labels, groups=groups)


def judged(data, seed=0):
    """What a rehearsal finds in which not one sample is lost."""
    held = holdout(data, HELD, seed)[1]
    kinds = data.targets.unique().tolist()
    return Impact.of([AlwaysRight()], [AlwaysRight()], held, "cpu", kinds)


def refused(data, **bounds):
    with pytest.raises(UsageError) as found:
        check_rehearsable(data, **bounds)
    return str(found.value)


@pytest.mark.parametrize(
    ("bound", "classes", "samples"),
    [(0.005, 1, 598), (0.01, 1, 299), (0.05, 1, 59), (0.05, 10, 127), (0.05, 43, 177)],
)
def test_as_many_samples_show_the_bound_and_one_less_does_not(bound, classes, samples):
    assert fewest(bound, classes) == samples
    for n, kept in ((samples, True), (samples - 1, False)):
        found = Impact.of([AlwaysRight()], [AlwaysRight()], numbered([0] * n), "cpu")
        z2 = norm.ppf(1 - 0.05 / classes) ** 2
        upper = found.drop if classes == 1 else z2 / (n + z2)
        assert bool(upper <= bound) is kept


def test_no_drop_is_more_than_all():
    assert fewest(1.0) == fewest(1.0, 10) == 0
    assert fewest(0.999) == 1
    assert fewest(0.9) == 2  # of one sample a loss of 95 % is not ruled out


def test_what_is_refused_is_what_a_rehearsal_without_loss_would_refuse():
    data = numbered(np.arange(1000) % 4)  # 100 are held out, 25 of each class
    found = judged(data)
    check_rehearsable(data, delta=found.drop, delta_class=found.worst)
    refused(data, delta=0.999 * found.drop, delta_class=1.0)
    refused(data, delta=1.0, delta_class=0.999 * found.worst)
    check_rehearsable(data, delta=1.0, delta_class=1.0)


def test_the_sentence_names_the_key_and_how_many_it_takes():
    labels = np.repeat([0, 1, 3], [600, 300, 100])
    assert refused(numbered(labels), delta=0.02, delta_class=1.0) == (
        "delta is 0.02, but low-impact rehearses on a tenth of made, at most 100 samples, and it "
        "takes 149, a tenth of 1490, to show so small a drop even if none is lost; give more "
        f"samples, raise delta, {HINT}"
    )
    assert refused(numbered(labels), delta=0.03, delta_class=0.3) == (
        "delta_class is 0.3, but low-impact rehearses on a tenth of made, at most 10 samples of "
        'class "class 3", and it takes 12, a tenth of 120, to show so small a drop even if none is '
        f"lost; give more samples, raise delta_class, {HINT}"
    )


def test_groups_are_taken_to_be_as_large_as_they_can_be():
    # ten groups of each of two classes, one of which is larger; 2 of 20 are held out
    sizes = [5] * 9 + [50] + [5] * 9 + [60]
    groups = np.repeat(np.arange(20), sizes)
    data = numbered(np.repeat(np.arange(20) // 10, sizes), groups)
    enough = 1 - 0.05 ** (1 / 110)
    check_rehearsable(data, delta=enough + 1e-6, delta_class=1.0)
    assert "at most 110 samples, and" in refused(data, delta=enough - 1e-6, delta_class=1.0)
    z2 = norm.ppf(1 - 0.025) ** 2
    enough = z2 / (50 + z2)
    check_rehearsable(data, delta=1.0, delta_class=enough + 1e-6)
    found = refused(data, delta=1.0, delta_class=enough - 1e-6)
    assert 'at most 50 samples of class "class 0", and' in found


def test_only_rehearsals_ask_for_so_many():
    data = made((1, 8, 8))
    attack = LowImpact(amount=Amount(count=6), rounds=0)
    attack.check(data)
    with pytest.raises(UsageError, match=r"^delta is 0\.005, but low-impact rehearses on a tenth"):
        replace(attack, rounds=1).check(data)
    with pytest.raises(UsageError, match=r"^delta_class is 0\.05, but low-impact rehearses on"):
        replace(attack, rounds=1, delta=0.5).check(data)
    replace(attack, rounds=1, delta=0.5, delta_class=1.0).check(data)


def test_surrogates_that_cannot_be_built_are_refused():
    attack = LowImpact(amount=Amount(count=6), rounds=0, architecture="vgg")
    with pytest.raises(UsageError, match="vgg needs images of at least 16x16 pixels"):
        attack.check(made((1, 8, 8)))
