"""Which modules and functions of torch are operations that faults are followed through."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.elementwise import MODULES, Elementwise
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.norm import BatchNorm
from casemate.hardware.ops.pooling import MapMean, Pool2d

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from casemate.hardware.graph import Op

__all__ = ["ADDS", "POOLS", "RESHAPES", "elementwise", "of_module", "pool"]

RESHAPES: tuple[Any, ...] = (torch.flatten, torch.reshape, "view", "reshape", "flatten")
"""Functions and methods that keep the order of elements."""
ADDS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
"""Functions and methods that add two tensors."""
POOLS: tuple[Any, ...] = (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, "mean", torch.mean)
"""Functions and methods that pool maps."""

_DROPOUTS = (F.dropout, F.dropout2d)
_PLAIN: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), "relu"),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), "tanh"),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), "sigmoid"),
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    **dict.fromkeys((*_DROPOUTS, "contiguous", "clone"), "identity"),
}
_MAP = 3  # dimensions of (channels, height, width)


def elementwise(target: Any, kwargs: Mapping[str, Any]) -> Op | None:
    """Return the operation of a function or method of one tensor."""
    name = _PLAIN.get(target)
    # unlike the module, the function drops in evaluation mode too unless told otherwise
    if name is None or (target in _DROPOUTS and kwargs.get("training", True)):
        return None
    return Elementwise(name)


def of_module(module: nn.Module, name: Callable[[str], str], shape: tuple[int, ...]) -> Op | None:
    """Return the operation of a module of torch's, if it is known.

    Args:
        module: In evaluation mode.
        name: Gives the name in memory of one of its tensors.
        shape: Of its input, batch apart.
    """
    if not type(module).__module__.startswith("torch.nn"):  # its `forward` may be another
        return None
    if type(module) in MODULES:
        return Elementwise(MODULES[type(module)])
    if isinstance(module, nn.Conv2d):
        return _convolution(module, name)
    if isinstance(module, nn.Linear):
        bias: Any = module.bias
        return Linear(weight=name("weight"), bias=None if bias is None else name("bias"))
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return _norm(module, name)
    return _pool(module, shape)


def pool(
    target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shape: tuple[int, ...]
) -> Op | None:
    """Return the operation of a pooling function called on maps of that shape."""
    if len(shape) != _MAP:
        return None
    if target in ("mean", torch.mean):
        return _mean(args, dict(kwargs))
    made: Callable[..., nn.Module] = {
        F.max_pool2d: nn.MaxPool2d,
        F.avg_pool2d: nn.AvgPool2d,
        F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    }[target]
    try:
        return _pool(made(*args, **kwargs), shape)
    except TypeError:  # a parameter that the module does not have
        return None


def _convolution(module: nn.Conv2d, name: Callable[[str], str]) -> Op | None:
    padding = _padding(module)
    if module.padding_mode != "zeros" or padding is None:
        return None
    return Conv2d(
        weight=name("weight"),
        bias=None if module.bias is None else name("bias"),
        stride=_two(module.stride),
        padding=padding,
        dilation=_two(module.dilation),
        groups=module.groups,
    )


def _padding(module: nn.Conv2d) -> tuple[int, int] | None:
    """Return the rows and columns on each side; None where the sides differ."""
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        kernel, dilation = _two(module.kernel_size), _two(module.dilation)
        high, wide = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return None if high % 2 or wide % 2 else (high // 2, wide // 2)
    return _two(module.padding)


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, name: Callable[[str], str]) -> Op | None:
    if not module.track_running_stats:  # it normalizes by the batch
        return None
    return BatchNorm(
        mean=name("running_mean"),
        variance=name("running_var"),
        weight=name("weight") if module.affine else None,
        bias=name("bias") if module.affine else None,
        eps=module.eps,
    )


def _mean(args: Sequence[Any], kwargs: dict[str, Any]) -> Op | None:
    dims = kwargs.pop("dim", args[0] if args else None)
    keep = bool(kwargs.pop("keepdim", args[1] if len(args) > 1 else False))
    if kwargs or not isinstance(dims, (tuple, list)):
        return None
    of_maps = sorted(int(d) % (1 + _MAP) for d in dims) == [2, 3]
    return MapMean(keep=keep) if of_maps else None


def _pool(module: nn.Module, shape: tuple[int, ...]) -> Op | None:
    """Return the operation of a pooling module."""
    if len(shape) != _MAP:
        return None
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1), [1, 1]):
        return MapMean(keep=True)
    if isinstance(module, nn.MaxPool2d) and not module.return_indices:
        return Pool2d(
            kind="max",
            kernel=_two(module.kernel_size),
            stride=_two(module.stride),
            padding=_two(module.padding),
            dilation=_two(module.dilation),
            ceil=module.ceil_mode,
        )
    plain = (
        isinstance(module, nn.AvgPool2d)
        and module.count_include_pad
        and module.divisor_override is None
    )
    if not plain:
        return None
    mean = cast("nn.AvgPool2d", module)
    return Pool2d(
        kind="mean",
        kernel=_two(mean.kernel_size),
        stride=_two(mean.stride),
        padding=_two(mean.padding),
        ceil=mean.ceil_mode,
    )


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
