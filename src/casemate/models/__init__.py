"""Models: built-in architectures, and loading a user's own safely."""
