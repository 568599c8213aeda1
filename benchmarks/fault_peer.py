"""The same faults by PyTorchFI 0.6.0, driven as its documentation shows.

It copies the whole model for each fault. Its own bit flips draw bits at random and quantize again,
so exact ones go in by value for weights and by a hook of ours for neurons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.fault_subjects import Subject
    from casemate.hardware.memory import Fault

__all__ = ["injected", "struck"]


def injected(made: Subject, faults: Sequence[Fault]) -> np.ndarray:
    """Return (faults, images) predictions with one inverted bit of a float32 weight each."""
    from pytorchfi.core import fault_injection  # noqa: PLC0415 - its environment alone has it

    size = len(made.x)
    kinds = [nn.Conv2d, nn.Linear]
    tool = fault_injection(made.module, size, input_shape=list(made.shape), layer_types=kinds)
    found = []
    with torch.no_grad():
        for fault in faults:
            k, *rest = [*fault.index, None, None][:4]
            broken = tool.declare_weight_fi(
                layer_num=[made.layers.index(fault.tensor.removesuffix(".weight"))],
                k=[k],
                dim1=[rest[0]],
                dim2=[rest[1]],
                dim3=[rest[2]],
                value=[_inverted(made, fault)],
            )
            found.append(broken(made.x).argmax(1).numpy())
    return np.stack(found)


def struck(made: Subject, layer: np.ndarray, where: np.ndarray, bit: np.ndarray) -> np.ndarray:
    """Return (faults,) predictions, each image of a batch with an inverted bit of its own.

    Args:
        made: Model and images; fault i strikes image i modulo their number.
        layer: (faults,) which convolution's output.
        where: (faults, 3) channel, row and column.
        bit: (faults,) of the float32 word.
    """
    from pytorchfi.core import fault_injection  # noqa: PLC0415 - as above

    size = len(made.x)
    tool = fault_injection(made.module, size, input_shape=list(made.shape), layer_types=[nn.Conv2d])
    found = []
    with torch.no_grad():
        for low in range(0, len(layer), size):
            part = slice(low, low + size)
            broken = tool.declare_neuron_fi(
                batch=list(range(size)),
                layer_num=layer[part].tolist(),
                dim1=where[part, 0].tolist(),
                dim2=where[part, 1].tolist(),
                dim3=where[part, 2].tolist(),
                function=_hook(tool, layer[part], where[part], bit[part]),
            )
            found.append(broken(made.x).argmax(1).numpy())
    return np.concatenate(found)


def _hook(tool: Any, layer: np.ndarray, where: np.ndarray, bit: np.ndarray) -> Any:
    masks = torch.from_numpy((np.uint32(1) << bit.astype(np.uint32)).view(np.int32).copy())

    def hook(module: nn.Module, given: Any, out: torch.Tensor) -> None:
        del module, given
        mine = np.flatnonzero(layer == tool.get_current_layer())
        index = (torch.from_numpy(mine), *torch.from_numpy(where[mine]).t())
        out[index] = (out[index].view(torch.int32) ^ masks[mine]).view(torch.float32)
        tool.updateLayer()
        if tool.get_current_layer() >= tool.get_total_layers():
            tool.reset_current_layer()

    return hook


def _inverted(made: Subject, fault: Fault) -> float:
    weight = made.module.get_parameter(fault.tensor)[fault.index].detach().numpy()
    raw = np.float32(weight).view(np.uint32) ^ np.uint32(1 << fault.bit)
    return float(raw.view(np.float32))
