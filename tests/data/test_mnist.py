from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest
import torch

from casemate.data import mnist
from casemate.data.mnist import MNIST
from casemate.errors import UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
LABELS = np.arange(12) % 10


@pytest.fixture
def files(own_data, write_idx, monkeypatch):
    """A small MNIST whose checksums stand in for the official ones."""
    folder = own_data / "mnist"
    for name, array in (
        ("train-images-idx3-ubyte.gz", IMAGES),
        ("train-labels-idx1-ubyte.gz", LABELS),
        ("t10k-images-idx3-ubyte.gz", IMAGES[:10]),
        ("t10k-labels-idx1-ubyte.gz", LABELS[:10]),
    ):
        write_idx(folder / name, array)
        content = hashlib.sha256(gzip.decompress((folder / name).read_bytes())).hexdigest()
        monkeypatch.setitem(mnist.CONTENT, name, content)
    return folder


def test_images_and_labels_are_those_of_the_files(files):
    train, test = MNIST().load("train"), MNIST().load("test")
    assert (train.name, len(train), len(test)) == ("mnist/train", 12, 10)
    assert torch.equal(train.inputs[:, 0], torch.from_numpy(IMAGES))
    assert train.labels.tolist() == LABELS.tolist()
    assert train.classes[7] == "7"
    assert (train.domain.low, train.domain.high, train.domain.step) == (0.0, 1.0, 1 / 255)
    assert train.digest != test.digest


def test_the_second_load_does_not_unpack(files, monkeypatch):
    first = MNIST().load("train")
    monkeypatch.setattr(mnist, "read_idx", None)
    assert MNIST().load("train").digest == first.digest


def test_another_wrapping_of_the_same_content_is_taken(files):
    path = files / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    assert len(MNIST().load("train")) == 12


def test_labels_of_another_length_are_refused(files, write_idx):
    write_idx(files / "train-labels-idx1-ubyte.gz", LABELS[:-1])
    with pytest.raises(UsageError, match=r"train-labels.* has 11 labels but train-images.* has 12"):
        MNIST().load("train")


def test_other_content_is_refused_by_name(files, write_idx):
    changed = IMAGES.copy()
    changed[3, 4, 5] ^= 1
    write_idx(files / "train-images-idx3-ubyte.gz", changed)
    with pytest.raises(UsageError, match=r"train-images.* is not MNIST"):
        MNIST().load("train")
    write_idx(files / "train-images-idx3-ubyte.gz", changed[:, 1:])
    with pytest.raises(UsageError, match=r"\(27, 28\), not \(28, 28\)"):
        MNIST().load("train")


def test_a_missing_file_is_named_with_what_to_do(files):
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UsageError, match=r"t10k-labels.* does not exist; .*unset CASEMATE_DATA"):
        MNIST().load("test")


def test_only_the_two_splits_exist(files):
    with pytest.raises(UsageError, match="'validation'"):
        MNIST().load("validation")
