from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from casemate.data import gtsrb as module
from casemate.data.gtsrb import GTSRB
from casemate.data.splits import holdout
from casemate.errors import UsageError

WHOLE = (0, 0, 32, 32)


@pytest.fixture
def small(gtsrb, pixels):
    """Two classes, three tracks, and three test images of three sizes."""
    shot = [pixels(32, 32, seed) for seed in range(6)]
    gtsrb.write(
        training={
            0: [(0, shot[0], WHOLE), (0, shot[1], WHOLE), (1, shot[2], WHOLE)],
            14: [(0, shot[3], WHOLE)],
        },
        test=[
            (14, shot[4], WHOLE),
            (0, pixels(40, 50, 8), (5, 6, 45, 34)),
            (42, pixels(15, 20, 9), (2, 2, 18, 13)),
        ],
    )
    return gtsrb, shot


def test_training_images_tracks_and_names(small):
    _, shot = small
    data = GTSRB().load("train")
    expected = torch.from_numpy(np.stack(shot[:4])).permute(0, 3, 1, 2)
    assert torch.equal(data.inputs, expected)
    assert data.labels.tolist() == [0, 0, 0, 14]
    groups = data.groups.tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3  # track 0 of class 14 is not track 0 of class 0
    assert data.classes[14] == "Stop"
    assert len(data.classes) == len(set(data.classes)) == 43
    assert (data.domain.shape, data.domain.step) == ((3, 32, 32), 1 / 255)


def test_test_images_of_any_size_are_resized(small, pixels):
    _, shot = small
    data = GTSRB().load("test")
    assert data.groups is None
    assert data.labels.tolist() == [14, 0, 42]
    assert np.array_equal(data.inputs[0].permute(1, 2, 0).numpy(), shot[4])
    image = Image.fromarray(pixels(40, 50, 8)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(data.inputs[1].permute(1, 2, 0).numpy(), np.asarray(image))


def test_resizing_keeps_the_mean_and_a_constant(gtsrb):
    # closed form: a filter that sums to one leaves a flat image flat, and averaging 64 to 32
    # pixels keeps the mean
    flat = np.full((64, 64, 3), 137, np.uint8)
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (64, 64, 3)).copy()
    gtsrb.write(test=[(0, flat, (0, 0, 64, 64)), (0, ramp, (0, 0, 64, 64))])
    data = GTSRB().load("test")
    assert (data.inputs[0] == 137).all()
    assert abs(float(data.inputs[1].float().mean()) - float(ramp.mean())) < 0.6


def test_cropping_takes_the_region_of_interest(gtsrb):
    # a bright sign in a dark border: only the sign is left; left, top, right, bottom all differ
    picture = np.zeros((50, 60, 3), np.uint8)
    picture[7:39, 11:51] = (200, 100, 50)
    gtsrb.write(test=[(3, picture, (11, 7, 51, 39))])
    data = GTSRB(crop=True, size=24).load("test")
    assert data.inputs.shape == (1, 3, 24, 24)
    for channel, value in enumerate((200, 100, 50)):
        assert (data.inputs[0, channel] == value).all()
    assert int(GTSRB(size=24).load("test").inputs.min()) == 0


def test_cropping_scales_the_region_where_the_image_was_resized(gtsrb):
    # the table speaks of 64 x 64 pixels, the image was halved, and so is the region
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[4:28, 8:24] = 255
    gtsrb.change["GT-final_test.csv"] = (
        b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
        b"00000.ppm;64;64;16;8;48;56;1\r\n"
    )
    gtsrb.write(test=[(1, picture, WHOLE)])
    assert (GTSRB(crop=True).load("test").inputs == 255).all()


def test_cropping_leaves_at_least_one_pixel(gtsrb):
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[1, 1] = 90
    gtsrb.change["GT-final_test.csv"] = (
        b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
        b"00000.ppm;100;100;98;97;99;100;1\r\n"
    )
    gtsrb.write(test=[(1, picture, WHOLE)])
    assert (GTSRB(crop=True, size=3).load("test").inputs == 90).all()


def test_an_image_of_the_size_asked_for_is_kept_bit_for_bit(gtsrb, pixels):
    picture = pixels(20, 20)
    gtsrb.write(test=[(1, picture, (0, 0, 20, 20))])
    data = GTSRB(size=20).load("test")
    assert np.array_equal(data.inputs[0].permute(1, 2, 0).numpy(), picture)


def test_the_second_load_reads_no_archive_and_parameters_are_told_apart(small, monkeypatch):
    first = GTSRB().load("train")
    digests = {
        first.digest,
        GTSRB(size=16).load("train").digest,
        GTSRB(size=16, crop=True).load("test").digest,
        GTSRB(size=16).load("test").digest,
    }
    assert len(digests) == 4
    monkeypatch.setattr(module, "Archive", None)
    assert GTSRB().load("train").digest == first.digest


def test_a_changed_archive_is_decoded_again(small, pixels):
    archives, _ = small
    first = GTSRB().load("train")
    archives.write(training={0: [(0, pixels(32, 32, 77), WHOLE)]})
    second = GTSRB().load("train")
    assert second.digest != first.digest
    assert len(second) == 1


def test_splitting_keeps_tracks_together(gtsrb, pixels):
    frames = [(track, pixels(8, 8, track), (0, 0, 8, 8)) for track in range(10) for _ in range(3)]
    gtsrb.write(training={0: frames, 1: frames})
    rest, held = holdout(GTSRB(size=8).load("train"), 0.3, 0)
    assert len(held) == 18
    assert not set(rest.group_ids.tolist()) & set(held.group_ids.tolist())


def test_a_size_that_is_none_is_refused():
    for size in (0, -3, 5000):
        with pytest.raises(UsageError, match=f"size must be 1 to 1024 pixels, got {size}"):
            GTSRB(size=size)


def test_a_file_that_is_no_image_is_named(small):
    archives, _ = small
    name = "GTSRB/Final_Training/Images/00000/00000_00001.ppm"
    archives.change[name] = b"P6 32 32 255\n too short"
    archives.write(training={0: [(0, np.zeros((32, 32, 3), np.uint8), WHOLE)] * 2})
    with pytest.raises(UsageError, match=rf"Training_Images.zip: the member '{name}' is no image"):
        GTSRB().load("train")


def test_a_truncated_archive_is_named(small):
    archives, _ = small
    data = archives.training_zip.read_bytes()
    archives.training_zip.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"GTSRB_Final_Training_Images\.zip is truncated"):
        GTSRB().load("train")


def test_a_damaged_member_is_named(small):
    archives, _ = small
    data = bytearray(archives.training_zip.read_bytes())
    data[1000] ^= 0xFF
    archives.training_zip.write_bytes(data)
    with pytest.raises(UsageError, match=r"Training_Images\.zip: the member '.*ppm' is damaged"):
        GTSRB().load("train")


def test_a_member_that_leads_out_of_the_archive_is_named(small):
    archives, _ = small
    archives.add["../../evil.ppm"] = b"x"
    archives.write(training={0: [(0, np.zeros((32, 32, 3), np.uint8), WHOLE)]})
    with pytest.raises(UsageError, match=r"member '../../evil.ppm' has a path that leads out"):
        GTSRB().load("train")


def test_a_missing_archive_is_named(small):
    archives, _ = small
    archives.labels_zip.unlink()
    with pytest.raises(UsageError, match=r"GTSRB_Final_Test_GT\.zip does not exist"):
        GTSRB().load("test")
