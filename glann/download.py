"""One file from a server, hashed as it comes."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO

from imle.errors import DataError

TIMEOUT_SECONDS = 30.0  # without a byte from the server
CHUNK = 1 << 20  # bytes

Report = Callable[[int, int | None], None]  # (bytes so far, bytes in all where the server tells)


def progress(say: Callable[[str], None], seconds: float = 5.0) -> Report:
    """A report that says how far a download is, a line every few seconds."""
    last = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds or done == total:
            last = time.monotonic()
            say(f"downloaded {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"downloaded {done / 1e6:.0f} MB")

    return report


def download(url: str, file: IO[bytes], report: Report | None, timeout: float) -> str:
    """Write what the server sends.

    Args:
        url: http, https or file.
        file: open for writing.
        report: told how it goes on.
        timeout: seconds without a byte after which it is given up.

    Returns:
        The SHA-256 of what was written, hexadecimal.

    Raises:
        DataError: if the server cannot be reached, answers with an error, goes silent, or ends too early.
    """

    def failed(error: object) -> DataError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            reason = f"the server answered {error.code} {error.reason}"
        elif isinstance(reason, TimeoutError):
            reason = f"no answer within {timeout:g} seconds"
        return DataError(f"cannot download {url}: {reason}")

    try:
        request = urllib.request.Request(url, headers={"User-Agent": "glann"})
        response = urllib.request.urlopen(request, timeout=timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise failed(error) from error
    digest, received = hashlib.sha256(), 0
    with response:
        length = response.headers.get("Content-Length") or ""
        expected = int(length) if length.isdecimal() else None
        while True:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise failed(error) from error
            if not chunk:
                break
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            if report is not None:
                report(received, expected)
    if expected is not None and received != expected:
        raise failed(f"expected {expected} bytes, the connection ended after {received}")
    return digest.hexdigest()
