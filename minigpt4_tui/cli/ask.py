"""`minigpt4 ask -i photo.jpg "What is this?"`: one answer on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.chat.reply_report import cut_short
from minigpt4.tui.cli.errors import FAILED, INTERRUPTED, say_error
from minigpt4.tui.cli.options import Chosen
from minigpt4.tui.cli.signals import stopping_on_interrupt
from minigpt4.tui.conversation.slash_commands import with_prompt
from minigpt4.tui.images.attachments import STANDARD_INPUT, Attachment, attachment
from minigpt4.tui.images.question import NO_PICTURE, Question, no_picture_sentence, question_in
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.terminal.messages import printable, say, shown_name
from minigpt4.tui.terminal.results import json_text, print_answer

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.core.pixels import Picture
    from minigpt4.core.reply import Reply


@options.with_option_sets
def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            "-i",
            metavar="PICTURE",
            help="A picture's file or http address, or - for standard input; repeat for more.",
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Ask about each picture separately; the model is loaded once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per answer and line.")] = False,
    model: options.ModelFlags = options.MODEL_FROM_SETTINGS,
    sampling: options.SamplingFlags = options.SAMPLING_FROM_SETTINGS,
    beams: options.Beams = None,
    system_prompt: options.SystemPrompt = None,
) -> None:
    """Answer one question about one or more pictures.

    Several pictures belong to one question, in the order given, unless --each is given. A path or address
    in the question is a picture, too: "What is this? photo.jpg". /describe, /story, /poem, /recipe,
    /ad, /meme, /website and /alt are questions; words behind one are added to it, and
    `minigpt4 prompts` lists all of them.
    The answer goes to standard output, everything else to standard error. Options that are not given
    come from the settings (`minigpt4 config show`).
    """
    if not question.strip():
        raise UsageError("The question is empty; type what you want to know, in quotes.")
    given = model.given() | sampling.given()
    projection = options.of_run(given, model.projection)
    loaded = load_settings(given | {"system_prompt": system_prompt})
    chosen = options.choose(loaded, projection, offload_vision=model.offload_vision, beams=beams)
    for problem in loaded.problems:
        say(f"minigpt4: {printable(problem)}")
    attachments = _attachments(image or [])
    prompted = with_prompt(question)
    if prompted.max_tokens and sampling.max_tokens is None:
        chosen = replace(chosen, sampling=replace(chosen.sampling, max_tokens=prompted.max_tokens))
    asked = question_in(prompted.text, attachments)
    if not asked.text:
        raise UsageError(
            'The question is only a picture; add what you want to know: "What is it? photo.jpg".'
        )
    if question.startswith("/") and not asked.pictures and (fault := no_picture_sentence(asked.text)):
        raise ImageError(fault)
    asking = Asking(asked, chosen, as_json, beams or 1)
    if each:
        asking.about_each([*attachments, *asked.pictures])
    else:
        asking.about_all(attachments)


def _attachments(arguments: Sequence[str]) -> list[Attachment]:
    if arguments.count(STANDARD_INPUT) > 1:
        raise UsageError("'-i -' is given twice, but standard input can be read only once.")
    return [attachment(argument, sys.stdin.buffer if sys.stdin else None) for argument in arguments]


@dataclass(frozen=True)
class Asking:
    """One question about pictures; the model is loaded once a picture has been opened."""

    question: Question
    chosen: Chosen
    as_json: bool
    beams: int = 1

    def about_all(self, attachments: Sequence[Attachment]) -> None:
        """Ask about these pictures, then those named in the question, in one prompt.

        Raises ImageError for a bad one before the model loads.
        """
        pictures = [*(one.open() for one in attachments), *self.question.open()]
        labels = [one.label for one in (*attachments, *self.question.pictures)]
        with options.load_engine(self.chosen.model, pictures=pictures) as engine:
            self._answer(engine, pictures, labels)

    def about_each(self, attachments: Sequence[Attachment]) -> None:
        """Ask about each picture separately. A bad one is reported and makes the exit code 1 at the end."""
        if not attachments:
            raise UsageError("--each asks about pictures one by one, but none is given; add -i PICTURE.")
        failures = 0
        for place, one in enumerate(attachments):
            try:
                first = one.open()
            except ImageError as error:
                say_error(error)
                failures += 1
                continue
            # Load the model only now: without a good picture it is not needed.
            with options.load_engine(self.chosen.model, pictures=[first]) as engine:
                opened = [_opening(first), *(one.open for one in attachments[place + 1 :])]
                failures += self._about_opened(engine, opened, attachments[place:], len(attachments) > 1)
            break
        if failures:
            raise typer.Exit(FAILED)

    def _about_opened(
        self,
        engine: Engine,
        pictures: Sequence[Callable[[], Picture]],
        attachments: Sequence[Attachment],
        is_named: bool,
    ) -> int:
        """Print an answer about each picture, with its label if `is_named`; returns how many failed."""
        from minigpt4.core.batch.ask import answers

        failures = 0
        with (
            stopping_on_interrupt() as interrupted,
            closing(
                answers(
                    engine,
                    pictures,
                    self.question.text,
                    self.chosen.system_prompt,
                    self.chosen.sampling,
                    beams=self.beams,
                    cancelled=interrupted,
                )
            ) as answered,
        ):
            begun = time.perf_counter()
            for one, answer in zip(attachments, answered, strict=False):
                if isinstance(answer, ImageError):
                    say_error(answer)
                    failures += 1
                    continue
                if is_named and not self.as_json:
                    print(f"{shown_name(one.label)}: ", end="", flush=True)
                notices = [f"{one.label}: {notice}" for notice in answer.notices]
                for notice in notices:
                    say(printable(notice))
                self._stream(answer.reply)
                self._finish(engine, answer.reply, [one.label], notices, begun)
                begun = time.perf_counter()
            if interrupted():
                raise typer.Exit(INTERRUPTED)
        return failures

    def _answer(self, engine: Engine, pictures: Sequence[Picture], labels: Sequence[str]) -> None:
        from minigpt4.core.prompt import System, User

        notices = _picture_notices(pictures, labels)
        for notice in notices:
            say(printable(notice))
        system = [System(self.chosen.system_prompt)] if self.chosen.system_prompt else []
        begun = time.perf_counter()
        with stopping_on_interrupt() as interrupted:
            if pictures:
                engine.prefill_opening([*system, User(self.question.text)])
            embeddings = [engine.look(picture) for picture in pictures]
            reply = engine.reply(
                [*system, User(self.question.text, images=embeddings)],
                self.chosen.sampling,
                beams=self.beams,
                cancelled=interrupted,
            )
            if not pictures:
                # Only now: for a question that cannot be answered, only the error is printed.
                say(f"({NO_PICTURE}; give one with -i PICTURE.)")
            self._stream(reply)
        self._finish(engine, reply, labels, notices, begun)

    def _stream(self, reply: Reply) -> None:
        """Print the answer while it is generated, unless it will be a part of a JSON object."""
        for piece in reply:
            if not self.as_json and not piece.is_reasoning:
                print_answer(piece.text)

    def _finish(
        self, engine: Engine, reply: Reply, labels: Sequence[str], notices: Sequence[str], begun: float
    ) -> None:
        """Print what follows an answer; raises typer.Exit if it was interrupted."""
        if self.as_json:
            total = time.perf_counter() - begun
            print(json_text(_record(engine, reply, labels, notices, total)), flush=True)
        else:
            print(flush=True)
        if reply.finish == "length":
            say(cut_short(reply, self.chosen.sampling))
        if reply.finish == "cancelled":
            raise typer.Exit(INTERRUPTED)


def _opening(picture: Picture) -> Callable[[], Picture]:
    return lambda: picture


def _picture_notices(pictures: Sequence[Picture], labels: Sequence[str]) -> list[str]:
    return [
        f"{label}: {notice}"
        for picture, label in zip(pictures, labels, strict=True)
        for notice in picture.info.notices
    ]


def _record(
    engine: Engine, reply: Reply, labels: Sequence[str], notices: Sequence[str], total_s: float
) -> dict[str, Any]:
    return {
        "answer": reply.text,
        **({"reasoning": reply.reasoning} if reply.reasoning else {}),
        "images": list(labels),
        "finish": reply.finish,
        "tokens": {
            "prompt": reply.prompt_tokens,
            "answer": reply.answer_tokens,
            "computed": reply.computed_tokens,
        },
        "timings": {
            "first_token_s": _rounded(reply.first_token_s),
            "tokens_per_s": _rounded(reply.tokens_per_s),
            "total_s": _rounded(total_s),
        },
        "notices": list(notices),
        "bundle": engine.bundle.name,
        "backend": engine.language.backend,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
