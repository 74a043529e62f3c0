"""Caches change no answer: the KV cache over turns, edits and branches, and embeddings on disk."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.core.mtmd.conftest import FAMILIES, Family

from minigpt4.core.embedding_cache import LayoutCache
from minigpt4.core.engine import Engine
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError, ContextError
from minigpt4.core.language.base import CHUNK
from minigpt4.core.language.positions import ImageRun
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, PromptPiece, ResolvedSampling, Stretch

ALL = [*FAMILIES, "llava"]
GREEDY = ResolvedSampling(max_tokens=6, temperature=0.0, repetition_penalty=1.0)
WORDS = ("What", " is", " in", " the", " picture", "?", " red", " circle", "\n", " <|im_end|>", " left")


def loaded(family: Family, context: int = 1024) -> Engine:
    return Engine.from_options(EngineOptions(family.bundle(context), device="cpu", threads=1))


def pieces(engine: Engine, conversation: list[Message]) -> list[PromptPiece]:
    return engine._pieces(conversation)


def random_turns(rng: random.Random, pictures: list[ImageEmbedding]) -> list[list[Message]]:
    """Conversations as they are sent one after the other: turns, edits of earlier ones, and branches."""

    def question(images: list[ImageEmbedding]) -> User:
        return User("".join(rng.choices(WORDS, k=rng.randint(1, 8))) + "?", images=images)

    first, second = rng.sample(pictures, 2)
    asked: list[Message] = [question([first])]
    sent = [list(asked)]
    for _ in range(4):
        answer = Assistant("".join(rng.choices(WORDS, k=rng.randint(1, 5))) + ".")
        kind = rng.choice(("turn", "edit", "branch", "both"))
        if kind == "edit":
            asked = [*asked[:-1], question(list(asked[-1].images))]  # type: ignore[union-attr]
        elif kind == "branch":
            asked = [asked[0], answer, question([second])]
        elif kind == "both":
            asked = [question([first, second])]
        else:
            asked = [*asked, answer, question([second] if rng.random() < 0.5 else [])]
        sent.append(list(asked))
    return sent


@pytest.mark.parametrize("name", ALL)
def test_greedy_ids_are_the_same_without_every_cache(families: dict[str, Family], name: str) -> None:
    """Over 30 random conversations with two pictures."""
    family = families[name]
    with loaded(family) as kept, loaded(family) as fresh:
        paths = [family.folder / one for one in ("exact.png", "second.png", "free.png")]
        pictures = [kept.look(path) for path in paths]
        again = fresh._make_encoder()
        for path, picture in zip(paths, pictures, strict=True):
            encoded = again(open_picture(path))
            assert isinstance(encoded, tuple)
            assert np.array_equal(encoded[0], picture.tokens_ND)
        reused = 0
        for seed in range(30):
            for conversation in random_turns(random.Random(seed), pictures):
                prompt = pieces(kept, conversation)
                ids = list(kept.language.generate(prompt, GREEDY))
                reused += sum(map(_size, prompt)) - kept.language.computed
                fresh.language.reset()
                assert ids == list(fresh.language.generate(prompt, GREEDY)), (seed, conversation)
        assert reused > 1000


def _size(piece: PromptPiece) -> int:
    return 1 if isinstance(piece, int) else len(piece)


@pytest.mark.parametrize("name", ALL)
def test_a_second_turn_computes_only_its_own_positions(families: dict[str, Family], name: str) -> None:
    family = families[name]
    with loaded(family) as engine:
        picture = engine.look(family.folder / "exact.png")
        first: list[Message] = [User("What is in this picture?", images=[picture])]
        before = pieces(engine, first)
        engine.language.logits(before)
        assert engine.language.computed == sum(map(_size, before))
        turns = [*first, Assistant("A red circle."), User("Where?")]
        after = pieces(engine, turns)
        engine.language.logits(after)
        assert engine.language.computed == sum(map(_size, after)) - _shared(before, after)
        assert engine.language.computed < len(picture) + 40


@pytest.mark.parametrize("name", ALL)
def test_an_answer_is_computed_again_but_not_while_the_user_waits(
    families: dict[str, Family], name: str
) -> None:
    """Decoded tokens are computed alone and not reused; what is computed while the user types is."""
    family = families[name]
    with loaded(family) as engine:
        picture = engine.look(family.folder / "exact.png")
        first: list[Message] = [User("What is in this picture?", images=[picture])]
        turns = [*first, Assistant("A red circle."), User("Where?")]
        before, after = pieces(engine, first), pieces(engine, turns)
        new = sum(map(_size, after)) - _shared(before, after)
        answer(engine, first)
        assert engine.prepare([*turns[:-1], User("")])
        ahead = engine.language.computed
        answer(engine, turns, tokens=1)
        assert 0 < ahead < new
        assert engine.language.computed == new - ahead
        # Without the time of typing all of it is computed now, and the picture is not.
        answer(engine, first)
        answer(engine, turns, tokens=1)
        assert engine.language.computed == new


def answer(engine: Engine, conversation: list[Message], tokens: int = 6) -> None:
    """Have so many tokens decoded."""
    for _ in engine.language.generate(pieces(engine, conversation), replace(GREEDY, max_tokens=tokens)):
        pass


def _shared(one: list[PromptPiece], other: list[PromptPiece]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a is not b and a != b:
            break
        count += _size(a)
    return count


@pytest.mark.parametrize("name", ["qwen25vl", "gemma3"])
def test_an_image_that_is_whole_is_never_reused_in_part(families: dict[str, Family], name: str) -> None:
    """A prompt that ends with a picture needs its last vector's logits, and so computes all of them again."""
    family = families[name]
    with loaded(family) as engine:
        picture = engine.look(family.folder / "exact.png")
        prompt: list[PromptPiece] = [5, 6, picture]
        marks_after = [part for part in picture.layout if isinstance(part, tuple)][1:]
        cut = ImageEmbedding(picture.tokens_ND, picture.key, picture.layout[: -len(marks_after) or None])
        prompt[-1] = cut
        first_V = engine.language.logits(prompt)
        assert np.array_equal(engine.language.logits(prompt), first_V)
        assert engine.language.computed == len(picture.tokens_ND)


