"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BATCH_SIZE",
    "DEFAULT_STORE",
    "BatchSize",
    "Device",
    "JsonFile",
    "Quiet",
    "ReportFile",
    "Size",
    "SpecArgument",
    "StoreFolder",
]

BATCH_SIZE = 128
DEFAULT_STORE = Path(".casemate")

SpecArgument = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A YAML file, or study:NAME for a built-in campaign."),
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="NAME", help="Which of the campaign's sizes.")
]
StoreFolder = Annotated[
    Path,
    typer.Option(
        "--store", envvar="CASEMATE_STORE", metavar="FOLDER", help="Where results are kept."
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="HTML report; in the store if omitted."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also as JSON.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[
    int,
    typer.Option("--batch-size", min=1, metavar="N", help="Samples at a time; changes no rate."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
