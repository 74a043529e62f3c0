"""A recipe: everything that decides what a training run learns, as one typed value.

Recipes are TOML files, which recipe_file.py reads and writes; the shipped ones lie in `recipes/`.
Where a key has a default, it is what does nothing: every number of the paper stands in a recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import UsageError
from minigpt4.core.storage.dataclass_toml import bounded
from minigpt4.core.weights.run_projection import reshaped

SourceKind = Literal["captions", "imagenet", "labels", "objects"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "nf4"]
Prompt = Literal["none", "instruction", "chat"]
CaptionForm = Literal["written", "blip", "raw"]
CaptionChoice = Literal["any", "supported"]
CosineOver = Literal["all", "rest"]
Layers = Literal[0, 1, 3]
ObjectKind = Literal["presence", "count", "place", "objects", "subject"]
TrainedColumns = Literal["all", "objects", "tower"]
QFormerUse = Literal["frozen", "none", "trained"]

FEW_SKIPPED = 8
"""Photos that any run may skip, whatever their fraction: they are no evidence of damaged data yet."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Photos to learn from, below the data folder."""

    name: str
    """The place, relative to the data folder."""

    kind: SourceKind
    """`captions`: people's own sentences. `imagenet`: keys begin with a WordNet id, which names a
    class. `labels`: captions made from a label. `objects`: nothing but the objects in them, with boxes."""

    weight: float = bounded(0)
    """How often the source is drawn from, relative to the others."""

    views: int = bounded(1, 64, default=1)
    """Crops of each photo, counting the whole photo as the first."""

    cropped: float = bounded(0, 1, default=0.0)
    """The fraction of samples that show a random crop instead of the whole photo."""

    hidden: float = bounded(0, 1, default=0.0)
    """The fraction of samples that see what the tower calls the photo (its class vectors) and nothing of the
    photo itself, so that a class is learnt as such and not as the few photos that show it."""

    renamed: float = bounded(0, 1, default=0.0)
    """The fraction of samples whose objects are renamed at random, in their vectors as in the questions: an
    answer must then be read from the objects' vectors, as guessing from what photos mostly show does not
    help. Such samples have no captions."""

    renumbered: bool = False
    """Whether in renamed samples every kind also gets another number at random, in the vectors as in the
    answers, and the objects are the detector's even where people drew boxes."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Photos that are never learnt from, whose loss is measured now and then."""

    name: str = ""
    """The place, relative to the data folder. Empty: photos held out of the sources."""

    kind: SourceKind = "captions"
    """As a source's."""

    photos: int = bounded(1)
    """How many photos."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run learns from, for how long, and how fast."""

    stage: int = bounded(1, 2)
    """1: captions, no question asked. 2: questions or instructions, and answers."""

    bundle: str
    """The bundle whose projection is trained."""

    start: str = ""
    """The projection that training starts from without `--init`: a file beside the bundle's
    own. Empty starts from random weights."""

    seed: int = bounded(0, 2**63 - 1)
    """Decides the first weights and which photos and sentences are drawn when."""

    steps: int = bounded(1)
    """Optimiser steps."""

    batch_size: int = bounded(1)
    """Photos of one optimiser step, over all processes."""

    micro_batch: int = bounded(0, default=0)
    """Photos that one device computes at once; 0: all of its share of a step. Changes memory, not losses."""

    precision: Precision = "bf16"
    """How the frozen language model's weights are kept; the trained adapter is always float32."""

    captions_per_photo: float = bounded(0, default=1.0)
    """Captions per sample. Here and below, 1.5 means one or two at random."""

    questions_per_photo: float = bounded(0, default=0.0)
    """Prompt `chat`, stage 2: short questions and answers per sample."""

    details_per_photo: float = bounded(0, default=0.0)
    """Prompt `chat`, stage 2: instructions to describe the photo, answered by a paragraph."""

    object_questions_per_photo: float = bounded(0, default=0.0)
    """Prompt `chat`, stage 2: questions per sample about what a photo's boxes show: whether, how many, where.
    Boxes are people's own where the data have them, else the detector's."""

    object_kinds: tuple[ObjectKind, ...] = ()
    """Which questions about objects are asked; empty: all, in the shares of object_questions.py."""

    object_details_per_photo: float = bounded(0, default=0.0)
    """Prompt `chat`, stage 2: instructions to describe the photo, answered by what captions and boxes both
    support; a sample whose photo does not support enough has none."""

    object_present: float = bounded(0, 1, default=0.6)
    """The detector's score from which a thing is taught as being there."""

    object_absent: float = bounded(0, 1, default=0.15)
    """The detector's score above which a thing is not taught as being absent."""

    caption_choice: CaptionChoice = "any"
    """Which of people's captions are answers. `supported`: the half of them that agrees most with the others,
    of those that name only objects that were found."""

    precise_names: float = bounded(0, 1, default=0.0)
    """The fraction of precise names ("golden retriever", not "dog") if a photo has only a class."""

    prompt: Prompt
    """What stands around the picture. `none`: the picture, then the caption and a line end (the paper's
    stage 1). `instruction`: the template's training prompt with one of `instructions` (its stage 2).
    `chat`: the form in which people will ask."""

    instructions: tuple[str, ...] = ()
    """Prompt `instruction`: drawn at random for every caption."""

    caption_form: CaptionForm
    """`written`: captions as sentences with capital and full stop. `blip`: in small letters, without most
    marks and of 50 words at most, as BLIP's processor leaves them. `raw`: as they are."""

    text_tokens: int = bounded(0, default=0)
    """Most tokens of an answer and its end together; longer ones are cut, and lose their end. 0: no limit."""

    learning_rate: float = bounded(0, 10)
    """The highest learning rate, where the warm-up ends."""

    warmup_rate: float = bounded(0, 10)
    """The learning rate of the first step."""

    floor_rate: float = bounded(0, 10)
    """The learning rate in which the cosine would end."""

    warmup_steps: int = bounded(0)
    """Steps over which the learning rate rises in a line."""

    cosine_over: CosineOver
    """`all`: the cosine counts from the first step, warm-up included, as the released code does, so the
    rate drops where the warm-up ends. `rest`: it begins where the warm-up ends."""

    beta1: float = bounded(0, 0.9999)
    """AdamW's decay of the mean gradient."""

    beta2: float = bounded(0, 0.99999)
    """AdamW's decay of the mean squared gradient."""

    weight_decay: float = bounded(0, 10)
    """AdamW's weight decay; biases and norms have none."""

    gradient_clip: float = bounded(0, default=0.0)
    """The largest norm of the gradient; 0 leaves it as it is."""

    feature_dropout: float = bounded(0, 0.9, default=0.0)
    """The dropout probability of the tower's features, against memorising photos."""

    averaged_checkpoints: int = bounded(1, 16, default=1)
    """The result is the mean of the weights of the last so many checkpoints."""

    start_share: float = bounded(0, 1, default=0.0)
    """How much of the weights that the run began with is in its result: the mean of start and end, which
    forgets less of what the start knew (Wortsman et al. 2022, arXiv 2109.01903)."""

    initial_std: float = bounded(0, 10, default=0.0)
    """Standard deviation of the first weights, if a run does not start from trained ones. 0: torch's
    own for a linear layer, as the paper's."""

    class_name_scale: float = bounded(0, 1000, default=0.0)
    """How strongly the weights of the tower's class probabilities start at the class's name in the
    language model's own embeddings; 0 leaves them random."""

    soft_prompt: str = ""
    """The words whose embeddings the bundle's soft prompt starts at: as many tokens as it has vectors.
    Empty starts it at random."""

    trained_columns: TrainedColumns = "all"
    """Which weights of the projection are trained in a bundle with a detector. `objects`: those of the
    detector's vectors. `tower`: those of the tower's own. The others, and the bias, stay as they were."""

    layers: Layers = 0
    """Linear layers of the projection: 1, or 3 as in the paper's ablation. 0: as many as the bundle has."""

    qformer: QFormerUse = "frozen"
    """`frozen`: as the bundle has it, if it has one. `none`: omitted, four neighbouring patches joined.
    `trained`: learnt with the projection. The last two are the paper's ablations."""

    checkpoint_every: int = bounded(1)
    """Steps between checkpoints."""

    keep_checkpoints: int = bounded(1, default=2)
    """How many of the newest checkpoints stay, besides the best."""

    validate_every: int = bounded(1)
    """Steps between measurements of the validation loss."""

    sample_every: int = bounded(0, default=0)
    """Steps between answers about `sample_photos` fixed photos; 0: never."""

    sample_photos: int = bounded(0, 64, default=0)
    """How many validation photos, from the first, are answered about."""

    bad_share: float = bounded(0, 1, default=0.05)
    """The largest fraction of photos that may be skipped before the run stops."""

    source: tuple[Source, ...]
    """What is learnt from; at least one has a weight above 0."""

    validation: Validation
    """What is measured."""

    @property
    def asks_about_objects(self) -> bool:
        """Whether samples are made from boxes."""
        return self.object_questions_per_photo + self.object_details_per_photo > 0

    def allows_skipped(self, skipped: int, photos: int) -> bool:
        """Whether so many of the photos may be skipped; FEW_SKIPPED always may."""
        return skipped <= max(self.bad_share * photos, FEW_SKIPPED)


