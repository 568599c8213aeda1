"""A shelf in a folder, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.training import modelfile
from casemate.training.trained import TrainedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FolderShelf:
    """Keeps files in a folder and notes what it is asked for and what is put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.kept: list[str] = []

    def find(self, name: str) -> Path | None:
        self.asked.append(name)
        path = self.folder / name
        return path if path.exists() else None

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        self.kept.append(name)
        write(self.folder / name)
        return self.folder / name

    def models(self) -> list[TrainedModel]:
        """Return the models that were put there."""
        files = [self.folder / name for name in self.kept]
        return [TrainedModel.load(f) for f in files if "architecture" in modelfile.read(f)[1]]
