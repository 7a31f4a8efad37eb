"""The static stage: an encoder's tokens as a lookup, for later stages to train on texts."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import SettingsError
from m3e.files import atomic_folder, write_marker
from m3e.inference import Encoder
from m3e.inference.tokens import Tokens
from m3e.models.static import StaticTable, damp, distil, sif_weights, static_tokenizer, token_frequencies, write_static
from m3e.training.base import teacher_ingredient
from m3e.training.sources import read_sources, shard_rows
from m3e.training.stages.stage import StageReport, StageWork

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    from m3e.training.recipe import StaticStage

COUNTED_TEXTS = 50_000


def run(settings: StaticStage, work: StageWork) -> StageReport:
    """One vector a token from the teacher, weighed by how rare the token is in the data.

    Raises:
        SettingsError: more numbers than the teacher has, or no tokenizer to keep.
    """
    started = time.perf_counter()
    place = work.find_model(settings.teacher)
    encoder = Encoder(str(place), device=work.device)
    if settings.dim is not None and settings.dim > encoder.dimension:
        raise SettingsError(f"stages.{work.name}.dim is {settings.dim}; the teacher has {encoder.dimension} numbers")
    texts = _some_texts(work)
    if settings.tokenizer == "teacher":
        table = distil(encoder.model, _encode_ids(encoder), texts=texts, dim=settings.dim)
    else:
        table = _for_tokenizer(_tokenizer_of(work), encoder, texts, settings.dim)
    work.say(f"{len(table.rows)} rows of {table.rows.shape[1]} numbers by {settings.teacher}")
    with atomic_folder(work.target) as folder:
        write_static(folder, table.tokenizer, np.ascontiguousarray(table.rows, np.float32))
        write_marker(folder, "stage")
    named = teacher_ingredient(settings.teacher, place, settings.licence, settings.commercial, encoder.model)
    facts = {"rows": len(table.rows), "numbers": int(table.rows.shape[1]), "tokenizer": settings.tokenizer}
    return StageReport(seconds=round(time.perf_counter() - started, 1), ingredients=[named], facts=facts)


def _some_texts(work: StageWork) -> list[str]:
    """Texts to count tokens in: as many of each data set's first ones."""
    sources = read_sources(work.data)
    most = max(1, COUNTED_TEXTS // len(sources))
    found: list[str] = []
    for source in sources:
        texts = (text for shard in source.shards for rows in shard_rows(shard, source.kind) for text in rows.texts)
        found.extend(itertools.islice(texts, most))
    return found


def _encode_ids(encoder: Encoder) -> Any:
    return lambda ids: encoder.encode_tokens(Tokens(ids, [False] * len(ids), [0] * len(ids)))


def _tokenizer_of(work: StageWork) -> Tokenizer:
    """The tokenizer of the model before this stage, without white space: a line end says nothing by itself."""
    from tokenizers import Regex, pre_tokenizers

    from m3e.models import load

    model: SentenceTransformer = load(work.start(), device="cpu")
    tokenizer = static_tokenizer(model)
    steps = [tokenizer.pre_tokenizer] if tokenizer.pre_tokenizer else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.Split(Regex(r"\s+"), "removed")])
    return tokenizer


def _for_tokenizer(tokenizer: Tokenizer, encoder: Encoder, texts: list[str], dim: int | None) -> StaticTable:
    """The teacher's vectors of what each token of another tokenizer says."""
    words = [_text_of(tokenizer, index) for index in range(tokenizer.get_vocab_size(with_added_tokens=True))]
    vectors = encoder.encode_query(words)
    kept = np.flatnonzero([bool(word) for word in words])
    damped, axes = damp(vectors, kept, dim)
    rows = damped * sif_weights(token_frequencies(tokenizer, texts))[:, None]
    rows[[index for index, word in enumerate(words) if not word]] = 0
    return StaticTable(tokenizer, rows.astype(np.float32), axes)


def _text_of(tokenizer: Tokenizer, index: int) -> str:
    """What a token stands for; nothing for special tokens and single bytes."""
    token = tokenizer.id_to_token(index) or ""
    if token.startswith("<") and token.endswith(">"):
        return ""
    return token.replace("▁", " ").removeprefix("##").strip()
