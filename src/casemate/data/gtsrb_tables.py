"""GTSRB's `GT-*.csv`: which photographs there are, of which sign, and where in them it is."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from casemate.data.gtsrb_classes import GTSRB_CLASSES
from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.data.archive import Archive

__all__ = ["Sign", "test_signs", "training_signs"]

_HEADER = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]
_TRAINING_TABLE = re.compile(r"(?P<folder>(?:.*/)?(?P<label>\d{5})/)GT-(?P=label)\.csv", re.ASCII)
_TRAINING_IMAGE = re.compile(r"(?P<track>\d{5})_\d{5}\.ppm", re.ASCII)
_TEST_TABLE = re.compile(r"(?:.*/)?GT-final_test\.csv", re.ASCII)
_TRACKS_PER_CLASS = 100_000  # a track's number has five digits and is counted by class


class Sign(NamedTuple):
    """One photograph.

    Attributes:
        member: Its name in the archive of images.
        width: Pixels across, as the table states.
        height: Pixels down.
        region: (left, top, right, bottom) of the sign in pixels, right and bottom exclusive.
        label: Class in 0..42.
        track: Which physical sign it shows, a number over all classes; None where unknown.
    """

    member: str
    width: int
    height: int
    region: tuple[int, int, int, int]
    label: int
    track: int | None


def training_signs(images: Archive) -> list[Sign]:
    """Return the training photographs, by class, each class in its table's order.

    Raises:
        UsageError: If tables are missing, not well formed, or do not fit the images.
    """
    tables = sorted(
        (match for name in images.names if (match := _TRAINING_TABLE.fullmatch(name))),
        key=lambda match: match.group(),
    )
    if not tables:
        raise UsageError(
            f"{images.path} has no table named NNNNN/GT-NNNNN.csv; it is not GTSRB's training "
            "archive, fetch it again"
        )
    signs: list[Sign] = []
    for table in tables:
        where = f"{images.path}: {table.group()}"
        for row, sign in enumerate(_signs(images, table.group(), table["folder"]), start=2):
            name = _TRAINING_IMAGE.fullmatch(sign.member.removeprefix(table["folder"]))
            if name is None or sign.label != int(table["label"]):
                raise UsageError(
                    f"{where}, line {row}: {sign.member!r} of class {sign.label} does not belong "
                    f"into the folder of class {int(table['label'])}; fetch the archive again"
                )
            signs.append(sign._replace(track=sign.label * _TRACKS_PER_CLASS + int(name["track"])))
    _check_complete(images, signs, "its tables")
    return signs


def test_signs(images: Archive, labels: Archive) -> list[Sign]:
    """Return the test photographs in the order of the ground truth.

    Raises:
        UsageError: If the table is missing, not well formed, or does not fit the images.
    """
    tables = [name for name in labels.names if _TEST_TABLE.fullmatch(name)]
    if len(tables) != 1:
        raise UsageError(
            f"{labels.path} has {len(tables)} tables named GT-final_test.csv and should have one; "
            "fetch it again"
        )
    folders = {name.rpartition("/")[0] for name in images.names if name.endswith(".ppm")}
    if len(folders) != 1:
        raise UsageError(
            f"{images.path} has images in {len(folders)} folders and should have them in one; it "
            "is not GTSRB's test archive, fetch it again"
        )
    folder = folders.pop()
    signs = _signs(labels, tables[0], f"{folder}/" if folder else "")
    _check_complete(images, signs, f"{labels.path.name}")
    return signs


def _signs(archive: Archive, table: str, folder: str) -> list[Sign]:
    where = f"{archive.path}: {table}"
    try:
        rows = list(csv.reader(io.StringIO(archive.read(table).decode("ascii")), delimiter=";"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{where} is no table ({error}); fetch the archive again") from error
    if not rows or rows[0] != _HEADER:
        raise UsageError(
            f"{where} should have the columns {';'.join(_HEADER)}; fetch the archive again"
        )
    return [
        _sign(row, folder, f"{where}, line {line}") for line, row in enumerate(rows[1:], start=2)
    ]


def _sign(row: list[str], folder: str, where: str) -> Sign:
    try:
        name, *numbers = row
        width, height, left, top, right, bottom, label = map(int, numbers)
    except ValueError as error:
        raise UsageError(
            f"{where} should be a file name and 7 whole numbers; fetch the archive again"
        ) from error
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UsageError(
            f"{where}: the region {left},{top} to {right},{bottom} is not inside the image of "
            f"{width} x {height} pixels; fetch the archive again"
        )
    if not 0 <= label < len(GTSRB_CLASSES):
        raise UsageError(
            f"{where}: there is no class {label}, only 0 to {len(GTSRB_CLASSES) - 1}; "
            "fetch the archive again"
        )
    return Sign(folder + name, width, height, (left, top, right, bottom), label, None)


def _check_complete(images: Archive, signs: list[Sign], tables: str) -> None:
    """Refuse images without a row, rows without an image, and rows for the same image."""
    named = Counter(sign.member for sign in signs)
    there = {name for name in images.names if name.endswith(".ppm")}
    odd = [name for name, count in named.items() if count > 1 or name not in there]
    odd.extend(sorted(there - named.keys()))
    if odd:
        raise UsageError(
            f"{images.path} has {len(there)} images but {tables} {len(signs)} rows; {odd[0]!r} is "
            "not in both just once; fetch the archives again"
        )
