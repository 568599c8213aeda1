"""Print what attacks do to deployed models, over their seeds, as tables for the documentation.

    casemate run study:hardware-faults --json study.json
    python -m benchmarks.fault_table study.json

For each source of data: what one fault or upset does on average, accuracy under bit errors by
their rate, flips until the goal, attacks that lead to a class, and what defenses leave to attackers
who know them and who do not. A figure is the mean over seeds with the interval that the report has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.tables import markdown, said, show
from benchmarks.training_table import varied_in, words
from casemate.report.struck import words_of_format
from casemate.stats import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNDER, _FLIPPED = "accuracy under attack", "bits flipped"
_SUCCESS = ("attack success rate", "attack success rate without the attack")
_AVERAGES = ("mean corruption", "mean accuracy drop", "critical faults")
_GUARDS = ("faults detected", "faults repaired")
_COSTS = ("clean accuracy", "storage of the defense", "operations of the defense")
_FALSE = "false alarms of the defense"


@dataclass(frozen=True)
class _Row:
    """Trials that differ in nothing but the seed.

    Attributes:
        settings: Of one of them.
        figures: Over the seeds, by name.
        flips: Bits flipped until the goal, of each seed; infinite where it was not reached.
        seeds: How many.
        varied: Parameters that tell plugins of one name apart.
    """

    settings: dict[str, Any]
    figures: dict[str, Measurement]
    flips: tuple[float, ...]
    seeds: int
    varied: set[tuple[str, str]]

    @property
    def gate(self) -> dict[str, Any]:
        """The hardware gate's settings."""
        gate: dict[str, Any] = self.settings["hardware"]
        return gate

    @property
    def attack(self) -> str:
        """In words."""
        return words(self.gate.get("attack"), self.varied)

    @property
    def defense(self) -> str:
        """In words, with the one in training."""
        found = (words(d, self.varied) for d in (self._trained, self.gate.get("defense")) if d)
        return " and ".join(found) or "none"

    @property
    def _trained(self) -> dict[str, Any] | None:
        defense: dict[str, Any] | None = (self.settings.get("training") or {}).get("defense")
        return defense

    @property
    def is_defended(self) -> bool:
        """Whether there is a defense at all."""
        return self.defense != "none"

    @property
    def format(self) -> str:
        """The number format in words."""
        return words_of_format(self.gate.get("format") or {})

    @property
    def module(self) -> str:
        """The hammered module in words."""
        module = self.gate.get("rowhammer")
        return f"{module['profile']}, {module['per_page']} a page" if module else ""

    def cell(self, name: str, digits: int = 1) -> str:
        """Return a figure with its interval; shares in per cent or points, "" without it."""
        m = self.figures.get(name)
        if m is None or m.value is None:
            return ""
        scale = 100 if m.unit == "1" else 1
        shown = [
            None if v is None else _number(scale * v, digits) for v in (m.value, m.low, m.high)
        ]
        value, low, high = shown
        return f"{value}" if low is None or low == high else f"{value} [{low}, {high}]"


def tables(report: dict[str, Any]) -> str:
    """Return the tables of a JSON report as Markdown.

    Args:
        report: As `casemate run --json` writes it.
    """
    trials = {t["number"]: t for t in report["trials"]}
    gates = [t["settings"].get("hardware") or {} for t in trials.values()]
    varied = varied_in(gates) | varied_in(
        [t["settings"].get("training") or {} for t in trials.values()]
    )
    by_source: dict[str, list[_Row]] = defaultdict(list)
    for made in report["deployed_models"]:
        settings = trials[made["trials"][0]]["settings"]
        row = _Row(
            settings=settings,
            figures={m["name"]: Measurement(**m) for m in made["figures"]},
            flips=tuple(math.inf if n is None else n for n in made["flips_until_goal"]),
            seeds=made["seeds"],
            varied=varied,
        )
        by_source[settings["data"]["source"]].append(row)
    parts: tuple[tuple[str, Callable[[Sequence[_Row]], str]], ...] = (
        ("What one fault does", _averages),
        ("Accuracy under bit errors, by the rate of wrong bits", _errors),
        ("Flips until the goal", _until),
        ("Attacks that lead to a class", _led),
        ("Searched flips behind defenses", _searched),
        ("Accidents behind defenses", _accidents),
    )
    found = []
    for source, rows in by_source.items():
        for title, part in parts:
            table = part(rows)
            if table:
                found.append(f"**{title}, {source}**\n\n{table}")
    return "\n\n".join(found)


