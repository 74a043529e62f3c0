"""The prompt template of a bundle: one of ours, or the chat template in its GGUF file."""

from __future__ import annotations

from pathlib import Path

from minigpt4.core.bundles.bundle import OWN_TEMPLATE, Bundle
from minigpt4.core.chat_template import named_templates
from minigpt4.core.chat_template.template import ChatTemplate, ControlWords
from minigpt4.core.errors import BundleError
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.prompt import TEMPLATES, ChatForm, template_named
from minigpt4.core.weights.gguf.facts import LanguageFacts


def template_of(bundle: Bundle, language: LanguageModel) -> ChatForm:
    """The template; the end words of a GGUF's own template are passed on to the language model.

    Raises UsageError for an unknown name, BundleError for a template that cannot be used.
    """
    if not isinstance(language, LlamaCppWithImages) or bundle.template in TEMPLATES:
        return template_named(bundle.template)
    vocabulary, is_own = language.vocabulary, bundle.template == OWN_TEMPLATE
    if is_own and not language.facts.template:
        raise BundleError(
            f"{language.facts.path} has no chat template; import it again with --template NAME "
            f"({', '.join(template_names())}) or --template FILE."
        )
    source = language.facts.template if is_own else named_templates.read_template(bundle.template)
    template = ChatTemplate(
        source,
        name=str(language.facts.path) if is_own else bundle.template,
        bundle=bundle.name,
        words=ControlWords(vocabulary.bos, vocabulary.eos, vocabulary.adds_bos),
    )
    vocabulary.end_answers_at(template.stop)
    if template.reasoning is not None:
        vocabulary.show(mark for pair in template.reasoning.marks for mark in pair)
    return template


def template_names() -> list[str]:
    """The templates that `models import --template` takes by name."""
    return sorted({*TEMPLATES, *named_templates.template_names()})


def check_template(name: str, language: LanguageFacts) -> str:
    """The template as a manifest names it, a file by its absolute path.

    Raises UsageError for an unknown name or file, BundleError for a template that cannot be used.
    """
    if name in TEMPLATES:
        return name
    if name == OWN_TEMPLATE and not language.template:
        return name
    source = language.template if name == OWN_TEMPLATE else named_templates.read_template(name)
    template = ChatTemplate(source, name=str(language.path) if name == OWN_TEMPLATE else name)
    try:
        template.check()
    finally:
        template.close()
    is_file = name != OWN_TEMPLATE and name not in named_templates.template_names()
    return str(Path(name).expanduser().absolute()) if is_file else name
