"""Rerankers: models that read query and text together, slower and better than comparing vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m3e.errors import ModelError, first_line
from m3e.models.folder import quiet_libraries
from m3e.models.loading import check_hub

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

Reranker = Callable[[str, list[str]], Sequence[float]]
"""Scores of texts for a query, the greater the better."""


def cross_encoder(name: str, *, device: str | None = None) -> Reranker:
    """A reranker from a sentence-transformers ``CrossEncoder`` with one output.

    Args:
        name: a folder, or a hub id.
        device: ``cpu``, ``cuda``, …; ``None`` chooses.

    Raises:
        ModelError: it cannot be loaded, or scores more than one class.
        HubUnreachableError: the name can only be a hub id, and the hub does not answer.
    """
    model = load_cross_encoder(name, device=device)

    def score(query: str, texts: list[str]) -> list[float]:
        return [float(value) for value in model.predict([(query, text) for text in texts], show_progress_bar=False)]

    return score


def load_cross_encoder(name: str, *, device: str | None = None) -> CrossEncoder:
    """A ``CrossEncoder`` with one output.

    Args:
        name: a folder, or a hub id.
        device: ``cpu``, ``cuda``, …; ``None`` chooses.

    Raises:
        ModelError: it cannot be loaded, or scores more than one class.
        HubUnreachableError: the name can only be a hub id, and the hub does not answer.
    """
    from sentence_transformers import CrossEncoder

    is_folder = Path(name).is_dir()
    if not is_folder and (name.startswith((".", "/", "~")) or (os.sep == "\\" and os.sep in name)):
        raise ModelError(f"there is no reranker folder {name}")
    if not is_folder:
        check_hub(name)
    try:
        with quiet_libraries():
            model = CrossEncoder(name, device=device)
    except Exception as error:  # a damaged folder fails in as many ways as there are libraries below
        raise ModelError(f"the reranker {name} cannot be loaded: {first_line(error)}") from error
    if model.config.num_labels != 1:
        raise ModelError(f"the reranker {name} scores {model.config.num_labels} classes; one with one score is wanted")
    return model
