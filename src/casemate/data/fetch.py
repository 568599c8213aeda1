"""The official archives: where they are, or fetching them, verified.

With `CASEMATE_DATA` set, they are read from `$CASEMATE_DATA/<name>/` and nothing is downloaded.
Otherwise they come from their publishers into the cache folder, where a file takes its final name
only after its SHA-256 is the one pinned here.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casemate.data.download import Download
from casemate.data.locations import CACHE_VARIABLE, DATA_VARIABLE, cache_folder, data_folder
from casemate.data.progress import Progress, current
from casemate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OFFICIAL", "OfficialFile", "get", "locate"]


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """One file as its publisher gives it out.

    Attributes:
        name: File name, the same in `$CASEMATE_DATA/<data set>/`.
        size: Bytes.
        sha256: Checksum of the file.
        sources: Folders on the web that hold it, tried in this order.
    """

    name: str
    size: int
    sha256: str
    sources: tuple[str, ...]


_MNIST_SOURCES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_GTSRB_SOURCES = ("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/",)

# MNIST's checksums are those that TensorFlow Datasets pins. GTSRB's two test files' are those of
# torchvision's prototype loader; torchvision's training archive is a smaller one (26,640 images of
# the competition's first stage), that of the final training set was published by several who
# archived it, with the same size that the server states.
OFFICIAL: dict[str, tuple[OfficialFile, ...]] = {
    "mnist": (
        OfficialFile(
            name="train-images-idx3-ubyte.gz",
            size=9_912_422,
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            sources=_MNIST_SOURCES,
        ),
        OfficialFile(
            name="train-labels-idx1-ubyte.gz",
            size=28_881,
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            sources=_MNIST_SOURCES,
        ),
        OfficialFile(
            name="t10k-images-idx3-ubyte.gz",
            size=1_648_877,
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            sources=_MNIST_SOURCES,
        ),
        OfficialFile(
            name="t10k-labels-idx1-ubyte.gz",
            size=4_542,
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            sources=_MNIST_SOURCES,
        ),
    ),
    "gtsrb": (
        OfficialFile(
            name="GTSRB_Final_Training_Images.zip",
            size=276_294_756,
            sha256="d32ac4b5fa9a1cbd1994768413902e8193599d9434cf0a8eb9cfd00a6d3a290c",
            sources=_GTSRB_SOURCES,
        ),
        OfficialFile(
            name="GTSRB_Final_Test_Images.zip",
            size=88_978_620,
            sha256="48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
            sources=_GTSRB_SOURCES,
        ),
        OfficialFile(
            name="GTSRB_Final_Test_GT.zip",
            size=99_620,
            sha256="f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
            sources=_GTSRB_SOURCES,
        ),
    ),
}
"""Files of each data set that has to be fetched, with the checksums they must have."""


def get(name: str, *, progress: Progress | None = None) -> list[Path]:
    """Make sure that a data set's files are on this machine.

    Files in the cache folder are verified again, and downloaded again if they changed.

    Args:
        name: Registered name of the data set.
        progress: Shows how far a download is; None for `casemate.data.progress.current()`.

    Returns:
        The files; none for a data set that needs none ("digits").

    Raises:
        UsageError: If there is nothing to fetch under that name, a file is missing in
            `CASEMATE_DATA`, or a download fails or is not the official file.
    """
    if name == "digits":
        return []
    if name not in OFFICIAL:
        raise UsageError(
            f"there is nothing to fetch for {name!r}.{did_you_mean(name, ['digits', *OFFICIAL])}"
        )
    if data_folder() is not None:
        return [locate(name, file.name) for file in OFFICIAL[name]]
    return [_fetch(name, file, progress or current()) for file in OFFICIAL[name]]


def locate(name: str, file: str, *, progress: Progress | None = None) -> Path:
    """Return where one official file is, downloading it if it is nowhere.

    Args:
        name: Name of the data set, a key of `OFFICIAL`.
        file: Name of one of its files.
        progress: Shows how far a download is; None for `casemate.data.progress.current()`.

    Raises:
        UsageError: As `get`.
    """
    own = data_folder()
    if own is not None:
        path = own / name / file
        if not path.is_file():
            raise UsageError(
                f"{path} does not exist; put the official file there, or unset {DATA_VARIABLE} "
                "to download it"
            )
        return path
    path = _downloads(name) / file
    if path.is_file():  # it took this name only after it was verified
        return path
    return _fetch(name, next(f for f in OFFICIAL[name] if f.name == file), progress or current())


def _downloads(name: str) -> Path:
    return cache_folder() / "downloads" / name


def _fetch(name: str, file: OfficialFile, progress: Progress) -> Path:
    """Return the verified file in the cache folder; the first source that gives it wins."""
    refusals: list[UsageError] = []
    for source in file.sources:
        try:
            return _fetch_from(source, _downloads(name), file, progress)
        except UsageError as error:  # noqa: PERF203 - the next source may give it
            refusals.append(error)
        except OSError as error:
            raise UsageError(
                f"{_downloads(name) / file.name} cannot be written ({error.strerror or error}); "
                f"make room there or name another folder in {CACHE_VARIABLE}"
            ) from error
    raise UsageError("; ".join(str(r) for r in refusals)) from refusals[-1]


def _fetch_from(source: str, folder: Path, file: OfficialFile, progress: Progress) -> Path:
    import pooch  # noqa: PLC0415 - imports an HTTP client, needless once the files are there

    keeper = pooch.create(
        path=folder,
        base_url=source,
        registry={file.name: f"sha256:{file.sha256}"},
        retry_if_failed=0,  # a wrong file stays wrong, and `Download` tries again by itself
    )
    while True:
        download = Download(folder / f"{file.name}.part", size=file.size, progress=progress)
        try:
            with _quiet(pooch.get_logger()):
                return Path(keeper.fetch(file.name, downloader=download))
        except UsageError:  # a ValueError too, but the sentence is written already
            raise
        except ValueError as error:
            # the beginning may have been of another file, so a resumed one gets a second chance
            if not download.resumed:
                raise UsageError(
                    f"{source}{file.name} is not the official file (its SHA-256 is not "
                    f"{file.sha256}) and was thrown away; fetch the file by hand into "
                    f"${DATA_VARIABLE}/{folder.name}"
                ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep a library's log lines off the terminal: what is to be told, the progress tells."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
