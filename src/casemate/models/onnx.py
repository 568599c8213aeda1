"""An ONNX file of the user's, run by onnxruntime on the CPU: a black box."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from casemate.errors import UsageError, did_you_mean
from casemate.identity import digest_file, key
from casemate.models.function import function_target
from casemate.models.imports import said
from casemate.models.layout import Arrangement, Layout, arrangement
from casemate.models.section import ModelSection
from casemate.target import FunctionTarget, Outputs, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from casemate.data.domain import Domain

__all__ = ["OnnxModel"]

_LOCATION = re.compile(rb"\x0a\x08location\x12")
"""Key and tag of the value of a StringStringEntryProto that names a file of weights."""
_TYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
_LABEL_TYPES = ("tensor(int64)", "tensor(int32)")


class OnnxModel(ModelSection):
    """An ONNX file with one input.

    Attributes:
        onnx: The file, relative to the spec.
        output: Name of the graph's output to use; None takes the one that fits `outputs`.
        layout: "NCHW" or "NHWC"; None reads it from the graph's input shape.
    """

    tag: ClassVar[str] = "onnx"

    onnx: str
    output: str | None = None
    layout: Layout | None = None
    outputs: Outputs = "logits"

    def load(
        self,
        *,
        domain: Domain,
        classes: tuple[str, ...],
        base_dir: Path,
        device: str,  # noqa: ARG002 - onnxruntime's plain package runs on the CPU
    ) -> FunctionTarget:
        """Return the graph behind the target's interface.

        The digest names the bytes of the file and of the files beside it that it refers to, the
        settings above, preprocessing, domain and classes.

        Raises:
            UsageError: If onnxruntime is not installed, the file is missing or damaged, or its
                input and output do not fit the domain and the outputs.
        """
        path = base_dir / self.onnx
        if not path.is_file():
            there = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, there) if there else ""
            raise UsageError(f"model.onnx: {path} is no file.{hint}")
        session = _session(path)
        if len(session.get_inputs()) != 1:
            names = ", ".join(i.name for i in session.get_inputs())
            raise UsageError(
                f"model.onnx: {path} has {len(session.get_inputs())} inputs ({names}); export a "
                "model with one"
            )
        entry = session.get_inputs()[0]
        if entry.type not in _TYPES:
            raise UsageError(
                f'model.onnx: the input "{entry.name}" of {path} is a {entry.type}; export a model '
                "that takes floating-point numbers, or wrap this one in a function"
            )
        shape = (self.preprocessing or Preprocessing()).shape(domain)
        graph = _Graph(
            session=session,
            entry=entry.name,
            dtype=_TYPES[entry.type],
            arrangement=arrangement(entry.shape, shape, self.layout, f"model.onnx: {path}"),
            output=_output(session.get_outputs(), self.output, self.outputs, str(path)),
        )
        return function_target(
            graph,
            domain=domain,
            classes=classes,
            preprocessing=self.preprocessing,
            outputs=self.outputs,
            content=key(*_digests(path), self.output, self.layout),
        )


class _Graph:
    """Runs a session on (n, *shape) float32 inputs, batch by batch if the graph fixes one."""

    def __init__(
        self,
        *,
        session: Any,
        entry: str,
        dtype: type[np.floating[Any]],
        arrangement: Arrangement,
        output: str,
    ) -> None:
        self.session = session
        self.entry = entry
        self.dtype = dtype
        self.arrangement = arrangement
        self.output = output

    def __call__(self, x: np.ndarray) -> np.ndarray:
        values = self.arrangement(x).astype(self.dtype, copy=False)
        size = self.arrangement.batch
        if size is None:
            return self._run(values)
        # The last batch is filled up with its last row, whose answers are dropped.
        rows = np.arange(-(-len(x) // size) * size).clip(max=len(x) - 1)
        parts = [self._run(values[rows[i : i + size]]) for i in range(0, len(rows), size)]
        return np.concatenate(parts)[: len(x)]

    def _run(self, values: np.ndarray) -> np.ndarray:
        (out,) = self.session.run([self.output], {self.entry: np.ascontiguousarray(values)})
        return np.asarray(out)


def _session(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise UsageError(
            f"model.onnx: {path} needs onnxruntime, which is not installed; "
            "install it: pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors come as exceptions
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise UsageError(
            f"model.onnx: {path} cannot be loaded ({said(error)}); export it again, with its "
            "external data beside it"
        ) from error


def _output(offered: Sequence[Any], wanted: str | None, outputs: Outputs, path: str) -> str:
    """Return the name of the output to use."""
    names: list[str] = [o.name for o in offered]
    if wanted is not None:
        if wanted not in names:
            raise UsageError(
                f'model.output: {path} has no output "{wanted}".{did_you_mean(wanted, names)}'
            )
        return wanted
    if len(names) == 1:
        return names[0]
    types = _LABEL_TYPES if outputs == "labels" else tuple(_TYPES)
    fitting: list[str] = [o.name for o in offered if o.type in types]
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"model.onnx: {path} has the outputs {', '.join(names)} and more or less than one of them "
        f"gives {outputs}; name it with output"
    )


def _digests(path: Path) -> list[str]:
    """Return the hashes of the file and of the files in which it keeps weights.

    A graph of more than 2 GB names them in entries with the key "location" (external_data of
    TensorProto); they are relative to the file.
    """
    content = path.read_bytes()
    names = {name for entry in _LOCATION.finditer(content) if (name := _text(content, entry.end()))}
    files = (path.parent / name for name in sorted(names))
    return [digest_file(path), *(digest_file(file) for file in files if file.is_file())]


def _text(content: bytes, start: int) -> str:
    """Return the text of a protobuf field whose length stands at `start` as a varint."""
    length = shift = 0
    for at in range(start, min(start + 5, len(content))):
        length |= (content[at] & 0x7F) << shift
        shift += 7
        if content[at] < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return content[at + 1 : at + 1 + length].decode("utf-8", "replace")
    return ""
