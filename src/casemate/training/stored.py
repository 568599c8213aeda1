"""Models as they lie in files: one network, or a committee of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.training import modelfile
from casemate.training.committee import Committee
from casemate.training.trained import TrainedModel

if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeAlias

__all__ = ["StoredModel", "load_model"]

StoredModel: TypeAlias = "TrainedModel | Committee"
"""What can be kept in a file and deployed."""


def load_model(path: str | PathLike[str]) -> StoredModel:
    """Read a file that `TrainedModel.save` or `Committee.save` wrote.

    Raises:
        UsageError: If the file is missing, damaged, not such a file, of a model that is not
            installed here, or of a factory that nobody declared here.
    """
    tensors, header = modelfile.read(path)
    kind: type[TrainedModel | Committee] = Committee if "members" in header else TrainedModel
    return kind.of(tensors, header, path)
