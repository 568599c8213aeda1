"""Tensors and a JSON header in one safetensors file, checked by content; no pickle anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from casemate.data.dataset import digest_arrays
from casemate.errors import StoreError, UsageError
from casemate.identity import key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["read", "write"]

_HEADER = "casemate.model"
_CONTENT = "casemate.content"


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: dict[str, Any]
) -> None:
    """Write a file that is either complete or not there.

    Args:
        path: Overwritten if it exists; its folder must exist.
        tensors: Contiguous, on the CPU.
        header: Plain JSON data.

    Raises:
        StoreError: If the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(header, sort_keys=True)
    metadata = {_HEADER: text, _CONTENT: _content(tensors, text)}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        try:
            part.write_bytes(save(dict(tensors), metadata))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); free disk space or choose another folder"
        ) from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and header of a file that `write` wrote.

    Raises:
        UsageError: If the file is missing, damaged, or another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a model file that Casemate saved")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} is no complete safetensors file ({error}); make it again"
        ) from error
    if _HEADER not in metadata:
        raise UsageError(
            f"{path} holds weights only, no model that Casemate saved; declare it in the campaign "
            "as a model of your own, with a factory and weights"
        )
    if metadata.get(_CONTENT) != _content(tensors, metadata[_HEADER]):
        raise UsageError(
            f"{path} is damaged: its content does not match its checksum; make it again"
        )
    try:
        header = json.loads(metadata[_HEADER])
    except ValueError as error:
        raise UsageError(f"{path} has a damaged header ({error}); make it again") from error
    if not isinstance(header, dict):
        raise UsageError(f"{path} has a damaged header (it is no mapping); make it again")
    return tensors, header


def _content(tensors: Mapping[str, Tensor], header: str) -> str:
    names = sorted(tensors)
    return key("model file", names, digest_arrays(*(tensors[n] for n in names)), header)
