"""Reports: what a campaign's record says, for people (`html`) and for machines (`json`).

Nothing here computes evidence. Records are aggregated for display, and everything in them is
untrusted text.
"""

from __future__ import annotations

from casemate.report import html, json

__all__ = ["html", "json"]
