"""Decoded data sets, kept as plain arrays that later loads map into memory.

An entry is a folder with `inputs.npy`, `labels.npy`, perhaps `groups.npy`, and `meta.json` (class
names, domain and the content hash, which is so not computed again). It is built beside its final
place and renamed into it, so an interrupted or a second builder leaves no half entry. Its name is
the hash of what it was made from: the loader, its parameters and the sources' checksums. A
source's checksum is remembered under its path, size and times, so that an archive is read through
only when it is new.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.data.locations import CACHE_VARIABLE, cache_folder
from casemate.errors import UsageError
from casemate.identity import digest_file, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Allocate", "Decoded", "checksum", "remembered"]

LAYOUT = 1
"""Version of the files of an entry; raising it abandons older entries."""

_BUILDING = ".building-"
_CHECKSUM = re.compile("[0-9a-f]{32}")
_ABANDONED = 24 * 3600.0  # seconds after which a builder that never finished is cleaned away


class Allocate:
    """Gives a decoder the array to write the inputs into: on disk, not in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mapped: list[np.memmap] = []

    def __call__(self, shape: tuple[int, ...], dtype: type[np.uint8 | np.float32]) -> np.ndarray:
        """Return a writable array of zeros of that shape.

        Raises:
            UsageError: If there is no room for it on the disk.
        """
        path = self._folder / "inputs.npy"
        with _usable(self._folder):
            self._mapped.append(
                np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            )
            _reserve(path)
        return np.asarray(self._mapped[-1])  # a plain view: slicing a map is slow

    def flush(self) -> None:
        """Have the values on the disk before the entry says that they are."""
        for array in self._mapped:
            array.flush()


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a decoder returns.

    Attributes:
        inputs: (n, *shape) the array that it was allocated, filled.
        labels: (n,) int64.
        classes: Class names by label.
        domain: Shape, bounds and resolution of one input.
        groups: (n,) int64 or None, as in `Dataset`.
    """

    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    domain: Domain
    groups: np.ndarray | None = None


def checksum(path: Path) -> str:
    """Return the content hash of a file, reading it only if it changed since the last time.

    Raises:
        UsageError: If the file cannot be read or the cache folder cannot be written.
    """
    try:
        state = path.stat()
        times = (state.st_mtime_ns, state.st_ctime_ns)
        stamp = _stamps() / key("stamp", str(path.resolve()), state.st_size, times)
        if stamp.is_file():
            known = stamp.read_text(encoding="ascii", errors="replace")
            if _CHECKSUM.fullmatch(known):
                return known
        found = digest_file(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); mend the path") from error
    with _usable(stamp.parent):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(stamp, found)
    return found


def remembered(
    name: str, *, made_from: Sequence[object], decode: Callable[[Allocate], Decoded]
) -> Dataset:
    """Return a data set from the cache, decoding it if it is not there.

    Args:
        name: What it is, for people; no part of the entry's identity.
        made_from: Loader, its revision and parameters, checksums: all that decides the content.
        decode: Fills the array that it is given; called only if there is no entry.

    Raises:
        UsageError: What `decode` raises, or if the cache folder cannot be written.
    """
    decoded = cache_folder() / "decoded"
    entry = decoded / key("decoded", LAYOUT, made_from)
    known = _read(entry, name)
    if known is not None:
        return known
    with _usable(decoded):
        decoded.mkdir(parents=True, exist_ok=True)
        _clean(decoded)
        building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=decoded))
    try:
        allocate = Allocate(building)
        content = decode(allocate)
        with _usable(decoded):
            allocate.flush()
            _write(building, name, content)
            _place(building, entry)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    built = _read(entry, name)
    if built is None:
        raise UsageError(
            f"{entry} cannot be read back; look after that disk or name another folder in "
            f"{CACHE_VARIABLE}"
        )
    return built


def _write(folder: Path, name: str, decoded: Decoded) -> None:
    np.save(folder / "labels.npy", decoded.labels, allow_pickle=False)
    if decoded.groups is not None:
        np.save(folder / "groups.npy", decoded.groups, allow_pickle=False)
    dataset = Dataset.from_arrays(
        name=name,
        inputs=decoded.inputs,
        labels=decoded.labels,
        classes=decoded.classes,
        domain=decoded.domain,
        groups=decoded.groups,
    )
    domain = decoded.domain
    meta = {
        "digest": dataset.digest,
        "classes": list(decoded.classes),
        "domain": {
            "shape": list(domain.shape),
            "low": domain.low,
            "high": domain.high,
            "step": domain.step,
        },
        "groups": decoded.groups is not None,
    }
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _read(entry: Path, name: str) -> Dataset | None:
    """Return the entry's data set, or None if there is none or it is damaged."""
    try:
        meta: dict[str, Any] = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        domain = Domain(**{**meta["domain"], "shape": tuple(meta["domain"]["shape"])})
        # "c": the file is opened read-only; torch takes no read-only array, and a write, which
        # would be a defect, stays in this process
        return Dataset.from_arrays(
            name=name,
            inputs=np.load(entry / "inputs.npy", mmap_mode="c", allow_pickle=False),
            labels=np.load(entry / "labels.npy", allow_pickle=False),
            classes=tuple(meta["classes"]),
            domain=domain,
            groups=np.load(entry / "groups.npy", allow_pickle=False) if meta["groups"] else None,
            digest=str(meta["digest"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _place(building: Path, entry: Path) -> None:
    """Move a finished entry to its place; one that another process put there stays."""
    if entry.exists() and _read(entry, "") is None:
        shutil.rmtree(entry)  # damaged
    try:
        building.rename(entry)
    except OSError:
        if not entry.exists():
            raise


def _reserve(path: Path) -> None:
    """Give the file its place on the disk now: a full disk kills a process that writes to a map."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _clean(decoded: Path) -> None:
    """Remove what builders that were killed left behind."""
    for left in decoded.glob(f"{_BUILDING}*"):
        with suppress(OSError):  # another process may be cleaning too
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left)


def _stamps() -> Path:
    return cache_folder() / "stamps"


def _write_atomically(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=_BUILDING, dir=path.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
    Path(temporary).replace(path)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Turn a full or write-protected disk into one sentence."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} cannot be used ({error.strerror or error}); make room "
            f"there or name another folder in {CACHE_VARIABLE}"
        ) from error
