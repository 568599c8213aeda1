"""`casemate run`: compute what is missing of a campaign, judge it, write the report."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from casemate.cli.options import (
    BATCH_SIZE,
    DEFAULT_STORE,
    BatchSize,
    Device,
    JsonFile,
    Quiet,
    ReportFile,
    Size,
    SpecArgument,
    StoreFolder,
)
from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.campaign.record import CampaignRecord

__all__ = ["run", "write_reports"]


def run(  # noqa: PLR0917 - the options of the command line
    spec: SpecArgument,
    size: Size = None,
    store: StoreFolder = DEFAULT_STORE,
    report: ReportFile = None,
    json: JsonFile = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="TRIAL", help="One trial, by number or beginning of its key."
        ),
    ] = None,
    again: Annotated[  # noqa: FBT002 - an option of the command line
        bool,
        typer.Option("--again", help="Compute again what is there already, and compare."),
    ] = False,
    device: Device = "cpu",
    batch_size: BatchSize = BATCH_SIZE,
    quiet: Quiet = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Run a campaign and write its report.

    Only what the store does not have yet is computed; interrupt it whenever you like. With --again
    all trials, or the one of --only, are computed anew and compared bit for bit with the store's.

    Exit codes: 0 the policy is met, 1 it is violated, 2 the configuration or the call is wrong,
    3 a trial failed, was inconclusive, or came out otherwise when computed again.
    """
    from casemate.campaign.plan import make_plan  # noqa: PLC0415 - keeps --help fast
    from casemate.campaign.run import run_plan  # noqa: PLC0415 - as above
    from casemate.campaign.store import Store  # noqa: PLC0415 - as above
    from casemate.cli.progress import CampaignProgress, downloads  # noqa: PLC0415 - as above
    from casemate.cli.repeats import Repeats  # noqa: PLC0415 - as above
    from casemate.cli.results import show_record  # noqa: PLC0415 - as above
    from casemate.cli.session import open_session, replay_of  # noqa: PLC0415 - as above
    from casemate.data.progress import shown_by, silent  # noqa: PLC0415 - as above

    with shown_by(silent if quiet else downloads):
        session = open_session(spec, size=size, device=device, batch_size=batch_size)
        with Store(store, write=True) as opened:
            plan = make_plan(session.spec, session.problems, session.gates, opened)
            plan = plan if only is None else plan.only(only)
            progress, repeats = CampaignProgress(plan, again=again), Repeats(again=again)
            try:
                record = run_plan(
                    plan,
                    opened,
                    session.gates,
                    replay=replay_of(
                        spec, size=size, store=store, device=device, batch_size=batch_size
                    ),
                    command=shlex.join(["casemate", *sys.argv[1:]]),
                    again=again,
                    listeners=(repeats,) if quiet else (repeats, progress),
                )
            finally:
                progress.close()
    written = write_reports(record, store=store, report=report, json=json, part=only is not None)
    show_record(record, report=written, json=json and json.absolute())
    repeats.show()
    raise typer.Exit(repeats.exit_code(record.exit_code))


def write_reports(
    record: CampaignRecord,
    *,
    store: Path,
    report: Path | None,
    json: Path | None,
    part: bool = False,
) -> Path:
    """Write the HTML report, and JSON if asked for; return where the former is.

    Args:
        record: What to report.
        store: Where the report goes if it is not said.
        report: The HTML file.
        json: The JSON file.
        part: Whether the record holds one trial of its campaign only, whose report must not take
            the place of the whole campaign's.
    """
    from casemate.report import html  # noqa: PLC0415 - imports matplotlib
    from casemate.report import json as as_json  # noqa: PLC0415 - as above

    if json is not None:
        as_json.write(record, json)
    if report is None:
        # the campaign's name is untrusted, and must not lead out of the folder
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", record.name).strip("-")[:60] or "campaign"
        folder = store / "reports"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be made ({error.strerror or error}); say where the report goes "
                "with --report"
            ) from error
        size = record.spec.get("size")
        named = f"-{re.sub(r'[^A-Za-z0-9_-]+', '-', str(size))[:30]}" if size else ""
        trial = f"-trial-{record.trials[0].number}" if part else ""
        report = folder / f"{slug}{named}{trial}.html"
    html.write(record, report)
    return report.absolute()
