"""The report as one HTML file that needs nothing else: no network, no other file, no trust.

Everything in a record is untrusted text and is escaped; the only markup that enters the page
besides the templates is the figures that `plots` draws. A content security policy with the hashes
of the page's one style sheet and one script forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from markupsafe import Markup

from casemate.errors import CasemateError
from casemate.report import checks, formats, origins, provenance, summary
from casemate.report.class_accuracy import class_tables
from casemate.report.comparisons import comparisons
from casemate.report.curves import charts
from casemate.report.defense_table import defense_tables
from casemate.report.facts import NORMS, State, facts_of, varying
from casemate.report.fewest import fewest
from casemate.report.findings import full_findings, grouped
from casemate.report.frontier import frontiers
from casemate.report.limits import LADDER, MAX_BYTES, next_rung
from casemate.report.matrix import matrix, untested
from casemate.report.monitoring import monitoring
from casemate.report.noted import noted
from casemate.report.plots import draw, drawn
from casemate.report.poison_curves import poison_charts
from casemate.report.poisonings import FLOORS, poisonings
from casemate.report.scatter import MOST_MARKS, scatter
from casemate.report.scenarios import scenarios
from casemate.report.standing import defenses
from casemate.report.strongest import strongest
from casemate.report.struck import struck
from casemate.report.struck_curves import struck_charts
from casemate.report.text import cut, tail, visible, whole
from casemate.report.threat_models import identifiers
from casemate.report.transfer import transfers
from casemate.report.vulnerability import maps
from casemate.report.writing import write_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

    from jinja2 import Environment

    from casemate.campaign.record import CampaignRecord
__all__ = ["asset", "page", "write"]

_T = TypeVar("_T")
_HEAT_LEVELS = 10
_MOST_ROWS = 40
"""Rows of a table that stands in full on the page; one of more scrolls in a frame."""


def write(record: CampaignRecord, path: str | PathLike[str]) -> Path:
    """Write the report of a campaign and return the file's absolute path.

    The file is smaller than `MAX_BYTES`: galleries, then tables, are shortened until it is, and
    the report says so.

    Raises:
        UsageError: If the file cannot be written.
    """
    return write_text(path, page(record))


def page(record: CampaignRecord) -> str:
    """Return the report of a campaign as HTML, in UTF-8 smaller than `MAX_BYTES`."""
    context = _context(record)
    template = _environment().get_template("report.html.j2")
    rung = 0
    while rung < len(LADDER):
        limits = LADDER[rung]
        text = template.render(context, limits=limits, shortened=limits.shortened())
        size = len(text.encode("utf-8", "replace"))
        if size < MAX_BYTES:
            return text
        rung = next_rung(rung, size)
    raise CasemateError(
        f"the report of {visible(cut(record.name))} does not fit into {MAX_BYTES:,} bytes even at "
        "its shortest; write JSON instead"
    )


def _context(record: CampaignRecord) -> dict[str, Any]:
    facts = facts_of(record)
    rows = matrix(facts)
    summed = summary.summary(record, facts, rows)
    raised = checks.flagged(facts)
    by_trial = charts(facts)
    findings = full_findings(grouped(record, facts), by_trial)
    rows_of_training, rows_of_hardware = poisonings(facts), struck(facts)
    return {
        "record": record,
        "facts": facts,
        "extra": varying(facts),
        "defenses": defenses(facts),
        "summary": summed,
        "exit_meaning": summary.exit_meaning(record),
        "paste": summary.paste(record, summed, facts, rows),
        "matrix": rows,
        "untested": untested(rows),
        "findings": findings,
        "strongest": () if findings else strongest(facts, by_trial),
        "scenarios": scenarios(facts),
        "comparisons": comparisons(facts),
        "poisonings": rows_of_training,
        "floors": FLOORS,
        "monitoring": monitoring(rows_of_training),
        "class_tables": class_tables(rows_of_training),
        "poison_charts": poison_charts(rows_of_training),
        "frontiers": frontiers(rows_of_training),
        "fewest": fewest(rows_of_training),
        "transfers": transfers(rows_of_training),
        "defense_tables": defense_tables(rows_of_training),
        "struck": rows_of_hardware,
        "struck_charts": struck_charts(rows_of_hardware),
        "vulnerable": maps(rows_of_hardware),
        "flagged": raised,
        "silent": checks.silent(raised),
        "models": provenance.models(record),
        "provenance": provenance.provenance(record),
        "elsewhere": origins.elsewhere(record),
        "spent": provenance.spent(facts),
        "policy": provenance.as_yaml(record.spec["policy"]) if record.spec.get("policy") else "",
        "configuration": provenance.as_yaml(record.spec),
        "draw": _Drawings(draw),
        "scatter": _Drawings(scatter),
        "State": State,
        "NORMS": NORMS,
    }


class _Drawings(Generic[_T]):
    """Draws each figure once, though several findings and renderings may show it."""

    def __init__(self, draw: Callable[[_T], Markup]) -> None:
        self._draw = draw
        self._drawn: dict[int, tuple[_T, Markup]] = {}

    def __call__(self, thing: _T) -> Markup:
        if id(thing) not in self._drawn:  # it is kept as well, so that its id stays its own
            self._drawn[id(thing)] = (thing, self._draw(thing))
        return self._drawn[id(thing)][1]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - heavy

    environment = Environment(
        loader=PackageLoader("casemate.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = asset("report.css"), asset("report.js")
    environment.globals.update(
        # our own files, the same in every report
        style=Markup(style),  # noqa: S704 - as above
        script=Markup(script),  # noqa: S704 - as above
        policy_header=(
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        identifiers=identifiers,
        drawn=drawn,
        noted=noted,
        most_marks=MOST_MARKS,
        most_rows=_MOST_ROWS,
    )
    environment.filters.update(
        cut=cut,
        whole=whole,
        tail=tail,
        percent=formats.percent,
        number=formats.number,
        budget=formats.budget,
        figure=formats.figure,
        interval=formats.interval,
        duration=formats.duration,
        plural=formats.plural,
        points=formats.points,
        words=summary.in_words,
        states=summary.states_in_words,
        yaml=provenance.as_yaml,
        flat=provenance.flat,
        origin=origins.in_words,
        heat=_heat,
        commas=_commas,
    )
    return environment


def _shown(value: Any) -> Any:
    """Return what a template prints, with hidden characters of untrusted text made visible."""
    return visible(value) if type(value) is str else value


def _commas(value: int) -> str:
    return f"{value:,}"


def _heat(value: float | None) -> int:
    """Return a share as one of the shades of a table's cell."""
    return 0 if value is None else round(value * _HEAT_LEVELS)


def asset(name: str) -> str:
    """Return the text of a style sheet or script of the page."""
    return files("casemate.report").joinpath("templates", name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
