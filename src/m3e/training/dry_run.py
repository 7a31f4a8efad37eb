"""What a recipe would do, before anything is loaded or trained: rows, steps, tokens, memory, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3e.catalogue.shelf import GROUPS, all_cards, select_cards
from m3e.data.card_records import missing_reason
from m3e.errors import M3EError
from m3e.files import read_json
from m3e.machine import bf16_is_fast, machine
from m3e.models.names import known_models
from m3e.training.memory import activation_bytes
from m3e.training.recipe import (
    SCRATCH,
    ContrastiveStage,
    DistilStage,
    EncoderStage,
    PretrainingStage,
    Recipe,
    StaticStage,
    TrainedStage,
)
from m3e.training.run_data import preset_of
from m3e.training.sources import read_sources

TOKENS_A_TEXT = {"s2s": 24, "s2p": 110, "s2c": 90}
"""Mean tokens of a text by the category of its set, where nothing better is known: the catalogue's sets, measured."""

TEXTS_A_ROW = {"text": 1, "triplet": 3, "ranked": 6}
"""Where it is not two."""

TOKENS_OF_ANY = 60
"""The same of a text of which nothing is known."""

FLOPS_A_SECOND = {"amx": 1.0e12, "avx512_bf16": 3.5e11, "none": 6.0e10}
"""What training reaches on two cores, by the processor's bf16; a GPU's are asked for."""

GPU_FLOPS_A_SECOND = 3.0e14


@dataclass(frozen=True)
class Shape:
    """An encoder's size, and what :func:`activation_bytes` reads."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    parameters: int

    @property
    def computed(self) -> int:
        """Weights that every token is multiplied with, and its row."""
        return self.hidden_size + self.num_hidden_layers * (
            4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        )


SHAPES = {
    "uer/chinese_roberta_L-4_H-512": Shape(512, 4, 8, 2048, 23_953_920),
    "hfl/chinese-roberta-wwm-ext": Shape(768, 12, 12, 3072, 102_267_648),
    "hfl/chinese-roberta-wwm-ext-large": Shape(1024, 24, 16, 4096, 325_522_432),
    "Qwen/Qwen3-Embedding-0.6B": Shape(1024, 28, 16, 3072, 595_776_512),
    "tiny": Shape(384, 4, 6, 1536, 17_600_000),
    "small": Shape(512, 4, 8, 2048, 27_000_000),
    "base": Shape(768, 12, 12, 3072, 106_000_000),
    "e5-small": Shape(384, 12, 12, 1536, 117_653_760),
    "e5-small-cut": Shape(384, 12, 12, 1536, 38_842_752),
    "m3e-small": Shape(384, 12, 12, 1536, 38_842_752),
    "m3e-tiny": Shape(384, 4, 6, 1536, 17_600_000),
}
"""Encoders by name, so that a plan can be made where the hub is not reached."""


_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do; ``None`` where it cannot be known yet.

    Attributes:
        note: what the figures rest on, or what is missing.
    """

    name: str
    stage: str
    rows: int | None = None
    steps: int | None = None
    tokens: int | None = None
    memory: int | None = None
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True)
class SetSize:
    """Rows of a data set as far as they are known: before cleaning, where it is not prepared."""

    name: str
    rows: int
    kind: str
    category: str


def plan_recipe(recipe: Recipe, device: str | None = None) -> tuple[list[StagePlan], list[str]]:
    """A plan a stage, and lines about the base and the data; nothing is written.

    Raises:
        M3EError: the data folder or a preset cannot be read, or a stage names a set that is not there.
    """
    sets, prepared, lines = _sets(recipe)
    shape, line = _shape(recipe)
    lines.append(line)
    plans = []
    current = shape
    for stage, name in zip(recipe.stages, recipe.stage_names, strict=True):
        if isinstance(stage, StaticStage | EncoderStage):
            current = shape if isinstance(stage, EncoderStage) else _lookup(shape)
        plans.append(_plan_stage(stage, name, sets, current, prepared=prepared, device=device))
    return plans, lines


def _lookup(shape: Shape | None) -> Shape | None:
    """The shape of a model without layers: only rows that are looked up."""
    return None if shape is None else replace(shape, num_hidden_layers=0, parameters=shape.parameters - shape.computed)


def _sets(recipe: Recipe) -> tuple[list[SetSize], bool, list[str]]:
    folder = recipe.data.folder
    if folder is not None:
        sources = read_sources(folder)
        found = [SetSize(source.name, source.rows, source.kind, source.category) for source in sources]
        return found, True, [f"data: {sum(each.rows for each in found):,} rows of {len(found)} sets in {folder}"]
    preset = preset_of(recipe)
    names = [name for name in preset.sets if not Path(name).exists()]
    cards = all_cards()
    chosen = [card for card in select_cards(names, cards) if card.trains]
    if preset.policy == "commercial":
        chosen = [card for card in chosen if card.commercial == "yes"]
    here = [card for card in chosen if missing_reason(card) is None]
    lines = [
        f"data: {len(here)} of {len(chosen)} catalogued sets are here ({preset.title}, policy {preset.policy}); rows "
        "before cleaning"
    ]
    if not here:
        lines.append(
            "none of the data is here: the figures are of the catalogue; m3e data show NAME says where to get a set"
        )
    files = [name for name in preset.sets if name not in names and name not in GROUPS]
    if files:
        lines.append(f"rows of {', '.join(files)} are not counted before they are prepared")
    return (
        [
            SetSize(card.name, min(card.rows or 0, preset.max_rows.get(card.name, card.rows or 0)), "", card.category)
            for card in (here or chosen)
        ],
        False,
        lines,
    )


