"""Checks of parameters at the hardware gate, each one sentence."""

from __future__ import annotations

import math
from typing import Any

from casemate.errors import ParameterError, did_you_mean

__all__ = ["check_choice", "check_class", "check_names", "check_number", "check_whole"]


def check_whole(key: str, value: Any, *, low: int = 1, high: int = 2**31 - 1) -> None:
    """Refuse what is no whole number from `low` to `high`.

    Raises:
        ParameterError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(key, f"must be a whole number from {low} to {high}, got {value!r}")


def check_number(key: str, value: Any, *, low: float, high: float = math.inf) -> None:
    """Refuse what is no finite number from `low` to `high`.

    Raises:
        ParameterError: If it is none.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        most = "" if high == math.inf else f" and at most {high:g}"
        raise ParameterError(key, f"must be a number of at least {low:g}{most}, got {value!r}")


def check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse what is none of the known words.

    Raises:
        ParameterError: If it is none.
    """
    if value not in known:
        raise ParameterError(key, f'is "{value}", but must be one of {", ".join(known)}')


def check_names(key: str, names: Any, known: tuple[str, ...] | None = None) -> None:
    """Refuse what is no list of names, or holds an unknown one; None is no list and is fine.

    Raises:
        ParameterError: If it is none.
    """
    if isinstance(names, str):  # whose letters would be taken for names
        raise ParameterError(key, f'must be a list of names, got "{names}"; put it in one')
    if names is not None and not names:
        raise ParameterError(key, "is empty; name at least one or leave it out")
    for name in names or ():
        if not isinstance(name, str):
            raise ParameterError(key, f"must be a list of names, got {name!r} in it")
        if known is not None and name not in known:
            raise ParameterError(key, f'has no "{name}".{did_you_mean(str(name), known)}')


def check_class(key: str, label: int, classes: int) -> None:
    """Refuse a label that the model does not know.

    Raises:
        ParameterError: If it is no label at all, or none of 0 to `classes` - 1.
    """
    check_whole(key, label, low=0)
    if not 0 <= label < classes:
        raise ParameterError(
            key, f"is the label {label}, but the model knows the labels 0 to {classes - 1}"
        )
