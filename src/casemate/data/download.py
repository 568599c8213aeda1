"""A download that survives a cut connection: what came in stays, the rest is asked for.

Pooch verifies and places files but starts each download anew; this is the downloader it is given.
Bytes are kept in a `.part` file beside the final one, and a later try, also of a later process,
asks the server for the rest only (HTTP Range, RFC 9110 section 14).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from casemate.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from requests import Response

    from casemate.data.progress import Progress

__all__ = ["Download"]

_CHUNK = 1 << 16  # bytes between two steps of the progress; fewer than that a cut can lose
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_TOO_MANY_REQUESTS, _FIRST_SERVER_ERROR = 429, 500


class Download:
    """A downloader for Pooch that resumes.

    Args:
        part: Where bytes are kept until all are there.
        size: Exact size of the file in bytes; a server that sends more is not believed.
        progress: Shows how far it is.
        tries: How often in a row a connection may fail without bringing anything new.
        pause: Seconds before the second try; doubled for each further one.
        timeout: Seconds of silence after which a connection counts as cut.

    Attributes:
        resumed: Whether bytes of an earlier try were used.
    """

    def __init__(
        self,
        part: Path,
        *,
        size: int,
        progress: Progress,
        tries: int = 4,
        pause: float = 1.0,
        timeout: float = 30.0,
    ) -> None:
        self.part = part
        self.resumed = False
        self._size = size
        self._progress = progress
        self._tries = tries
        self._pause = pause
        self._timeout = timeout

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:  # noqa: ARG002 - Pooch's signature
        """Fetch `url` into `output_file`.

        Raises:
            UsageError: If the server refuses, cannot be reached, or sends too much.
        """
        from requests import RequestException  # noqa: PLC0415 - an HTTP client, seldom needed

        self.resumed = self._have() > 0
        failures, best = 0, self._have()
        while self._have() != self._size:
            try:
                self._ask(url)
            except RequestException as error:  # noqa: PERF203 - a cut connection is what the loop is for
                # only bytes never seen before count: a server that starts over brings nothing new
                failures = 0 if self._have() > best else failures + 1
                best = max(best, self._have())
                if failures >= self._tries:
                    raise UsageError(
                        f"{url} cannot be downloaded ({_reason(error)}); check the connection and "
                        f"run again, the {self._have()} bytes that came are kept, or set "
                        "CASEMATE_DATA to a folder that holds the file"
                    ) from error
                time.sleep(self._pause * 2**failures)
        self.part.replace(output_file)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _ask(self, url: str) -> None:
        """Ask once for what is missing; raise `RequestException` if it does not all come."""
        import requests  # noqa: PLC0415 - as above

        have = self._have()
        # "identity": lengths and ranges of the file itself, not of a compressed transfer
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=self._timeout) as response:
            status = response.status_code
            if have and (status == _RANGE_NOT_SATISFIABLE or _other_range(response, have)):
                self._forget()
                raise requests.ConnectionError("the bytes kept do not fit the server's file")
            if status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_ERROR:
                raise requests.ConnectionError(f"the server answers {status}")
            if status not in (_OK, _PARTIAL):
                raise UsageError(f"{url} cannot be downloaded: the server answers {status}")
            if status == _OK:
                self._forget()
                have = 0
            self._receive(response, url, have)

    def _forget(self) -> None:
        """Start anew, in a new file: another process may still be writing to the old one."""
        self.part.unlink(missing_ok=True)
        self.resumed = False

    def _receive(self, response: Response, url: str, have: int) -> None:
        import requests  # noqa: PLC0415 - as above

        self.part.parent.mkdir(parents=True, exist_ok=True)
        # written at its place and not appended, so that a second process that fetches the same
        # file writes the same bytes to the same places
        with (
            self.part.open("r+b" if have else "wb") as file,
            self._progress(
                self.part.name.removesuffix(".part"), total=self._size, done=have
            ) as advance,
        ):
            file.seek(have)
            for chunk in response.iter_content(_CHUNK):
                have += len(chunk)
                if have > self._size:
                    file.close()
                    self._forget()
                    raise UsageError(
                        f"{url} is longer than the official file of {self._size} bytes; "
                        "what came is thrown away"
                    )
                file.write(chunk)
                advance(len(chunk))
        if have < self._size:
            raise requests.ConnectionError(f"only {have} of {self._size} bytes came")


def _other_range(response: Response, have: int) -> bool:
    """Return whether a partial answer does not continue where the kept bytes end."""
    if response.status_code != _PARTIAL:
        return False
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", ""))
    return match is None or int(match.group(1)) != have


def _reason(error: Exception) -> str:
    """Return what went wrong in one short line; an HTTP client's own words run long."""
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first[:120]}" if first else type(error).__name__
