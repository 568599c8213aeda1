"""Every test decodes into a cache of its own; archives are built here as the publishers do."""

from __future__ import annotations

import gzip
import struct
import zipfile

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's cache, and none sees the user's data unasked."""
    monkeypatch.setenv("CASEMATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASEMATE_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """An empty folder that CASEMATE_DATA names."""
    folder = tmp_path / "official"
    folder.mkdir()
    monkeypatch.setenv("CASEMATE_DATA", str(folder))
    return folder


def idx_bytes(array):
    """Return an array in the IDX format."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx():
    def write(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(idx_bytes(array)))

    return write


def ppm_bytes(pixels, *, comment=b""):
    """Return (h, w, 3) uint8 as a binary portable pixmap."""
    height, width, _ = pixels.shape
    return b"P6\n" + comment + f"{width} {height}\n255\n".encode() + pixels.tobytes()


def table(rows):
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
    return header + "".join(";".join(map(str, row)) + "\r\n" for row in rows)


class Gtsrb:
    """Writes small archives with the names and tables of the official ones."""

    def __init__(self, folder):
        self.folder = folder
        self.training_zip = folder / "GTSRB_Final_Training_Images.zip"
        self.test_zip = folder / "GTSRB_Final_Test_Images.zip"
        self.labels_zip = folder / "GTSRB_Final_Test_GT.zip"
        self.change = {}  # member -> bytes to write instead, None to leave it out
        self.add = {}  # further members of the training archive

    def write(self, training=None, test=()):
        """Write {label: [(track, pixels, region)]} and [(label, pixels, region)]."""
        self.folder.mkdir(parents=True, exist_ok=True)
        members = {}
        for label, frames in (training or {}).items():
            folder = f"GTSRB/Final_Training/Images/{label:05d}/"
            rows = []
            for frame, (track, pixels, region) in enumerate(frames):
                name = f"{track:05d}_{frame:05d}.ppm"
                members[folder + name] = ppm_bytes(pixels, comment=b"# made by a test 4.2\n")
                rows.append((name, pixels.shape[1], pixels.shape[0], *region, label))
            members[f"{folder}GT-{label:05d}.csv"] = table(rows).encode()
        self._zip(self.training_zip, members)
        folder = "GTSRB/Final_Test/Images/"
        images = {f"{folder}{i:05d}.ppm": ppm_bytes(p) for i, (_, p, _) in enumerate(test)}
        images[f"{folder}GT-final_test.test.csv"] = b"Filename;Width\r\n"
        self._zip(self.test_zip, images)
        rows = [
            (f"{i:05d}.ppm", p.shape[1], p.shape[0], *region, label)
            for i, (label, p, region) in enumerate(test)
        ]
        self._zip(self.labels_zip, {"GT-final_test.csv": table(rows).encode()})

    def _zip(self, path, members):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, made in members.items():
                data = self.change.get(name, made)
                if data is not None:
                    archive.writestr(name, data)
            if path == self.training_zip:
                for name, data in self.add.items():
                    archive.writestr(name, data)


@pytest.fixture
def gtsrb(own_data):
    return Gtsrb(own_data / "gtsrb")


@pytest.fixture
def pixels():
    """A maker of random photographs: (height, width, seed) -> (h, w, 3) uint8."""

    def make(height, width, seed=0):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return make
