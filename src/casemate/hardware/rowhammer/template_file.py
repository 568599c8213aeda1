"""Templates in files: a line of text a cell, each checked as it is read."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import UsageError
from casemate.hardware.rowhammer.template import MOST_CELLS, MOST_PAGES, PAGE, Template, wrong_cell

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["load_template", "save_template"]

_HEADER = re.compile(rb"# (\d{1,9}) pages of (\d{1,9}) bytes\r?\n?")
_COLUMNS = "page,offset,bit,direction"
_ROW = re.compile(rb"(\d{1,9}),(\d{1,9}),(\d{1,9}),(0->1|1->0)\r?\n?")
_LONGEST = 64  # bytes of a line
_FIRST_ROW = 3  # line of a file that holds the first cell


def load_template(path: Path) -> Template:
    """Return the template in a file that `save_template` wrote, or that is written like this.

    The first line is "# 32768 pages of 4096 bytes", the second "page,offset,bit,direction", and
    each other one a cell: "12,4031,7,1->0".

    Raises:
        UsageError: If the file cannot be read or is no such file.
    """
    try:
        if not path.is_file():  # a device or a pipe need not end
            raise UsageError(f"{path} is no file; name the CSV file of a Rowhammer template")
        with path.open("rb") as file:
            pages, page, offset, bit, up = _parsed(file, path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror or error}); mend the path"
        ) from error
    wrong = wrong_cell(page, offset, bit, pages)
    if wrong:
        raise UsageError(
            f"{path}, line {wrong[0] + _FIRST_ROW}: the cell {wrong[1]}; correct the line or "
            "take it out"
        )
    return Template(page=page, offset=offset, bit=bit, up=up, pages=pages)


def save_template(template: Template, path: Path) -> None:
    """Write the template to a file, for `load_template`.

    Raises:
        UsageError: If the file cannot be written.
    """
    columns = (
        template.page.tolist(),
        template.offset.tolist(),
        template.bit.tolist(),
        template.up.tolist(),
    )
    try:
        with path.open("w", encoding="ascii", newline="\n") as file:
            file.write(f"# {template.pages} pages of {PAGE} bytes\n{_COLUMNS}\n")
            file.writelines(
                f"{page},{offset},{bit},{'0->1' if up else '1->0'}\n"
                for page, offset, bit, up in zip(*columns, strict=True)
            )
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}); name another file"
        ) from error


def _parsed(
    file: BinaryIO, path: Path
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pages of a template's file, and of its cells page, offset, bit and direction."""
    header = _HEADER.fullmatch(file.readline(_LONGEST))
    if not header:
        raise UsageError(
            f'{path}, line 1 should be like "# 32768 pages of {PAGE} bytes"; write there how many '
            "pages were profiled, or name another file"
        )
    pages, size = map(int, header.groups())
    if size != PAGE:
        raise UsageError(
            f"{path}, line 1: the module was profiled in pages of {size} bytes, but files lie in "
            f"pages of {PAGE}; cut its pages into those"
        )
    if not 1 <= pages <= MOST_PAGES:
        raise UsageError(
            f"{path}, line 1: {pages} pages were profiled, but it must be 1 to {MOST_PAGES}; "
            "write the right number there"
        )
    if file.readline(_LONGEST).rstrip() != _COLUMNS.encode():
        raise UsageError(f"{path}, line 2 should be {_COLUMNS}; put the columns in this order")
    cells = array("q")
    for line, row in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=_FIRST_ROW):
        match = _ROW.fullmatch(row)
        if not match:
            raise UsageError(
                f"{path}, line {line}: {_shown(row)} should be {_COLUMNS} like 12,4031,7,1->0; "
                "correct the line or take it out"
            )
        if line - _FIRST_ROW == MOST_CELLS:
            raise UsageError(
                f"{path}, line {line}: there are more than {MOST_CELLS} cells; keep those of "
                "fewer pages"
            )
        page, offset, bit, direction = match.groups()
        cells.extend((int(page), int(offset), int(bit), direction == b"0->1"))
    columns = np.frombuffer(cells, dtype=np.int64).reshape(-1, 4).T
    return pages, *columns


def _shown(row: bytes) -> str:
    return repr(row[:40].rstrip().decode("ascii", "replace"))
