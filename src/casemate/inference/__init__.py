"""The inference gate: attacks on a model in use, defenses before it, and how both are measured."""
