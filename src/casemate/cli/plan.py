"""`casemate plan`: what a campaign would do, what it costs, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from casemate.cli.options import (
    BATCH_SIZE,
    DEFAULT_STORE,
    BatchSize,
    Device,
    Size,
    SpecArgument,
    StoreFolder,
)

if TYPE_CHECKING:
    from casemate.campaign.plan import Plan

__all__ = ["plan"]

_MOST = 200
_MINUTE, _HOUR = 60, 3600


def plan(
    spec: SpecArgument,
    size: Size = None,
    store: StoreFolder = DEFAULT_STORE,
    probe: Annotated[  # noqa: FBT002 - an option of the command line
        bool, typer.Option("--probe/--no-probe", help="Time each model for a moment to estimate.")
    ] = True,
    every: Annotated[bool, typer.Option("--all", help=f"Show all trials, not {_MOST}.")] = False,  # noqa: FBT002 - an option of the command line
    device: Device = "cpu",
    batch_size: BatchSize = BATCH_SIZE,
) -> None:
    """Show what would run, what it costs, and why.

    Costs are upper bounds: samples that an attack fools early cost less. Nothing is written.
    """
    from casemate.campaign.plan import make_plan  # noqa: PLC0415 - keeps --help fast
    from casemate.campaign.store import Store  # noqa: PLC0415 - as above
    from casemate.cli.progress import downloads  # noqa: PLC0415 - as above
    from casemate.cli.session import open_session  # noqa: PLC0415 - as above
    from casemate.data.progress import shown_by  # noqa: PLC0415 - as above

    with shown_by(downloads):
        session = open_session(spec, size=size, device=device, batch_size=batch_size)
        opened = Store.reader(store)
        try:
            made = make_plan(session.spec, session.problems, session.gates, opened, estimate=probe)
        finally:
            if opened is not None:
                opened.close()
    _show(made, most=len(made.trials) if every else _MOST)


def _show(made: Plan, *, most: int) -> None:
    from casemate.campaign.words import titles  # noqa: PLC0415 - as above
    from casemate.cli.console import out, say, table  # noqa: PLC0415 - as above

    figures = ("#", "n", "forward", "backward", "time")
    named = titles([p.settings for p in made.trials])
    rows = [
        (
            p.trial.number,
            p.key[:12],
            words,
            f"{p.n:,}",
            f"{p.cost.forward:,}",
            f"{p.cost.backward:,}",
            "" if p.seconds is None else duration(p.seconds),
            p.reason,
        )
        for p, words in zip(made.trials[:most], named[:most], strict=True)
    ]
    columns = ("#", "key", "trial", "n", "forward", "backward", "time", "why it runs")
    out().print(table(columns, rows, right=figures))
    if len(made.trials) > most:
        say(f"... and {len(made.trials) - most} more; show them with --all")
    run = [p for p in made.trials if not p.cached]
    forward = sum(p.cost.forward for p in run)
    backward = sum(p.cost.backward for p in run)
    say("")
    say(
        f"{len(run)} of {len(made.trials)} trials would run: at most {forward:,} samples forward "
        f"and {backward:,} backward"
    )
    if made.seconds is not None and run:
        training = made.training or 0.0
        note = f", {duration(training)} of it training" if training else ""
        say(
            "estimated time here, if no sample is dropped early: about "
            f"{duration(made.seconds)}{note}"
        )


def duration(seconds: float) -> str:
    """Return a time as people say it: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:  # noqa: PLR2004 - below that a decimal tells something
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
