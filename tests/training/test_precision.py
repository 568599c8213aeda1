from __future__ import annotations

import pytest
import torch

from casemate.training import precision
from casemate.training.precision import resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "float32"),
        ({"avx2": True, "avx512_bf16": False}, "float32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "float32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({"cpu_name": "AMD EPYC 9654", "avx512_bf16": True}, "bfloat16"),
        ({"cpu_name": "AMD EPYC 7763", "avx512_bf16": False}, "float32"),
    ],
)
def test_auto_follows_what_the_processor_can_do(monkeypatch, capabilities, expected):
    monkeypatch.setattr(precision, "_capabilities", lambda: capabilities)
    assert resolve("auto", CPU) == expected


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_a_number_format_that_is_asked_for_is_used(asked):
    assert resolve(asked, CPU) == asked


def test_auto_is_the_same_every_time():
    assert len({resolve("auto", CPU) for _ in range(3)}) == 1


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_auto_on_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve("auto", torch.device("cuda", 0)) == expected
