"""What the report makes of attacks on training, as plain data for the JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.report.class_accuracy import by_class
from casemate.report.defense_table import defense_tables
from casemate.report.facts import SUCCESS
from casemate.report.fewest import fewest
from casemate.report.frontier import frontiers
from casemate.report.poisonings import ACCURACY, ADDED, CONFIDENCE, DROP, LINF, SSIM, TOP_5
from casemate.report.strength import intensity, share
from casemate.report.systems import systems
from casemate.report.transfer import transfers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.defense_table import AttackRow, Cell, DefenseTable
    from casemate.report.fewest import Fewest
    from casemate.report.frontier import Setting
    from casemate.report.poisonings import Poisoning

__all__ = ["of_training"]


def of_training(rows: Sequence[Poisoning]) -> dict[str, Any]:
    """Return the blocks on attacks and defenses at training, by name."""
    return {
        "frontier": [
            {
                "system": f.system,
                "settings": [_setting(s) for s in f.settings],
                "left_out": [_trials(row) for row in f.missing],
                "collapsed": [_trials(row) for row in f.collapsed],
                "without_a_goal": [_trials(row) for row in f.untargeted],
            }
            for f in frontiers(rows)
        ],
        "sensitivity": [
            {"system": s.words, "settings": [_sensitivity(row) for row in s.rows]}
            for s in systems(rows)
        ],
        "fewest_poisons": [_fewest(f) for f in fewest(rows)],
        "transfer": [
            {
                "system": t.system,
                "surrogates": [
                    {"architecture": s.architecture, **_figures(s.row)} for s in t.surrogates
                ],
            }
            for t in transfers(rows)
        ],
        "training_defenses": [_table(t) for t in defense_tables(rows)],
    }


def _trials(row: Poisoning) -> list[int]:
    return [f.number for f in row.trials]


def _figures(row: Poisoning) -> dict[str, Any]:
    figures = row.figures
    return {
        "trials": _trials(row),
        "poisoned": row.poisoned,
        "poisoned_least": row.least,
        "success": figures.get(SUCCESS),
        "added": figures.get(ADDED),
        "drop": figures.get(DROP),
        "collapsed": row.collapsed,
    }


def _sensitivity(row: Poisoning) -> dict[str, Any]:
    figures, first = row.figures, row.first
    return {
        **_figures(row),
        "attack": first.attack,
        "parameters": first.details,
        "defense": first.defense,
        "monitor": first.monitor,
        "percent": share(row),
        "intensity": intensity(row),
        "accuracy": figures.get(ACCURACY),
        "top_5_accuracy": figures.get(TOP_5),
        "confidence": figures.get(CONFIDENCE),
        "by_class": [
            {"label": label, "class": first.class_name(label), "accuracy": accuracy}
            for label, accuracy in enumerate(by_class(row))
        ],
    }


def _setting(setting: Setting) -> dict[str, Any]:
    figures = setting.row.figures
    return {
        **_figures(setting.row),
        "linf": figures.get(LINF),
        "ssim": figures.get(SSIM),
        "shows": setting.shows,
        "bounds": list(setting.bounds.values()),
        "on_the_frontier": setting.best,
    }


def _fewest(found: Fewest) -> dict[str, Any]:
    return {
        "system": found.system,
        "attack": found.tried[0].first.attack,
        "words": found.words,
        "reached": _figures(found.reached) if found.reached else None,
        "below": _figures(found.below) if found.below else None,
        "tried": [_figures(row) for row in found.tried],
    }


def _table(table: DefenseTable) -> dict[str, Any]:
    return {
        "system": table.system,
        "defenses": [c.words for c in table.columns],
        "rows": [_row(row) for row in table.rows],
        "costs": table.costs,
    }


def _row(row: AttackRow) -> dict[str, Any]:
    return {
        "attack": row.first.attack if row.first is not None else "no attack",
        "clean_model": row.clean_model,
        "cells": [_cell(cell) for cell in row.cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "trials": _trials(cell.row) if cell.row else [],
        "measurements": [
            *(m for m in (cell.success, cell.accuracy) if m is not None),
            *(m for _, m in cell.small),
        ],
        "notes": cell.notes,
        "claimed_to_evade": cell.evaded,
    }
