"""Adapters: a tuned model kept as its difference to a base, a few megabytes that belong to exactly those weights.

The folder is peft's own, so ``PeftModel.from_pretrained(encoder, folder)`` takes it too; in 8 bits it is ours alone.
``m3e.json`` in it names the base and its fingerprint, and says how texts are pooled and prompted.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3e.data.bloom import FILE_NAME
from m3e.data.manifest import MANIFEST
from m3e.data.samples import general_data
from m3e.errors import ModelError
from m3e.files import atomic_folder, hash_file, read_marker, write_marker
from m3e.models.adapter_files import read_weights, write_int8, write_peft
from m3e.models.difference import (
    Difference,
    add,
    as_fp16,
    check_same_shape,
    difference,
    pack_int8,
    relative_error,
    unpack_int8,
)
from m3e.models.fingerprint import weights_fingerprint
from m3e.models.folder import save

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

STEP = "adapter"
SAME = 0.999
"""The lowest cosine between the tuned model's vectors and those of base and adapter that is taken without asking."""

_CARRIED = ("README.md", "loss.svg", "recipe.json", FILE_NAME, MANIFEST)
"""What travels with a model; the card refers to the others."""

_TEXTS = 64

Format = Literal["fp16", "int8"]


@dataclass(frozen=True)
class AdapterReport:
    """What was written.

    Attributes:
        rank: of the largest factor.
        error: what is missing of the difference, as a share of it.
        cosine: the lowest between the tuned model's vectors and those of base and adapter.
        bytes: of the whole folder.
    """

    rank: int
    error: float
    cosine: float
    bytes: int


@dataclass(frozen=True)
class BaseModel:
    """The model that an adapter belongs to.

    Attributes:
        name: what :func:`m3e.load` takes.
        fingerprint: of its weights: :func:`m3e.models.fingerprint.weights_fingerprint`.
        revision, pooling: as :func:`m3e.load` takes them.
    """

    name: str
    fingerprint: str
    revision: str | None = None
    pooling: str | None = None


