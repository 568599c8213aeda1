from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from casemate.errors import UsageError
from casemate.hardware.rowhammer import template_file
from casemate.hardware.rowhammer.template_file import load_template, save_template
from rowhammer.hammering import CELLS, template

HEAD = b"# 32 pages of 4096 bytes\npage,offset,bit,direction\n"


@given(cells=CELLS)
@settings(max_examples=30)
def test_a_template_is_read_as_it_was_written(cells):
    made = template(cells, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        save_template(made, path)
        read = load_template(path)
    assert read.digest == made.digest
    assert read.pages == 5
    for name in ("page", "offset", "bit", "up"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))


def test_a_file_by_hand_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(HEAD.replace(b"\n", b"\r\n") + b"12,4031,7,1->0\r\n3,0,0,0->1")
    read = load_template(path)
    assert read.pages == 32
    assert (read.page.tolist(), read.offset.tolist(), read.bit.tolist(), read.up.tolist()) == (
        [3, 12],
        [0, 4031],
        [0, 7],
        [True, False],
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", 'line 1 should be like "# 32768 pages of 4096 bytes"; write there how many pages'),
        (b"page,offset,bit,direction\n", 'line 1 should be like "# 32768 pages of 4096 bytes"'),
        (b"\x80\x04\x95" + bytes(300), 'line 1 should be like "# 32768 pages of 4096 bytes"'),
        (b"# " + b"9" * 10_000, 'line 1 should be like "# 32768 pages of 4096 bytes"'),
        (
            HEAD.replace(b"4096", b"8192"),
            (
                "line 1: the module was profiled in pages of 8192 bytes, but files lie in pages of "
                "4096; cut its pages into those"
            ),
        ),
        (HEAD.replace(b"32", b"0"), "line 1: 0 pages were profiled, but it must be 1 to 16777216;"),
        (HEAD.replace(b"32", b"99999999"), "line 1: 99999999 pages were profiled, but it must be"),
        (HEAD.replace(b"bit,", b""), "line 2 should be page,offset,bit,direction; put the columns"),
        (
            HEAD + b"1,2,3,0->1\n1,2,x,0->1\n",
            (
                "line 4: '1,2,x,0->1' should be page,offset,bit,direction like 12,4031,7,1->0; "
                "correct the line or take it out"
            ),
        ),
        (HEAD + b"1,2,3,0->2\n", "line 3: '1,2,3,0->2' should be"),
        (HEAD + b"1,2,3\n", "line 3: '1,2,3' should be"),
        (HEAD + b"-1,2,3,0->1\n", "line 3: '-1,2,3,0->1' should be"),
        (HEAD + b"1e3,2,3,0->1\n", "line 3: '1e3,2,3,0->1' should be"),
        (HEAD + b"1,2,3,0->1\n\n", "line 4: '' should be"),
        (HEAD + "\u0663,2,3,0->1\n".encode(), "line 3: '\ufffd\ufffd,2,3,0->1' should be"),
        (HEAD + b"1" * 5000 + b",2,3,0->1\n", f"line 3: '{'1' * 40}' should be"),
        (
            HEAD + b"1,2,3,0->1\n32,0,0,0->1\n",
            "line 4: the cell has the page 32, which is not from 0 to 31; correct the line or take",
        ),
        (HEAD + b"1,4096,3,0->1\n", "line 3: the cell has the offset 4096, which is not from 0 to"),
        (HEAD + b"1,0,8,0->1\n", "line 3: the cell has the bit 8, which is not from 0 to 7;"),
        (
            HEAD + b"9,2,3,0->1\n1,2,3,0->1\n1,2,3,1->0\n",
            "line 5: the cell is there twice; correct the line or take it out",
        ),
    ],
)
def test_a_file_that_is_no_template_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_template(path)
    shown = str(caught.value)
    assert shown.startswith((f"{path}, {sentence}", f"{path}: {sentence}"))
    assert len(shown) < len(str(path)) + 300


def test_a_file_with_too_many_cells_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(template_file, "MOST_CELLS", 3)
    path = tmp_path / "t.csv"
    cells = [f"1,{i},3,0->1\n".encode() for i in range(4)]
    path.write_bytes(HEAD + b"".join(cells[:3]))
    assert len(load_template(path)) == 3
    path.write_bytes(HEAD + b"".join(cells) + b"garbage")
    with pytest.raises(UsageError, match=r"line 6: there are more than 3 cells; keep those of"):
        load_template(path)


def test_what_is_no_file_is_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(UsageError, match="is no file; name the CSV file"):
            load_template(path)
    with pytest.raises(UsageError, match=r"cannot be written \(.*\); name another file"):
        save_template(template([], 1), tmp_path / "none" / "t.csv")
