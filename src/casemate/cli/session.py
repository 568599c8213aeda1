"""From what the user typed to a specification, its data and models, and the store."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from casemate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from casemate.campaign.assemble import Replay
    from casemate.campaign.document import Problems
    from casemate.campaign.gates import Gates
    from casemate.campaign.spec import Spec

__all__ = ["Session", "is_campaign_file", "open_session", "replay_of", "studies"]

_STUDY = "study:"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A campaign that is about to be planned.

    Attributes:
        spec: The specification, or None if there is not even a frame.
        problems: All that is wrong with it so far.
        gates: Data and models.
    """

    spec: Spec | None
    problems: Problems
    gates: Gates


def studies() -> dict[str, Path]:
    """Return the built-in campaigns by name."""
    folder = Path(str(files("casemate").joinpath("studies")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def is_campaign_file(source: str) -> bool:
    """Whether the user named a file or a study, rather than a campaign in the store."""
    return source.startswith(_STUDY) or Path(source).exists() or source.endswith((".yaml", ".yml"))


def open_session(source: str, *, size: str | None, device: str, batch_size: int) -> Session:
    """Read a specification.

    Raises:
        UsageError: If there is no such file, study or size, or the file is no campaign.
    """
    # where the file is wrong, a second of importing torch would come before the message
    from casemate.campaign.document import load_document  # noqa: PLC0415 - keeps --help fast

    path, base_dir = _located(source)
    document = load_document(path, name=source)
    document.with_size(size)
    from casemate.campaign.gates import Gates  # noqa: PLC0415 - as above
    from casemate.campaign.spec import read_spec  # noqa: PLC0415 - as above

    spec, problems = read_spec(document, base_dir=base_dir, source=source, size=size)
    return Session(
        spec=spec,
        problems=problems,
        gates=Gates(base_dir=base_dir, device=device, batch_size=batch_size),
    )


def replay_of(
    source: str, *, size: str | None, store: Path, device: str, batch_size: int
) -> Replay:
    """Return how a single trial is run again."""
    from casemate.campaign.assemble import Replay  # noqa: PLC0415 - as above
    from casemate.cli.options import BATCH_SIZE, DEFAULT_STORE  # noqa: PLC0415 - as above

    return Replay(
        source=source,
        size=size,
        store=None if store == DEFAULT_STORE else str(store),
        device=None if device == "cpu" else device,
        batch_size=None if batch_size == BATCH_SIZE else batch_size,
    )


def _located(source: str) -> tuple[Path, Path]:
    """Return the file and what its relative paths are relative to."""
    if not source.startswith(_STUDY):
        path = Path(source)
        return path, path.absolute().parent
    known, name = studies(), source.removeprefix(_STUDY)
    if name not in known:
        raise UsageError(f'there is no study "{name}".{did_you_mean(name, known)}')
    return known[name], Path.cwd()
