"""What may be a class name: text that a terminal and a report can show without being led astray."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_class_names", "plain_text"]

LONGEST = 200
"""Characters in the longest name that is taken."""

# control characters move a terminal's cursor, lone surrogates cannot be written, line separators
# forge lines of a log
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# marks that turn the direction of the text around them
_DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain_text(text: str) -> str:
    """Return text such as a file name as it is if it is plain, else with escapes."""
    return ascii(text) if _is_odd(text) else text


def _is_odd(text: str) -> bool:
    return any(
        unicodedata.category(c) in _REFUSED_CATEGORIES or c in _DIRECTION_MARKS for c in text
    )


def check_class_names(names: Sequence[str], where: str) -> None:
    """Refuse class names that are missing, doubled or not plain text.

    Args:
        names: Class names by label; untrusted.
        where: The file or data set that they come from, for the message.

    Raises:
        UsageError: If there is no name, or one is empty, too long, doubled or not plain text.
    """
    if not names:
        raise UsageError(f"{where}: there are no classes; give at least one")
    seen: set[str] = set()
    for label, name in enumerate(names):
        if not name.strip() or len(name) > LONGEST:
            raise UsageError(
                f"{where}: the name of class {label} has {len(name)} characters; "
                f"give it 1 to {LONGEST} that are not all blank"
            )
        if _is_odd(name):
            raise UsageError(
                f"{where}: the name of class {label}, {name!r}, holds control characters; rename it"
            )
        if name in seen:
            raise UsageError(f"{where}: two classes are named {name!r}; rename one of them")
        seen.add(name)
