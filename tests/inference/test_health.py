"""Each flag is raised by a system that has the defect, and not by healthy ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import Wrapped, data_of, function_of, linear_case, scores_of, target_of
from torch import nn

from casemate.campaign.facts import NOT_LEARNED
from casemate.evidence import Severity
from casemate.hardware.chosen import NO_GOAL, SEARCH_STUCK
from casemate.inference import exposure_flags, health
from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft
from casemate.inference.evaluate import Setting, evaluate
from casemate.report.checks import CHECKS

ROOT = Path(__file__).parents[2]

CHOSEN = (NO_GOAL, SEARCH_STUCK)


def flags_of(module, data, attack, *, outputs="logits", **setting):
    target = target_of(module, data, outputs=outputs)
    evidence = evaluate(Setting(attack=attack, **setting), target, data)
    return {f.id: f for f in evidence.flags}


class Masked(nn.Module):
    """Rounds its input to steps so that gradients are zero, but looks healthy otherwise."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module((x * 20).round() / 20)


class Random(nn.Module):
    def __init__(self, module, size):
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x):
        return self.module(x + self.size * torch.randn_like(x))


HEALTHY = [
    FGSM(epsilon=0.02),
    BIM(epsilon=0.02),
    PGD(epsilon=0.02, restarts=2),
    PGD(epsilon=0.05, norm="l2"),
    PGD(epsilon=0.02, loss="margin"),
    LBFGS(),
    UniformNoise(epsilon=0.02),
]


@pytest.mark.parametrize("goal", [None, 1])
@pytest.mark.parametrize("attack", HEALTHY, ids=str)
def test_healthy_systems_raise_no_flag(attack, goal):
    """Also where most samples withstand."""
    module, data = linear_case(3, n=30)
    evidence = evaluate(Setting(attack=attack, goal=goal), target_of(module, data), data)
    assert not evidence.flags
    if attack.epsilon is not None:
        assert evidence["attack success rate"].value < 1


def test_healthy_on_a_trained_network(healthy, digits):
    data = digits.select(torch.arange(40), how="first")
    for attack in (BIM(epsilon=0.05), PGD(epsilon=0.05), LBFGS(searches=4, iterations=20)):
        evidence = evaluate(Setting(attack=attack), healthy, data)
        assert not evidence.failed, evidence.flags


@pytest.mark.parametrize("kind", ["rounded", "detached", "saturated", "argmax"])
def test_hidden_gradients_are_seen(kind):
    module, data = linear_case(3, n=20)
    system = {
        "rounded": Masked(module),
        "detached": Wrapped(module, lambda z, _x: z.detach()),
        "saturated": Wrapped(module, lambda z, _x: z * 1e6),
        "argmax": Wrapped(module, lambda z, _x: torch.eye(3)[z.argmax(1)] * 5),
    }[kind]
    labels = scores_of(system, data.batch(slice(None))).argmax(1)
    data = data_of(data.batch(slice(None)), labels, 3)
    for attack in (BIM(epsilon=0.01), PGD(epsilon=0.01), PGD(epsilon=0.05, norm="l2")):
        flags = flags_of(system, data, attack)
        assert flags["zero-gradients"].severity is Severity.FAILURE
        assert flags["unconstrained-failure"].severity is Severity.FAILURE
    flags = flags_of(system, data, FGSM(epsilon=0.01))
    assert "zero-gradients" in flags
    assert "unconstrained-failure" not in flags  # one step is no search
    # the logarithm of a probability does not saturate
    found = flags_of(system, data, LBFGS(searches=2))
    assert ("unconstrained-failure" in found) == (kind != "saturated")


def test_a_random_start_does_not_hide_a_masked_gradient():
    """Noise over the whole domain fools the model, but that is not the attack's doing."""
    module, data = linear_case(3, n=20)
    system = Masked(module)
    data = data_of(data.batch(slice(None)), scores_of(system, data.batch(slice(None))).argmax(1), 3)
    wild = craft(PGD(epsilon=1.0, restarts=5), target_of(system, data), data)
    assert wild.success.sum() > 10
    flag = flags_of(system, data, PGD(epsilon=0.01, restarts=5))["unconstrained-failure"]
    assert flag.message.startswith("16 of 16 samples")


