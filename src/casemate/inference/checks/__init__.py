"""The preflight's checks: each a small function that returns what is wrong, or nothing."""
