from __future__ import annotations

import pytest

from casemate.errors import UsageError
from casemate.report.writing import write_text


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_text(path, "é\n") == path
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    path = tmp_path / "nowhere" / "report.html"
    with pytest.raises(UsageError, match=r"nowhere.report\.html cannot be written"):
        write_text(path, "x")


def test_a_folder_in_the_way_leaves_nothing_behind(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_text(tmp_path / "report.html", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_lone_surrogate_does_not_keep_a_report_from_being_written(tmp_path):
    assert write_text(tmp_path / "r", "a\ud800b").read_bytes() == b"a?b"
