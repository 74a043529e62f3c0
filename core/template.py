"""The prompt template of a bundle: one of ours, or the chat template that its GGUF file brings."""

from __future__ import annotations

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.prompt import TEMPLATES, PromptTemplate, template_named
from minigpt4.core.weights.gguf.facts import LanguageFacts


def template_of(bundle: Bundle, language: LanguageModel) -> PromptTemplate:
    """Raises UsageError for a name that is none."""
    return template_named(bundle.template)


def template_names() -> list[str]:
    """The templates that `models import --template` takes by name."""
    return sorted(TEMPLATES)


def check_template(name: str, language: LanguageFacts) -> str:
    """The template as a manifest names it; raises UsageError for one that cannot be used."""
    template_named(name)
    return name
