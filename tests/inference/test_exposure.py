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
from casemate.inference.exposure_flags import exposure_flags
from casemate.stats import wilson
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


def test_each_class_has_an_accuracy_of_its_own():
    found = expose(Exposure(), model(CONFUSED), model(GOOD), data()).by_class
    # of ten a everybody reads nine; b and c are taken for each other, but for the model alone
    assert [(m.value, m.n) for m in found] == [(0.9, 10), (0.0, 10), (0.0, 10)]
    assert [(m.low, m.high) for m in found] == [wilson(9, 10), wilson(0, 10), wilson(0, 10)]
    assert [m.name for m in found] == [f"clean accuracy of class {c}" for c in range(3)]
    good = expose(Exposure(), model(GOOD), model(CONFUSED), data()).by_class
    assert [m.value for m in good] == [0.9, 1.0, 1.0]


def test_the_accuracies_of_classes_are_untouched_by_the_trigger_and_by_what_counts():
    exposure = Exposure(show=mark, goal=0, only=data().rows[:4])
    found = expose(exposure, model(GOOD), model(GOOD), data(), batch_size=7)
    assert [(m.value, m.n) for m in found.by_class] == [(0.9, 10), (1.0, 10), (1.0, 10)]


def test_a_class_without_samples_is_not_measured_rather_than_zero():
    some = data().select(torch.arange(0, 30, 3), how="a only")
    first, *others = expose(Exposure(), model(GOOD), model(GOOD), some).by_class
    assert (first.value, first.n) == (0.9, 10)
    assert [(m.value, m.n, m.low) for m in others] == [(None, 0, None)] * 2


@pytest.mark.parametrize("classes", [2, 43])
def test_the_accuracies_of_classes_add_up_to_accuracy(classes):
    labels = np.arange(5 * classes) % classes
    inputs = np.eye(classes, dtype=np.float32)[labels]
    names = tuple(f"class {i}" for i in range(classes))
    made = Dataset.from_arrays(
        name="made",
        inputs=inputs,
        labels=labels,
        classes=names,
        domain=Domain(shape=(classes,)),
    )
    good, worse = torch.eye(classes), torch.eye(classes)
    worse[-1, -1] = -1  # it takes samples of the last class for another
    victim, reference = (
        TorchTarget(Linear(w), domain=made.domain, classes=names, digest="d", outputs="logits")
        for w in (worse, good)
    )
    found = expose(Exposure(), victim, reference, made)
    assert [m.value for m in found.by_class] == [1.0] * (classes - 1) + [0.0]
    assert {m.n for m in found.by_class} == {5}
    mean = sum(m.value for m in found.by_class) / classes
    assert by_name(found)["clean accuracy"].value == pytest.approx(mean)
    # they bury no other figure, and no rule of a policy can name them
    assert not {m.name for m in found.by_class} & set(by_name(found))


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


def test_a_model_that_answers_the_target_anyway_has_no_backdoor():
    always = [[0.0, 0, 0], [0, 1.0, 1.0], [0, 1.0, 1.0]]  # the others never score above zero
    found = expose(Exposure(show=mark, goal=0), model(always), model(GOOD), data())
    rates = by_name(found)
    assert rates["attack success rate"].value == 1.0
    assert rates["target answered without the trigger"].value == 1.0
    assert rates["target answered without the trigger"].n == 20
    assert [f.id for f in found.flags] == ["collapsed-victim"]
    sound = expose(Exposure(show=mark, goal=0), model(GOOD), model(GOOD), data())
    assert by_name(sound)["target answered without the trigger"].value == 0.0
    assert not sound.flags


def flagged_as_collapsed(n, already, hits, *, reference=0, accuracy=1.0):
    """Whether a victim is: of n samples it answers the target to some without and with the trigger.

    Args:
        n: Samples that count, of one class.
        already: To how many of them it answers the target as they are.
        hits: To how many with the trigger.
        reference: Further samples of that class that both take for the target.
        accuracy: Share of these that the victim takes for it as well.
    """
    misread = reference + n
    clean = np.where(np.arange(misread) < already, 0, 1)
    clean[n:] = np.where(np.arange(reference) < accuracy * reference, 0, 1)
    table = {
        "label": np.ones(misread, int),
        "eligible": np.arange(misread) < n,
        "success": np.arange(misread) < hits,
        "clean_label": clean,
        "reference_label": np.where(np.arange(misread) < n, 1, 0),
        "linf": np.ones(misread),
    }
    found = exposure_flags(table, DOMAIN, classes=3, attacked=True, goal=0)
    return "collapsed-victim" in [f.id for f in found]


@pytest.mark.parametrize(
    ("n", "already", "hits", "collapsed"),
    [
        (69, 69, 69, True),
        (69, 55, 56, True),
        (69, 27, 56, False),  # most of it is the trigger's
        (120, 2, 4, False),  # an error now and then: 3.3 %
        (120, 12, 12, True),  # 10 % [5.8, 16.7]
        (120, 10, 10, False),  # 8.3 % [4.6, 14.7]
        (9, 5, 9, False),  # five more than the reference: p is 2 / 2**5
        (9, 6, 9, True),
    ],
)
def test_a_victim_has_collapsed_where_much_success_needs_no_trigger(n, already, hits, collapsed):
    assert flagged_as_collapsed(n, already, hits) == collapsed


def test_what_the_reference_takes_for_the_target_as_well_is_no_collapse():
    # it reads eight samples better that the reference takes for the target
    assert flagged_as_collapsed(40, 10, 12)
    assert flagged_as_collapsed(40, 10, 12, reference=8)
    assert not flagged_as_collapsed(40, 10, 12, reference=8, accuracy=0.0)


def test_where_no_sample_counts_nothing_was_attacked():
    """The only class that the attacker wants is one that the reference never reads right."""
    nobody = Exposure(goal=0, only=torch.empty(0, dtype=torch.int64))
    found = expose(nobody, model(GOOD), model(GOOD), data())
    assert [f.id for f in found.failed] == ["nothing-attacked"]
    assert found["attack success rate"].value is None
    unattacked = expose(replace(nobody, attacked=False), model(GOOD), model(GOOD), data())
    assert not unattacked.failed


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


def test_only_a_trigger_leads_to_a_label():
    assert Exposure(show=lambda x: x, goal=2).leads_to == 2
    assert Exposure(goal=2, source=0).leads_to is None  # wanted of inputs as they are
    assert Exposure().leads_to is None
