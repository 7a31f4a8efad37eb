"""The stage ``merge``: the weighted average of models of one shape."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from m3e.data.provenance import carry
from m3e.errors import ModelError
from m3e.training.base import ingredient
from m3e.training.recipe import MergeStage
from m3e.training.stages.stage import Ingredient, StageReport, StageWork

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def run(settings: MergeStage, work: StageWork) -> StageReport:
    """Average the models that the stage names; pooling, prompts and length are ``previous``'s, else the first one's.

    Raises:
        ModelError: two models are not of one shape; names the stage, both models and the weight.
        SettingsError: a model that there is not.
    """
    from m3e.models.folder import save
    from m3e.models.loading import load
    from m3e.models.merging import merge

    started = time.monotonic()
    order = sorted(settings.models, key=lambda name: name != "previous")
    places = {name: work.find_model(name) for name in order}
    outside = [name for name in order if name not in ("base", "previous", *work.models)]
    ingredients: list[Ingredient] = []

    def load_one(name: str) -> SentenceTransformer:
        model = load(places[name], device="cpu")
        if name in outside:
            ingredients.append(ingredient("base", name, model, source=str(places[name])))
        return model

    try:
        merged = merge({name: settings.models[name] for name in order}, load_one)
    except ModelError as error:
        raise ModelError(f"stage {work.name}: {error}") from error
    save(merged, work.target)
    sources = [place for place in map(Path, places.values()) if place.is_dir()]
    carry(sources, work.target)
    total = sum(settings.models.values())
    shares = {name: round(settings.models[name] / total, 6) for name in order}
    return StageReport(seconds=time.monotonic() - started, ingredients=ingredients, facts={"shares": shares})
