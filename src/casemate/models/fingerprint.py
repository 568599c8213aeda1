"""A content hash of what decides a model's outputs, for models that come as Python objects."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from casemate.data.dataset import digest_arrays
from casemate.identity import digest_file

__all__ = ["fingerprint"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LIBRARIES = frozenset({"builtins", "torch", "numpy", "sklearn", "scipy", *sys.stdlib_module_names})
_DEEPEST = 100
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_MODULE_INTERNALS = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def fingerprint(value: Any) -> str:
    """Return 32 hex digits that name a module, an estimator or a function by its content.

    It changes with: parameters, buffers and attributes of a torch module and its children, and
    their forward hooks; parameters and learned attributes of an estimator; a function's source
    file, defaults, closure and the global values that it reads, for a module among them also the
    source files of its submodules and of the modules that it uses; attributes of an object; the
    source file of each class that is not torch's, NumPy's, SciPy's, scikit-learn's or Python's
    own. It does not change with: the mode (training or not), `requires_grad`, `.grad`, the device,
    versions of those libraries, and what is only reached over a file, the network or compiled
    code. Random draws made while loading change it at each start.
    """
    walk = _Walk()
    walk.add(value, 0)
    while walk.later:
        walk.resume()
    return walk.hash.hexdigest()


class _Walk:
    """Feeds a hash with an object's content; what was met before is named by its number."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.met: dict[int, tuple[int, Any]] = {}  # the object too, so that its id stays taken
        self.later: list[Any] = []

    def token(self, *words: object) -> None:
        """Feed words; each ends in a separator, so that no two sequences look alike."""
        for word in words:
            self.hash.update(str(word).encode("utf-8", "backslashreplace") + b"\x00")

    def add(self, value: Any, depth: int) -> None:
        """Feed one value."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            self.token(type(value).__name__, repr(value))
            return
        if id(value) in self.met:
            self.token("met", self.met[id(value)][0])
            return
        if depth > _DEEPEST:  # Python's stack ends somewhere, too
            self.token("later", len(self.later))
            self.later.append(value)
            return
        self.met[id(value)] = (len(self.met), value)
        self._structured(value, depth + 1)

    def resume(self) -> None:
        """Feed what lay too deep when it was met."""
        waiting, self.later = self.later, []
        for value in waiting:
            self.add(value, 0)

    def _structured(self, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            self.token("tensor", _tensor(value))
        elif isinstance(value, (np.ndarray, np.generic)):
            self._array(np.asarray(value), depth)
        elif isinstance(value, nn.Module):
            self._module(value, depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, types.MethodType):
            self.token("method")
            self._all([value.__func__, value.__self__], depth)
        elif isinstance(value, functools.partial):
            self.token("partial")
            self._all([value.func, value.args, value.keywords], depth)
        elif isinstance(value, type):
            self._class(value, depth)
        elif isinstance(value, types.ModuleType):
            self.token("package", *(word for pair in _sources(value) for word in pair))
        else:
            self._collection_or_object(value, depth)

    def _collection_or_object(self, value: Any, depth: int) -> None:
        if isinstance(value, (Enum, PurePath, torch.dtype, torch.device)):
            self.token(type(value).__qualname__, value)
        elif isinstance(value, Mapping):
            self.token(type(value).__qualname__, len(value))
            for key in sorted(value, key=repr):
                self._all([key, value[key]], depth)
        elif isinstance(value, AbstractSet):
            # sets have no order; elements are named one by one and sorted
            self.token(type(value).__qualname__, *sorted(fingerprint(v) for v in value))
        elif isinstance(value, Sequence):
            self.token(type(value).__qualname__, len(value))
            self._all(value, depth)
        elif _top(type(value)) in sys.stdlib_module_names:  # locks, loggers, dates, patterns
            self.token(type(value).__qualname__, _ADDRESS.sub("", repr(value)))
        else:
            self._class(type(value), depth)
            self.add(_state(value), depth)

    def _all(self, values: Any, depth: int) -> None:
        for value in values:
            self.add(value, depth)

    def _array(self, array: np.ndarray, depth: int) -> None:
        self.token("array", array.dtype.str, array.dtype.names, array.shape)
        if array.dtype.hasobject:
            self._all(array.ravel().tolist(), depth)
        else:
            self.hash.update(np.ascontiguousarray(array).tobytes())

    def _module(self, module: nn.Module, depth: int) -> None:
        self._class(type(module), depth)
        own = {k: v for k, v in vars(module).items() if k not in _MODULE_INTERNALS}
        parts = (module._parameters, module._buffers, module._modules)  # noqa: SLF001 - torch has
        # no public names for one module's own parts with the empty ones (bias=False) among them
        for part in (*parts, own):
            self.add(dict(part), depth)
        for hooks in _HOOKS:
            self.add(list(getattr(module, hooks).values()), depth)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        code = function.__code__
        self.token("function", function.__module__, function.__qualname__)
        source = _source(function)
        self.token(source or "", code.co_firstlineno if source else code.co_code)
        if source is None or function.__name__ == "<lambda>":  # two may share a line
            plain = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
            self._all([code.co_names, code.co_varnames, plain], depth)
        self._all([function.__defaults__, function.__kwdefaults__], depth)
        variables = inspect.getclosurevars(function) if function.__closure__ else None
        if variables is not None:
            self.add(dict(variables.nonlocals), depth)
        for name in sorted(_names(code)):
            if name in function.__globals__:
                self.token(name)
                self.add(function.__globals__[name], depth)

    def _class(self, cls: type, depth: int) -> None:
        self.token("class", cls.__module__, cls.__qualname__)
        if _top(cls) in _LIBRARIES:
            return
        source = _source(cls)
        self.token(source or "")
        # also where the source is at hand: methods may call functions of other modules
        self.add({k: f for k, v in vars(cls).items() for f in _functions(v)}, depth)
        for base in cls.__bases__:
            self.add(base, depth)


def _functions(member: Any) -> list[types.FunctionType]:
    """Return the plain function behind a member of a class, if there is one."""
    if isinstance(member, property):
        member = member.fget
    plain = getattr(member, "__func__", member)
    return [plain] if isinstance(plain, types.FunctionType) else []


def _top(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function and the functions inside it may read as globals."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _source(value: Any) -> str | None:
    """Return the hash of the source file that defines a class, function or module, if any."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    if str(name).partition(".")[0] in _LIBRARIES:
        return None
    try:
        file = inspect.getsourcefile(value)
        return None if file is None else digest_file(Path(file))
    except (OSError, TypeError):
        return None


