"""The benchmark's rows and its judge; nothing here is timed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.comparison import Result, compare
from benchmarks.contenders import CONTENDERS, PEERS, Task
from benchmarks.rows import Row, as_json, as_markdown, as_text
from benchmarks.verifier import Judgement, judge
from casemate.data.dataset import Dataset
from casemate.data.domain import Domain

KEYS = {"name", "value", "unit", "limit", "better", "peer"}


def result(*seconds, fooled=10, peak=(300 << 20, 20 << 20), outside=0):
    judgement = Judgement(n=20, fooled=fooled, outside=outside)
    return Result(seconds=seconds, judgement=judgement, peak=peak)


def results(**changes):
    return {
        "casemate": result(8.0, 9.0, 30.0),
        "casemate, dropping": result(2.0, 2.0, 2.0),
        "torchattacks": result(10.0, 10.0, 40.0),
        "foolbox": result(16.0, 20.0, 60.0),
        "art": result(20.0, 30.0, 50.0),
    } | changes


def by_end(rows, end):
    (row,) = [row for row in rows if row.name.endswith(end)]
    return row


def test_ratios_are_medians_of_the_rounds_ratios():
    rows = compare("cpu", "undefended", results())
    fastest = by_end(rows, "all steps / torchattacks (fastest)")
    # 0.8, 0.9, 0.75
    assert (fastest.value, fastest.limit, fastest.peer) == (pytest.approx(0.8), 1.0, "torchattacks")
    # 0.5, 0.45, 0.5
    assert by_end(rows, "all steps / foolbox").value == pytest.approx(0.5)
    assert by_end(rows, "all steps / foolbox").limit == 0.7
    assert by_end(rows, "all steps / art").limit == 0.7
    assert by_end(rows, "dropping / torchattacks (fastest)").value == pytest.approx(0.2)
    assert by_end(rows, "casemate, dropping: time").value == 2.0
    assert by_end(rows, "casemate: peak memory").value == 300
    assert by_end(rows, "casemate: peak memory above the loaded model's").value == 20
    assert not any(row.broken for row in rows)


def test_the_fastest_peer_is_found_and_not_assumed():
    rows = compare("cpu", "undefended", results(foolbox=result(5.0, 5.0, 5.0)))
    fastest = by_end(rows, "all steps / foolbox (fastest)")
    assert (fastest.limit, fastest.broken) == (0.7, True)
    assert by_end(rows, "all steps / torchattacks").limit is None
    assert by_end(rows, "dropping / foolbox (fastest)").broken


def test_dropping_is_held_to_its_limit_where_a_model_is_undefended():
    slow = {"casemate, dropping": result(9.0, 9.0, 9.0)}
    undefended = compare("cpu", "undefended", results(**slow))
    robust = compare("cpu", "robust", results(**slow))
    assert by_end(undefended, "dropping / torchattacks (fastest)").broken
    assert not by_end(robust, "dropping / torchattacks (fastest)").broken


def test_speed_that_costs_success_breaks_a_limit():
    rows = compare(
        "cpu", "undefended", results(**{"casemate, dropping": result(1.0, 1.0, 1.0, fooled=9)})
    )
    assert by_end(rows, "success, dropping - best peer").value == -5.0
    assert by_end(rows, "success, dropping - best peer").broken


def test_points_outside_the_ball_break_a_limit():
    rows = compare("cpu", "robust", results(casemate=result(1.0, 1.0, 1.0, outside=1)))
    assert by_end(rows, "robust: casemate: images outside the ball").broken
    assert not by_end(rows, "art: images outside the ball").broken


def test_memory_that_cannot_be_known_has_no_row():
    rows = compare("cpu", "robust", results(art=result(1.0, 1.0, 1.0, peak=None)))
    assert not [row for row in rows if row.peer == "art" and "memory" in row.name]


def test_rows_are_json_with_one_schema():
    rows = compare("cpu", "undefended", results())
    for entry in json.loads(as_json(rows)):
        assert set(entry) == KEYS
        assert isinstance(entry["value"], int | float)
        assert math.isfinite(entry["value"])
        assert entry["better"] in {"lower", "higher"}
        assert entry["peer"] in {"", *PEERS}
        assert entry["limit"] is None or isinstance(entry["limit"], int | float)
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("value", "better", "broken"),
    [
        (0.9, "lower", False),
        (1.0, "lower", False),
        (1.1, "lower", True),
        (math.nan, "lower", True),
        (0.9, "higher", True),
        (1.0, "higher", False),
        (math.nan, "higher", True),
    ],
)
def test_a_limit_is_broken_on_its_wrong_side_only(value, better, broken):
    assert Row(name="r", value=value, unit="x", limit=1.0, better=better).broken is broken


def test_a_figure_without_a_limit_breaks_nothing():
    assert not Row(name="r", value=math.inf, unit="x").broken


def test_tables_show_the_figure_its_limit_and_whether_it_is_kept():
    rows = [
        Row(name="a", value=0.456, unit="x", limit=0.3),
        Row(name="b", value=0.123, unit="x", limit=0.3),
        Row(name="c", value=99.44, unit="%", limit=-1.0, better="higher"),
        Row(name="d", value=12.34, unit="MiB"),
    ]
    assert as_markdown(rows).splitlines()[2:] == [
        "| a | 0.46 x | ≤ 0.3 x | no |",
        "| b | 0.12 x | ≤ 0.3 x | yes |",
        "| c | 99.4 % | ≥ -1 % | yes |",
        "| d | 12.3 MiB |  |  |",
    ]
    assert [line.endswith("BROKEN") for line in as_text(rows).splitlines()] == [True] + 3 * [False]


class Threshold(nn.Module):
    """Reads an image of one value as class 1 above one half."""

    def forward(self, x):
        z = x.flatten(1).sum(1) - 0.5
        return torch.stack([-z, z], dim=1)


def judged(clean, attacked, labels, epsilon=0.2):
    images = [torch.tensor(v).view(-1, 1, 1, 1) for v in (clean, attacked)]
    return judge(Threshold(), *images, torch.tensor(labels), epsilon)


def test_only_points_that_fool_within_the_ball_and_were_read_right_count():
    found = judged(
        [0.4, 0.4, 0.4, 0.4, 0.9, 0.6],
        [0.55, 0.45, 0.65, float("nan"), 0.9, 0.45],
        [0, 0, 0, 0, 0, 1],
    )
    # fooled; not fooled; out of the ball; no number; wrong without any attack; fooled
    assert found == Judgement(n=5, fooled=2, outside=2)
    assert found.success == pytest.approx(40)


def test_points_outside_the_box_do_not_count():
    assert judged([0.05], [-0.1], [1]).n == 0
    assert judged([0.95], [1.1], [1]).outside == 1
    assert judged([0.05], [-0.1], [0]).outside == 1


def test_a_point_on_the_edge_of_the_ball_is_inside_it():
    clean, epsilon = np.float32(0.45), 8 / 255
    edge = float(np.float32(clean + np.float32(epsilon)))
    assert judged([float(clean)], [edge + 0.02], [0], epsilon).outside == 1
    assert judged([float(clean)], [edge], [0], epsilon).outside == 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="attacked images"):
        judge(Threshold(), torch.zeros(2, 1, 1, 1), torch.zeros(3, 1, 1, 1), torch.zeros(2), 0.1)


def test_both_runs_of_casemate_find_what_the_closed_form_says():
    """A linear model falls exactly where its margin is smaller than epsilon."""
    values = torch.tensor([0.30, 0.47, 0.49, 0.51, 0.53, 0.80]).view(-1, 1, 1, 1)
    labels = (values.flatten() > 0.5).long()
    data = Dataset.from_arrays(
        name="line",
        inputs=values.numpy(),
        labels=labels.numpy(),
        classes=("low", "high"),
        domain=Domain(shape=(1, 1, 1)),
    )
    task = Task(steps=10, epsilon=0.025, step_size=0.01, batch_size=4)
    for name in ("casemate", "casemate, dropping"):
        points = CONTENDERS[name](Threshold(), data, task)()
        found = judge(Threshold(), values, points, labels, task.epsilon)
        assert found == Judgement(n=6, fooled=2, outside=0), name
