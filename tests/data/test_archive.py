from __future__ import annotations

import struct
import zipfile

import pytest

from casemate.data import archive as module
from casemate.data.archive import Archive
from casemate.errors import UsageError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.zip"


def write(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)


def test_members_are_read_whole_and_piece_by_piece(path):
    write(path, [("a/", b""), ("a/b.txt", b"hello" * 100), ("c", b"")])
    with Archive(path) as archive:
        assert archive.names == ["a/b.txt", "c"]
        assert archive.size("a/b.txt") == 500
        assert archive.read("a/b.txt") == b"hello" * 100
        with archive.open("a/b.txt") as file:
            assert file.read(7) == b"hellohe"


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "a/../../evil", "/etc/passwd", "C:/evil", "..\\evil", "a\\b", "ok\0/../x"],
)
def test_a_path_out_of_the_archive_is_refused_by_name(path, name):
    # zipfile mends names when it writes, so the name is put in afterwards
    stand_in = "Z" * len(name)
    write(path, [("good.txt", b"1"), (stand_in, b"2")])
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), name.encode()))
    with pytest.raises(
        UsageError, match=r"some\.zip is refused: its member .* leads out"
    ) as caught:
        Archive(path)
    assert "\0" not in str(caught.value)


def test_a_member_that_is_there_twice_is_refused(path):
    with pytest.warns(UserWarning, match="Duplicate"):
        write(path, [("a", b"1"), ("a", b"2")])
    with pytest.raises(UsageError, match="'a' is there twice"):
        Archive(path)


def test_a_symbolic_link_is_refused(path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    write(path, [(link, b"/etc/passwd")])
    with pytest.raises(UsageError, match="'link' is a symbolic link"):
        Archive(path)


def test_an_encrypted_member_is_refused(path):
    write(path, [("secret", b"x")])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, central + 8, 1)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="'secret' is encrypted"):
        Archive(path)


def test_a_bomb_is_refused_before_it_is_unpacked(path, monkeypatch):
    write(path, [("bomb", bytes(2_000_000))])
    assert path.stat().st_size < 10_000
    with pytest.raises(UsageError, match="'bomb' would unpack to 2000000 bytes"):
        Archive(path, member_limit=1_000_000)
    write(path, [(f"part{i}", bytes(1000)) for i in range(5)])
    monkeypatch.setattr(module, "TOTAL_LIMIT", 3500)
    with pytest.raises(UsageError, match="'part3' brings the archive to more than 3500"):
        Archive(path)


def test_a_member_that_understates_its_size_is_damaged_and_bounded(path):
    write(path, [("liar", bytes(500_000))])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 100)
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(UsageError, match="'liar' is damaged"):
        archive.read("liar")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_byte_is_found(path, method):
    write(path, [("data", bytes(range(256)) * 10)], method)
    data = bytearray(path.read_bytes())
    data[120] ^= 0x55
    path.write_bytes(data)
    with (
        Archive(path) as archive,
        pytest.raises(UsageError, match=r"some\.zip: the member 'data' is damaged"),
    ):
        archive.read("data")


@pytest.mark.parametrize("keep", [0, 1, 30, 200, -1, -20])
def test_a_truncated_archive_is_refused_by_name(path, keep):
    write(path, [(f"m{i}", bytes(range(200))) for i in range(5)], zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(
        UsageError, match=r"some\.zip is truncated or no zip archive .*fetch it again"
    ):
        Archive(path)


def test_what_is_no_archive_and_what_is_not_there(path, tmp_path):
    path.write_bytes(b"<html>404</html>" * 50)
    with pytest.raises(UsageError, match=r"no zip archive .*; write it anew"):
        Archive(path, remedy="write it anew")
    with pytest.raises(UsageError, match=r"missing\.zip does not exist"):
        Archive(tmp_path / "missing.zip")
    with pytest.raises(UsageError, match="is no file"):
        Archive(tmp_path)


def test_a_member_that_is_missing_is_named(path):
    write(path, [("a", b"1")])
    with Archive(path) as archive, pytest.raises(UsageError, match="no member 'b\\\\n'"):
        archive.read("b\n")


def test_an_unknown_method_of_compression_is_named(path):
    write(path, [("odd", b"x" * 100)])
    data = bytearray(path.read_bytes())
    for start, offset in ((data.index(b"PK\x03\x04"), 8), (data.index(b"PK\x01\x02"), 10)):
        struct.pack_into("<H", data, start + offset, 99)
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(UsageError, match="'odd' is damaged"):
        archive.read("odd")


def test_the_readers_own_error_is_not_taken_for_damage(path):
    write(path, [("a", b"1")])

    def read():
        with Archive(path) as archive, archive.open("a"):
            raise UsageError("the reader's own")

    with pytest.raises(UsageError, match=r"^the reader's own$"):
        read()