def _sources(module: types.ModuleType) -> list[tuple[str, str]]:
    """Return name and source hash of a module, its submodules and all modules that they use.

    Modules of installed packages are named with their own file, but not followed further.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one.__name__ in found or one.__name__.partition(".")[0] in _LIBRARIES:
            continue
        found[one.__name__] = _source(one) or ""
        if _INSTALLED.intersection(Path(getattr(one, "__file__", None) or "").parts):
            continue
        below = f"{one.__name__}."
        waiting += [
            m
            for name, m in list(sys.modules.items())
            if name.startswith(below) and isinstance(m, types.ModuleType)
        ]
        for value in list(vars(one).values()):
            home = value if isinstance(value, types.ModuleType) else _home(value)
            if home is not None:
                waiting.append(home)
    return sorted(found.items())


def _home(value: Any) -> types.ModuleType | None:
    """Return the module that defines a function or class."""
    if not isinstance(value, (type, types.FunctionType)):
        return None
    return sys.modules.get(str(value.__module__))


def _tensor(tensor: Tensor) -> str:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return digest_arrays(torch.view_as_real(tensor) if tensor.is_complex() else tensor)


def _state(value: Any) -> Any:
    """Return what an object holds: its attributes, or what copying it would carry over."""
    if hasattr(value, "__dict__"):
        return vars(value)
    try:
        return list(value.__reduce_ex__(2)[1:3])
    except Exception:  # noqa: BLE001 - compiled objects refuse in many ways; the class stays
        return None
