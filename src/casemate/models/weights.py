"""Read a file of weights without running code, and load it into a module or say why not."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from casemate.errors import UsageError, did_you_mean
from casemate.models.imports import importable, said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["fit_weights", "read_weights"]

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which training scripts nest a state dict in a checkpoint, most telling first."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and common wrappers put before each name."""
_SHOWN = 3  # names listed in a sentence
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")

State = dict[str, Any]
Notes = tuple[str, ...]


def read_weights(path: Path, *, trust_pickle: bool = False) -> tuple[State, Notes]:
    """Return the state dict in a file, and what had to be done to find it.

    A name that ends in .safetensors is read as safetensors, anything else by `torch.load` with
    `weights_only=True`, which reads tensors and plain containers and runs no code.

    Args:
        path: The file.
        trust_pickle: Whether to let `torch.load` run the code in a pickle that it would refuse.
            Modules that the pickle names are looked up in the file's folder too.

    Raises:
        UsageError: If the file is missing, damaged, refused, or holds no state dict.
    """
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(
            f"model.weights: {path} is no file.{did_you_mean(path.name, there) if there else ''}"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path), ()
    return _unwrapped(_read_torch(path, trust_pickle=trust_pickle), path)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError  # noqa: PLC0415 - only for such files
    from safetensors.torch import load_file  # noqa: PLC0415 - as above

    try:
        return dict(load_file(path, device="cpu"))
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"model.weights: {path} is no intact safetensors file ({said(error)}); save it again"
        ) from error


def _read_torch(path: Path, *, trust_pickle: bool) -> Any:
    try:
        with (
            warnings.catch_warnings(),
            importable(path.parent) if trust_pickle else nullcontext(),
        ):
            # torch warns of pickle protocols and TorchScript; both end in a result or an error
            warnings.filterwarnings("ignore")
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle:
            raise _damaged(path, error) from error
        named = _REFUSED.search(str(error))
        what = f"it names {named[1]}" if named else "it holds more than tensors"
        raise UsageError(
            f"model.weights: {path} is a pickle that would run code of its author's choice when "
            f"read ({what}); save the state_dict as safetensors, or set trust_pickle: true if you "
            "trust whoever wrote it"
        ) from error
    except Exception as error:
        if "TorchScript" in str(error):
            raise UsageError(
                f"model.weights: {path} is a TorchScript program, not weights; save the module's "
                "state_dict as safetensors"
            ) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"model.weights: {path} cannot be read as a torch file ({said(error)}); "
        "save the module's state_dict again"
    )


def _unwrapped(value: Any, path: Path) -> tuple[State, Notes]:
    """Return the state dict inside a checkpoint."""
    notes: list[str] = []
    while True:
        if isinstance(value, nn.Module):
            notes.append(f"{path.name} holds a whole {type(value).__name__}; its weights are used")
            value = value.state_dict()
        if not isinstance(value, Mapping):
            raise UsageError(
                f"model.weights: {path} holds a {type(value).__name__} and no state dict; "
                "save the module's state_dict()"
            )
        inner = next(
            (k for k in _CONTAINERS if isinstance(value.get(k), (Mapping, nn.Module))), None
        )
        if inner is None:
            break
        notes.append(f'the weights are the entry "{inner}" of {path.name}')
        value = value[inner]
    if value and not any(isinstance(v, Tensor) for v in value.values()):
        raise UsageError(
            f"model.weights: {path} holds {_some(list(map(str, value)))} but no tensors; save the "
            "module's state_dict(), alone or under state_dict"
        )
    return {str(k): v for k, v in value.items()}, tuple(notes)


def fit_weights(module: nn.Module, weights: State, *, file: str, builder: str) -> Notes:
    """Load a state dict into a module; values are converted to the module's types.

    Args:
        module: Gets the weights.
        weights: Tensors by name; prefixes that wrappers put before all names are taken off.
        file: What the file is called, for messages.
        builder: What built the module, for messages.

    Returns:
        What was done to make the weights fit.

    Raises:
        UsageError: If a tensor is missing, left over, or of another shape or kind.
    """
    weights, notes = _without_prefix(module, weights)
    own = module.state_dict()
    unlike = [
        f"{name} is {_form(value)} but the model has {_form(own[name])}"
        for name, value in weights.items()
        if name in own and not _alike(value, own[name])
    ]
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    if not unlike:
        try:
            missing, unexpected = module.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            unlike = [said(error)]
    else:
        missing = [name for name in own if name not in weights]
        unexpected = [name for name in weights if name not in own]
    missing = [name for name in missing if not _needless(name, own, weights)]
    if unlike or missing or unexpected:
        faults = [
            f"missing {_some(missing)}" if missing else "",
            f"unexpected {_some(unexpected)}" if unexpected else "",
            _some(unlike) if unlike else "",
        ]
        raise UsageError(
            f"model.weights: {file} does not fit the model that {builder} builds: "
            f"{'; '.join(filter(None, faults))}; give the weights and the arguments of one model"
        )
    return (*notes, *_conversions(weights, own))


def _without_prefix(module: nn.Module, weights: State) -> tuple[State, Notes]:
    own = module.state_dict()
    notes = []
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            common = bool(weights) and all(name.startswith(prefix) for name in weights)
            if common and not all(name.startswith(prefix) for name in own):
                weights = {name.removeprefix(prefix): v for name, v in weights.items()}
                notes.append(f'the prefix "{prefix}" was taken off the names of the weights')
                changed = True
    return weights, tuple(notes)


def _alike(given: Any, own: Any) -> bool:
    """Whether a value can take the place of the module's: same shape and kind of number."""
    if not (isinstance(given, Tensor) and isinstance(own, Tensor)):  # a module's extra state
        return isinstance(given, Tensor) == isinstance(own, Tensor)
    if is_lazy(own):  # takes any shape
        return True
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (given, own)]
    return given.shape == own.shape and kinds[0] == kinds[1]


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _needless(name: str, own: State, weights: State) -> bool:
    """Whether a tensor need not be in the file: a counter, or tied to one that is."""
    if name.endswith("num_batches_tracked"):  # old checkpoints lack it, inference ignores it
        return True
    there = {_memory(own[k]) for k in weights if k in own}
    return _memory(own[name]) in there - {None}


def _memory(value: Any) -> tuple[int, torch.Size] | None:
    held = isinstance(value, Tensor) and not is_lazy(value) and value.data_ptr() != 0
    return (value.data_ptr(), value.shape) if held else None


def _conversions(weights: State, own: State) -> Notes:
    pairs = {
        (str(v.dtype).removeprefix("torch."), str(own[k].dtype).removeprefix("torch."))
        for k, v in weights.items()
        if isinstance(v, Tensor) and k in own and v.dtype != own[k].dtype
    }
    return tuple(f"weights in {a} were converted to the model's {b}" for a, b in sorted(pairs))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
