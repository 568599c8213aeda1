"""What `casemate run --again` says of the trials that it computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.campaign.events import TrialFailed, TrialRepeated
from casemate.cli.console import plain, say
from casemate.errors import ExitCode

if TYPE_CHECKING:
    from casemate.campaign.events import Event

__all__ = ["Repeats"]

_MOST = 10


class Repeats:
    """A listener that remembers which trials came out as before.

    Args:
        again: Whether trials are computed again at all.
    """

    def __init__(self, *, again: bool) -> None:
        self._again = again
        self._repeated: list[TrialRepeated] = []
        self._failed: list[TrialFailed] = []

    def __call__(self, event: Event) -> None:
        """Take note."""
        if isinstance(event, TrialRepeated):
            self._repeated.append(event)
        elif isinstance(event, TrialFailed) and self._again:
            self._failed.append(event)

    def show(self) -> None:
        """Print what came out otherwise; nothing if nothing was computed again."""
        for failure in self._failed[:_MOST]:
            say(
                f"trial {failure.record.number} could not be computed again: "
                f"{plain(failure.record.error, 500)}"
            )
        if not self._repeated:
            return
        other = [event for event in self._repeated if event.differences]
        same = len(self._repeated) - len(other)
        if same:
            say(f"computed again: {same} of {len(self._repeated)} the same, bit for bit")
        for event in other[:_MOST]:
            say(f"trial {event.number} differs from what {_origin(event)}:")
            for sentence in event.differences:
                say(f"  {plain(sentence, 300)}")
        if len(other) > _MOST:
            say(f"... and {len(other) - _MOST} more that differ")
        if other:
            say("the store keeps what it had; name another with --store to keep the new figures")

    def exit_code(self, otherwise: int) -> int:
        """Return the exit code, given the campaign's own."""
        differs = any(event.differences for event in self._repeated)
        if otherwise == ExitCode.MET and (differs or self._failed):
            return int(ExitCode.INCOMPLETE)
        return otherwise


def _origin(event: TrialRepeated) -> str:
    versions = event.made.get("versions") or {}
    names = [f"{k} {versions[k]}" for k in ("casemate", "torch") if k in versions]
    return f"{' and '.join(names) or 'an earlier run'} computed at {event.made.get('at', '?')}"
