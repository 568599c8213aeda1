"""Errors, each with the exit code that the command line ends with.

An error that the user can mend is one sentence that names the file, key and value and the
remedy. Anything else that escapes is a defect of Casemate and keeps its traceback.
"""

from __future__ import annotations

import difflib
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AccessDeniedError",
    "BudgetExceededError",
    "CasemateError",
    "ExitCode",
    "ParameterError",
    "StoreError",
    "UsageError",
    "did_you_mean",
    "nearest",
]


class ExitCode(IntEnum):
    """What `casemate` tells the shell."""

    MET = 0
    """The policy is met."""
    VIOLATED = 1
    """The policy is violated."""
    USAGE = 2
    """The configuration or the call is wrong."""
    INCOMPLETE = 3
    """A trial failed or was inconclusive."""


class CasemateError(Exception):
    """Base of all errors that Casemate raises on purpose."""

    exit_code = ExitCode.INCOMPLETE


class UsageError(CasemateError, ValueError):
    """The user can mend this: the message names the file, key, value and remedy."""

    exit_code = ExitCode.USAGE


class ParameterError(UsageError):
    """A parameter cannot have the value that it has.

    A campaign shows the reason behind the key's place in its file; Python shows key and reason.

    Args:
        key: Leads to the parameter: "size", "amount.percent", "classes[1]"; what holds it, such as
            "recipe", may come before.
        reason: The rest of the sentence: what is wrong with the value, and the remedy.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key} {self.reason}"


class StoreError(CasemateError):
    """The store cannot be read or written: busy, full, damaged or of another version."""

    exit_code = ExitCode.USAGE


class AccessDeniedError(UsageError):
    """An attack declares more access than the target can give."""


class BudgetExceededError(CasemateError):
    """An access was asked for more than its budget."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "…"?' for the nearest known word, or the list of what is known."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f' Did you mean "{near}"?'
    return f" Known: {', '.join(names)}." if names else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that another one was probably meant to be, or None."""
    folded = {name.casefold(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None
