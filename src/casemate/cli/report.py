"""`casemate report`: write a campaign's report again, from the store alone."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from casemate.cli.options import (
    BATCH_SIZE,
    DEFAULT_STORE,
    Device,
    JsonFile,
    ReportFile,
    Size,
    StoreFolder,
)

if TYPE_CHECKING:
    from casemate.campaign.assemble import Frame
    from casemate.campaign.store import Store

__all__ = ["report"]


def report(
    campaign: Annotated[
        str,
        typer.Argument(
            metavar="SPEC_OR_NAME", help="A YAML file, study:NAME, or a campaign's name."
        ),
    ],
    size: Size = None,
    store: StoreFolder = DEFAULT_STORE,
    output: ReportFile = None,
    json: JsonFile = None,
    device: Device = "cpu",
) -> None:
    """Write a campaign's report again, from the store.

    Nothing is run. With a specification, trials that were never run are in the report as "not run".
    """
    from casemate.campaign.assemble import assemble  # noqa: PLC0415 - keeps --help fast
    from casemate.campaign.store import Store  # noqa: PLC0415 - as above
    from casemate.cli.results import show_record  # noqa: PLC0415 - as above
    from casemate.cli.run import write_reports  # noqa: PLC0415 - as above
    from casemate.cli.session import is_campaign_file  # noqa: PLC0415 - as above
    from casemate.errors import StoreError  # noqa: PLC0415 - as above

    opened = Store.reader(store)
    if opened is None:
        raise StoreError(
            f"there is no store at {store}; run a campaign first, or name it with --store"
        )
    with opened:
        if is_campaign_file(campaign):
            frame = _planned(campaign, opened, size=size, folder=store, device=device)
        else:
            frame = _stored(campaign, opened)
        record = assemble(frame, opened)
    written = write_reports(record, store=store, report=output, json=json)
    show_record(record, report=written, json=json and json.absolute())
    raise typer.Exit(record.exit_code)


def _stored(name: str, store: Store) -> Frame:
    from casemate.campaign.assemble import stored_frame  # noqa: PLC0415 - as above
    from casemate.errors import UsageError, did_you_mean  # noqa: PLC0415 - as above

    frame = stored_frame(store, name)
    if frame is None:
        hint = did_you_mean(name, store.campaigns()) or " No campaign has run to its end in it."
        raise UsageError(f'the store has no campaign "{name}", and there is no such file.{hint}')
    return frame


def _planned(source: str, store: Store, *, size: str | None, folder: Path, device: str) -> Frame:
    from casemate.campaign.assemble import frame_of, stored_frame  # noqa: PLC0415 - as above
    from casemate.campaign.model_entry import stored_entry  # noqa: PLC0415 - as above
    from casemate.campaign.plan import make_plan  # noqa: PLC0415 - as above
    from casemate.cli.session import open_session, replay_of  # noqa: PLC0415 - as above

    session = open_session(source, size=size, device=device, batch_size=1)
    plan = make_plan(session.spec, session.problems, session.gates, store)
    last = stored_frame(store, plan.spec.name)
    found = {p.identity["model"]: p.trial for p in reversed(plan.trials)}
    entries = (stored_entry(trial, session.gates, store) for trial in found.values())
    return frame_of(
        plan,
        replay=replay_of(source, size=size, store=folder, device=device, batch_size=BATCH_SIZE),
        models=[entry for entry in entries if entry is not None],
        provenance=last.provenance if last is not None else {},
    )
