"""What attacks on training do to each class: classes against settings of an attack."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from casemate.report.facts import parameters_in_words, share_key
from casemate.report.poisonings import SEED, over_seeds
from casemate.report.strength import intensity
from casemate.report.systems import systems, unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["ClassRow", "ClassTable", "Column", "by_class", "class_tables"]

_MOST_COLUMNS = 12
"""Settings in one table; with more, a row is no longer read at a glance."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One setting of the attack, or nobody.

    Attributes:
        row: Its trials.
        words: The parameters in which the attack's settings differ; untrusted text.
    """

    row: Poisoning
    words: str


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class.

    Attributes:
        label: Its number.
        name: Its name; untrusted text.
        cells: Its accuracy, one a column; None where it was not measured.
    """

    label: int
    name: str
    cells: tuple[Measurement | None, ...]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Classes against the settings of attacks of one name.

    Attributes:
        system: What sets the attacked system apart from others of the campaign, or empty.
        defense: What stands before, during or after the training and in front of the model, in
            words, or None.
        attack: Name of the attack; untrusted text.
        columns: The first is that without an attack, where there is one.
        rows: The class first that an attack harms most.
    """

    system: str
    defense: str | None
    attack: str
    columns: tuple[Column, ...]
    rows: tuple[ClassRow, ...]

    @property
    def worst(self) -> tuple[ClassRow, Column, Measurement] | None:
        """The lowest accuracy under attack: class, setting and figure."""
        row = self.rows[0]
        under = [
            (m, c)
            for m, c in zip(row.cells, self.columns, strict=True)
            if m is not None and not c.row.null
        ]
        if not under:
            return None
        m, column = min(under, key=lambda pair: _value(pair[0]))
        return row, column, m


def by_class(row: Poisoning) -> tuple[Measurement | None, ...]:
    """Return the accuracy of each class over the seeds, by label; None of what was not measured.

    Of several seeds it is their mean with Student's t interval, cut to [0, 1].
    """
    found = [f.trial.evidence.by_class for f in row.trials if f.trial.evidence is not None]
    return tuple(over_seeds(of_class) for of_class in zip_longest(*found))


def class_tables(rows: Sequence[Poisoning]) -> tuple[ClassTable, ...]:
    """Return the tables of all attacks whose evidence has classes, undefended systems first."""
    found = [
        table
        for system in systems(unwatched(rows))
        for members in _by_defense(system.rows)
        for table in _tables(system.words, members)
    ]
    return tuple(sorted(found, key=lambda table: table.defense is not None))


def _by_defense(rows: Sequence[Poisoning]) -> list[list[Poisoning]]:
    groups: dict[str, list[Poisoning]] = {}
    for row in rows:
        groups.setdefault(share_key(row.first, *SEED, "training.attack", "monitor"), []).append(row)
    return list(groups.values())


def _tables(system: str, rows: Sequence[Poisoning]) -> Iterator[ClassTable]:
    measured = {id(row): cells for row in rows if any(cells := by_class(row))}
    nobody = [row for row in rows if row.null and id(row) in measured]
    attacks: dict[str, list[Poisoning]] = {}
    for row in rows:
        if not row.null and id(row) in measured:
            attacks.setdefault(row.first.attack, []).append(row)
    for name, settings in attacks.items():
        for some in _packed(_families(settings)):
            columns = (*(Column(row=n, words="") for n in nobody), *_columns(some, settings))
            yield ClassTable(
                system=system,
                defense=some[0].first.defense,
                attack=name,
                columns=columns,
                rows=_rows(columns, [measured[id(c.row)] for c in columns]),
            )


def _families(settings: Sequence[Poisoning]) -> list[list[Poisoning]]:
    """Return settings that differ in amount and intensity alone, from little to much."""
    families: dict[str, list[Poisoning]] = {}
    for row in settings:
        fixed = dict(row.first.trial.settings["training"]["attack"])
        for varied in ("amount", "intensity"):
            fixed.pop(varied, None)
        families.setdefault(json.dumps(fixed, sort_keys=True, default=str), []).append(row)
    return [
        sorted(members, key=lambda row: (intensity(row) or 0.0, row.poisoned or 0))
        for members in families.values()
    ]


def _packed(families: Sequence[Sequence[Poisoning]]) -> Iterator[list[Poisoning]]:
    """Yield the settings of one table after the other; only too large a family is torn."""
    table: list[Poisoning] = []
    for members in families:
        if table and len(table) + len(members) > _MOST_COLUMNS:
            yield table
            table = []
        table = [*table, *members]
        while len(table) > _MOST_COLUMNS:
            yield table[:_MOST_COLUMNS]
            table = table[_MOST_COLUMNS:]
    if table:
        yield table


def _columns(some: Sequence[Poisoning], settings: Sequence[Poisoning]) -> list[Column]:
    """Return the columns of a table, told apart from all settings, also those of other tables."""
    names = dict.fromkeys(name for row in settings for name in row.first.parameters)
    differing = [
        name
        for name in names
        if len({repr(row.first.parameters.get(name)) for row in settings}) > 1
    ]
    goals = len({row.first.scenario for row in settings}) > 1
    columns = []
    for row in some:
        words = [row.first.scenario] if goals and row.first.targeted else []
        mine = parameters_in_words({name: row.first.parameters.get(name) for name in differing})
        columns.append(Column(row=row, words=", ".join([*words, mine] if mine else words)))
    return columns


def _rows(
    columns: Sequence[Column], measured: Sequence[tuple[Measurement | None, ...]]
) -> tuple[ClassRow, ...]:
    first = columns[0].row.first
    rows = [
        ClassRow(label=label, name=first.class_name(label), cells=cells)
        for label, cells in enumerate(zip_longest(*measured))
    ]

    def harm(row: ClassRow) -> tuple[float, int]:
        under = [
            _value(m)
            for m, c in zip(row.cells, columns, strict=True)
            if m is not None and not c.row.null
        ]
        return min(under, default=float("inf")), row.label

    return tuple(sorted(rows, key=harm))


def _value(measured: Measurement) -> float:
    return float("inf") if measured.value is None else measured.value
