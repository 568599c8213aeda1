"""The operations of a deployed network, one family a file."""
