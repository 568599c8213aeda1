"""Casemate: a security test bench for machine-learning models, over their whole life."""

from __future__ import annotations

__version__ = "0.1.0"
