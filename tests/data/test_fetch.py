"""Downloads from a real HTTP server on this machine, with cut connections and wrong files."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from casemate.data import fetch, progress
from casemate.data.download import Download
from casemate.data.fetch import OfficialFile
from casemate.errors import UsageError

CONTENT = os.urandom(1_000_003)
CHUNK = 1 << 16  # what comes in whole chunks is kept to the byte
NAME = "toy.zip"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        behavior = server.script.pop(0) if server.script else "whole"
        body, start = server.content, 0
        if isinstance(behavior, int) and behavior >= 400:
            self.send_error(behavior)
            return
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            shown = start + 1 if behavior == "wrong range" else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body) if isinstance(behavior, str) else start + behavior[0]
        self.wfile.write(body[start:end])
        if end < len(body):  # cut the connection in the middle of the file
            self.close_connection = True
            self.connection.close()


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.script, server.asked, server.ranges = CONTENT, [], [], True
    server.handle_error = lambda *_: None  # clients that hang up are what is tested
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("casemate.data.download.time.sleep", lambda _seconds: None)


@pytest.fixture
def official(server, monkeypatch):
    """One data set, "toy", of one file that the server has."""

    def use(content=CONTENT, sources=None):
        file = OfficialFile(
            name=NAME,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            sources=sources or (server.url,),
        )
        monkeypatch.setitem(fetch.OFFICIAL, "toy", (file,))

    use()
    return use


class Watch:
    """Notes what a progress bar would show."""

    def __init__(self):
        self.opened, self.bytes = [], 0

    @contextmanager
    def __call__(self, name, *, total, done):
        self.opened.append((name, total, done))
        yield self.advance

    def advance(self, count):
        self.bytes += count


def downloaded(folder):
    return folder / "downloads" / "toy"


def test_a_file_is_downloaded_verified_and_kept(server, official, own_folders):
    watch = Watch()
    (path,) = fetch.get("toy", progress=watch)
    assert path == downloaded(own_folders) / NAME
    assert path.read_bytes() == CONTENT
    assert watch.opened == [(NAME, len(CONTENT), 0)]
    assert watch.bytes == len(CONTENT)
    assert fetch.get("toy") == [path]
    assert fetch.locate("toy", NAME) == path
    assert len(server.asked) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_cut_connection_is_resumed_where_it_was_cut(server, official):
    server.script = [(6 * CHUNK,), (5 * CHUNK,)]
    watch = Watch()
    (path,) = fetch.get("toy", progress=watch)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={6 * CHUNK}-", f"bytes={11 * CHUNK}-"]
    assert [done for _, _, done in watch.opened] == [0, 6 * CHUNK, 11 * CHUNK]
    assert watch.bytes == len(CONTENT)


def test_a_cut_in_the_middle_of_a_chunk_loses_no_more_than_it(server, official):
    server.script = [(6 * CHUNK + 999,)]
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    start = int(server.asked[1].removeprefix("bytes=").removesuffix("-"))
    assert 6 * CHUNK <= start <= 6 * CHUNK + 999


def test_a_later_run_resumes_what_an_interrupted_one_left(server, official, own_folders):
    def interrupt(name, *, total, done):
        raise KeyboardInterrupt

    folder = downloaded(own_folders)
    folder.mkdir(parents=True)
    part = folder / f"{NAME}.part"
    part.write_bytes(CONTENT[:123_456])
    with pytest.raises(KeyboardInterrupt):
        fetch.get("toy", progress=interrupt)
    assert part.read_bytes() == CONTENT[:123_456]
    (path,) = fetch.get("toy")
    assert server.asked[-1] == "bytes=123456-"
    assert path.read_bytes() == CONTENT
    assert not part.exists()


def test_a_part_that_is_complete_is_not_asked_for_again(server, official, own_folders):
    folder = downloaded(own_folders)
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(CONTENT)
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_that_cannot_resume_sends_the_whole_again(server, official):
    server.ranges = False
    server.script = [(13 * CHUNK,)]
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={13 * CHUNK}-"]


def test_a_server_that_sends_another_range_is_not_believed(server, official):
    server.script = [(13 * CHUNK,), "wrong range"]
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={13 * CHUNK}-", None]


def test_a_part_of_another_file_is_thrown_away(server, official, own_folders):
    folder = downloaded(own_folders)
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(b"x" * 500)
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    assert server.asked == ["bytes=500-", None]
    (folder / NAME).unlink()
    (folder / f"{NAME}.part").write_bytes(b"x" * 2_000_000)  # longer than the file
    assert fetch.get("toy")[0].read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_thrown_away(server, official, own_folders):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(
        UsageError, match=r"toy\.zip is not the official file \(its SHA-256"
    ) as caught:
        fetch.get("toy")
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert len(server.asked) == 1
    assert not list(downloaded(own_folders).iterdir())


def test_a_server_that_sends_too_much_is_cut_off(server, official, own_folders):
    official(CONTENT[:300_000])
    with pytest.raises(UsageError, match="longer than the official file of 300000 bytes"):
        fetch.get("toy")
    assert not list(downloaded(own_folders).iterdir())


def test_a_file_that_is_too_short_ends(server, official):
    official(CONTENT + b"more")
    with pytest.raises(UsageError, match=r"cannot be downloaded .*run again"):
        fetch.get("toy")
    assert len(server.asked) < 12


def test_the_next_source_is_asked_when_one_has_it_not(server, official):
    official(sources=(f"{server.url}gone/", server.url))
    server.script = [404]
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    server.script = [404, 403]
    fetch.get("toy")[0].unlink()
    with pytest.raises(UsageError, match=r"gone/toy.zip .*answers 404; .*answers 403"):
        fetch.get("toy")


def test_a_server_in_trouble_is_asked_again_and_not_for_ever(server, official):
    server.script = [503, 500]
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    server.script = [503] * 50
    fetch.get("toy")[0].unlink()
    with pytest.raises(
        UsageError, match=r"cannot be downloaded .*answers 503.*check the connection"
    ):
        fetch.get("toy")


def test_pauses_grow(server, official, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("casemate.data.download.time.sleep", pauses.append)
    server.script = [503] * 50
    download = Download(tmp_path / "x.part", size=5, progress=progress.silent, tries=4, pause=0.5)
    with pytest.raises(UsageError):
        download(server.url, str(tmp_path / "x"))
    assert pauses == [1.0, 2.0, 4.0]


def test_nobody_there_is_one_sentence(official):
    official(sources=("http://127.0.0.1:9/",))  # the discard port: nobody listens
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9/toy\.zip cannot be downloaded"):
        fetch.get("toy")


def test_a_file_that_changed_in_the_cache_is_fetched_again_on_request(server, official):
    (path,) = fetch.get("toy")
    path.write_bytes(b"damaged")
    assert fetch.get("toy")[0].read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_full_disk_is_one_sentence(official, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Download, "_receive", full)
    with pytest.raises(UsageError, match=r"toy\.zip cannot be written \(No space.*CASEMATE_CACHE"):
        fetch.get("toy")


def test_with_casemate_data_nothing_is_downloaded(server, official, own_data):
    with pytest.raises(UsageError, match=r"toy\.zip does not exist; .*unset CASEMATE_DATA"):
        fetch.get("toy")
    (own_data / "toy").mkdir()
    (own_data / "toy" / NAME).write_bytes(b"my own")
    assert fetch.get("toy") == [own_data / "toy" / NAME]
    assert server.asked == []


def test_what_needs_no_fetching_and_what_is_unknown():
    assert fetch.get("digits") == []
    with pytest.raises(UsageError, match=r"nothing to fetch for 'mnits'.*Did you mean .mnist."):
        fetch.get("mnits")


def test_downloads_are_shown_by_whom_the_caller_names(server, official):
    watch = Watch()
    with progress.shown_by(watch):
        fetch.locate("toy", NAME)
    assert watch.bytes == len(CONTENT)
    assert progress.current() is progress.silent


def test_the_terminal_stays_quiet(official, capfd):
    fetch.get("toy")
    assert capfd.readouterr() == ("", "")


def test_official_files_are_pinned_by_https_and_sha256():
    for files in fetch.OFFICIAL.values():
        for file in files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
            assert all(s.startswith("https://") and s.endswith("/") for s in file.sources)
