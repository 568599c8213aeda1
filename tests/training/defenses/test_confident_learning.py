"""Confident learning against an example worked by hand, and flips among separable clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sanitizing import lab, made

from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.defenses.confident_learning import (
    ConfidentLearning,
    confident_joint,
    margins,
    mislabeled,
    noise,
)

# Ten samples of three classes. Thresholds are means of the label's own probability:
#   t_0 = (0.9 + 0.8 + 0.2 + 0.5) / 4 = 0.6,  t_1 = (0.7 + 0.6 + 0.2) / 3 = 0.5,
#   t_2 = (0.9 + 0.3 + 0.6) / 3 = 0.6
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PROBABILITIES = torch.tensor(
    [
        [0.9, 0.1, 0.0],  # 0
        [0.8, 0.1, 0.1],  # 0
        [0.2, 0.7, 0.1],  # 1
        [0.5, 0.4, 0.1],  # nobody: below 0.6 and 0.5
        [0.1, 0.7, 0.2],  # 1
        [0.3, 0.6, 0.1],  # 1
        [0.15, 0.2, 0.65],  # 2
        [0.0, 0.1, 0.9],  # 2
        [0.1, 0.6, 0.3],  # 1
        [0.2, 0.2, 0.6],  # 2, at its threshold
    ],
    dtype=torch.float64,
)
JOINT = torch.tensor([[2, 1, 0], [0, 2, 1], [0, 1, 2]])


def test_the_confident_joint_by_hand():
    assert torch.equal(confident_joint(PROBABILITIES, LABELS), JOINT)


def test_its_rows_are_scaled_to_the_classes():
    # the first row counts 3 of 4 samples, so its 1 becomes 4/3, which is 1; of 8 samples, 8/3: 3
    expected = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 1, 0]])
    assert torch.equal(noise(JOINT, LABELS), expected)
    twice = torch.cat([LABELS, torch.zeros(4, dtype=torch.int64)])
    assert noise(JOINT, twice)[0].tolist() == [0, 3, 0]
    assert noise(torch.zeros(3, 3, dtype=torch.int64), LABELS).sum() == 0


def test_of_two_classes_above_their_thresholds_the_likelier_counts():
    labels = torch.tensor([0, 1, 1])
    found = torch.tensor([[0.4, 0.6], [0.6, 0.4], [0.8, 0.2]])  # thresholds 0.4 and 0.3
    assert confident_joint(found, labels).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("confusion", [2, 6, 8]),
        ("joint", [2, 6, 8]),
        ("class", [2, 6, 8]),
        ("noise-rate", [2, 6, 8]),
        ("both", [2, 6, 8]),
    ],
)
def test_all_methods_agree_on_a_plain_case(method, expected):
    assert mislabeled(PROBABILITIES, LABELS, method).nonzero().flatten().tolist() == expected


# Labels 0: four sure samples, one sure of class 1, one of class 2 with a lower probability of its
# label, and one torn between all three.
TORN = torch.tensor(
    [
        [0.99, 0.005, 0.005],
        [0.99, 0.005, 0.005],
        [0.99, 0.005, 0.005],
        [0.99, 0.005, 0.005],
        [0.30, 0.70, 0.0],
        [0.28, 0.36, 0.36],
        [0.0, 1.0, 0.0],
        [0.3, 0.6, 0.1],
        [0.0, 0.0, 1.0],
    ],
    dtype=torch.float64,
)
TORN_LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_where_the_methods_differ():
    # t_0 = 0.757, t_1 = 0.8, t_2 = 1: nobody counts the two doubtful ones, the diagonal is all
    assert mislabeled(TORN, TORN_LABELS, "confusion").nonzero().flatten().tolist() == [4, 5]
    for method in ("joint", "class", "noise-rate", "both"):
        assert not mislabeled(TORN, TORN_LABELS, method).any()
    # with t_1 = 0.65, sample 4 counts: joint row (4, 1, 0), scaled to 6: one sample of class 1
    labels = torch.cat([TORN_LABELS, torch.tensor([1, 1])])
    found = torch.cat([TORN, torch.tensor([[0.5, 0.5, 0.0]] * 2, dtype=torch.float64)])
    assert confident_joint(found, labels)[0].tolist() == [4, 1, 0]
    assert mislabeled(found, labels, "joint")[:6].nonzero().flatten().tolist() == [4]
    assert mislabeled(found, labels, "class")[:6].nonzero().flatten().tolist() == [5]  # 0.28 < 0.3
    assert mislabeled(found, labels, "noise-rate")[:6].nonzero().flatten().tolist() == [4]  # 0.4
    assert not mislabeled(found, labels, "both")[:6].any()


def test_margins():
    found = margins(PROBABILITIES[:3], LABELS[:3])
    torch.testing.assert_close(found[2], torch.tensor([-torch.inf, 0.5, -0.1], dtype=torch.float64))
    torch.testing.assert_close(found.amax(1)[0], torch.tensor(-0.8, dtype=torch.float64))


@pytest.mark.parametrize("action", ["remove", "relabel"])
@pytest.mark.parametrize("method", ["class", "noise-rate", "both", "joint", "confusion"])
def test_flips_among_clusters_are_found_and_mended(method, action):
    clean = made((20,), labels=np.arange(300) % 3, kind=np.float32)
    poisoned = LabelFlips(amount=Amount(count=30)).poison(clean, stream(0, "flips"))
    trainer = lab(epochs=5)
    found = ConfidentLearning(folds=3, method=method, action=action).sanitize(
        poisoned.dataset, stream(0, "test"), trainer
    )
    hit = torch.isin(found.suspects, poisoned.touched)
    assert hit.sum() >= 24  # of 30
    assert (~hit).sum() <= 3
    assert trainer.models == 3
    if action == "relabel":
        assert len(found.dataset) == 300
        wrong = found.dataset.targets != clean.targets
        assert wrong.sum() <= 6
    assert found.scores[poisoned.touched].min() > -1
    assert found.scores[poisoned.touched].mean() > 0
    assert len(found.notes["noise"]) == 3


def test_no_sample_is_judged_by_a_model_that_has_seen_it_or_its_group(monkeypatch):
    groups = np.arange(60) // 6 * 3 + np.arange(60) % 3
    data = made((1, 8, 8), groups=groups)
    trainer = lab()
    seen = {}
    original = trainer.trained

    def trained(view, *, number):
        seen[number] = view
        return original(view, number=number)

    monkeypatch.setattr(trainer, "trained", trained)
    ConfidentLearning(folds=3).sanitize(data, stream(0, "test"), trainer)
    held = [set(range(60)) - set(v.rows.tolist()) for v in seen.values()]
    assert sorted(row for h in held for row in h) == list(range(60))
    for rows, view in zip(held, seen.values(), strict=True):
        assert not set(data.group_ids[sorted(rows)].tolist()) & set(view.group_ids.tolist())
    assert len({v.digest for v in seen.values()}) == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"folds": 1}, "folds must be a whole number from 2"),
        ({"method": "prune"}, 'method cannot be "prune"'),
        ({"action": "keep"}, 'action cannot be "keep"'),
    ],
)
def test_parameters_that_make_no_sense(fields, words):
    with pytest.raises(UsageError, match=words):
        ConfidentLearning(**fields)


def test_more_folds_than_samples_are_refused():
    data = made((1, 8, 8), groups=np.arange(60) // 30)
    with pytest.raises(UsageError, match="folds is 4, but made has 2 groups; ask for at most"):
        ConfidentLearning().sanitize(data, stream(0, "test"), lab())
    with pytest.raises(UsageError, match="folds is 4, but made has 2 groups; ask for at most"):
        ConfidentLearning().check(data, lab())
    ConfidentLearning(folds=2).check(data, lab())
