"""A picture is fetched from the web only when asked for, within limits, and fails in one sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.errors import ImageError
from minigpt4.tui.images import fetch
from minigpt4.tui.images.attachments import attachment, attachments_in
from minigpt4.tui.images.fetch import fetch_picture

WAY_OUT = "check the address, or save the picture and give its file."


@pytest.fixture
def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (30, 20), "teal").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts a connection and sends one byte of a header at a time, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not over.wait(0.02):
                    connection.send(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        over.set()
        thread.join()


def failure(address: str) -> str:
    with pytest.raises(ImageError) as caught:
        attachment(address).open()
    return str(caught.value)


def test_an_address_is_a_picture_of_that_name(web: Any, png: bytes) -> None:
    address = web.put("/my%20cat.png?size=2", png, Content_Type="text/plain")
    one = attachment(address)
    picture = one.open()
    assert (one.label, one.name, picture.name, picture.info.size) == (
        address,
        "my cat.png",
        "my cat.png",
        (30, 20),
    )
    assert [other.source for other in attachments_in(f"a.png {address}")][1] == address


def test_nothing_is_fetched_before_it_is_opened(web: Any, png: bytes) -> None:
    one = attachment(web.put("/a.png", png))
    assert web.asked == []
    one.open()
    assert web.asked == ["/a.png"]


def test_an_address_may_hold_any_letters(web: Any, png: bytes) -> None:
    web.put("/k%C3%A4%20%22se.png?q=%E7%85%A7", png)
    assert fetch_picture(f'{web.address}/kä "se.png?q=照#part') == png


def test_redirections_are_followed(web: Any, png: bytes) -> None:
    web.put("/new.png", png)
    web.put("/old.png", b"", 301, Location="/new.png")
    assert fetch_picture(f"{web.address}/old.png") == png
    assert web.asked == ["/old.png", "/new.png"]


@pytest.mark.parametrize("target", ["/old.png", "file:///etc/hostname", "ftp://127.0.0.1/a.png", "data:,x"])
def test_not_in_circles_nor_to_anything_but_http(web: Any, target: str) -> None:
    address = web.put("/old.png", b"", 302, Location=target)
    reason = "it redirects more than 5 times, or to neither http nor https"
    assert failure(address) == f"{address} cannot be fetched: {reason}; {WAY_OUT}"
    assert len(web.asked) <= fetch.MAX_REDIRECTS + 1


@pytest.mark.parametrize("address", ["ftp://example.com/a.png", "data://x", "s3://bucket/a.png"])
def test_only_http_and_https_are_fetched(address: str) -> None:
    assert failure(address).startswith(f"{address} cannot be fetched: only http and https addresses can;")


def test_what_the_server_answers_is_told(web: Any) -> None:
    address = f"{web.address}/none.png"
    assert failure(address) == f"{address} cannot be fetched: the server answered 404 Not Found; {WAY_OUT}"


def test_a_page_is_not_called_a_picture(web: Any) -> None:
    address = web.put("/page", b"<!DOCTYPE html><html><body>Hello</body></html>", Content_Type="text/html")
    assert failure(address).startswith(f"{address} is ")


@pytest.mark.parametrize("is_announced", [True, False])
def test_nothing_longer_than_a_picture_file_is_taken(
    web: Any, monkeypatch: pytest.MonkeyPatch, is_announced: bool
) -> None:
    monkeypatch.setattr(fetch, "MAX_FILE_BYTES", 2**20)
    headers = {} if is_announced else {"Content_Length": ""}
    address = web.put("/long.png", bytes(2**20 + 1), **headers)
    assert failure(address) == f"{address} is over 1 MiB, too long for a picture; save it smaller first."


def test_a_broken_connection_is_not_a_picture(web: Any, png: bytes) -> None:
    address = web.put("/half.png", png[:20], Content_Length=str(len(png)))
    reason = f"the connection broke after 20 of {len(png)} bytes"
    assert failure(address) == f"{address} cannot be fetched: {reason}; {WAY_OUT}"


def test_a_server_that_never_ends_is_given_up(silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIME_LIMIT_S", 0.3)
    assert failure(silent_server).startswith(
        f"{silent_server} cannot be fetched: it did not arrive within 0 s"
    )


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.png",
        "http://[::1/a.png",
        "http://a:b@c:d/a.png",
        "http:///a.png",
        f"http://{'a' * 300}/",
    ],
)
def test_an_address_that_leads_nowhere_is_one_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    sentence = failure(address)
    assert "cannot be fetched: " in sentence
    assert sentence.endswith(WAY_OUT)
    assert "\n" not in sentence


def test_reading_names_of_pictures_loads_nothing_that_fetches() -> None:
    code = "import sys, minigpt4.tui.images.question; print('urllib.request' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
