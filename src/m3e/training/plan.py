"""What a fine-tune will do, decided before it starts: rows, prompts, lengths, precision, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m3e.errors import SettingsError
from m3e.inference.encoder import DOCUMENT_PROMPTS
from m3e.machine import bf16_is_fast
from m3e.records import Kind, Record
from m3e.training.memory import free_memory, mini_batch_that_fits
from m3e.training.options import FineTuneOptions, suggested_lr
from m3e.training.rows import Example, column_names, examples, is_symmetric

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOKENISE_AT_ONCE = 2000


@dataclass(frozen=True)
class Plan:
    """What will be trained: rows, prompts, lengths, precision."""

    kind: Kind
    train: list[Example]
    held_out: list[Example]
    symmetric: bool
    prompts: dict[str, str]
    cut: int
    length: int
    lr: float
    precision: str
    mini_batch_size: int | None
    batch_size: int


def make_plan(
    model: SentenceTransformer, kind: Kind, train: list[Record], held_out: list[Record], options: FineTuneOptions
) -> Plan:
    """The plan of a fine-tune; ``model`` gets its maximum length and what trains is marked.

    Raises:
        SettingsError: options that do not fit the model or the machine.
    """
    from transformers import set_seed

    rows, held = list(examples(train)), list(examples(held_out))
    if options.max_length is not None:
        _limit_length(model, options.max_length)
    set_seed(options.seed)  # new weights, an adapter's say, must be the same in a resumed run
    options.strategy.prepare(model)
    symmetric = kind is Kind.SCORED_PAIR or is_symmetric(rows)
    width = max(len(row.texts) for row in rows)
    names = ["sentence1", "sentence2"] if kind is Kind.SCORED_PAIR else column_names(width)
    prompts = _prompts(model, names, symmetric=symmetric)
    prefixes = [prompts.get(name, "") for name in names]
    cut, length = _lengths(
        model, [prefix + text for row in [*rows, *held] for prefix, text in zip(prefixes, row.texts, strict=False)]
    )
    precision = _precision(model, options.precision)
    batch_size = min(options.batch_size, len(rows))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Plan(
        kind=kind,
        train=rows,
        held_out=held,
        symmetric=symmetric,
        prompts=prompts,
        cut=cut,
        length=length,
        lr=options.lr or suggested_lr(trained, options.strategy, static=not is_transformer(model)),
        precision=precision,
        mini_batch_size=options.mini_batch_size or _mini_batch(model, width, batch_size, length, precision),
        batch_size=batch_size,
    )


def is_transformer(model: SentenceTransformer) -> bool:
    """Whether the model has a transformers encoder, unlike a static one."""
    return getattr(model[0], "model", None) is not None


def _limit_length(model: SentenceTransformer, length: int) -> None:
    if not is_transformer(model):
        raise SettingsError(f"--max-length does not apply: {type(model[0]).__name__} has no maximum length")
    positions = getattr(model[0].model.config, "max_position_embeddings", None)
    if positions and length > positions:
        raise SettingsError(f"max_length {length} is beyond the model's {positions} positions")
    model.max_seq_length = length


def _prompts(model: SentenceTransformer, names: list[str], *, symmetric: bool) -> dict[str, str]:
    """The prompt of each column: the first takes the query's, the others the document's, or the query's too."""
    known = model.prompts or {}
    query = known.get("query") or ""
    other = query if symmetric else next((known[name] for name in DOCUMENT_PROMPTS if known.get(name)), "")
    chosen = {name: query if position == 0 else other for position, name in enumerate(names)}
    return {name: prompt for name, prompt in chosen.items() if prompt}


def _lengths(model: SentenceTransformer, texts: list[str]) -> tuple[int, int]:
    """How many texts are cut, and the tokens of a long one (99 of 100 are no longer)."""
    if not is_transformer(model):
        return 0, 0
    limit = model.max_seq_length or 512
    lengths: list[int] = []
    for start in range(0, len(texts), _TOKENISE_AT_ONCE):
        part = texts[start : start + _TOKENISE_AT_ONCE]
        encoded = model.tokenizer(part, truncation=False, return_attention_mask=False, verbose=False)
        lengths.extend(map(len, encoded["input_ids"]))
    return sum(1 for length in lengths if length > limit), int(min(limit, np.percentile(lengths, 99)))


def _precision(model: SentenceTransformer, wanted: str) -> str:
    if wanted == "fp16" and model.device.type == "cpu":
        raise SettingsError("fp16 training needs a GPU; use auto, bf16 or fp32 on a CPU")
    if wanted != "auto" or not is_transformer(model):
        return wanted if wanted != "auto" else "fp32"
    if model.device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if model.device.type == "cpu" and bf16_is_fast() else "fp32"


def _mini_batch(model: SentenceTransformer, columns: int, batch_size: int, length: int, precision: str) -> int | None:
    if not is_transformer(model):
        return None
    bytes_a_number = 4 if precision == "fp32" else 2
    config = model[0].model.config
    return mini_batch_that_fits(config, columns, batch_size, length, bytes_a_number, free_memory(model.device))
