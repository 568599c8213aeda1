"""An attack gets no more than it declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from steppers import Recorder, curved_case
from systems import (
    function_of,
    linear_case,
    no_gradients,
    scores_of,
    target_of,
)

from casemate.errors import AccessDeniedError
from casemate.inference.attacks.noise import UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel


@dataclass(frozen=True, kw_only=True)
class Scores(Recorder):
    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="evasion-black-box",
        stage=Stage.INFERENCE,
        goals=(Goal.INTEGRITY_UNTARGETED,),
        access=Access.SCORES,
        knowledge=Knowledge.BLACK_BOX,
        budget="a test's",
    )


@pytest.mark.parametrize("kind", [Recorder, Scores])
def test_an_attack_gets_no_more_than_it_declares(kind, recorder, monkeypatch):
    module, data = curved_case()
    no_gradients(monkeypatch)
    found = craft(kind(), target_of(module, data), data, early_stop=False)
    assert found.spent["attack backward"] == 0
    assert recorder.answers
    for answer in recorder.answers:
        assert answer.gradient is None
        assert answer.loss is None
        assert (answer.scores is None) == (kind is Recorder)


def test_black_boxes_refuse_what_they_cannot_give():
    module, data = linear_case(3)
    box = function_of(lambda x: scores_of(module, torch.from_numpy(x)).softmax(1), data)
    with pytest.raises(AccessDeniedError, match="gradients"):
        craft(PGD(), box, data)
    labels = function_of(
        lambda x: scores_of(module, torch.from_numpy(x)).argmax(1), data, outputs="labels"
    )
    with pytest.raises(AccessDeniedError, match="labels only"):
        craft(Scores(), labels, data)
    found = craft(UniformNoise(epsilon=1.0, draws=20), labels, data)
    assert found.success.any()
