"""A model behind an OpenAI-compatible endpoint, through the `openai` client.

The client retries transient failures (408, 409, 429, 5xx, time-outs, cut connections) with exponential
backoff, or after the time that the server asks for; other responses than completions are retried here in
the same way.
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from PIL import Image

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.core.image_file.header import ORIENTATION
from minigpt4.core.pixels import open_picture
from minigpt4.train.evaluate.judges.client import (
    Completion,
    ModelError,
    Refused,
    Request,
    raise_refusal,
    texts,
)
from minigpt4.train.evaluate.judges.response_cache import ResponseCache
from minigpt4.train.evaluate.judges.spending import CapReached, Spending

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
FAILURES_IN_A_ROW = 3
"""Consecutive requests that fail after all retries before an endpoint is given up."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 8.0
"""Delays between tries, as the client's: doubled each time, and up to a quarter less at random."""

MAY_PASS = (408, 409, 429)
"""Statuses, besides 500 and above, after which the client tries again."""

FOR_THIS_REQUEST = (400, 413, 422)
"""Statuses that concern only this request: too long, or against the rules of the endpoint."""

SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
MISSING = (
    "Models behind an endpoint need the package 'openai', which is not installed: run pip install "
    "'minigpt4[eval]'."
)


@dataclass(frozen=True)
class Endpoint:
    """A model and its address. The key is never shown."""

    model: str
    base_url: str = OPENAI_URL
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise UsageError for an invalid address, model name or key."""
        url = urlsplit(self.base_url)
        if url.username or url.password:
            raise UsageError("The endpoint's address holds a password; give the key in MINIGPT4_JUDGE_KEY.")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(
                f"'{self.base_url}' is not an endpoint's address, which looks like http://localhost:8000/v1."
            )
        if not self.model.strip():
            raise UsageError("The endpoint's model has no name; give --model.")
        if self.key and (not self.key.isascii() or not self.key.isprintable()):
            raise UsageError("The endpoint's key has characters that no key has; was it pasted whole?")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))


@dataclass(frozen=True)
class Pace:
    """The request rate for an endpoint, and its retries and time-out."""

    concurrency: int = 4
    requests_per_minute: float | None = None
    retries: int = 5
    timeout_s: float = 120.0
    """How long a server may be silent."""


class EndpointModel:
    """A model behind an endpoint. Equal requests are sent once: completions are cached on disk."""

    def __init__(
        self,
        endpoint: Endpoint,
        pace: Pace | None = None,
        spending: Spending | None = None,
        *,
        cache: ResponseCache | None = None,
    ) -> None:
        """Raises ModelError if the client is not installed."""
        try:
            import openai  # noqa: F401
        except ImportError:
            raise ModelError(MISSING) from None
        self.name = f"{endpoint.model} @ {endpoint.base_url}"
        self.spending = spending or Spending()
        self.endpoint = endpoint
        self._pace = pace or Pace()
        self._cache = cache or ResponseCache(endpoint.base_url, endpoint.model)
        self._options: dict[str, str | None] = {"temperature": "temperature", "max_tokens": "max_tokens"}
        self._failures = 0

    def complete(
        self, requests: Sequence[Request], refused: Refused = raise_refusal
    ) -> Iterator[tuple[int, str]]:
        """See `TextModel`. Raises CapReached at a cap of the spending, otherwise ModelError."""
        return texts(self.completions(requests), refused)

    def unknown(self, requests: Sequence[Request]) -> list[Request]:
        """The requests that are not cached and would be sent."""
        return [request for request in requests if self._cache.get(request) is None]

    def completions(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """As `complete`, but yields whole completions, including refusals."""
        waiting: deque[tuple[int, Request]] = deque()
        for index, request in enumerate(requests):
            known = self._cache.get(request)
            if known is None:
                waiting.append((index, request))
            else:
                yield index, known
        if waiting:
            yield from self._send(waiting)

    def _send(self, waiting: deque[tuple[int, Request]]) -> Iterator[tuple[int, Completion]]:
        # An event loop rather than threads: Ctrl+C ends it at once, even while it waits to try again.
        running: set[asyncio.Task[tuple[int, Completion]]] = set()
        fault: ModelError | None = None
        with asyncio.Runner() as runner:
            client = self._client()
            try:
                while waiting or running:
                    while waiting and len(running) < self._pace.concurrency:
                        try:
                            content = _content(waiting[0][1])
                            reserved = self.spending.reserve(waiting[0][1])
                        except _Refusal as refusal:
                            yield waiting.popleft()[0], Completion("", refusal=str(refusal))
                            continue
                        except CapReached as reached:
                            if not running:  # running requests may cost less than reserved
                                fault = reached
                                waiting.clear()
                            break
                        one = self._one(client, *waiting.popleft(), content, reserved)
                        running.add(runner.get_loop().create_task(one))
                    if running:
                        done, running = runner.run(_first(running))
                        for task in done:
                            try:
                                result = task.result()
                            except ModelError as error:
                                # Running requests are paid for: wait for them, then raise the fault.
                                fault = fault or error
                                waiting.clear()
                            else:
                                yield result
            finally:
                runner.run(client.close())
        if fault:
            raise fault

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        hooks: dict[str, list[Callable[..., Any]]] = {"request": [_Turnstile(self._pace.requests_per_minute)]}
        return AsyncOpenAI(
            api_key=self.endpoint.key or "none",  # local servers need none, but the client does
            base_url=self.endpoint.base_url,
            max_retries=self._pace.retries,
            timeout=self._pace.timeout_s,
            http_client=DefaultAsyncHttpxClient(timeout=self._pace.timeout_s, event_hooks=hooks),
        )

    async def _one(
        self, client: AsyncOpenAI, index: int, request: Request, content: Any, reserved: float
    ) -> tuple[int, Completion]:
        read = written = 0
        try:
            completion, read, written = await self._ask(client, request, content)
        except _Refusal as refusal:
            return index, Completion("", refusal=str(refusal))
        finally:
            self.spending.settle(reserved, read, written)
        self._failures = 0
        self._cache.put(request, completion)
        return index, completion

    async def _ask(self, client: AsyncOpenAI, request: Request, content: Any) -> tuple[Completion, int, int]:
        """The completion, and the tokens read and written; raises _Refusal, or ModelError if all fail."""
        import openai

        begun = time.perf_counter()
        message = {"role": "user", "content": content}
        values = {"temperature": 0, "max_tokens": request.max_tokens}
        tries = 0
        while True:
            options = {called: values[name] for name, called in self._options.items() if called}
            try:
                reply = await client.chat.completions.create(
                    model=self.endpoint.model,
                    messages=[message],
                    **options,  # type: ignore
                )
                return _completion(reply, time.perf_counter() - begun)
            except openai.BadRequestError as error:
                if not self._speaks_otherwise(error):
                    raise _Refusal(self._sentence(error)) from None
            except openai.APIStatusError as error:
                if error.status_code in FOR_THIS_REQUEST:
                    raise _Refusal(self._sentence(error)) from None
                if error.status_code not in MAY_PASS and error.status_code < 500:
                    # `from None`: what the server said may contain the key.
                    raise ModelError(self._sentence(error)) from None
                raise self._failed(self._sentence(error)) from None
            except openai.APIConnectionError as error:
                what = (
                    f"did not answer within {self._pace.timeout_s:g} s"
                    if isinstance(error, openai.APITimeoutError)
                    else "cannot be reached, or cut the connection"
                )
                raise self._failed(f"{self._where} {what}, {self._tried}.") from None
            except (ValueError, openai.OpenAIError):  # broken JSON, or not a completion
                tries += 1
                if tries > self._pace.retries:
                    raise self._failed(f"{self._where} sent no completion, {self._tried}.") from None
                delay = min(FIRST_DELAY_S * 2 ** (tries - 1), LONGEST_DELAY_S)
                await asyncio.sleep(delay * (1 - random.random() / 4))

    def _failed(self, sentence: str) -> ModelError | _Refusal:
        """What to raise for a transient failure: ModelError once several requests in a row have failed."""
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            return ModelError(f"{sentence} What was completed is kept; the same command continues there.")
        return _Refusal(sentence)

    def _speaks_otherwise(self, error: APIStatusError) -> bool:
        """Whether the server may accept another form of the request, which is then used from now on.

        OpenAI's reasoning models have another name for the limit, and no temperature.
        """
        others = {"max_tokens": "max_completion_tokens", "temperature": None}
        name = error.param
        if name not in others or self._options[name] != name:
            return False
        self._options[name] = others[name]
        return True

    @property
    def _where(self) -> str:
        return f"The endpoint {self.endpoint.base_url}"

    @property
    def _tried(self) -> str:
        tries = self._pace.retries + 1
        return "at the only try" if tries == 1 else f"{tries} times in a row"

    def _sentence(self, error: APIStatusError) -> str:
        """A status as a sentence; the server's words about a key are not repeated."""
        status = error.status_code
        if status in (401, 403):
            if self.endpoint.key:
                return (
                    f"{self._where} refuses the key ({status}); put a valid one into MINIGPT4_JUDGE_KEY or "
                    "OPENAI_API_KEY."
                )
            return f"{self._where} wants a key ({status}); put it into MINIGPT4_JUDGE_KEY or OPENAI_API_KEY."
        if status == 404:
            return (
                f"{self._where} has no model '{self.endpoint.model}', or is no OpenAI-compatible endpoint "
                "(404); its address usually ends in /v1."
            )
        said = str((error.body or {}).get("message", "") if isinstance(error.body, dict) else "")
        if self.endpoint.key:
            said = said.replace(self.endpoint.key, "KEY")
        said = shorten(said, 200, placeholder="...").rstrip(".")
        tried = f", {self._tried}" if status in MAY_PASS or status >= 500 else ""
        return f"{self._where} refused with status {status}{tried}" + (f": {said}." if said else ".")


