"""Progress on standard error: bars with the time left, for whatever takes over two seconds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import singledispatchmethod
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from casemate.campaign.events import (
    CampaignFinished,
    CampaignStarted,
    ModelMeasuring,
    ModelTraining,
    TrialFailed,
    TrialFinished,
    TrialProgressed,
    TrialRepeated,
    TrialStarted,
)
from casemate.cli.console import complain, err, plain
from casemate.cli.plan import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from casemate.campaign.events import Event
    from casemate.campaign.plan import Plan

__all__ = ["CampaignProgress", "downloads"]

_PATIENCE, _BETWEEN = 2.0, 30.0  # seconds


class CampaignProgress:
    """A listener that draws one bar for all trials and one for the model being trained.

    Where standard error is no terminal, each finished trial is one line, and every half minute
    there is one on what else is under way.

    Args:
        plan: What will run: the bar advances by each trial's share of the samples.
        again: Whether what is there already runs too.
    """

    def __init__(self, plan: Plan, *, again: bool = False) -> None:
        self._weights = {
            p.trial.number: p.cost.forward + 2 * p.cost.backward
            for p in plan.trials
            if again or not p.cached
        }
        self._console = err()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._trials: TaskID | None = None
        self._model: TaskID | None = None
        self._begun = time.monotonic()
        self._drawn = False
        self._behind = 0.0
        self._finished = 0
        self._titles: dict[int, str] = {}
        self._total = 0
        self._aside = ""  # what is under way beside the trials
        self._aside_begun = self._said = self._begun

    def __call__(self, event: Event) -> None:
        """Draw what the event tells."""
        if (
            not self._drawn
            and self._console.is_terminal
            and time.monotonic() - self._begun > _PATIENCE
        ):
            self._bars.start()
            self._drawn = True
        self._on(event)

    def close(self) -> None:
        """Take the bars away."""
        if self._drawn:
            self._bars.stop()
            self._drawn = False

    @singledispatchmethod
    def _on(self, event: object) -> None:
        """Other events are of no interest here."""

    @_on.register
    def _(self, event: CampaignStarted) -> None:
        self._total = event.trials - event.cached
        self._trials = self._bars.add_task("trials", total=sum(self._weights.values()) or None)

    @_on.register
    def _(self, event: ModelTraining) -> None:
        self._side(f"training {plain(event.model)}", event.done, event.total, event.note)

    @_on.register
    def _(self, event: ModelMeasuring) -> None:
        self._side(f"accuracy of {plain(event.model)}", event.done, event.total)

    @_on.register
    def _(self, event: TrialStarted) -> None:
        self._titles[event.number] = plain(event.title, 160)
        if self._model is not None:
            self._bars.remove_task(self._model)
            self._model = None
        if self._trials is not None:
            words = f"trial {self._finished + 1} of {self._total}: {plain(event.title, 60)}"
            self._bars.update(self._trials, description=words)

    @_on.register
    def _(self, event: TrialProgressed) -> None:
        if self._trials is not None and event.total:
            share = self._weights.get(event.number, 0) * event.done / event.total
            self._bars.update(self._trials, completed=self._behind + share)

    @_on.register
    def _(self, event: TrialFinished) -> None:
        self._end(event.record.number)
        self._line(event.record.number, "done")

    @_on.register
    def _(self, event: TrialRepeated) -> None:
        self._end(event.number)
        self._line(event.number, "done again" if not event.differences else "differs")

    @_on.register
    def _(self, event: TrialFailed) -> None:
        self._end(event.record.number)
        complain(f"trial {event.record.number} failed: {plain(event.record.error, 500)}")

    @_on.register
    def _(self, _event: CampaignFinished) -> None:
        self.close()

    def _side(self, what: str, done: int, total: int, note: str = "") -> None:
        words = f"{what}: {note}" if note else what
        if self._model is None:
            self._model = self._bars.add_task(words, total=total)
        self._bars.update(self._model, description=words, completed=done, total=total)
        if not self._console.is_terminal:
            self._say(what, words, done / total if total else 0.0)

    def _say(self, what: str, words: str, share: float) -> None:
        """Print where it stands, no more than every half minute."""
        now = time.monotonic()
        if what != self._aside:
            self._aside, self._aside_begun = what, now
        if now - self._said < _BETWEEN:
            return
        self._said, spent = now, now - self._aside_begun
        left = f", about {duration(spent * (1 - share) / share)} left" if 0 < share < 1 else ""
        self._print(f"{words} ({100 * share:.0f} %{left})")

    def _end(self, number: int) -> None:
        self._finished += 1
        self._behind += self._weights.get(number, 0)
        if self._trials is not None:
            self._bars.update(self._trials, completed=self._behind)

    def _line(self, number: int, words: str) -> None:
        if not self._console.is_terminal:
            name = self._titles.get(number, "")
            self._print(f"[{self._finished}/{self._total}] trial {number} {words}: {name}")
            self._said = time.monotonic()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def downloads(name: str, *, total: int, done: int) -> Iterator[Callable[[int], object]]:
    """Draw the download of one file; a `casemate.data.progress.Progress`."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err(),
    ) as bars:
        task = bars.add_task(plain(name), total=total, completed=done)
        yield lambda count: bars.advance(task, count)
