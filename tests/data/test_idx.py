from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

from casemate.data.idx import read_idx
from casemate.errors import UsageError

ARRAY = np.random.default_rng(0).integers(0, 256, (700, 40, 50), np.uint8)  # more than one chunk


def empty(shape):
    return np.empty(shape, np.uint8)


def test_values_and_checksum_are_those_of_the_file(tmp_path, write_idx):
    path = tmp_path / "a.gz"
    write_idx(path, ARRAY)
    array, digest = read_idx(path, 3, empty)
    assert np.array_equal(array, ARRAY)
    assert digest == hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()


def test_it_fills_the_array_it_is_given(tmp_path, write_idx):
    path = tmp_path / "a.gz"
    write_idx(path, ARRAY)
    target = np.zeros((700, 1, 40, 50), np.uint8)
    array, _ = read_idx(path, 3, lambda _shape: target)
    assert array is target
    assert np.array_equal(target[:, 0], ARRAY)


def plain(shape, data, magic=b"\0\0\x08"):
    return gzip.compress(
        magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data
    )


WHOLE = plain((2, 3), b"abcdef")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"no gzip at all", "damaged or truncated"),
        (WHOLE[:-9], "damaged or truncated"),
        (WHOLE[:12], "damaged or truncated"),
        (b"", "damaged or truncated"),
        (WHOLE[:20] + b"\xff" + WHOLE[21:], "damaged or truncated"),
        (plain((2, 3), b"abcde"), "ends before its last value"),
        (plain((2, 3), b"abcdefg"), "more than the 6 values"),
        (plain((2, 3), b"abcdef", b"\0\0\x0d"), "no IDX file of unsigned bytes"),
        (plain((2, 3), b"abcdef", b"\1\0\x08"), "no IDX file"),
        (plain((6,), b"abcdef"), "with 2 axes"),
        (plain((2**31, 2**31), b""), "at most 2147483648"),
        (plain((0, 3), b""), "at least one"),
        (gzip.compress(b"\0\0\x08"), "header is cut off"),
    ],
)
def test_what_is_not_such_a_file_is_refused_by_name(tmp_path, data, part):
    path = tmp_path / "a.gz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"a.gz .*{part}"):
        read_idx(path, 2, empty)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"b\.gz does not exist"):
        read_idx(tmp_path / "b.gz", 1, empty)
