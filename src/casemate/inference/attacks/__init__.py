"""Inference attacks, one file each."""
