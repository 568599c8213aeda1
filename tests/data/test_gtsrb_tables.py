from __future__ import annotations

import pytest

from casemate.data.archive import Archive
from casemate.data.gtsrb_tables import test_signs as read_test_signs
from casemate.data.gtsrb_tables import training_signs
from casemate.errors import UsageError

HEADER = b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
TRAINING_TABLE = "GTSRB/Final_Training/Images/00003/GT-00003.csv"


@pytest.fixture
def write(gtsrb, pixels):
    """Write archives of two images each with the given tables."""

    def write(training_rows=None, test_rows=None, training_table=TRAINING_TABLE):
        frames = [(4, pixels(8, 9), (1, 2, 7, 6))] * 2
        if training_rows is not None:
            gtsrb.change[training_table] = training_rows
        if test_rows is not None:
            gtsrb.change["GT-final_test.csv"] = test_rows
        gtsrb.write(training={3: frames}, test=[(7, *frames[0][1:]), (8, *frames[0][1:])])
        return gtsrb

    return write


def read_training(archives):
    with Archive(archives.training_zip) as images:
        return training_signs(images)


def read_test(archives):
    with Archive(archives.test_zip) as images, Archive(archives.labels_zip) as labels:
        return read_test_signs(images, labels)


def test_rows_become_signs(write):
    archives = write()
    first, second = read_training(archives)
    assert first.member == "GTSRB/Final_Training/Images/00003/00004_00000.ppm"
    assert (first.width, first.height, first.region) == (9, 8, (1, 2, 7, 6))
    assert (first.label, first.track, second.track) == (3, 300_004, 300_004)
    assert [(s.label, s.track) for s in read_test(archives)] == [(7, None), (8, None)]


def test_the_order_is_that_of_the_table(write):
    rows = b"00004_00001.ppm;9;8;1;2;7;6;3\r\n00004_00000.ppm;9;8;1;2;7;6;3\r\n"
    names = [s.member[-15:] for s in read_training(write(HEADER + rows))]
    assert names == ["00004_00001.ppm", "00004_00000.ppm"]


ROW = b"00004_00000.ppm;9;8;1;2;7;6;3\r\n"
SECOND = b"00004_00001.ppm;9;8;1;2;7;6;3\r\n"


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (b"", "should have the columns"),
        (b"Filename,Width\r\n", "should have the columns"),
        (b"\xff\xfe", "is no table"),
        (HEADER + ROW, "has 2 images but its tables 1 rows; .*00004_00001.ppm' is not in both"),
        (HEADER + ROW + SECOND + SECOND, "2 images but its tables 3 rows"),
        (HEADER + ROW + b"00004_00009.ppm;9;8;1;2;7;6;3\r\n", "00004_00009.ppm' is not in both"),
        (HEADER + ROW + b"../00001.ppm;9;8;1;2;7;6;3\r\n", "line 3: .* does not belong"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;1;2;7;6;5\r\n", "line 3: .*class 5 does not belong"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;1;2;7;6\r\n", "line 3 should be a file name and 7"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;x;2;7;6;3\r\n", "line 3 should be a file name and 7"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;1;2;10;6;3\r\n", "line 3: the region 1,2 to 10,6"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;7;2;7;6;3\r\n", "line 3: the region 7,2 to 7,6"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;1;2;7;6;43\r\n", "no class 43, only 0 to 42"),
        (HEADER + ROW + b"00004_00001.ppm;9;8;1;2;7;6;-1\r\n", "no class -1"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_line(write, rows, part):
    with pytest.raises(UsageError, match=f"Training_Images.zip.*{part}"):
        read_training(write(rows))


def test_labels_of_another_length_are_refused(write):
    rows = HEADER + b"00000.ppm;9;8;1;2;7;6;1\r\n"
    with pytest.raises(UsageError, match=r"has 2 images but GTSRB_Final_Test_GT\.zip 1 rows"):
        read_test(write(test_rows=rows))


def test_other_archives_are_told_from_gtsrb(write, gtsrb):
    archives = write()
    with Archive(archives.labels_zip) as labels, pytest.raises(UsageError, match="not GTSRB's tr"):
        training_signs(labels)
    with Archive(archives.test_zip) as images, pytest.raises(UsageError, match="0 tables named"):
        read_test_signs(images, images)
    with Archive(archives.labels_zip) as labels, pytest.raises(UsageError, match="in 0 folders"):
        read_test_signs(labels, labels)
