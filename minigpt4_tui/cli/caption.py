"""`minigpt4 caption photos/`: captions for whole folders of pictures, as files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.tui.captioning.output import Existing, Output
from minigpt4.tui.cli import options
from minigpt4.tui.cli.errors import FAILED, INTERRUPTED
from minigpt4.tui.cli.options import Chosen
from minigpt4.tui.cli.progress import timing_pictures
from minigpt4.tui.cli.signals import end_on_signals, stopping_on_interrupt
from minigpt4.tui.images.attachments import named
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.core.reply import Reply
    from minigpt4.tui.captioning.run import CaptionRun, Tally

PROMPT = "Describe this image in one short sentence."
"""The question for a caption, in the wording that `mini` was measured with."""

SHOWN = 40
"""Characters that are shown of a row that was cut off."""


@options.with_option_sets
def caption(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, and folders of them.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write one list, FILE.jsonl or FILE.csv, instead of a text file beside each picture.",
        ),
    ] = None,
    existing: Annotated[
        str,
        typer.Option(
            "--existing",
            metavar="MODE",
            help="For pictures that have a caption: skip them, append a second one, or overwrite it.",
        ),
    ] = "skip",
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="What the model is asked about each picture.")
    ] = PROMPT,
    alt: Annotated[
        bool, typer.Option("--alt", help="Alt text: one sentence, without 'The image shows' before it.")
    ] = False,
    model: options.ModelFlags = options.MODEL_FROM_SETTINGS,
    sampling: options.SamplingFlags = options.SAMPLING_FROM_SETTINGS,
    system_prompt: options.SystemPrompt = None,
) -> None:
    """Write captions for pictures and for all pictures of folders; the model is loaded once.

    `minigpt4 caption photos` writes photos/dog.txt beside photos/dog.jpg, and
    `minigpt4 caption photos --output photos/captions.jsonl` one list; `train --data photos` reads both.
    `minigpt4 caption site/img --alt --output alt.csv` writes alt texts for a web site.

    Pictures are never changed. After a stop of any kind the same command resumes. A picture that fails is
    named and left out, and makes the exit code 1. Options that are not given come from the settings
    (`minigpt4 config show`).
    """
    mode = _mode(existing)
    output = output and output.expanduser()
    if not prompt.strip():
        raise UsageError("The prompt is empty; type what the model is to be asked, in quotes.")
    given = model.given() | sampling.given()
    projection = options.of_run(given, model.projection)
    loaded = load_settings(given | {"system_prompt": system_prompt})
    chosen = options.choose(loaded, projection, offload_vision=model.offload_vision)
    for problem in loaded.problems:
        say(f"minigpt4: {printable(problem)}")
    end_on_signals()
    answers = (prompt, alt, chosen.model, chosen.sampling, chosen.system_prompt)
    run = _prepared(_paths(paths), output, mode, answers)
    is_complete = False
    try:
        is_complete = _caption(run, Captions(chosen, prompt, alt))
    finally:
        run.finish()
        if is_complete or run.tally.written:
            say(_summary(run.tally, is_complete=is_complete))
    if not is_complete:
        raise typer.Exit(INTERRUPTED)
    if run.tally.failed:
        raise typer.Exit(FAILED)


def _mode(existing: str) -> Existing:
    if existing not in get_args(Existing):
        raise UsageError(f"There is no --existing '{existing}'; choose {', '.join(get_args(Existing))}.")
    return cast("Existing", existing)


def _paths(arguments: Sequence[str]) -> list[Path]:
    paths = []
    for argument in arguments:
        source = named(argument).source if argument.strip() else None
        if argument == "-" or not isinstance(source, Path):
            raise UsageError(
                f"'{argument}' is no file or folder, so there is no place for its caption; `minigpt4 ask -i` "
                "also takes pictures from pipes and the web."
            )
        paths.append(source)
    return paths


def _prepared(
    paths: Sequence[Path], output: Path | None, mode: Existing, answers: Sequence[object]
) -> CaptionRun:
    """Prepare the run; `answers` is everything that the captions depend on. Raises UsageError."""
    from minigpt4.tui.captioning.journal import Journal
    from minigpt4.tui.captioning.pictures import find_pictures
    from minigpt4.tui.captioning.run import CaptionRun

    found = find_pictures(paths)
    if not found.pictures and not found.faults:
        places = ", ".join(f"'{folder}'" for folder in found.empty)
        raise UsageError(f"There is no picture in {places}; name a folder that has some.")
    target = _list_file(output, found.pictures, mode) if output else _text_files(paths, found.pictures, mode)
    absolute = [path.absolute() for path in paths]
    journal = Journal([*absolute, output and output.absolute(), mode, *answers])
    run = CaptionRun(found.pictures, target, mode, journal, _say_failure)
    for folder in found.empty:
        say(printable(f"There is no picture in '{folder}'."))
    for fault in found.faults:
        run.fail(fault)
    if run.resumed:
        say(
            f"Resuming: {_pictures(run.resumed)} got captions before this command was stopped; to begin "
            f"anew, remove '{printable(str(journal.path))}'."
        )
    if not run.waiting and run.tally.kept and mode == "skip":
        say("All pictures have captions already; --existing append or overwrite makes new ones.")
    return run


def _say_failure(sentence: str) -> None:
    say(f"minigpt4: {printable(sentence)}")


def _text_files(paths: Sequence[Path], pictures: Sequence[Path], mode: Existing) -> Output:
    from minigpt4.train.data.caption_list import list_in
    from minigpt4.tui.captioning.text_files import TextFiles

    for path in paths:
        found = list_in(path)
        if found:
            say(printable(f"`train --data {path}` reads '{found}', and no texts beside the pictures."))
    return TextFiles(pictures, mode)


def _list_file(output: Path, pictures: Sequence[Path], mode: Existing) -> Output:
    from minigpt4.train.data.list_rows import FORMS
    from minigpt4.tui.captioning.list_file import ListFile

    if output.suffix.lower() not in FORMS:
        raise UsageError(
            f"--output {output} has no known format; name a file that ends in {' or '.join(FORMS)}, or leave "
            "--output out for a text file beside each picture."
        )
    target = ListFile(output, mode)
    if target.cut_off:
        row = printable(target.cut_off.decode("utf-8", "replace"))[:SHOWN]
        say(printable(f"The last row of '{output}' had been cut off and is removed: {row}"))
    outside = target.outside(pictures)
    if outside:
        more = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
        say(
            printable(
                f"'{outside[0]}'{more} lies outside of the folder of '{output}' and is listed by its whole "
                "path; `train --data` reads only what lies beside or below the list."
            )
        )
    return target


def _caption(run: CaptionRun, captions: Captions) -> bool:
    """Caption the waiting pictures; False if it was interrupted."""
    if not run.has_work():
        return run.run(_faults, lambda _said: None)
    with (
        options.load_engine(captions.chosen.model) as engine,
        stopping_on_interrupt() as is_interrupted,
        timing_pictures("Captioning", len(run.waiting)) as advance,
    ):
        is_complete = run.run(lambda paths: captions.of(paths, engine, is_interrupted), advance)
    if captions.cut:
        say(
            f"{captions.cut} of the answers ended at {captions.chosen.sampling.max_tokens} tokens and are "
            "kept up to their last whole sentence; --max-tokens allows more."
        )
    return is_complete


def _faults(paths: Sequence[Path]) -> Generator[ImageError, None, None]:
    from minigpt4.tui.captioning.run import fault_of

    yield from filter(None, map(fault_of, paths))


@dataclass
class Captions:
    """Asks an engine about each picture, and makes captions of its answers."""

    chosen: Chosen
    prompt: str
    is_alt: bool
    cut: int = 0
    """Answers that were cut off by the token limit."""

    def of(
        self, paths: Sequence[Path], engine: Engine, is_interrupted: Callable[[], bool]
    ) -> Generator[str | ImageError, None, None]:
        """Yield each caption (may be empty) or its error, until Ctrl+C. Raises the engine's errors."""
        from minigpt4.core.batch.ask import answers
        from minigpt4.tui.captioning.run import attachment_of

        pictures = [attachment_of(path).open for path in paths]
        system, sampling = self.chosen.system_prompt, self.chosen.sampling
        asked = answers(engine, pictures, self.prompt, system, sampling, cancelled=is_interrupted)
        with closing(asked):
            for path, answer in zip(paths, asked, strict=False):
                if isinstance(answer, ImageError):
                    yield answer
                    continue
                for notice in answer.notices:
                    say(printable(f"{path}: {notice}"))
                text = answer.reply.read()
                if is_interrupted():
                    return
                yield self._caption(text, answer.reply)

    def _caption(self, text: str, reply: Reply) -> str:
        from minigpt4.tui.captioning.sentences import alt_text, as_caption, whole_sentences

        answer = as_caption(text)
        if reply.finish == "length":
            self.cut += 1
            answer = whole_sentences(answer)
        return alt_text(answer) if self.is_alt else answer


def _summary(tally: Tally, *, is_complete: bool) -> str:
    parts = [f"{_pictures(tally.written)} captioned"]
    if tally.kept:
        parts.append(f"{tally.kept} had captions already")
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    rest = "" if is_complete else " Stopped before the end; the same command continues with the rest."
    return f"{', '.join(parts)}.{rest}"


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"
