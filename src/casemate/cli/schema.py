"""`casemate schema`: the JSON Schema of a specification."""

from __future__ import annotations

import json

import typer

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of a campaign."""
    from casemate.campaign.schema import specification_schema  # noqa: PLC0415 - keeps --help fast

    typer.echo(json.dumps(specification_schema(), indent=2))
