"""A user bundle of two GGUF files, a language model and its mmproj, which are used in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt4.core.bundle_making.new_name import check_name
from minigpt4.core.bundles.bundle import (
    OWN_TEMPLATE,
    Bundle,
    LanguageSpec,
    MmprojSpec,
    load_bundle,
    own_manifest,
    write_manifest,
)
from minigpt4.core.errors import BackendError
from minigpt4.core.mtmd.template import check_template, template_names
from minigpt4.core.mtmd.try_pair import try_pair
from minigpt4.core.weights.gguf.facts import (
    LanguageFacts,
    MmprojFacts,
    checked_header,
    language_facts,
    mmproj_facts,
)
from minigpt4.core.weights.gguf.pair import check_pair, find_mmproj, find_pair

MOST_CONTEXT = 8192
"""Longest context of an imported model, in positions: more takes gigabytes."""

TOKENS = "tokenizer.ggml.tokens"


FAMILY_TEMPLATES = {
    "gemma3": "gemma3",
    "idefics3": "smolvlm",
    "mlp": "llava",
    "qwen2vl_merger": "qwen2-vl",
    "qwen2.5vl_merger": "qwen2-vl",
}
"""The chat templates of families, by projector, for files without one."""


def import_pair(
    name: str,
    gguf: Path,
    mmproj: Path | None = None,
    *,
    template: str | None = None,
    force: bool = False,
    notice: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Make the user bundle `name`; `force` replaces an existing user bundle of this name.

    `gguf` may be the folder of both files, and without `mmproj` it is searched for beside `gguf`; files that
    belong together are chosen by their headers. `template` is a template's name or the path of a Jinja file;
    None: the file's own, or that of its family, which `notice` reports. Raises UsageError for an invalid name
    or template, BundleError for files that cannot be used, or not together.
    """
    check_name(name, force=force)
    gguf = gguf.expanduser().absolute()
    if gguf.is_dir():
        gguf, found = find_pair(gguf)
        mmproj = mmproj or found
    else:
        checked_header(gguf)
        mmproj = mmproj or find_mmproj(gguf)
    bundle = bundle_of_pair(name, gguf, mmproj.expanduser().absolute(), template, notice)
    write_own_manifest(bundle)
    return load_bundle(name)


def write_own_manifest(bundle: Bundle) -> None:
    """Write the manifest of a user bundle; raises BackendError if that fails."""
    path = own_manifest(bundle.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(bundle, path)
    except OSError as error:
        raise BackendError(
            f"'{bundle.name}' cannot be written: {path}: {error.strerror or error}; fix that, or set "
            "MINIGPT4_HOME to a folder of your own."
        ) from error


def facts_of_pair(gguf: Path, mmproj: Path) -> tuple[LanguageFacts, MmprojFacts]:
    """The facts in the headers of two files; raises BundleError if they do not belong together."""
    header = checked_header(gguf, (TOKENS,))
    language, vision = language_facts(gguf, header), mmproj_facts(mmproj)
    check_pair(language, vision, set(header.lists.get(TOKENS, [])).__contains__)
    return language, vision


def bundle_of_pair(
    name: str, gguf: Path, mmproj: Path, template: str | None, notice: Callable[[str], None]
) -> Bundle:
    """The bundle of two files, opened as a trial; parameters and errors are those of `import_pair`."""
    language, vision = facts_of_pair(gguf, mmproj)
    chosen = check_template(template or _own_template(language, vision, notice), language)
    image_tokens = try_pair(gguf, mmproj)
    return Bundle(
        name=name,
        summary=f"{language.name}, {language.quant}: a GGUF with its mmproj ({vision.projector})",
        license=language.license or "that of the imported files",
        mmproj=MmprojSpec(mmproj, None, image_tokens),
        language=LanguageSpec(
            architecture=language.architecture,
            context=min(language.context, MOST_CONTEXT),
            width=language.width,
            path=gguf,
        ),
        template=chosen,
    )


def _own_template(language: LanguageFacts, vision: MmprojFacts, notice: Callable[[str], None]) -> str:
    if language.template:
        return OWN_TEMPLATE
    family = FAMILY_TEMPLATES.get(vision.projector)
    others = f"--template NAME ({', '.join(template_names())}) or --template FILE"
    if family is not None:
        notice(f"{language.path} has no chat template; its family's, '{family}', is used. Others: {others}.")
        return family
    notice(f"{language.path} has no chat template, so it cannot chat yet; import it again with {others}.")
    return OWN_TEMPLATE