def test_a_known_picture_is_not_encoded_again_in_another_process(families: dict[str, Family]) -> None:
    family = families["smolvlm"]
    with loaded(family) as engine:
        known = engine.look(family.folder / "exact.png")
    program = (
        "import sys\n"
        "from tests.core.mtmd.test_caches import loaded; from tests.core.mtmd.conftest import Family\n"
        "from pathlib import Path\n"
        "engine = loaded(Family('smolvlm', Path(sys.argv[1]), {}, {}))\n"
        "def fail(): raise AssertionError('encoded again')\n"
        "engine._make_encoder = fail\n"
        "found = engine.look(Path(sys.argv[1]) / 'exact.png')\n"
        "print(found.key, len(found), found.tokens_ND.sum())\n"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program, str(family.folder)]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == [known.key, str(len(known)), str(known.tokens_ND.sum())]


def test_pictures_larger_than_the_context_are_refused_before_they_are_encoded(
    families: dict[str, Family],
) -> None:
    with loaded(families["smolvlm"], context=24) as engine, pytest.raises(ContextError, match="5 tiles"):
        engine.look(families["smolvlm"].folder / "exact.png")


def test_a_picture_that_is_not_causal_is_never_cut(
    families: dict[str, Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp ends the process if the batch is smaller than such a picture."""
    family = families["gemma3"]
    with loaded(family) as engine:
        picture = engine.look(family.folder / "exact.png")
        prompt = pieces(engine, [User("What?", images=[picture])])
        wanted_V = engine.language.logits(prompt)
        engine.language._most_at_once = 4  # type: ignore[attr-defined]
        assert np.array_equal(engine.language.logits(prompt), wanted_V)
        assert engine.language._most_at_once == CHUNK  # type: ignore[attr-defined]


def test_layouts_survive_the_disk_and_damage_is_noticed(tmp_path: Path) -> None:
    offsets_4N = np.arange(12, dtype=np.int32).reshape(4, 3)
    layout = ((5, 6), Stretch(3, 2, offsets_4N), (7,), Stretch(1, 1, None, False))
    tokens_ND = np.arange(16, dtype=np.float32).reshape(4, 4)
    cache = LayoutCache("name", 4, tmp_path)
    cache.put("key", (tokens_ND, layout))
    found = LayoutCache("name", 4, tmp_path).get("key")
    assert found is not None
    assert np.array_equal(found[0], tokens_ND)
    assert [type(part) for part in found[1]] == [tuple, Stretch, tuple, Stretch]
    first, second = found[1][1], found[1][3]
    assert isinstance(first, Stretch) and isinstance(second, Stretch)
    assert (first.vectors, first.positions, first.is_causal) == (3, 2, True)
    assert first.offsets_4N is not None and np.array_equal(first.offsets_4N, offsets_4N)
    assert not second.is_causal
    assert LayoutCache("name", 8, tmp_path).get("key") is None  # of another width; it is removed
    cache.put("key", (tokens_ND, layout))
    (file,) = tmp_path.glob("name/*.npy")
    file.write_bytes(file.read_bytes()[:-20])
    assert cache.get("key") is None


def test_an_mmproj_of_another_family_is_refused(families: dict[str, Family]) -> None:
    from dataclasses import replace

    from minigpt4.core.bundles.bundle import MmprojSpec

    pairs = ("gemma3", "llava_siglip"), ("llava_siglip", "gemma3"), ("smolvlm", "llava_siglip")
    for name, foreign in pairs:
        bundle = replace(families[name].bundle(), mmproj=MmprojSpec(families[foreign].mmproj, None))
        options = EngineOptions(bundle, device="cpu", threads=1)
        with Engine.from_options(options) as engine, pytest.raises(BundleError, match="different families"):
            engine.look(families[name].folder / "exact.png")


def test_runs_of_a_whole_image_keep_their_place() -> None:
    run = ImageRun(Stretch(5, 3, np.zeros((4, 5), np.int32)), np.zeros((5, 2), np.float32))
    assert (len(run[1:4]), run[1:4].first, run[2:][1:].first) == (3, 1, 3)