def _averages(rows: Sequence[_Row]) -> str:
    mine = [r for r in rows if "mean corruption" in r.figures and not r.is_defended]
    body = [[r.attack, r.format, *(r.cell(n, 3) for n in _AVERAGES), str(r.seeds)] for r in mine]
    return _table(["attack", "format", *_AVERAGES, "seeds"], body)


def _errors(rows: Sequence[_Row]) -> str:
    mine = [r for r in rows if (r.gate.get("attack") or {}).get("rate") is not None]
    rates = sorted({float(r.gate["attack"]["rate"]) for r in mine})
    lines: dict[tuple[str, str], dict[float, str]] = defaultdict(dict)
    for r in mine:
        line = lines[r.format, r.defense]
        line[-1.0] = r.cell("clean accuracy", 2)
        line[float(r.gate["attack"]["rate"])] = r.cell(_UNDER, 2)
    body = [[*names, *(line.get(x, "") for x in (-1.0, *rates))] for names, line in lines.items()]
    return _table(["format", "defense", "none wrong", *(f"{x:g}" for x in rates)], body)


def _until(rows: Sequence[_Row]) -> str:
    mine = [r for r in rows if not r.is_defended and _is_wrecking(r)]
    body = [
        [
            r.attack,
            r.format,
            r.module,
            r.cell("clean accuracy", 2),
            _median(r.flips),
            " ".join(_whole(n) for n in r.flips),
            r.cell(_FLIPPED),
            r.cell(_UNDER, 2),
        ]
        for r in mine
    ]
    head = ["attack", "format", "module", "clean accuracy", "median", "by seed", _FLIPPED, _UNDER]
    return _table(head, body)


def _led(rows: Sequence[_Row]) -> str:
    mine = [r for r in rows if not r.is_defended and _is_led(r)]
    body = [
        [
            r.attack,
            r.format,
            r.module,
            *(r.cell(n) for n in _SUCCESS),
            r.cell(_FLIPPED),
            r.cell(_UNDER, 2),
        ]
        for r in mine
    ]
    return _table(["attack", "format", "module", *_SUCCESS, _FLIPPED, _UNDER], body)


def _searched(rows: Sequence[_Row]) -> str:
    lines: dict[tuple[str, str, str], dict[str, _Row]] = defaultdict(dict)
    for r in rows:
        if r.is_defended and _is_wrecking(r):
            lines[r.defense, r.format, r.attack][r.gate.get("attacker") or "aware"] = r
    body = []
    for names, line in lines.items():
        either = next(iter(line.values()))
        cells = []
        for who in ("unaware", "aware"):
            row = line.get(who)
            figures = [row.cell(n, 1) for n in (_UNDER, _FLIPPED, *_GUARDS)] if row else [""] * 4
            cells += figures
        body.append([*names, *(either.cell(n, 2) for n in _COSTS), *cells])
    head = ["defense", "format", "attack", "clean accuracy", "storage, x", "operations, x"]
    for who in ("unaware", "aware"):
        head += [f"{who}: {n}" for n in (_UNDER, _FLIPPED, "detected", "repaired")]
    return _table(head, body)


def _accidents(rows: Sequence[_Row]) -> str:
    mine = [r for r in rows if r.is_defended and r.gate.get("attack") and _FLIPPED not in r.figures]
    names = (*_AVERAGES, *_GUARDS, _FALSE)
    body = [[r.defense, r.format, r.attack, *(r.cell(n, 3) for n in names)] for r in mine]
    body = [line for line in body if any(line[3:])]  # what was not run says nothing
    return _table(["defense", "format", "attack", *names], body)


def _is_wrecking(row: _Row) -> bool:
    """Return whether an attack flips chosen bits until accuracy is gone."""
    rate = (row.gate.get("attack") or {}).get("rate")
    return _FLIPPED in row.figures and not _is_led(row) and rate is None


def _is_led(row: _Row) -> bool:
    """Return whether an attack leads inputs to a class of its own choice."""
    return (row.gate.get("attack") or {}).get("target") is not None


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table without the columns that say nothing; "" without rows."""
    if not body:
        return ""
    kept = said(body)
    return markdown([head[i] for i in kept], [[line[i] for i in kept] for line in body])


def _number(value: float, digits: int) -> str:
    """Return a number with that many digits after the point, or as many that count if small."""
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 1 else f"{value:.{max(digits, 2)}g}"


def _median(flips: Sequence[float]) -> str:
    return _whole(median(flips)) if flips else ""


def _whole(flips: float) -> str:
    return f"{flips:g}" if math.isfinite(flips) else "-"


if __name__ == "__main__":
    show(__doc__, tables)