def test_noise_needs_no_gradients():
    module, data = linear_case(3, n=20)
    flags = flags_of(Wrapped(module, lambda z, _x: z.detach()), data, UniformNoise())
    assert not flags


def test_randomness_is_seen():
    module, data = linear_case(3, n=20)
    flags = flags_of(Random(module, 0.05), data, PGD(epsilon=0.02, steps=3))
    assert flags["random-outputs"].severity is Severity.FAILURE
    # the last bits of a sum, as on a GPU, are no randomness
    assert "random-outputs" not in flags_of(Random(module, 1e-8), data, PGD(steps=3))


def test_lost_success_is_seen():
    module, data = linear_case(2, n=20)
    crafted = craft(FGSM(epsilon=0.0), target_of(module, data), data)
    eligible = np.ones(20, dtype=bool)
    clean = health.of_run(crafted, eligible, samples=20)
    assert not clean
    crafted.noted[3] = True
    (flag,) = health.of_run(crafted, eligible, samples=20)
    assert flag.id == "lost-success"
    assert flag.severity is Severity.WARNING  # one of twenty
    crafted.noted[4] = True
    (flag,) = health.of_run(crafted, eligible, samples=20)
    assert flag.severity is Severity.FAILURE
    assert flag.message.startswith("2 of 20 samples")
    eligible[3:5] = False
    assert not health.of_run(crafted, eligible, samples=20)


@pytest.mark.parametrize("attack", [PGD(epsilon=0.1, steps=4), UniformNoise(epsilon=0.1)], ids=str)
def test_nan_is_seen_and_is_no_success(attack):
    module, data = linear_case(3, n=12)
    origin = data.batch(slice(None))
    clean = {tuple(row.tolist()) for row in origin.flatten(1)}

    def change(z, x):
        known = torch.tensor([tuple(r.tolist()) in clean for r in x.detach().flatten(1)])
        return torch.where(known[:, None], z, torch.tensor(float("nan")))

    target = target_of(Wrapped(module, change), data)
    evidence = evaluate(Setting(attack=attack), target, data)
    assert evidence["attack success rate"].value == 0
    assert {f.id for f in evidence.failed} >= {"not-finite"}
    assert "lost-success" not in {f.id for f in evidence.flags}


def test_nan_on_clean_inputs_is_an_error_of_the_model():
    module, data = linear_case(3, n=12)
    broken = Wrapped(module, lambda z, _x: z * float("nan"))
    evidence = evaluate(Setting(attack=BIM()), target_of(broken, data), data)
    assert evidence["attack success rate"].value is None
    assert evidence["clean accuracy"].value == 0
    assert {f.id for f in evidence.failed} == {"not-finite", "nothing-attacked"}


def test_hidden_softmax_is_seen():
    module, data = linear_case(3, n=12)
    soft = nn.Sequential(module, nn.Softmax(1))
    flags = flags_of(soft, data, BIM(epsilon=0.01))
    assert flags["probabilities"].severity is Severity.FAILURE
    assert "probabilities" not in flags_of(soft, data, BIM(epsilon=0.01), outputs="probabilities")
    assert "probabilities" not in flags_of(soft, data, UniformNoise())
    assert "probabilities" not in flags_of(module, data, BIM(epsilon=0.01))


def test_logits_that_happen_to_look_like_probabilities_in_part():
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    assert health.looks_like_probabilities(p)
    assert not health.looks_like_probabilities(torch.tensor([[0.2, 0.8], [0.5, 0.6]]))
    assert not health.looks_like_probabilities(torch.tensor([[-0.2, 1.2], [0.5, 0.5]]))
    assert not health.looks_like_probabilities(torch.tensor([[float("nan"), 1.0]]))


def test_nothing_to_attack_is_said_with_figures():
    module, data = linear_case(3, n=12)
    wrong = data_of(data.batch(slice(None)), (data.targets + 1) % 3, 3)
    flags = flags_of(module, wrong, BIM())
    assert flags["nothing-attacked"].severity is Severity.FAILURE
    assert "got 0 of 12 samples right" in flags["nothing-attacked"].message
    only = data.select((data.targets == 1).nonzero().squeeze(1), how="one class")
    flags = flags_of(module, only, BIM(), goal=1)
    assert f"0 of {len(only)} samples" in flags["nothing-attacked"].message