def checked(recipe: Recipe, where: str) -> Recipe:
    """The recipe; raises UsageError, beginning with `where`, for keys that contradict each other."""
    for problem in _contradictions(recipe):
        raise UsageError(f"{where}: {problem}")
    return recipe


def bundle_for(recipe: Recipe, bundle: Bundle) -> Bundle:
    """The bundle as the recipe changes it: its projection's layers, and whether it has a Q-Former.

    Without a Q-Former the tower joins four neighbouring patches, as in the LLaMA-2 release. Raises
    UsageError if the bundle has no Q-Former to train, or a tower that cannot do without.
    """
    if recipe.qformer == "trained" and bundle.qformer is None:
        raise UsageError(
            f"The recipe trains the Q-Former, and the bundle '{bundle.name}' has none; choose another "
            "--bundle, or --set qformer=frozen."
        )
    if bundle.objects is None and (recipe.soft_prompt or recipe.trained_columns != "all"):
        key = "soft_prompt" if recipe.soft_prompt else "trained_columns"
        raise UsageError(
            f"The recipe's '{key}' is about a detector's objects, and the bundle '{bundle.name}' has no "
            "detector; choose another --bundle, or --set soft_prompt= and trained_columns=all."
        )
    return reshaped(bundle, recipe.layers, recipe.qformer)


