"""A Vicuna delta is distinguished from a model by the size of its weights."""

from __future__ import annotations

import pytest

from minigpt4.core.verify.delta import delta_check
from minigpt4.core.verify.samples import Sample


def llama(*, norm: float, embedding: float, matrix: float, is_gguf: bool = False) -> list[Sample]:
    """Samples of a LLaMA of three layers with these magnitudes, with a small first norm as in real ones."""
    embedded, normed, queried, last = (
        ("token_embd", "blk.{}.attn_norm", "blk.{}.attn_q", "output_norm")
        if is_gguf
        else ("model.embed_tokens", "layers.{}.input_layernorm", "layers.{}.self_attn.q_proj", "model.norm")
    )
    sizes = [(embedded, (900, 16), embedding), (last, (16,), norm)]
    for layer in range(3):
        sizes.append((normed.format(layer), (16,), norm / 20 if layer == 0 else norm))
        sizes.append((queried.format(layer), (16, 16), matrix))
    return [
        Sample(name=f"{name}.weight", shape=shape, is_finite=True, empty_rows=0.0, magnitude=size)
        for name, shape, size in sizes
    ]


@pytest.mark.parametrize("is_gguf", [False, True])
@pytest.mark.parametrize(
    ("norm", "embedding", "matrix", "state"),
    [
        (0.4, 0.013, 0.014, "ok"),
        (1.0, 0.016, 0.016, "ok"),
        (0.002, 0.0006, 0.0007, "problem"),
        (0.0, 0.0006, 0.0007, "problem"),
        (1.0, 0.0006, 0.0007, "problem"),
        (0.4, 0.0006, 0.014, "warning"),
        (0.01, 0.013, 0.014, "warning"),
    ],
)
def test_two_signs_of_three_make_a_delta(
    is_gguf: bool, norm: float, embedding: float, matrix: float, state: str
) -> None:
    samples = llama(norm=norm, embedding=embedding, matrix=matrix, is_gguf=is_gguf)
    assert delta_check(samples, "vicuna-7b").state == state


def test_the_advice_has_the_numbers() -> None:
    text = delta_check(llama(norm=0.002, embedding=0.0006, matrix=0.0007), "vicuna-7b").text
    assert "norms 0.002 (a model's: above 0.05), embedding 0.0006 (a model's: above 0.003)" in text
    assert "apply_delta" in text


def test_the_name_alone_is_a_warning() -> None:
    check = delta_check(llama(norm=0.4, embedding=0.013, matrix=0.014), "vicuna-13b-Delta-v0")
    assert check.state == "warning"
    assert "'vicuna-13b-Delta-v0' is called a delta" in check.text
