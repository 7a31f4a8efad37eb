"""What training starts from and learns from: base models as folders, and the terms that they bring along."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from m3e.data.manifest import MANIFEST, commercial_use, read_manifest
from m3e.data.provenance import carry
from m3e.errors import ModelError, SettingsError
from m3e.models import licences
from m3e.models.readme import read_card
from m3e.training.recipe import SCRATCH
from m3e.training.recipe_parts import Base
from m3e.training.stages.stage import Ingredient
from m3e.training.tokenise import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

STEP = "base"
"""What the marker of a base model's folder says."""


def load_base(base: Base, folder: Path, device: str | None = None) -> Ingredient:
    """Write a recipe's base model as a model folder, in fp32, and say what it is.

    What is known of the texts that it has seen (``manifest.json``, ``texts.bloom``) comes along.

    Args:
        base: a name, a folder, a hub id; its pooling, length and prompts as the recipe says.
        folder: where it goes.

    Raises:
        SettingsError: the recipe starts from scratch, or asks for more tokens than the model has positions.
        ModelError: there is no such model; names the key ``base.model``.
    """
    from m3e.models.folder import save

    if base.model == SCRATCH:
        raise SettingsError("base.model is scratch: there is no base to load")
    model = _load(base, device).float()
    if base.max_length is not None:
        _check_length(model, base)
        model.max_seq_length = base.max_length
    if base.prompts is not None:
        model.prompts = {**model.prompts, "query": base.prompts.query, "document": base.prompts.document}
    save(model, folder, step=STEP, source=base.model, revision=base.revision)
    source = _own_folder(base.model)
    if source is not None:
        carry([source], folder)
    return ingredient("base", base.model, model, base.licence, base.commercial, revision=base.revision)


def teacher_ingredient(
    name: str,
    path: str | Path,
    licence: str | None = None,
    commercial: str = "unknown",
    model: SentenceTransformer | None = None,
) -> Ingredient:
    """A teacher with its terms.

    Args:
        name: as the recipe calls it.
        path: what it is loaded by: a name, a folder, a hub id.
        licence, commercial: where its own files say none.
        model: the teacher, where it is loaded already.
    """
    from m3e.models.loading import load

    return ingredient("teacher", name, model or load(path), licence, commercial, source=str(path))


def ingredient(
    role: str,
    name: str,
    model: SentenceTransformer,
    licence: str | None = None,
    commercial: str = "unknown",
    *,
    source: str | None = None,
    revision: str | None = None,
) -> Ingredient:
    """A model that goes into another, with its terms.

    The licence is the recipe's, else a local model's own, else what its ``README.md`` says. Whether that allows
    commercial use is what the recipe says, else what is known of the licence, and never more than what the data that
    it was trained on allow.

    Args:
        source: what it was loaded by, where its name says something else.
    """
    from m3e.models.fingerprint import weights_fingerprint
    from m3e.models.names import known_models

    source = source or name
    local = None if Path(source).is_dir() else known_models().get(source)
    if not (licence or local or Path(source).is_dir()):
        _fetch_card(source, revision)
    stated = licence or (local.licence if local else read_card(source, revision).licence) or ""
    if commercial == "unknown":
        commercial = local.commercial if local and not licence else licences.commercial_use(stated)
        folder = _own_folder(source)
        if folder is not None and (folder / MANIFEST).is_file():
            commercial = licences.strictest((commercial, commercial_use(read_manifest(folder))))
    return Ingredient(role, name, stated, commercial, weights_fingerprint(model))


def prompts_by_set(prompts: Mapping[str, Prompts]) -> dict[str, str]:
    """A model's prompts for single data sets: ``NAME-query`` and ``NAME-document``, which is how mteb looks them up."""
    found: dict[str, str] = {}
    for name, prompt in prompts.items():
        found |= {f"{name}-query": prompt.query, f"{name}-document": prompt.document}
    return {name: text for name, text in found.items() if text}


def _load(base: Base, device: str | None) -> SentenceTransformer:
    from m3e.models.loading import load

    try:
        return load(base.model, device=device, revision=base.revision, pooling=base.pooling)
    except ModelError as error:
        raise type(error)(f"base.model: {error}") from error


def _fetch_card(name: str, revision: str | None) -> None:
    """Bring a hub model's ``README.md`` here; loading a plain transformer does not."""
    from huggingface_hub import hf_hub_download

    from m3e.models.loading import hub_is_reachable

    if not hub_is_reachable():
        return
    with contextlib.suppress(Exception):  # without a card the licence is unknown, which is all that follows
        hf_hub_download(name, "README.md", revision=revision)


def _own_folder(name: str) -> Path | None:
    """The folder of a model that is on this machine under its own name."""
    from m3e.models.names import known_models, model_path

    path = Path(name).expanduser()
    if path.is_dir():
        return path
    return model_path(name) if name in known_models() else None


def _check_length(model: SentenceTransformer, base: Base) -> None:
    from m3e.training.forward import first_position

    config = getattr(getattr(model[0], "model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if positions and base.max_length and base.max_length > (longest := positions - first_position(model)):
        raise SettingsError(f"base.max_length is {base.max_length}, and {base.model} has {longest} positions")
