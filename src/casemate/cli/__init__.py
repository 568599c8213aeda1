"""The command line: the only part that prints. Nothing heavy is imported before a command runs."""
