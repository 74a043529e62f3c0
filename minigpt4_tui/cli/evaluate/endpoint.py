"""The options of commands that ask a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.train.evaluate.judges.client import Request
    from minigpt4.train.evaluate.judges.endpoint import EndpointModel
    from minigpt4.train.evaluate.judges.spending import Prices

KEYS = ("MINIGPT4_JUDGE_KEY", "OPENAI_API_KEY")
"""Environment variables for the key; the first that is set counts. It is no setting, so no file has it."""

URL = "OPENAI_BASE_URL"
"""The environment variable of the address if neither an option nor a setting names one."""


@dataclass(frozen=True)
class EndpointLimits:
    """The limits on requests to an endpoint: how fast, how many, at what cost."""

    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Endpoint: requests under way at once.")
    ] = 4
    requests_per_minute: Annotated[
        float | None,
        typer.Option("--requests-per-minute", min=0.01, help="Endpoint: most requests sent in a minute."),
    ] = None
    retries: Annotated[
        int,
        typer.Option("--retries", min=0, help="Endpoint: how often a request that failed is sent again."),
    ] = 5
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Endpoint: seconds that it may be silent.")
    ] = 120.0
    max_requests: Annotated[
        int | None, typer.Option("--max-requests", min=0, help="Endpoint: stop after so many requests.")
    ] = None
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", min=0, help="Endpoint: stop before this is spent; needs both prices."),
    ] = None
    input_price: Annotated[
        float | None, typer.Option("--input-price", min=0, help="Endpoint: price of a million tokens read.")
    ] = None
    output_price: Annotated[
        float | None,
        typer.Option("--output-price", min=0, help="Endpoint: price of a million tokens written."),
    ] = None

    def model_at(self, base_url: str, model: str) -> EndpointModel:
        """A model; raises UsageError for inconsistent options, ModelError without the client."""
        from minigpt4.train.evaluate.judges.endpoint import Endpoint, EndpointModel, Pace
        from minigpt4.train.evaluate.judges.spending import Spending

        pace = Pace(self.concurrency, self.requests_per_minute, self.retries, self.timeout)
        spending = Spending(self.prices(), self.max_cost, self.max_requests)
        return EndpointModel(Endpoint(model, base_url, first_set(KEYS)), pace, spending)

    def prices(self) -> Prices | None:
        """The prices, or None; raises UsageError for only one of them, or a cost cap without them."""
        from minigpt4.train.evaluate.judges.spending import Prices

        if self.input_price is None or self.output_price is None:
            if self.max_cost is not None or self.input_price is not None or self.output_price is not None:
                raise UsageError(
                    "A cost needs both prices of a million tokens: give --input-price and --output-price."
                )
            return None
        return Prices(self.input_price, self.output_price)


@dataclass(frozen=True)
class EndpointFlags(EndpointLimits):
    """The model of an endpoint, and the limits on requests to it."""

    model: Annotated[
        str | None,
        typer.Option("--model", help="Endpoint: name of the model; by default the setting judge_model."),
    ] = None

    def load(self, base_url: str | None) -> EndpointModel:
        """The model; raises UsageError for inconsistent options, ModelError without the client."""
        from minigpt4.train.evaluate.judges.endpoint import OPENAI_URL

        loaded = load_settings()
        for problem in loaded.problems:
            say(f"minigpt4: {printable(problem)}")
        model = self.model or loaded.settings.judge_model
        if model is None:
            raise UsageError("Which model of the endpoint? Give --model, or the setting judge_model.")
        return self.model_at(base_url or loaded.settings.judge_url or first_set([URL]) or OPENAI_URL, model)


LIMITS = EndpointLimits()
ENDPOINT = EndpointFlags()


def say_estimate(model: EndpointModel, requests: Sequence[Request]) -> None:
    """Print an estimate of the requests' tokens and cost, before any is sent."""
    from minigpt4.train.evaluate.judges.spending import estimate

    new = model.unknown(requests)
    most = estimate(new, model.spending.prices)
    cost = "" if most.cost is None else f", at a cost of at most {most.cost:.4g}"
    known = len(requests) - len(new)
    say(
        f"{model.name}: {most.requests} requests, about {most.input_tokens} tokens to read and at most "
        f"{most.output_tokens} to write{cost}" + (f"; {known} are answered from the cache." if known else ".")
    )


def first_set(variables: Sequence[str]) -> str | None:
    """The value of the first of these environment variables that is set."""
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), None)
