"""Evidence as text and bytes and back, float for float and bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from safetensors import numpy as safetensors

from casemate.evidence import Evidence, HealthFlag, Severity
from casemate.stats import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["decode_arrays", "decode_evidence", "encode_arrays", "encode_evidence"]

_TABLES = ("samples", "examples")


def encode_evidence(evidence: Evidence) -> tuple[str, bytes]:
    """Return measurements, flags, costs and notes as JSON, and the arrays as safetensors."""
    document = {
        "measurements": [asdict(m) for m in evidence.measurements],
        "by_class": [asdict(m) for m in evidence.by_class],
        "flags": [
            {"id": f.id, "severity": f.severity.value, "message": f.message} for f in evidence.flags
        ],
        "spent": evidence.spent,
        "notes": evidence.notes,
        "tables": evidence.tables,
        # safetensors sorts its entries; the order of the columns is kept here
        "columns": {table: list(getattr(evidence, table)) for table in _TABLES},
    }
    arrays = {f"{table}/{k}": v for table in _TABLES for k, v in getattr(evidence, table).items()}
    return json.dumps(document, separators=(",", ":")), encode_arrays(arrays)


def decode_evidence(text: str, content: bytes) -> Evidence:
    """Return what `encode_evidence` encoded."""
    document = json.loads(text)
    arrays = decode_arrays(content)
    tables = {
        table: {k: arrays[f"{table}/{k}"] for k in document["columns"][table]} for table in _TABLES
    }
    return Evidence(
        measurements=tuple(Measurement(**m) for m in document["measurements"]),
        # evidence that was kept before classes were measured has none
        by_class=tuple(Measurement(**m) for m in document.get("by_class", ())),
        flags=tuple(
            HealthFlag(id=f["id"], severity=Severity(f["severity"]), message=f["message"])
            for f in document["flags"]
        ),
        spent=document["spent"],
        # older evidence has none of these
        notes=document.get("notes", {}),
        tables=document.get("tables", {}),
        **tables,
    )


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays of numbers as safetensors.

    Raises:
        TypeError: If an array holds anything but numbers or truth values.
    """
    plain = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f'the array "{name}" holds {array.dtype}; only numbers can be stored')
        # copy: safetensors takes the memory as it lies, whatever the strides
        plain[name] = array.copy(order="C")
    return safetensors.save(plain)


def decode_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return what `encode_arrays` encoded; the arrays are read-only."""
    return safetensors.load(content)
