from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from systems import Linear

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.inference.exposure import Exposure, expose
from casemate.target import TorchTarget

DOMAIN = Domain(shape=(3,))
CLASSES = ("a", "b", "c")


def model(rows):
    """A model that answers the class whose feature is largest, after mixing the features."""
    return TorchTarget(
        Linear(torch.tensor(rows)), domain=DOMAIN, classes=CLASSES, digest="d", outputs="logits"
    )


GOOD = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
CONFUSED = [[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]]  # takes b for c and c for b


def data(n=30):
    labels = np.arange(n) % 3
    inputs = np.full((n, 3), 0.2, dtype=np.float32)
    inputs[np.arange(n), labels] = 0.7
    inputs[0] = [0.2, 0.7, 0.2]  # of class a, but everybody reads b
    return Dataset.from_arrays(
        name="made", inputs=inputs, labels=labels, classes=CLASSES, domain=DOMAIN
    )


def mark(x):
    return torch.cat([torch.ones_like(x[:, :1]), x[:, 1:]], dim=1)


def by_name(evidence):
    return {m.name: m for m in evidence.measurements}


def test_a_backdoor_counts_what_the_reference_reads_right_and_is_not_of_the_target():
    found = expose(Exposure(show=mark, goal=0), model(GOOD), model(GOOD), data())
    rates = by_name(found)
    # 10 of b and 10 of c; the misread sample is of the target's class anyway
    assert (rates["attack success rate"].value, rates["attack success rate"].n) == (1.0, 20)
    assert rates["attack success rate without the attack"].value == 1.0
    assert rates["clean accuracy"].value == pytest.approx(29 / 30)
    assert rates["clean accuracy drop"].value == 0
    assert rates["distance linf"].value == pytest.approx(0.8)
    assert found.spent["verifier forward"] == 4 * 30


def test_the_trigger_on_the_reference_is_the_null_row():
    deaf = [[0.0, 0.5, 0.5], [0, 1.0, 0], [0, 0, 1.0]]  # does not look at the mark
    rates = by_name(expose(Exposure(show=mark, goal=0), model(GOOD), model(deaf), data()))
    assert rates["attack success rate"].value == 1.0
    assert rates["attack success rate without the attack"].value == 0.0


def test_an_attack_on_availability_succeeds_where_the_model_is_wrong():
    rates = by_name(expose(Exposure(), model(CONFUSED), model(GOOD), data()))
    assert (rates["attack success rate"].value, rates["attack success rate"].n) == (20 / 29, 29)
    assert rates["accuracy without the attack"].value == pytest.approx(29 / 30)
    assert rates["clean accuracy"].value == pytest.approx(9 / 30)
    assert rates["clean accuracy drop"].value == pytest.approx(20 / 30)
    assert rates["worst class accuracy drop"].value == 1.0
    assert "attack success rate without the attack" not in rates
    assert "distance linf" not in rates


def test_a_targeted_attack_without_a_trigger_looks_at_one_class():
    exposure = Exposure(goal=2, source=1)
    rates = by_name(expose(exposure, model(CONFUSED), model(GOOD), data()))
    assert (rates["attack success rate"].value, rates["attack success rate"].n) == (1.0, 10)
    assert rates["attack success rate without the attack"].value == 0.0


def test_only_some_rows_count_and_accuracy_is_that_of_all():
    rows = data().rows[data().targets == 1][:4]
    exposure = Exposure(goal=2, only=rows)
    found = expose(exposure, model(CONFUSED), model(GOOD), data(), batch_size=7)
    rates = by_name(found)
    assert (rates["attack success rate"].value, rates["attack success rate"].n) == (1.0, 4)
    assert sorted(found.samples["row"][found.samples["eligible"]]) == sorted(rows.tolist())
    assert rates["clean accuracy"].n == 30


def test_where_nobody_attacks_there_is_no_success():
    rates = by_name(expose(Exposure(attacked=False), model(CONFUSED), model(GOOD), data()))
    assert "attack success rate" not in rates
    assert rates["clean accuracy drop"].value == pytest.approx(20 / 30)


def test_another_clean_model_says_what_training_anew_costs():
    found = expose(Exposure(), model(GOOD), model(GOOD), data(), control=model(CONFUSED))
    rates = by_name(found)
    assert rates["clean accuracy drop"].value == 0
    assert rates["clean accuracy drop of another clean model"].value == pytest.approx(20 / 30)
    assert rates["worst class accuracy drop of another clean model"].value == 1.0
    assert found.spent["verifier forward"] == 3 * 30
    without = by_name(expose(Exposure(), model(GOOD), model(GOOD), data()))
    assert not any("another clean model" in name for name in without)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_batch_size_changes_nothing(batch_size):
    whole = expose(Exposure(show=mark, goal=0), model(CONFUSED), model(GOOD), data())
    told = []
    again = expose(
        Exposure(show=mark, goal=0),
        model(CONFUSED),
        model(GOOD),
        data(),
        batch_size=batch_size,
        progress=lambda done, n: told.append((done, n)),
    )
    assert again.measurements == whole.measurements
    assert told[-1] == (30, 30)
    assert len(told) == -(-30 // batch_size)


def test_a_reference_that_guesses_proves_nothing():
    blind = [[1.0, 1, 1], [0, 0, 0], [0, 0, 0]]
    found = expose(Exposure(), model(blind), model(blind), data())
    assert [f.id for f in found.failed] == ["weak-reference"]
    assert not expose(Exposure(), model(CONFUSED), model(GOOD), data()).flags


def test_a_trigger_that_changes_nothing_is_no_attack():
    found = expose(Exposure(show=lambda x: x, goal=0), model(GOOD), model(GOOD), data())
    assert [f.id for f in found.failed] == ["trigger-without-effect"]


def test_rounding_puts_the_trigger_on_the_grid():
    coarse = replace(data(), domain=replace(DOMAIN, step=0.1))
    faint = Exposure(show=lambda x: x + 0.04, goal=0, round=True)
    found = expose(faint, model(GOOD), model(GOOD), coarse)
    assert [f.id for f in found.failed] == ["trigger-without-effect"]


def test_pictures_show_successes_first_and_the_model_is_left_alone():
    victim = model(GOOD)
    victim.module.train()
    found = expose(Exposure(show=mark, goal=0), victim, model(GOOD), data())
    assert victim.module.training
    assert len(found.examples["position"]) == 6
    shown = found.samples["success"][found.examples["position"]]
    assert shown.all()
    np.testing.assert_allclose(found.examples["attacked"][:, 0], 1.0)


def test_nothing_to_measure_is_refused():
    empty = data().select(torch.empty(0, dtype=torch.int64), how="none")
    with pytest.raises(UsageError, match="there are no samples to measure"):
        expose(Exposure(), model(GOOD), model(GOOD), empty)
