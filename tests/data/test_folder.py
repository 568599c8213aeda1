from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from casemate.data import folder as module
from casemate.data.folder import Folder
from casemate.data.images import open_image
from casemate.errors import UsageError

RNG = np.random.default_rng(0)


def image(height=4, width=5, channels=3):
    shape = (height, width, 3) if channels == 3 else (height, width)
    return RNG.integers(0, 256, shape, np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def root(tmp_path):
    return tmp_path / "pets"


@pytest.fixture
def pets(root):
    """Ten cats and ten dogs; returns their pixels by class and file name."""
    return {
        label: {f"{i}.png": save(root / label / f"{i}.png", image()) for i in range(10)}
        for label in ("cat", "dog")
    }


def channels_first(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def test_images_are_split_and_labeled_by_folder(root, pets):
    train, test = Folder(path=root).load("train"), Folder(path=str(root)).load("test")
    assert (train.name, train.classes, len(train), len(test)) == (
        "pets/train",
        ("cat", "dog"),
        16,
        4,
    )
    assert (train.domain.shape, train.domain.step) == ((3, 4, 5), 1 / 255)
    expected = [
        channels_first(pixels)
        for label in ("cat", "dog")
        for _, pixels in sorted(pets[label].items())
    ]
    for data in (train, test):
        for row, label in zip(data.rows.tolist(), data.targets.tolist(), strict=True):
            assert torch.equal(data.inputs[row], expected[row])
            assert label == row // 10
    assert np.bincount(test.targets.numpy()).tolist() == [2, 2]
    assert not set(train.rows.tolist()) & set(test.rows.tolist())


def test_a_divided_folder_is_taken_as_it_is(root):
    for half, count in (("train", 3), ("test", 2)):
        for label in ("b", "a"):
            for i in range(count):
                save(root / half / label / f"{i}.png", image())
    train, test = Folder(path=root).load("train"), Folder(path=root).load("test")
    assert (len(train), len(test), train.classes, test.classes) == (6, 4, ("a", "b"), ("a", "b"))
    assert test.index is None


def test_labels_of_a_divided_folder_are_those_of_training(root):
    for label in ("a", "b", "c"):
        save(root / "train" / label / "0.png", image())
    save(root / "test" / "c" / "0.png", image())
    assert Folder(path=root).load("test").labels.tolist() == [2]
    save(root / "test" / "cc" / "0.png", image())
    with pytest.raises(UsageError, match="the class 'cc' is unknown in the training set"):
        Folder(path=root).load("test")


def test_classes_may_be_named_train_and_test(root):
    for i in range(4):
        save(root / "train" / f"{i}.png", image())
        save(root / "test" / f"{i}.png", image())
    assert Folder(path=root, test_fraction=0.5).load("test").classes == ("test", "train")


def test_a_third_part_is_refused(root):
    for half in ("train", "test", "valid"):
        save(root / half / "a" / "0.png", image())
    with pytest.raises(UsageError, match="also has the folder 'valid'"):
        Folder(path=root).load("test")


def test_resizing_to_a_size(root):
    for i, (height, width) in enumerate([(4, 8), (9, 3), (6, 7), (8, 8)]):
        save(root / "a" / f"{i}.png", np.full((height, width, 3), 50 * i, np.uint8))
    data = Folder(path=root, size=(6, 7), test_fraction=0.5).load("train")
    assert data.domain.shape == (3, 6, 7)
    for i in range(4):
        assert (data.inputs[i] == 50 * i).all()
    kept = save(root / "a" / "2.png", image(6, 7))
    again = Folder(path=root, size=(6, 7), test_fraction=0.5).load("train")
    assert torch.equal(again.inputs[2], channels_first(kept))
    assert Folder(path=root, size=6, test_fraction=0.5).load("train").domain.shape == (3, 6, 6)


def test_gray_and_color(root):
    gray = [save(root / "a" / f"{i}.png", image(channels=1)) for i in range(2)]
    data = Folder(path=root, test_fraction=0.5).load("train")
    assert torch.equal(data.inputs[1, 0], torch.from_numpy(gray[1]))
    as_color = Folder(path=root, channels=3, test_fraction=0.5).load("train")
    assert torch.equal(as_color.inputs[1], torch.from_numpy(gray[1]).expand(3, -1, -1))
    save(root / "a" / "x.png", np.full((4, 5, 3), 77, np.uint8))
    with pytest.raises(
        UsageError, match=r"x.png' has 3 channels but .*0.png' has 1; give channels="
    ):
        Folder(path=root).load("train")
    as_gray = Folder(path=root, channels=1, test_fraction=0.5).load("train")
    assert (as_gray.inputs[2] == 77).all()


def test_images_of_different_sizes_are_refused_by_name(root, pets):
    save(root / "dog" / "odd.png", image(9, 9))
    with pytest.raises(
        UsageError, match=r"odd.png' has 9 x 9 pixels but .*0.png' has 5 x 4; give s"
    ):
        Folder(path=root).load("train")


@pytest.mark.parametrize(
    "name", ["notes.txt", "photo.png", "empty.png", "cut.png", "odd\x1b[2J.png", "page.eps"]
)
def test_a_file_that_is_no_image_is_named(root, pets, name):
    path = root / "cat" / name
    data = (root / "cat" / "0.png").read_bytes()
    contents = {"empty.png": b"", "cut.png": data[: len(data) // 2], "page.eps": b"%!PS-Adobe"}
    path.write_bytes(contents.get(name, b"hello, I am text"))
    with pytest.raises(UsageError) as caught:
        Folder(path=root).load("train")
    assert repr(str(path)) in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_what_file_managers_leave_behind_is_not_looked_at(root, pets):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden"):
        (root / "cat" / name).write_bytes(b"x")
    (root / "README.txt").write_text("cats and dogs")
    (root / ".git").mkdir()
    assert len(Folder(path=root).load("train")) == 16


def test_an_empty_class_folder_is_named(root, pets):
    (root / "bird").mkdir()
    with pytest.raises(UsageError, match=r"class folder '.*bird' is empty"):
        Folder(path=root).load("train")


def test_folders_in_class_folders_and_missing_ones_are_refused(root, pets, tmp_path):
    (root / "cat" / "kittens").mkdir()
    with pytest.raises(UsageError, match=r"kittens' is no file"):
        Folder(path=root).load("train")
    with pytest.raises(UsageError, match=r"nowhere' cannot be read as a folder"):
        Folder(path=tmp_path / "nowhere").load("train")
    with pytest.raises(UsageError, match=r"0.png' cannot be read as a folder"):
        Folder(path=root / "dog" / "0.png").load("train")
    with pytest.raises(UsageError, match=r"has no class folders"):
        Folder(path=root / "dog").load("train")


def test_links_out_of_the_folder_are_refused(root, pets, tmp_path):
    secret = tmp_path / "secret.png"
    save(secret, image())
    link = root / "cat" / "link.png"
    link.symlink_to(secret)
    with pytest.raises(UsageError, match=r"link.png' is a link that points out of"):
        Folder(path=root).load("train")
    link.unlink()
    link.symlink_to(root / "dog" / "0.png")
    assert len(Folder(path=root).load("train")) + len(Folder(path=root).load("test")) == 21
    (tmp_path / "elsewhere").mkdir()
    (root / "wolf").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"wolf' is a link that points out of"):
        Folder(path=root).load("train")


def test_a_folder_that_is_itself_a_link_is_fine(root, pets, tmp_path):
    (tmp_path / "shortcut").symlink_to(root)
    assert len(Folder(path=tmp_path / "shortcut").load("train")) == 16


def test_something_that_is_neither_file_nor_folder_is_refused(root, pets):
    os.mkfifo(root / "cat" / "pipe.png")
    with pytest.raises(UsageError, match=r"pipe.png' is no file"):
        Folder(path=root).load("train")


def test_a_class_name_that_leads_astray_is_refused(root, pets):
    save(root / "b\x1b[2Jad" / "0.png", image())
    with pytest.raises(UsageError, match=r"control characters"):
        Folder(path=root).load("train")


def bomb(width, height):
    """Return a PNG of a few hundred bytes that claims to hold width x height pixels."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(file, "PNG")
    data = bytearray(file.getvalue())
    header = b"IHDR" + struct.pack(">II", width, height) + bytes(data[24:29])
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(data)


@pytest.mark.parametrize("side", [8_193, 10_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_name(root, pets, side):
    (root / "cat" / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(UsageError, match=r"bomb.png' has more than 67108864 pixels and is refused"):
        Folder(path=root).load("train")


def test_sixteen_bits_and_animations_are_refused(tmp_path):
    deep, moving = tmp_path / "deep.png", tmp_path / "moving.png"
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(deep)
    with pytest.raises(UsageError, match=r"deep.png' has pixels of mode I;16"):
        open_image(deep, None)
    frames = [Image.fromarray(image()) for _ in range(2)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    with pytest.raises(UsageError, match=r"moving.png' has several frames"):
        open_image(moving, None)


def test_palettes_and_transparency_become_plain_color(tmp_path):
    path = tmp_path / "p.png"
    pixels = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
    palette = Image.fromarray(pixels).quantize(2)
    palette.save(path, transparency=b"\x00\x80")
    assert np.array_equal(np.asarray(open_image(path, None)), pixels)
    with_alpha = np.concatenate([pixels, np.array([[[0], [9]]], np.uint8)], axis=2)
    Image.fromarray(with_alpha).save(path)
    assert np.array_equal(np.asarray(open_image(path, None)), pixels)


@pytest.mark.parametrize("form", ["BMP", "JPEG", "PPM", "TIFF", "WEBP"])
def test_other_formats_are_read(tmp_path, form):
    path = tmp_path / "image"
    Image.new("RGB", (8, 8), (120, 130, 140)).save(path, form)
    assert np.abs(np.asarray(open_image(path, None)).astype(int) - (120, 130, 140)).max() <= 3


def test_the_second_load_opens_no_image_and_a_change_is_seen(root, pets, monkeypatch):
    first = Folder(path=root).load("train")
    real = module.open_image
    monkeypatch.setattr(module, "open_image", None)
    assert Folder(path=root).load("train").digest == first.digest
    monkeypatch.setattr(module, "open_image", real)
    save(root / "cat" / "3.png", 255 - pets["cat"]["3.png"])
    assert Folder(path=root).load("train").digest != first.digest


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"size": 0}, "size must be 1 to 4096 pixels, got 0"),
        ({"size": (4, 5000)}, "size must be"),
        ({"size": (4, 4, 4)}, "size must be"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"test_fraction": 0.0}, "test_fraction must be between 0 and 1"),
    ],
)
def test_parameters_out_of_range_are_refused(changes, part):
    with pytest.raises(UsageError, match=part):
        Folder(path="x", **changes)