@pytest.mark.parametrize(
    ("attack", "flagged"),
    [
        (PGD(epsilon=0.01, steps=30, step_size=1e-5), True),
        (PGD(epsilon=0.01, steps=3, step_size=1e-4), True),
        (BIM(epsilon=8 / 255, steps=2), True),
        (PGD(epsilon=0.005), False),
        (BIM(epsilon=0.005), False),
        (FGSM(epsilon=0.005), False),
    ],
    ids=str,
)
def test_unfinished_attacks_are_seen(attack, flagged):
    module, data = linear_case(2, n=40, spread=0.3)
    flags = flags_of(module, data, attack)
    assert ("unfinished" in flags) == flagged
    assert ("unconstrained-failure" in flags) is False


def test_an_exhausted_budget_is_said():
    from casemate.access import Budget

    module, data = linear_case(2, n=10)
    crafted = craft(
        PGD(epsilon=0.001, steps=5), target_of(module, data), data, budget=Budget(forward=20)
    )
    (flag,) = health.of_run(crafted, np.ones(10, dtype=bool), samples=10)
    assert flag.id == "budget-exhausted"
    assert flag.severity is Severity.WARNING
    assert "10 of 10 samples" in flag.message


def test_lbfgs_that_reaches_nothing_is_broken_not_withstood():
    """A minimizer has no epsilon: the whole domain is open to it."""
    module, data = linear_case(3, n=20, scale=60.0)
    flags = flags_of(module, data, LBFGS(initial_c=1e-9, searches=2))
    assert flags["unconstrained-failure"].severity is Severity.FAILURE
    assert "unconstrained-failure" not in flags_of(module, data, LBFGS())


def test_probes_of_a_black_box():
    module, data = linear_case(3, n=9)
    box = function_of(lambda x: scores_of(module, torch.from_numpy(x)).softmax(1), data)
    clean = box.scores(data.batch(slice(None)))
    assert not health.of_target(box, data, clean, gradients=False)


# -- the page --------------------------------------------------------------------------------------


def sections(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {
        title.strip("`"): body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def test_the_page_has_a_paragraph_on_each_flag():
    page = sections("health.md")
    assert list(page) == [*health.SENTENCES, *exposure_flags.FLAGS, NOT_LEARNED, *CHOSEN]
    for name, body in page.items():
        assert len(body.split()) > 40, name
        assert "**What to do.**" in body, name


def test_the_report_knows_each_flag():
    assert CHECKS.keys() == {*health.SENTENCES, *exposure_flags.FLAGS, NOT_LEARNED, *CHOSEN}


def test_sentences_have_their_figures():
    for name, sentence in health.SENTENCES.items():
        assert "{count} of {n} samples" in sentence, name


@pytest.mark.parametrize(
    ("attack", "flagged"),
    [
        (BIM(epsilon=0.04, steps=3), True),
        (BIM(epsilon=0.04, steps=11), False),
        (BIM(epsilon=0.01, steps=1, step_size=1e-9), True),
        (PGD(epsilon=0.01, steps=5, step_size=0.0019), True),
        (PGD(epsilon=0.01, steps=5, step_size=0.002), False),
        (PGD(epsilon=0.01, steps=1), False),
        (FGSM(epsilon=0.01), False),
    ],
)
def test_steps_that_cannot_use_epsilon_are_flagged(attack, flagged):
    module, data = linear_case(3, n=20)
    flags = flags_of(module, data, attack)
    if flagged:
        assert flags["out-of-reach"].severity is Severity.FAILURE
    else:
        assert "out-of-reach" not in flags


def test_an_epsilon_of_nothing_is_flagged():
    module, data = linear_case(3, n=20)
    flags = flags_of(module, data, PGD(epsilon=0.0))
    assert flags["no-budget"].severity is Severity.FAILURE
    domain = replace(data.domain, step=1 / 255)
    for epsilon, rounds, severity in (
        (1e-9, False, Severity.WARNING),
        (1e-9, True, Severity.FAILURE),
        (1 / 255, True, None),
    ):
        found = health.of_attack(PGD(epsilon=epsilon), domain, failed=3, eligible=4, rounds=rounds)
        assert [f.severity for f in found] == ([severity] if severity else [])
    assert health.of_attack(PGD(epsilon=0.0), domain, failed=0, eligible=4, rounds=True) == []