def _contradictions(recipe: Recipe) -> Iterator[str]:
    yield from _source_contradictions(recipe)
    yield from _prompt_contradictions(recipe)
    if recipe.trained_columns != "all" and recipe.weight_decay:
        yield (
            f"with 'trained_columns' = '{recipe.trained_columns}' the other weights must not decay; set "
            "'weight_decay' to 0."
        )
    for key in ("warmup_rate", "floor_rate"):
        rate = getattr(recipe, key)
        if rate > recipe.learning_rate:
            yield (
                f"'{key}' is {rate:g}, above the highest rate 'learning_rate' ({recipe.learning_rate:g}); "
                "lower it, or raise that."
            )
    if bool(recipe.sample_every) != bool(recipe.sample_photos):
        yield (
            f"'sample_every' is {recipe.sample_every} and 'sample_photos' {recipe.sample_photos}; "
            "for answers while training set both above 0, for none both to 0."
        )
    if recipe.averaged_checkpoints > recipe.keep_checkpoints:
        yield (
            f"the result is the mean of {recipe.averaged_checkpoints} checkpoints and "
            f"{recipe.keep_checkpoints} are kept; raise 'keep_checkpoints'."
        )


def _source_contradictions(recipe: Recipe) -> Iterator[str]:
    for name, count in Counter(source.name for source in recipe.source).items():
        if count > 1:
            yield f"the source '{name}' is given twice; give it once, with a larger weight."
    if not any(source.weight for source in recipe.source):
        yield "every source has the weight 0; give one of them more."
    for source in recipe.source:
        if source.renamed and not recipe.asks_about_objects:
            yield (
                f"the source '{source.name}' has 'renamed' objects, and nothing is asked about any; raise "
                "'object_questions_per_photo', or set 'renamed' to 0."
            )
        if source.renumbered and not source.renamed:
            yield (
                f"the source '{source.name}' is 'renumbered', and none of its objects are renamed; "
                "set 'renamed' above 0, or 'renumbered' to false."
            )
        if source.cropped and source.views < 2:
            yield (
                f"the source '{source.name}' has no crops ('views' is 1); "
                "set 'views' to 2 or more, or 'cropped' to 0."
            )


def _prompt_contradictions(recipe: Recipe) -> Iterator[str]:
    questions = recipe.questions_per_photo + recipe.details_per_photo
    about_objects = recipe.object_questions_per_photo + recipe.object_details_per_photo
    if recipe.stage == 1 or recipe.prompt != "chat":
        form = "stage 1" if recipe.stage == 1 else f"the prompt '{recipe.prompt}'"
        if questions:
            yield f"{form} has no questions; 'questions_per_photo' and 'details_per_photo' must be 0."
        if about_objects:
            yield (
                f"{form} has no questions; 'object_questions_per_photo' and 'object_details_per_photo' "
                "must be 0."
            )
    questions += about_objects
    if recipe.object_absent >= recipe.object_present:
        yield (
            f"'object_absent' is {recipe.object_absent:g}, not below 'object_present' "
            f"({recipe.object_present:g}); a thing would be taught as absent and as there."
        )
    if recipe.captions_per_photo + questions < 1:
        yield "a sample has less than one caption or question; raise 'captions_per_photo'."
    if recipe.prompt == "instruction" and not recipe.instructions:
        yield "the prompt 'instruction' needs 'instructions' to draw from."
    if recipe.instructions and recipe.prompt != "instruction":
        yield (
            f"'instructions' are not used with the prompt '{recipe.prompt}'; leave them out, or set "
            "'prompt' to 'instruction'."
        )
