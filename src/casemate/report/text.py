"""Untrusted text made fit to be shown: no invisible controls, no walls of characters.

Escaping for HTML is the template engine's work; this is about what a reader sees. A name that
holds a right-to-left override could make a report read backwards, and one of ten thousand
characters could push everything else off the page.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["LONGEST", "SENTENCE", "cut", "tail", "visible", "whole"]

LONGEST = 80
"""Characters of a name that are shown before its middle is left out."""
SENTENCE = 600
"""The same of a sentence or of parameters in words: what Casemate writes is never that long."""

_KEPT = frozenset("\n\t\u00a0\u202f")
_UNUSUAL = re.compile(r"[^\n\t -~]")
# Cc control, Cf format (bidi marks, zero-width), Cs surrogates, Co private use, Cn unassigned,
# Zl and Zp separators of lines and paragraphs
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """Return the text with every invisible or reordering character written as its code point.

    A right-to-left override becomes "⟨U+202E⟩"; line feeds and tabs stay.
    """
    return _UNUSUAL.sub(lambda found: _written(found[0]), text)


@lru_cache(maxsize=4096)
def _written(c: str) -> str:
    if c in _KEPT or unicodedata.category(c) not in _HIDDEN:
        return c
    return f"⟨U+{ord(c):04X}⟩"


def cut(text: object, longest: int = LONGEST) -> str:
    """Return the text, its middle left out (and said so) where it is longer than `longest`."""
    whole = str(text)
    if len(whole) <= longest:
        return whole
    head = longest * 2 // 3
    return f"{whole[:head]} … {whole[-(longest - head) :]} ({len(whole):,} characters)"


def whole(text: object) -> str:
    """Return a sentence as it is; only what untrusted text made endless loses its middle."""
    return cut(text, SENTENCE)


def tail(text: str, longest: int) -> str:
    """Return the end of a long text, where a traceback says what went wrong."""
    if len(text) <= longest:
        return text
    return f"… {len(text) - longest:,} characters left out …\n{text[-longest:]}"
