"""`Dataset`: inputs, labels, classes and domain as one immutable value with a content hash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from casemate.data.class_names import check_class_names
from casemate.errors import ParameterError, UsageError, did_you_mean
from casemate.identity import digest_bytes, key

if TYPE_CHECKING:
    import numpy as np

    from casemate.data.domain import Domain

__all__ = ["DataSource", "Dataset", "Split", "check_split", "digest_arrays"]

Split = Literal["train", "test"]


def check_split(split: str) -> None:
    """Raise `UsageError` unless `split` is "train" or "test"."""
    if split not in get_args(Split):
        raise UsageError(f'there is no split {split!r}; use "train" or "test"')


class DataSource(Protocol):
    """A frozen dataclass that says where data comes from; registered as "data"."""

    def load(self, split: Split) -> Dataset:
        """Return one split. Raises `UsageError` if it is not to be had or not well formed."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """Inputs with labels; never copied or converted as a whole.

    Attributes:
        name: What it is, for people: "gtsrb/test".
        inputs: (n, *shape), uint8 (then 0..255 spans the domain) or float32 in the domain; may be
            a read-only memory map.
        labels: (n,) int64 in [0, len(classes)).
        classes: Class names by label; untrusted text.
        domain: Shape, bounds and resolution of one input.
        digest: Content hash; derived data sets get theirs from their parent's.
        index: (m,) int64 rows of `inputs` and `labels` that belong to this view, or None for all.
        groups: (n,) int64, samples that must stay on one side of a split (GTSRB tracks), or None.
        patched: (p,) int64 rows, sorted, whose inputs are those of `patch` instead, or None.
        patch: (p, *shape) of the type of `inputs`, or None.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    domain: Domain
    digest: str
    index: Tensor | None = None
    groups: Tensor | None = None
    patched: Tensor | None = None
    patch: Tensor | None = None

    def __post_init__(self) -> None:
        check_class_names(self.classes, self.name)
        if self.inputs.dtype not in (torch.uint8, torch.float32):
            raise UsageError(f"{self.name}: inputs are {self.inputs.dtype}, not uint8 or float32")
        if tuple(self.inputs.shape[1:]) != self.domain.shape:
            raise UsageError(
                f"{self.name}: inputs of shape {tuple(self.inputs.shape[1:])} do not fit the "
                f"domain's {self.domain.shape}"
            )
        if self.labels.shape != self.inputs.shape[:1] or self.labels.dtype != torch.int64:
            raise UsageError(
                f"{self.name}: {len(self.inputs)} inputs but labels of shape "
                f"{tuple(self.labels.shape)} and type {self.labels.dtype}; "
                "give one int64 label each"
            )
        if len(self.labels):
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.classes):
                raise UsageError(
                    f"{self.name}: labels run from {low} to {high} but there are "
                    f"{len(self.classes)} classes; name them all or mend the labels"
                )
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise UsageError(
                f"{self.name}: {len(self.labels)} labels but groups of shape "
                f"{tuple(self.groups.shape)}; give one group each"
            )

    @classmethod
    def from_arrays(
        cls,
        *,
        name: str,
        inputs: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...],
        domain: Domain,
        groups: np.ndarray | None = None,
        digest: str | None = None,
    ) -> Dataset:
        """Return a data set that shares the memory of NumPy arrays.

        Args:
            name: What it is, for people.
            inputs: (n, *shape), uint8 or float32, writable or mapped copy-on-write.
            labels: (n,) int64.
            classes: Class names by label.
            domain: Shape, bounds and resolution of one input.
            groups: (n,) int64, samples that must stay on one side of a split.
            digest: The content hash where it is known already; computed otherwise.

        Raises:
            UsageError: If the parts do not fit each other.
        """
        tensors = [torch.from_numpy(a) for a in (inputs, labels)]
        if groups is not None:
            tensors.append(torch.from_numpy(groups))
        return cls(
            name=name,
            inputs=tensors[0],
            labels=tensors[1],
            classes=classes,
            domain=domain,
            groups=None if groups is None else tensors[2],
            digest=digest or key("dataset", digest_arrays(*tensors), classes, domain),
        )

    def __repr__(self) -> str:
        domain = self.domain
        return (
            f"<Dataset {self.name}: {len(self)} inputs of shape {domain.shape} in "
            f"[{domain.low:g}, {domain.high:g}], {len(self.classes)} classes>"
        )

    def __len__(self) -> int:
        return len(self.labels) if self.index is None else len(self.index)

    @property
    def targets(self) -> Tensor:
        """(len(self),) int64 labels of this view."""
        return self.labels if self.index is None else self.labels[self.index]

    @property
    def rows(self) -> Tensor:
        """(len(self),) int64 rows of the underlying data: a sample's identity in every view."""
        return torch.arange(len(self.labels)) if self.index is None else self.index

    @property
    def group_ids(self) -> Tensor | None:
        """(len(self),) int64 groups of this view, or None where samples stand alone."""
        return self.groups if self.groups is None or self.index is None else self.groups[self.index]

    def batch(self, positions: Tensor | slice, *, device: torch.device | str = "cpu") -> Tensor:
        """Return float32 inputs in the domain's units.

        Args:
            positions: Positions in this view, (b,) int64 or a slice.
            device: Where to put them; 8-bit data travels as 8 bits.

        Returns:
            (b, *shape) float32, a new tensor.
        """
        rows = positions if self.index is None else self.index[positions]
        raw = self._patched(self.inputs[rows], rows).to(device)
        if raw.dtype == torch.uint8:
            domain = self.domain
            scaled = raw.to(torch.float32).div_(255.0)
            if (domain.low, domain.high) != (0.0, 1.0):
                scaled.mul_(domain.width).add_(domain.low)
            return scaled
        # a slice of the whole set is a window on it, which an in-place change would write through
        shared = isinstance(rows, slice) and raw.device == self.inputs.device
        return raw.clone() if shared else raw

    def select(self, positions: Tensor, *, how: object) -> Dataset:
        """Return a view of some samples, without copying them.

        Args:
            positions: (m,) int64 positions in this view.
            how: What made the selection, for the digest; anything `identity.key` takes.
        """
        rows = positions if self.index is None else self.index[positions]
        return replace(self, index=rows, digest=key("select", self.digest, how))

    def replaced(
        self,
        positions: Tensor,
        *,
        inputs: Tensor | None = None,
        labels: Tensor | None = None,
        how: object,
    ) -> Dataset:
        """Return the data set with other inputs or labels in some places; the rest is shared.

        Args:
            positions: (m,) int64 positions in this view, each once.
            inputs: (m, *shape) float32 in the domain's units, or None; data of 8 bits takes the
                nearest value of its grid.
            labels: (m,) int64, or None.
            how: What made the replacement, for the digest; anything `identity.key` takes.

        Raises:
            UsageError: If a label is of no class.
        """
        rows = self.rows[positions]
        changes: dict[str, Any] = {}
        if inputs is not None:
            changes |= self._patch(rows, self._stored(inputs))
        if labels is not None:
            changes["labels"] = self.labels.index_copy(0, rows, labels)
        content = digest_arrays(rows, *(t for t in (inputs, labels) if t is not None))
        return replace(self, digest=key("replaced", self.digest, how, content), **changes)

    def _stored(self, inputs: Tensor) -> Tensor:
        """Return inputs in the domain's units as this data set stores them."""
        if self.inputs.dtype != torch.uint8:
            return inputs.clamp(self.domain.low, self.domain.high)
        levels = (inputs - self.domain.low).mul_(255 / self.domain.width)
        return levels.round_().clamp_(0, 255).to(torch.uint8)

    def _patch(self, rows: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """Return the patch with other inputs for some rows, in the order of the rows."""
        if self.patched is not None and self.patch is not None:
            kept = ~torch.isin(self.patched, rows)
            rows = torch.cat([self.patched[kept], rows])
            inputs = torch.cat([self.patch[kept], inputs])
        rows, order = rows.sort()
        return {"patched": rows, "patch": inputs[order]}

    def _patched(self, raw: Tensor, rows: Tensor | slice) -> Tensor:
        """Return stored inputs of some rows with what the patch has instead."""
        if self.patched is None or self.patch is None or not len(self.patched):
            return raw
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(len(self.labels)))
            raw = raw.clone()  # it is a window on all inputs
        place = torch.searchsorted(self.patched, rows.contiguous())
        place.clamp_(max=len(self.patched) - 1)
        hit = (self.patched[place] == rows).nonzero().squeeze(1)
        if len(hit):
            raw.index_copy_(0, hit, self.patch[place[hit]])
        return raw

    def class_index(self, name: str | int, key: str = "class") -> int:
        """Return the label of a class.

        Args:
            name: A class name as it is written, else in any case, else its label as a number; a
                class that is named by a number is thus found by its name.
            key: The parameter that names the class, for messages.

        Raises:
            ParameterError: If there is no such class.
        """
        text = str(name)
        if isinstance(name, str):
            if text in self.classes:
                return self.classes.index(text)
            folded = [c.casefold() for c in self.classes]
            if text.casefold() in folded:
                return folded.index(text.casefold())
        if text.removeprefix("-").isdecimal():
            label = int(text)
            if 0 <= label < len(self.classes):
                return label
            raise ParameterError(
                key,
                f"is {label}, but the classes of {self.name} are numbered 0 to "
                f"{len(self.classes) - 1}; give one of them, or its name",
            )
        raise ParameterError(
            key,
            f"is {text!r}, which is no class of {self.name}; name one of its classes."
            f"{did_you_mean(text, self.classes)}",
        )


def digest_arrays(*arrays: Tensor) -> str:
    """Return the content hash of tensors: types, shapes and bytes."""
    chunks: list[bytes | memoryview] = []
    for array in arrays:
        plain = array.detach().cpu().contiguous()
        chunks.append(f"{plain.dtype}{tuple(plain.shape)}".encode())
        if plain.numel():  # a memoryview of nothing cannot be cast
            chunks.append(plain.flatten().view(torch.uint8).numpy().data)
    return digest_bytes(*chunks)
