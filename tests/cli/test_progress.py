"""What is said on the way where nobody watches a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from casemate.campaign.events import CampaignStarted, ModelMeasuring, ModelTraining
from casemate.cli import progress
from casemate.cli.progress import CampaignProgress


@pytest.fixture
def scene(monkeypatch):
    """A campaign's progress with a clock of its own, and what it has printed so far."""
    out, clock = io.StringIO(), [100.0]
    monkeypatch.setattr(progress, "err", lambda: Console(file=out, width=200))
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = CampaignProgress(SimpleNamespace(trials=()))
    shown(CampaignStarted(name="c", trials=4, cached=1))

    def later(seconds, event):
        clock[0] += seconds
        before = len(out.getvalue())
        shown(event)
        return out.getvalue()[before:].strip()

    return later


def training(done, words="16 models under attack"):
    return ModelTraining(model=words, done=done, total=1000, note=f"{done // 100} done")


def test_every_half_minute_a_line_says_how_far_training_is_and_what_is_left(scene):
    assert scene(0, training(0)) == ""
    assert scene(29, training(200)) == ""
    assert scene(11, training(250)) == (
        "training 16 models under attack: 2 done (25 %, about 2 min 0 s left)"
    )
    assert scene(29, training(400)) == ""
    assert scene(31, training(500)).endswith("5 done (50 %, about 1 min 40 s left)")


def test_what_begins_anew_has_a_time_of_its_own(scene):
    scene(40, training(400))
    assert scene(30, training(0, "defended models")) == "training defended models: 0 done (0 %)"
    found = scene(30, training(500, "defended models"))
    assert found == "training defended models: 5 done (50 %, about 30 s left)"


def test_accuracy_is_told_too(scene):
    scene(0, ModelMeasuring(model="vgg", done=1, total=4))
    found = scene(40, ModelMeasuring(model="vgg", done=2, total=4))
    assert found == "accuracy of vgg (50 %, about 40 s left)"
