"""Fetching a picture from the web: only from an address that a person gave, and only by http or https."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from queue import Empty, SimpleQueue
from typing import IO
from urllib.parse import quote, urlsplit, urlunsplit

from minigpt4.core.errors import ImageError
from minigpt4.core.pixels import MAX_FILE_BYTES

TIME_LIMIT_S = 60.0
"""Seconds for the whole picture, from the look-up of the host's name to the last byte."""

STALL_S = 15.0
"""Seconds without a byte after which the fetch is abandoned."""

MAX_REDIRECTS = 5
CHUNK = 1 << 16
HEADERS = {"User-Agent": "minigpt4", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
SCHEMES = ("http", "https")

FAILURES = (OSError, ValueError, http.client.HTTPException)
"""What urllib raises for a bad address, host or connection."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only: urllib itself would follow one to ftp."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in SCHEMES:
            raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_picture(address: str) -> bytes:
    """Fetch the content of an http or https address; the picture reader checks what it is.

    Takes at most `TIME_LIMIT_S` seconds. Raises ImageError, with one sentence, if the content
    cannot be fetched or is larger than a picture's file may be.
    """
    if _scheme(address) not in SCHEMES:
        raise ImageError(
            f"{shown(address)} cannot be fetched: only http and https addresses can; save the picture "
            "and give its file."
        )
    arrived: SimpleQueue[bytes | Exception] = SimpleQueue()

    def run() -> None:
        try:
            arrived.put(_fetch(address))
        except Exception as problem:
            arrived.put(problem)

    # On a thread, as neither name resolution nor a header sent byte by byte obeys a socket's timeout.
    threading.Thread(target=run, daemon=True, name="minigpt4-fetch").start()
    try:
        result = arrived.get(timeout=TIME_LIMIT_S)
    except Empty:
        result = TimeoutError()
    if isinstance(result, FAILURES):
        raise ImageError(
            f"{shown(address)} cannot be fetched: {_reason(result)}; check the address, or save the picture "
            "and give its file."
        ) from result
    if isinstance(result, Exception):
        raise result
    return result


def shown(address: str) -> str:
    """The address as shown in messages; a long one is truncated."""
    return address if len(address) <= 120 else f"{address[:119]}…"


def _scheme(address: str) -> str:
    """The address's scheme in lower case, such as "https"; "" if it has none."""
    return address.partition("://")[0].lower() if "://" in address else ""


def _fetch(address: str) -> bytes:
    deadline = time.monotonic() + TIME_LIMIT_S
    opener = urllib.request.OpenerDirector()
    # Not build_opener(), which also opens files and ftp.
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(_encoded(address), headers=HEADERS)
    content = bytearray()
    with opener.open(request, timeout=STALL_S) as answer:
        length = answer.headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else 0
        if total > MAX_FILE_BYTES:
            raise ImageError(_too_long(address))
        # Not read(), which returns only when a whole chunk has arrived, however slowly.
        while piece := answer.read1(CHUNK):
            content += piece
            if len(content) > MAX_FILE_BYTES:
                raise ImageError(_too_long(address))
            if time.monotonic() > deadline:
                raise TimeoutError
    if len(content) < total:
        raise ConnectionError(f"the connection broke after {len(content)} of {total} bytes")
    return bytes(content)


def _encoded(address: str) -> str:
    """The address in ASCII; raises ValueError if it is invalid."""
    parts = urlsplit(address)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(part, safe="/%:@!$&'()*+,;=~?[]") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


def _reason(problem: BaseException) -> str:
    if isinstance(problem, urllib.error.HTTPError):
        if problem.code in range(300, 400):
            return f"it redirects more than {MAX_REDIRECTS} times, or to neither http nor https"
        return f"the server answered {problem.code} {problem.reason}".rstrip()
    cause = problem.reason if isinstance(problem, urllib.error.URLError) else problem
    if isinstance(cause, TimeoutError):
        return f"it did not arrive within {TIME_LIMIT_S:.0f} seconds, or the server fell silent"
    detail = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return detail.strip().splitlines()[0].rstrip(".")


def _too_long(address: str) -> str:
    limit = MAX_FILE_BYTES // 2**20
    return f"{shown(address)} is over {limit} MiB, too long for a picture; save it smaller first."
