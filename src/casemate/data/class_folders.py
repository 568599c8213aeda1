"""Which images lie in which class folder, without following a link out of the folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.data.class_names import check_class_names
from casemate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ClassFolders", "list_class_folders", "split_folders"]

_NOT_DATA = frozenset({"thumbs.db", "desktop.ini"})  # what file managers leave behind


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """Images by class, classes and files in the order of their names.

    Attributes:
        classes: Names of the class folders.
        files: Paths of the images.
        labels: Label of each image.
        state: Path, size and times of each image: all that tells, unread, whether it changed.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    state: tuple[tuple[str, int, int, int], ...]


def split_folders(root: Path) -> dict[str, Path] | None:
    """Return the folders "train" and "test" of `root` if it is divided so, else None.

    Raises:
        UsageError: If `root` is no folder or there are other folders beside the two.
    """
    folders = {p.name: p for p in _children(root, root) if p.is_dir()}
    if not {"train", "test"} <= folders.keys():
        return None
    halves = {name: folders[name] for name in ("train", "test")}
    if not all(any(p.is_dir() for p in _children(half, root)) for half in halves.values()):
        return None  # two classes of these names
    others = sorted(folders.keys() - halves.keys())
    if others:
        raise UsageError(
            f"{root} is divided into train and test but also has the folder {others[0]!r}; "
            "move it away"
        )
    return halves


def list_class_folders(folder: Path, *, classes: tuple[str, ...] | None = None) -> ClassFolders:
    """Return the images of a folder of class folders.

    Hidden files and files beside the class folders are not looked at.

    Args:
        folder: The folder of class folders.
        classes: The names that class folders may have; None takes what is there.

    Raises:
        UsageError: If it is no folder, has no class folders or unknown ones, or if a class folder
            is empty, holds a folder or holds a link that points out of `folder`.
    """
    found = sorted((p for p in _children(folder, folder) if p.is_dir()), key=lambda p: p.name)
    if not found:
        raise UsageError(f"{folder} has no class folders; put each class's images into a folder")
    names = tuple(p.name for p in found)
    check_class_names(names, str(folder))
    known = names if classes is None else classes
    files: list[Path] = []
    labels: list[int] = []
    for class_folder in found:
        if class_folder.name not in known:
            raise UsageError(
                f"{folder}: the class {class_folder.name!r} is unknown in the training set."
                f"{did_you_mean(class_folder.name, known)}"
            )
        images = _images(class_folder, folder)
        files.extend(images)
        labels.extend([known.index(class_folder.name)] * len(images))
    stats = [path.stat() for path in files]
    return ClassFolders(
        classes=known,
        files=tuple(files),
        labels=tuple(labels),
        state=tuple(
            (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            for path, stat in zip(files, stats, strict=True)
        ),
    )


def _images(class_folder: Path, root: Path) -> list[Path]:
    images = sorted(_children(class_folder, root), key=lambda p: p.name)
    if not images:
        raise UsageError(f"the class folder {str(class_folder)!r} is empty; fill or remove it")
    for path in images:
        if not path.is_file():
            raise UsageError(
                f"{str(path)!r} is no file; class folders hold images only, in {root} itself or in "
                "its folders train and test"
            )
    return images


def _children(folder: Path, root: Path) -> list[Path]:
    """Return what lies in a folder, without hidden files; refuse links out of `root`."""
    try:
        children = [
            p
            for p in folder.iterdir()
            if not p.name.startswith(".") and p.name.casefold() not in _NOT_DATA
        ]
    except OSError as error:
        raise UsageError(
            f"{str(folder)!r} cannot be read as a folder ({error.strerror}); mend the path"
        ) from error
    inside = root.resolve()
    for path in children:
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UsageError(
                f"{str(path)!r} is a link that points out of {root}; "
                "put what it points to in its place"
            )
    return children
