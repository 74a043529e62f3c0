"""Chat templates in the forms that the families' own have, with their ways to fail."""

from __future__ import annotations

from typing import NamedTuple

from minigpt4.core.chat_template.template import ChatTemplate, ControlWords
from minigpt4.core.prompt import Image, Joined, Segment
from minigpt4.core.types import Text

WORDS = ControlWords(bos="<s>", eos="</s>")
WITH_BOS = ControlWords(bos="<s>", eos="</s>", adds_bos=True)


class Family(NamedTuple):
    source: str
    one_picture: str
    """The prompt of the question "What?" about one picture, which is [a]."""
    words: ControlWords = WORDS


ITEMS = (
    "{%% for m in messages %%}%s{%% for c in m.content %%}{%% if c.type == 'image' %%}%s"
    "{%% elif c.type == 'text' %%}{{ c.text }}{%% endif %%}{%% endfor %%}%s{%% endfor %%}"
    "{%% if add_generation_prompt %%}%s{%% endif %%}"
)
"""Messages whose content is a list: how they begin, the word for a picture, how they end, and the answer."""

ITEMS_OR_TEXT = ITEMS.replace(
    "{%% for c in m.content %%}",
    "{%% if m.content is string %%}{{ m.content }}{%% else %%}{%% for c in m.content %%}",
).replace("{%% endfor %%}%s{%% endfor %%}", "{%% endfor %%}{%% endif %%}%s{%% endfor %%}")

TEXT_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)

FAMILIES = {
    "smolvlm": Family(
        "<|im_start|>"
        + ITEMS
        % (
            "{{ m.role | capitalize }}{{ ':' if m.content[0]['type'] == 'image' else ': ' }}",
            "<image>",
            "<end_of_utterance>\n",
            "Assistant:",
        ),
        "<|im_start|>User:[a]What?<end_of_utterance>\nAssistant:",
    ),
    "qwen2-vl": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        + ITEMS_OR_TEXT
        % (
            "<|im_start|>{{ m.role }}\n",
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n[a]What?<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "numbered pictures": Family(
        "{% set n = namespace(i=0) %}"
        + ITEMS
        % (
            "<|{{ m.role }}|>\n",
            "{% set n.i = n.i + 1 %}Picture {{ n.i }}: <|image_{{ n.i }}|>\n",
            "<|end|>\n",
            "<|assistant|>\n",
        ),
        "<|user|>\nPicture 1: [a]\nWhat?<|end|>\n<|assistant|>\n",
    ),
    "gemma 3": Family(
        "{{ bos_token }}{% set prefix = '' %}{% if messages[0].role == 'system' %}"
        "{% set prefix = messages[0].content[0].text + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        + ALTERNATING
        + "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ prefix if loop.first }}{% for c in m.content %}{% if c.type == 'image' %}<start_of_image>"
        "{% else %}{{ c.text | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<s><start_of_turn>user\n\n\n[a]\n\nWhat?<end_of_turn>\n<start_of_turn>model\n",
        WITH_BOS,
    ),
    "gemma 2": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        + ALTERNATING
        + "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<s><start_of_turn>user\n[a]What?<end_of_turn>\n<start_of_turn>model\n",
        WITH_BOS,
    ),
    "llava": Family(
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.role.upper() + ': ' }}{% endif %}"
        "{% for c in m.content | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{% for c in m.content | selectattr('type', 'equalto', 'text') %}"
        "{% generation %}{{ c.text + ' ' }}{% endgeneration %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        "<s>USER: [a]\nWhat? ASSISTANT:",
        WITH_BOS,
    ),
    "pixtral": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST]"
        "{{ s + '\n\n' if s is defined and loop.last }}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% elif c.type == 'image' %}[IMG]"
        "{% else %}{{ raise_exception('Unknown') }}{% endif %}{% endfor %}{% endif %}[/INST]{% else %}"
        "{{ m.content + eos_token }}{% endif %}{% endfor %}",
        "<s>[INST][a]What?[/INST]",
        WITH_BOS,
    ),
    "llama 3.2": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0]['content'] | trim %}"
        "{% set messages = messages[1:] %}{% endif %}{% set n = namespace(seen=false) %}"
        "{% for m in messages %}{% for c in m.content %}{% if c['type'] == 'image' %}{% set n.seen = true %}"
        "{% endif %}{% endfor %}{% endfor %}{% if n.seen and s is defined %}"
        "{{ raise_exception('images are incompatible with system messages') }}{% endif %}"
        "{% if s is defined %}<|start_header_id|>system<|end_header_id|>\n\n{{ s }}<|eot_id|>{% endif %}"
        + ITEMS_OR_TEXT
        % (
            "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n",
            "<|image|>",
            "<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        "<s><|start_header_id|>user<|end_header_id|>\n\n[a]What?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        WITH_BOS,
    ),
    "internvl": Family(
        ITEMS % ("<|im_start|>{{ m.role }}\n", "<IMG_CONTEXT>\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
        "<|im_start|>user\n[a]\nWhat?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "kimi-vl": Family(
        ITEMS_OR_TEXT
        % (
            "<|im_{{ m.role }}|>",
            "<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
            "<|im_end|>",
            "<|im_assistant|>",
        ),
        "<|im_user|>[a]What?<|im_end|><|im_assistant|>",
    ),
    "addresses as pictures": Family(
        (ITEMS % ("<{{ m.role }}>", "<image>", "<end>", "<assistant>")).replace(
            "== 'image'", "== 'image_url'"
        ),
        "<user>[a]What?<end><assistant>",
    ),
    "pictures after the text": Family(
        "{% for m in messages %}{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}"
        "{% for c in m.content if c.type == 'image' %}<image>{% endfor %}</s>{% endfor %}",
        "What?[a]</s>",
    ),
    "text only": Family(TEXT_ONLY, "<|im_start|>user\n[a]What?<|im_end|>\n<|im_start|>assistant\n"),
    "thinking": Family(
        "{% for m in messages %}{% set content = m.content if m.content is string else '' %}"
        "{% if m.role == 'assistant' and '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
        "<|im_start|>user\n[a]What?<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    "items without pictures": Family(
        "{% for m in messages %}<{{ m.role }}>{% for c in m.content if c.type == 'text' %}{{ c.text }}"
        "{% endfor %}<end>{% endfor %}<assistant>",
        "<user>[a]What?<end><assistant>",
    ),
}


def family(name: str) -> ChatTemplate:
    """The template of a family, which starts no process before its first use."""
    return ChatTemplate(FAMILIES[name].source, name=name, words=FAMILIES[name].words)


def texts_of(segments: list[Segment]) -> list[Text]:
    """All texts of a prompt, in order."""
    texts: list[Text] = []
    for segment in segments:
        if isinstance(segment, Joined):
            texts += segment.texts
        elif isinstance(segment, Text):
            texts.append(segment)
    return texts


def written(segments: list[Segment]) -> str:
    """The prompt as one text, pictures in square brackets."""
    return "".join(
        f"[{one.embedding.key}]" if isinstance(one, Image) else "".join(text.text for text in texts_of([one]))
        for one in segments
    )
