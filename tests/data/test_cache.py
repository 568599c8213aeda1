from __future__ import annotations

import errno
import json
import os
import time

import numpy as np
import pytest
import torch

from casemate.data import cache
from casemate.data.cache import Decoded, checksum, remembered
from casemate.data.domain import Domain
from casemate.errors import UsageError

CONTENT = np.arange(24, dtype=np.uint8).reshape(4, 6)


class Decoder:
    def __init__(self, content=CONTENT, groups=None, fail=None):
        self.content, self.groups, self.fail, self.calls = content, groups, fail, 0

    def __call__(self, allocate):
        self.calls += 1
        inputs = allocate(self.content.shape, self.content.dtype.type)
        inputs[:] = self.content
        if self.fail:
            raise self.fail
        return Decoded(
            inputs=inputs,
            labels=np.array([0, 1, 1, 0]),
            classes=("ja", "nö"),
            domain=Domain(shape=(6,), low=-1.0, high=2.0, step=3 / 255),
            groups=self.groups,
        )


def entries(folder):
    return sorted(p.name for p in (folder / "decoded").iterdir())


@pytest.mark.parametrize("groups", [None, np.array([7, 7, 8, 9])])
def test_the_second_load_is_the_first_without_decoding(groups):
    decode = Decoder(groups=groups)
    first = remembered("x/train", made_from=("x", 1), decode=decode)
    second = remembered("x/other", made_from=("x", 1), decode=decode)
    assert decode.calls == 1
    assert second.name == "x/other"
    assert torch.equal(second.inputs, torch.from_numpy(CONTENT))
    assert second.labels.tolist() == [0, 1, 1, 0]
    assert (second.classes, second.domain, second.digest) == (
        first.classes,
        first.domain,
        first.digest,
    )
    assert (second.groups is None) if groups is None else second.groups.tolist() == [7, 7, 8, 9]


def test_the_remembered_digest_is_that_of_the_content():
    from casemate.data.dataset import Dataset

    data = remembered("x", made_from=("x",), decode=Decoder())
    again = Dataset.from_arrays(
        name="y",
        inputs=CONTENT,
        labels=np.array([0, 1, 1, 0]),
        classes=("ja", "nö"),
        domain=data.domain,
    )
    assert data.digest == again.digest


def test_what_it_was_made_from_tells_entries_apart():
    decode = Decoder()
    for made_from in (("x", 1), ("x", 2), ("x", 1, "checksum"), (("x", 1),)):
        remembered("x", made_from=made_from, decode=decode)
    assert decode.calls == 4


def test_writing_to_the_data_does_not_reach_the_cache():
    data = remembered("x", made_from=(), decode=Decoder())
    data.inputs[0, 0] = 99
    again = remembered("x", made_from=(), decode=Decoder())
    assert int(again.inputs[0, 0]) == 0


def test_a_decoder_that_fails_leaves_nothing(own_folders):
    with pytest.raises(UsageError, match="mine"):
        remembered("x", made_from=(), decode=Decoder(fail=UsageError("mine")))
    assert entries(own_folders) == []
    remembered("x", made_from=(), decode=Decoder())
    assert len(entries(own_folders)) == 1


def damage_inputs(entry):
    data = (entry / "inputs.npy").read_bytes()
    (entry / "inputs.npy").write_bytes(data[:-3])


def damage_meta(entry):
    (entry / "meta.json").write_text('{"digest": "x", "classes": ["a"')


def damage_labels(entry):
    (entry / "labels.npy").write_bytes(b"")


def strange_meta(entry):
    meta = json.loads((entry / "meta.json").read_text())
    meta["domain"]["shape"] = [7]
    (entry / "meta.json").write_text(json.dumps(meta))


def pickled_labels(entry):
    np.save(entry / "labels.npy", np.array([object()]), allow_pickle=True)


@pytest.mark.parametrize(
    "damage", [damage_inputs, damage_meta, damage_labels, strange_meta, pickled_labels]
)
def test_a_damaged_entry_is_built_again(own_folders, damage):
    decode = Decoder()
    remembered("x", made_from=(), decode=decode)
    (name,) = entries(own_folders)
    damage(own_folders / "decoded" / name)
    data = remembered("x", made_from=(), decode=decode)
    assert decode.calls == 2
    assert torch.equal(data.inputs, torch.from_numpy(CONTENT))
    assert entries(own_folders) == [name]


def test_of_two_builders_the_first_to_finish_wins(own_folders):
    inner = Decoder()

    def outer(allocate):
        remembered("x", made_from=(), decode=inner)  # another process, meanwhile
        return Decoder()(allocate)

    data = remembered("x", made_from=(), decode=outer)
    assert inner.calls == 1
    assert torch.equal(data.inputs, torch.from_numpy(CONTENT))
    assert len(entries(own_folders)) == 1


def test_what_a_killed_builder_left_is_cleaned_away_later(own_folders):
    decoded = own_folders / "decoded"
    old, young = decoded / ".building-old", decoded / ".building-young"
    old.mkdir(parents=True)
    young.mkdir()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    remembered("x", made_from=(), decode=Decoder())
    assert not old.exists()
    assert young.exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(own_folders, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UsageError, match=r"No space left.*make room.*CASEMATE_CACHE"):
        remembered("x", made_from=(), decode=Decoder())
    assert entries(own_folders) == []


def test_the_disk_space_is_taken_before_it_is_written(own_folders):
    seen = []

    def decode(allocate):
        allocate((1 << 20, 1), np.uint8)
        (file,) = own_folders.glob("decoded/.building-*/inputs.npy")
        seen.append(file.stat().st_blocks * 512)
        return Decoder()(allocate)

    remembered("x", made_from=(), decode=decode)
    assert seen[0] >= 1 << 20


def test_a_cache_folder_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CASEMATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"file/decoded cannot be used .*CASEMATE_CACHE"):
        remembered("x", made_from=(), decode=Decoder())


def test_a_checksum_is_computed_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "archive"
    path.write_bytes(b"one")
    reads = []
    real = cache.digest_file
    monkeypatch.setattr(cache, "digest_file", lambda p: reads.append(p) or real(p))
    first = checksum(path)
    assert checksum(path) == first == real(path)
    assert len(reads) == 1
    path.write_bytes(b"two")
    assert checksum(path) == real(path) != first
    assert len(reads) == 2
    os.utime(path, ns=(0, 0))  # dated back, as unpacking does
    path.write_bytes(b"six")
    os.utime(path, ns=(0, 0))
    assert checksum(path) == real(path)


def test_a_damaged_stamp_is_not_believed(tmp_path, own_folders):
    path = tmp_path / "archive"
    path.write_bytes(b"one")
    good = checksum(path)
    for stamp in (own_folders / "stamps").iterdir():
        stamp.write_text("")
    assert checksum(path) == good


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="missing cannot be read"):
        checksum(tmp_path / "missing")
