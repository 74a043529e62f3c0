"""What requests to an endpoint cost: an estimate before, and caps that stop a run cleanly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minigpt4.train.evaluate.judges.client import ModelError, Request

CHARACTERS_A_TOKEN = 3
"""English has about four: the estimate errs on the high side."""

PICTURE_TOKENS = 1_105
"""OpenAI's count for a picture of 1024 x 1024 or more in high detail, in tiles of 512 pixels."""


class CapReached(ModelError):  # noqa: N818 (no fault: the user wanted to stop here)
    """No further request may be sent; what was completed is kept."""


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in any currency."""

    input: float
    output: float

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """The cost of these numbers of tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class Estimate:
    """An upper bound of what requests take: answers are rarely as long as they may be."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None = None
    """None if the prices are not known."""


def estimate(requests: Iterable[Request], prices: Prices | None = None) -> Estimate:
    """An upper estimate of what the requests take."""
    count = read = written = 0
    for request in requests:
        count += 1
        read += tokens_of(request)
        written += request.max_tokens
    return Estimate(count, read, written, prices.cost(read, written) if prices else None)


def tokens_of(request: Request) -> int:
    """An upper estimate of the tokens that a model reads for a request."""
    text = len(request.prompt.encode()) // CHARACTERS_A_TOKEN + 8
    return text + (0 if request.picture is None else PICTURE_TOKENS)


@dataclass
class Spending:
    """The caps of a run, and what was spent so far. A request is reserved before it is sent."""

    prices: Prices | None = None
    max_cost: float | None = None
    max_requests: int | None = None
    cost: float = 0.0
    requests: int = 0
    _reserved: float = field(default=0.0, repr=False)

    def reserve(self, request: Request) -> float:
        """Reserve a request's cost, and return it for `settle`; raises CapReached if it exceeds a cap."""
        if self.max_requests is not None and self.requests >= self.max_requests:
            raise CapReached(
                f"Stopped at --max-requests {self.max_requests}; what was completed is kept, and the same "
                "command continues from here."
            )
        most = self.prices.cost(tokens_of(request), request.max_tokens) if self.prices else 0.0
        if self.max_cost is not None and self.cost + self._reserved + most > self.max_cost:
            raise CapReached(
                f"Stopped before --max-cost {self.max_cost:g} was exceeded: {self.requests} requests cost "
                f"{self.cost:.4g}; what was completed is kept, and the same command continues from here."
            )
        self.requests += 1
        self._reserved += most
        return most

    def settle(self, reserved: float, input_tokens: int, output_tokens: int) -> None:
        """Replace the reserved cost of a request with its actual cost."""
        self._reserved -= reserved
        if self.prices:
            self.cost += self.prices.cost(input_tokens, output_tokens)