def extract(
    tuned: SentenceTransformer,
    base: SentenceTransformer,
    folder: Path,
    *,
    base_name: str,
    revision: str | None = None,
    pooling: str | None = None,
    rank: int = 32,
    dtype: Format = "fp16",
    largest: int | None = None,
    carry: Path | None = None,
    texts: Sequence[str] | None = None,
    force: bool = False,
) -> AdapterReport:
    """Write ``tuned`` minus ``base`` as an adapter.

    Args:
        base_name: what :func:`m3e.load` takes to load the base again, with ``revision`` and ``pooling``.
        rank: of a layer's factors at most; exact for what was trained as adapters of this rank.
        dtype: ``int8`` halves the size; peft cannot read it.
        largest: bytes that the folder may have.
        carry: the tuned model's folder, whose card, manifest and filter of trained texts go along.
        texts: whose vectors are compared; some of the sample's by default.
        force: write it whatever the error.

    Raises:
        ModelError: the models have not one shape, differ outside the encoder, the vectors come out too different
            (says how much), or the folder would be too large.
    """
    check_adaptable(tuned, base)
    encoders = tuned[0].model, base[0].model
    found = difference(*encoders, rank)
    if found == Difference():
        raise ModelError(f"the model is {base_name} itself, weight for weight; there is no difference to keep")
    stored = unpack_int8(pack_int8(found)) if dtype == "int8" else as_fp16(found)
    error = relative_error(*encoders, stored)
    cosine = _lowest_cosine(tuned, base, stored, texts or _sample())
    if cosine < SAME and not force:
        raise ModelError(
            f"an adapter of rank {rank} is not the tuned model: relative error {error:.4f}, lowest cosine "
            f"{cosine:.5f} where {SAME} is asked; give a higher rank, or train with low-rank adapters"
        )
    origin = BaseModel(_lasting_name(base_name), weights_fingerprint(base), revision, pooling)
    with atomic_folder(folder) as temporary:
        if dtype == "int8":
            write_int8(found, temporary)
        else:
            write_peft(stored, encoders[1], origin.name, revision, temporary)
        if carry is not None:
            _carry(carry, temporary)
        digests = {path.name: hash_file(path) for path in temporary.glob("adapter_*")}
        facts = {"rank": stored.rank, "error": error, "cosine": cosine}
        write_marker(
            temporary,
            STEP,
            base=vars(origin),
            dtype=dtype,
            sha256=digests,
            model=settings_of(tuned),
            **facts,
        )
        size = sum(path.stat().st_size for path in temporary.iterdir())
        if largest is not None and size > largest:
            raise ModelError(
                f"the adapter would take {size:,} bytes, more than {largest:,}; give a lower rank than {stored.rank}, "
                "or dtype int8"
            )
    return AdapterReport(stored.rank, error, cosine, size)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter of ours."""
    return (read_marker(folder) or {}).get("m3e") == STEP


def base_of(folder: Path) -> BaseModel:
    """The model that the adapter in a folder belongs to.

    Raises:
        ModelError: the folder holds none, or it is damaged.
    """
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != STEP:
        raise ModelError(f"{folder} holds no adapter of m3e")
    for name, digest in marker["sha256"].items():
        if not (folder / name).is_file() or hash_file(folder / name) != digest:
            raise ModelError(f"{folder / name} is missing or damaged; get the adapter again")
    return BaseModel(**marker["base"])


def apply(folder: Path, base: SentenceTransformer, name: str) -> SentenceTransformer:
    """The tuned model of an adapter and its base, whose weights are changed in place.

    Args:
        name: what the base was loaded as, for messages.

    Raises:
        ModelError: the folder holds no adapter, or the base is another one.
    """
    wanted = base_of(folder)
    found = weights_fingerprint(base)
    if found != wanted.fingerprint:
        raise ModelError(
            f"the adapter {folder} belongs to {wanted.name} with weights {wanted.fingerprint[:12]}, and {name} has "
            f"weights {found[:12]}: on other weights it is another model; load the base that it was made from"
        )
    encoder = base[0].model.float()
    add(read_weights(folder), encoder)
    marker = read_marker(folder) or {}
    return _with_settings(base, marker["model"])


def write_whole(folder: Path, base: SentenceTransformer, name: str, target: Path) -> None:
    """Write the tuned model of an adapter and its base to ``target``, with what travels with the adapter.

    Raises:
        ModelError: as :func:`apply`.
    """
    save(apply(folder, base, name), target)
    _carry(folder, target)


def _carry(source: Path, target: Path) -> None:
    for name in _CARRIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def settings_of(model: SentenceTransformer) -> dict[str, Any]:
    """What turns an encoder's output into this model's vectors, as JSON."""
    pooling: Any = model[1]
    modes = pooling.pooling_mode
    limit = model.max_seq_length
    return {
        "pooling": modes if isinstance(modes, str) else list(modes),
        "include_prompt": bool(pooling.include_prompt),
        "normalise": len(model) > 2,
        "max_length": None if limit is None or limit == float("inf") else int(limit),
        "prompts": dict(model.prompts or {}),
        "default_prompt_name": model.default_prompt_name,
    }


def check_adaptable(tuned: SentenceTransformer, base: SentenceTransformer) -> None:
    """Refuse models whose difference an adapter cannot hold.

    Raises:
        ModelError: names what differs, or what is not an encoder with pooling.
    """
    for model in (tuned, base):
        kinds = [type(module).__name__ for module in model]
        if kinds[:1] != ["Transformer"]:
            raise ModelError(f"an adapter is for a transformer, and this model is {', '.join(kinds)}")
    kinds = [type(module).__name__ for module in tuned]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(f"an adapter holds an encoder, pooling and normalisation, and this model is {kinds}")
    check_same_shape(dict(tuned[0].model.named_parameters()), dict(base[0].model.named_parameters()))
    vocabularies = [model.tokenizer.get_vocab() for model in (tuned, base)]
    if vocabularies[0] != vocabularies[1]:
        raise ModelError(
            "the two models have different vocabularies; an adapter belongs to a base of its own tokenizer"
        )


def _with_settings(base: SentenceTransformer, settings: dict[str, Any]) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    modes = settings["pooling"]
    dimension = base[0].get_embedding_dimension()
    pooling = Pooling(dimension, modes if isinstance(modes, str) else tuple(modes), settings["include_prompt"])
    model = SentenceTransformer(
        modules=[base[0], pooling, *([Normalize()] if settings["normalise"] else [])],
        device=str(base.device),
        prompts=settings["prompts"],
        default_prompt_name=settings["default_prompt_name"],
        similarity_fn_name="cosine",
    )
    if settings["max_length"]:
        model.max_seq_length = settings["max_length"]
    return model


def _lasting_name(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _sample() -> list[str]:
    data = general_data()
    texts = [text for first, second, _ in data.pairs for text in (first, second)]
    return [*texts[: _TEXTS // 2], *list(data.passages.values())[: _TEXTS // 2]]


def _lowest_cosine(
    tuned: SentenceTransformer, base: SentenceTransformer, found: Difference, texts: Sequence[str]
) -> float:
    import numpy as np

    adapted = copy.deepcopy(base)
    add(found, adapted[0].model.float())
    adapted = _with_settings(adapted, settings_of(tuned))
    first, second = (model.encode(list(texts), normalize_embeddings=True) for model in (tuned, adapted))
    return float(np.sum(first * second, axis=1).min())
