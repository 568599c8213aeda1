"""The hardware gate: the model as deployed, in a number format, in memory whose bits can change."""
