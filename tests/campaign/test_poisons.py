from __future__ import annotations

import numpy as np
import torch

from casemate.campaign.poisons import Poisons
from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.training.poisoned import Poisoned

CLEAN = Dataset.from_arrays(
    name="made",
    inputs=np.zeros((10, 4), dtype=np.float32),
    labels=np.zeros(10, dtype=np.int64),
    classes=("a", "b"),
    domain=Domain(shape=(4,)),
)
EACH = 10 * 8 + 2 * (4 * 4 + 8 + 8)  # labels, and two rows of patch, patched and touched


def poisoned(number):
    touched = torch.tensor([0, 1])
    changed = CLEAN.replaced(
        touched, inputs=torch.full((2, 4), float(number) / 10), labels=touched, how=number
    )
    return Poisoned(clean=CLEAN, dataset=changed, touched=touched)


def test_what_was_not_asked_for_longest_makes_room():
    poisons, made = Poisons(room=2 * EACH), []

    def of(number):
        def make():
            made.append(number)
            return poisoned(number)

        return poisons.of(str(number), make)

    first = of(0)
    of(1)
    assert of(0) is first
    of(2)  # 1 goes
    assert len(poisons) == 2
    assert of(0) is first
    of(1)
    assert made == [0, 1, 2, 1]


def test_the_last_set_stays_whatever_its_size():
    poisons = Poisons(room=1)
    kept = poisoned(0)
    poisons.put("a", kept)
    assert poisons.of("a", lambda: None) is kept
    poisons.put("b", poisoned(1))
    assert len(poisons) == 1
