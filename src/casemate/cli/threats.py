"""`casemate threats`: the taxonomy as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from casemate.threats import Stage  # noqa: TC001 - Typer reads the annotation

if TYPE_CHECKING:
    from casemate.threats import Threat

__all__ = ["threats"]


def threats(
    stage: Annotated[
        Stage | None, typer.Option("--stage", help="Only threats at this stage.")
    ] = None,
    identifier: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Only this threat, by our id or a catalog's."),
    ] = None,
) -> None:
    """Show the taxonomy of threats.

    Each has its identifiers in public catalogs. An identifier is exact unless it is marked: ~ is
    the closest there is, + is one of several.
    """
    from casemate.cli.console import out, say, table  # noqa: PLC0415 - keeps --help fast
    from casemate.errors import UsageError, did_you_mean  # noqa: PLC0415 - as above
    from casemate.threats import taxonomy, taxonomy_sources  # noqa: PLC0415 - as above

    known = taxonomy()
    found = [
        threat
        for threat in known.values()
        if (stage is None or stage in threat.stages)
        and (identifier is None or _is_named(threat, identifier))
    ]
    if not found:
        if identifier is None:
            raise UsageError(f"no threat is at the stage {stage.value if stage else ''}")
        named = list(dict.fromkeys([*known, *(r.id for t in known.values() for r in t.references)]))
        where = f" at the stage {stage.value}" if stage else ""
        raise UsageError(
            f'no threat{where} has the id "{identifier}".{did_you_mean(identifier, named)}'
        )
    sources = taxonomy_sources()
    rows = [
        (
            threat.id,
            threat.title,
            ", ".join(s.value for s in threat.stages),
            [f"{catalog} {_references(threat, catalog)}" for catalog in sources],
        )
        for threat in found
    ]
    out().print(table(("id", "threat", "stages", "identifiers"), rows, whole=("id",)))
    say("")
    for source in sources.values():
        say(f"{source['title']} {source['version']}: {source['url']}")


_MARKS = {"exact": "", "closest": "~", "related": "+"}


def _references(threat: Threat, catalog: str) -> str:
    found = [r for r in threat.references if r.catalog == catalog]
    return ", ".join(f"{_MARKS[r.relation]}{r.id}" for r in found) or "none"


def _is_named(threat: Threat, identifier: str) -> bool:
    wanted = identifier.casefold()
    ids = [threat.id, *(r.id.casefold() for r in threat.references)]
    return any(i == wanted or i.startswith(f"{wanted}.") for i in ids)
