"""Defenses in front of the model, one file each."""
