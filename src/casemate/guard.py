"""The model guard: evaluate a model and leave it bit for bit as it was.

Inside, every module is in evaluation mode and no parameter requires a gradient. On leaving, also
by an exception, what an attack may have touched is put back: the mode of each module (not of all
by one `.train()`, which would thaw layers that their owner froze), `requires_grad`, `.grad`,
buffers and the global random states.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["guarded"]


@contextmanager
def guarded(
    modules: Sequence[nn.Module], devices: Iterable[torch.device | str] = ()
) -> Iterator[None]:
    """Put modules in evaluation mode without parameter gradients, and restore them on leaving.

    Evaluation mode is entered by each module's own `eval`, so a defense that stays random in
    evaluation mode, by design or by overriding `train`, keeps its behavior. `.grad` is None
    inside and the same object afterwards. Grad mode and torch's deterministic mode are not
    touched; grad mode is put back should the model change it. A buffer that a module adds at its
    first call is left there, because the module may have noted that it exists.

    Args:
        modules: What is evaluated; a module may occur more than once, alone or as a child.
        devices: Devices on which random numbers are drawn beside those where the modules' weights
            are; the states of torch on the CPU, of NumPy and of `random` are always restored.
    """
    undo: list[Callable[[], None]] = []
    try:
        every = list({id(m): m for root in modules for m in root.modules()}.values())
        # The random states come first: a module's own `eval` may already draw.
        undo.append(_random_states({*map(torch.device, devices), *_devices(every)}))
        undo.extend(_parameters(every))
        undo.extend(_buffers(every))
        undo.append(_modes(every))
        for root in modules:
            root.eval()
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _devices(modules: list[nn.Module]) -> set[torch.device]:
    own = (t for m in modules for t in (*m._parameters.values(), *m._buffers.values()))  # noqa: SLF001
    # - the public iterators walk the children of every child again, which a deep module feels
    return {tensor.device for tensor in own if tensor is not None}


def _modes(modules: list[nn.Module]) -> Callable[[], None]:
    """Note the mode of each module."""
    modes = [(m, m.training) for m in modules]

    def restore() -> None:
        for module, training in modes:
            # A module with a `train` of its own may do more than note the mode (merge weights,
            # say), so it is told to go back; its children's modes are set right below.
            if type(module).train is not nn.Module.train and module.training != training:
                module.train(training)
        for module, training in modes:
            module.training = training

    return restore


def _parameters(modules: list[nn.Module]) -> Iterator[Callable[[], None]]:
    """Freeze every parameter and take away its gradient."""
    for parameter in {id(p): p for m in modules for p in m.parameters(recurse=False)}.values():
        yield _parameter(parameter)
    for module in modules:
        if type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval:
            # Its mode switch may rewrite weights, and back again only up to rounding.
            for parameter in module.parameters():
                yield _content(parameter)


def _parameter(parameter: nn.Parameter) -> Callable[[], None]:
    requires_grad, grad = parameter.requires_grad, parameter.grad
    if requires_grad:
        parameter.requires_grad_(False)
    parameter.grad = None

    def restore() -> None:
        if parameter.requires_grad != requires_grad:
            parameter.requires_grad_(requires_grad)
        parameter.grad = grad

    return restore


def _buffers(modules: list[nn.Module]) -> Iterator[Callable[[], None]]:
    """Note every buffer: which tensor it is, and what that tensor holds."""
    for module in modules:
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            yield _place(module, name, buffer)
            yield _content(buffer)


def _place(module: nn.Module, name: str, buffer: Tensor) -> Callable[[], None]:
    def restore() -> None:
        module._buffers[name] = buffer  # noqa: SLF001 - setattr would refuse after a delattr

    return restore


def _content(tensor: Tensor) -> Callable[[], None]:
    saved = tensor.detach().clone()

    def restore() -> None:
        # `.data` bypasses the version counter: a graph that the owner built earlier stays valid.
        fits = tensor.shape == saved.shape and tensor.dtype == saved.dtype
        if fits and 0 not in tensor.stride():
            tensor.data.copy_(saved)
        elif not fits or not torch.equal(tensor, saved):  # an expanded tensor cannot be written
            tensor.data = saved

    return restore


def _random_states(devices: set[torch.device]) -> Callable[[], None]:
    """Note the global random states of torch, NumPy and Python."""
    import numpy as np  # noqa: PLC0415 - only its global state is needed

    cpu = torch.get_rng_state()
    cuda = [(d, torch.cuda.get_rng_state(d)) for d in devices if d.type == "cuda"]
    numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy state is the one to guard
    python_state = random.getstate()
    grad_mode = torch.is_grad_enabled()

    def restore() -> None:
        torch.set_grad_enabled(grad_mode)
        torch.set_rng_state(cpu)
        for device, state in cuda:
            torch.cuda.set_rng_state(state, device)
        np.random.set_state(numpy_state)  # noqa: NPY002 - as above
        random.setstate(python_state)

    return restore
