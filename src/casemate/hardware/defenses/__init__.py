"""Defenses at the hardware gate, each in a file of its own."""
