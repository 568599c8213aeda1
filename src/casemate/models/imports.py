"""Import an object from the user's own code by "package.module:object"."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from casemate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importable", "imported", "said"]

_FORM = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<object>[A-Za-z_][\w.]*)")
_NAME = re.compile(r"[^A-Za-z0-9._-]")  # ends the name in a requirement
_LONGEST = 200  # characters of a foreign message that fit into a sentence


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put a folder first on `sys.path` for the time of the block."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the imported code may have tidied up itself
            sys.path.remove(entry)


def imported(reference: str, *, key: str, base_dir: Path) -> Any:
    """Return the object that "package.module:object" names.

    Importing runs the module's code: it is the user's own, named in the user's own file. What is
    at hand wherever Casemate is (the standard library, and the packages that Casemate itself
    needs) is refused: it holds no model of anybody's, but functions that run commands, load
    pickles or delete folders, which a file could otherwise name without any code beside it.

    Args:
        reference: What to import; the object may be nested, "module:Class.method".
        key: What the user calls it, such as "model.factory", for messages.
        base_dir: Folder that comes first on `sys.path`, only while importing.

    Raises:
        UsageError: If the reference is malformed, the module is none of the user's, the module
            or object does not exist, or importing it fails.
    """
    form = _FORM.fullmatch(reference)
    if form is None:
        raise UsageError(
            f'{key} is "{reference}"; write it as "package.module:object", without .py and slashes'
        )
    name = form["module"]
    with importable(base_dir):
        _refuse_clash(name, key, base_dir)
        _refuse_foreign(name, key, base_dir)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise _missing(name, error, key, base_dir) from error
        except (Exception, SystemExit) as error:
            raise UsageError(
                f'{key}: importing "{name}" raised {said(error)}; mend the module'
            ) from error
    value: Any = module
    for part in form["object"].split("."):
        if not hasattr(value, part):
            known = [k for k in dir(value) if not k.startswith("_")]
            raise UsageError(
                f'{key}: "{name}" has no "{form["object"]}".{did_you_mean(part, known)}'
            )
        value = getattr(value, part)
        if isinstance(value, ModuleType):
            raise UsageError(
                f'{key}: "{reference}" leads into the module "{value.__name__}"; name the module '
                "of yours that holds the object before the colon"
            )
    return value


def said(error: BaseException) -> str:
    """Return an exception as "Type: first line of its message", short enough for a sentence."""
    lines = str(error).strip().splitlines()
    line = lines[0].rstrip(" .;") if lines else ""
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _missing(name: str, error: ModuleNotFoundError, key: str, base_dir: Path) -> UsageError:
    """Say whether the module itself is missing or something that it imports."""
    lost = error.name or name
    if name != lost and not name.startswith(f"{lost}."):
        return UsageError(
            f'{key}: "{name}" imports "{lost}", which is not installed; install it beside Casemate'
        )
    parent, _, last = lost.rpartition(".")
    if parent:
        search: Any = getattr(sys.modules.get(parent), "__path__", ())
        where = f'the package "{parent}"'
    else:
        search, where = [str(base_dir.resolve())], f"{base_dir} or the installed packages"
    known = [found.name for found in pkgutil.iter_modules(search)]
    return UsageError(f'{key}: there is no module "{last}" in {where}.{did_you_mean(last, known)}')


def _refuse_clash(name: str, key: str, base_dir: Path) -> None:
    """Refuse a module of the user's that Python would take for one already loaded."""
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is None:
        return
    found = PathFinder.find_spec(top, [str(base_dir.resolve())])
    if found is None or found.origin is None:  # a folder without __init__.py shadows nothing
        return
    origin = getattr(loaded, "__file__", None)
    if origin is None or Path(origin).resolve() != Path(found.origin).resolve():
        raise UsageError(
            f'{key}: a module named "{top}" is already loaded from {origin or "Python itself"}, '
            f"so {found.origin} cannot be; rename yours"
        )


def _refuse_foreign(name: str, key: str, base_dir: Path) -> None:
    """Refuse a module that is at hand everywhere, unless the user has one of that name."""
    top = name.partition(".")[0]
    if _at_hand(top) and PathFinder.find_spec(top, [str(base_dir.resolve())]) is None:
        raise UsageError(
            f'{key}: "{top}" holds no model of yours; name a function of your own that returns it'
        )


def _at_hand(top: str) -> bool:
    """Return whether a package comes with Python or with Casemate."""
    if top in sys.stdlib_module_names or top == "casemate":
        return True
    sources = {_normal(name) for name in packages_distributions().get(top, ())}
    return bool(sources) and sources <= _own_packages()


@cache
def _own_packages() -> frozenset[str]:
    """Return the names of Casemate and of all packages that it needs, directly or not."""
    found: set[str] = set()
    waiting = ["casemate", "pip", "setuptools"]
    while waiting:
        name = _normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        with suppress(PackageNotFoundError):
            waiting += [_NAME.split(line, maxsplit=1)[0] for line in requires(name) or ()]
    return frozenset(found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
