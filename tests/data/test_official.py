"""The real archives: counts, labels, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from casemate.data import fetch
from casemate.data.gtsrb import GTSRB
from casemate.data.mnist import MNIST
from casemate.data.splits import holdout, of_class, stratified_sample

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first_load(data_dir, shared_cache):
    """GTSRB's two splits, decoded into an empty cache, and the processor seconds that it took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASEMATE_DATA", str(data_dir))
        patch.setenv("CASEMATE_CACHE", str(shared_cache))
        start = time.process_time()
        return load_gtsrb(), time.process_time() - start


@pytest.fixture(autouse=True)
def real_data(data_dir, shared_cache, first_load, monkeypatch, own_folders):
    monkeypatch.setenv("CASEMATE_DATA", str(data_dir))
    monkeypatch.setenv("CASEMATE_CACHE", str(shared_cache))


def load_gtsrb():
    return [GTSRB().load(split) for split in ("train", "test")]


def test_gtsrb_training_set():
    data = GTSRB().load("train")
    assert len(data) == 39_209
    assert tuple(data.inputs.shape) == (39_209, 3, 32, 32)
    assert len(set(data.groups.tolist())) == 1_307
    # Stallkamp et al. 2012, figure 2: the rarest and the most frequent classes
    per_class = np.bincount(data.labels.numpy(), minlength=43)
    assert (per_class[0], per_class[2], per_class[14], per_class.max()) == (210, 2250, 780, 2250)
    assert len(of_class(data, "stop")) == 780
    # a track is of one class and has about 30 frames
    labels, groups = data.labels.numpy(), data.groups.numpy()
    tracks, frames = np.unique(groups, return_counts=True)
    assert len(np.unique(groups * 43 + labels)) == len(tracks)
    assert 20 <= frames.min() <= frames.max() == 30


def test_gtsrb_test_set():
    data = GTSRB().load("test")
    assert len(data) == 12_630
    assert data.labels[:8].tolist() == [16, 1, 38, 33, 11, 38, 18, 12]
    assert data.labels[-3:].tolist() == [6, 7, 10]
    assert data.groups is None
    assert len(of_class(data, 14)) == 270
    assert len(set(data.labels.tolist())) == 43


def test_a_red_sign_is_red_and_a_blue_one_blue():
    # channels in order, and labels with their images: stop (14) is red, keep right (38) is blue
    data = GTSRB().load("train")
    means = {
        label: of_class(data, label).batch(slice(0, 600))[:, :, 8:24, 8:24].mean((0, 2, 3))
        for label in (14, 38)
    }
    assert means[14][0] > 1.2 * means[14][2]
    assert means[38][2] > 1.2 * means[38][0]


def test_cropping_differs_and_keeps_the_labels():
    data, cropped = GTSRB().load("test"), GTSRB(crop=True).load("test")
    assert torch.equal(data.labels, cropped.labels)
    assert not torch.equal(data.inputs[:100], cropped.inputs[:100])


def test_a_split_by_track_leaks_no_sign():
    rest, held = holdout(GTSRB().load("train"), 0.2, 0)
    assert not set(rest.group_ids.tolist()) & set(held.group_ids.tolist())
    assert len(rest) + len(held) == 39_209
    assert abs(len(held) / 39_209 - 0.2) < 0.01
    assert len(set(held.targets.tolist())) == 43


def test_mnist():
    train, test = MNIST().load("train"), MNIST().load("test")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(train.labels.numpy())[:2].tolist() == [5923, 6742]
    # the customary mean and deviation of the training pixels, from exact integer sums
    count = train.inputs.numel()
    mean = int(train.inputs.sum()) / count
    squares = sum(
        int(torch.mul(block.int(), block.int()).sum()) for block in train.inputs.split(5000)
    )
    assert mean / 255 == pytest.approx(0.1307, abs=5e-5)
    assert (squares / count - mean**2) ** 0.5 / 255 == pytest.approx(0.3081, abs=5e-5)


def test_a_sample_of_mnist_is_spread_over_the_digits():
    sample = stratified_sample(MNIST().load("test"), 500, 3)
    per_class = np.bincount(sample.targets.numpy())
    assert per_class.sum() == 500
    assert 43 <= per_class.min() <= per_class.max() <= 58


def test_reading_takes_seconds_at_first_and_no_time_later(first_load):
    first, cold = first_load
    start = time.perf_counter()
    second = load_gtsrb()
    warm = time.perf_counter() - start
    assert [d.digest for d in first] == [d.digest for d in second]
    # processor time does not depend on what else the machine does; it measured 6 s
    assert cold < 15
    assert warm < 1


def test_the_files_are_found(data_dir):
    assert all(p.parent == data_dir / "gtsrb" and p.is_file() for p in fetch.get("gtsrb"))
    assert len(fetch.get("mnist")) == 4