class _Refusal(Exception):  # noqa: N818
    """A request that is given up, as a sentence; the others continue."""


class _Turnstile:
    """Spaces requests evenly to limit their rate per minute; retries count, too."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def __call__(self, _request: object) -> None:
        now = time.monotonic()
        turn = max(self._next, now)
        self._next = turn + self._interval
        await asyncio.sleep(turn - now)


async def _first(
    running: set[asyncio.Task[tuple[int, Completion]]],
) -> tuple[set[asyncio.Task[tuple[int, Completion]]], set[asyncio.Task[tuple[int, Completion]]]]:
    return await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


def _completion(reply: Any, seconds: float) -> tuple[Completion, int, int]:
    """Parse a reply; raises ValueError if it is not a chat completion, which the client does not check."""
    try:
        choice = reply.choices[0]
        text, finish = choice.message.content or "", choice.finish_reason or "stop"
        usage = reply.usage
        read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        if not isinstance(text, str) or not isinstance(finish, str):
            raise TypeError
        return Completion(text.strip(), int(written), finish, seconds), int(read), int(written)
    except (AttributeError, IndexError, TypeError):
        raise ValueError from None


def _content(request: Request) -> Any:
    """The content of a message, a picture before the text; raises _Refusal for a broken picture."""
    if request.picture is None:
        return request.prompt
    try:
        url = data_url(request.picture)
    except ImageError as error:
        raise _Refusal(str(error)) from None
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": request.prompt}]


def data_url(data: bytes) -> str:
    """A picture as a data URL: unchanged if every server can read it upright, else as PNG."""
    picture = open_picture(data)
    image = picture.image  # decoded even if it is sent unchanged: a broken picture must not be sent
    with Image.open(io.BytesIO(data)) as stored:
        kind = SENT_AS_THEY_ARE.get(stored.format or "")
        is_upright = stored.getexif().get(ORIENTATION, 1) == 1
    if kind is None or not is_upright:
        with io.BytesIO() as drawn:
            image.save(drawn, "PNG")
            kind, data = "image/png", drawn.getvalue()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
