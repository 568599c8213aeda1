"""`casemate list`: attacks, defenses, monitors, models and data sets by name."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from casemate.registry import Kind

__all__ = ["listing"]


_KINDS: dict[str, Kind] = {
    "attacks": "attack",
    "defenses": "defense",
    "monitors": "monitor",
    "models": "model",
    "data": "data",
}
_WHAT = (*_KINDS, "studies")
_PHASES = ("before", "during", "after")
_PLACES = {"hardware": "at the deployed model", "inference": "in front of the model"}
_OWN_NETWORK = 'your own network is trained here, too: model: {factory: "net:make", recipe: {}}'
_PAPER = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")


def listing(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"{', '.join(_WHAT)}.")],
) -> None:
    """List attacks, defenses, monitors, models, data or studies."""
    from casemate import registry  # noqa: PLC0415 - keeps --help fast
    from casemate.cli.console import complain, err, out, table  # noqa: PLC0415 - as above
    from casemate.errors import UsageError, did_you_mean  # noqa: PLC0415 - as above

    if what not in _WHAT:
        raise UsageError(f'"{what}" cannot be listed.{did_you_mean(what, _WHAT)}')
    if what == "studies":
        _studies()
        return
    kind = _KINDS[what]
    rows: list[tuple[int, str, list[str], str]] = []
    for name in registry.names(kind):
        try:
            cls = registry.get(kind, name)
        except UsageError as error:  # one broken plugin must not hide the others
            complain(str(error))
            continue
        rows.append((_order(kind, cls), name, [*_stands(kind, cls), _first_line(cls)], _paper(cls)))
    shown = [row for _, *row in sorted(rows, key=lambda row: row[0])]
    out().print(table(("name", "what it is", "source"), shown, whole=("name", "source")))
    if kind == "model":
        err().print(_OWN_NETWORK, soft_wrap=True)


def _studies() -> None:
    from casemate.campaign.document import load_document  # noqa: PLC0415 - as above
    from casemate.cli.console import out, table  # noqa: PLC0415 - as above
    from casemate.cli.session import studies  # noqa: PLC0415 - as above

    rows = []
    for name, path in studies().items():
        data = load_document(path).data
        sizes = ", ".join(map(str, data.get("sizes") or ())) or "-"
        rows.append((f"study:{name}", sizes, data.get("description", "")))
    out().print(table(("name", "sizes", "what it is"), rows, whole=("name",)))


def _order(kind: Kind, cls: Any) -> int:
    """Return where a plugin stands in the life of a model, a number that grows."""
    if kind != "defense":
        return 0  # the registry has the others in order
    stage = _stage(cls)
    if stage == "training":
        return _PHASES.index(getattr(cls, "phase", ""))
    return len(_PHASES) + (stage == "inference")


def _stands(kind: Kind, cls: Any) -> list[str]:
    """Return at which gate it acts and what it takes, a line for people who choose."""
    if kind == "attack":
        goals = ", ".join(goal.value.removeprefix("integrity, ") for goal in cls.threat.goals)
        return [f"{cls.threat.touches}; {goals}"]
    if kind == "defense":
        if _stage(cls) != "training":
            return [_PLACES[_stage(cls)]]
        need = "needs clean samples" if cls.needs_clean else "no clean samples"
        return [f"{cls.phase} training, {need}"]
    return []


def _stage(cls: Any) -> str:
    from casemate.threats import Stage  # noqa: PLC0415 - as above

    stage: Stage = getattr(cls, "stage", Stage.INFERENCE)
    return stage.value


def _first_line(cls: Any) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _paper(cls: Any) -> str:
    """Return the arXiv number that the docstring, or else its module's, names first."""
    for text in (inspect.getdoc(cls), inspect.getdoc(inspect.getmodule(cls))):
        found = _PAPER.search(" ".join((text or "").split()))
        if found:
            return f"arXiv {found.group(1)}"
    return "-"
