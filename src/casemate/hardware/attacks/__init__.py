"""Attacks on a deployed model: which bits of its memory to flip, and what that does to it."""
