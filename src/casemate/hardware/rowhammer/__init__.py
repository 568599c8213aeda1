"""Rowhammer: which bits of a model can flip on a DRAM module, and which of them together."""
