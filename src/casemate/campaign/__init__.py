"""Campaigns: a specification becomes trials, a plan says what runs, the store keeps results."""