def _shape(recipe: Recipe) -> tuple[Shape | None, str]:
    base = recipe.base
    if base.shape is not None:
        wanted = base.shape
        feed = wanted.intermediate or 4 * wanted.hidden
        own = Shape(wanted.hidden, wanted.layers, wanted.heads, feed, 0)
        return replace(own, parameters=own.computed), f"base: new weights, {own.computed:,} without embeddings"
    name = base.preset if base.model == SCRATCH else base.model
    config = Path(base.model) / "config.json"
    if config.is_file():
        found = _shape_of_config(config)
        return found, f"base: {base.model}, {found.parameters:,} weights without embeddings"
    shape = SHAPES.get(name)
    if shape is None:
        return None, f"base: {base.model}, whose size is known once it is loaded"
    where = (
        "new weights"
        if base.model == SCRATCH
        else "on this machine"
        if base.model in known_models()
        else "from the hub"
    )
    return shape, f"base: {base.model} ({where}), about {shape.parameters:,} weights"


def _shape_of_config(path: Path) -> Shape:
    try:
        values = read_json(path)
        sizes = [int(values[name]) for name in _SIZES]
    except (OSError, ValueError, KeyError) as error:
        raise M3EError(f"base.model: {path} is no encoder's configuration ({error})") from error
    hidden, layers, heads, inner = sizes
    return Shape(hidden, layers, heads, inner, Shape(hidden, layers, heads, inner, 0).computed)


def _plan_stage(
    stage: Any, name: str, sets: Sequence[SetSize], shape: Shape | None, *, prepared: bool, device: str | None
) -> StagePlan:
    if not isinstance(stage, TrainedStage | PretrainingStage):
        return StagePlan(name, stage.stage)
    if stage.rows.folder is not None:
        sources = read_sources(stage.rows.folder)
        sets = [SetSize(source.name, source.rows, source.kind, source.category) for source in sources]
    hold = getattr(stage, "hold", None)
    held = set(hold.sets) if hold else set()
    trained = [
        each
        for each in sets
        if each.name not in held
        and (not stage.rows.sets or each.name in stage.rows.sets)
        and each.name not in stage.rows.without
        and (not prepared or each.kind in stage.kinds)
    ]
    chosen = [*trained, *(each for each in sets if each.name in held)]
    single = isinstance(stage, PretrainingStage)  # takes texts, each once: as many at most
    sizes = {each.name: each.rows * (TEXTS_A_ROW.get(each.kind, 2) if single else 1) for each in chosen}
    caps = {name: min(size, stage.batch.caps.get(name, stage.batch.cap or size)) for name, size in sizes.items()}
    rows = sum(caps.values())
    steps = -(-rows // stage.batch.size) if single else sum(count // stage.batch.size for count in caps.values())
    if stage.schedule.steps is not None:
        steps = min(steps, stage.schedule.steps) if steps else stage.schedule.steps
    steps *= stage.schedule.epochs
    drawn = steps * stage.batch.size
    if not drawn:
        return StagePlan(name, stage.stage, note="no rows are known for it yet")
    note = "" if rows else "no rows are known for it yet: as many steps as the schedule allows"
    limit = stage.batch.max_length or 512
    mean = float(min(limit, TOKENS_OF_ANY))
    if rows:
        mean = (
            sum(caps[each.name] * min(limit, TOKENS_A_TEXT.get(each.category, TOKENS_OF_ANY)) for each in chosen) / rows
        )
    tokens = int(drawn * (1 if single else 2) * mean)
    if shape is None:
        return StagePlan(name, stage.stage, drawn, steps, tokens, note=note)
    memory, work = _memory(stage, shape, limit), _work(stage, shape, tokens)
    return StagePlan(name, stage.stage, drawn, steps, tokens, memory, work / _speed(device), note)


def _memory(stage: Any, shape: Shape, length: int) -> int:
    """Weights, gradients and Adam's two moments in fp32, the activations of a mini-batch, all vectors of a batch."""
    lora = getattr(stage, "lora", None)
    trained = shape.parameters if lora is None else 18 * lora.rank * shape.hidden_size * shape.num_hidden_layers
    budget = stage.batch.token_budget or 4096
    activations = activation_bytes(shape, max(1, budget // length), length, 2)
    return int(4 * shape.parameters + 12 * trained + activations + 8 * stage.batch.size * shape.hidden_size)


def _work(stage: Any, shape: Shape, tokens: int) -> float:
    """Operations: three passes' work, a second forward where memory wants it, and vectors that are made beforehand."""
    passes = 6 if getattr(stage, "lora", None) is None else 5
    before = None
    if isinstance(stage, DistilStage):
        before = SHAPES.get(stage.teacher, shape)
    elif isinstance(stage, ContrastiveStage) and (
        stage.hold or stage.preserve or stage.false_negative_margin is not None
    ):
        before = shape
    made = 2 * before.computed * tokens / stage.schedule.epochs if before else 0.0
    return passes * shape.computed * tokens + made


def _speed(device: str | None) -> float:
    """Operations a second that this machine reaches in training."""
    import torch

    if (device or "").startswith("cuda") or (device is None and torch.cuda.is_available()):
        return GPU_FLOPS_A_SECOND
    here = machine()
    return FLOPS_A_SECOND[here.bf16 if bf16_is_fast() else "none"] * max(1, here.threads) / 2
